"""What goes with every answer: an id, a line in the log, a version, and after a mistake of ours no word too many."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from litestar import Litestar

from commercehub import ids
from commercehub.api.call import Call
from commercehub.api.limits import Limiter
from commercehub.api.middleware import Trace
from commercehub.api.routing import mount, on_exception, route
from commercehub.auth import Permission
from commercehub.database import DatabaseUnavailable, Raced
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD

MINTED = r"req_[0-7][0-9a-hjkmnp-tv-z]{25}"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TROUBLE: Mapping[str, Exception] = {
    "bug": RuntimeError("the password is swordfish"),
    "lock": asyncpg.LockNotAvailableError("waited"),
    "slow": asyncpg.QueryCanceledError("waited"),
    "deadlock": asyncpg.DeadlockDetectedError("waited"),
    "timeout": TimeoutError(),
    "gone": DatabaseUnavailable("gone"),
    "raced": Raced(),
}


@route("GET", "/trouble/{name}", permission=Permission.PUBLIC, answer=dict)
async def _trouble(call: Call, name: str) -> None:
    """Raise."""
    structlog.get_logger("elsewhere")
    raise TROUBLE[name]


@pytest.fixture
async def troubled(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    """The edge around a handler that always fails."""
    app = Litestar(
        route_handlers=[mount(_trouble, lambda: hub, Limiter(per_second=100, burst=100), base_url="")],
        middleware=[Trace],
        exception_handlers={Exception: on_exception("")},
        openapi_config=None,
        logging_config=None,
    )
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://hub.test") as client:
        yield client


# --- followed ---------------------------------------------------------------------------------------------------------


async def test_every_answer_has_an_id_of_its_own(api: httpx.AsyncClient, app: Channel) -> None:
    answers = [
        await api.get("/health/live"),
        await api.get("/openapi.json"),
        await api.get("/nothing"),
        await api.put("/v1/carts"),
        await app.get("/v1/locations"),
        await app.get("/v1/orders"),
        await app.post("/v1/carts", {"what": 1}),
    ]
    ids_of = [answer.headers["request-id"] for answer in answers]
    assert all(re.fullmatch(MINTED, each) for each in ids_of)
    assert len(set(ids_of)) == len(answers)


@pytest.mark.parametrize("path", ["/health/live", "/nothing"])
async def test_a_plain_id_of_the_callers_is_kept(path: str, api: httpx.AsyncClient) -> None:
    answer = await api.get(path, headers={"Request-Id": "shop-1.2_3"})
    assert answer.headers["request-id"] == "shop-1.2_3"


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 65, '"><script>', "caf\xe9", "a\tb"])
async def test_any_other_id_of_the_callers_is_replaced(given: str, api: httpx.AsyncClient) -> None:
    answer = await api.get("/health/live", headers=[(b"Request-Id", given.encode("latin-1"))])
    assert re.fullmatch(MINTED, answer.headers["request-id"])


async def test_a_trace_is_passed_on_if_it_is_one(api: httpx.AsyncClient) -> None:
    traced = await api.get("/health/live", headers={"traceparent": TRACEPARENT})
    assert traced.headers["traceparent"] == TRACEPARENT
    for given in ("", "garbage", TRACEPARENT.upper(), TRACEPARENT.replace("0af7", "0xyz"), "ff" + TRACEPARENT[2:]):
        assert "traceparent" not in (await api.get("/health/live", headers={"traceparent": given})).headers


async def test_each_request_is_one_line_in_the_log(app: Channel, logged: list[Any], channels: Channels) -> None:
    await app.get("/v1/orders/ord_1?email=ada@example.com", headers={"Request-Id": "mine", "traceparent": TRACEPARENT})
    (line,) = logged
    assert (line["event"], line["log_level"], line["method"], line["path"]) == (
        "request",
        "info",
        "GET",
        "/v1/orders/ord_1",
    )
    assert (line["status"], line["request_id"], line["traceparent"]) == (404, "mine", TRACEPARENT)
    assert line["actor"].startswith("key_")
    assert 0 <= line["ms"] < 10_000
    assert "ada" not in str(line)


async def test_no_secret_is_in_the_log(app: Channel, logged: list[Any], channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    await app.check_out(cart, CARD)
    assert len(logged) > 5
    for secret in (app.key, cart["token"], "ada@example.com"):
        assert secret not in str(logged)


async def test_what_has_no_route_is_in_the_log_too(api: httpx.AsyncClient, logged: list[Any]) -> None:
    await api.get("/nothing", headers={"Request-Id": "lost"})
    assert [(line["status"], line["path"], line["request_id"]) for line in logged] == [(404, "/nothing", "lost")]


async def test_what_is_logged_meanwhile_has_the_requests_id(hub: Hub) -> None:
    seen: list[object] = []

    @route("GET", "/seen", permission=Permission.PUBLIC, answer=dict)
    async def see(_: Call) -> dict[str, str]:
        """Look."""
        await asyncio.sleep(0)
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))
        return {}

    app = Litestar(
        route_handlers=[mount(see, lambda: hub, Limiter(per_second=9, burst=9), base_url="")],
        middleware=[Trace],
        openapi_config=None,
        logging_config=None,
    )
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://hub.test") as client:
        await asyncio.gather(*(client.get("/seen", headers={"Request-Id": f"r{n}"}) for n in range(3)))
    assert sorted(map(str, seen)) == ["r0", "r1", "r2"]
    assert structlog.contextvars.get_contextvars() == {}


# --- mistakes of ours -------------------------------------------------------------------------------------------------


async def test_a_mistake_of_ours_is_logged_and_not_told(troubled: httpx.AsyncClient, logged: list[Any]) -> None:
    answer = await troubled.get("/trouble/bug", headers={"Request-Id": "unlucky"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "swordfish" not in answer.text
    assert "Traceback" not in answer.text
    failed = next(line for line in logged if line["event"] == "request.failed")
    assert (failed["request_id"], failed["log_level"]) == ("unlucky", "error")
    assert "swordfish" in str(failed["exc_info"])
    assert next(line for line in logged if line["event"] == "request")["status"] == 500


@pytest.mark.parametrize("name", ["lock", "slow", "deadlock", "timeout", "gone", "raced"])
async def test_who_waited_too_long_is_told_to_try_again(name: str, troubled: httpx.AsyncClient) -> None:
    answer = await troubled.get(f"/trouble/{name}")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "1")


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_whatever_carries_a_version_has_it_as_its_etag(
    app: Channel, warehouse: Channel, channels: Channels
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    bought = await app.check_out(cart, CARD)
    work = bought.json()["fulfillments"][0]["id"]
    for answer in (
        bought,
        await app.get(f"/v1/orders/{bought.json()['id']}", token=cart["token"]),
        await app.get(f"/v1/carts/{cart['id']}", token=cart["token"]),
        await warehouse.get(f"/v1/fulfillments/{work}"),
        await warehouse.post(f"/v1/fulfillments/{work}/start"),
    ):
        assert answer.headers["etag"] == f'"{answer.json()["version"]}"'


async def test_a_step_of_an_older_version_is_not_taken(app: Channel, warehouse: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    work = (await app.check_out(cart, CARD)).json()["fulfillments"][0]["id"]
    path, now = f"/v1/fulfillments/{work}/start", (await warehouse.get(f"/v1/fulfillments/{work}")).headers["etag"]
    for etag in ('"0"', "garbage"):
        answer = await warehouse.post(path, headers={"If-Match": etag})
        assert (answer.status_code, answer.json()["code"]) == (412, "version_conflict")
    assert (await warehouse.post(path, headers={"If-Match": now})).status_code == 200


async def test_an_order_of_an_older_version_is_not_cancelled(app: Channel, admin: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    path, body = f"/v1/orders/{order['id']}/cancel", {"reason": "other"}
    answer = await admin.post(path, body, headers={"If-Match": f'"{order["version"] - 1}"'})
    assert (answer.status_code, answer.json()["code"]) == (412, "version_conflict")
    now = (await admin.get(f"/v1/orders/{order['id']}")).headers["etag"]
    assert (await admin.post(path, body, headers={"If-Match": now})).json()["state"] == "cancelled"


async def test_no_cache_keeps_what_one_credential_is_answered(app: Channel, api: httpx.AsyncClient) -> None:
    for path in ("/v1/locations", "/v1/orders/ord_1"):
        assert (await app.get(path)).headers["cache-control"] == "no-store"
    assert "cache-control" not in (await api.get("/openapi.json")).headers


async def test_no_answer_is_taken_for_what_it_does_not_say_it_is(app: Channel, api: httpx.AsyncClient) -> None:
    for answer in (await app.get("/v1/locations"), await api.get("/nothing"), await api.get("/demo/mailbox")):
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_address_in_a_refusal_can_be_used_as_one(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/caf%C3%A9/a%20b")
    assert answer.json()["instance"] == "/v1/caf%C3%A9/a%20b"


async def test_a_method_that_is_not_there_is_told_which_are(api: httpx.AsyncClient) -> None:
    answer = await api.put("/v1/carts")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


async def test_the_hub_says_that_it_lives_and_can_work(api: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = await api.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_an_id_in_an_answer_names_its_kind(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    for prefix, shown in (
        ("cart", cart["id"]),
        ("line", cart["lines"][0]["id"]),
        ("ord", order["id"]),
        ("ful", order["fulfillments"][0]["id"]),
        ("loc", order["fulfillments"][0]["location_id"]),
    ):
        assert ids.parse(prefix, shown).version == 7
