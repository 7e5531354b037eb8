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


ON_HAND = """
SELECT position.sku || ' at ' || position.location_id AS subject,
       coalesce(ledger.total, 0)::bigint AS expected, position.on_hand AS found
FROM inventory.positions AS position
LEFT JOIN (
    SELECT sku, location_id, sum(delta) AS total FROM inventory.movements WHERE bucket = 'on_hand'
    GROUP BY sku, location_id
) AS ledger USING (sku, location_id)
WHERE position.on_hand <> coalesce(ledger.total, 0)
ORDER BY position.sku, position.location_id
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
    ("S1 on hand is the sum of the movements", ON_HAND),
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
