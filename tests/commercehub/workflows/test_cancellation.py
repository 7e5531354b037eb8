"""Calling off: what of it is free again, what is let go of or given back, and what is too late."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.settings import Settings
from tests.client import Channel, Channels
from tests.serving import Books, done, findings

PRICE = 1_000
SHIPPING = 499
CARD = {"type": "card", "payment_method": "pm_ok"}

RunJobs = Callable[[], Awaitable[None]]


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


class Order:
    """An order of three units of one thing and one of another, from the warehouse."""

    def __init__(self, shopper: Channel, admin: Channel, skus: list[str], token: str, order: Any) -> None:
        self.shopper, self.admin, self.skus, self.token, self.order = shopper, admin, skus, token, order
        self.lines = [line["id"] for line in order["lines"]]

    async def cancel(self, units: dict[int, int] | None = None, **options: Any) -> httpx.Response:
        """Call units of lines off, by their places, or all."""
        body: dict[str, Any] = {"reason": "customer_request"}
        if units is not None:
            body["lines"] = [{"line_id": self.lines[at], "quantity": quantity} for at, quantity in units.items()]
        return await self.admin.post(f"/v1/orders/{self.order['id']}/cancel", body, **options)

    async def seen(self) -> Any:
        return await self.shopper.ok("GET", f"/v1/orders/{self.order['id']}", token=self.token)

    async def ship(self, *units: tuple[int, int]) -> None:
        """Send the given units of lines, by their places."""
        work = (await self.seen())["fulfillments"][0]["id"]
        lines = [{"sku": self.skus[at], "quantity": quantity} for at, quantity in units]
        for step, body in (("start", {}), ("pick", {"lines": lines}), ("pack", {}), ("ship", {}), ("deliver", {})):
            await self.admin.ok("POST", f"/v1/fulfillments/{work}/{step}", body)


@pytest.fixture
async def order(app: Channel, admin: Channel, channels: Channels) -> Order:
    skus = [await channels.product({"DC1": 9}, price=PRICE, tax_class="exempt") for _ in range(2)]
    cart = await app.cart({"sku": skus[0], "quantity": 3}, {"sku": skus[1]}, ship=True)
    return Order(app, admin, skus, cart["token"], (await app.check_out(cart, CARD)).json())


@pytest.fixture
async def operations(database: Database, settings: Settings) -> Callable[[Order], Awaitable[list[Any]]]:
    """What the sandbox did for an order: kind and amount."""

    async def read(order: Order) -> list[Any]:
        books = Books(settings)
        (payment,) = await books.payments(database, [ids.parse("ord", order.order["id"])])
        await books.aclose()
        assert {status for _, status in done(payment)} == {"succeeded"}
        return [(operation["kind"], operation["amount"]) for operation in payment["operations"]]

    return read


async def test_some_units_are_called_off_and_the_rest_is_sent_and_paid(
    order: Order, channels: Channels, run_jobs: RunJobs, operations: Any, database: Database
) -> None:
    answer = await order.cancel({0: 2})
    assert (answer.status_code, answer.json()["state"]) == (200, "placed")
    assert [(line["ordered"], line["cancelled"]) for line in answer.json()["lines"]] == [(3, 2), (1, 0)]
    assert await channels.level(order.skus[0], "DC1") == (9, 1)
    await order.ship((0, 1), (1, 1))
    await run_jobs()
    await run_jobs()
    seen = await order.seen()
    assert (seen["state"], seen["payment_state"], seen["fulfillment_state"]) == ("completed", "paid", "fulfilled")
    total = 4 * PRICE + SHIPPING
    assert await operations(order) == [
        ("authorize", total),
        ("capture", total - 2 * PRICE),
        ("void", 2 * PRICE),
    ]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_a_line_that_is_gone_leaves_its_work(order: Order, admin: Channel, channels: Channels) -> None:
    await order.cancel({1: 1})
    work = await admin.ok("GET", f"/v1/fulfillments?order_id={order.order['id']}")
    assert [[(line["sku"], line["quantity"]) for line in each["lines"]] for each in work["data"]] == [
        [(order.skus[0], 3)]
    ]
    assert await channels.level(order.skus[1], "DC1") == (9, 0)


async def test_line_after_line_is_the_whole_order(
    order: Order, channels: Channels, run_jobs: RunJobs, operations: Any
) -> None:
    for units in ({0: 1}, {0: 2}, {1: 1}):
        assert (await order.cancel(units)).status_code == 200
    await run_jobs()
    seen = await order.seen()
    assert (seen["state"], seen["payment_state"], seen["amount_due"]["amount"]) == ("cancelled", "voided", 0)
    assert [await channels.level(sku, "DC1") for sku in order.skus] == [(9, 0), (9, 0)]
    total = 4 * PRICE + SHIPPING
    assert await operations(order) == [("authorize", total), ("void", total)]


@pytest.mark.parametrize("units", [{0: 4}, {0: 2, 1: 2}])
async def test_more_than_is_left_is_not_called_off(units: dict[int, int], order: Order, channels: Channels) -> None:
    assert _code(await order.cancel(units)) == (409, "not_cancellable")
    assert await channels.level(order.skus[0], "DC1") == (9, 3)


async def test_a_line_of_another_order_is_not_found(order: Order) -> None:
    order.lines[0] = ids.show("line", ids.new())
    assert _code(await order.cancel({0: 1})) == (404, "not_found")


async def test_what_is_picked_is_not_called_off(order: Order, admin: Channel) -> None:
    work = order.order["fulfillments"][0]["id"]
    lines = [{"sku": order.skus[0], "quantity": 3}, {"sku": order.skus[1], "quantity": 1}]
    for step, body in (("start", {}), ("pick", {"lines": lines})):
        await admin.ok("POST", f"/v1/fulfillments/{work}/{step}", body)
    assert _code(await order.cancel({0: 1})) == (409, "not_cancellable")
    assert _code(await order.cancel()) == (409, "not_cancellable")


async def test_the_same_key_calls_off_once(order: Order) -> None:
    first = await order.cancel({0: 1}, key="once-off")
    again = await order.cancel({0: 1}, key="once-off")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert (await order.seen())["lines"][0]["cancelled"] == 1


async def test_customers_call_off_their_own_order_and_no_other(order: Order, app: Channel, channels: Channels) -> None:
    customer, _ = await channels.customer()
    assert _code(await customer.post(f"/v1/orders/{order.order['id']}/cancel", {})) == (404, "not_found")
    assert _code(await customer.post(f"/v1/orders/{order.order['id']}/cancel", {"no": 1})) == (404, "not_found")
    sku = await channels.product({"S1": 1}, price=PRICE)
    cart = await customer.ok("POST", "/v1/carts", {})
    await customer.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku})
    await customer.pick_up(cart, await channels.location("S1"))
    mine = await customer.ok("POST", f"/v1/carts/{cart['id']}/checkout", {"tenders": [CARD]})
    cancelled = await customer.ok("POST", f"/v1/orders/{mine['id']}/cancel", {})
    assert (cancelled["state"], cancelled["payment_state"]) == ("cancelled", "voided")
    assert await channels.level(sku, "S1") == (1, 0)


async def test_cash_comes_out_of_the_drawer_again(
    till: Channel, channels: Channels, database: Database, run_jobs: RunJobs
) -> None:
    sku = await channels.product({"S1": 2}, price=PRICE, tax_class="exempt")
    register = await channels.drawer()
    cart = await till.pick_up(await till.cart({"sku": sku, "quantity": 2}), await channels.location("S1"))
    order = (await till.check_out(cart, {"type": "cash"}, more={"register_id": register})).json()
    line = order["lines"][0]["id"]
    body = {"lines": [{"line_id": line, "quantity": 1}], "reason": "customer_request", "register_id": register}
    partly = await till.ok("POST", f"/v1/orders/{order['id']}/cancel", body)
    assert (partly["state"], partly["payment_state"]) == ("placed", "partially_refunded")
    wholly = await till.ok("POST", f"/v1/orders/{order['id']}/cancel", {"register_id": register})
    assert (wholly["state"], wholly["payment_state"]) == ("cancelled", "refunded")
    assert await channels.level(sku, "S1") == (2, 0)
    async with database.connection() as db:
        assert await findings(db) == []
