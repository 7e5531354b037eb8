"""A cart begun by a guest on the web, taken over by a customer, picked up in a store by the code that only they have."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.client import Channel, Channels

CARD = {"type": "card", "payment_method": "pm_ok"}

RunJobs = Callable[[], Awaitable[None]]


async def test_a_guests_cart_is_claimed_paid_and_picked_up_by_the_code(channels: Channels, run_jobs: RunJobs) -> None:
    web, store = channels["web"], channels["store"]
    sku = await channels.product({"S1": 3}, price=2_000, tax_class="exempt")
    guest = await web.cart({"sku": sku, "quantity": 2})

    customer, me = await channels.customer("web")
    claimed = await customer.ok("POST", f"/v1/carts/{guest['id']}/claim", token=guest["token"])
    assert claimed["customer_id"] == me["id"]
    cart = await customer.pick_up(claimed, await channels.location("S1"))
    answer = await customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [CARD]})
    order = answer.json()
    assert (answer.status_code, order["state"], order["payment_state"]) == (201, "placed", "authorized"), order
    assert await channels.level(sku, "S1") == (3, 2)

    (work,) = order["fulfillments"]
    assert (work["kind"], work["location_id"]) == ("pickup", await channels.location("S1"))
    await _make_ready(store, work["id"], sku, 2)
    await run_jobs()
    mine = (await customer.ok("GET", f"/v1/orders/{order['id']}"))["fulfillments"][0]
    assert mine["pickup_qr"].startswith("data:image/svg+xml")
    mail = await _newest_mail(channels, order["id"])
    assert mail["to"] == me["email"]
    assert mine["pickup_code"] in mail["text"]
    assert mail["qr"] == mine["pickup_qr"]

    handed = await store.ok("POST", f"/v1/fulfillments/{work['id']}/hand_over", {"code": mine["pickup_code"]})
    assert handed["state"] == "handed_over"
    assert await channels.level(sku, "S1") == (1, 0)
    await run_jobs()
    done = await customer.ok("GET", f"/v1/orders/{order['id']}")
    assert (done["state"], done["payment_state"], done["fulfillment_state"]) == ("completed", "paid", "fulfilled")
    assert done["fulfillments"][0]["pickup_code"] is None
    timeline = await customer.ok("GET", f"/v1/orders/{order['id']}/timeline")
    assert [entry["type"] for entry in timeline["data"]] == [
        "order.awaiting_payment",
        "order.placed",
        "fulfillment.picking",
        "fulfillment.picked",
        "fulfillment.ready",
        "fulfillment.handed_over",
        "order.completed",
        "payment.captured",
    ]
    seen_at_the_till = await store.ok("GET", f"/v1/orders/{order['id']}/timeline")
    assert seen_at_the_till == timeline


async def _make_ready(store: Channel, work_id: str, sku: str, quantity: int) -> None:
    await store.ok("POST", f"/v1/fulfillments/{work_id}/start")
    await store.ok("POST", f"/v1/fulfillments/{work_id}/pick", {"lines": [{"sku": sku, "quantity": quantity}]})
    await store.ok("POST", f"/v1/fulfillments/{work_id}/ready")


async def _newest_mail(channels: Channels, order_id: str) -> Any:
    mails = (await channels.http.get("/demo/mailbox", headers={"Accept": "application/json"})).json()["data"]
    return next(mail for mail in mails if mail["order_id"] == order_id)
