"""Goods that come back: onto the shelf, or set aside as damaged or to be looked at."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
from asyncpg import Connection

from inventory.positions import Change, Key, read_change
from inventory.stock import ENSURE


class Bucket(StrEnum):
    """Where returned goods are put: only what is on hand can be sold again."""

    ON_HAND = "on_hand"
    DAMAGED = "damaged"
    QUARANTINE = "quarantine"


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a SKU that came back to a location. ``reference`` is what the caller calls the return."""

    sku: str
    location_id: UUID
    bucket: Bucket
    quantity: int
    reason: str | None = None


# $1-$5 one row per position, $6-$9 one row per position and bucket.
TAKE_BACK = """
WITH moved AS (
    UPDATE inventory.positions AS position
    SET on_hand = position.on_hand + given.on_hand, damaged = position.damaged + given.damaged,
        quarantine = position.quarantine + given.quarantine, version = position.version + 1
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS given (sku, location_id, on_hand, damaged, quarantine)
    WHERE position.sku = given.sku AND position.location_id = given.location_id
    RETURNING position.sku, position.location_id, position.on_hand, position.reserved, position.safety_stock,
              position.backorder_limit, position.version, position.damaged, position.quarantine
),
told AS (
    INSERT INTO inventory.movements
        (sku, location_id, bucket, delta, balance, kind, reason, reference, actor, channel, occurred_at, recorded_at)
    SELECT sku, location_id, bucket, delta,
           CASE bucket WHEN 'on_hand' THEN moved.on_hand WHEN 'damaged' THEN moved.damaged ELSE moved.quarantine END,
           'return', reason, $11, $12, $13, $14, $14
    FROM unnest($6::text[], $7::uuid[], $8::text[], $9::bigint[], $10::text[])
        AS move (sku, location_id, bucket, delta, reason)
    JOIN moved USING (sku, location_id)
)
SELECT sku, location_id, on_hand, reserved, safety_stock, backorder_limit, version FROM moved
ORDER BY sku, location_id
"""


async def take_back(
    db: Connection, returned: Sequence[Returned], *, reference: str, actor: str, channel: str, now: datetime
) -> list[Change]:
    """Put what came back where it belongs, with one movement for each SKU, location and bucket.

    A SKU new at a location begins there at zero. What is set aside cannot be promised to anybody.
    """
    if not returned:
        return []
    sums: dict[Key, dict[Bucket, int]] = defaultdict(lambda: dict.fromkeys(Bucket, 0))
    reasons: dict[tuple[str, UUID, Bucket], str | None] = {}
    for each in returned:
        sums[each.sku, each.location_id][each.bucket] += each.quantity
        # One word for one movement: goods that came back for several reasons have the first one's.
        reasons.setdefault((each.sku, each.location_id, each.bucket), each.reason)
    keys = list(sums)
    moves = [
        (*key, bucket, amount) for key, by_bucket in sums.items() for bucket, amount in by_bucket.items() if amount
    ]
    await db.execute(ENSURE, [sku for sku, _ in keys], [location_id for _, location_id in keys])
    rows = await db.fetch(
        TAKE_BACK,
        [sku for sku, _ in keys],
        [location_id for _, location_id in keys],
        [sums[key][Bucket.ON_HAND] for key in keys],
        [sums[key][Bucket.DAMAGED] for key in keys],
        [sums[key][Bucket.QUARANTINE] for key in keys],
        [sku for sku, _, _, _ in moves],
        [location_id for _, location_id, _, _ in moves],
        [bucket for _, _, bucket, _ in moves],
        [amount for _, _, _, amount in moves],
        [reasons[sku, location_id, bucket] for sku, location_id, bucket, _ in moves],
        reference,
        actor,
        channel,
        now,
    )
    return [read_change(row) for row in rows]
