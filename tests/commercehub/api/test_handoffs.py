"""A cart handed from one channel to another by a code: the very same cart, opened once, by whoever has the code."""

import asyncio
import uuid
from typing import Any

import httpx

from commercehub import auth
from commercehub.database import Database
from commercehub.workflows import handoffs
from tests.client import SHIP_TO, Channel, Channels, Customer
from tests.commercehub.api.conftest import CARD
from tests.commercehub.api.people import owe

OUTDATE = "UPDATE commercehub.handoffs SET ends_at = now() - interval '1 second' WHERE code_hash = $1"
FORGET = "DELETE FROM commercehub.attempts"


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def _hand_off(channel: Channel, cart: Any) -> str:
    made = await channel.ok("POST", f"/v1/carts/{cart['id']}/handoff", token=cart.get("token"))
    assert made["qr"].startswith("data:image/svg+xml")
    return str(made["code"])


async def _resume(channel: Channel, code: str) -> httpx.Response:
    return await channel.post("/v1/carts/resume", {"code": code})


async def test_a_cart_begun_on_the_web_goes_on_in_the_app_and_stays_open_on_the_web(channels: Channels) -> None:
    web, app, sku = channels["web"], channels["app"], await channels.product()
    cart = await web.cart({"sku": sku}, ship=True)
    resumed = (await _resume(app, await _hand_off(web, cart))).json()
    assert (resumed["id"], resumed["deliveries"], resumed["channel"]) == (cart["id"], cart["deliveries"], "web")
    for channel, token in ((app, resumed["token"]), (web, cart["token"])):
        await channel.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=token)
    assert (await web.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"]))["lines"][0]["quantity"] == 3


async def test_a_code_works_once_in_whatever_way_it_is_written(app: Channel, channels: Channels) -> None:
    cart = await app.cart()
    code = await _hand_off(app, cart)
    assert len(code) == 9
    assert (await _resume(channels["web"], f" {code.lower().replace('-', ' ')}")).status_code == 200
    assert _code(await _resume(channels["web"], code)) == (404, "not_found")


async def test_of_many_who_type_a_code_in_at_once_one_gets_the_cart(
    app: Channel, channels: Channels, database: Database
) -> None:
    code = await _hand_off(app, await app.cart())
    answers = await asyncio.gather(*(_resume(channels[name], code) for name in ("web", "app", "store", "chat") * 2))
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * 7
    async with database.connection() as db:
        await db.execute(FORGET)


async def test_a_code_that_is_too_old_opens_nothing(app: Channel, database: Database) -> None:
    code = await _hand_off(app, await app.cart())
    async with database.connection() as db:
        await db.execute(OUTDATE, handoffs.code_hash(code))
    assert _code(await _resume(app, code)) == (404, "not_found")


async def test_ten_wrong_codes_and_a_right_one_is_not_looked_at(
    till: Channel, app: Channel, database: Database
) -> None:
    code = await _hand_off(app, await app.cart())
    for _ in range(auth.attempts.ATTEMPTS_MAX):
        assert _code(await _resume(till, "2222-2222")) == (404, "not_found")
    answer = await _resume(till, code)
    assert (_code(answer), int(answer.headers["Retry-After"]) > 60) == ((429, "rate_limited"), True)
    assert (await _resume(app, code)).status_code == 200
    async with database.connection() as db:
        await db.execute(FORGET)


async def test_a_repeated_handoff_shows_the_same_code_which_is_stored_nowhere(app: Channel, database: Database) -> None:
    cart, key = await app.cart(), str(uuid.uuid4())
    path = f"/v1/carts/{cart['id']}/handoff"
    first, again = [await app.post(path, key=key, token=cart["token"]) for _ in range(2)]
    assert (first.json(), again.headers["Idempotent-Replayed"]) == (again.json(), "true")
    async with database.connection() as db:
        stored = await db.fetchval("SELECT body FROM commercehub.idempotency_keys WHERE key = $1", key)
    assert first.json()["code"] not in stored
    assert (await app.post(path, key=key, token="0" * 64)).status_code == 404


async def test_a_repeated_resume_shows_the_same_token_and_never_a_later_one(channels: Channels) -> None:
    customer, web = await channels.shopper(), channels["web"]
    cart = await customer.cart({"sku": await channels.product()}, ship=True)
    body, key = {"code": await _hand_off(customer, cart)}, str(uuid.uuid4())
    first, again = [await web.post("/v1/carts/resume", body, key=key) for _ in range(2)]
    assert first.json() == again.json()
    assert first.json()["token"]
    assert (await web.get(f"/v1/carts/{cart['id']}", token=first.json()["token"])).status_code == 200
    assert (await customer.ok("GET", "/v1/carts/current"))["id"] == cart["id"]


async def test_a_claim_ends_every_token_that_opened_the_cart(channels: Channels) -> None:
    web, app, customer = channels["web"], channels["app"], await channels.shopper()
    cart = await web.cart()
    resumed = (await _resume(app, await _hand_off(web, cart))).json()
    await customer.ok("POST", f"/v1/carts/{cart['id']}/claim", {}, token=cart["token"])
    again = (await _resume(app, await _hand_off(customer, cart))).json()
    assert again["token"] != resumed["token"]
    for token in (cart["token"], resumed["token"]):
        assert _code(await app.get(f"/v1/carts/{cart['id']}", token=token)) == (404, "not_found")


async def test_a_till_has_the_cart_from_now_on_and_what_had_no_way_is_carried_out_there(
    till: Channel, channels: Channels
) -> None:
    chat, place = channels["chat"], await channels.location("S1")
    sent, here, scanned = [await channels.product({"DC1": 5, "S1": 5}) for _ in range(3)]
    cart = await chat.cart({"sku": sent}, {"sku": here})
    ship = {"method": "ship", "address": SHIP_TO, "line_ids": [cart["lines"][0]["id"]]}
    await chat.ok("PUT", f"/v1/carts/{cart['id']}/delivery", ship)
    assert _code(await till.get(f"/v1/carts/{cart['id']}")) == (404, "not_found")
    resumed = (await _resume(till, await _hand_off(chat, cart))).json()
    assert (resumed["location_id"], resumed["token"], resumed["channel"]) == (place, None, "chat")
    full = await till.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": scanned})
    by_method = {each["method"]: each["line_ids"] for each in full["deliveries"]}
    ids_of = {line["sku"]: line["id"] for line in full["lines"]}
    assert by_method == {"ship": [ids_of[sent]], "carry_out": [ids_of[here], ids_of[scanned]]}
    assert full["problems"] == []


async def test_a_customer_who_types_the_code_in_makes_the_cart_theirs(channels: Channels) -> None:
    chat, customer, sku = channels["chat"], await channels.shopper(), await channels.product()
    mine = await customer.cart({"sku": sku})
    theirs = await chat.cart({"sku": sku})
    resumed = (await _resume(customer, await _hand_off(chat, theirs))).json()
    assert (resumed["id"], resumed["merged_into"], resumed["lines"][0]["quantity"]) == (mine["id"], mine["id"], 2)
    other = await channels.shopper()
    assert _code(await _resume(other, await _hand_off(customer, mine))) == (404, "not_found")


async def test_a_cart_that_is_bought_is_not_handed_off(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    code = await _hand_off(app, cart)
    await app.check_out(cart, {"type": "card", "payment_method": "pm_ok"})
    answer = await app.post(f"/v1/carts/{cart['id']}/handoff", token=cart["token"])
    assert _code(answer) == (409, "cart_already_checked_out")
    assert _code(await _resume(channels["web"], code)) == (404, "not_found")


# --- what a token from a hand-off does not open -------------------------------------------------------------------------


async def _credit_left(channels: Channels, customer: Customer) -> int:
    credit = await channels["chat"].ok("GET", f"/v1/customers/{customer.id}/store-credit")
    return int(credit["balance"]["amount"])


async def _full_cart(channels: Channels, customer: Customer) -> tuple[Any, str]:
    """A customer's cart with a gift card in it, and the card's code."""
    sku = await channels.product({"DC1": 1}, price=1_000, tax_class="exempt")
    cart = await customer.cart({"sku": sku}, ship=True)
    card = await channels["store"].ok("POST", "/v1/gift-cards", {"balance": {"amount": 5_000, "currency": "USD"}})
    await customer.ok("POST", f"/v1/carts/{cart['id']}/gift-cards", {"code": card["code"]})
    return cart, str(card["code"])


async def test_a_token_of_a_customers_cart_spends_neither_their_credit_nor_their_gift_cards(
    channels: Channels,
) -> None:
    customer, kiosk = await channels.shopper(), channels["web"]
    await owe(channels, customer)
    cart, code = await _full_cart(channels, customer)
    resumed = (await _resume(kiosk, await _hand_off(customer, cart))).json()
    for tender in ({"type": "store_credit"}, {"type": "gift_card"}):
        answer = await kiosk.check_out(resumed, tender, CARD)
        assert (_code(answer), answer.json()["reason"]) == ((422, "gift_card_not_usable"), "unknown")
    assert await _credit_left(channels, customer) == 2_000
    left = await customer.ok("POST", "/v1/gift-cards/lookup", {"code": code})
    assert left["balance"]["amount"] == 5_000
    # A till spends them with the customer at hand, and so do they themselves.
    assert (await customer.check_out(cart, {"type": "gift_card"})).status_code == 201


async def test_a_customer_spends_their_own_credit(channels: Channels) -> None:
    customer = await channels.shopper()
    await owe(channels, customer)
    cart, _ = await _full_cart(channels, customer)
    order = (await customer.check_out(cart, {"type": "store_credit"})).json()
    assert await _credit_left(channels, customer) == 2_000 - order["total"]["amount"]


async def test_a_token_of_a_customers_cart_buys_it_and_does_not_open_the_order(channels: Channels) -> None:
    customer, kiosk, key = await channels.shopper(), channels["web"], str(uuid.uuid4())
    cart, _ = await _full_cart(channels, customer)
    resumed = (await _resume(kiosk, await _hand_off(customer, cart))).json()
    token, path = resumed["token"], f"/v1/carts/{cart['id']}/checkout"
    answers = [await kiosk.post(path, {"tenders": [CARD]}, key=key, token=token) for _ in range(2)]
    order = answers[0].json()
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (order["email"], order["customer_id"]) == (None, customer.id)
    order_path = f"/v1/orders/{order['id']}"
    lines = [{"line_id": order["lines"][0]["id"], "quantity": 1}]
    for answer in (
        await kiosk.get(order_path, token=token),
        await kiosk.get(f"{order_path}/timeline", token=token),
        await kiosk.post(f"{order_path}/payments", {"tenders": [CARD]}, token=token),
        await kiosk.post("/v1/returns", {"order_id": order["id"], "lines": lines, "method": "mail"}, token=token),
    ):
        assert _code(answer) == (404, "not_found")
    assert (await customer.ok("GET", order_path))["email"] == customer.email


async def test_who_claims_what_is_theirs_ends_tokens_and_codes_that_were_handed_out(channels: Channels) -> None:
    customer, kiosk = await channels.shopper(), channels["web"]
    cart = await customer.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    resumed = (await _resume(kiosk, await _hand_off(customer, cart))).json()
    code = await _hand_off(customer, cart)
    await customer.ok("POST", f"/v1/carts/{cart['id']}/claim", {})
    assert _code(await kiosk.get(f"/v1/carts/{cart['id']}", token=resumed["token"])) == (404, "not_found")
    assert _code(await kiosk.check_out(resumed, CARD)) == (404, "not_found")
    assert _code(await _resume(kiosk, code)) == (404, "not_found")
    again = (await _resume(kiosk, await _hand_off(customer, cart))).json()
    assert again["token"] != resumed["token"]
    await kiosk.ok("GET", f"/v1/carts/{cart['id']}", token=again["token"])


async def test_a_code_of_a_guests_cart_ends_when_somebody_claims_it(app: Channel, channels: Channels) -> None:
    cart, customer = await app.cart({"sku": await channels.product()}), await channels.shopper()
    code = await _hand_off(app, cart)
    await customer.ok("POST", f"/v1/carts/{cart['id']}/claim", {}, token=cart["token"])
    assert _code(await _resume(channels["web"], code)) == (404, "not_found")


# --- what is told -------------------------------------------------------------------------------------------------------


async def test_where_a_customers_cart_has_been_stands_on_their_timeline(till: Channel, channels: Channels) -> None:
    customer, place = await channels.shopper(), await channels.location("S1")
    cart = await customer.cart()
    await _resume(channels["web"], await _hand_off(customer, cart))
    for _ in range(2):
        await till.ok("POST", "/v1/carts", {"customer_id": customer.id})
    await _resume(customer, await _hand_off(customer, cart))
    told = (await customer.ok("GET", f"/v1/customers/{customer.id}/timeline"))["data"][1:]
    assert [(entry["type"], entry["channel"]) for entry in told] == [
        ("cart.begun", "app"),
        ("cart.handed_off", "app"),
        ("cart.resumed", "web"),
        ("cart.taken_to_till", "store"),
        ("cart.handed_off", "app"),
        ("cart.resumed", "app"),
    ]
    assert told[3]["changes"] == {"cart_id": cart["id"], "location_id": place}


async def test_what_a_till_made_of_a_cart_is_told_to_the_app_before_it_pays(till: Channel, channels: Channels) -> None:
    customer, sku = await channels.shopper(), await channels.product({"S1": 1, "DC1": 1})
    cart = await customer.cart({"sku": sku})
    assert (await till.ok("POST", "/v1/carts", {"customer_id": customer.id}))["problems"] == []
    seen = await customer.ok("GET", f"/v1/carts/{cart['id']}")
    assert [(each["code"], each["sku"]) for each in seen["problems"]] == [("delivery_not_offered", sku)]
    assert _code(await customer.check_out(cart, CARD)) == (422, "delivery_not_offered")
    delivery = {"method": "ship", "address": SHIP_TO}
    assert (await customer.ok("PUT", f"/v1/carts/{cart['id']}/delivery", delivery))["problems"] == []
    assert (await customer.check_out(cart, CARD)).status_code == 201
