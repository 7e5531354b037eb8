"""One call that makes an order of a cart: what it costs in statements, what it refuses, and what it leaves behind."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from asyncpg import Connection

import payments
from commercehub import ids
from commercehub.database import Database
from commercehub.jobs import orders
from commercehub.workflows.parts import Hub
from tests.client import SHIP_TO, Channel, Channels, Statements

CARD = {"type": "card", "payment_method": "pm_ok"}
DECLINED = {"type": "card", "payment_method": "pm_declined"}
CASH = {"type": "cash"}


async def test_availability_costs_one_statement(app: Channel, channels: Channels, statements: Statements) -> None:
    sku = await channels.product({"DC1": 1})
    await app.get(f"/v1/availability?sku={sku}")
    async with statements.counted() as seen:
        await app.ok("GET", f"/v1/availability?sku={sku}&sku=TEE-S")
    assert len(seen) == 1


async def test_adding_a_line_costs_five_statements_at_most(
    app: Channel, channels: Channels, statements: Statements
) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku})
    async with statements.counted() as seen:
        await app.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"])
    assert len(seen) <= 5


async def test_a_checkout_with_a_local_tender_costs_twelve_statements_at_most(
    till: Channel, channels: Channels, drawer: str, statements: Statements
) -> None:
    skus = [await channels.product({"S1": 9}) for _ in range(2)]
    # A connection's first look at a type of parameter is a question of the driver's own.
    await till.check_out(await till.cart(*({"sku": sku} for sku in skus)), CASH, more={"register_id": drawer})
    cart = await till.cart(*({"sku": sku} for sku in skus))
    async with statements.counted() as seen:
        answer = await till.check_out(cart, CASH, more={"register_id": drawer})
    assert (answer.status_code, len(seen) <= 12) == (201, True), "\n".join(" ".join(s.split())[:90] for s in seen)


async def test_a_checkout_with_a_card_costs_twenty_statements_at_most(
    app: Channel, channels: Channels, statements: Statements
) -> None:
    skus = [await channels.product({"DC1": 9}) for _ in range(2)]
    await app.check_out(await app.cart(*({"sku": sku} for sku in skus), ship=True), CARD)
    cart = await app.cart(*({"sku": sku} for sku in skus), ship=True)
    async with statements.counted() as seen:
        answer = await app.check_out(cart, CARD)
    assert (answer.status_code, len(seen) <= 20) == (201, True), seen


async def test_a_declined_card_leaves_nothing_and_another_buys_the_same_cart(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku}, ship=True)
    declined = await app.check_out(cart, DECLINED)
    assert (declined.status_code, declined.json()["code"]) == (402, "payment_declined")
    assert declined.json()["decline_code"] == "card_declined"
    assert await channels.level(sku, "DC1") == (1, 0)
    bought = await app.check_out(cart, CARD)
    assert (bought.status_code, bought.json()["state"]) == (201, "placed")
    assert await channels.level(sku, "DC1") == (1, 1)


async def test_a_declined_checkout_is_the_same_answer_again(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    first = await app.check_out(cart, DECLINED, key="declined-once")
    again = await app.check_out(cart, DECLINED, key="declined-once")
    assert (again.status_code, again.content) == (402, first.content)
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_repeated_checkout_is_the_same_answer_to_the_byte(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 5})}, ship=True)
    first = await app.check_out(cart, CARD, key="buy-once")
    again = await app.check_out(cart, CARD, key="buy-once")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"


async def test_the_same_key_with_another_body_is_refused(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 5})}, ship=True)
    await app.check_out(cart, CARD, key="one-body")
    other = await app.check_out(cart, CARD, key="one-body", more={"email": "eve@example.com"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_another_key_on_a_cart_that_made_an_order_names_the_order(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 5})}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    again = await app.check_out(cart, CARD)
    assert again.status_code == 409
    assert (again.json()["code"], again.json()["order_id"], again.json()["state"]) == (
        "cart_already_checked_out",
        order["id"],
        "placed",
    )


async def test_a_checkout_needs_a_key(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 5})}, ship=True)
    answer = await app.check_out(cart, CARD, key="")
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")


async def test_what_is_out_of_stock_touches_no_tender(app: Channel, channels: Channels, database: Database) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku, "quantity": 2}, ship=True)
    assert [problem["code"] for problem in cart["problems"]] == ["out_of_stock"]
    answer = await app.check_out(cart, CARD)
    assert (answer.status_code, answer.json()["code"]) == (409, "out_of_stock")
    assert answer.json()["lines"] == [{"sku": sku, "requested": 2, "available": 1}]
    async with database.connection() as db:
        assert await _orders_of(db, cart) == 0


async def test_safety_stock_binds_an_app_and_not_a_till(
    app: Channel, till: Channel, channels: Channels, drawer: str, database: Database
) -> None:
    sku = await channels.product({"S1": 1})
    async with database.connection() as db:
        await db.execute("UPDATE inventory.positions SET safety_stock = 1 WHERE sku = $1", sku)
    wanted = await app.cart({"sku": sku}, ship=True)
    assert (await app.check_out(wanted, CARD)).json()["code"] == "out_of_stock"
    in_hand = await till.cart({"sku": sku})
    assert (await till.check_out(in_hand, CASH, more={"register_id": drawer})).status_code == 201


async def test_an_order_splits_over_locations_when_no_single_one_has_all(app: Channel, channels: Channels) -> None:
    left, right = await channels.product({"DC1": 1}), await channels.product({"S2": 1})
    cart = await app.cart({"sku": left}, {"sku": right}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    places = {work["location_id"] for work in order["fulfillments"]}
    assert places == {await channels.location("DC1"), await channels.location("S2")}


async def test_each_parcel_captures_its_share_and_together_the_total(
    app: Channel, warehouse: Channel, channels: Channels, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    left, right = await channels.product({"DC1": 1}, price=333), await channels.product({"S2": 1}, price=667)
    cart = await app.cart({"sku": left}, {"sku": right}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    states = []
    for work in order["fulfillments"]:
        await _ship(warehouse, work["id"])
        await run_jobs()
        states.append((await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"]))["payment_state"])
    assert states == ["partially_captured", "paid"]
    payment = (await channels["admin"].ok("GET", f"/v1/payments?order_id={order['id']}"))["data"][0]
    assert payment["captured"] == order["total"]
    assert [operation["kind"] for operation in payment["operations"]] == ["authorize", "capture", "capture"]


async def test_the_price_that_the_shopper_saw_can_be_insisted_on(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1}, price=1000)}, ship=True)
    seen = {"expected_total": {"amount": 1, "currency": "USD"}}
    answer = await app.check_out(cart, CARD, more=seen)
    assert (answer.status_code, answer.json()["code"], answer.json()["total"]) == (
        409,
        "total_changed",
        cart["total"],
    )


@pytest.mark.parametrize(
    ("tenders", "code"),
    [
        ([], "tender_mismatch"),
        ([{**CARD, "amount": {"amount": 1, "currency": "USD"}}], "tender_mismatch"),
        ([{**CARD, "amount": {"amount": 10**9, "currency": "USD"}}], "tender_mismatch"),
        ([{**CARD, "amount": {"amount": 100, "currency": "EUR"}}], "tender_mismatch"),
        ([CARD, CARD], "tender_mismatch"),
        ([{**CARD, "processor": "nobody"}], "unknown_processor"),
        ([{"type": "card", "payment_method": "4242424242424242"}], "secret_in_request"),
    ],
)
async def test_tenders_that_do_not_fit_are_refused(
    app: Channel, channels: Channels, tenders: list[Any], code: str
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    answer = await app.check_out(cart, *tenders)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_guest_gives_an_email_or_a_phone(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    answer = await app.check_out(cart, CARD, more={"email": None})
    assert (answer.status_code, answer.json()["code"]) == (422, "contact_required")


async def test_an_empty_cart_and_one_without_a_delivery_are_refused(app: Channel, channels: Channels) -> None:
    empty = await app.cart(ship=True)
    assert (await app.check_out(empty, CARD)).json()["code"] == "empty_cart"
    nowhere = await app.cart({"sku": await channels.product({"DC1": 1})})
    assert (await app.check_out(nowhere, CARD)).json()["code"] == "delivery_required"


async def test_cash_needs_an_open_drawer(till: Channel, channels: Channels, drawer: str) -> None:
    count = {"counted": {"amount": 0, "currency": "USD"}}
    await till.ok("POST", f"/v1/registers/{drawer}/sessions/current/close", count)
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    answer = await till.check_out(cart, CASH, more={"register_id": drawer})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_open_session")


async def test_a_register_that_is_not_here_is_not_found_whatever_pays(till: Channel, channels: Channels) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    nowhere = ids.show("reg", ids.new())
    assert (await till.check_out(cart, CARD, more={"register_id": nowhere})).status_code == 404


async def test_a_parcel_that_has_no_price_in_the_currency_is_not_sent(app: Channel, channels: Channels) -> None:
    cart = await app.ok("POST", "/v1/carts", {"currency": "JPY"})
    sku = await channels.product({"DC1": 1}, prices=[{"amount": 900, "currency": "JPY"}])
    place = {"method": "ship", "address": SHIP_TO}
    await app.send("PUT", f"/v1/carts/{cart['id']}/delivery", place, token=cart["token"])
    await app.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"])
    answer = await app.check_out(cart, CARD)
    assert (answer.status_code, answer.json()["code"]) in {(422, "delivery_not_offered"), (422, "delivery_required")}


async def test_a_checkout_of_a_version_that_is_gone_is_refused(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    answer = await app.check_out(cart, CARD, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.json()["code"]) == (412, "version_conflict")


async def test_a_card_sale_stands_in_the_report_before_it_is_captured(
    till: Channel, channels: Channels, drawer: str
) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1}, price=1000, tax_class="exempt")})
    assert (await till.check_out(cart, CARD, more={"register_id": drawer})).status_code == 201
    report = await till.ok("GET", f"/v1/registers/{drawer}/sessions/current")
    assert {each["type"]: each["expected"]["amount"] for each in report["tenders"]} == {"cash": 0, "card": 1000}


async def test_a_sku_is_found_as_the_database_folds_its_case(channels: Channels) -> None:
    place = await channels.location("DC1")
    for sku in ("ΤΑΣ-1Σ", "İX1"):
        price = [{"amount": 1, "currency": "USD"}]
        await channels["admin"].ok("POST", "/v1/products", {"title": sku, "variants": [{"sku": sku, "prices": price}]})
        receipt = {"location_id": place, "lines": [{"sku": sku, "quantity": 1}]}
        assert (await channels["admin"].post("/v1/stock/receipts", receipt)).status_code == 201


async def test_cash_is_for_tills(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    assert (await app.check_out(cart, CASH)).status_code == 403


async def test_a_till_sells_by_card_and_the_goods_leave_when_it_is_authorized(
    till: Channel, channels: Channels, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    sku = await channels.product({"S1": 2})
    cart = await till.cart({"sku": sku})
    order = (await till.check_out(cart, CARD)).json()
    assert (order["state"], order["fulfillment_state"]) == ("completed", "fulfilled")
    assert await channels.level(sku, "S1") == (1, 0)
    await run_jobs()
    assert (await till.ok("GET", f"/v1/orders/{order['id']}"))["payment_state"] == "paid"


async def test_cash_and_card_together_pay_one_order(till: Channel, channels: Channels, drawer: str) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 2}, price=1000, tax_class="exempt")})
    part = {"type": "cash", "amount": {"amount": 400, "currency": "USD"}}
    order = (await till.check_out(cart, part, CARD, more={"register_id": drawer})).json()
    payments = (await till.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    assert {each["tender"]: each["amount"]["amount"] for each in payments} == {"cash": 400, "card": 600}


async def test_a_declined_card_beside_cash_takes_no_cash(till: Channel, channels: Channels, drawer: str) -> None:
    before = (await till.ok("GET", f"/v1/registers/{drawer}/sessions/current"))["tenders"][0]["expected"]
    cart = await till.cart({"sku": await channels.product({"S1": 2}, price=1000)})
    part = {"type": "cash", "amount": {"amount": 400, "currency": "USD"}}
    assert (await till.check_out(cart, part, DECLINED, more={"register_id": drawer})).status_code == 402
    after = (await till.ok("GET", f"/v1/registers/{drawer}/sessions/current"))["tenders"][0]["expected"]
    assert after == before


async def test_goods_that_cost_nothing_need_no_tender(till: Channel, channels: Channels) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1}, price=0)})
    answer = await till.check_out(cart)
    assert (answer.status_code, answer.json()["payment_state"]) == (201, "paid")


async def test_a_confirmation_is_sent_once(
    app: Channel, channels: Channels, api: httpx.AsyncClient, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await app.check_out(cart, CARD, more={"email": "once@example.com"})).json()
    await run_jobs()
    await run_jobs()
    mail = (await api.get("/demo/mailbox", headers={"Accept": "application/json"})).json()["data"]
    assert [(each["to"], order["number"] in each["subject"]) for each in mail if each["order_id"] == order["id"]] == [
        ("once@example.com", True)
    ]


async def test_where_somebody_lives_stands_in_one_table_alone(
    app: Channel, channels: Channels, database: Database, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})})
    canary = "Canary Wharf 4711"
    place = {"method": "ship", "address": {**SHIP_TO, "line1": canary, "name": canary}}
    await app.ok("PUT", f"/v1/carts/{cart['id']}/delivery", place, token=cart["token"])
    assert (await app.check_out(cart, CARD, more={"email": "canary4711@example.com"})).status_code == 201
    await run_jobs()
    async with database.connection() as db:
        assert await _tables_with(db, "anary") == {"commercehub.order_contacts"}


async def _ship(warehouse: Channel, work: str) -> None:
    lines = (await warehouse.ok("GET", f"/v1/fulfillments/{work}"))["lines"]
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/start")
    picked = [{"sku": line["sku"], "quantity": line["quantity"]} for line in lines]
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/pick", {"lines": picked})
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/pack")
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/ship", {})


async def _orders_of(db: Connection, cart: Any) -> int:
    count: int = await db.fetchval(
        "SELECT count(*) FROM commercehub.orders WHERE cart_id = $1", ids.parse("cart", cart["id"])
    )
    return count


async def _tables_with(db: Connection, text: str) -> set[str]:
    tables = await db.fetch(
        "SELECT table_schema || '.' || table_name AS name FROM information_schema.tables"
        " WHERE table_schema IN ('commercehub', 'inventory', 'payments', 'fulfillment')"
    )
    return {
        row["name"]
        for row in tables
        if await db.fetchval(
            f"SELECT EXISTS (SELECT FROM {row['name']} AS t WHERE t::text LIKE '%' || $1 || '%')", text
        )
    }


async def test_cash_that_was_counted_before_its_sale_was_known_is_what_the_count_had_over(
    till: Channel, channels: Channels, drawer: str, hub: Hub
) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 2}, price=1000, tax_class="exempt")})
    part = {"type": "cash", "amount": {"amount": 400, "currency": "USD"}}
    waiting = await till.check_out(
        cart, part, {"type": "card", "payment_method": "pm_requires_action"}, more={"register_id": drawer}
    )
    counted = {"counted": {"amount": 400, "currency": "USD"}}
    report = await till.ok("POST", f"/v1/registers/{drawer}/sessions/current/close", counted)
    assert report["tenders"][0]["over_short"]["amount"] == 400
    async with httpx.AsyncClient(trust_env=False) as payer:
        await payer.post(waiting.json()["next_action"]["url"], data={"decision": "approve"})
    async with hub.database.connection() as db:
        await db.execute("UPDATE payments.open_operations SET next_try_at = now()")
    await orders.resolve_payments(hub)
    assert (await till.ok("GET", f"/v1/orders/{waiting.json()['id']}"))["state"] == "completed"
    async with hub.database.connection() as db:
        assert await payments.verify(db) == []


async def test_a_sale_paid_in_three_ways_is_one_sale(till: Channel, channels: Channels, drawer: str) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 2}, price=1000, tax_class="exempt")})
    part = {"type": "cash", "amount": {"amount": 300, "currency": "USD"}}
    assert (await till.check_out(cart, part, part, CASH, more={"register_id": drawer})).status_code == 201
    report = await till.ok("GET", f"/v1/registers/{drawer}/sessions/current")
    assert (report["sales_count"], report["sales"]["amount"]) == (1, 1000)
