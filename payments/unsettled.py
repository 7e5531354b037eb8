"""What is not settled yet: where a payer has to go, what is given up, and what was refused and is tried again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from payments import operations
from payments.operations import Kind

TRIES_MAX: Final = 8
"""Of a capture, a void or a refund that is refused each time; then it is for a person, and ``verify`` does not forget it."""
RETRY_AFTER: Final = timedelta(minutes=10)
"""After the first refusal; each further wait is twice as long."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that a processor told of: whose it is, what of it still waits, and since when."""

    intent_id: UUID
    reference: UUID
    state: str
    processor_reference: str | None
    operation_ids: list[UUID]
    begun_at: datetime | None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A capture, a void or (``refund_id``) a refund that was refused, and may be tried anew."""

    intent_id: UUID
    reference: UUID
    kind: str
    left_minor: int
    refund_id: UUID | None = None


NEXT_URLS = """
SELECT intent.reference, operation.action_url
FROM payments.open_operations AS operation
JOIN payments.intents AS intent ON intent.id = operation.intent_id
WHERE intent.reference = ANY ($1::uuid[]) AND operation.action_url IS NOT NULL AND operation.given_up_at IS NULL
"""

GIVE_UP = """
UPDATE payments.open_operations SET given_up_at = coalesce(given_up_at, $2)
WHERE operation_id = $1 AND kind = 'authorize'
RETURNING operation_id
"""

READ_STANDING = """
SELECT intent.id AS intent_id, intent.reference, intent.state, intent.processor_reference,
       coalesce(array_agg(operation.operation_id) FILTER (WHERE operation.operation_id IS NOT NULL), '{}')
           AS operation_ids,
       max(operation.begun_at) AS begun_at
FROM payments.intents AS intent
LEFT JOIN payments.open_operations AS operation ON operation.intent_id = intent.id
WHERE intent.processor = $1 AND intent.id = ANY ($2::uuid[])
GROUP BY intent.id
"""

FIRST_AUTHORIZATION = """
SELECT operation_id FROM payments.operations WHERE intent_id = $1 AND kind = 'authorize' ORDER BY id LIMIT 1
"""

REFUSED = """
SELECT intent.id AS intent_id, intent.reference, refused.kind,
       intent.authorized_minor - intent.captured_minor - intent.voided_minor AS left_minor
FROM (
    SELECT intent_id, kind, count(*) AS tries, max(at) AS at
    FROM payments.operations
    WHERE state IN ('declined', 'failed') AND kind IN ('capture', 'void')
    GROUP BY intent_id, kind
) AS refused
JOIN payments.intents AS intent ON intent.id = refused.intent_id
WHERE intent.state = 'authorized'
  AND refused.tries < $2
  AND refused.at + $3::interval * power(2, refused.tries - 1) <= $1
  AND NOT EXISTS (SELECT FROM payments.open_operations AS operation WHERE operation.intent_id = intent.id)
ORDER BY refused.at
LIMIT $4
"""

# A refund over a tender over which somebody gave back since may have been made good for by that: a person looks into it.
REFUSED_REFUNDS = """
SELECT refund.id AS refund_id, refund.intent_id, refund.reference, 'refund' AS kind, refund.amount_minor AS left_minor
FROM payments.operations AS refused
JOIN payments.refunds AS refund ON refund.id = refused.operation_id AND refund.intent_id = refused.intent_id
CROSS JOIN LATERAL (
    SELECT count(*) AS tries FROM payments.operations AS operation
    WHERE operation.intent_id = refused.intent_id AND operation.kind = 'refund'
      AND operation.state IN ('declined', 'failed')
) AS tried
WHERE refused.kind = 'refund' AND refused.state IN ('declined', 'failed') AND NOT refund.waits
  AND tried.tries < $2
  AND refused.at + $3::interval * power(2, tried.tries - 1) <= $1
  AND NOT EXISTS (
      SELECT FROM payments.refunds AS later
      WHERE later.reference = refund.reference AND later.intent_id = refund.intent_id AND later.created_at > refused.at
  )
  AND NOT EXISTS (SELECT FROM payments.open_operations AS operation WHERE operation.intent_id = refund.intent_id)
ORDER BY refused.at
LIMIT $4
"""

RENEW_REFUND = """
UPDATE payments.refunds AS refund
SET id = $2
WHERE refund.id = $1 AND NOT refund.waits AND EXISTS (
    SELECT FROM payments.operations AS operation
    WHERE operation.intent_id = refund.intent_id AND operation.operation_id = refund.id
      AND operation.state IN ('declined', 'failed')
)
RETURNING refund.intent_id, refund.amount_minor
"""


async def read_next_urls(db: Connection, *, references: Sequence[UUID]) -> dict[UUID, str]:
    """Where the payers of these references have to go, for those that a processor waits for."""
    rows = await db.fetch(NEXT_URLS, list(references))
    return {row["reference"]: row["action_url"] for row in rows}


async def give_up(db: Connection, *, operation_id: UUID, now: datetime) -> bool:
    """Nobody waits for this authorization any more: from now on it cannot succeed. False if it has ended already."""
    return await db.fetchval(GIVE_UP, operation_id, now) is not None


async def read_standing(db: Connection, *, processor_name: str, intent_ids: Sequence[UUID]) -> dict[UUID, Standing]:
    """How the payments of a processor stand, by the intents' ids; those that are none of ours are missing."""
    rows = await db.fetch(READ_STANDING, processor_name, list(intent_ids))
    return {row["intent_id"]: msgspec.convert(dict(row), Standing) for row in rows}


async def read_first_authorization(db: Connection, *, intent_id: UUID) -> UUID | None:
    """The operation by which an intent was to be authorized: its id was the key."""
    operation_id: UUID | None = await db.fetchval(FIRST_AUTHORIZATION, intent_id)
    return operation_id


async def find_refused(db: Connection, *, limit: int, now: datetime) -> list[Refused]:
    """Captures, voids and refunds that were refused long enough ago to be tried again.

    Captures and voids of payments that are still held; refunds over tenders over which nothing went back since.
    """
    rows = await db.fetch(REFUSED, now, TRIES_MAX, RETRY_AFTER, limit)
    refunds = await db.fetch(REFUSED_REFUNDS, now, TRIES_MAX, RETRY_AFTER, limit)
    return [msgspec.convert(dict(row), Refused) for row in (*rows, *refunds)]


async def begin_refund_anew(db: Connection, *, refund_id: UUID, new_id: UUID, now: datetime) -> int:
    """Begin a refund that was refused once more, under an id of its own; returns how many minor units.

    None where it is not refused. What was refused stays among the operations. The sale is locked; ``IntentSettled``
    where not that much is left of the tender.
    """
    row = await db.fetchrow(RENEW_REFUND, refund_id, new_id)
    if row is None:
        return 0
    await operations.begin(db, [(new_id, row["intent_id"], Kind.REFUND, row["amount_minor"])], now=now)
    return int(row["amount_minor"])
