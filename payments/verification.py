"""Proof that the books of money agree with each other, and what they say of each sale, for whoever compares further.

Sums are taken over whole tables at once: that is what a nightly run over a million sales can afford.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from payments.intents import COLUMNS, Intent, intent_of

FINDINGS_MAX: Final = 1_000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: which invariant, where, and what both sides say."""

    invariant: str
    subject: str
    expected: int
    found: int


class Tender(msgspec.Struct, frozen=True, kw_only=True):
    """A tender of a sale, what is being given back over it, and whether a capture of it was ever refused."""

    intent: Intent
    refunding_minor: int
    capture_refused: bool
    created_at: datetime


class GivenBack(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as it stands: ``owed``, or the state of its operation; of credit instead, whose it is (``owner_id``)."""

    id: UUID
    reference: UUID
    intent_id: UUID | None
    stored_value_id: UUID | None
    owner_id: UUID | None
    amount_minor: int
    cause: UUID | None
    state: str | None

    @property
    def is_refused(self) -> bool:
        """Whether a processor said no: nothing went back."""
        return self.state in {"declined", "failed"}


UNBALANCED = """
SELECT transaction_id::text || ' ' || currency AS subject, 0::bigint AS expected, sum(amount_minor)::bigint AS found
FROM payments.entries
GROUP BY transaction_id, currency
HAVING sum(amount_minor) <> 0
ORDER BY transaction_id
LIMIT $1
"""

CACHED = """
SELECT intent.id::text || ' ' || kind.kind AS subject, kind.expected, kind.found
FROM payments.intents AS intent
LEFT JOIN (
    SELECT intent_id,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'authorize'), 0)::bigint AS authorized,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'capture'), 0)::bigint AS captured,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'void'), 0)::bigint AS voided,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'refund'), 0)::bigint AS refunded
    FROM payments.operations WHERE state = 'succeeded'
    GROUP BY intent_id
) AS done ON done.intent_id = intent.id
CROSS JOIN LATERAL (VALUES
    ('authorized', coalesce(CASE WHEN intent.processor IS NULL THEN done.captured ELSE done.authorized END, 0),
     intent.authorized_minor),
    ('captured', coalesce(done.captured, 0), intent.captured_minor),
    ('voided', coalesce(done.voided, 0), intent.voided_minor),
    ('refunded', coalesce(done.refunded, 0), intent.refunded_minor)
) AS kind (kind, expected, found)
WHERE kind.expected <> kind.found
ORDER BY intent.id
LIMIT $1
"""

POSTED = """
SELECT coalesce(owed.reference, paid.reference)::text AS subject,
       coalesce(paid.total, 0)::bigint AS expected, coalesce(-owed.total, 0)::bigint AS found
FROM (
    SELECT reference, sum(amount_minor) AS total FROM payments.entries WHERE account = 'orders' GROUP BY reference
) AS owed
FULL JOIN (
    SELECT reference, sum(captured_minor - refunded_minor) AS total FROM payments.intents GROUP BY reference
) AS paid ON paid.reference = owed.reference
WHERE coalesce(-owed.total, 0) <> coalesce(paid.total, 0)
ORDER BY 1
LIMIT $1
"""

# The open list is what the completer works off: an operation that is missing there would wait for ever.
LISTED = """
SELECT coalesce(begun.operation_id, listed.operation_id)::text AS subject,
       (begun.operation_id IS NOT NULL)::int AS expected, (listed.operation_id IS NOT NULL)::int AS found
FROM (
    SELECT operation_id FROM payments.operations
    GROUP BY operation_id
    HAVING bool_and(state IN ('pending', 'unknown'))
) AS begun
FULL JOIN payments.open_operations AS listed USING (operation_id)
WHERE begun.operation_id IS NULL OR listed.operation_id IS NULL
ORDER BY 1
LIMIT $1
"""

DRAWERS = """
SELECT session.id::text AS subject, due.total AS expected, coalesce(held.total, 0)::bigint AS found
FROM payments.register_sessions AS session
LEFT JOIN LATERAL (
    SELECT sum(amount_minor) AS total FROM payments.entries WHERE account = 'drawer:' || session.id
) AS held ON true
LEFT JOIN LATERAL (
    SELECT sum(captured_minor) AS total FROM payments.intents WHERE session_id = session.id AND tender = 'cash'
) AS taken ON true
LEFT JOIN LATERAL (
    SELECT sum(refund.amount_minor) AS total
    FROM payments.refunds AS refund
    JOIN payments.intents AS intent ON intent.id = refund.intent_id
    WHERE refund.session_id = session.id AND intent.tender = 'cash'
) AS given_back ON true
CROSS JOIN LATERAL (
    SELECT CASE WHEN session.closed_at IS NULL THEN session.opening_float_minor + coalesce(taken.total, 0) - coalesce(given_back.total, 0)
                ELSE 0 END::bigint AS total
) AS due
WHERE due.total <> coalesce(held.total, 0)
ORDER BY session.id
LIMIT $1
"""

STORED = """
SELECT stored.kind || ' ' || stored.id || ' ' || counter.name AS subject, counter.expected, counter.found
FROM payments.stored_values AS stored
LEFT JOIN LATERAL (
    SELECT -sum(amount_minor) AS total FROM payments.entries WHERE account = stored.kind || ':' || stored.id
) AS owed ON true
LEFT JOIN LATERAL (
    SELECT sum(amount_minor) AS total FROM payments.intents
    WHERE stored_value_id = stored.id AND state = 'pending'
) AS promised ON true
CROSS JOIN LATERAL (VALUES
    ('balance', coalesce(owed.total, 0)::bigint, stored.balance_minor),
    ('held', coalesce(promised.total, 0)::bigint, stored.held_minor)
) AS counter (name, expected, found)
WHERE counter.expected <> counter.found
ORDER BY stored.id
LIMIT $1
"""

# What is owed waits; everything else that was written down over a tender was begun.
REFUNDED = """
SELECT refund.id::text AS subject, (NOT refund.waits)::int AS expected, (begun.operation_id IS NOT NULL)::int AS found
FROM payments.refunds AS refund
LEFT JOIN LATERAL (
    SELECT operation_id FROM payments.operations
    WHERE intent_id = refund.intent_id AND operation_id = refund.id AND kind = 'refund' LIMIT 1
) AS begun ON true
WHERE refund.intent_id IS NOT NULL AND refund.waits = (begun.operation_id IS NOT NULL)
ORDER BY refund.id
LIMIT $1
"""

# Whoever lifted a CHECK, or changed a sum behind it, is told which bound is broken.
BOUNDS = """
SELECT intent.id::text || ' ' || bound.name AS subject, bound.most AS expected, bound.reached AS found
FROM payments.intents AS intent
CROSS JOIN LATERAL (VALUES
    ('authorized', intent.amount_minor, intent.authorized_minor),
    ('captured and voided', intent.authorized_minor, intent.captured_minor + intent.voided_minor),
    ('refunded', intent.captured_minor, intent.refunded_minor)
) AS bound (name, most, reached)
WHERE bound.reached NOT BETWEEN 0 AND bound.most
ORDER BY intent.id
LIMIT $1
"""

GOING_BACK = """
SELECT intent.id::text || ' ' || bound.name AS subject, bound.most AS expected, bound.reached AS found
FROM (
    SELECT intent_id, sum(refunding)::bigint AS refunding, sum(owed)::bigint AS owed
    FROM (
        SELECT intent_id, amount_minor AS refunding, 0 AS owed FROM payments.open_operations WHERE kind = 'refund'
        UNION ALL
        SELECT intent_id, 0, amount_minor FROM payments.refunds WHERE waits
    ) AS move
    GROUP BY intent_id
) AS back
JOIN payments.intents AS intent ON intent.id = back.intent_id
CROSS JOIN LATERAL (VALUES
    ('going back', intent.captured_minor, intent.refunded_minor + back.refunding),
    ('owed', intent.authorized_minor - intent.voided_minor, intent.refunded_minor + back.refunding + back.owed)
) AS bound (name, most, reached)
WHERE bound.reached > bound.most
ORDER BY intent.id
LIMIT $1
"""

AT_PROCESSORS = """
SELECT coalesce(held.account, taken.account) || ' for ' || coalesce(held.reference, taken.reference) AS subject,
       coalesce(taken.total, 0)::bigint AS expected, coalesce(held.total, 0)::bigint AS found
FROM (
    SELECT account, reference, sum(amount_minor) AS total FROM payments.entries
    WHERE account LIKE 'processor:%'
    GROUP BY account, reference
) AS held
FULL JOIN (
    SELECT 'processor:' || processor AS account, reference, sum(captured_minor - refunded_minor) AS total
    FROM payments.intents WHERE processor IS NOT NULL
    GROUP BY processor, reference
) AS taken ON taken.account = held.account AND taken.reference = held.reference
WHERE coalesce(held.total, 0) <> coalesce(taken.total, 0)
ORDER BY 1
LIMIT $1
"""

SHARED_PAYMENTS = """
SELECT processor || ' ' || processor_reference AS subject, 1::bigint AS expected, count(*) AS found
FROM payments.intents
WHERE processor_reference IS NOT NULL
GROUP BY processor, processor_reference
HAVING count(*) > 1
ORDER BY 1
LIMIT $1
"""

OVERSPENT = """
SELECT kind || ' ' || id AS subject, balance_minor AS expected, held_minor AS found
FROM payments.stored_values
WHERE balance_minor < 0 OR held_minor NOT BETWEEN 0 AND balance_minor
ORDER BY id
LIMIT $1
"""

# The count of a closed drawer emptied it by one posting, which has no sale to it; the float is the other one.
COUNTED = """
SELECT session.id::text AS subject, -emptied.total AS expected, session.expected_minor AS found
FROM payments.register_sessions AS session
CROSS JOIN LATERAL (
    SELECT sum(amount_minor)::bigint AS total FROM payments.entries
    WHERE account = 'drawer:' || session.id AND reference IS NULL AND transaction_id <> session.id
) AS emptied
WHERE session.closed_at IS NOT NULL AND emptied.total <> -session.expected_minor
ORDER BY session.id
LIMIT $1
"""

TWICE_RECEIVED = """
SELECT processor || ' ' || event_id AS subject, 1::bigint AS expected, count(*) AS found
FROM payments.inbox
GROUP BY processor, event_id
HAVING count(*) > 1
ORDER BY 1
LIMIT $1
"""

READ_TENDERS = f"""
SELECT {COLUMNS}, intent.created_at,
       coalesce((SELECT sum(amount_minor) FROM payments.open_operations AS operation
                 WHERE operation.intent_id = intent.id AND operation.kind = 'refund'), 0)::bigint AS refunding_minor,
       EXISTS (SELECT FROM payments.operations AS operation
               WHERE operation.intent_id = intent.id AND operation.kind = 'capture'
                 AND operation.state IN ('declined', 'failed')) AS capture_refused
FROM payments.intents AS intent
WHERE intent.reference > $1 AND intent.reference <= $2
ORDER BY intent.reference, intent.created_at, intent.position
"""

READ_WAITING = """
SELECT id, reference FROM payments.intents WHERE state IN ('pending', 'unknown') AND processor IS NOT NULL
"""

_REFUND: Final = """refund.id, refund.reference, refund.intent_id, refund.stored_value_id, stored.owner_id,
    refund.amount_minor, refund.cause,
    CASE WHEN refund.waits THEN 'owed' WHEN refund.intent_id IS NULL THEN 'succeeded' ELSE (
        SELECT operation.state FROM payments.operations AS operation
        WHERE operation.intent_id = refund.intent_id AND operation.operation_id = refund.id
        ORDER BY operation.id DESC LIMIT 1
    ) END AS state"""

READ_GIVEN_BACK = f"""
SELECT {_REFUND}
FROM payments.refunds AS refund
LEFT JOIN payments.stored_values AS stored ON stored.id = refund.stored_value_id
WHERE refund.reference > $1 AND refund.reference <= $2
ORDER BY refund.reference, refund.id
"""

READ_GIVEN_BACK_FOR = f"""
SELECT {_REFUND}
FROM payments.refunds AS refund
LEFT JOIN payments.stored_values AS stored ON stored.id = refund.stored_value_id
WHERE refund.cause > $1 AND refund.cause <= $2
ORDER BY refund.cause, refund.id
"""

_CHECKS: Final = (
    ("M1 every ledger transaction adds up to nothing", UNBALANCED),
    ("M4 an intent's sums are those of its operations", CACHED),
    ("M4 the ledger has what the intents captured less what they refunded", POSTED),
    ("M4 what was begun and has not ended is on the open list", LISTED),
    ("M8 a stored value's balance is its account, and what is held was promised", STORED),
    ("M4 a refund that does not wait was begun", REFUNDED),
    ("M9 a drawer holds its float and its cash until it closes, then nothing", DRAWERS),
    ("M4 an intent's sums are within bounds", BOUNDS),
    ("M4 no more goes back than came", GOING_BACK),
    ("M3 the ledger has at each processor what its payments took", AT_PROCESSORS),
    ("M3 a processor's payment belongs to one intent", SHARED_PAYMENTS),
    ("M8 a stored value is never overspent", OVERSPENT),
    ("M9 a closed drawer held what its count expected", COUNTED),
    ("E4 a processor's event is kept once", TWICE_RECEIVED),
)


async def verify(db: Connection) -> list[Finding]:
    """Every difference in the books of this room, ``FINDINGS_MAX`` of each kind at most; empty is good."""
    return [
        Finding(invariant=invariant, subject=row["subject"], expected=row["expected"], found=row["found"])
        for invariant, statement in _CHECKS
        for row in await db.fetch(statement, FINDINGS_MAX)
    ]


async def read_tenders(db: Connection, *, after: UUID, until: UUID) -> dict[UUID, list[Tender]]:
    """The tenders of every reference behind one and up to another, in the order of the references."""
    tenders: dict[UUID, list[Tender]] = {}
    for row in await db.fetch(READ_TENDERS, after, until):
        tenders.setdefault(row["reference"], []).append(
            Tender(
                intent=intent_of(row),
                refunding_minor=row["refunding_minor"],
                capture_refused=row["capture_refused"],
                created_at=row["created_at"],
            )
        )
    return tenders


async def read_waiting(db: Connection) -> dict[UUID, UUID]:
    """The payments that wait for a processor, each with its reference."""
    return {row["id"]: row["reference"] for row in await db.fetch(READ_WAITING)}


async def read_given_back(db: Connection, *, after: UUID, until: UUID) -> dict[UUID, list[GivenBack]]:
    """The refunds of every reference behind one and up to another, in the order of the references."""
    given: dict[UUID, list[GivenBack]] = {}
    for refund in _given_back(await db.fetch(READ_GIVEN_BACK, after, until)):
        given.setdefault(refund.reference, []).append(refund)
    return given


async def read_given_back_for(db: Connection, *, after: UUID, until: UUID) -> dict[UUID, list[GivenBack]]:
    """The refunds for every cause behind one and up to another, in the order of the causes."""
    given: dict[UUID, list[GivenBack]] = {}
    for refund in _given_back(await db.fetch(READ_GIVEN_BACK_FOR, after, until)):
        if refund.cause is not None:
            given.setdefault(refund.cause, []).append(refund)
    return given


def _given_back(rows: Iterable[Record]) -> list[GivenBack]:
    return [msgspec.convert(dict(row), GivenBack) for row in rows]
