"""From an app to a parcel at the door, with a card authorized at checkout and captured when the parcel leaves."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.client import Channel, Channels

CARD = {"type": "card", "payment_method": "pm_ok"}


async def test_an_app_order_of_books_is_shipped_captured_and_delivered(
    app: Channel,
    warehouse: Channel,
    channels: Channels,
    book: Mapping[str, Any],
    run_jobs: Callable[[], Awaitable[None]],
) -> None:
    sku = book["sku"]
    on_hand, reserved = await channels.level(sku, "DC1")
    cart = await app.cart({"sku": sku, "quantity": 2}, ship=True)
    answer = await app.check_out(cart, CARD)
    order = answer.json()
    assert (answer.status_code, order["state"], order["payment_state"]) == (201, "placed", "authorized")
    assert await channels.level(sku, "DC1") == (on_hand, reserved + 2)

    work = order["fulfillments"][0]["id"]
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/start")
    await warehouse.ok(
        "POST", f"/v1/fulfillments/{work}/pick", {"lines": [{"barcode": book["barcode"], "quantity": 2}]}
    )
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/pack", {"parcels": [{"weight_grams": 800}]})
    shipped = await warehouse.ok(
        "POST", f"/v1/fulfillments/{work}/ship", {"carrier": "UPS", "tracking_number": "1Z999"}
    )
    assert shipped["state"] == "shipped"
    assert await channels.level(sku, "DC1") == (on_hand - 2, reserved)
    await run_jobs()

    paid = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    assert (paid["payment_state"], paid["fulfillment_state"]) == ("paid", "fulfilled")
    await warehouse.ok("POST", f"/v1/fulfillments/{work}/deliver")
    done = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    assert done["state"] == "completed"
    timeline = await app.ok("GET", f"/v1/orders/{order['id']}/timeline", token=cart["token"])
    assert [entry["type"] for entry in timeline["data"]] == [
        "order.awaiting_payment",
        "order.placed",
        "fulfillment.picking",
        "fulfillment.picked",
        "fulfillment.packed",
        "fulfillment.shipped",
        "payment.captured",
        "fulfillment.delivered",
        "order.completed",
    ]
