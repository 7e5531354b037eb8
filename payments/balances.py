"""What stands behind a sale, tender by tender: taken, promised, being asked for, let go of, and given back."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from payments.intents import COLUMNS, Intent, intent_of

GOODWILL: Final = "goodwill"
"""The reason of a refund that is a present: it leaves a sale paid for."""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A tender and what is under way for it, in minor units.

    ``taken_back_minor``: given back, being given back or owed, and neither for goods that came back nor as goodwill; a
    refund that was refused is none. ``capture_refused``: the last capture that ended was, so that what is promised is
    not to be relied upon.
    """

    intent: Intent
    capturing_minor: int = 0
    voiding_minor: int = 0
    taken_back_minor: int = 0
    capture_refused: bool = False

    @property
    def taken_minor(self) -> int:
        """What was captured or is being captured."""
        return self.intent.captured_minor + self.capturing_minor

    @property
    def held_minor(self) -> int:
        """What a processor holds and nobody asks for yet."""
        intent = self.intent
        return intent.authorized_minor - self.taken_minor - intent.voided_minor - self.voiding_minor

    @property
    def secured_minor(self) -> int:
        """What is in hand or can be relied upon: nothing that a processor refused to capture."""
        if self.capture_refused:
            return self.intent.captured_minor
        return self.taken_minor + self.held_minor

    @property
    def covered_minor(self) -> int:
        """What need not be asked of the payer: it is secured, or being asked for already."""
        return self.taken_minor if self.capture_refused else self.intent.covered_minor - self.voiding_minor


READ_BALANCES = f"""
SELECT {COLUMNS}, coalesce(going.capturing, 0)::bigint AS capturing_minor,
       coalesce(going.voiding, 0)::bigint AS voiding_minor, coalesce(back.total, 0)::bigint AS taken_back_minor,
       coalesce(ended.state <> 'succeeded', false) AS capture_refused
FROM payments.intents AS intent
LEFT JOIN LATERAL (
    SELECT sum(amount_minor) FILTER (WHERE kind = 'capture') AS capturing,
           sum(amount_minor) FILTER (WHERE kind = 'void') AS voiding
    FROM payments.open_operations AS operation WHERE operation.intent_id = intent.id
) AS going ON true
LEFT JOIN LATERAL (
    SELECT sum(refund.amount_minor) AS total
    FROM payments.refunds AS refund
    WHERE refund.reference = intent.reference AND refund.intent_id = intent.id AND refund.cause IS NULL
      AND refund.reason <> $2
      AND NOT EXISTS (
          SELECT FROM payments.operations AS operation
          WHERE operation.intent_id = intent.id AND operation.operation_id = refund.id
            AND operation.state IN ('declined', 'failed')
      )
) AS back ON true
LEFT JOIN LATERAL (
    SELECT operation.state FROM payments.operations AS operation
    WHERE operation.intent_id = intent.id AND operation.kind = 'capture'
      AND operation.state IN ('succeeded', 'declined', 'failed')
    ORDER BY operation.id DESC LIMIT 1
) AS ended ON intent.processor IS NOT NULL
WHERE intent.reference = ANY ($1::uuid[])
ORDER BY intent.reference, intent.created_at, intent.position
"""


async def read_balances(db: Connection, *, references: Sequence[UUID]) -> list[Balance]:
    """The tenders of the references with what is under way for each, in the order in which they were given."""
    return [
        Balance(
            intent=intent_of(row),
            capturing_minor=row["capturing_minor"],
            voiding_minor=row["voiding_minor"],
            taken_back_minor=row["taken_back_minor"],
            capture_refused=row["capture_refused"],
        )
        for row in await db.fetch(READ_BALANCES, list(references), GOODWILL)
    ]
