"""Captures and voids that go wrong: a parcel that left stays left, and stock is free only once the money is let go."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

import payments.unsettled
from commercehub import ids
from commercehub.app import open_hub
from commercehub.database import Database
from commercehub.jobs import orders
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.faults.conftest import Complete
from tests.serving import Books, done, findings

UNITS = 5

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture
async def sku(channels: Channels) -> str:
    return await channels.product({"DC1": UNITS}, price=2_500)


@pytest.fixture
async def later(settings: Settings) -> AsyncIterator[Hub]:
    """The same hub after the first wait."""
    seconds = int(payments.unsettled.RETRY_AFTER.total_seconds()) + 60
    async with open_hub(msgspec.structs.replace(settings, clock_offset_seconds=seconds, pool_size=2)) as hub:
        yield hub


class Shop:
    """One order and those who work on it."""

    def __init__(self, app: Channel, warehouse: Channel, admin: Channel, books: Books, database: Database) -> None:
        self.app, self.warehouse, self.admin, self.books, self.database = app, warehouse, admin, books, database
        self.order: Any = {}
        self.token = ""

    async def place(self, sku: str, payment_method: str) -> None:
        cart = await self.app.cart({"sku": sku}, ship=True)
        answer = await self.app.check_out(cart, {"type": "card", "payment_method": payment_method})
        assert answer.status_code == 201, answer.text
        self.order, self.token = answer.json(), cart["token"]

    async def ship(self, sku: str) -> None:
        for step, body in (
            ("start", {}),
            ("pick", {"lines": [{"sku": sku, "quantity": 1}]}),
            ("pack", {}),
            ("ship", {}),
        ):
            await self.step(step, body)

    async def step(self, step: str, body: Any = None) -> Any:
        work = self.order["fulfillments"][0]["id"]
        return await self.warehouse.ok("POST", f"/v1/fulfillments/{work}/{step}", body or {})

    async def states(self) -> tuple[str, str, str]:
        order = await self.app.ok("GET", f"/v1/orders/{self.order['id']}", token=self.token)
        return order["state"], order["payment_state"], order["fulfillment_state"]

    async def payment(self) -> Any:
        (payment,) = await self.books.payments(self.database, [ids.parse("ord", self.order["id"])])
        return payment

    async def is_sound(self) -> None:
        async with self.database.connection() as db:
            assert await findings(db) == []


@pytest.fixture
def shop(app: Channel, warehouse: Channel, admin: Channel, books: Books, database: Database) -> Shop:
    return Shop(app, warehouse, admin, books, database)


async def test_a_capture_after_the_money_was_let_go_behind_our_back_never_undoes_the_parcel(
    shop: Shop, sku: str, channels: Channels, run_jobs: RunJobs
) -> None:
    await shop.place(sku, "pm_ok")
    await shop.books.act(await shop.payment(), "void")
    await shop.ship(sku)
    await run_jobs()
    assert await shop.states() == ("in_fulfillment", "capture_failed", "fulfilled")
    assert await channels.level(sku, "DC1") == (UNITS - 1, 0)
    await shop.step("deliver")
    assert await shop.states() == ("completed", "capture_failed", "fulfilled")
    await shop.is_sound()


async def test_a_capture_that_the_bank_declines_is_told_on_the_timeline(
    shop: Shop, sku: str, run_jobs: RunJobs
) -> None:
    await shop.place(sku, "pm_capture_declined")
    await shop.ship(sku)
    await run_jobs()
    assert await shop.states() == ("in_fulfillment", "capture_failed", "fulfilled")
    timeline = await shop.app.ok("GET", f"/v1/orders/{shop.order['id']}/timeline", token=shop.token)
    assert timeline["data"][-1]["type"] == "payment.capture_failed"
    assert done(await shop.payment()) == [("authorize", "succeeded"), ("capture", "declined")]


@pytest.mark.parametrize("fault", ["answer_lost", "error_before", "error_after", "garbage", "reset", "wrong_amount"])
async def test_a_capture_without_an_answer_is_taken_once(
    fault: str, shop: Shop, sku: str, run_jobs: RunJobs, complete: Complete
) -> None:
    await shop.place(sku, f"pm_capture_{fault}")
    await run_jobs()
    await shop.ship(sku)
    await run_jobs()
    assert (await shop.states())[1] == "authorized"
    await complete()
    assert await shop.states() == ("in_fulfillment", "paid", "fulfilled")
    assert done(await shop.payment()) == [("authorize", "succeeded"), ("capture", "succeeded")]
    await shop.is_sound()


async def test_the_stock_of_a_cancelled_order_stays_held_until_the_void_is_confirmed(
    shop: Shop, sku: str, channels: Channels, run_jobs: RunJobs, complete: Complete
) -> None:
    await shop.place(sku, "pm_void_answer_lost")
    await run_jobs()
    await shop.admin.ok("POST", f"/v1/orders/{shop.order['id']}/cancel", {"reason": "customer_request"})
    assert (await shop.states())[0] == "cancelled"
    assert await channels.level(sku, "DC1") == (UNITS, 1)
    await complete()
    assert (await shop.states())[:2] == ("cancelled", "voided")
    assert await channels.level(sku, "DC1") == (UNITS, 0)
    assert done(await shop.payment()) == [("authorize", "succeeded"), ("void", "succeeded")]
    await shop.is_sound()


async def test_a_capture_that_was_declined_is_tried_anew_a_while_later(
    shop: Shop, sku: str, run_jobs: RunJobs, hub: Hub, later: Hub
) -> None:
    await shop.place(sku, "pm_capture_declined_once")
    await shop.ship(sku)
    await run_jobs()
    await orders.retry_refused(hub)  # too soon
    assert await shop.states() == ("in_fulfillment", "capture_failed", "fulfilled")
    await orders.retry_refused(later)
    assert await shop.states() == ("in_fulfillment", "paid", "fulfilled")
    assert done(await shop.payment()) == [
        ("authorize", "succeeded"),
        ("capture", "declined"),
        ("capture", "succeeded"),
    ]
    await shop.is_sound()


async def test_a_void_that_was_declined_is_tried_anew_and_the_stock_is_held_until_then(
    shop: Shop, sku: str, channels: Channels, run_jobs: RunJobs, later: Hub
) -> None:
    await shop.place(sku, "pm_void_declined_once")
    await run_jobs()
    await shop.admin.ok("POST", f"/v1/orders/{shop.order['id']}/cancel", {"reason": "customer_request"})
    assert await channels.level(sku, "DC1") == (UNITS, 1)
    await orders.retry_refused(later)
    assert (await shop.states())[:2] == ("cancelled", "voided")
    assert await channels.level(sku, "DC1") == (UNITS, 0)
    await shop.is_sound()


async def test_a_void_of_what_was_let_go_of_already_frees_the_stock(
    shop: Shop, sku: str, channels: Channels, run_jobs: RunJobs
) -> None:
    await shop.place(sku, "pm_ok")
    await run_jobs()
    await shop.books.act(await shop.payment(), "void")
    await shop.admin.ok("POST", f"/v1/orders/{shop.order['id']}/cancel", {"reason": "customer_request"})
    assert (await shop.states())[:2] == ("cancelled", "voided")
    assert await channels.level(sku, "DC1") == (UNITS, 0)
    await shop.is_sound()


async def test_a_refund_that_was_declined_is_told_and_tried_anew_a_while_later(
    shop: Shop, sku: str, run_jobs: RunJobs, hub: Hub, later: Hub
) -> None:
    await _refund(shop, sku, "pm_refund_declined_once", run_jobs)
    timeline = await shop.app.ok("GET", f"/v1/orders/{shop.order['id']}/timeline", token=shop.token)
    assert timeline["data"][-1]["type"] == "payment.refund_failed"
    assert (await shop.states())[1] == "paid"
    await orders.retry_refused(hub)  # too soon
    assert (await shop.states())[1] == "paid"
    await orders.retry_refused(later)
    assert (await shop.states())[1] == "refunded"
    assert done(await shop.payment())[-2:] == [("refund", "declined"), ("refund", "succeeded")]
    await orders.retry_refused(later)
    assert await _refunded(shop) == shop.order["total"]["amount"]
    await shop.is_sound()


async def test_a_refund_that_was_declined_is_not_tried_anew_once_somebody_gave_back_since(
    shop: Shop, sku: str, run_jobs: RunJobs, later: Hub
) -> None:
    payment = await _refund(shop, sku, "pm_refund_declined_once", run_jobs, amount={"amount": 700, "currency": "USD"})
    body = {"reason": "again", "amount": {"amount": 700, "currency": "USD"}}
    await shop.admin.ok("POST", f"/v1/payments/{payment}/refund", body)
    await run_jobs()
    await orders.retry_refused(later)
    assert await _refunded(shop) == 700
    await shop.is_sound()


async def _refund(shop: Shop, sku: str, payment_method: str, run_jobs: RunJobs, **body: Any) -> str:
    """Sell and send, and give back, which the processor refuses; returns the payment's id."""
    await shop.place(sku, payment_method)
    await shop.ship(sku)
    await run_jobs()
    (payment,) = (await shop.admin.ok("GET", f"/v1/payments?order_id={shop.order['id']}"))["data"]
    await shop.admin.ok("POST", f"/v1/payments/{payment['id']}/refund", {"reason": "never came", **body})
    await run_jobs()
    return str(payment["id"])


async def _refunded(shop: Shop) -> int:
    (payment,) = (await shop.admin.ok("GET", f"/v1/payments?order_id={shop.order['id']}"))["data"]
    return int(payment["refunded"]["amount"])
