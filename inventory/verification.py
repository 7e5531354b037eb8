"""Proof that the counters of this room say what its ledger and its reservations say, and what both say of each order."""

from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

FINDINGS_MAX: Final = 1_000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: which invariant, where, and what both sides say."""

    invariant: str
    subject: str
    expected: int
    found: int


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference's line holds at a location (``open``, of which ``picked``), and what has left from there."""

    line_id: UUID
    sku: str
    location_id: UUID
    open: int
    picked: int
    posted: int


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of a label's movements of one kind in one bucket."""

    sku: str
    location_id: UUID
    kind: str
    bucket: str
    delta: int


BUCKETS = """
SELECT position.sku || ' at ' || position.location_id || ', ' || counter.bucket AS subject,
       coalesce(ledger.total, 0)::bigint AS expected, counter.quantity AS found
FROM inventory.positions AS position
CROSS JOIN LATERAL (VALUES
    ('on_hand', position.on_hand), ('damaged', position.damaged), ('quarantine', position.quarantine),
    ('in_transit', position.in_transit)
) AS counter (bucket, quantity)
LEFT JOIN (
    SELECT sku, location_id, bucket, sum(delta) AS total FROM inventory.movements GROUP BY sku, location_id, bucket
) AS ledger
    ON ledger.sku = position.sku AND ledger.location_id = position.location_id AND ledger.bucket = counter.bucket
WHERE counter.quantity <> coalesce(ledger.total, 0)
ORDER BY position.sku, position.location_id, counter.bucket
LIMIT $1
"""

RESERVED = """
SELECT position.sku || ' at ' || position.location_id AS subject,
       coalesce(held.total, 0)::bigint AS expected, position.reserved AS found
FROM inventory.positions AS position
LEFT JOIN (
    SELECT sku, location_id, sum(quantity) AS total FROM inventory.reservations WHERE state = 'open'
    GROUP BY sku, location_id
) AS held USING (sku, location_id)
WHERE position.reserved <> coalesce(held.total, 0)
ORDER BY position.sku, position.location_id
LIMIT $1
"""

BALANCE = """
SELECT chain.id::text || ' of ' || chain.sku || ' at ' || chain.location_id AS subject,
       (chain.before + chain.delta)::bigint AS expected, chain.balance AS found
FROM (
    SELECT id, sku, location_id, delta, balance,
           coalesce(lag(balance) OVER (PARTITION BY sku, location_id, bucket ORDER BY id), 0) AS before
    FROM inventory.movements
) AS chain
WHERE chain.before + chain.delta <> chain.balance
ORDER BY chain.id
LIMIT $1
"""

# A CHECK stands before it; whoever lifted the one is told by the other.
OVERSOLD = """
SELECT sku || ' at ' || location_id AS subject, -(backorder_limit + shortfall) AS expected, on_hand - reserved AS found
FROM inventory.positions
WHERE reserved < 0 OR on_hand - reserved < -(backorder_limit + shortfall)
ORDER BY sku, location_id
LIMIT $1
"""

# Holds that the clock ends are carts', not orders'.
READ_HELD = """
SELECT reference, line_id, sku, location_id,
       coalesce(sum(quantity) FILTER (WHERE state = 'open'), 0)::bigint AS open,
       coalesce(sum(picked) FILTER (WHERE state = 'open'), 0)::bigint AS picked,
       coalesce(sum(quantity) FILTER (WHERE state = 'posted'), 0)::bigint AS posted
FROM inventory.reservations
WHERE reference > $1 AND reference <= $2
  AND ((state = 'open' AND expires_at IS NULL) OR state = 'posted')
GROUP BY reference, line_id, sku, location_id
ORDER BY reference
"""

READ_MOVED = """
SELECT reference, sku, location_id, kind, bucket, sum(delta)::bigint AS delta
FROM inventory.movements
WHERE reference > $1 AND reference <= $2
GROUP BY reference, sku, location_id, kind, bucket
ORDER BY reference
"""

_CHECKS: Final = (
    ("S1 each bucket holds the sum of its movements", BUCKETS),
    ("S1 each balance follows from the one before", BALANCE),
    ("S2 reserved is the sum of the open reservations", RESERVED),
    ("S2 no more is promised than there is", OVERSOLD),
)


async def verify(db: Connection) -> list[Finding]:
    """Every difference between counters and ledger, ``FINDINGS_MAX`` of each kind at most; empty is good."""
    return [
        Finding(invariant=invariant, subject=row["subject"], expected=row["expected"], found=row["found"])
        for invariant, statement in _CHECKS
        for row in await db.fetch(statement, FINDINGS_MAX)
    ]


async def read_held(db: Connection, *, after: UUID, until: UUID) -> dict[UUID, list[Held]]:
    """What every reference behind one and up to another holds or has taken by a hold, in their order."""
    held: dict[UUID, list[Held]] = {}
    for row in await db.fetch(READ_HELD, after, until):
        held.setdefault(row["reference"], []).append(
            Held(
                line_id=row["line_id"],
                sku=row["sku"],
                location_id=row["location_id"],
                open=row["open"],
                picked=row["picked"],
                posted=row["posted"],
            )
        )
    return held


async def read_moved(db: Connection, *, after: str, until: str) -> dict[str, list[Moved]]:
    """What was moved under every label behind one and up to another, in their order."""
    moved: dict[str, list[Moved]] = {}
    for row in await db.fetch(READ_MOVED, after, until):
        moved.setdefault(row["reference"], []).append(
            Moved(
                sku=row["sku"],
                location_id=row["location_id"],
                kind=row["kind"],
                bucket=row["bucket"],
                delta=row["delta"],
            )
        )
    return moved
