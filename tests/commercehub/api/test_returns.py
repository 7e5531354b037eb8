"""Returns: who may ask for what, where goods go, what is given back, and what is refused."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest
from asyncpg import Connection

import payments
from commercehub import ids
from commercehub.database import Database
from commercehub.seed import planting
from commercehub.settings import Settings
from commercehub.workflows import payment_results
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD, serving
from tests.conftest import SECRET
from tests.serving import findings

Jobs = Callable[[], Awaitable[None]]


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def asking(order: Mapping[str, Any], quantity: int = 1, **more: Any) -> dict[str, Any]:
    """A return of units of the order's first line."""
    line = {"line_id": order["lines"][0]["id"], "quantity": quantity, "reason": "too_big"}
    return {"order_id": order["id"], "method": "mail", "lines": [line], "resolution": "refund", **more}


class Shop:
    """What was sold, and how it comes back."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.sku = ""
        self.register = ""

    async def sold(self, quantity: int = 1, *, price: int = 1_000) -> Any:
        """A till's sale for cash."""
        self.sku = await self.channels.product({"S1": quantity}, price=price, tax_class="exempt")
        self.register = await self.channels.drawer()
        cart = await self.channels["store"].cart({"sku": self.sku, "quantity": quantity})
        answer = await self.channels["store"].check_out(cart, {"type": "cash"}, more={"register_id": self.register})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def counter(self, order: Mapping[str, Any], quantity: int = 1, **more: Any) -> dict[str, Any]:
        """Units that lie on the counter of the till that sold them."""
        return asking(order, quantity, receive=True, method="in_store", register_id=self.register, **more)

    async def shipped(self, quantity: int = 1, *, deliver: bool = True) -> tuple[Any, str]:
        """An app's order that left the warehouse, and the token of its cart; nothing is captured yet."""
        app, warehouse = self.channels["app"], self.channels["warehouse"]
        self.sku = await self.channels.product({"DC1": quantity}, price=1_000, tax_class="exempt")
        cart = await app.cart({"sku": self.sku, "quantity": quantity}, ship=True)
        order = (await app.check_out(cart, CARD)).json()
        path = f"/v1/fulfillments/{order['fulfillments'][0]['id']}"
        await warehouse.ok("POST", f"{path}/start")
        await warehouse.ok("POST", f"{path}/pick", {"lines": [{"sku": self.sku, "quantity": quantity}]})
        for step in ("pack", "ship", *(("deliver",) if deliver else ())):
            await warehouse.ok("POST", f"{path}/{step}")
        return order, str(cart["token"])

    async def receive(
        self, back: Mapping[str, Any], *lines: Mapping[str, Any], code: str = "DC1", **options: Any
    ) -> Any:
        """The warehouse receives: all that was asked back for unless lines are given."""
        every = [{"line_id": each["line_id"], "quantity": each["quantity"]} for each in back["lines"]]
        body = {"location_id": await self.channels.location(code), "lines": list(lines) or every}
        return await self.channels["warehouse"].post(f"/v1/returns/{back['id']}/receive", body, **options)


@pytest.fixture
def shop(channels: Channels) -> Shop:
    return Shop(channels)


async def test_goods_go_where_they_were_found_to_belong(till: Channel, shop: Shop, admin: Channel) -> None:
    sold = await shop.sold(4)
    back = await till.ok("POST", "/v1/returns", asking(sold, 4))
    line = back["lines"][0]["line_id"]
    parts = [
        {"line_id": line, "quantity": 1},
        {"line_id": line, "quantity": 2, "disposition": "damaged"},
        {"line_id": line, "quantity": 1, "disposition": "quarantine"},
    ]
    came = (await shop.receive(back, *parts)).json()
    assert (came["state"], came["amount"]) == ("refunded", usd(4_000))
    (shown,) = came["lines"]
    assert (shown["received"], shown["restocked"], shown["damaged"], shown["quarantined"]) == (4, 1, 2, 1)
    assert await shop.channels.level(shop.sku, "DC1") == (1, 0)
    movements = await admin.ok("GET", f"/v1/stock/movements?sku={shop.sku}")
    assert [(each["bucket"], each["delta"], each["kind"], each["reference"]) for each in movements["data"][:3]] == [
        ("quarantine", 1, "return", back["id"]),
        ("damaged", 2, "return", back["id"]),
        ("on_hand", 1, "return", back["id"]),
    ]


async def test_no_more_comes_back_than_was_sold_however_it_is_asked(
    till: Channel, shop: Shop, database: Database
) -> None:
    sold = await shop.sold(3)
    first = await till.ok("POST", "/v1/returns", asking(sold, 2))
    refused = await till.post("/v1/returns", asking(sold, 2))
    assert code_of(refused) == (409, "not_returnable")
    assert refused.json()["lines"] == [{"line_id": sold["lines"][0]["id"], "requested": 2, "returnable": 1}]
    await till.ok("POST", "/v1/returns", asking(sold, 1))
    await till.ok("POST", f"/v1/returns/{first['id']}/cancel")
    again = await till.ok("POST", "/v1/returns", shop.counter(sold, 2))
    assert again["amount"] == usd(2_000)
    assert code_of(await till.post("/v1/returns", asking(sold, 1))) == (409, "not_returnable")
    listed = await till.ok("GET", f"/v1/returns?order_id={sold['id']}")
    assert [each["state"] for each in listed["data"]] == ["cancelled", "requested", "refunded"]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_what_does_not_come_can_be_asked_back_for_again(till: Channel, shop: Shop) -> None:
    sold = await shop.sold(3)
    back = await till.ok("POST", "/v1/returns", asking(sold, 3))
    line = back["lines"][0]["line_id"]
    too_many = await shop.receive(back, {"line_id": line, "quantity": 4})
    assert code_of(too_many) == (409, "not_returnable")
    came = (await shop.receive(back, {"line_id": line, "quantity": 1})).json()
    assert came["amount"] == usd(1_000)
    assert code_of(await shop.receive(back)) == (409, "invalid_transition")
    assert (await till.ok("POST", "/v1/returns", asking(sold, 2)))["state"] == "requested"


async def test_a_key_that_is_sent_again_gives_nothing_back_twice(till: Channel, shop: Shop) -> None:
    sold = await shop.sold(2)
    body = shop.counter(sold, 1)
    first, second = [await till.post("/v1/returns", body, key=f"once {sold['id']}") for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (await till.ok("GET", f"/v1/orders/{sold['id']}"))["payment_state"] == "partially_refunded"


async def test_a_refund_waits_for_the_capture_under_way_and_comes_once(
    shop: Shop, app: Channel, run_jobs: Jobs, database: Database
) -> None:
    order, token = await shop.shipped(2)
    back = await app.ok("POST", "/v1/returns", asking(order, 1), token=token)
    came = (await shop.receive(back)).json()
    assert [(each["state"], each["amount"]) for each in came["refunds"]] == [("owed", usd(1_000))]
    await run_jobs()
    now = await app.ok("GET", f"/v1/returns/{back['id']}", token=token)
    assert [(each["state"], each["amount"]) for each in now["refunds"]] == [("succeeded", usd(1_000))]
    assert (await app.ok("GET", f"/v1/orders/{order['id']}", token=token))["payment_state"] == "partially_refunded"
    async with database.connection() as db:
        assert await findings(db) == []


async def test_what_is_on_its_way_may_be_sent_back(shop: Shop, app: Channel) -> None:
    order, token = await shop.shipped(deliver=False)
    assert (await app.ok("POST", "/v1/returns", asking(order), token=token))["state"] == "requested"


async def test_what_never_left_cannot_come_back(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    assert code_of(await app.post("/v1/returns", asking(order), token=cart["token"])) == (409, "not_returnable")


AGE = """
UPDATE fulfillment.fulfillments SET changed_at = changed_at - interval '31 days' WHERE reference = $1
"""


async def test_after_thirty_days_it_is_too_late(shop: Shop, till: Channel, database: Database) -> None:
    order, _ = await shop.shipped()
    async with database.connection() as db:
        await db.execute(AGE, ids.parse("ord", order["id"]))
    refused = await till.post("/v1/returns", asking(order))
    assert code_of(refused) == (409, "return_window_closed")
    assert refused.json()["line_id"] == order["lines"][0]["id"]


async def test_a_guest_gives_back_their_own_and_nobody_elses(shop: Shop, app: Channel) -> None:
    order, token = await shop.shipped()
    other = await app.cart()
    for stranger in (None, other["token"]):
        assert code_of(await app.post("/v1/returns", asking(order), token=stranger)) == (404, "not_found")
    back = await app.ok("POST", "/v1/returns", asking(order), token=token)
    path = f"/v1/returns/{back['id']}"
    for method, at in (("GET", path), ("GET", f"{path}/preview"), ("POST", f"{path}/cancel")):
        assert code_of(await app.send(method, at, token=other["token"])) == (404, "not_found")
    assert code_of(await app.post(f"{path}/receive", {}, token=token)) == (403, "forbidden")
    asked = asking(order, receive=True)
    assert code_of(await app.post("/v1/returns", asked, token=token)) == (403, "forbidden")
    assert code_of(await app.post("/v1/returns/lookup", {"number": order["number"]})) == (403, "forbidden")
    assert (await app.ok("POST", f"{path}/cancel", token=token))["state"] == "cancelled"
    assert code_of(await app.post(f"{path}/cancel", token=token)) == (409, "invalid_transition")


async def test_a_till_receives_at_its_own_place_only(shop: Shop, till: Channel, channels: Channels) -> None:
    sold = await shop.sold()
    back = await till.ok("POST", "/v1/returns", asking(sold))
    body = {"lines": [{"line_id": sold["lines"][0]["id"], "quantity": 1}], "register_id": shop.register}
    elsewhere = {**body, "location_id": await channels.location("S2")}
    assert code_of(await till.post(f"/v1/returns/{back['id']}/receive", elsewhere)) == (404, "not_found")
    assert (await till.ok("POST", f"/v1/returns/{back['id']}/receive", body))["state"] == "refunded"
    assert await channels.level(shop.sku, "S1") == (1, 0)


async def test_only_a_place_that_takes_returns_does(shop: Shop, till: Channel, admin: Channel) -> None:
    place = await admin.ok(
        "POST",
        "/v1/locations",
        {
            "code": f"X{ids.new().hex[:10]}",
            "name": "A depot",
            "kind": "warehouse",
            "address": {"name": "X", "line1": "1 St", "city": "Austin", "postal_code": "78701", "country": "US"},
            "latitude": 30.0,
            "longitude": -97.0,
            "timezone": "America/Chicago",
            "capabilities": ["ship"],
            "opening_hours": {},
        },
    )
    sold = await shop.sold()
    back = await till.ok("POST", "/v1/returns", asking(sold))
    body = {"location_id": place["id"], "lines": [{"line_id": sold["lines"][0]["id"], "quantity": 1}]}
    refused = await admin.post(f"/v1/returns/{back['id']}/receive", body)
    assert code_of(refused) == (422, "returns_not_taken")


@pytest.mark.parametrize("resolution", ["exchange", "store_credit"])
async def test_what_cannot_be_offered_is_refused_cleanly(resolution: str, shop: Shop, till: Channel) -> None:
    sold = await shop.sold()
    refused = await till.post("/v1/returns", asking(sold, resolution=resolution))
    assert code_of(refused) == (422, "resolution_not_offered")


async def test_a_return_may_become_credit_that_pays_the_next_cart(
    shop: Shop, till: Channel, channels: Channels, database: Database
) -> None:
    email = f"{ids.new().hex}@example.com"
    customer = await channels["call_center"].ok("POST", "/v1/customers", {"email": email})
    sold = await shop.sold(2)
    statement = "UPDATE commercehub.orders SET customer_id = $2 WHERE id = $1"
    async with database.connection() as db:
        await db.execute(statement, ids.parse("ord", sold["id"]), ids.parse("cus", customer["id"]))
    asked = asking(sold, 2, resolution="store_credit", receive=True, method="in_store")
    back = await till.ok("POST", "/v1/returns", asked)
    assert (back["state"], back["amount"], back["refunds"][0]["tender"]) == ("closed", usd(2_000), "store_credit")
    path = f"/v1/customers/{customer['id']}/store-credit"
    credit = await till.ok("GET", path)
    assert (credit["balance"], [each["order_id"] for each in credit["entries"]]) == (usd(2_000), [sold["id"]])
    # What became credit is not given back a second time.
    order = await till.ok("GET", f"/v1/orders/{sold['id']}")
    assert (order["payment_state"], order["fulfillment_state"]) == ("paid", "returned")
    (payment,) = (await till.ok("GET", f"/v1/payments?order_id={sold['id']}"))["data"]
    twice = await channels["admin"].post(f"/v1/payments/{payment['id']}/refund", {"reason": "by mistake"})
    assert code_of(twice) == (409, "nothing_to_refund")

    cart = await till.cart({"sku": await channels.product({"S1": 1}, price=1_500, tax_class="exempt")})
    mine = "UPDATE commercehub.carts SET customer_id = $2 WHERE id = $1"
    async with database.connection() as db:
        await db.execute(mine, ids.parse("cart", cart["id"]), ids.parse("cus", customer["id"]))
    bought = (await till.check_out(cart, {"type": "store_credit"})).json()
    assert bought["payment_state"] == "paid"
    assert (await till.ok("GET", path))["balance"] == usd(500)
    async with database.connection() as db:
        assert await findings(db) == []


@pytest.mark.parametrize("by", ["receipt", "number", "email", "phone"])
async def test_an_order_is_found_by_what_the_customer_has(by: str, channels: Channels, shop: Shop) -> None:
    phone = f"+1 {ids.new().int % 10**9:09d}"
    email = f"{ids.new().hex}@Example.com"
    cart = await channels["app"].cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await channels["app"].check_out(cart, CARD, more={"phone": phone, "email": email})).json()
    known = {
        "receipt": order["receipt_barcode"],
        "number": order["number"],
        "email": email.lower(),
        "phone": phone.replace(" ", "-"),
    }
    for name in ("store", "call_center", "warehouse", "admin"):
        found = await channels[name].ok("POST", "/v1/returns/lookup", {by: known[by]})
        assert [each["id"] for each in found["data"]] == [order["id"]]


async def test_a_look_up_wants_one_thing_and_may_find_nothing(till: Channel) -> None:
    assert code_of(await till.post("/v1/returns/lookup", {})) == (400, "invalid_request")
    assert code_of(await till.post("/v1/returns/lookup", {"number": "1", "email": "a@b.c"})) == (400, "invalid_request")
    for wanted in ({"receipt": "4006381333931"}, {"number": "0"}, {"email": "nobody@example.com"}):
        assert (await till.ok("POST", "/v1/returns/lookup", wanted))["data"] == []


async def test_where_goods_are_inspected_the_money_waits_for_it(settings: Settings, shop: Shop) -> None:
    sold = await shop.sold()
    async with serving(msgspec.structs.replace(settings, returns_are_inspected=True)) as http:
        till = Channel(http, planting.demo_secret(SECRET, "store"))
        back = await till.ok("POST", "/v1/returns", shop.counter(sold))
        assert (back["state"], back["amount"], back["refunds"]) == ("received", None, [])
        preview = await till.ok("GET", f"/v1/returns/{back['id']}/preview")
        assert (preview["amount"], preview["refunds"][0]["tender"]) == (usd(1_000), "cash")
        settled = await till.ok("POST", f"/v1/returns/{back['id']}/settle", {"register_id": shop.register})
        assert (settled["state"], settled["amount"]) == ("refunded", usd(1_000))
        assert code_of(await till.post(f"/v1/returns/{back['id']}/settle")) == (409, "invalid_transition")


async def test_staff_refund_a_payment_and_never_more_than_it_took(
    shop: Shop, till: Channel, admin: Channel, database: Database
) -> None:
    sold = await shop.sold()
    (payment,) = (await till.ok("GET", f"/v1/payments?order_id={sold['id']}"))["data"]
    path = f"/v1/payments/{payment['id']}"
    assert code_of(await till.post(f"{path}/refund", {"reason": "kind"})) == (403, "forbidden")
    assert code_of(await admin.post(f"{path}/capture", {"reason": "again"})) == (409, "invalid_transition")
    too_much = await admin.post(f"{path}/refund", {"reason": "kind", "amount": usd(1_001)})
    assert (code_of(too_much), too_much.json()["refundable"]) == ((409, "refund_too_large"), 1_000)
    part = await admin.ok("POST", f"{path}/refund", {"reason": "kind", "amount": usd(400)})
    assert (part["refunded"], part["operations"][-1]["state"]) == (usd(400), "succeeded")
    # What was given back already is not in what the goods bring.
    back = await till.ok("POST", "/v1/returns", shop.counter(sold))
    assert (back["state"], back["amount"]) == ("refunded", usd(600))
    async with database.connection() as db:
        assert await findings(db) == []


async def test_staff_capture_and_void_what_is_held(
    app: Channel, admin: Channel, channels: Channels, run_jobs: Jobs
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1}, price=1_000, tax_class="exempt")}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    (payment,) = (await admin.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    path = f"/v1/payments/{payment['id']}"
    await admin.ok("POST", f"{path}/capture", {"reason": "early", "amount": usd(300)})
    await run_jobs()
    await admin.ok("POST", f"{path}/void", {"reason": "the rest is a gift"})
    assert code_of(await admin.post(f"{path}/void", {"reason": "again"})) == (409, "invalid_transition")
    await run_jobs()
    await admin.ok("POST", f"{path}/refund", {"reason": "all of it"})
    await run_jobs()
    (now,) = (await admin.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    assert [(each["kind"], each["state"]) for each in now["operations"]] == [
        ("authorize", "succeeded"),
        ("capture", "succeeded"),
        ("void", "succeeded"),
        ("refund", "succeeded"),
    ]
    assert (now["captured"], now["refunded"]) == (usd(300), usd(300))


async def test_a_refund_that_the_processor_refuses_is_told_and_tried_anew_by_settling(
    shop: Shop, till: Channel, run_jobs: Jobs, database: Database
) -> None:
    order, _ = await shop.shipped()
    await run_jobs()
    back = await till.ok("POST", "/v1/returns", asking(order, receive=True, method="in_store"))
    order_id = ids.parse("ord", order["id"])

    async def refuse(db: Connection, now: datetime) -> None:
        (operation_id,) = await payments.open_operation_ids(db, reference=order_id)
        fact = payments.Fact(operation_id=operation_id, state=payments.OperationState.DECLINED)
        await payment_results.book(db, fact, order_id=order_id, now=now)

    await database.transaction(refuse)
    path = f"/v1/returns/{back['id']}"
    assert [each["state"] for each in (await till.ok("GET", path))["refunds"]] == ["declined"]
    timeline = await till.ok("GET", f"/v1/orders/{order['id']}/timeline")
    assert timeline["data"][-1]["type"] == "payment.refund_failed"
    await till.ok("POST", f"{path}/settle")
    assert code_of(await till.post(f"{path}/settle")) == (409, "invalid_transition")
    await run_jobs()
    refunds = (await till.ok("GET", path))["refunds"]
    assert [(each["state"], each["amount"]) for each in refunds] == [
        ("declined", usd(1_000)),
        ("succeeded", usd(1_000)),
    ]
    assert (await till.ok("GET", f"/v1/orders/{order['id']}"))["payment_state"] == "partially_refunded"
    async with database.connection() as db:
        assert await findings(db) == []


async def test_an_earlier_answer_is_not_for_whoever_has_the_same_key_and_no_token(shop: Shop, app: Channel) -> None:
    order, token = await shop.shipped()
    key = f"back-{order['id']}"
    first = await app.post("/v1/returns", asking(order), key=key, token=token)
    assert first.status_code == 201
    assert code_of(await app.post("/v1/returns", asking(order), key=key, token="0" * 64)) == (404, "not_found")
    assert (await app.post("/v1/returns", asking(order), key=key, token=token)).content == first.content


async def owned(database: Database, order: Mapping[str, Any], customer_id: str) -> None:
    """The order is a customer's."""
    statement = "UPDATE commercehub.orders SET customer_id = $2 WHERE id = $1"
    async with database.connection() as db:
        await db.execute(statement, ids.parse("ord", order["id"]), ids.parse("cus", customer_id))


async def store_credit(channels: Channels, customer_id: str) -> int:
    found = await channels["admin"].ok("GET", f"/v1/customers/{customer_id}/store-credit")
    return int(found["balance"]["amount"])


async def test_a_void_of_a_part_is_refused_and_one_without_an_amount_lets_go_of_all(
    app: Channel, admin: Channel, channels: Channels, run_jobs: Jobs, database: Database
) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1}, price=1_000, tax_class="exempt")}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    (payment,) = (await admin.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    total = payment["amount"]["amount"]
    path = f"/v1/payments/{payment['id']}/void"
    refused = await admin.post(path, {"reason": "half", "amount": usd(total // 2)})
    assert (code_of(refused), refused.json()["held"]) == ((422, "partial_void"), total)
    await admin.ok("POST", path, {"reason": "all of it"})
    await run_jobs()
    (now,) = (await admin.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    assert (now["state"], [(each["kind"], each["amount"]) for each in now["operations"]][1:]) == (
        "voided",
        [("void", usd(total))],
    )
    async with database.connection() as db:
        assert await findings(db) == []


async def test_credit_waits_for_the_capture_of_what_it_stands_for(
    shop: Shop, till: Channel, channels: Channels, run_jobs: Jobs, database: Database
) -> None:
    order, _ = await shop.shipped(2)
    _, customer = await channels.customer()
    await owned(database, order, customer["id"])
    asked = asking(order, 1, resolution="store_credit", receive=True, method="in_store")
    back = await till.ok("POST", "/v1/returns", asked)
    assert (back["state"], [(each["tender"], each["state"]) for each in back["refunds"]]) == (
        "closed",
        [("store_credit", "owed")],
    )
    assert await store_credit(channels, customer["id"]) == 0
    await run_jobs()
    now = await till.ok("GET", f"/v1/returns/{back['id']}")
    assert [(each["tender"], each["amount"], each["state"]) for each in now["refunds"]] == [
        ("store_credit", usd(1_000), "succeeded")
    ]
    assert await store_credit(channels, customer["id"]) == 1_000
    timeline = await till.ok("GET", f"/v1/orders/{order['id']}/timeline")
    told = [each["type"] for each in timeline["data"] if "credit" in each["type"]]
    assert told == ["payment.credit_owed", "payment.credited"]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_credit_for_money_that_never_comes_is_dropped(
    shop: Shop, till: Channel, admin: Channel, channels: Channels, run_jobs: Jobs, database: Database
) -> None:
    order, _ = await shop.shipped(1)
    _, customer = await channels.customer()
    await owned(database, order, customer["id"])
    order_id = ids.parse("ord", order["id"])

    async def refuse(db: Connection, now: datetime) -> None:
        (operation_id,) = await payments.open_operation_ids(db, reference=order_id)
        fact = payments.Fact(operation_id=operation_id, state=payments.OperationState.DECLINED)
        await payment_results.book(db, fact, order_id=order_id, now=now)

    await database.transaction(refuse)
    asked = asking(order, 1, resolution="store_credit", receive=True, method="in_store")
    back = await till.ok("POST", "/v1/returns", asked)
    assert [each["state"] for each in back["refunds"]] == ["owed"]
    (payment,) = (await admin.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    await admin.ok("POST", f"/v1/payments/{payment['id']}/void", {"reason": "the bank never pays"})
    await run_jobs()
    now = await till.ok("GET", f"/v1/returns/{back['id']}")
    assert (now["amount"], now["refunds"], await store_credit(channels, customer["id"])) == (usd(0), [], 0)
    timeline = await till.ok("GET", f"/v1/orders/{order['id']}/timeline")
    (dropped,) = [each for each in timeline["data"] if each["type"] == "payment.refund_dropped"]
    assert (dropped["changes"]["amount"], dropped["changes"]["return_id"]) == (usd(1_000), back["id"])
    async with database.connection() as db:
        assert await findings(db) == []


async def test_a_return_after_a_present_is_not_paid_out_of_goods_that_have_not_left(
    app: Channel,
    till: Channel,
    warehouse: Channel,
    admin: Channel,
    channels: Channels,
    run_jobs: Jobs,
    database: Database,
) -> None:
    skus = [await channels.product({code: 1}, price=1_000, tax_class="exempt") for code in ("DC1", "S1")]
    cart = await app.cart(*({"sku": sku} for sku in skus), ship=True)
    order = (await app.check_out(cart, CARD)).json()
    assert len(order["fulfillments"]) == 2
    work = (await warehouse.ok("GET", f"/v1/fulfillments?order_id={order['id']}"))["data"]
    first, other = sorted(work, key=lambda each: each["lines"][0]["sku"] != skus[0])
    path = f"/v1/fulfillments/{first['id']}"
    await warehouse.ok("POST", f"{path}/start")
    await warehouse.ok("POST", f"{path}/pick", {"lines": [{"sku": skus[0], "quantity": 1}]})
    for step in ("pack", "ship"):
        await warehouse.ok("POST", f"{path}/{step}")
    await run_jobs()
    (payment,) = (await admin.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    captured = payment["captured"]["amount"]
    gift = {"reason": "goodwill", "amount": usd(captured - 100)}
    await admin.ok("POST", f"/v1/payments/{payment['id']}/refund", gift)
    await run_jobs()
    line = next(each["id"] for each in order["lines"] if each["sku"] == skus[0])
    asked = {"order_id": order["id"], "method": "in_store", "lines": [{"line_id": line, "quantity": 1}]}
    back = await till.ok("POST", "/v1/returns", asked)
    preview = await till.ok("GET", f"/v1/returns/{back['id']}/preview")
    assert preview["amount"] == usd(100)
    body = {"lines": [{"line_id": line, "quantity": 1}]}
    came = await till.ok("POST", f"/v1/returns/{back['id']}/receive", body)
    assert (came["state"], came["amount"], [each["state"] for each in came["refunds"]]) == (
        "refunded",
        usd(100),
        ["pending"],
    )
    await admin.ok("POST", f"/v1/fulfillments/{other['id']}/cancel", {"reason": "customer_request"})
    await run_jobs()
    now = await till.ok("GET", f"/v1/returns/{back['id']}")
    assert [(each["state"], each["amount"]) for each in now["refunds"]] == [("succeeded", usd(100))]
    (payment,) = (await admin.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    assert (payment["captured"], payment["refunded"]) == (usd(captured), usd(captured))
    async with database.connection() as db:
        assert await findings(db) == []


async def test_a_return_brings_all_of_it_where_other_goods_are_not_paid_for_or_called_off(
    till: Channel, warehouse: Channel, channels: Channels, database: Database
) -> None:
    card = await till.ok("POST", "/v1/gift-cards", {"balance": usd(3_000)})
    sku = await channels.product({"S1": 3}, price=1_000, tax_class="exempt")
    cart = await channels["app"].cart({"sku": sku, "quantity": 3})
    cart = await channels["app"].pick_up(cart, await channels.location("S1"))
    order = (await channels["app"].check_out(cart, {"type": "gift_card", "code": card["code"]})).json()
    line = order["lines"][0]["id"]
    off = {"reason": "customer_request", "lines": [{"line_id": line, "quantity": 1}]}
    await channels["admin"].ok("POST", f"/v1/orders/{order['id']}/cancel", off)
    (work,) = (await warehouse.ok("GET", f"/v1/fulfillments?order_id={order['id']}"))["data"]
    path = f"/v1/fulfillments/{work['id']}"
    await warehouse.ok("POST", f"{path}/start")
    await warehouse.ok("POST", f"{path}/pick", {"lines": [{"sku": sku, "quantity": 2}]})
    await warehouse.ok("POST", f"{path}/ready")
    mine = await channels["app"].ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    code = mine["fulfillments"][0]["pickup_code"]
    await till.ok("POST", f"{path}/hand_over", {"code": code})
    back = await till.ok("POST", "/v1/returns", asking(order, 2, receive=True, method="in_store"))
    assert (back["state"], back["amount"]) == ("refunded", usd(2_000))
    found = await till.ok("POST", "/v1/gift-cards/lookup", {"code": card["code"]})
    assert found["balance"] == usd(3_000)
    async with database.connection() as db:
        assert await findings(db) == []


class Counter:
    """A store of its own, with a till that works there and a sale for cash to give back."""

    def __init__(self, channels: Channels, place: str, till: Channel, order: Any) -> None:
        self.channels = channels
        self.place = place
        self.till = till
        self.order = order

    async def register(self, *, is_open: bool = True) -> str:
        admin = self.channels["admin"]
        body = {"location_id": self.place, "name": ids.new().hex}
        register = str((await admin.ok("POST", "/v1/registers", body))["id"])
        if is_open:
            await admin.ok("POST", f"/v1/registers/{register}/sessions", {"opening_float": usd(5_000)})
        return register

    async def drawer(self, register: str) -> int:
        report = await self.till.ok("GET", f"/v1/registers/{register}/sessions/current")
        return int(next((each["expected"]["amount"] for each in report["tenders"] if each["type"] == "cash"), 0))

    async def bring(self, **more: Any) -> httpx.Response:
        return await self.till.post("/v1/returns", asking(self.order, receive=True, method="in_store", **more))


@pytest.fixture
async def counter(channels: Channels, admin: Channel, shop: Shop) -> Counter:
    body = {
        "code": f"X{ids.new().hex[:10]}",
        "name": "A store",
        "kind": "store",
        "address": {"name": "X", "line1": "1 St", "city": "Austin", "postal_code": "78701", "country": "US"},
        "latitude": 30.0,
        "longitude": -97.0,
        "timezone": "America/Chicago",
        "capabilities": ["returns", "till"],
        "opening_hours": {},
    }
    place = (await admin.ok("POST", "/v1/locations", body))["id"]
    key = await admin.ok("POST", "/v1/api-keys", {"channel": "store", "role": "till", "location_id": place})
    return Counter(channels, place, Channel(channels.http, key["secret"]), await shop.sold(3))


async def test_cash_comes_out_of_a_drawer_where_there_are_tills(counter: Counter, database: Database) -> None:
    # Where no till stands it is the safe.
    assert (await counter.bring()).status_code == 201
    first = await counter.register(is_open=False)
    assert code_of(await counter.bring()) == (409, "no_open_session")
    assert code_of(await counter.bring(register_id=first)) == (409, "no_open_session")
    second, third = await counter.register(), await counter.register()
    assert code_of(await counter.bring()) == (422, "register_required")
    assert (await counter.bring(register_id=second)).status_code == 201
    assert (await counter.drawer(second), await counter.drawer(third)) == (4_000, 5_000)
    async with database.connection() as db:
        assert await findings(db) == []


async def test_the_only_open_drawer_need_not_be_named_and_a_card_needs_none(
    counter: Counter, shop: Shop, run_jobs: Jobs
) -> None:
    await counter.register(is_open=False)
    order, _ = await shop.shipped()
    await run_jobs()
    by_card = await counter.till.post("/v1/returns", asking(order, receive=True, method="in_store"))
    assert (by_card.status_code, by_card.json()["refunds"][0]["tender"]) == (201, "card")
    register = await counter.register()
    assert (await counter.bring()).status_code == 201
    assert await counter.drawer(register) == 4_000


async def test_cash_that_staff_refunds_comes_out_of_the_drawer_that_is_named(counter: Counter, admin: Channel) -> None:
    register, _ = await counter.register(), await counter.register()
    (payment,) = (await admin.ok("GET", f"/v1/payments?order_id={counter.order['id']}"))["data"]
    path = f"/v1/payments/{payment['id']}/refund"
    await admin.ok("POST", path, {"reason": "kind", "amount": usd(300), "register_id": register})
    assert await counter.drawer(register) == 4_700
    # The back office has no drawer.
    await admin.ok("POST", path, {"reason": "kind", "amount": usd(200)})
    assert await counter.drawer(register) == 4_700
