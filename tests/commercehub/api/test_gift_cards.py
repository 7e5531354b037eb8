"""Gift cards: issued, looked up, spent partly and together with a card, never more than they hold, refunded to."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.api.gift_cards import hash_code
from commercehub.database import Database
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD
from tests.serving import findings

Jobs = Callable[[], Awaitable[None]]


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


def gift(code: str, **more: Any) -> dict[str, Any]:
    return {"type": "gift_card", "code": code, **more}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


@pytest.fixture
async def issue(till: Channel) -> Callable[..., Awaitable[str]]:
    async def issue(amount: int, **more: Any) -> str:
        card = await till.ok("POST", "/v1/gift-cards", {"balance": usd(amount), **more})
        return str(card["code"])

    return issue


def in_days(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


async def expire(database: Database, code: str) -> str:
    """The card has ended by now."""
    statement = "UPDATE payments.stored_values SET expires_at = now() - interval '1 day' WHERE code_hash = $1"
    async with database.connection() as db:
        await db.execute(statement, hash_code(code))
    return code


async def balance(channel: Channel, code: str) -> int:
    found = await channel.ok("POST", "/v1/gift-cards/lookup", {"code": code})
    return int(found["balance"]["amount"])


async def test_a_card_is_shown_to_its_issuer_and_again_for_the_same_key(till: Channel, database: Database) -> None:
    body = {"balance": usd(5_000), "expires_at": in_days(365 * 49)}
    first = await till.post("/v1/gift-cards", body, key="one card")
    again = await till.post("/v1/gift-cards", body, key="one card")
    assert (first.status_code, first.json()) == (201, again.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    code = first.json()["code"]
    assert (len(code), code.count("-")) == (19, 3)
    async with database.connection() as db:
        kept = await db.fetchval(
            "SELECT count(*) FROM commercehub.idempotency_keys WHERE body LIKE '%' || $1 || '%'", code
        )
    assert kept == 0


async def test_a_card_is_found_however_its_code_is_typed(app: Channel, issue: Callable[..., Awaitable[str]]) -> None:
    code = await issue(700)
    typed = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    found = await app.ok("POST", "/v1/gift-cards/lookup", {"code": typed})
    assert (found["balance"], found["state"], found["code"]) == (usd(700), "active", None)


async def test_ten_wrong_codes_are_enough(admin: Channel) -> None:
    key = await admin.ok("POST", "/v1/api-keys", {"channel": "chat", "role": "service"})
    guesser = Channel(admin.http, key["secret"])
    for at in range(10):
        assert code_of(await guesser.post("/v1/gift-cards/lookup", {"code": f"GUESS-{at}"})) == (404, "not_found")
    stopped = await guesser.post("/v1/gift-cards/lookup", {"code": "GUESS-10"})
    assert code_of(stopped) == (429, "rate_limited")
    assert int(stopped.headers["Retry-After"]) > 60


async def test_a_card_is_spent_partly_and_the_rest_is_paid_by_card(
    app: Channel, channels: Channels, issue: Callable[..., Awaitable[str]], database: Database
) -> None:
    sku = await channels.product({"DC1": 1}, price=3_000, tax_class="exempt")
    code = await issue(2_000)
    cart = await app.cart({"sku": sku}, ship=True)
    order = (await app.check_out(cart, gift(code, amount=usd(1_500)), CARD)).json()
    assert order["state"] == "placed"
    assert await balance(app, code) == 500
    paid = await channels["call_center"].ok("GET", f"/v1/payments?order_id={order['id']}")
    total = order["total"]["amount"]
    assert [(each["tender"], each["amount"]["amount"], each["captured"]["amount"]) for each in paid["data"]] == [
        ("gift_card", 1_500, 1_500),
        ("card", total - 1_500, 0),
    ]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_a_card_that_is_declined_leaves_the_gift_card_as_it_was(
    app: Channel, channels: Channels, issue: Callable[..., Awaitable[str]], database: Database
) -> None:
    code = await issue(500)
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    declined = await app.check_out(cart, gift(code), {"type": "card", "payment_method": "pm_declined"})
    assert code_of(declined) == (402, "payment_declined")
    assert await balance(app, code) == 500
    # Without an amount it pays what it has, and the card the rest.
    order = (await app.check_out(cart, gift(code), CARD)).json()
    assert (order["state"], await balance(app, code)) == ("placed", 0)
    async with database.connection() as db:
        assert await findings(db) == []


async def test_a_gift_card_alone_pays_for_all_of_it(
    till: Channel, channels: Channels, issue: Callable[..., Awaitable[str]]
) -> None:
    code = await issue(5_000)
    cart = await till.cart({"sku": await channels.product({"S1": 1}, price=1_200, tax_class="exempt")})
    sold = (await till.check_out(cart, gift(code))).json()
    assert (sold["state"], sold["payment_state"], await balance(till, code)) == ("completed", "paid", 3_800)


async def _euros(till: Channel) -> str:
    card = await till.ok("POST", "/v1/gift-cards", {"balance": {"amount": 9_999, "currency": "EUR"}})
    return str(card["code"])


async def test_what_cannot_be_spent_is_told_and_nothing_is_touched(
    app: Channel, till: Channel, channels: Channels, issue: Callable[..., Awaitable[str]], database: Database
) -> None:
    sku = await channels.product({"DC1": 1}, price=1_000, tax_class="exempt")
    cart = await app.cart({"sku": sku}, ship=True)
    full = await issue(10_000)
    refused = {
        "unknown": gift("ABCD-EFGH-JKMN-PQRS"),
        "expired": gift(await expire(database, await issue(9_999))),
        "currency": gift(await _euros(till)),
        "balance": gift(await issue(100)),
    }
    for reason, tender in refused.items():
        answer = await app.check_out(cart, gift(full, amount=usd(10)), tender)
        assert code_of(answer) == (422, "gift_card_not_usable"), reason
        assert (answer.json()["reason"], answer.json()["errors"][0]["pointer"]) == (reason, "/tenders/1")
    assert code_of(await app.check_out(cart, {"type": "store_credit"})) == (422, "gift_card_not_usable")
    # Without a code it is the card that was entered in the cart; there is none.
    assert code_of(await app.check_out(cart, {"type": "gift_card"})) == (422, "gift_card_not_usable")
    assert code_of(await app.check_out(cart, {**CARD, "code": full})) == (422, "tender_mismatch")
    assert code_of(await app.check_out(cart, gift(full, payment_method="pm_ok"))) == (422, "tender_mismatch")
    assert (await balance(app, full), await channels.level(sku, "DC1")) == (10_000, (1, 0))
    assert (await app.check_out(cart, gift(full))).status_code == 201


async def test_many_orders_at_once_never_spend_more_than_the_card_holds(
    till: Channel, channels: Channels, issue: Callable[..., Awaitable[str]], database: Database
) -> None:
    sku = await channels.product({"S1": 8}, price=1_000, tax_class="exempt")
    code = await issue(3_500)
    carts = [await till.cart({"sku": sku}) for _ in range(8)]
    answers = await asyncio.gather(*(till.check_out(cart, gift(code)) for cart in carts))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [422] * 5
    assert {code_of(answer) for answer in answers if answer.status_code == 422} == {(422, "gift_card_not_usable")}
    assert (await balance(till, code), await channels.level(sku, "S1")) == (500, (5, 0))
    async with database.connection() as db:
        assert await findings(db) == []


async def test_what_a_gift_card_paid_goes_back_onto_it(
    till: Channel, channels: Channels, issue: Callable[..., Awaitable[str]], admin: Channel
) -> None:
    code = await issue(2_000)
    register = await channels.drawer()
    cart = await till.cart({"sku": await channels.product({"S1": 1}, price=1_500, tax_class="exempt")})
    tenders = (gift(code, amount=usd(1_000)), {"type": "cash"})
    sold = (await till.check_out(cart, *tenders, more={"register_id": register})).json()
    back = await till.ok(
        "POST",
        "/v1/returns",
        {
            "order_id": sold["id"],
            "method": "in_store",
            "lines": [{"line_id": sold["lines"][0]["id"], "quantity": 1, "reason": "damaged"}],
            "receive": True,
            "register_id": register,
        },
    )
    # What was paid last goes back first.
    assert [(each["tender"], each["amount"]["amount"], each["state"]) for each in back["refunds"]] == [
        ("cash", 500, "succeeded"),
        ("gift_card", 1_000, "succeeded"),
    ]
    assert await balance(till, code) == 2_000
    report = await till.ok("GET", f"/v1/registers/{register}/sessions/current")
    assert (report["tenders"][0]["expected"], report["returns"]) == (usd(0), usd(1_500))


async def test_who_may_not_issue_gift_cards_does_not(app: Channel, warehouse: Channel) -> None:
    for channel in (app, warehouse):
        answer = await channel.post("/v1/gift-cards", {"balance": usd(1)})
        assert code_of(answer) == (403, "forbidden")


@pytest.mark.parametrize(
    ("pointer", "body"),
    [
        ("/expires_at", {"expires_at": "2020-01-01T00:00:00Z"}),
        ("/expires_at", {"expires_at": "9999-12-31T23:59:59-23:59"}),
        ("/expires_at", {"expires_at": "0001-01-01T00:00:00+23:59"}),
        ("/expires_at", {"expires_at": in_days(365 * 51)}),
        ("/expires_at", {"expires_at": "2030-01-01T00:00:00"}),
        ("/balance/currency", {"balance": {"amount": 1, "currency": "XXX"}}),
        ("/balance/currency", {"balance": {"amount": 1, "currency": "ZZZ"}}),
        ("/balance/currency", {"balance": {"amount": 1, "currency": "XAU"}}),
        ("/balance/amount", {"balance": usd(2**53 - 1)}),
        ("/balance/amount", {"balance": usd(0)}),
    ],
)
async def test_no_card_is_issued_that_nobody_could_spend(pointer: str, body: dict[str, Any], till: Channel) -> None:
    refused = await till.post("/v1/gift-cards", {"balance": usd(100), **body})
    assert code_of(refused) == (400, "invalid_request"), refused.text
    assert [each["pointer"] for each in refused.json()["errors"]] == [pointer]


async def test_what_comes_back_onto_an_expired_card_can_be_spent(
    till: Channel, channels: Channels, issue: Callable[..., Awaitable[str]], database: Database
) -> None:
    code = await issue(1_000, expires_at=in_days(10))
    cart = await till.cart({"sku": await channels.product({"S1": 1}, price=1_000, tax_class="exempt")})
    sold = (await till.check_out(cart, gift(code))).json()
    await expire(database, code)
    lines = [{"line_id": sold["lines"][0]["id"], "quantity": 1, "reason": "damaged"}]
    asked = {"order_id": sold["id"], "method": "in_store", "lines": lines, "receive": True}
    await till.ok("POST", "/v1/returns", asked)
    found = await till.ok("POST", "/v1/gift-cards/lookup", {"code": code})
    assert (found["balance"], found["state"]) == (usd(1_000), "active")
    assert datetime.fromisoformat(found["expires_at"]) > datetime.now(UTC) + timedelta(days=364)
    timeline = await till.ok("GET", f"/v1/orders/{sold['id']}/timeline")
    (extended,) = [each for each in timeline["data"] if each["type"] == "gift_card.extended"]
    assert extended["changes"]["gift_card_id"] == found["id"]
    again = await till.cart({"sku": await channels.product({"S1": 1}, price=900, tax_class="exempt")})
    assert (await till.check_out(again, gift(code))).status_code == 201


async def test_wrong_codes_stop_neither_a_replay_nor_other_carts(
    app: Channel, channels: Channels, issue: Callable[..., Awaitable[str]]
) -> None:
    sku = await channels.product({"DC1": 3}, price=500, tax_class="exempt")
    code = await issue(20_000)
    cart, other = await app.cart({"sku": sku}, ship=True), await app.cart({"sku": sku}, ship=True)
    for _ in range(10):
        assert code_of(await app.check_out(cart, gift("GUESS"))) == (422, "gift_card_not_usable")
    assert code_of(await app.check_out(cart, gift(code))) == (429, "rate_limited")
    entered = {"code": code}
    stopped = await app.post(f"/v1/carts/{cart['id']}/gift-cards", entered, token=cart["token"])
    assert code_of(stopped) == (429, "rate_limited")
    bought = await app.check_out(other, gift(code), key="bought once")
    assert bought.status_code == 201
    third = await app.cart({"sku": sku}, ship=True)
    await app.ok("POST", f"/v1/carts/{third['id']}/gift-cards", entered, token=third["token"])


async def test_a_known_key_is_answered_as_stored_whatever_was_tried_meanwhile(
    till: Channel, app: Channel, channels: Channels, issue: Callable[..., Awaitable[str]]
) -> None:
    code = await issue(300)
    sku = await channels.product({"S1": 1}, price=1_000, tax_class="exempt")
    cart = await app.pick_up(await app.cart({"sku": sku}), await channels.location("S1"))
    order = (await app.check_out(cart, {"type": "pay_at_pickup"})).json()
    path = f"/v1/orders/{order['id']}/payments"
    body = {"tenders": [gift(code, amount=usd(300))]}
    first = await app.post(path, body, key="a part", token=cart["token"])
    assert first.status_code == 201, first.text
    for _ in range(10):
        guess = {"tenders": [gift("GUESS", amount=usd(1))]}
        assert code_of(await app.post(path, guess, token=cart["token"])) == (422, "gift_card_not_usable")
    again = await app.post(path, body, key="a part", token=cart["token"])
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    new = {"tenders": [gift(code, amount=usd(1))]}
    assert code_of(await app.post(path, new, token=cart["token"])) == (429, "rate_limited")
    # The same key with another code is no replay.
    assert code_of(await app.post(path, new, key="a part", token=cart["token"])) == (429, "rate_limited")


async def test_a_number_and_an_email_address_spend_nobodys_credit(
    app: Channel, till: Channel, channels: Channels, issue: Callable[..., Awaitable[str]], database: Database
) -> None:
    customer = await channels.shopper()
    sku = await channels.product({"S1": 1}, price=1_000, tax_class="exempt")
    cart = await customer.pick_up(await customer.cart({"sku": sku}), await channels.location("S1"))
    answer = await customer.check_out(cart, {"type": "pay_at_pickup"}, more={"email": customer.email})
    order = answer.json()

    sold = await till.cart({"sku": await channels.product({"S1": 1}, price=5_000, tax_class="exempt")})
    bought = (await till.check_out(sold, gift(await issue(5_000)))).json()
    async with database.connection() as db:
        statement = "UPDATE commercehub.orders SET customer_id = $2 WHERE id = $1"
        await db.execute(statement, ids.parse("ord", bought["id"]), ids.parse("cus", customer.id))
    line = {"line_id": bought["lines"][0]["id"], "quantity": 1}
    asked = {"order_id": bought["id"], "method": "in_store", "lines": [line], "receive": True}
    await till.ok("POST", "/v1/returns", {**asked, "resolution": "store_credit"})
    looked_up = await app.ok("POST", "/v1/orders/lookup", {"number": order["number"], "email": customer.email})
    guest = Channel(app.http, looked_up["access_token"])
    path, body = f"/v1/orders/{order['id']}/payments", {"tenders": [{"type": "store_credit"}]}
    refused = await guest.post(path, body)
    assert refused.status_code in {403, 422}, refused.text
    credit = f"/v1/customers/{customer.id}/store-credit"
    assert (await customer.ok("GET", credit))["balance"] == usd(5_000)
    assert (await customer.post(path, body)).status_code == 201
    assert (await customer.ok("GET", credit))["balance"] == usd(4_000)
    async with database.connection() as db:
        assert await findings(db) == []
