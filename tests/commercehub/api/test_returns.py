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

    async def sold(self, quantity: int = 1, *, price: int = 1_000) -> Any:
        """A till's sale for cash."""
        self.sku = await self.channels.product({"S1": quantity}, price=price, tax_class="exempt")
        register = await self.channels.drawer()
        cart = await self.channels["store"].cart({"sku": self.sku, "quantity": quantity})
        answer = await self.channels["store"].check_out(cart, {"type": "cash"}, more={"register_id": register})
        assert answer.status_code == 201, answer.text
        return answer.json()

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
    again = await till.ok("POST", "/v1/returns", asking(sold, 2, receive=True, method="in_store"))
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
    body = asking(sold, 1, receive=True, method="in_store")
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
    body = {"lines": [{"line_id": sold["lines"][0]["id"], "quantity": 1}]}
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
        back = await till.ok("POST", "/v1/returns", asking(sold, receive=True, method="in_store"))
        assert (back["state"], back["amount"], back["refunds"]) == ("received", None, [])
        preview = await till.ok("GET", f"/v1/returns/{back['id']}/preview")
        assert (preview["amount"], preview["refunds"][0]["tender"]) == (usd(1_000), "cash")
        settled = await till.ok("POST", f"/v1/returns/{back['id']}/settle")
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
    back = await till.ok("POST", "/v1/returns", asking(sold, receive=True, method="in_store"))
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
