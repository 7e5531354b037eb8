"""Many buyers at once: carts made beforehand, then everybody at the same moment."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import httpx

from commercehub import ids
from commercehub.database import Database
from tests.client import SHIP_TO, Channel
from tests.serving import findings

T = TypeVar("T")

CARD = {"type": "card", "payment_method": "pm_ok"}
CASH = {"type": "cash"}
SHOPPERS_AT_ONCE = 32


async def fill_carts(channel: Channel, many: int, *skus: str, ship: bool = True) -> list[dict[str, Any]]:
    """So many carts of one unit of each SKU, some at a time: this is not the race."""
    few = asyncio.Semaphore(SHOPPERS_AT_ONCE)

    async def fill() -> dict[str, Any]:
        async with few:
            return await fill_cart(channel, *skus, ship=ship)

    return list(await asyncio.gather(*(fill() for _ in range(many))))


async def fill_cart(channel: Channel, *skus: str, ship: bool = True) -> dict[str, Any]:
    """A cart of one unit of each SKU, in this order."""
    cart = await channel.ok("POST", "/v1/carts", {})
    for sku in skus:
        await channel.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku}, token=cart["token"])
    if ship:
        delivery = {"method": "ship", "address": SHIP_TO}
        await channel.ok("PUT", f"/v1/carts/{cart['id']}/delivery", delivery, token=cart["token"])
    return dict(cart)


async def at_once(calls: Iterable[Awaitable[T]]) -> list[T]:
    """What everybody got."""
    return list(await asyncio.gather(*calls))


def counted(answers: Iterable[httpx.Response]) -> Mapping[tuple[int, str | None], int]:
    """How often each status and code came."""
    return Counter((answer.status_code, answer.json().get("code")) for answer in answers)


def order_ids(answers: Iterable[httpx.Response]) -> list[UUID]:
    """The orders that were made."""
    return [ids.parse("ord", answer.json()["id"]) for answer in answers if answer.status_code == 201]


async def is_sound(database: Database) -> None:
    """No counter differs from its ledger, in any room."""
    async with database.connection() as db:
        assert await findings(db) == []
