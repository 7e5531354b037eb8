"""What can be promised where. Reads only: a promise is made by the claim in ``reservations``, which checks again."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
from asyncpg import Connection


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One SKU at one location, expired holds already given back."""

    sku: str
    location_id: UUID
    on_hand: int
    reserved: int
    safety_stock: int
    backorder_limit: int
    capabilities: tuple[str, ...]
    latitude: float
    longitude: float

    @property
    def available(self) -> int:
        """Available to promise, the same expression as in the claim; never below zero for a reader."""
        return max(0, self.on_hand - self.reserved - self.safety_stock + self.backorder_limit)


READ = """
SELECT position.sku, position.location_id, position.on_hand,
       position.reserved - coalesce(expired.quantity, 0) AS reserved,
       position.safety_stock, position.backorder_limit,
       place.capabilities, place.latitude, place.longitude
FROM inventory.positions AS position
JOIN inventory.locations AS place ON place.id = position.location_id
LEFT JOIN (
    SELECT sku, location_id, sum(quantity)::bigint AS quantity
    FROM inventory.reservations
    WHERE sku = ANY ($1::text[]) AND state = 'open' AND expires_at <= now() + $3::interval
    GROUP BY sku, location_id
) AS expired ON expired.sku = position.sku AND expired.location_id = position.location_id
WHERE position.sku = ANY ($1::text[]) AND ($2::uuid[] IS NULL OR position.location_id = ANY ($2::uuid[]))
ORDER BY position.sku, lower(place.code)
"""


async def read_levels(
    db: Connection,
    *,
    skus: Sequence[str],
    location_ids: Sequence[UUID] | None = None,
    clock_offset: timedelta = timedelta(),
) -> list[Level]:
    """The levels of the SKUs at all locations or at those named; what lies nowhere has no level."""
    rows = await db.fetch(READ, list(skus), list(location_ids) if location_ids is not None else None, clock_offset)
    return [
        Level(
            sku=row["sku"],
            location_id=row["location_id"],
            on_hand=row["on_hand"],
            reserved=row["reserved"],
            safety_stock=row["safety_stock"],
            backorder_limit=row["backorder_limit"],
            capabilities=tuple(row["capabilities"]),
            latitude=row["latitude"],
            longitude=row["longitude"],
        )
        for row in rows
    ]
