"""What no test in this process can show: raw bytes to the server that the hub runs on.

Whatever comes, it is answered, by the hub or, where it is no HTTP, by the server itself; and nothing is changed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commercehub import ids
from commercehub.settings import Settings
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import World
from tests.commercehub.api.impatient import WAIT_SECONDS
from tests.commercehub.api.surface import Operation
from tests.commercehub.api.test_boundaries import Fingerprint
from tests.serving import serving_hub

FACTORY = "tests.commercehub.api.impatient:create_app"
ANSWER_SECONDS_MAX = 10
MIB = 1_048_576

# What becomes of an address: each is another one, and names nothing.
TRICKS: Sequence[Callable[[str], str]] = (
    lambda path: f"/{path}",
    lambda path: path.replace("/", "//"),
    lambda path: f"{path[:3]}%2f{path[4:]}",
    lambda path: f"/%2e%2e{path}",
    lambda path: f"/v1/..{path}",
    lambda path: f"{path}/%2e%2e/%2e%2e/etc/passwd",
    lambda path: f"{path}%00",
    lambda path: f"{path}%0d%0aX-Evil:%20yes",
    lambda path: f"{path}%20",
    lambda path: f"{path};a=b",
    lambda path: f"{path}%ff",
    lambda path: f"{path}%5c..%5c..",
)

# What is no HTTP, which the server answers by itself, without a word, and closes.
RUBBISH: dict[str, bytes] = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "NUL in the address": b"GET /v1/\x00 HTTP/1.1\r\nHost: hub\r\n\r\n",
    "a byte that is no character": b"GET /v1/\xff HTTP/1.1\r\nHost: hub\r\n\r\n",
    "a line feed in a header": b"GET /health/live HTTP/1.1\r\nHost: hub\r\nX: a\n b\r\n\r\n",
    "a carriage return in a header": b"GET /health/live HTTP/1.1\r\nHost: hub\r\nX: a\rb\r\n\r\n",
    "a control character in a header": b"GET /health/live HTTP/1.1\r\nHost: hub\r\nX: a\x01b\r\n\r\n",
    "a control character in a header's name": b"GET /health/live HTTP/1.1\r\nHost: hub\r\nX\x01: a\r\n\r\n",
    "no version of ours": b"GET /health/live HTTP/9.0\r\nHost: hub\r\n\r\n",
    "an address without an end": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: hub\r\n\r\n",
    "200 headers": b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
    "a negative length": b"POST /v1/carts HTTP/1.1\r\nHost: hub\r\nContent-Length: -1\r\n\r\n{}",
    "a length past 64 bits": b"POST /v1/carts HTTP/1.1\r\nHost: hub\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "two lengths": b"POST /v1/carts HTTP/1.1\r\nHost: hub\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "another coding": b"POST /v1/carts HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: rubbish\r\n\r\n{}",
}


@pytest.fixture(scope="module")
def served(
    settings: Settings, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The hub on granian, on the suite's own database."""
    given = msgspec.structs.replace(settings, base_url=f"http://127.0.0.1:{free_port()}", pool_size=4)
    path = tmp_path_factory.mktemp("wire") / "granian.log"
    with path.open("wb") as log, serving_hub(given, log, factory=FACTORY, workers=1):
        yield given
    assert _mistakes(path) == []


def _mistakes(log: Path) -> list[str]:
    """What the hub logged as a mistake of its own, or did not catch."""
    return [line for line in log.read_text(errors="replace").splitlines() if "failed" in line or "Traceback" in line]


class Wire:
    """A connection, over which bytes go as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def say(self, raw: bytes) -> None:
        """Send bytes, however the other side takes it."""
        self._writer.write(raw)
        await self._writer.drain()

    def hang_up(self) -> None:
        """Say no more, and listen on."""
        self._writer.write_eof()

    async def hear(self, *, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """The next answer, which comes."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in head[1:-2])}
            size = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
            return int(head[0].split()[1]), headers, await self._reader.readexactly(size)

    async def is_over(self) -> bool:
        """Whether the other side ends the connection."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return await self._reader.read(1) == b""


@asynccontextmanager
async def connected(served: Settings) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.base_url.rpartition(":")[2]))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def request(method: str, path: str, *, key: str = "", body: bytes = b"", **headers: str) -> bytes:
    told = {"Host": "hub", "Content-Length": str(len(body)), "Content-Type": "application/json"}
    told |= {"Authorization": f"Bearer {key}"} if key else {}
    told |= {"Idempotency-Key": str(ids.new())} if method == "POST" else {}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@pytest.fixture
def credentials(channels: Channels, shopper: Channel) -> Iterator[str]:
    """Every kind of credential by turns, and none."""
    keys = [channels[name].key for name in ("admin", "web", "store", "warehouse")]
    return cycle([*keys, shopper.key, "", "nothing"])


async def _is_alive(wire: Wire) -> bool:
    await wire.say(request("GET", "/health/live"))
    return (await wire.hear())[0] == 200


async def test_no_trick_with_an_address_gets_anywhere(
    served: Settings, surface: list[Operation], world: World, credentials: Iterator[str], fingerprint: Fingerprint
) -> None:
    before = await fingerprint()
    async with connected(served) as wire:
        for operation in surface:
            path = operation.at(world)
            for trick in TRICKS:
                # What takes any word in its place takes this one too, and knows of none.
                await wire.say(request(operation.method, trick(path), key=next(credentials), body=b"{}"))
                status, headers, body = await wire.hear()
                problem = json.loads(body)
                assert (400 <= status < 500, headers["content-type"]) == (True, "application/problem+json"), trick(path)
                assert "x-evil" not in headers
                assert problem["status"] == status
        assert await _is_alive(wire)
    assert await fingerprint() == before


async def test_no_body_breaks_an_operation_or_the_next_request(
    served: Settings, surface: list[Operation], world: World, credentials: Iterator[str], fingerprint: Fingerprint
) -> None:
    before = await fingerprint()
    deep = b"[" * 10_000 + b"]" * 10_000
    async with connected(served) as wire:
        for operation in [each for each in surface if each.media_type is not None]:
            for body in (b"\x00", deep, b"x" * 200_000):
                await wire.say(request(operation.method, operation.at(world), key=next(credentials), body=body))
                status, _, answer = await wire.hear()
                assert 400 <= status < 500, (operation, status, answer)
        assert await _is_alive(wire)
    assert await fingerprint() == before


@pytest.mark.parametrize(
    "path", ["/v1/products", "/v1/webhooks/sandbox", "/v1/carts/current", "/nothing", "/health/live"]
)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "in chunks"])
async def test_eleven_mebibytes_are_answered(served: Settings, admin: Channel, path: str, *, is_chunked: bool) -> None:
    whole = b"x" * (11 * MIB)
    for key in (admin.key, ""):
        async with connected(served) as wire:
            if is_chunked:
                head = request("POST", path, key=key, Content_Length="", Transfer_Encoding="chunked")
                await wire.say(head + b"%x\r\n" % len(whole) + whole + b"\r\n0\r\n\r\n")
            else:
                await wire.say(request("POST", path, key=key, body=whole))
            status, headers, body = await wire.hear()
            assert (status in {401, 403, 404, 405, 413}, headers["connection"]) == (True, "close"), body
            assert await wire.is_over()


async def test_a_file_that_is_too_long_is_answered_before_it_is_sent(served: Settings, channels: Channels) -> None:
    path = f"/v1/imports/products?currency=USD&location_id={await channels.location('S1')}"
    async with connected(served) as wire:
        length = str(33 * MIB)
        await wire.say(request("POST", path, key=channels["admin"].key, Content_Length=length, Expect="100-continue"))
        status, headers, body = await wire.hear()
        assert (status, json.loads(body)["code"], headers["connection"]) == (413, "request_too_large", "close")


@pytest.mark.parametrize("name", RUBBISH)
async def test_what_is_no_http_is_answered_by_the_server_itself(served: Settings, name: str) -> None:
    async with connected(served) as wire:
        await wire.say(RUBBISH[name])
        status, headers, _ = await wire.hear()
        assert (status in {400, 414, 431}, headers["connection"]) == (True, "close")
        assert await wire.is_over()


@pytest.mark.parametrize("rest", [b"zz\r\nrubbish", b"5\r\n12"], ids=["rubbish", "hung up"])
async def test_chunks_that_are_none_are_a_mistake_of_the_callers(served: Settings, admin: Channel, rest: bytes) -> None:
    async with connected(served) as wire:
        head = request("POST", "/v1/products", key=admin.key, Content_Length="", Transfer_Encoding="chunked")
        await wire.say(head + rest)
        wire.hang_up()
        status, headers, body = await wire.hear()
        assert (status, json.loads(body)["code"], headers["connection"]) == (400, "invalid_request", "close")


async def test_who_hangs_up_in_the_middle_of_a_body_is_answered(served: Settings, admin: Channel) -> None:
    async with connected(served) as wire:
        await wire.say(request("POST", "/v1/products", key=admin.key, body=b'{"title', Content_Length="99"))
        wire.hang_up()
        status, _, body = await wire.hear()
        assert (status, json.loads(body)["code"]) == (400, "invalid_request")


async def test_who_goes_away_altogether_costs_nothing(served: Settings, admin: Channel) -> None:
    for head in (
        request("POST", "/v1/products", key=admin.key, body=b'{"title', Content_Length="99"),
        request("POST", "/nothing", body=b"x" * 100_000, Content_Length="9000000"),
        request("GET", "/v1/locations", key=admin.key),
    ):
        async with connected(served) as wire:
            await wire.say(head)
    async with connected(served) as wire:
        assert await _is_alive(wire)


async def test_a_body_that_stops_coming_is_given_up(served: Settings, admin: Channel) -> None:
    began = asyncio.get_running_loop().time()
    async with connected(served) as wire:
        await wire.say(request("POST", "/v1/products", key=admin.key, body=b'{"title', Content_Length="99"))
        status, headers, body = await wire.hear()
        assert (status, json.loads(body)["code"], headers["connection"]) == (408, "request_timeout", "close")
        assert await wire.is_over()
    assert asyncio.get_running_loop().time() - began >= WAIT_SECONDS


async def test_a_body_that_comes_after_its_refusal_is_not_taken_for_a_request(served: Settings) -> None:
    async with connected(served) as wire:
        smuggled = request("DELETE", "/v1/api-keys/key_1")
        await wire.say(request("POST", "/v1/products", Content_Length=str(len(smuggled))))
        await asyncio.sleep(WAIT_SECONDS / 2)
        await wire.say(smuggled)
        assert (await wire.hear())[0] == 401
        assert await _is_alive(wire)


async def test_requests_that_come_together_are_answered_in_turn(served: Settings, admin: Channel) -> None:
    asked = [request("POST", "/v1/products", key=admin.key, body=b"{}"), request("HEAD", "/docs"), request("GET", "/x")]
    async with connected(served) as wire:
        await wire.say(b"".join(asked))
        heard: list[Any] = [await wire.hear(), await wire.hear(method="HEAD"), await wire.hear()]
    assert [status for status, *_ in heard] == [400, 200, 404]
