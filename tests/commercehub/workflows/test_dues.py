"""What leaves is paid for: money that is let go of, given back or refused does not count."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub.database import Database
from tests.client import SHIP_TO, Channels
from tests.serving import findings

PRICE = 1_000
CARD = {"type": "card", "payment_method": "pm_ok"}
BOTH = 2 * PRICE

RunJobs = Callable[[], Awaitable[None]]


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


class Order:
    """One thing to be picked up at S1 and another that is sent from there free of charge, or to be picked up too."""

    def __init__(self, channels: Channels) -> None:
        self.channels, self.app = channels, channels["app"]
        self.admin, self.till, self.warehouse = channels["admin"], channels["store"], channels["warehouse"]
        self.id, self.token = "", ""

    async def place(self, *tenders: Any, ship: int = 0, pick_up: int = 0) -> None:
        """So many units to be sent, so many to be picked up."""
        lines = []
        for quantity in (ship, pick_up):
            if quantity:
                sku = await self.channels.product({"S1": quantity}, price=PRICE, tax_class="exempt")
                lines.append({"sku": sku, "quantity": quantity})
        cart = await self.app.cart(*lines)
        self.token = cart["token"]
        ways: list[dict[str, Any]] = []
        if ship:
            ways.append({"method": "ship", "address": SHIP_TO})
        if pick_up:
            ways.append({"method": "pickup", "location_id": await self.channels.location("S1")})
        for way, line in zip(ways, cart["lines"], strict=True):
            path = f"/v1/carts/{cart['id']}/delivery"
            await self.app.ok("PUT", path, {**way, "line_ids": [line["id"]]}, token=self.token)
        answer = await self.app.check_out(cart, *tenders)
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["id"]

    async def seen(self) -> Any:
        return await self.app.ok("GET", f"/v1/orders/{self.id}", token=self.token)

    async def states(self) -> tuple[str, int]:
        seen = await self.seen()
        return seen["payment_state"], seen["amount_due"]["amount"]

    async def send(self) -> httpx.Response:
        """Send what is to be sent, or try."""
        return await self._take_steps("ship", "pack", "ship")

    async def hand_over(self) -> httpx.Response:
        """Hand over what is to be picked up, or try."""
        return await self._take_steps("pickup", "ready", "hand_over")

    async def _take_steps(self, kind: str, before: str, last: str) -> httpx.Response:
        (work,) = [each for each in (await self.seen())["fulfillments"] if each["kind"] == kind]
        path = f"/v1/fulfillments/{work['id']}"
        if work["state"] == "open":
            await self.warehouse.ok("POST", f"{path}/start")
            found = await self.warehouse.ok("GET", path)
            lines = [{"sku": line["sku"], "quantity": line["quantity"]} for line in found["lines"]]
            await self.warehouse.ok("POST", f"{path}/pick", {"lines": lines})
            await self.warehouse.ok("POST", f"{path}/{before}")
        (work,) = [each for each in (await self.seen())["fulfillments"] if each["kind"] == kind]
        body = {"code": work["pickup_code"]} if kind == "pickup" else {}
        return await self.warehouse.post(f"{path}/{last}", body)

    async def payments(self) -> list[Any]:
        return list((await self.admin.ok("GET", f"/v1/payments?order_id={self.id}"))["data"])

    async def act(self, verb: str, position: int = 0, **body: Any) -> None:
        """What staff does to one of its payments."""
        payment = (await self.payments())[position]["id"]
        await self.admin.ok("POST", f"/v1/payments/{payment}/{verb}", {"reason": "other"} | body)

    async def pay(self, *tenders: Any) -> httpx.Response:
        return await self.app.post(f"/v1/orders/{self.id}/payments", {"tenders": list(tenders)}, token=self.token)

    async def gift(self, amount: int) -> dict[str, Any]:
        code = (await self.admin.ok("POST", "/v1/gift-cards", {"balance": usd(amount)}))["code"]
        return {"type": "gift_card", "code": code}


@pytest.fixture
def order(channels: Channels) -> Order:
    return Order(channels)


def _is_due(answer: httpx.Response, amount: int) -> bool:
    return (answer.status_code, answer.json().get("code")) == (409, "payment_due") and answer.json()[
        "amount_due"
    ] == usd(amount)


async def _is_sound(database: Database) -> None:
    async with database.connection() as db:
        assert await findings(db) == []


async def test_what_is_being_let_go_of_pays_for_nothing(order: Order, run_jobs: RunJobs, database: Database) -> None:
    await order.place(CARD, pick_up=2)
    await order.act("void")
    assert (await order.states())[1] == BOTH
    assert _is_due(await order.hand_over(), BOTH)
    await run_jobs()
    assert await order.states() == ("voided", BOTH)
    assert _is_due(await order.hand_over(), BOTH)
    assert (await order.pay(CARD)).status_code == 201
    assert (await order.hand_over()).status_code == 200
    await run_jobs()
    assert await order.states() == ("paid", 0)
    await _is_sound(database)


async def test_what_was_given_back_pays_for_nothing_and_may_be_paid_anew(
    order: Order, run_jobs: RunJobs, database: Database
) -> None:
    await order.place(await order.gift(BOTH), pick_up=2)
    await order.act("refund")
    assert await order.states() == ("refunded", BOTH)
    assert _is_due(await order.hand_over(), BOTH)
    assert (await order.pay(CARD)).status_code == 201
    assert (await order.hand_over()).status_code == 200
    await run_jobs()
    kept = [each["captured"]["amount"] - each["refunded"]["amount"] for each in await order.payments()]
    assert (kept, (await order.states())[1]) == ([0, BOTH], 0)


async def test_a_part_that_was_given_back_is_missing_unless_it_was_a_present(order: Order, channels: Channels) -> None:
    await order.place(await order.gift(BOTH), pick_up=2)
    await order.act("refund", amount=usd(300))
    assert _is_due(await order.hand_over(), 300)
    present = Order(channels)
    await present.place(await present.gift(BOTH), pick_up=2)
    await present.act("refund", amount=usd(300), reason="goodwill")
    assert (await present.states())[1] == 0
    assert (await present.hand_over()).status_code == 200
    assert (await present.states())[1] == 0


async def test_what_is_given_back_of_a_completed_order_is_not_asked_for_again(order: Order, run_jobs: RunJobs) -> None:
    await order.place(CARD, pick_up=2)
    assert (await order.hand_over()).status_code == 200
    await run_jobs()
    await order.act("refund", amount=usd(300))
    await run_jobs()
    assert await order.states() == ("partially_refunded", 0)


async def test_what_came_back_takes_nothing_from_what_is_yet_to_leave(
    order: Order, run_jobs: RunJobs, database: Database
) -> None:
    await order.place(await order.gift(10_000), ship=1, pick_up=1)
    assert (await order.hand_over()).status_code == 200
    line = next(each["id"] for each in (await order.seen())["lines"] if each["fulfilled"])
    asked = {"line_id": line, "quantity": 1, "reason": "too_big"}
    body = {"order_id": order.id, "method": "in_store", "resolution": "refund", "receive": True, "lines": [asked]}
    await order.till.ok("POST", "/v1/returns", body)
    assert (await order.states())[1] == 0
    assert (await order.send()).status_code == 200
    await _is_sound(database)


async def test_what_is_called_off_is_given_back_beside_what_came_back(order: Order, database: Database) -> None:
    await order.place(await order.gift(10_000), ship=1, pick_up=1)
    assert (await order.hand_over()).status_code == 200
    lines = (await order.seen())["lines"]
    gone, left = sorted(lines, key=lambda line: -line["fulfilled"])
    asked = {"line_id": gone["id"], "quantity": 1, "reason": "too_big"}
    body = {"order_id": order.id, "method": "in_store", "resolution": "refund", "receive": True, "lines": [asked]}
    await order.till.ok("POST", "/v1/returns", body)
    call_off = {"lines": [{"line_id": left["id"], "quantity": 1}], "reason": "customer_request"}
    await order.admin.ok("POST", f"/v1/orders/{order.id}/cancel", call_off)
    (payment,) = await order.payments()
    assert payment["refunded"] == payment["captured"]
    await _is_sound(database)


async def test_nothing_is_sent_that_nobody_pays_for(
    order: Order, channels: Channels, run_jobs: RunJobs, database: Database
) -> None:
    await order.place(CARD, ship=2)
    total = (await order.seen())["total"]["amount"]
    await order.act("void")
    await run_jobs()
    assert _is_due(await order.send(), total)
    (work,) = (await order.seen())["fulfillments"]
    assert (work["state"], (await order.seen())["fulfillment_state"]) == ("packed", "unfulfilled")
    assert (await order.pay(CARD)).status_code == 201
    assert (await order.send()).status_code == 200
    await _is_sound(database)


async def test_after_a_capture_was_refused_no_further_goods_leave_until_they_are_paid_for(
    order: Order, run_jobs: RunJobs, database: Database
) -> None:
    await order.place({"type": "card", "payment_method": "pm_capture_declined"}, ship=1, pick_up=1)
    total = (await order.seen())["total"]["amount"]
    assert (await order.hand_over()).status_code == 200
    await run_jobs()
    assert await order.states() == ("capture_failed", total)
    assert _is_due(await order.send(), total)
    assert (await order.pay(CARD)).status_code == 201
    await run_jobs()
    assert await order.states() == ("partially_captured", 0)
    assert (await order.send()).status_code == 200
    await run_jobs()
    await run_jobs()
    assert await order.states() == ("paid", 0)
    assert [(each["captured"]["amount"], each["state"]) for each in await order.payments()] == [
        (0, "voided"),
        (total, "captured"),
    ]
    await _is_sound(database)


@pytest.mark.parametrize("first", ["pm_capture_declined", "pm_ok"])
async def test_that_a_capture_failed_is_told_whatever_another_card_does(
    first: str, order: Order, run_jobs: RunJobs, database: Database
) -> None:
    second = "pm_ok" if first == "pm_capture_declined" else "pm_capture_declined"
    await order.place({"type": "pay_at_pickup"}, pick_up=2)
    for payment_method in (first, second):
        tender = {"type": "card", "payment_method": payment_method, "amount": usd(PRICE)}
        assert (await order.pay(tender)).status_code == 201
    assert (await order.hand_over()).status_code == 200
    await run_jobs()
    assert await order.states() == ("capture_failed", PRICE)
    good = 0 if first == "pm_ok" else 1
    await order.act("refund", good, amount=usd(100), reason="goodwill")
    await run_jobs()
    assert (await order.states())[0] == "capture_failed"
    await _is_sound(database)
