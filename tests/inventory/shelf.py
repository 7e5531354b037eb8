"""A location with stock of a test's own, and the shortest words for what happens there."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection

import inventory
from commercehub import ids

SET_POSITION = """
UPDATE inventory.positions SET {} = $3 WHERE sku = $1 AND location_id = $2
"""


def new_sku(name: str = "SKU") -> str:
    return f"{name}-{ids.new().hex}"


async def build_location(db: Connection, *, now: datetime, **facts: Any) -> UUID:
    location_id = ids.new()
    location = {
        "code": location_id.hex,
        "name": "A store",
        "kind": "store",
        "address": {"city": "Austin"},
        "latitude": 30.27,
        "longitude": -97.74,
        "timezone": "America/Chicago",
        "capabilities": ("ship", "pickup"),
        "opening_hours": {"mon": [["09:00", "20:00"]]},
        "holidays": (),
        "pickup_window_days": 7,
        **facts,
    }
    await inventory.create_location(db, inventory.Location(id=location_id, **location), now=now)
    return location_id


class Shelf:
    """One location, as one connection sees it. Every SKU is made by the test itself."""

    def __init__(self, db: Connection, location_id: UUID, now: datetime) -> None:
        self.db, self.location_id, self.now = db, location_id, now

    @classmethod
    async def build(cls, db: Connection, *, now: datetime) -> "Shelf":
        return cls(db, await build_location(db, now=now), now)

    async def stock(self, on_hand: int = 0, *, name: str = "SKU", **columns: int) -> str:
        """A new SKU with units on this shelf; ``columns`` are set as they are given."""
        sku = new_sku(name)
        if on_hand:
            await inventory.move_stock(self.db, [self.move(sku, on_hand, kind="receipt")], now=self.now)
        else:
            opening = inventory.Opening(sku=sku, location_id=self.location_id, quantity=0)
            await inventory.open_stock(self.db, [opening], actor="tester", channel="store", now=self.now)
        for column, value in columns.items():
            await self.db.execute(SET_POSITION.format(column), sku, self.location_id, value)
        return sku

    def move(self, sku: str, delta: int, *, kind: str = "adjustment", **facts: Any) -> inventory.Move:
        return inventory.Move(
            sku=sku, location_id=self.location_id, delta=delta, kind=kind, actor="tester", channel="store", **facts
        )

    def want(self, sku: str, quantity: int, *, take: bool = False) -> inventory.Want:
        return inventory.Want(line_id=ids.new(), sku=sku, location_id=self.location_id, quantity=quantity, take=take)

    def claim(self, *wants: inventory.Want, expires_in: timedelta | None = None) -> inventory.Claim:
        return inventory.Claim(
            reference=ids.new(),
            label="an order",
            wants=wants,
            actor="tester",
            channel="store",
            occurred_at=self.now,
            expires_at=self.now + expires_in if expires_in is not None else None,
        )

    async def claimed(self, *claims: inventory.Claim) -> inventory.Claimed:
        return await inventory.claim_stock(self.db, claims, now=self.now)

    async def reserve(
        self, sku: str, quantity: int, *, expires_in: timedelta | None = None
    ) -> list[tuple[UUID, inventory.Hold]]:
        """Reserve units; the pairs that end the reservation."""
        claim = self.claim(self.want(sku, quantity), expires_in=expires_in)
        assert (await self.claimed(claim)).shortages == [()]
        return await self.holds(claim.reference)

    async def holds(self, reference: UUID) -> list[tuple[UUID, inventory.Hold]]:
        return [(reference, hold) for hold in await inventory.read_holds(self.db, reference=reference)]

    async def post(self, holds: Sequence[tuple[UUID, inventory.Hold]]) -> list[inventory.Change]:
        return await inventory.post(self.db, holds, label="an order", actor="tester", channel="store", now=self.now)

    async def void(self, holds: Sequence[tuple[UUID, inventory.Hold]]) -> list[inventory.Change]:
        return await inventory.void(self.db, holds, now=self.now)

    async def level(self, sku: str) -> inventory.Level:
        (level,) = await inventory.read_levels(self.db, skus=[sku], location_ids=[self.location_id])
        return level

    async def numbers(self, sku: str) -> tuple[int, int, int]:
        """What a reader sees of a SKU here: on hand, reserved, available."""
        level = await self.level(sku)
        return level.on_hand, level.reserved, level.available

    async def ledger(self, sku: str) -> list[tuple[int, int]]:
        """The movements of a SKU here, oldest first, as (delta, balance)."""
        movements = await inventory.list_movements(
            self.db, sku=sku, location_id=self.location_id, before_id=None, limit=200
        )
        return [(each.delta, each.balance) for each in reversed(movements)]

    async def column(self, sku: str, column: str) -> int:
        """A counter of the position as it is stored."""
        statement = f"SELECT {column} FROM inventory.positions WHERE sku = $1 AND location_id = $2"
        value: int = await self.db.fetchval(statement, sku, self.location_id)
        return value
