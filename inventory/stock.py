"""What lies on the shelf, and the ledger of every change of it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from inventory.errors import StockTooLow
from inventory.positions import Change, Key, read_change
from inventory.reservations import fold_expired

MOVEMENTS_PAGE_MAX: Final = 201
"""A page of the API and one more, by which it knows that there is a next one."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One change of what is on hand. ``reference`` is what the caller calls its cause."""

    sku: str
    location_id: UUID
    delta: int
    kind: str
    actor: str
    channel: str
    reason: str | None = None
    reference: str | None = None


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger: ``balance`` is what the bucket held after it."""

    id: int
    sku: str
    location_id: UUID
    bucket: str
    delta: int
    balance: int
    kind: str
    reason: str | None
    reference: str | None
    actor: str
    channel: str
    occurred_at: datetime
    recorded_at: datetime


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What an import says lies at a location when the hub first hears of it."""

    sku: str
    location_id: UUID
    quantity: int


# Makes the positions that are new and locks the others, lowest key first. A WHERE that is never true locks a row
# without writing it. Moves cannot come in by the INSERT itself: a CHECK judges the row that is to be inserted before
# the conflict is seen, and would refuse every fall.
ENSURE = """
INSERT INTO inventory.positions AS position (sku, location_id)
SELECT DISTINCT sku, location_id FROM unnest($1::text[], $2::uuid[]) AS key (sku, location_id)
ORDER BY sku, location_id
ON CONFLICT (sku, location_id) DO UPDATE SET version = position.version WHERE false
"""

# $1-$3 one row per position, $4-$12 one row per movement. One fall that is refused refuses all.
MOVE = """
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS given (sku, location_id, delta)
),
refused AS (
    SELECT position.sku, position.location_id, position.on_hand, position.reserved, position.safety_stock,
           position.backorder_limit, position.version
    FROM inventory.positions AS position
    JOIN given ON given.sku = position.sku AND given.location_id = position.location_id
    WHERE given.delta < 0
      AND position.on_hand + given.delta - position.reserved < -(position.backorder_limit + position.shortfall)
),
moved AS (
    UPDATE inventory.positions AS position
    SET on_hand = position.on_hand + given.delta, version = position.version + 1
    FROM given
    WHERE position.sku = given.sku AND position.location_id = given.location_id AND NOT EXISTS (SELECT FROM refused)
    RETURNING position.sku, position.location_id, position.on_hand, position.reserved, position.safety_stock,
              position.backorder_limit, position.version
),
told AS (
    INSERT INTO inventory.movements
        (sku, location_id, bucket, delta, balance, kind, reason, reference, actor, channel, occurred_at, recorded_at)
    SELECT sku, location_id, 'on_hand', delta,
           moved.on_hand - sum(delta) OVER (PARTITION BY sku, location_id)
                         + sum(delta) OVER (PARTITION BY sku, location_id ORDER BY position),
           kind, reason, reference, actor, channel, $13, $13
    FROM unnest($4::text[], $5::uuid[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
                $12::int[])
        AS move (sku, location_id, delta, kind, reason, reference, actor, channel, position)
    JOIN moved USING (sku, location_id)
    ORDER BY position
)
SELECT *, false AS is_refused FROM moved
UNION ALL
SELECT *, true AS is_refused FROM refused
ORDER BY sku, location_id
"""

LIST_MOVEMENTS = """
SELECT id, sku, location_id, bucket, delta, balance, kind, reason, reference, actor, channel, occurred_at, recorded_at
FROM inventory.movements
WHERE ($1::text IS NULL OR sku = $1) AND ($2::uuid IS NULL OR location_id = $2) AND ($3::bigint IS NULL OR id < $3)
ORDER BY id DESC
LIMIT $4
"""

OPEN = """
WITH opened AS (
    INSERT INTO inventory.opening_receipts (sku, location_id, quantity)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[])
    ON CONFLICT (sku, location_id) DO NOTHING
    RETURNING sku, location_id, quantity
),
moved AS (
    UPDATE inventory.positions AS position
    SET on_hand = position.on_hand + opened.quantity, version = position.version + 1
    FROM opened
    WHERE position.sku = opened.sku AND position.location_id = opened.location_id
    RETURNING position.sku, position.location_id, position.on_hand, opened.quantity
),
told AS (
    INSERT INTO inventory.movements
        (sku, location_id, bucket, delta, balance, kind, reference, actor, channel, occurred_at, recorded_at)
    SELECT sku, location_id, 'on_hand', quantity, on_hand, 'receipt', 'opening', $4, $5, $6, $6 FROM moved
)
SELECT sku FROM moved
"""


async def move_stock(db: Connection, moves: Sequence[Move], *, now: datetime) -> list[Change]:
    """Change what is on hand, all or nothing, with one movement per item; what changes nothing is left out.

    ``StockTooLow`` if a fall would leave less than is reserved. A SKU new at a location begins there at zero.
    """
    moves = [move for move in moves if move.delta]
    if not moves:
        return []
    sums: dict[Key, int] = defaultdict(int)
    for move in moves:
        sums[move.sku, move.location_id] += move.delta
    skus, location_ids = [sku for sku, _ in sums], [location_id for _, location_id in sums]
    await db.execute(ENSURE, skus, location_ids)
    falling = [key for key, delta in sums.items() if delta < 0]
    if falling:
        await fold_expired(db, keys=falling, now=now)
    rows = await db.fetch(
        MOVE,
        skus,
        location_ids,
        list(sums.values()),
        [move.sku for move in moves],
        [move.location_id for move in moves],
        [move.delta for move in moves],
        [move.kind for move in moves],
        [move.reason for move in moves],
        [move.reference for move in moves],
        [move.actor for move in moves],
        [move.channel for move in moves],
        list(range(len(moves))),
        now,
    )
    if rows[0]["is_refused"]:
        raise StockTooLow(rows[0]["sku"], rows[0]["location_id"])
    return [read_change(row) for row in rows]


async def open_stock(
    db: Connection, openings: Sequence[Opening], *, actor: str, channel: str, now: datetime
) -> set[str]:
    """Receive what an import brings, once per SKU and location; returns the SKUs that were received now.

    Sent again, nothing changes, whatever was sold or received meanwhile.
    """
    if not openings:
        return set()
    await db.execute(ENSURE, [o.sku for o in openings], [o.location_id for o in openings])
    stocked = [opening for opening in openings if opening.quantity > 0]
    rows = await db.fetch(
        OPEN,
        [o.sku for o in stocked],
        [o.location_id for o in stocked],
        [o.quantity for o in stocked],
        actor,
        channel,
        now,
    )
    return {row["sku"] for row in rows}


async def list_movements(
    db: Connection, *, sku: str | None, location_id: UUID | None, before_id: int | None, limit: int
) -> list[Movement]:
    """The ledger, newest first, from below ``before_id``."""
    rows = await db.fetch(LIST_MOVEMENTS, sku, location_id, before_id, min(limit, MOVEMENTS_PAGE_MAX))
    return [msgspec.convert(dict(row), Movement) for row in rows]
