"""A request that is sent again is answered again, not carried out again."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from asyncpg import Connection

from commercehub import idempotency, ids
from commercehub.database import Database, Raced
from commercehub.idempotency import Claim, InProgress, KeyReused, Stored, Underway
from commercehub.workflows.parts import Hub
from tests.client import SHIP_TO, Channel, Channels

CARD = {"type": "card", "payment_method": "pm_ok"}
DECLINED = {"type": "card", "payment_method": "pm_declined"}

READ_ROWS = "SELECT scope, status, body, subject_id FROM commercehub.idempotency_keys WHERE key = $1"

UNSETTLE = "UPDATE commercehub.idempotency_keys SET status = NULL, body = NULL, subject_id = $2 WHERE key = $1"

BEGIN_ELSEWHERE = """
INSERT INTO commercehub.idempotency_keys (scope, key, request_hash, status, body, created_at)
VALUES ($1, $2, '\\x00', 201, '{}', now())
"""

LOCK_ELSEWHERE = "SELECT pg_advisory_xact_lock(hashtextextended($1::text || ' ' || $2, 0))"

NEEDS_KEY = {
    "POST /v1/carts/{cart_id}/checkout",
    "POST /v1/registers/{register_id}/sessions",
    "POST /v1/registers/{register_id}/sessions/current/close",
    "POST /v1/stock/receipts",
    "POST /v1/stock/adjustments",
}
# Tried without one in tests/commercehub/api/test_boundaries.py, on what they need to be about.
NEEDS_KEY_TOO = {
    "POST /v1/orders/{order_id}/payments",
    "POST /v1/payments/{payment_id}/capture",
    "POST /v1/payments/{payment_id}/void",
    "POST /v1/payments/{payment_id}/refund",
    "POST /v1/returns",
    "POST /v1/returns/{return_id}/receive",
    "POST /v1/returns/{return_id}/settle",
    "POST /v1/returns/{return_id}/cancel",
    "POST /v1/gift-cards",
}


@pytest.fixture
def key() -> str:
    """An Idempotency-Key that nobody used before."""
    return f"key {uuid.uuid4()}"


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def _same(first: httpx.Response, again: httpx.Response) -> None:
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers.get("etag") == first.headers.get("etag")


async def _rows(database: Database, key: str) -> list[Mapping[str, Any]]:
    async with database.connection() as db:
        return [dict(row) for row in await db.fetch(READ_ROWS, key)]


# --- sent again -------------------------------------------------------------------------------------------------------


async def test_a_repeated_cart_is_the_same_cart_with_the_same_token(app: Channel, key: str) -> None:
    first = await app.post("/v1/carts", {}, key=key)
    _same(first, await app.post("/v1/carts", {}, key=key))
    assert first.json()["token"]


async def test_a_repeated_line_is_added_once(app: Channel, channels: Channels, key: str) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    path, line = f"/v1/carts/{cart['id']}/lines", {"sku": await channels.product({"DC1": 1})}
    first = await app.post(path, line, token=cart["token"], key=key)
    assert first.json()["deliveries"][0]["address"]["line1"] == SHIP_TO["line1"]
    _same(first, await app.post(path, line, token=cart["token"], key=key))
    kept = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert [each["quantity"] for each in kept["lines"]] == [1, 1]


async def test_a_repeated_line_is_the_answer_of_then_although_the_cart_went_on(
    app: Channel, channels: Channels, key: str
) -> None:
    cart = await app.cart()
    path, sku = f"/v1/carts/{cart['id']}/lines", await channels.product()
    first = await app.post(path, {"sku": sku}, token=cart["token"], key=key)
    await app.ok("POST", path, {"sku": await channels.product()}, token=cart["token"])
    _same(first, await app.post(path, {"sku": sku}, token=cart["token"], key=key))


async def test_a_repeated_edit_of_a_version_is_the_same_answer(app: Channel, channels: Channels, key: str) -> None:
    cart = await app.cart()
    path, sku = f"/v1/carts/{cart['id']}/lines", await channels.product()
    seen = {"If-Match": f'"{cart["version"]}"'}
    first = await app.post(path, {"sku": sku}, token=cart["token"], key=key, headers=seen)
    _same(first, await app.post(path, {"sku": sku}, token=cart["token"], key=key, headers=seen))


async def test_a_repeated_checkout_is_one_order(app: Channel, channels: Channels, key: str) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    first = await app.check_out(cart, CARD, key=key)
    _same(first, await app.check_out(cart, CARD, key=key))
    assert (first.status_code, first.headers["etag"]) == (201, f'"{first.json()["version"]}"')


async def test_a_repeated_receipt_is_received_once(warehouse: Channel, channels: Channels, key: str) -> None:
    sku = await channels.product()
    body = {"location_id": await channels.location("DC1"), "lines": [{"sku": sku, "quantity": 3}]}
    first = await warehouse.post("/v1/stock/receipts", body, key=key)
    _same(first, await warehouse.post("/v1/stock/receipts", body, key=key))
    assert await channels.level(sku, "DC1") == (3, 0)


async def test_a_repeated_step_is_taken_once(app: Channel, warehouse: Channel, channels: Channels, key: str) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    work = (await app.check_out(cart, CARD)).json()["fulfillments"][0]["id"]
    first = await warehouse.post(f"/v1/fulfillments/{work}/start", key=key)
    _same(first, await warehouse.post(f"/v1/fulfillments/{work}/start", key=key))


async def test_a_repeated_opening_of_a_drawer_is_one_session(till: Channel, drawer: str, key: str) -> None:
    counted = {"counted": {"amount": 0, "currency": "USD"}}
    path = f"/v1/registers/{drawer}/sessions"
    first = await till.post(f"{path}/current/close", counted, key=key)
    _same(first, await till.post(f"{path}/current/close", counted, key=key))
    opening = {"opening_float": {"amount": 5000, "currency": "USD"}}
    opened = await till.post(path, opening, key=f"{key} open")
    _same(opened, await till.post(path, opening, key=f"{key} open"))


async def test_a_repeated_product_location_and_till_are_made_once(admin: Channel, channels: Channels, key: str) -> None:
    name = f"T-{uuid.uuid4().hex[:12]}"
    address = {"line1": "1 Main St", "city": "Austin", "country": "US"}
    place = {"code": name, "name": name, "kind": "store", "address": address, "latitude": 0, "longitude": 0}
    for path, body in (
        ("/v1/products", {"title": name, "variants": [{"sku": name, "prices": []}]}),
        ("/v1/locations", {**place, "timezone": "UTC", "capabilities": []}),
        ("/v1/registers", {"location_id": await channels.location("S1"), "name": name}),
    ):
        first = await admin.post(path, body, key=key)
        assert first.status_code == 201, first.text
        _same(first, await admin.post(path, body, key=key))
        key += "."


async def test_a_repeated_cancellation_is_the_same_answer_with_the_customers_address(
    app: Channel, admin: Channel, channels: Channels, key: str, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    path = f"/v1/orders/{(await app.check_out(cart, CARD)).json()['id']}/cancel"
    first = await admin.post(path, {"reason": "fraud"}, key=key)
    assert (first.json()["state"], first.json()["payment_state"]) == ("cancelled", "voided")
    assert (first.json()["email"], first.json()["deliveries"][0]["address"]["city"]) == ("ada@example.com", "Austin")
    await run_jobs()
    _same(first, await admin.post(path, {"reason": "fraud"}, key=key))


async def test_a_cancellation_that_was_cut_off_is_finished_when_it_is_sent_again(
    app: Channel, admin: Channel, channels: Channels, key: str, database: Database
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    path = f"/v1/orders/{order['id']}/cancel"
    first = await admin.post(path, {"reason": "fraud"}, key=key)
    async with database.connection() as db:
        await db.execute(UNSETTLE, key, ids.parse("ord", order["id"]))
    for _ in range(2):
        _same(first, await admin.post(path, {"reason": "fraud"}, key=key))
    assert [row["status"] for row in await _rows(database, key)] == [200]


# --- what is the same request -----------------------------------------------------------------------------------------


async def _post(channel: Channel, path: str, content: bytes, key: str, media_type: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {channel.key}", "Idempotency-Key": key, "Content-Type": media_type}
    return await channel.http.post(path, content=content, headers=headers)


async def test_the_order_of_fields_and_spaces_make_no_other_request(app: Channel, channels: Channels, key: str) -> None:
    cart, sku = await app.cart(), await channels.product()
    headers = {"Authorization": f"Bearer {app.key}", "X-Cart-Token": cart["token"], "Idempotency-Key": key}
    bodies = (f'{{"sku":"{sku}","quantity":2}}', f'{{ "quantity" : 2,\n "sku": "{sku}" }}')
    first, again = [
        await app.http.post(f"/v1/carts/{cart['id']}/lines", content=body, headers=headers) for body in bodies
    ]
    _same(first, again)


async def test_another_body_with_the_same_key_is_refused_and_not_carried_out(
    app: Channel, channels: Channels, key: str
) -> None:
    cart, sku = await app.cart(), await channels.product()
    path = f"/v1/carts/{cart['id']}/lines"
    await app.ok("POST", path, {"sku": sku}, token=cart["token"], key=key)
    again = await app.post(path, {"sku": sku, "quantity": 2}, token=cart["token"], key=key)
    assert _code(again) == (422, "idempotency_key_reused")
    kept = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert [each["quantity"] for each in kept["lines"]] == [1]


async def test_another_address_with_the_same_key_is_refused(admin: Channel, channels: Channels, key: str) -> None:
    sku, place = await channels.product(), await channels.location("S1")
    line = {"sku": sku, "quantity": 1}
    await admin.ok("POST", "/v1/stock/receipts", {"location_id": place, "lines": [line]}, key=key)
    body = {"location_id": place, "lines": [{"sku": sku, "delta": 1, "reason": "found"}]}
    assert _code(await admin.post("/v1/stock/adjustments", body, key=key)) == (422, "idempotency_key_reused")


async def test_another_query_with_the_same_key_is_refused(admin: Channel, channels: Channels, key: str) -> None:
    file = b"Handle,Title,Variant Price\n"
    first, second = [
        f"/v1/imports/products?currency=USD&location_id={await channels.location(c)}" for c in ("S1", "S2")
    ]
    begun = await _post(admin, first, file, key, "text/csv")
    _same(begun, await _post(admin, first, file, key, "text/csv"))
    assert _code(await _post(admin, second, file, key, "text/csv")) == (422, "idempotency_key_reused")


async def test_a_key_is_its_senders_own(channels: Channels, key: str) -> None:
    carts = [await channels[name].post("/v1/carts", {}, key=key) for name in ("web", "app", "admin")]
    assert len({answer.json()["id"] for answer in carts}) == 3
    assert not any("idempotent-replayed" in answer.headers for answer in carts)


async def test_a_key_belongs_to_the_cart_that_it_is_used_on(app: Channel, channels: Channels, key: str) -> None:
    sku = await channels.product()
    for cart in (await app.cart(), await app.cart()):
        answer = await app.post(f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"], key=key)
        assert (answer.status_code, "idempotent-replayed" in answer.headers) == (200, False)


async def test_a_get_does_not_mind_a_key(app: Channel, key: str) -> None:
    for _ in range(2):
        assert "idempotent-replayed" not in (await app.get("/v1/locations", headers={"Idempotency-Key": key})).headers


async def test_what_must_not_happen_twice_needs_a_key(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    needing = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for header in operation["parameters"]
        if header["name"] == "Idempotency-Key" and header["required"]
    }
    assert needing == NEEDS_KEY | NEEDS_KEY_TOO


@pytest.mark.parametrize("operation", sorted(NEEDS_KEY))
async def test_without_a_key_it_does_not_happen(
    operation: str, till: Channel, admin: Channel, channels: Channels, drawer: str
) -> None:
    sku, place = await channels.product({"S1": 1}), await channels.location("S1")
    cart = await till.cart({"sku": sku})
    zero = {"amount": 0, "currency": "USD"}
    bodies: dict[str, Any] = {
        "checkout": {"tenders": [{"type": "cash"}]},
        "sessions": {"opening_float": zero},
        "close": {"counted": zero},
        "receipts": {"location_id": place, "lines": [{"sku": sku, "quantity": 1}]},
        "adjustments": {"location_id": place, "lines": [{"sku": sku, "delta": 1, "reason": "found"}]},
    }
    path = operation.removeprefix("POST ").format(cart_id=cart["id"], register_id=drawer)
    channel = admin if "stock" in path else till
    if path.endswith("sessions"):
        await till.ok("POST", f"{path}/current/close", bodies["close"])
    answer = await channel.post(path, bodies[path.rpartition("/")[2]], key="")
    assert _code(answer) == (400, "idempotency_key_required")
    assert await channels.level(sku, "S1") == (1, 0)


# --- at once ----------------------------------------------------------------------------------------------------------


async def test_the_same_request_many_times_at_once_happens_once(app: Channel, channels: Channels, key: str) -> None:
    cart, sku = await app.cart(), await channels.product()
    path = f"/v1/carts/{cart['id']}/lines"
    sent = [app.post(path, {"sku": sku}, token=cart["token"], key=key) for _ in range(8)]
    answers = await asyncio.gather(*sent)
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 7
    kept = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert [each["quantity"] for each in kept["lines"]] == [1]


async def test_a_checkout_whose_first_attempt_is_still_running_is_told_so(
    app: Channel, channels: Channels, key: str, database: Database, hub: Hub
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    principal = await hub.keyring.verify(app.key)
    assert principal is not None
    scope = f"{principal.subject_id}:{ids.parse('cart', cart['id'])}"
    async with database.connection() as db, db.transaction():
        await db.execute(LOCK_ELSEWHERE, scope, key)
        answer = await app.check_out(cart, CARD, key=key)
    assert (_code(answer), answer.headers["retry-after"]) == ((409, "idempotency_in_progress"), "1")
    assert (await app.check_out(cart, CARD, key=key)).status_code == 201


async def test_a_request_whose_first_attempt_does_not_end_is_told_so(
    app: Channel, key: str, database: Database, hub: Hub
) -> None:
    principal = await hub.keyring.verify(app.key)
    assert principal is not None
    async with database.connection() as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute(BEGIN_ELSEWHERE, f"{principal.subject_id}:", key)
        answer = await app.post("/v1/carts", {}, key=key)
        await transaction.rollback()
    assert (_code(answer), answer.headers["retry-after"]) == ((409, "idempotency_in_progress"), "1")


# --- what is stored ---------------------------------------------------------------------------------------------------


async def test_no_stored_answer_holds_a_token_or_a_secret(
    app: Channel, admin: Channel, key: str, database: Database
) -> None:
    token = (await app.ok("POST", "/v1/carts", {}, key=key))["token"]
    made = await admin.ok("POST", "/v1/api-keys", {"channel": "app", "role": "storefront"}, key=key)
    rows = await _rows(database, key)
    assert len(rows) == 2
    for secret in (token, made["secret"], _random_part(made["secret"])):
        assert not any(secret in str(row) for row in rows)


def _random_part(secret: str) -> str:
    """The random part of a key."""
    return secret.split("_", 2)[2]


async def test_no_stored_answer_tells_who_or_where_somebody_is(
    app: Channel, admin: Channel, channels: Channels, key: str, database: Database
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 2})}, ship=True)
    more = {"sku": await channels.product({"DC1": 2})}
    await app.ok("POST", f"/v1/carts/{cart['id']}/lines", more, token=cart["token"], key=key)
    order = (await app.check_out(cart, CARD, key=f"{key} buy", more={"phone": "+1 512 555 0177"})).json()
    await admin.ok("POST", f"/v1/orders/{order['id']}/cancel", {"reason": "other"}, key=f"{key} cancel")
    stored = [str(row["body"]) for suffix in ("", " buy", " cancel") for row in await _rows(database, key + suffix)]
    assert len(stored) == 3
    for personal in ("ada@example.com", "555 0177", *SHIP_TO.values()):
        if len(personal) > 2:
            assert not any(personal in body for body in stored), personal


async def test_a_refusal_is_not_stored_so_the_request_may_be_mended(
    app: Channel, channels: Channels, key: str, database: Database
) -> None:
    cart, sku = await app.cart(), await channels.product()
    path = f"/v1/carts/{cart['id']}/lines"
    for line, status in (({"sku": "nothing"}, 422), ({"sku": 1}, 400), ({"sku": sku, "quantity": 0}, 400)):
        assert (await app.post(path, line, token=cart["token"], key=key)).status_code == status
    assert await _rows(database, key) == []
    answer = await app.post(path, {"sku": sku}, token=cart["token"], key=key)
    assert (answer.status_code, "idempotent-replayed" in answer.headers) == (200, False)


async def test_a_refused_checkout_is_tried_again_with_the_same_key(
    app: Channel, warehouse: Channel, channels: Channels, key: str
) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku, "quantity": 2}, ship=True)
    assert _code(await app.check_out(cart, CARD, key=key)) == (409, "out_of_stock")
    body = {"location_id": await channels.location("DC1"), "lines": [{"sku": sku, "quantity": 1}]}
    await warehouse.ok("POST", "/v1/stock/receipts", body)
    assert (await app.check_out(cart, CARD, key=key)).status_code == 201


async def test_a_declined_payment_is_final_for_its_key(app: Channel, channels: Channels, key: str) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    first = await app.check_out(cart, DECLINED, key=key)
    assert _code(first) == (402, "payment_declined")
    _same(first, await app.check_out(cart, DECLINED, key=key))
    assert _code(await app.check_out(cart, CARD, key=key)) == (422, "idempotency_key_reused")


async def test_a_secret_is_not_shown_twice(admin: Channel, key: str) -> None:
    body = {"channel": "chat", "role": "service"}
    made = await admin.ok("POST", "/v1/api-keys", body, key=key)
    again = await admin.post("/v1/api-keys", body, key=key)
    assert (_code(again), again.json()["id"]) == ((409, "secret_already_shown"), made["id"])
    assert made["secret"] not in again.text


# --- the room itself --------------------------------------------------------------------------------------------------


def _claim(key: str, request: bytes = b"one") -> Claim:
    return Claim(scope="test:", key=key, request_hash=request)


async def test_a_key_nobody_used_is_ours_until_the_transaction_ends(db: Connection, key: str) -> None:
    assert await idempotency.look_up(db, [_claim(key), _claim(f"{key}.")]) == [None, None]


async def test_each_key_is_known_for_what_became_of_it(db: Connection, database: Database, key: str) -> None:
    now = await database.now()
    subject = ids.new()
    await idempotency.keep(
        db, [(_claim("1" + key), Stored(201, "{}"), None), (_claim("2" + key), None, subject)], now=now
    )
    found = await idempotency.look_up(db, [_claim("2" + key), _claim("1" + key), _claim("1" + key, b"other")])
    assert found[:2] == [Underway(subject), Stored(201, "{}")]
    assert isinstance(found[2], KeyReused)


async def test_a_key_that_somebody_holds_is_in_progress(db: Connection, database: Database, key: str) -> None:
    async with database.connection() as other, other.transaction():
        await idempotency.look_up(other, [_claim(key)])
        assert [type(found) for found in await idempotency.look_up(db, [_claim(key)])] == [InProgress]


async def test_a_key_that_was_taken_meanwhile_is_not_kept_again(db: Connection, database: Database, key: str) -> None:
    now: datetime = await database.now()
    await idempotency.keep(db, [(_claim(key), Stored(200, "{}"), None)], now=now)
    with pytest.raises(Raced):
        await idempotency.keep(db, [(_claim(key), Stored(200, "[]"), None)], now=now)


async def test_what_was_under_way_gets_its_answer_once(db: Connection, database: Database, key: str) -> None:
    subject = ids.new()
    await idempotency.keep(db, [(_claim(key), None, subject)], now=await database.now())
    await idempotency.settle(db, [(subject, Stored(201, "first"))])
    await idempotency.settle(db, [(subject, Stored(402, "second"))])
    assert await idempotency.look_up(db, [_claim(key)]) == [Stored(201, "first")]


async def test_old_answers_are_forgotten_and_what_is_under_way_is_not(
    db: Connection, database: Database, key: str
) -> None:
    old = await database.now() - timedelta(days=3_000)
    await idempotency.keep(
        db, [(_claim("1" + key), Stored(200, "{}"), None), (_claim("2" + key), None, ids.new())], now=old
    )
    assert await idempotency.purge(db, before=old + timedelta(days=1)) == 1
    assert [type(found) for found in await idempotency.look_up(db, [_claim("1" + key), _claim("2" + key)])] == [
        type(None),
        Underway,
    ]
