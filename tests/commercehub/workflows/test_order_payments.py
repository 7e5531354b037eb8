"""Payments of a placed order that wait while it changes, or while another payment of it wants to begin."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub.database import Database
from commercehub.jobs import orders as jobs
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.serving import Books, findings

PRICE = 1_000
UNITS = 4
CASH = {"type": "cash"}
MAKE_DUE = "UPDATE payments.open_operations SET next_try_at = now()"

RunJobs = Callable[[], Awaitable[None]]


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


def card(amount: int, payment_method: str = "pm_ok") -> dict[str, Any]:
    return {"type": "card", "payment_method": payment_method, "amount": usd(amount)}


def waiting(amount: int) -> dict[str, Any]:
    return card(amount, "pm_requires_action")


class Debt:
    """An order of four units that are to be paid at pickup, and a gift card."""

    def __init__(self, hub: Hub, settings: Settings, channels: Channels, cart: Any, order: Any, gift: str) -> None:
        self.hub, self.settings, self.admin, self.till = hub, settings, channels["admin"], channels["store"]
        self.app, self.cart, self.order, self.code = channels["app"], cart, order, gift

    def gift(self, amount: int) -> dict[str, Any]:
        """A part of the gift card."""
        return {"type": "gift_card", "code": self.code, "amount": usd(amount)}

    async def pay(self, *tenders: Any, **more: Any) -> httpx.Response:
        """Pay, or try, at the till."""
        return await self.till.post(f"/v1/orders/{self.order['id']}/payments", {"tenders": list(tenders), **more})

    async def call_off(self, quantity: int) -> None:
        """Nobody wants some of the units any more."""
        lines = [{"line_id": self.order["lines"][0]["id"], "quantity": quantity}]
        body = {"lines": lines, "reason": "customer_request"}
        await self.admin.ok("POST", f"/v1/orders/{self.order['id']}/cancel", body)

    async def decide(self, answer: httpx.Response, decision: str) -> None:
        """The payer answers, and the hub hears of it."""
        books = Books(self.settings)
        await books.decide(answer.json()["next_action"]["url"], decision)
        await books.aclose()
        async with self.hub.database.connection() as db:
            await db.execute(MAKE_DUE)
        await jobs.resolve_payments(self.hub)

    async def balance(self) -> int:
        """What is left on the gift card."""
        found = await self.admin.ok("POST", "/v1/gift-cards/lookup", {"code": self.code})
        return int(found["balance"]["amount"])

    async def paid(self) -> dict[str, int]:
        """What was taken by each tender and not given back."""
        found = await self.admin.ok("GET", f"/v1/payments?order_id={self.order['id']}")
        kept: dict[str, int] = {}
        for each in found["data"]:
            left = each["captured"]["amount"] - each["refunded"]["amount"]
            kept[each["tender"]] = kept.get(each["tender"], 0) + left
        return kept

    async def states(self) -> tuple[str, int]:
        """The payment state and what is due."""
        seen = await self.app.ok("GET", f"/v1/orders/{self.order['id']}", token=self.cart["token"])
        return seen["payment_state"], seen["amount_due"]["amount"]

    async def hand_over(self) -> None:
        """The customer comes for what is left of it."""
        seen = await self.app.ok("GET", f"/v1/orders/{self.order['id']}", token=self.cart["token"])
        path = f"/v1/fulfillments/{seen['fulfillments'][0]['id']}"
        left = [{"sku": line["sku"], "quantity": line["ordered"] - line["cancelled"]} for line in seen["lines"]]
        for step, body in (("start", {}), ("pick", {"lines": left}), ("ready", {})):
            await self.till.ok("POST", f"{path}/{step}", body)
        seen = await self.app.ok("GET", f"/v1/orders/{self.order['id']}", token=self.cart["token"])
        await self.till.ok("POST", f"{path}/hand_over", {"code": seen["fulfillments"][0]["pickup_code"]})


@pytest.fixture
async def debt(app: Channel, channels: Channels, hub: Hub, settings: Settings) -> Debt:
    sku = await channels.product({"S1": UNITS}, price=PRICE, tax_class="exempt")
    cart = await app.pick_up(await app.cart({"sku": sku, "quantity": UNITS}), await channels.location("S1"))
    order = (await app.check_out(cart, {"type": "pay_at_pickup"})).json()
    gift = await channels["admin"].ok("POST", "/v1/gift-cards", {"balance": usd(3_000)})
    return Debt(hub, settings, channels, cart, order, gift["code"])


async def _is_sound(database: Database) -> None:
    async with database.connection() as db:
        assert await findings(db) == []


@pytest.mark.parametrize(("local", "by_card"), [(3_000, 0), (400, 600)])
async def test_a_mix_that_waited_while_units_were_called_off_pays_what_it_costs_then(
    local: int, by_card: int, debt: Debt, run_jobs: RunJobs, database: Database
) -> None:
    answer = await debt.pay(debt.gift(local), waiting(UNITS * PRICE - local))
    assert answer.status_code == 202
    await debt.call_off(UNITS - 1)
    await debt.decide(answer, "approve")
    await run_jobs()
    assert (await debt.states())[1] == 0
    await debt.hand_over()
    await run_jobs()
    assert await debt.paid() == {"gift_card": PRICE - by_card, "card": by_card}
    assert await debt.balance() == 3_000 - PRICE + by_card
    await _is_sound(database)


async def test_cash_that_waited_beside_a_card_goes_back_from_its_drawer(
    debt: Debt, drawer: str, run_jobs: RunJobs, database: Database
) -> None:
    cash = {**CASH, "amount": usd(3_000)}
    answer = await debt.pay(cash, waiting(1_000), register_id=drawer)
    assert answer.status_code == 202
    await debt.call_off(UNITS - 1)
    await debt.decide(answer, "approve")
    await run_jobs()
    assert await debt.paid() == {"cash": PRICE, "card": 0}
    report = await debt.till.ok("GET", f"/v1/registers/{drawer}/sessions/current")
    assert [each["expected"] for each in report["tenders"] if each["type"] == "cash"] == [usd(PRICE)]
    await _is_sound(database)


async def test_a_payment_never_settles_or_drops_what_waits_with_another(debt: Debt, database: Database) -> None:
    first = await debt.pay(debt.gift(500), waiting(500))
    for second in ([debt.gift(100), card(100)], [card(100)], [waiting(100)]):
        refused = await debt.pay(*second)
        assert (refused.status_code, refused.json()["code"]) == (409, "payment_under_way")
    # What is ours at once waits for nobody.
    assert (await debt.pay(debt.gift(700))).status_code == 201
    await debt.decide(first, "decline")
    assert await debt.paid() == {"gift_card": 700, "card": 0}
    assert (await debt.pay(debt.gift(100), card(100))).status_code == 201
    assert await debt.balance() == 3_000 - 800
    await _is_sound(database)


@pytest.mark.parametrize("decision", ["approve", "decline"])
async def test_a_mix_waits_until_no_card_of_the_order_does(decision: str, debt: Debt, database: Database) -> None:
    first = await debt.pay(waiting(1_000))
    refused = await debt.pay(debt.gift(500), waiting(500))
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_under_way")
    assert (await debt.pay(card(1_000))).status_code == 201
    await debt.decide(first, decision)
    assert (await debt.pay(debt.gift(500), card(500))).status_code == 201
    assert (await debt.states())[1] == (1_000 if decision == "approve" else 2_000)
    await _is_sound(database)
