"""A stock position: one SKU at one location, as a change leaves it."""

from uuid import UUID

import msgspec
from asyncpg import Record

Key = tuple[str, UUID]
"""A stock key: SKU and location."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A position after a change, with the version that it reached."""

    sku: str
    location_id: UUID
    on_hand: int
    reserved: int
    safety_stock: int
    backorder_limit: int
    version: int

    @property
    def available(self) -> int:
        """Available to promise; never below zero for a reader."""
        return max(0, self.on_hand - self.reserved - self.safety_stock + self.backorder_limit)


def read_change(row: Record) -> Change:
    """Read what a statement returned of a position."""
    return Change(
        sku=row["sku"],
        location_id=row["location_id"],
        on_hand=row["on_hand"],
        reserved=row["reserved"],
        safety_stock=row["safety_stock"],
        backorder_limit=row["backorder_limit"],
        version=row["version"],
    )
