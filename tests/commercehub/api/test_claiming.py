"""One cart per customer, in every channel: a guest's becomes theirs, or a part of theirs, and no line is lost."""

import asyncio
import uuid
from datetime import datetime
from typing import Any

import httpx
import pytest
from asyncpg import Connection

import payments
from commercehub import ids
from commercehub.database import Database
from commercehub.sales import open_carts
from commercehub.views import cart_page
from commercehub.workflows import payment_results, planning
from commercehub.workflows.inquiries import Heard
from commercehub.workflows.parts import Hub
from tests.client import SHIP_TO, Channel, Channels, Customer

CARD = {"type": "card", "payment_method": "pm_ok"}


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def _lines(cart: Any) -> dict[str, int]:
    return {line["sku"]: line["quantity"] for line in cart["lines"]}


async def _claim(customer: Customer, guest: Any) -> Any:
    return await customer.ok("POST", f"/v1/carts/{guest['id']}/claim", {}, token=guest["token"])


# --- one open cart ----------------------------------------------------------------------------------------------------


async def test_a_customer_has_one_open_cart_in_every_channel(channels: Channels) -> None:
    customer = await channels.shopper()
    assert _code(await customer.get("/v1/carts/current")) == (404, "not_found")
    begun = await customer.post("/v1/carts")
    again = await customer.post("/v1/carts", {"currency": "EUR"})
    assert (begun.status_code, again.status_code) == (201, 200)
    assert (begun.json()["token"], begun.json()["customer_id"]) == (None, customer.id)
    seen = [
        await customer.ok("GET", "/v1/carts/current"),
        await channels["chat"].ok("GET", f"/v1/carts/current?customer_id={customer.id}"),
        await channels["chat"].ok("POST", "/v1/carts", {"customer_id": customer.id}),
        await channels["store"].ok("GET", f"/v1/carts/current?customer_id={customer.id}"),
    ]
    assert {cart["id"] for cart in seen} == {begun.json()["id"]} == {again.json()["id"]}


async def test_a_cart_that_is_begun_twice_at_once_is_one(channels: Channels) -> None:
    customer = await channels.shopper()
    made = await asyncio.gather(*(customer.ok("POST", "/v1/carts") for _ in range(8)))
    assert len({cart["id"] for cart in made}) == 1


async def test_the_next_cart_is_another_once_one_is_bought(channels: Channels) -> None:
    customer = await channels.shopper()
    cart = await customer.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    answer = await customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [CARD]})
    assert (answer.status_code, answer.json()["customer_id"], answer.json()["channel"]) == (201, customer.id, "app")
    assert _code(await customer.get("/v1/carts/current")) == (404, "not_found")
    assert (await customer.ok("POST", "/v1/carts"))["id"] != cart["id"]


async def test_who_names_a_customer_has_to_be_allowed_to_and_the_customer_to_exist(channels: Channels) -> None:
    customer, other = await channels.shopper(), await channels.shopper()
    body = {"customer_id": customer.id}
    nobody = "cus_" + "0" * 26
    assert _code(await channels["app"].post("/v1/carts", body)) == (403, "forbidden")
    assert _code(await other.post("/v1/carts", body)) == (404, "not_found")
    assert _code(await other.get(f"/v1/carts/current?customer_id={customer.id}")) == (404, "not_found")
    assert _code(await channels["chat"].post("/v1/carts", {"customer_id": nobody})) == (404, "not_found")
    assert _code(await channels["chat"].get("/v1/carts/current")) == (400, "invalid_request")


async def test_a_repeated_request_for_a_cart_shows_no_token_to_a_customer(channels: Channels) -> None:
    customer, key = await channels.shopper(), str(uuid.uuid4())
    first, again = [await customer.post("/v1/carts", {}, key=key) for _ in range(2)]
    assert (first.json(), again.headers["Idempotent-Replayed"]) == (again.json(), "true")


async def test_nobody_elses_cart_is_there_for_a_customer(channels: Channels) -> None:
    customer, other = await channels.shopper(), await channels.shopper()
    cart = await customer.cart({"sku": await channels.product()})
    guest = await channels["app"].cart()
    for path in (cart["id"], guest["id"]):
        assert _code(await other.get(f"/v1/carts/{path}")) == (404, "not_found")
        assert _code(await other.post(f"/v1/carts/{path}/lines", {"sku": "X"})) == (404, "not_found")
        assert _code(await other.post(f"/v1/carts/{path}/claim", {})) == (404, "not_found")
    assert _code(await other.get(f"/v1/carts/{guest['id']}", token=guest["token"])) == (404, "not_found")


# --- claimed ----------------------------------------------------------------------------------------------------------


async def test_a_guests_cart_becomes_the_customers_and_its_token_opens_it_no_more(
    app: Channel, channels: Channels
) -> None:
    guest = await app.cart({"sku": await channels.product(), "quantity": 2}, ship=True)
    customer = await channels.shopper()
    claimed = await _claim(customer, guest)
    assert (claimed["id"], claimed["customer_id"], claimed["merged_into"]) == (guest["id"], customer.id, None)
    assert (_lines(claimed), claimed["deliveries"][0]["address"]) == (_lines(guest), guest["deliveries"][0]["address"])
    assert _code(await app.get(f"/v1/carts/{guest['id']}", token=guest["token"])) == (404, "not_found")
    answer = await app.check_out(guest, CARD)
    assert _code(answer) == (404, "not_found")


async def test_a_guests_cart_is_merged_into_the_open_one_and_no_line_is_lost(app: Channel, channels: Channels) -> None:
    customer = await channels.shopper()
    both, mine, theirs = [await channels.product({"DC1": 99}) for _ in range(3)]
    await app.ok("GET", "/v1/locations")
    current = await customer.cart({"sku": both, "quantity": 2}, {"sku": mine})
    guest = await app.cart({"sku": both, "quantity": 3}, {"sku": theirs}, ship=True)
    await app.ok("POST", f"/v1/carts/{guest['id']}/promotions", {"code": "welcome10"}, token=guest["token"])
    merged = await _claim(customer, guest)
    assert (merged["id"], merged["merged_into"]) == (current["id"], current["id"])
    assert _lines(merged) == {both: 5, mine: 1, theirs: 1}
    assert [each["code"] for each in merged["promotions"]] == ["WELCOME10"]
    by_sku = {line["sku"]: line["id"] for line in merged["lines"]}
    (parcel,) = merged["deliveries"]
    assert sorted(parcel["line_ids"]) == sorted([by_sku[both], by_sku[theirs]])
    assert parcel["address"]["line1"] == SHIP_TO["line1"]

    gone = await customer.ok("GET", f"/v1/carts/{guest['id']}")
    assert (gone["state"], gone["merged_into"], gone["lines"]) == ("merged", current["id"], [])
    for answer in (
        await customer.post(f"/v1/carts/{guest['id']}/lines", {"sku": mine}),
        await customer.post(f"/v1/carts/{guest['id']}/checkout", {"tenders": [CARD]}),
    ):
        assert (_code(answer), answer.json()["merged_into"]) == ((409, "cart_merged"), current["id"])


async def test_a_claim_that_is_sent_again_changes_nothing(app: Channel, channels: Channels) -> None:
    customer = await channels.shopper()
    sku = await channels.product()
    await customer.cart({"sku": sku})
    guest = await app.cart({"sku": sku})
    first = await _claim(customer, guest)
    again = await _claim(customer, guest)
    assert (again["id"], again["merged_into"], again["version"]) == (first["id"], first["id"], first["version"])
    assert _lines(again) == {sku: 2}


async def test_a_repeated_claim_answers_the_same_with_the_address(app: Channel, channels: Channels) -> None:
    customer, key = await channels.shopper(), str(uuid.uuid4())
    guest = await app.cart({"sku": await channels.product()}, ship=True)
    path = f"/v1/carts/{guest['id']}/claim"
    first, again = [await customer.post(path, {}, key=key, token=guest["token"]) for _ in range(2)]
    assert first.json() == again.json()
    assert again.json()["deliveries"][0]["address"]["city"] == SHIP_TO["city"]


async def test_a_merge_says_where_a_line_holds_no_more(app: Channel, channels: Channels) -> None:
    customer, sku = await channels.shopper(), await channels.product(price=1)
    await customer.cart({"sku": sku, "quantity": 999_999})
    merged = await _claim(customer, await app.cart({"sku": sku, "quantity": 2}))
    assert _lines(merged) == {sku: 1_000_000}
    assert ("quantity_too_large", sku) in [(each["code"], each["sku"]) for each in merged["problems"]]


async def test_a_cart_that_made_an_order_is_not_claimed(app: Channel, channels: Channels) -> None:
    guest = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await app.check_out(guest, CARD)).json()
    answer = await (await channels.shopper()).post(f"/v1/carts/{guest['id']}/claim", {}, token=guest["token"])
    assert (_code(answer), answer.json()["order_id"]) == ((409, "cart_already_checked_out"), order["id"])
    assert (await app.ok("GET", f"/v1/orders/{order['id']}", token=guest["token"]))["id"] == order["id"]


async def test_a_cart_is_claimed_by_one_customer(app: Channel, channels: Channels) -> None:
    guest = await app.cart()
    await _claim(await channels.shopper(), guest)
    late = await (await channels.shopper()).post(f"/v1/carts/{guest['id']}/claim", {}, token=guest["token"])
    assert _code(late) == (404, "not_found")
    staff = await channels["chat"].post(
        f"/v1/carts/{guest['id']}/claim", {"customer_id": (await channels.shopper()).id}
    )
    assert _code(staff) == (404, "not_found")


async def test_who_helps_a_customer_claims_for_them_and_a_till_has_the_cart_then(
    till: Channel, channels: Channels
) -> None:
    customer = await channels.shopper()
    online, scanned = await channels.product({"DC1": 1}), await channels.product({"S1": 1})
    await customer.cart({"sku": online}, ship=True)
    cart = await till.cart({"sku": scanned})
    assert _code(await till.post(f"/v1/carts/{cart['id']}/claim", {})) == (400, "invalid_request")
    merged = await till.ok("POST", f"/v1/carts/{cart['id']}/claim", {"customer_id": customer.id})
    ways = {each["method"]: len(each["line_ids"]) for each in merged["deliveries"]}
    assert (merged["location_id"], ways, merged["problems"]) == (cart["location_id"], {"ship": 1, "carry_out": 1}, [])
    assert _lines(await till.ok("GET", f"/v1/carts/{merged['id']}")) == {online: 1, scanned: 1}


async def test_a_claim_stands_on_the_customers_timeline_once(
    app: Channel, channels: Channels, database: Database
) -> None:
    customer, guest = await channels.shopper(), await app.cart()
    await _claim(customer, guest)
    await _claim(customer, guest)
    told = (await customer.ok("GET", f"/v1/customers/{customer.id}/timeline"))["data"]
    assert [entry["type"] for entry in told] == ["customer.signed_up", "cart.claimed"]


# --- given back -------------------------------------------------------------------------------------------------------


async def test_a_failed_attempt_gives_the_cart_back_with_all_that_was_begun_meanwhile(
    channels: Channels, database: Database, hub: Hub
) -> None:
    customer = await channels.shopper()
    first, second = await channels.product({"DC1": 9}), await channels.product({"DC1": 9})
    cart = await customer.cart({"sku": first}, ship=True)
    waiting = await customer.post(
        f"/v1/carts/{cart['id']}/checkout",
        {"tenders": [{"type": "card", "payment_method": "pm_requires_action"}]},
    )
    assert waiting.status_code == 202, waiting.text
    later = await customer.cart({"sku": second}, {"sku": first})
    assert later["id"] != cart["id"]

    order_id = ids.parse("ord", waiting.json()["id"])

    async def refuse(db: Connection, now: datetime) -> None:
        (operation,) = await payments.read_open(
            db, operation_ids=await payments.open_operation_ids(db, reference=order_id)
        )
        fact = payments.Fact(operation_id=operation.operation_id, state=payments.OperationState.DECLINED)
        heard = Heard(fact=fact, intent_id=operation.intent_id)
        await payment_results.finalize(db, heard, order_id=order_id, now=now, render=hub.render)

    await database.transaction(refuse)
    current = await customer.ok("GET", "/v1/carts/current")
    assert (current["id"], _lines(current)) == (cart["id"], {first: 2, second: 1})
    assert (await customer.ok("GET", f"/v1/carts/{later['id']}"))["merged_into"] == cart["id"]


async def test_a_declined_card_leaves_the_customer_the_same_cart(channels: Channels) -> None:
    customer = await channels.shopper()
    cart = await customer.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    declined = {"type": "card", "payment_method": "pm_declined"}
    answer = await customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [declined]})
    assert _code(answer) == (402, "payment_declined")
    assert (await customer.ok("GET", "/v1/carts/current"))["id"] == cart["id"]
    assert (await customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [CARD]})).status_code == 201


# --- what one cart does not take ----------------------------------------------------------------------------------------


async def test_what_is_more_than_one_cart_takes_is_not_merged_and_both_stay_as_they_are(
    app: Channel, channels: Channels, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await channels.shopper()
    mine, both, theirs = [await channels.product() for _ in range(3)]
    current = await customer.cart({"sku": mine}, {"sku": both})
    guest = await app.cart({"sku": both}, {"sku": theirs})
    path = f"/v1/carts/{guest['id']}/claim"
    with monkeypatch.context() as patched:
        patched.setattr(open_carts, "LINES_MAX", 2)
        assert _code(await customer.post(path, {}, token=guest["token"])) == (422, "too_many_lines")
        code = (await app.ok("POST", f"/v1/carts/{guest['id']}/handoff", token=guest["token"]))["code"]
        assert _code(await customer.post("/v1/carts/resume", {"code": code})) == (422, "too_many_lines")
    assert _lines(await customer.ok("GET", f"/v1/carts/{current['id']}")) == {mine: 1, both: 1}
    assert _lines(await app.ok("GET", f"/v1/carts/{guest['id']}", token=guest["token"])) == {both: 1, theirs: 1}
    assert len(_lines(await _claim(customer, guest))) == 3


@pytest.mark.parametrize(
    ("limit", "code"), [("GIFT_CARDS_MAX", "too_many_gift_cards"), ("PROMOTIONS_MAX", "too_many_promotions")]
)
async def test_no_more_cards_and_codes_come_together_than_one_cart_takes(
    limit: str, code: str, app: Channel, channels: Channels, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await channels.shopper()
    current, guest = await customer.cart(), await app.cart()
    for channel, cart in ((customer, current), (app, guest)):
        card = await channels["store"].ok("POST", "/v1/gift-cards", {"balance": {"amount": 100, "currency": "USD"}})
        path, token = f"/v1/carts/{cart['id']}", cart["token"]
        await channel.ok("POST", f"{path}/gift-cards", {"code": card["code"]}, token=token)
        await channel.ok("POST", f"{path}/promotions", {"code": "WELCOME10"}, token=token)
    with monkeypatch.context() as patched:
        patched.setattr(open_carts, limit, 0 if limit == "PROMOTIONS_MAX" else 1)
        answer = await customer.post(f"/v1/carts/{guest['id']}/claim", {}, token=guest["token"])
    assert _code(answer) == (422, code)
    assert len((await customer.ok("GET", f"/v1/carts/{current['id']}"))["gift_cards"]) == 1
    assert len((await _claim(customer, guest))["gift_cards"]) == 2


async def test_a_cart_that_holds_too_much_says_so_and_is_not_bought(
    channels: Channels, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = await channels.shopper()
    cart = await customer.cart(*[{"sku": await channels.product({"DC1": 1})} for _ in range(2)], ship=True)
    monkeypatch.setattr(planning, "LINES_MAX", 1)
    monkeypatch.setattr(cart_page, "LINES_MAX", 1)
    seen = await customer.ok("GET", f"/v1/carts/{cart['id']}")
    assert [each["code"] for each in seen["problems"]] == ["too_many_lines"]
    answer = await customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [CARD]})
    assert _code(answer) == (422, "too_many_lines")
