"""Proof that the counters of this room say what its ledger and its reservations say."""

from typing import Final

import msgspec
from asyncpg import Connection

FINDINGS_MAX: Final = 100


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: which invariant, where, and what both sides say."""

    invariant: str
    subject: str
    expected: int
    found: int


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

_CHECKS: Final = (
    ("S1 each bucket holds the sum of its movements", BUCKETS),
    ("S1 each balance follows from the one before", BALANCE),
    ("S2 reserved is the sum of the open reservations", RESERVED),
)


async def verify(db: Connection) -> list[Finding]:
    """Every difference between counters and ledger, ``FINDINGS_MAX`` of each kind at most; empty is good."""
    return [
        Finding(invariant=invariant, subject=row["subject"], expected=row["expected"], found=row["found"])
        for invariant, statement in _CHECKS
        for row in await db.fetch(statement, FINDINGS_MAX)
    ]
