"""A shop's life in a database of its own: sales, returns, cancellations and no-shows of every kind, seen to their end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import msgspec

from commercehub.app import create_app, open_hub
from commercehub.jobs import orders as jobs
from commercehub.jobs import relay
from commercehub.seed import planting
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.conftest import IS_BEHIND, SECRET

CARD = {"type": "card", "payment_method": "pm_ok"}
CASH = {"type": "cash"}
LOOKS_MAX = 500


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


class Life:
    """What happens in a shop, each a whole story over HTTP."""

    def __init__(self, channels: Channels, hub: Hub) -> None:
        self.channels, self.hub = channels, hub
        self.app, self.till = channels["app"], channels["store"]

    async def jobs(self) -> None:
        """Work off everything that has happened so far."""
        for _ in range(LOOKS_MAX):
            if await relay.relay_once(self.hub, None) == 0:
                async with self.hub.database.connection() as db:
                    if not await db.fetchval(IS_BEHIND):
                        return
            await asyncio.sleep(0.02)

    async def shipped(self, *tenders: Any, units: int = 3, last: str = "deliver") -> Any:
        """An app's order as far as a step."""
        sku = await self.channels.product({"DC1": units}, price=1_099)
        cart = await self.app.cart({"sku": sku, "quantity": units}, ship=True)
        await self.app.ok("POST", f"/v1/carts/{cart['id']}/promotions", {"code": "WELCOME10"}, token=cart["token"])
        answer = await self.app.check_out(cart, *(tenders or (CARD,)))
        assert answer.status_code == 201, answer.text
        order = answer.json()
        steps = ("start", "pick", "pack", "ship", "deliver")
        for step in steps[: steps.index(last) + 1] if last else ():
            body = {"lines": [{"sku": sku, "quantity": units}]} if step == "pick" else None
            await self.channels["warehouse"].ok(
                "POST", f"/v1/fulfillments/{order['fulfillments'][0]['id']}/{step}", body
            )
        await self.jobs()
        return order

    async def at_the_till(self) -> None:
        """Cash with change, a part of it brought back to another store, and the drawer counted."""
        register = await self.channels.drawer(opening_float=5_000)
        sku = await self.channels.product({"S1": 5}, price=333)
        cart = await self.till.cart({"sku": sku, "quantity": 3})
        sold = await self.till.check_out(cart, {**CASH, "tendered": usd(2_000)}, more={"register_id": register})
        assert sold.status_code == 201, sold.text
        await self.bring_back(self.till, sold.json(), units=1, register_id=register)
        await self.till.ok("POST", f"/v1/registers/{register}/sessions/current/close", {"counted": usd(5_400)})

    async def bring_back(self, channel: Channel, order: Any, *, units: int, **more: Any) -> Any:
        """Goods come back over a counter, one of them broken."""
        asked = {
            "order_id": order["id"],
            "method": "in_store",
            "lines": [{"line_id": order["lines"][0]["id"], "quantity": units, "reason": "too_big"}],
            "resolution": "refund",
            "location_id": await self.channels.location("S1"),
            **more,
        }
        back = await channel.ok("POST", "/v1/returns", asked)
        line = {"line_id": order["lines"][0]["id"], "quantity": 1}
        lines = [{**line, "disposition": "damaged"}, *([{**line, "quantity": units - 1}] if units > 1 else [])]
        place = await self.channels.location("S1")
        return await self.till.ok("POST", f"/v1/returns/{back['id']}/receive", {"location_id": place, "lines": lines})

    async def picked_up(self, *tenders: Any, step: str) -> Any:
        """A customer's pickup: handed over, or kept until nobody comes."""
        sku = await self.channels.product({"S1": 4}, price=2_000)
        buyer = await self.channels.shopper("web")
        cart = await buyer.pick_up(await buyer.cart({"sku": sku, "quantity": 2}), await self.channels.location("S1"))
        answer = await buyer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": list(tenders)})
        assert answer.status_code == 201, answer.text
        order = answer.json()
        path = f"/v1/fulfillments/{order['fulfillments'][0]['id']}"
        await self.till.ok("POST", f"{path}/start")
        await self.till.ok("POST", f"{path}/pick", {"lines": [{"sku": sku, "quantity": 2}]})
        await self.till.ok("POST", f"{path}/ready")
        await self.jobs()
        if step == "hand_over":
            mine = await buyer.ok("GET", f"/v1/orders/{order['id']}")
            code = mine["fulfillments"][0]["pickup_code"]
            await self.till.ok("POST", f"{path}/hand_over", {"code": code})
            await self.jobs()
        return order

    async def no_show(self) -> None:
        """Nobody comes for what a card promised, and for what is to be paid later."""
        await self.picked_up(CARD, step="ready")
        await self.picked_up({"type": "pay_at_pickup"}, step="ready")
        self.hub.database.clock_offset = timedelta(days=9)
        await jobs.give_up_uncollected(self.hub)
        self.hub.database.clock_offset = timedelta()
        await self.jobs()

    async def paid_by_gift_and_card(self) -> None:
        """A gift card and a card, one unit called off, the others sent and brought back for credit."""
        card = await self.till.ok("POST", "/v1/gift-cards", {"balance": usd(1_500)})
        order = await self.shipped({"type": "gift_card", "code": card["code"]}, CARD, last="")
        lines = [{"line_id": order["lines"][0]["id"], "quantity": 1}]
        body = {"reason": "customer_request", "lines": lines}
        await self.channels["call_center"].ok("POST", f"/v1/orders/{order['id']}/cancel", body)
        await self.jobs()
        path = f"/v1/fulfillments/{order['fulfillments'][0]['id']}"
        sku = order["lines"][0]["sku"]
        for step, what in (("start", None), ("pick", {"lines": [{"sku": sku, "quantity": 2}]}), ("pack", None)):
            await self.channels["warehouse"].ok("POST", f"{path}/{step}", what)
        for step in ("ship", "deliver"):
            await self.channels["warehouse"].ok("POST", f"{path}/{step}")
        await self.jobs()

    async def credited(self) -> None:
        """A customer takes credit for what they bring back."""
        order = await self.picked_up(CARD, step="hand_over")
        await self.bring_back(self.till, order, units=1, resolution="store_credit")

    async def called_off(self) -> None:
        """Whole orders: what a card promised, and what a gift card paid."""
        card = await self.till.ok("POST", "/v1/gift-cards", {"balance": usd(9_000)})
        for tender in (CARD, {"type": "gift_card", "code": card["code"]}):
            order = await self.shipped(tender, last="")
            await self.channels["call_center"].ok("POST", f"/v1/orders/{order['id']}/cancel", {"reason": "fraud"})
            await self.jobs()

    async def under_way(self) -> None:
        """A payer who has yet to act, at the bank's page."""
        sku = await self.channels.product({"DC1": 2})
        cart = await self.app.cart({"sku": sku, "quantity": 2}, ship=True)
        begun = await self.app.check_out(cart, {**CARD, "payment_method": "pm_requires_action"})
        assert begun.status_code == 202, begun.text

    async def declined(self) -> None:
        """A card that is declined, and another that is not."""
        sku = await self.channels.product({"DC1": 2})
        cart = await self.app.cart({"sku": sku}, ship=True)
        answer = await self.app.check_out(cart, {**CARD, "payment_method": "pm_declined"})
        assert answer.status_code == 402, answer.text
        assert (await self.app.check_out(cart, CARD)).status_code == 201

    async def all_of_it(self) -> None:
        """Everything, and what follows from it."""
        await self.at_the_till()
        for last in ("", "start", "pick", "pack", "ship"):
            await self.shipped(last=last)
        order = await self.shipped()
        await self.bring_back(self.till, order, units=2)
        await self.paid_by_gift_and_card()
        await self.credited()
        await self.no_show()
        await self.picked_up(CARD, step="ready")
        await self.called_off()
        await self.declined()
        await self.under_way()
        await self.jobs()


@asynccontextmanager
async def living(given: Settings, url: str) -> AsyncIterator[Life]:
    """A hub on a database of its own, over HTTP and below."""
    own = msgspec.structs.replace(given, database_url=url)
    app = create_app(own)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with (
        open_hub(own) as hub,
        app.lifespan(),
        httpx.AsyncClient(transport=transport, base_url=own.base_url) as client,
    ):
        keys = {name: planting.demo_secret(SECRET, name) for name in planting.KEYS}
        yield Life(Channels(client, keys), hub)
