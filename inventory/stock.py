"""What lies on the shelf, and the ledger of every change of it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection

from inventory.errors import StockTooLow
from inventory.positions import Change, Key, read_change

MOVEMENTS_PAGE_MAX: Final = 200


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


# $1-$3 one row per position, in key order; $4-$12 one row per movement.
MOVE = """
WITH moved AS (
    INSERT INTO inventory.positions AS position (sku, location_id, on_hand)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[])
    ON CONFLICT (sku, location_id) DO UPDATE
    SET on_hand = position.on_hand + excluded.on_hand, version = position.version + 1
    WHERE excluded.on_hand >= 0
       OR position.on_hand + excluded.on_hand - position.reserved >= -(position.backorder_limit + position.shortfall)
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
)
SELECT * FROM moved
"""

LIST_MOVEMENTS = """
SELECT id, sku, location_id, bucket, delta, balance, kind, reason, reference, actor, channel, occurred_at, recorded_at
FROM inventory.movements
WHERE ($1::text IS NULL OR sku = $1) AND ($2::uuid IS NULL OR location_id = $2) AND ($3::bigint IS NULL OR id < $3)
ORDER BY id DESC
LIMIT $4
"""

ENSURE = """
INSERT INTO inventory.positions (sku, location_id)
SELECT * FROM unnest($1::text[], $2::uuid[])
ON CONFLICT (sku, location_id) DO NOTHING
"""

OPEN = """
WITH opened AS (
    INSERT INTO inventory.opening_receipts (sku, location_id, quantity)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[])
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
    """Change what is on hand, all or nothing, with one movement per item.

    ``StockTooLow`` if a fall would leave less than is reserved. A SKU new at a location begins there at zero.
    """
    sums: dict[Key, int] = defaultdict(int)
    for move in moves:
        sums[move.sku, move.location_id] += move.delta
    keys = sorted(sums)
    try:
        rows = await db.fetch(
            MOVE,
            [sku for sku, _ in keys],
            [location_id for _, location_id in keys],
            [sums[key] for key in keys],
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
    except asyncpg.CheckViolationError:
        # A fall at a place that never held the SKU: the row to be inserted is already below zero.
        sku, location_id = next(key for key in keys if sums[key] < 0)
        raise StockTooLow(sku, location_id) from None
    changes = [read_change(row) for row in rows]
    refused = set(keys) - {(change.sku, change.location_id) for change in changes}
    if refused:
        sku, location_id = min(refused)
        raise StockTooLow(sku, location_id)
    return changes


async def open_stock(
    db: Connection, openings: Sequence[Opening], *, actor: str, channel: str, now: datetime
) -> set[str]:
    """Receive what an import brings, once per SKU and location; returns the SKUs that were received now.

    Sent again, nothing changes, whatever was sold or received meanwhile.
    """
    ordered = sorted(openings, key=lambda opening: (opening.sku, opening.location_id))
    await db.execute(ENSURE, [o.sku for o in ordered], [o.location_id for o in ordered])
    stocked = [opening for opening in ordered if opening.quantity > 0]
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
