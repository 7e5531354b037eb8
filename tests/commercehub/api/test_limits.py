"""How much one caller may ask, how long it may take, and what it is told when that was too much."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from asyncpg import Connection
from litestar import Litestar

from commercehub import ids
from commercehub.api import bodies, limits
from commercehub.api.bodies import Bodies
from commercehub.api.call import Answer, Call
from commercehub.api.errors import Problem
from commercehub.api.imports import FILE_BYTES_MAX
from commercehub.api.limits import Limiter
from commercehub.api.middleware import Trace
from commercehub.api.routing import PREFIXES, mount, on_exception, route
from commercehub.api.webhooks import WEBHOOK_BYTES_MAX
from commercehub.auth import Permission
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channels
from tests.commercehub.api.conftest import World, serving
from tests.commercehub.api.surface import Operation

BURST = 5
SLEEP = "SELECT pg_sleep(5)"
COUNT_SLEEPERS = """
SELECT count(*) FROM pg_stat_activity
WHERE query = 'SELECT pg_sleep(5)' AND state = 'active' AND datname = current_database()
"""


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A hub that takes five requests from a caller, and then one a second."""
    narrowed = msgspec.structs.replace(settings, rate_limit_per_second=1, rate_limit_burst=BURST, pool_size=2)
    async with serving(narrowed) as client:
        yield client


@pytest.fixture
def nowhere() -> Mapping[str, str]:
    """Something for every parameter of a path, of which there is nothing."""
    return {"code": "X", "processor": "none"} | {name: ids.show(prefix, ids.new()) for name, prefix in PREFIXES.items()}


def _as(channels: Channels, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {channels[name].key}"}


async def test_over_the_limit_a_caller_is_told_when_to_come_back(narrow: httpx.AsyncClient, channels: Channels) -> None:
    for left in range(BURST - 1, -1, -1):
        answer = await narrow.get("/v1/locations", headers=_as(channels, "admin"))
        assert (answer.status_code, answer.headers["ratelimit"].startswith(f'"default";r={left};')) == (200, True)
    assert answer.headers["ratelimit-policy"] == '"default";q=5;w=5'
    refused = await narrow.get("/v1/locations", headers=_as(channels, "admin"))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert refused.headers["ratelimit"].startswith('"default";r=0;t=')


async def test_a_caller_does_not_use_up_anothers_share(narrow: httpx.AsyncClient, channels: Channels) -> None:
    for _ in range(BURST + 1):
        await narrow.get("/v1/locations", headers=_as(channels, "admin"))
    for name in ("warehouse", "app", "web"):
        assert (await narrow.get("/v1/locations", headers=_as(channels, name))).status_code == 200


async def test_shoppers_with_the_same_publishable_key_are_told_apart_by_their_address(
    narrow: httpx.AsyncClient, channels: Channels
) -> None:
    for _ in range(BURST + 1):
        await narrow.get("/v1/locations", headers=_as(channels, "app"))
    app = narrow._transport.app  # type: ignore[attr-defined]
    elsewhere = httpx.ASGITransport(app=app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://hub.test") as other:
        assert (await other.get("/v1/locations", headers=_as(channels, "app"))).status_code == 200


async def test_guessing_keys_is_limited_too(narrow: httpx.AsyncClient) -> None:
    statuses = [
        (await narrow.get("/v1/locations", headers={"Authorization": f"Bearer {guess}"})).status_code
        for guess in range(BURST + 2)
    ]
    assert statuses == [401] * BURST + [429] * 2


async def test_what_is_public_is_limited_by_address(narrow: httpx.AsyncClient) -> None:
    statuses = [(await narrow.get("/health/live")).status_code for _ in range(BURST + 1)]
    assert statuses == [200] * BURST + [429]


def test_a_bucket_refills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("commercehub.api.limits.time.monotonic", lambda: now[0])
    limiter = Limiter(per_second=2, burst=2)
    assert [limiter.take("a").granted for _ in range(3)] == [True, True, False]
    now[0] += 0.5
    assert [limiter.take("a").granted for _ in range(2)] == [True, False]
    now[0] += 3_600
    assert [limiter.take("a").granted for _ in range(3)] == [True, True, False]


def test_callers_who_went_away_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUCKETS_MAX", 3)
    limiter = Limiter(per_second=1, burst=1)
    for caller in "abcd":
        limiter.take(caller)
    assert len(limiter._buckets) == 3
    assert limiter.take("d").granted is False


# --- how long a request may take --------------------------------------------------------------------------------------


class Work:
    """What the routes of these tests do, and how far they came."""

    def __init__(self) -> None:
        self.finished: list[str] = []

    async def read(self, call: Call) -> dict[str, int]:
        """Read the body."""
        size = len(await call.request.body())
        self.finished.append("read")
        return {"size": size}

    async def sleep(self, call: Call) -> dict[str, str]:
        """Sleep in the database."""

        async def work(db: Connection, _: object) -> None:
            await db.execute(SLEEP)

        await call.database.transaction(work)
        self.finished.append("sleep")
        return {}

    async def read_and_think(self, call: Call) -> dict[str, str]:
        """Read the body, and think about it for longer than is allowed."""
        await call.request.body()
        await asyncio.sleep(5)
        self.finished.append("think")
        return {}

    async def time_out(self, _: Call) -> None:
        """Wait for something that has its own limit."""
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    async def speak(self, _: Call) -> Answer:
        """Say a word, and another one after the time for a request is over."""

        async def say() -> AsyncIterator[bytes]:
            yield b"one "
            await asyncio.sleep(0.1)
            yield b"two"

        return Answer(stream=say())


def _routes(work: Work) -> Iterator[Any]:
    for method, path, handler in (
        ("POST", "/read", work.read),
        ("POST", "/sleep", work.sleep),
        ("POST", "/think", work.read_and_think),
        ("GET", "/own", work.time_out),
        ("GET", "/speak", work.speak),
    ):
        yield route(method, path, permission=Permission.PUBLIC, answer=dict)(handler)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def make_edge(hub: Hub, work: Work) -> Callable[[float], Any]:
    """The edge around such work, with a time limit; no request but these is in it."""

    def make(seconds_max: float) -> Any:
        given = msgspec.structs.replace(hub.settings, request_seconds_max=seconds_max)
        limited = msgspec.structs.replace(hub, settings=given)
        limiter = Limiter(per_second=100, burst=100)
        app = Litestar(
            route_handlers=[mount(each, lambda: limited, limiter, base_url="") for each in _routes(work)],
            middleware=[Trace],
            exception_handlers={Exception: on_exception("")},
            openapi_config=None,
            logging_config=None,
        )
        app.asgi_handler = Bodies(app.asgi_handler)
        return app

    return make


@asynccontextmanager
async def _client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://hub.test") as client:
        yield client


async def test_what_takes_too_long_is_given_up_and_its_work_ended(
    make_edge: Callable[[float], Any], work: Work, hub: Hub
) -> None:
    async with _client(make_edge(0.2)) as client:
        answer = await client.post("/sleep")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "1")
    assert "Idempotency-Key" in answer.json()["detail"]
    assert work.finished == []
    async with hub.database.connection() as db:
        assert await db.fetchval(COUNT_SLEEPERS) == 0


async def test_a_limit_of_its_own_is_another_matter(make_edge: Callable[[float], Any]) -> None:
    async with _client(make_edge(30)) as client:
        answer = await client.get("/own")
    assert (answer.status_code, answer.json()["detail"]) == (503, "It took too long. Nothing was done; try again.")


async def test_a_stream_lasts_longer_than_a_request_may(make_edge: Callable[[float], Any]) -> None:
    async with _client(make_edge(0.05)) as client:
        assert (await client.get("/speak")).text == "one two"


# --- how a body may come ----------------------------------------------------------------------------------------------


class Line:
    """One request whose body comes as the test says: parts, a pause between them, and what becomes of the answer."""

    def __init__(
        self, parts: Sequence[bytes], *, headers: Sequence[tuple[bytes, bytes]], pause: float, hangs_up: bool
    ) -> None:
        self._parts, self._headers, self._pause, self._hangs_up = list(parts), headers, pause, hangs_up
        self.sent: list[Any] = []
        self.taken = 0

    async def receive(self) -> Any:
        """The next part, or the end of the line."""
        if self._parts:
            await asyncio.sleep(self._pause)
            self.taken += 1
            return {
                "type": "http.request",
                "body": self._parts.pop(0),
                "more_body": bool(self._parts) or self._hangs_up,
            }
        if not self._hangs_up:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Keep what is answered."""
        self.sent.append(message)

    async def run(self, app: Any, path: str) -> tuple[int, str, dict[str, str]]:
        """The status, the body and the headers of the answer."""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "state": {},
            "headers": [(b"host", b"hub.test"), *self._headers],
            "client": ("127.0.0.1", 1),
            "server": ("hub.test", 80),
        }
        await app(scope, self.receive, self.send)
        headers = {name.decode().lower(): value.decode() for name, value in self.sent[0]["headers"]}
        return self.sent[0]["status"], b"".join(each["body"] for each in self.sent[1:]).decode(), headers


def line(
    *parts: bytes, length: int | None = None, pause: float = 0, hangs_up: bool = False, asks: bool = False
) -> Line:
    headers = [(b"transfer-encoding", b"chunked") if length is None else (b"content-length", str(length).encode())]
    return Line(
        parts, headers=[*headers, (b"expect", b"100-continue")] if asks else headers, pause=pause, hangs_up=hangs_up
    )


async def test_a_body_that_stops_coming_is_not_waited_for(
    make_edge: Callable[[float], Any], work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS_MAX", 0.05)
    status, body, headers = await line(b"a", b"b", length=9, pause=0.1).run(make_edge(30), "/read")
    assert (status, headers["connection"]) == (408, "close")
    assert "request_timeout" in body
    assert work.finished == []


async def test_a_body_that_drips_is_not_waited_for(
    make_edge: Callable[[float], Any], work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS_MAX", 0.1)
    drops = line(*[b"a"] * 100, length=100, pause=0.02)
    assert (await drops.run(make_edge(30), "/read"))[0] == 408
    assert 2 <= drops.taken <= 8
    assert work.finished == []


async def test_the_time_for_the_work_does_not_run_while_the_body_comes(
    make_edge: Callable[[float], Any], work: Work
) -> None:
    status, body, _ = await line(b"a", b"b", b"c", length=3, pause=0.1).run(make_edge(0.2), "/read")
    assert (status, body) == (200, '{"size":3}')
    status, body, _ = await line(b"a", b"b", b"c", length=3, pause=0.1).run(make_edge(0.2), "/think")
    assert (status, work.finished) == (503, ["read"])


async def test_who_hangs_up_in_the_middle_is_no_mistake_of_ours(
    make_edge: Callable[[float], Any], work: Work, logged: list[Any]
) -> None:
    status, body, headers = await line(b"half", length=8, hangs_up=True).run(make_edge(30), "/read")
    assert (status, headers["connection"]) == (400, "close")
    assert "invalid_request" in body
    assert work.finished == []
    assert [(each["event"], each["status"]) for each in logged] == [("request", 400)]


@pytest.mark.parametrize("path", ["/sleep/not", "/nothing"])
async def test_a_short_body_that_nobody_reads_is_out_of_the_next_requests_way(
    path: str, make_edge: Callable[[float], Any]
) -> None:
    unread = line(b"a", b"b", b"c", length=3)
    status, _, headers = await unread.run(make_edge(30), path)
    assert (status, unread.taken) == (404, 3)
    assert "connection" not in headers


async def test_a_long_body_that_nobody_reads_ends_the_connection_after_the_answer(
    make_edge: Callable[[float], Any],
) -> None:
    part = b"x" * 100_000
    for length in (3_000_000, None):
        unread = line(*[part] * 30, length=length)
        status, _, headers = await unread.run(make_edge(30), "/nothing")
        assert (status, headers["connection"]) == (404, "close")
        # Read on, or the answer would not arrive.
        assert unread.taken == 30


async def test_who_asks_whether_to_send_the_body_is_not_made_to(make_edge: Callable[[float], Any]) -> None:
    asking = line(b"x", length=1, asks=True)
    status, _, headers = await asking.run(make_edge(30), "/nothing")
    assert (status, asking.taken, headers["connection"]) == (404, 0, "close")


async def test_what_never_comes_is_not_waited_for_long(
    make_edge: Callable[[float], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "FORGOTTEN_SECONDS_MAX", 0.05)
    monkeypatch.setattr(bodies, "LINGER_SECONDS_MAX", 0.05)
    status, _, headers = await line(length=9).run(make_edge(30), "/nothing")
    assert (status, headers["connection"]) == (404, "close")


async def test_no_operation_reads_more_than_it_takes(
    surface: list[Operation], world: World, channels: Channels
) -> None:
    bounds = {"POST /v1/imports/products": FILE_BYTES_MAX, "POST /v1/webhooks/{processor}": WEBHOOK_BYTES_MAX}
    admin, refused = channels["admin"], 0
    for operation in surface:
        if operation.media_type is None:
            continue
        length = bounds.get(str(operation), 1_048_576) + 1
        query = f"?currency=USD&location_id={world['location_id']}" if "imports" in operation.path else ""
        headers = {"Authorization": f"Bearer {admin.key}", "Content-Length": str(length), "Idempotency-Key": "long"}
        answer = await admin.http.request(operation.method, operation.at(world) + query, headers=headers, content=b"x")
        # What is not there, and a step out of turn, are told of before the body.
        assert answer.status_code in {413, 404, 409}, operation
        refused += answer.status_code == 413
    assert refused > 40


# --- what every answer says to a browser ------------------------------------------------------------------------------


async def test_every_answer_says_that_it_is_no_page_to_be_framed(api: httpx.AsyncClient, channels: Channels) -> None:
    for path in (
        "/health/live",
        "/nothing",
        "/openapi.json",
        "/v1/locations",
        "/problems/busy",
        "/docs",
        "/demo/mailbox",
    ):
        answer = await api.get(path, headers=_as(channels, "admin"))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers.get_list("content-security-policy")
        assert len(policy) == 1
        assert "frame-ancestors 'none'" in policy[0]
        is_page = answer.headers["content-type"].startswith("text/html")
        assert policy[0].startswith("default-src 'self';" if is_page else "default-src 'none';"), path
        assert "unsafe" not in policy[0]
        assert "strict-transport-security" not in answer.headers


async def test_only_what_is_reached_by_https_says_to_use_nothing_else(settings: Settings) -> None:
    secured = msgspec.structs.replace(settings, base_url="https://hub.test", pool_size=2)
    async with serving(secured) as client:
        for path in ("/health/live", "/nothing"):
            assert (await client.get(path)).headers["strict-transport-security"] == "max-age=31536000"


async def test_a_page_of_another_origin_reads_what_its_key_lets_it(api: httpx.AsyncClient, channels: Channels) -> None:
    origin = {"Origin": "https://shop.example.com"}
    allowed = await api.get("/v1/locations", headers=origin | _as(channels, "web"))
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example.com"
    for name in ("admin", "store"):
        assert (
            "access-control-allow-origin"
            not in (await api.get("/v1/locations", headers=origin | _as(channels, name))).headers
        )


async def test_an_address_is_spelled_in_one_way(api: httpx.AsyncClient, channels: Channels) -> None:
    for path in ("//v1/locations", "/v1//locations", "/v1%2Flocations", "/v1/locations%2f"):
        url = httpx.URL("http://hub.test").copy_with(raw_path=path.encode())
        answer = await api.get(url, headers=_as(channels, "admin"))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


async def test_what_can_be_read_can_be_asked_after(api: httpx.AsyncClient, channels: Channels) -> None:
    for path in ("/health/live", "/v1/locations", "/docs"):
        answer = await api.head(path, headers=_as(channels, "admin"))
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await api.head("/v1/availability/stream?sku=x", headers=_as(channels, "admin"))).status_code == 405


async def test_an_address_tells_all_of_its_methods(
    api: httpx.AsyncClient, surface: list[Operation], nowhere: Mapping[str, str]
) -> None:
    for operation in surface:
        answer = await api.options(operation.at(nowhere))
        assert answer.status_code == 204
        assert operation.method in answer.headers["allow"].split(", ")
        refused = await api.request("PROPFIND", operation.at(nowhere))
        assert (refused.status_code, operation.method in refused.headers["allow"].split(", ")) == (405, True)


async def test_a_key_that_is_none_is_refused_wherever_one_may_stand(
    surface: list[Operation], nowhere: Mapping[str, str], channels: Channels
) -> None:
    admin = channels["admin"]
    for operation in [each for each in surface if "Idempotency-Key" in each.names("header")]:
        headers = {"Authorization": f"Bearer {admin.key}", "Idempotency-Key": "x" * 256}
        answer = await admin.http.post(operation.at(nowhere), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), operation


def test_a_problem_says_when_to_come_again() -> None:
    assert Problem("busy", "").headers == {"Retry-After": "1"}
