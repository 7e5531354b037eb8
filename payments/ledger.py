"""The double-entry ledger: every change of money is a transaction whose entries add up to nothing.

A debit is positive. Accounts: ``orders`` (what customers owe us, so a payment credits it), ``drawer:<session>``,
``safe``, ``over_short``, ``processor:<name>``, ``gift_card:<id>`` and ``store_credit:<id>`` (what we owe on them), and
``issued`` (what was taken, or given away, for them).
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

ORDERS: Final = "orders"
SAFE: Final = "safe"
OVER_SHORT: Final = "over_short"
ISSUED: Final = "issued"
FINDINGS_MAX: Final = 100


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a transaction."""

    transaction_id: UUID
    account: str
    amount_minor: int
    currency: str
    reference: UUID | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: which invariant, where, and what both sides say."""

    invariant: str
    subject: str
    expected: int
    found: int


Columns = tuple[list[UUID], list[str], list[int], list[str], list[UUID | None]]


def drawer(session_id: UUID) -> str:
    """The account of the cash in one drawer session."""
    return f"drawer:{session_id}"


def stored_value(kind: str, stored_value_id: UUID) -> str:
    """The account of what we owe on a gift card or to a customer."""
    return f"{kind}:{stored_value_id}"


def processor(name: str) -> str:
    """The account of what a processor holds for us."""
    return f"processor:{name}"


def against_orders(
    transaction_id: UUID, account: str, amount_minor: int, currency: str, reference: UUID
) -> list[Entry]:
    """Both sides of a payment: what an account takes in, a customer owes us less."""
    return [
        Entry(
            transaction_id=transaction_id,
            account=name,
            amount_minor=amount,
            currency=currency,
            reference=reference,
        )
        for name, amount in ((account, amount_minor), (ORDERS, -amount_minor))
    ]


def columns(entries: Iterable[Entry]) -> Columns:
    """The entries as the five arrays that a statement unnests; those of no amount are left out."""
    kept = [entry for entry in entries if entry.amount_minor]
    return (
        [entry.transaction_id for entry in kept],
        [entry.account for entry in kept],
        [entry.amount_minor for entry in kept],
        [entry.currency for entry in kept],
        [entry.reference for entry in kept],
    )


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
LEFT JOIN LATERAL (
    SELECT coalesce(sum(amount_minor) FILTER (WHERE kind = 'authorize'), 0)::bigint AS authorized,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'capture'), 0)::bigint AS captured,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'void'), 0)::bigint AS voided,
           coalesce(sum(amount_minor) FILTER (WHERE kind = 'refund'), 0)::bigint AS refunded
    FROM payments.operations WHERE intent_id = intent.id AND state = 'succeeded'
) AS done ON true
CROSS JOIN LATERAL (VALUES
    ('authorized', CASE WHEN intent.processor IS NULL THEN done.captured ELSE done.authorized END,
     intent.authorized_minor),
    ('captured', done.captured, intent.captured_minor),
    ('voided', done.voided, intent.voided_minor),
    ('refunded', done.refunded, intent.refunded_minor)
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

_CHECKS: Final = (
    ("M1 every ledger transaction adds up to nothing", UNBALANCED),
    ("M4 an intent's sums are those of its operations", CACHED),
    ("M4 the ledger has what the intents captured less what they refunded", POSTED),
    ("M4 what was begun and has not ended is on the open list", LISTED),
    ("M8 a stored value's balance is its account, and what is held was promised", STORED),
    ("M4 a refund that does not wait was begun", REFUNDED),
    ("M9 a drawer holds its float and its cash until it closes, then nothing", DRAWERS),
)


async def verify(db: Connection) -> list[Finding]:
    """Every difference in the books of this room, ``FINDINGS_MAX`` of each kind at most; empty is good."""
    return [
        Finding(invariant=invariant, subject=row["subject"], expected=row["expected"], found=row["found"])
        for invariant, statement in _CHECKS
        for row in await db.fetch(statement, FINDINGS_MAX)
    ]
