"""Carts: filled, told how to be delivered, priced anew each time, and edited from several places at once."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import httpx
import pytest

from commercehub import auth, ids
from commercehub.auth import Role
from commercehub.database import Database
from commercehub.sales.barcodes import check_digit
from tests.client import SHIP_TO, Channel, Channels

SHIP = {"method": "ship", "address": SHIP_TO}

INSERT_CHANNEL = """
INSERT INTO commercehub.sales_channels
    (id, kind, name, brand, currency, locale, price_list, tax_included, tax_country)
VALUES ($1, 'web', $2, 'brand', $3, 'en', 'default', $4, $5)
"""

INSERT_TAX_RATE = """
INSERT INTO commercehub.tax_rates (country, tax_class, rate_ppm) VALUES ($1, 'standard', $2)
ON CONFLICT (country, tax_class) DO NOTHING
"""

INSERT_DELIVERY_RATE = """
INSERT INTO commercehub.delivery_rates (method, currency, amount_minor) VALUES ('ship', $1, $2)
ON CONFLICT (method, currency) DO NOTHING
"""

FILL_CART = """
INSERT INTO commercehub.cart_lines (id, cart_id, variant_id, quantity)
SELECT gen_random_uuid(), $1, id, 1 FROM commercehub.variants WHERE product_id = $2
"""

MakeChannel = Callable[..., Awaitable[Channel]]


@pytest.fixture
def make_channel(api: httpx.AsyncClient, database: Database) -> MakeChannel:
    """Set up a web shop of its own; returns its publishable key's client."""

    async def make(currency: str, *, country: str, rate_ppm: int, tax_included: bool) -> Channel:
        async def work(db: Any, now: datetime) -> str:
            channel_id = ids.new()
            name = f"zz {channel_id}"
            await db.execute(INSERT_CHANNEL, channel_id, name, currency, int(tax_included), country)
            await db.execute(INSERT_TAX_RATE, country, rate_ppm)
            key = await auth.create_key(
                db,
                sales_channel_id=channel_id,
                role=Role.STOREFRONT,
                location_id=None,
                created_by="test",
                now=now,
            )
            return key.secret

        return Channel(api, await database.transaction(work))

    return make


async def _product(admin: Channel, **variant: Any) -> str:
    sku = f"T-{uuid.uuid4().hex[:16]}"
    variants = [{"sku": sku, "prices": [{"amount": 1000, "currency": "USD"}], **variant}]
    await admin.ok("POST", "/v1/products", {"title": sku, "variants": variants})
    return sku


async def _cart_in(shop: Channel, currency: str, *lines: Mapping[str, Any]) -> Any:
    cart = await shop.ok("POST", "/v1/carts", {"currency": currency})
    for line in lines:
        await shop.ok("POST", f"/v1/carts/{cart['id']}/lines", line, token=cart["token"])
    return {**await shop.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"]), "token": cart["token"]}


def _amounts(cart: Mapping[str, Any]) -> tuple[int, ...]:
    names = ("subtotal", "discount_total", "delivery_total", "tax_total", "total")
    assert {cart[name]["currency"] for name in names} == {cart["currency"]}
    return tuple(cart[name]["amount"] for name in names)


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def _gtin(digits: str) -> str:
    return digits + check_digit(digits)


def _random(digits: int) -> str:
    return str(uuid.uuid4().int)[-digits:]


# --- made -------------------------------------------------------------------------------------------------------------


async def test_a_cart_begins_empty_in_the_currency_of_its_channel(app: Channel) -> None:
    answer = await app.post("/v1/carts")
    cart = answer.json()
    assert (answer.status_code, cart["lines"], cart["deliveries"], cart["problems"]) == (201, [], [], [])
    assert (cart["channel"], cart["currency"], cart["state"], cart["version"]) == ("app", "USD", "open", 1)
    assert (cart["tax_included"], _amounts(cart)) == (False, (0, 0, 0, 0, 0))


async def test_a_cart_takes_the_currency_it_is_asked_for(app: Channel) -> None:
    assert (await app.ok("POST", "/v1/carts", {"currency": "EUR"}))["currency"] == "EUR"


async def test_a_tills_cart_is_carried_out_of_its_place_unless_somebody_says_otherwise(
    till: Channel, channels: Channels
) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    place = await channels.location("S1")
    assert (cart["location_id"], cart["problems"]) == (place, [])
    assert [(each["method"], each["location_id"]) for each in cart["deliveries"]] == [("carry_out", place)]


async def test_each_cart_has_a_token_of_its_own(app: Channel) -> None:
    tokens = {(await app.ok("POST", "/v1/carts"))["token"] for _ in range(3)}
    assert len(tokens) == 3


# --- lines ------------------------------------------------------------------------------------------------------------


async def test_a_line_is_one_unit_unless_told_otherwise(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()})
    assert [line["quantity"] for line in cart["lines"]] == [1]


async def test_adding_what_is_there_raises_its_quantity(app: Channel, channels: Channels) -> None:
    sku = await channels.product()
    cart = await app.cart({"sku": sku, "quantity": 2}, {"sku": sku, "quantity": 3})
    assert [(line["sku"], line["quantity"], line["total"]["amount"]) for line in cart["lines"]] == [(sku, 5, 5000)]


async def test_a_sku_is_found_in_whatever_case_and_shown_as_it_is_kept(app: Channel, admin: Channel) -> None:
    sku = await _product(admin)
    cart = await app.cart({"sku": sku.lower()}, {"sku": sku.upper()})
    assert [(line["sku"], line["quantity"]) for line in cart["lines"]] == [(sku, 2)]


async def test_lines_stand_in_the_order_they_were_added(app: Channel, channels: Channels) -> None:
    skus = [await channels.product() for _ in range(4)]
    cart = await app.cart(*({"sku": sku} for sku in [*skus, skus[0]]))
    assert [line["sku"] for line in cart["lines"]] == skus


async def test_a_12_digit_barcode_is_found_in_every_length(app: Channel, admin: Channel) -> None:
    upc_a = _gtin("7" + _random(10))
    sku = await _product(admin, barcode=upc_a)
    cart = await app.cart(*({"barcode": zeros + upc_a} for zeros in ("", "0", "00")))
    assert [(line["sku"], line["quantity"]) for line in cart["lines"]] == [(sku, 3)]


async def test_a_upc_e_is_the_upc_a_that_it_is_short_for(app: Channel, admin: Channel) -> None:
    middle = _random(5)
    upc_e = f"0{middle}7"
    upc_a = _gtin(f"0{middle}00007")
    sku = await _product(admin, barcode=upc_a)
    short = upc_e + upc_a[-1]
    cart = await app.cart(*({"barcode": text} for text in (short, upc_e, upc_e[1:], upc_a, f"00{upc_a}")))
    assert [(line["sku"], line["quantity"]) for line in cart["lines"]] == [(sku, 5)]


@pytest.mark.parametrize(("prefix", "digits"), [("4", 6), ("40", 10), ("978", 9), ("29", 10)])
async def test_a_barcode_of_8_or_13_digits_is_found(prefix: str, digits: int, app: Channel, admin: Channel) -> None:
    prefix += _random(digits)
    barcode = _gtin(prefix)
    sku = await _product(admin, barcode=barcode)
    cart = await app.cart({"barcode": barcode}, {"barcode": barcode.zfill(14)})
    assert [(line["sku"], line["quantity"]) for line in cart["lines"]] == [(sku, 2)]


async def test_a_misread_barcode_is_refused_with_a_pointer(app: Channel) -> None:
    cart = await app.cart()
    answer = await app.post(f"/v1/carts/{cart['id']}/lines", {"barcode": "4006381333932"}, token=cart["token"])
    assert _code(answer) == (422, "invalid_barcode")
    assert answer.json()["errors"][0]["pointer"] == "/barcode"


@pytest.mark.parametrize("line", [{"sku": "no such SKU"}, {"barcode": "9999999999994"}])
async def test_what_nobody_sells_is_not_added(line: Mapping[str, Any], app: Channel) -> None:
    cart = await app.cart()
    answer = await app.post(f"/v1/carts/{cart['id']}/lines", line, token=cart["token"])
    assert _code(answer) == (422, "unknown_variant")


async def test_what_is_not_published_is_not_added(app: Channel, admin: Channel) -> None:
    sku = f"T-{uuid.uuid4().hex}"
    variants = [{"sku": sku, "prices": [{"amount": 1, "currency": "USD"}]}]
    await admin.ok("POST", "/v1/products", {"title": sku, "variants": variants, "published": False})
    cart = await app.cart()
    answer = await app.post(f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"])
    assert _code(answer) == (422, "unknown_variant")


@pytest.mark.parametrize("line", [{}, {"sku": "A", "barcode": "4006381333931"}, {"quantity": 1}])
async def test_a_line_is_named_in_one_way(line: Mapping[str, Any], app: Channel) -> None:
    cart = await app.cart()
    answer = await app.post(f"/v1/carts/{cart['id']}/lines", line, token=cart["token"])
    assert (_code(answer), answer.json()["errors"][0]["pointer"]) == ((400, "invalid_request"), "/sku")


async def test_a_lines_quantity_is_set(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product(), "quantity": 5})
    path = f"/v1/carts/{cart['id']}/lines/{cart['lines'][0]['id']}"
    changed = await app.ok("PATCH", path, {"quantity": 2}, token=cart["token"])
    assert (changed["lines"][0]["quantity"], changed["subtotal"]["amount"]) == (2, 2000)


async def test_a_line_is_taken_out(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()}, {"sku": await channels.product()})
    path = f"/v1/carts/{cart['id']}/lines/{cart['lines'][0]['id']}"
    left = await app.ok("DELETE", path, token=cart["token"])
    assert [line["id"] for line in left["lines"]] == [cart["lines"][1]["id"]]
    assert _code(await app.delete(path, token=cart["token"])) == (404, "not_found")


async def test_a_line_of_another_cart_is_not_found(app: Channel, channels: Channels) -> None:
    sku = await channels.product()
    mine, other = await app.cart({"sku": sku}), await app.cart({"sku": sku})
    path = f"/v1/carts/{mine['id']}/lines/{other['lines'][0]['id']}"
    assert _code(await app.patch(path, {"quantity": 9}, token=mine["token"])) == (404, "not_found")
    assert _code(await app.delete(path, token=mine["token"])) == (404, "not_found")
    kept = await app.ok("GET", f"/v1/carts/{other['id']}", token=other["token"])
    assert (kept["lines"][0]["quantity"], kept["version"]) == (1, other["version"])


async def test_a_line_holds_a_million_units_and_not_one_more(app: Channel, channels: Channels) -> None:
    sku = await channels.product(price=1)
    cart = await app.cart({"sku": sku, "quantity": 1_000_000})
    path = f"/v1/carts/{cart['id']}/lines"
    assert _code(await app.post(path, {"sku": sku}, token=cart["token"])) == (422, "quantity_too_large")
    kept = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert (kept["lines"][0]["quantity"], kept["version"]) == (1_000_000, cart["version"])


async def test_a_cart_holds_200_lines_and_not_one_more(
    app: Channel, admin: Channel, channels: Channels, database: Database
) -> None:
    price = [{"amount": 1, "currency": "USD"}]
    variants = [{"sku": f"T-{uuid.uuid4().hex}", "prices": price} for _ in range(199)]
    product = await admin.ok("POST", "/v1/products", {"title": "Many", "variants": variants})
    cart = await app.cart()
    async with database.connection() as db:
        await db.execute(FILL_CART, ids.parse("cart", cart["id"]), ids.parse("prod", product["id"]))
    path, token = f"/v1/carts/{cart['id']}/lines", cart["token"]
    full = await app.ok("POST", path, {"sku": await channels.product()}, token=token)
    assert len(full["lines"]) == 200
    assert _code(await app.post(path, {"sku": await channels.product()}, token=token)) == (422, "too_many_lines")
    assert len((await app.ok("POST", path, {"sku": full["lines"][0]["sku"]}, token=token))["lines"]) == 200


async def test_a_cart_costs_no_more_than_a_payment_carries(app: Channel, channels: Channels) -> None:
    sku = await channels.product(price=2**53 - 1, tax_class="books")
    cart = await app.cart({"sku": sku})
    assert cart["total"]["amount"] == 2**53 - 1
    path = f"/v1/carts/{cart['id']}/lines"
    assert _code(await app.post(path, {"sku": sku}, token=cart["token"])) == (422, "total_too_large")
    assert (await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"]))["version"] == cart["version"]


# --- prices -----------------------------------------------------------------------------------------------------------


async def test_tax_comes_on_top_where_prices_exclude_it(app: Channel, channels: Channels) -> None:
    cart = await app.cart(
        {"sku": await channels.product(price=1999), "quantity": 3},
        {"sku": await channels.product(price=1000, tax_class="books")},
        ship=True,
    )
    assert cart["tax_included"] is False
    assert [(line["total"]["amount"], line["tax"]["amount"]) for line in cart["lines"]] == [(5997, 495), (1000, 0)]
    assert _amounts(cart) == (6997, 0, 499, 495, 6997 + 499 + 495)


async def test_tax_is_inside_where_prices_include_it(make_channel: MakeChannel, admin: Channel) -> None:
    shop = await make_channel("EUR", country="DE", rate_ppm=190_000, tax_included=True)
    sku = await _product(admin, prices=[{"amount": 1999, "currency": "EUR"}])
    cart = await _cart_in(shop, "EUR", {"sku": sku, "quantity": 2})
    assert (cart["tax_included"], cart["lines"][0]["tax"]["amount"]) == (True, 638)
    assert _amounts(cart) == (3998, 0, 0, 638, 3998)


async def test_yen_have_no_decimals_and_dinars_three(
    make_channel: MakeChannel, admin: Channel, database: Database
) -> None:
    async with database.connection() as db:
        await db.execute(INSERT_DELIVERY_RATE, "KWD", 1_500)
    shop = await make_channel("JPY", country="JP", rate_ppm=100_000, tax_included=False)
    sku = await _product(admin, prices=[{"amount": 1995, "currency": "JPY"}, {"amount": 4_755, "currency": "KWD"}])
    in_yen = await _cart_in(shop, "JPY", {"sku": sku, "quantity": 1})
    # 199.5 yen of tax: half a yen is rounded away from zero.
    assert _amounts(in_yen) == (1995, 0, 0, 200, 2195)
    in_dinars = await _cart_in(shop, "KWD", {"sku": sku, "quantity": 3})
    sent = {"method": "ship", "address": {**SHIP_TO, "country": "KW"}}
    shipped = await shop.ok("PUT", f"/v1/carts/{in_dinars['id']}/delivery", sent, token=in_dinars["token"])
    assert _amounts(shipped) == (14_265, 0, 1_500, 0, 15_765)


async def test_tax_is_that_of_where_the_goods_go(make_channel: MakeChannel, channels: Channels) -> None:
    shop = await make_channel("USD", country="CA", rate_ppm=50_000, tax_included=False)
    cart = await _cart_in(shop, "USD", {"sku": await channels.product(price=1000)})
    assert cart["tax_total"]["amount"] == 50
    shipped = await shop.ok("PUT", f"/v1/carts/{cart['id']}/delivery", SHIP, token=cart["token"])
    assert shipped["tax_total"]["amount"] == 83


async def test_a_price_is_for_a_whole_unit_however_finely_it_is_measured(app: Channel, admin: Channel) -> None:
    sku = await _product(admin, prices=[{"amount": 1999, "currency": "USD"}], unit="kg", quantity_scale=3)
    cart = await app.cart({"sku": sku, "quantity": 1_500})
    # 2998.5 cents.
    assert (cart["lines"][0]["unit_price"]["amount"], cart["lines"][0]["total"]["amount"]) == (1999, 2999)


async def test_what_has_no_price_in_the_carts_currency_is_not_added(app: Channel, channels: Channels) -> None:
    sku = await channels.product()
    cart = await app.ok("POST", "/v1/carts", {"currency": "JPY"})
    answer = await app.post(f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"])
    assert _code(answer) == (422, "no_price")
    assert (await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"]))["lines"] == []


async def test_a_cart_costs_what_it_costs_now(app: Channel, channels: Channels, database: Database) -> None:
    sku = await channels.product(price=1000)
    cart = await app.cart({"sku": sku})
    async with database.connection() as db:
        await db.execute(
            "UPDATE commercehub.prices SET amount_minor = 1500 FROM commercehub.variants"
            " WHERE variant_id = id AND sku = $1",
            sku,
        )
    assert (await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"]))["subtotal"]["amount"] == 1500


# --- deliveries -------------------------------------------------------------------------------------------------------


async def test_an_address_is_shown_as_it_was_given(app: Channel, channels: Channels) -> None:
    address = {**SHIP_TO, "line2": "Flat 2", "region": "TX"}
    cart = await app.cart({"sku": await channels.product({"DC1": 1})})
    shipped = await app.ok(
        "PUT", f"/v1/carts/{cart['id']}/delivery", {"method": "express", "address": address}, token=cart["token"]
    )
    assert [(each["method"], each["address"], each["price"]["amount"]) for each in shipped["deliveries"]] == [
        ("express", address, 1299)
    ]
    assert shipped["problems"] == []


async def test_a_line_added_later_goes_the_same_way(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()}, ship=True)
    more = await app.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": await channels.product()}, token=cart["token"])
    assert [len(each["line_ids"]) for each in more["deliveries"]] == [2]


async def test_some_lines_go_another_way_than_the_rest(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()}, {"sku": await channels.product()}, ship=True)
    first, second = (line["id"] for line in cart["lines"])
    apart = {"method": "express", "address": SHIP_TO, "line_ids": [second]}
    split = await app.ok("PUT", f"/v1/carts/{cart['id']}/delivery", apart, token=cart["token"])
    assert [(each["method"], each["line_ids"]) for each in split["deliveries"]] == [
        ("ship", [first]),
        ("express", [second]),
    ]
    assert split["delivery_total"]["amount"] == 499 + 1299
    together = await app.ok("PUT", f"/v1/carts/{cart['id']}/delivery", SHIP, token=cart["token"])
    assert [each["line_ids"] for each in together["deliveries"]] == [[first, second]]


async def test_a_delivery_of_a_line_that_is_not_there_changes_nothing(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()}, ship=True)
    for line_id in (ids.show("line", ids.new()), "line_1"):
        body = {"method": "express", "address": SHIP_TO, "line_ids": [cart["lines"][0]["id"], line_id]}
        answer = await app.put(f"/v1/carts/{cart['id']}/delivery", body, token=cart["token"])
        assert _code(answer) == (404, "not_found")
    kept = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert ([each["method"] for each in kept["deliveries"]], kept["version"]) == (["ship"], cart["version"])


@pytest.mark.parametrize(
    "delivery",
    [
        {"method": "ship"},
        {"method": "express", "location_id": "loc_1"},
        {"method": "ship", "address": {**SHIP_TO, "country": "us"}},
        {"method": "ship", "address": {**SHIP_TO, "country": "US\n"}},
        {"method": "ship", "address": {**SHIP_TO, "city": "   "}},
        {"method": "ship", "address": {**SHIP_TO, "name": "Ada\r\nBcc: x"}},
        {"method": "fly", "address": SHIP_TO},
        {**SHIP, "line_ids": []},
    ],
)
async def test_a_parcel_needs_an_address_in_good_form(delivery: Mapping[str, Any], app: Channel) -> None:
    cart = await app.cart()
    answer = await app.put(f"/v1/carts/{cart['id']}/delivery", delivery, token=cart["token"])
    assert _code(answer) == (400, "invalid_request")


@pytest.mark.parametrize("method", ["carry_out", "digital"])
async def test_a_delivery_that_the_channel_has_not_is_not_offered(method: str, app: Channel) -> None:
    cart = await app.cart()
    answer = await app.put(f"/v1/carts/{cart['id']}/delivery", {"method": method}, token=cart["token"])
    assert _code(answer) == (422, "delivery_not_offered")


async def test_lines_are_sent_and_collected_from_one_cart(app: Channel, channels: Channels) -> None:
    sent, kept = await channels.product({"DC1": 2, "S1": 1}), await channels.product({"DC1": 9, "S1": 1})
    cart = await app.cart({"sku": sent}, {"sku": kept, "quantity": 2}, ship=True)
    place = await channels.location("S1")
    pickup = {"method": "pickup", "location_id": place, "line_ids": [cart["lines"][1]["id"]]}
    mixed = await app.ok("PUT", f"/v1/carts/{cart['id']}/delivery", pickup, token=cart["token"])
    ways = {each["method"]: (each["location_id"], each["price"]["amount"]) for each in mixed["deliveries"]}
    assert ways == {"ship": (None, cart["delivery_total"]["amount"]), "pickup": (place, 0)}
    # What is to be collected has to be there: the warehouse's nine do not count.
    assert _problems(mixed) == [("out_of_stock", kept)]


async def test_a_place_that_hands_nothing_out_is_not_offered(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()})
    path = f"/v1/carts/{cart['id']}/delivery"
    for body, expected in (
        ({"location_id": await channels.location("DC1")}, (422, "delivery_not_offered")),
        ({"location_id": "loc_" + "0" * 26}, (404, "not_found")),
        ({}, (400, "invalid_request")),
        ({"location_id": await channels.location("S1"), "address": SHIP_TO}, (400, "invalid_request")),
    ):
        assert _code(await app.put(path, {"method": "pickup", **body}, token=cart["token"])) == expected


async def test_what_is_carried_out_is_paid_where_it_is_carried_out(till: Channel, channels: Channels) -> None:
    customer = await channels.shopper()
    await customer.ok("POST", "/v1/carts")
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    mine = await till.ok("POST", f"/v1/carts/{cart['id']}/claim", {"customer_id": customer.id})
    card = {"tenders": [{"type": "card", "payment_method": "pm_ok"}]}
    answer = await customer.post(f"/v1/carts/{mine['id']}/checkout", card)
    assert _code(answer) == (422, "delivery_not_offered")
    assert (await till.post(f"/v1/carts/{mine['id']}/checkout", card)).status_code == 201


# --- gift cards -------------------------------------------------------------------------------------------------------


async def _gift_card(admin: Channel, amount: int, currency: str = "USD") -> Any:
    return await admin.ok("POST", "/v1/gift-cards", {"balance": {"amount": amount, "currency": currency}})


async def test_a_cart_remembers_a_gift_card_and_not_its_code(app: Channel, admin: Channel, channels: Channels) -> None:
    gift, small = await _gift_card(admin, 700), await _gift_card(admin, 100)
    cart = await app.cart({"sku": await channels.product({"DC1": 1}, price=1000)}, ship=True)
    path, token = f"/v1/carts/{cart['id']}/gift-cards", cart["token"]
    for card in (gift, gift, small):
        seen = await app.ok("POST", path, {"code": card["code"].lower()}, token=token)
    assert [(each["id"], each["last4"]) for each in seen["gift_cards"]] == [
        (card["id"], card["code"][-4:]) for card in (gift, small)
    ]
    assert gift["code"] not in str(seen)
    answer = await app.check_out(cart, {"type": "gift_card"}, {"type": "card", "payment_method": "pm_ok"})
    assert (answer.status_code, answer.json()["payment_state"]) == (201, "partially_captured"), answer.text
    for card in (gift, small):
        assert (await app.ok("POST", "/v1/gift-cards/lookup", {"code": card["code"]}))["balance"]["amount"] == 0


async def test_a_gift_card_that_cannot_be_spent_is_not_remembered(app: Channel, admin: Channel) -> None:
    cart = await app.cart()
    path, token = f"/v1/carts/{cart['id']}/gift-cards", cart["token"]
    for code in ("0000-0000-0000-0000", (await _gift_card(admin, 1, "EUR"))["code"]):
        answer = await app.post(path, {"code": code}, token=token)
        assert _code(answer) == (422, "gift_card_not_usable")
        assert answer.json()["errors"][0]["pointer"] == "/code"
    known = await _gift_card(admin, 1)
    await app.ok("POST", path, {"code": known["code"]}, token=token)
    assert (await app.ok("DELETE", f"{path}/{known['id']}", token=token))["gift_cards"] == []
    assert _code(await app.delete(f"{path}/{known['id']}", token=token)) == (404, "not_found")
    for _ in range(5):
        await app.ok("POST", path, {"code": (await _gift_card(admin, 1))["code"]}, token=token)
    answer = await app.post(path, {"code": (await _gift_card(admin, 1))["code"]}, token=token)
    assert _code(answer) == (422, "too_many_gift_cards")


async def test_a_gift_card_without_a_code_is_one_of_the_carts(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    answer = await app.check_out(cart, {"type": "gift_card"})
    assert _code(answer) == (422, "gift_card_not_usable")
    named = {"type": "gift_card", "amount": {"amount": 1, "currency": "USD"}}
    assert _code(await app.check_out(cart, named)) == (422, "tender_mismatch")


async def test_a_parcel_that_has_no_price_in_the_currency_is_not_offered(app: Channel, admin: Channel) -> None:
    sku = await _product(admin, prices=[{"amount": 100, "currency": "ISK"}])
    cart = await _cart_in(app, "ISK", {"sku": sku})
    answer = await app.put(f"/v1/carts/{cart['id']}/delivery", SHIP, token=cart["token"])
    assert _code(answer) == (422, "delivery_not_offered")


# --- problems ---------------------------------------------------------------------------------------------------------


def _problems(cart: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each["code"], each["sku"]) for each in cart["problems"]]


async def test_a_cart_tells_that_it_lacks_a_delivery(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku})
    assert _problems(cart) == [("delivery_required", sku)]
    assert cart["problems"][0]["line_id"] == cart["lines"][0]["id"]


async def test_a_cart_tells_what_is_out_of_stock(app: Channel, channels: Channels) -> None:
    enough, short = await channels.product({"DC1": 2}), await channels.product({"DC1": 2})
    cart = await app.cart({"sku": enough, "quantity": 2}, {"sku": short, "quantity": 3}, ship=True)
    assert _problems(cart) == [("out_of_stock", short)]


async def test_a_tills_cart_tells_what_is_not_on_its_own_shelf(till: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 5})
    assert _problems(await till.cart({"sku": sku})) == [("out_of_stock", sku)]


async def test_a_cart_tells_what_lost_its_price(app: Channel, channels: Channels, database: Database) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku}, ship=True)
    async with database.connection() as db:
        await db.execute(
            "DELETE FROM commercehub.prices USING commercehub.variants WHERE variant_id = id AND sku = $1", sku
        )
    assert _problems(await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])) == [("no_price", sku)]


async def test_a_cart_tells_that_its_delivery_is_not_offered(app: Channel, admin: Channel) -> None:
    sku = await _product(admin, prices=[{"amount": 100, "currency": "ISK"}])
    cart = await _cart_in(app, "ISK")
    await app.ok("PUT", f"/v1/carts/{cart['id']}/delivery", SHIP, token=cart["token"])
    filled = await app.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"])
    assert ("delivery_not_offered", sku) in _problems(filled)


# --- at once ----------------------------------------------------------------------------------------------------------


async def test_a_version_counts_the_edits_and_is_the_etag(app: Channel, channels: Channels) -> None:
    cart = await app.ok("POST", "/v1/carts")
    path, token = f"/v1/carts/{cart['id']}", cart["token"]
    for version in (2, 3, 4):
        answer = await app.post(f"{path}/lines", {"sku": await channels.product()}, token=token)
        assert (answer.json()["version"], answer.headers["etag"]) == (version, f'"{version}"')
    assert (await app.get(path, token=token)).headers["etag"] == '"4"'


@pytest.mark.parametrize("etag", ['"{}"', 'W/"{}"', "{}", "*"])
async def test_an_edit_of_the_version_that_was_seen_is_taken(etag: str, app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()})
    path = f"/v1/carts/{cart['id']}/lines/{cart['lines'][0]['id']}"
    headers = {"If-Match": etag.format(cart["version"])}
    assert (await app.patch(path, {"quantity": 2}, token=cart["token"], headers=headers)).status_code == 200


async def test_an_edit_of_an_older_version_is_told_the_current_one(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()})
    path = f"/v1/carts/{cart['id']}/lines/{cart['lines'][0]['id']}"
    answer = await app.delete(path, token=cart["token"], headers={"If-Match": f'"{cart["version"] - 1}"'})
    assert (_code(answer), answer.json()["version"]) == ((412, "version_conflict"), cart["version"])


async def test_two_devices_that_edit_one_cart_at_once_lose_no_line(app: Channel, channels: Channels) -> None:
    skus = [await channels.product() for _ in range(5)]
    cart = await app.cart()
    path, token = f"/v1/carts/{cart['id']}", cart["token"]
    edits = [app.ok("POST", f"{path}/lines", {"sku": sku}, token=token) for sku in [*skus, *skus, *skus, *skus]]
    await asyncio.gather(*edits)
    both = await app.ok("GET", path, token=token)
    assert sorted((line["sku"], line["quantity"]) for line in both["lines"]) == sorted((sku, 4) for sku in skus)
    assert both["version"] == cart["version"] + 20


async def test_of_many_edits_of_one_version_at_once_exactly_one_is_taken(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product()})
    path = f"/v1/carts/{cart['id']}/lines/{cart['lines'][0]['id']}"
    headers = {"If-Match": f'"{cart["version"]}"'}
    edits = [app.patch(path, {"quantity": n}, token=cart["token"], headers=headers) for n in range(2, 12)]
    statuses = [answer.status_code for answer in await asyncio.gather(*edits)]
    assert sorted(statuses) == [200] + [412] * 9


async def test_a_cart_that_is_checked_out_does_not_change(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 5})
    cart = await app.cart({"sku": sku}, ship=True)
    await app.check_out(cart, {"type": "card", "payment_method": "pm_ok"})
    answer = await app.post(f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"])
    assert _code(answer) == (409, "cart_already_checked_out")
    kept = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert (kept["state"], kept["lines"][0]["quantity"]) == ("checked_out", 1)
