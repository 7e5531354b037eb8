"""Goods come back in another channel than the one that sold them, and the money finds its way."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.settings import Settings
from tests.client import Channel, Channels
from tests.serving import Books, done, findings

CARD = {"type": "card", "payment_method": "pm_ok"}

Jobs = Callable[[], Awaitable[None]]


@pytest.fixture
async def truth(settings: Settings) -> AsyncIterator[Books]:
    """What the processor really did."""
    books = Books(settings)
    yield books
    await books.aclose()


@pytest.fixture
async def till_at_s2(channels: Channels, admin: Channel) -> Channel:
    """A till in the other store."""
    body = {"channel": "store", "role": "till", "location_id": await channels.location("S2")}
    key = await admin.ok("POST", "/v1/api-keys", body)
    return Channel(channels.http, key["secret"])


async def test_what_the_warehouse_shipped_comes_back_at_a_counter_and_the_card_gets_its_money(
    app: Channel,
    warehouse: Channel,
    till_at_s2: Channel,
    channels: Channels,
    database: Database,
    book: Mapping[str, Any],
    truth: Books,
    run_jobs: Jobs,
) -> None:
    sku = book["sku"]
    cart = await app.cart({"sku": sku, "quantity": 2}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    work = order["fulfillments"][0]["id"]
    for step, body in (
        ("start", None),
        ("pick", {"lines": [{"sku": sku, "quantity": 2}]}),
        ("pack", None),
        ("ship", None),
    ):
        await warehouse.ok("POST", f"/v1/fulfillments/{work}/{step}", body)
    await run_jobs()
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/deliver")

    found = await till_at_s2.ok("POST", "/v1/returns/lookup", {"receipt": order["receipt_barcode"]})
    (line,) = found["data"][0]["lines"]
    assert (found["data"][0]["id"], line["fulfilled"], line["returned"]) == (order["id"], 2, 0)
    before = await channels.level(sku, "S2")
    back = await till_at_s2.ok(
        "POST",
        "/v1/returns",
        {
            "order_id": order["id"],
            "method": "in_store",
            "lines": [{"line_id": line["id"], "quantity": 1, "reason": "changed_mind"}],
            "resolution": "refund",
            "receive": True,
        },
    )
    # With the tax on it; what is split is rounded half up.
    share = (line["total"]["amount"] + line["tax"]["amount"] + 1) // 2
    assert (back["state"], back["amount"]["amount"]) == ("refunded", share)
    assert back["location_id"] == await channels.location("S2")
    assert await channels.level(sku, "S2") == (before[0] + 1, before[1])
    await run_jobs()

    again = await till_at_s2.ok("GET", f"/v1/returns/{back['id']}")
    assert [(each["tender"], each["amount"]["amount"], each["state"]) for each in again["refunds"]] == [
        ("card", share, "succeeded")
    ]
    (payment,) = await truth.payments(database, [ids.parse("ord", order["id"])])
    assert done(payment) == [("authorize", "succeeded"), ("capture", "succeeded"), ("refund", "succeeded")]
    assert payment["operations"][-1]["amount"] == share
    now = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    assert (now["payment_state"], now["lines"][0]["returned"]) == ("partially_refunded", 1)
    timeline = await app.ok("GET", f"/v1/orders/{order['id']}/timeline", token=cart["token"])
    assert [entry["type"] for entry in timeline["data"]][-5:] == [
        "return.requested",
        "return.received",
        "payment.refund_begun",
        "return.refunded",
        "payment.refunded",
    ]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_what_a_till_sold_for_cash_comes_back_to_the_warehouse_by_courier(
    till: Channel, warehouse: Channel, channels: Channels, book: Mapping[str, Any], database: Database
) -> None:
    register = await channels.drawer(opening_float=5_000)
    cart = await till.cart({"barcode": book["barcode"]})
    sold = (await till.check_out(cart, {"type": "cash"}, more={"register_id": register})).json()
    line = sold["lines"][0]
    paid = {"amount": line["total"]["amount"] + line["tax"]["amount"], "currency": "USD"}
    before, _ = await channels.level(book["sku"], "DC1")

    asked = {
        "order_id": sold["id"],
        "method": "courier_pickup",
        "location_id": await channels.location("DC1"),
        "lines": [{"line_id": line["id"], "quantity": 1, "reason": "not_as_described"}],
        "resolution": "refund",
    }
    back = await channels["call_center"].ok("POST", "/v1/returns", asked)
    assert (back["state"], back["amount"], back["refunds"]) == ("requested", None, [])
    preview = await channels["call_center"].ok("GET", f"/v1/returns/{back['id']}/preview")
    assert (preview["amount"], [each["tender"] for each in preview["refunds"]]) == (paid, ["cash"])

    came = await warehouse.ok(
        "POST",
        f"/v1/returns/{back['id']}/receive",
        {"location_id": await channels.location("DC1"), "lines": [{"line_id": line["id"], "quantity": 1}]},
    )
    assert (came["state"], came["amount"]) == ("refunded", paid)
    assert (await channels.level(book["sku"], "DC1"))[0] == before + 1
    now = await till.ok("GET", f"/v1/orders/{sold['id']}")
    assert (now["payment_state"], now["fulfillment_state"]) == ("refunded", "returned")
    # The money came from the safe, not out of the drawer that had taken it.
    report = await till.ok("GET", f"/v1/registers/{register}/sessions/current")
    assert report["tenders"][0]["expected"]["amount"] == 5_000 + sold["total"]["amount"]
    async with database.connection() as db:
        assert await findings(db) == []
