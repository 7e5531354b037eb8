"""Proof that the work of this room is what its states say, and what it says of each order, for whoever compares."""

from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from fulfillment.fulfillments import Fulfillment, Kind, Line, State

FINDINGS_MAX: Final = 1_000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: which invariant, where, and what both sides say."""

    invariant: str
    subject: str
    expected: int
    found: int


EMPTY = """
SELECT work.id::text AS subject, 1::bigint AS expected, 0::bigint AS found
FROM fulfillment.fulfillments AS work
LEFT JOIN fulfillment.lines AS line ON line.fulfillment_id = work.id
WHERE line.fulfillment_id IS NULL
ORDER BY work.id
LIMIT $1
"""

# What was called off may have been picked or not.
PICKED = """
SELECT work.id || ', ' || line.sku AS subject,
       CASE WHEN work.state IN ('open', 'picking') THEN 0 ELSE line.quantity END AS expected, line.picked AS found
FROM fulfillment.fulfillments AS work
JOIN fulfillment.lines AS line ON line.fulfillment_id = work.id
WHERE work.state <> 'cancelled'
  AND line.picked <> CASE WHEN work.state IN ('open', 'picking') THEN 0 ELSE line.quantity END
ORDER BY work.id, line.position
LIMIT $1
"""

PARCELS = """
SELECT work.id::text AS subject, 1::bigint AS expected, 0::bigint AS found
FROM fulfillment.fulfillments AS work
LEFT JOIN fulfillment.parcels AS parcel ON parcel.fulfillment_id = work.id
WHERE work.state IN ('packed', 'shipped', 'delivered') AND parcel.fulfillment_id IS NULL
ORDER BY work.id
LIMIT $1
"""

CODES = """
SELECT id::text AS subject, 1::bigint AS expected, 0::bigint AS found
FROM fulfillment.fulfillments
WHERE state IN ('ready', 'handed_over') AND (code_hash IS NULL OR collect_by IS NULL)
ORDER BY id
LIMIT $1
"""

READ_WORK = """
SELECT work.reference, work.id, work.kind, work.method, work.location_id, work.state, work.version, work.created_at,
       line.line_id, line.sku, line.quantity, line.picked
FROM fulfillment.fulfillments AS work
LEFT JOIN fulfillment.lines AS line ON line.fulfillment_id = work.id
WHERE work.reference > $1 AND work.reference <= $2
ORDER BY work.reference, work.id, line.position
"""

_CHECKS: Final = (
    ("S3 work is about some goods", EMPTY),
    ("S3 what was picked is all that was asked for, or nothing yet", PICKED),
    ("S3 what was packed is in a parcel", PARCELS),
    ("O5 what waits for a customer, or was handed over, has a code", CODES),
)


async def verify(db: Connection) -> list[Finding]:
    """Every difference within the work, ``FINDINGS_MAX`` of each kind at most; empty is good."""
    return [
        Finding(invariant=invariant, subject=row["subject"], expected=row["expected"], found=row["found"])
        for invariant, statement in _CHECKS
        for row in await db.fetch(statement, FINDINGS_MAX)
    ]


async def read_work(db: Connection, *, after: UUID, until: UUID) -> dict[UUID, list[Fulfillment]]:
    """The work for every reference behind one and up to another, in their order."""
    work: dict[UUID, list[Fulfillment]] = {}
    lines: dict[UUID, list[Line]] = {}
    rows = await db.fetch(READ_WORK, after, until)
    for row in rows:
        of_work = lines.setdefault(row["id"], [])
        if row["line_id"] is not None:
            of_work.append(Line(line_id=row["line_id"], sku=row["sku"], quantity=row["quantity"], picked=row["picked"]))
    for row in rows:
        if row["id"] not in lines:
            continue
        work.setdefault(row["reference"], []).append(
            Fulfillment(
                id=row["id"],
                reference=row["reference"],
                kind=Kind(row["kind"]),
                method=row["method"],
                location_id=row["location_id"],
                state=State(row["state"]),
                version=row["version"],
                created_at=row["created_at"],
                lines=tuple(lines.pop(row["id"])),
            )
        )
    return work
