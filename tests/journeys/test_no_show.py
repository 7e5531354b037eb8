"""Nobody comes: the customer is reminded, then the goods are on sale again and the money is given back, by itself."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.jobs import orders as jobs
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.serving import Books, done, findings

CARD = {"type": "card", "payment_method": "pm_ok"}
CASH = {"type": "cash"}

RunJobs = Callable[[], Awaitable[None]]
SetClock = Callable[[float], None]


@pytest.fixture
def days_later(api: httpx.AsyncClient, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetClock]:
    """Move the clock of the hub, in front of the test and behind HTTP."""
    served: Any = api._transport

    def move(days: float) -> None:
        for database in (hub.database, served.app.state.hub.database):
            monkeypatch.setattr(database, "clock_offset", timedelta(days=days))

    yield move
    move(0)


@pytest.fixture
def tick(hub: Hub, run_jobs: RunJobs) -> RunJobs:
    """What the clock starts, and all that follows from it."""

    async def run() -> None:
        await jobs.remind_of_pickups(hub)
        await jobs.give_up_uncollected(hub)
        await run_jobs()

    return run


@pytest.fixture
async def shelf(channels: Channels) -> str:
    return await channels.product({"S1": 5}, price=2_000, tax_class="exempt")


async def test_who_does_not_come_is_reminded_and_then_gets_the_money_back(
    shelf: str,
    channels: Channels,
    days_later: SetClock,
    tick: RunJobs,
    run_jobs: RunJobs,
    database: Database,
    settings: Settings,
) -> None:
    app = channels["app"]
    cart = await app.pick_up(await app.cart({"sku": shelf, "quantity": 2}), await channels.location("S1"))
    order = (await app.check_out(cart, CARD)).json()
    await _make_ready(channels["store"], order, shelf, 2)
    await tick()
    assert await _told(channels, order) == ["is ready to be picked up", "Your order"]

    days_later(5.5)
    await tick()
    await tick()
    assert await _told(channels, order) == ["is waiting for you", "is ready to be picked up", "Your order"]
    assert await channels.level(shelf, "S1") == (5, 2)

    days_later(9)
    await tick()
    await tick()
    seen = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    assert (seen["state"], seen["payment_state"]) == ("cancelled", "voided")
    assert await channels.level(shelf, "S1") == (5, 0)
    assert (await _told(channels, order))[0] == "was not picked up"
    books = Books(settings)
    (payment,) = await books.payments(database, [ids.parse("ord", order["id"])])
    await books.aclose()
    assert done(payment) == [("authorize", "succeeded"), ("void", "succeeded")]
    timeline = await app.ok("GET", f"/v1/orders/{order['id']}/timeline", token=cart["token"])
    types = [entry["type"] for entry in timeline["data"]]
    assert types[-4:] == ["fulfillment.reminded", "fulfillment.cancelled", "order.cancelled", "payment.voided"]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_what_was_paid_in_cash_is_given_back_too(
    shelf: str, channels: Channels, days_later: SetClock, tick: RunJobs, drawer: str, database: Database
) -> None:
    till = channels["store"]
    cart = await till.pick_up(await till.cart({"sku": shelf}), await channels.location("S1"))
    order = (await till.check_out(cart, CASH, more={"register_id": drawer})).json()
    assert (order["state"], order["payment_state"]) == ("placed", "paid")
    await _make_ready(till, order, shelf, 1)
    days_later(9)
    await tick()
    seen = await till.ok("GET", f"/v1/orders/{order['id']}")
    assert (seen["state"], seen["payment_state"]) == ("cancelled", "refunded")
    assert await channels.level(shelf, "S1") == (5, 0)
    assert (await _told(channels, order))[:2] == ["Your refund", "was not picked up"]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_who_was_to_pay_at_pickup_owes_nothing(
    shelf: str, channels: Channels, days_later: SetClock, tick: RunJobs
) -> None:
    app = channels["app"]
    cart = await app.pick_up(await app.cart({"sku": shelf}), await channels.location("S1"))
    order = (await app.check_out(cart, {"type": "pay_at_pickup"})).json()
    await _make_ready(channels["store"], order, shelf, 1)
    days_later(9)
    await tick()
    seen = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    assert (seen["state"], seen["payment_state"], seen["amount_due"]["amount"]) == ("cancelled", "unpaid", 0)
    assert await channels.level(shelf, "S1") == (5, 0)


async def _make_ready(store: Channel, order: Any, sku: str, quantity: int) -> None:
    work_id = order["fulfillments"][0]["id"]
    await store.ok("POST", f"/v1/fulfillments/{work_id}/start")
    await store.ok("POST", f"/v1/fulfillments/{work_id}/pick", {"lines": [{"sku": sku, "quantity": quantity}]})
    await store.ok("POST", f"/v1/fulfillments/{work_id}/ready")


async def _told(channels: Channels, order: Any) -> list[str]:
    """The subjects of what the customer was told, the newest first, without the order's number."""
    mails = (await channels.http.get("/demo/mailbox", headers={"Accept": "application/json"})).json()["data"]
    subjects = [mail["subject"].replace(order["number"], "\0") for mail in mails if mail["order_id"] == order["id"]]
    return [
        subject.removeprefix("Your order \0").removesuffix(" \0").removesuffix("for").strip() or "Your order"
        for subject in subjects
    ]
