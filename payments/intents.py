"""What we mean to collect: one intent per tender, opened with a sale, and settled at once where we hold the money."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from payments import cash, ledger, stored_value
from payments.errors import IntentSettled

FIRST_TRY_AFTER: Final = timedelta(seconds=10)
"""How long a flow may take before the completer asks after an operation: longer than any call to a processor."""


class IntentState(StrEnum):
    """Where an intent stands."""

    PENDING = "pending"
    UNKNOWN = "unknown"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    VOIDED = "voided"
    DECLINED = "declined"
    FAILED = "failed"


MOVES: Final[Mapping[IntentState, frozenset[IntentState]]] = {
    IntentState.PENDING: frozenset(IntentState) - {IntentState.PENDING},
    IntentState.UNKNOWN: frozenset(IntentState) - {IntentState.PENDING},
    IntentState.AUTHORIZED: frozenset({IntentState.AUTHORIZED, IntentState.CAPTURED, IntentState.VOIDED}),
    IntentState.CAPTURED: frozenset({IntentState.CAPTURED}),
    IntentState.VOIDED: frozenset(),
    IntentState.DECLINED: frozenset(),
    IntentState.FAILED: frozenset(),
}


GIVEN_UP: Final = frozenset({IntentState.DECLINED, IntentState.FAILED})
"""Nobody waits for these any more. Money that comes late moves them to ``AUTHORIZED``, by ``record_late`` alone."""


class NewIntent(msgspec.Struct, frozen=True, kw_only=True):
    """One tender of a sale. ``settle``: a local tender whose money is in our hands now."""

    id: UUID
    operation_id: UUID
    reference: UUID
    tender: str
    currency: str
    amount_minor: int
    tendered_minor: int | None = None
    session_id: UUID | None = None
    stored_value_id: UUID | None = None
    processor: str | None = None
    payment_method: str | None = None
    settle: bool = False


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A tender and what was done for it so far, in minor units."""

    id: UUID
    reference: UUID
    tender: str
    processor: str | None
    processor_reference: str | None
    session_id: UUID | None
    stored_value_id: UUID | None = None
    currency: str
    amount_minor: int
    tendered_minor: int | None
    state: IntentState
    authorized_minor: int = 0
    captured_minor: int = 0
    voided_minor: int = 0
    refunded_minor: int = 0

    @property
    def covered_minor(self) -> int:
        """What of the amount need not be asked for: it is paid, promised, or being asked for already."""
        if self.state in {IntentState.PENDING, IntentState.UNKNOWN}:
            return self.amount_minor
        return self.authorized_minor - self.voided_minor


COLUMNS: Final = """intent.id, intent.reference, intent.tender, intent.processor, intent.processor_reference,
    intent.session_id, intent.stored_value_id, intent.currency, intent.amount_minor, intent.tendered_minor, intent.state,
    intent.authorized_minor, intent.captured_minor, intent.voided_minor, intent.refunded_minor"""


# $1-$12 one row per intent; $13-$17 the ledger entries of those that settle now.
OPEN = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                         $8::uuid[], $9::text[], $10::text[], $11::bool[], $19::uuid[]) WITH ORDINALITY
        AS given (id, operation_id, reference, tender, currency, amount_minor, tendered_minor, session_id, processor,
                  payment_method, settle, stored_value_id, position)
),
opened AS (
    INSERT INTO payments.intents
        (id, reference, position, tender, processor, session_id, stored_value_id, currency, amount_minor, tendered_minor,
         state, authorized_minor, captured_minor, created_at)
    SELECT id, reference, position, tender, processor, session_id, stored_value_id, currency, amount_minor,
           tendered_minor,
           CASE WHEN settle THEN 'captured' ELSE 'pending' END,
           CASE WHEN settle THEN amount_minor ELSE 0 END, CASE WHEN settle THEN amount_minor ELSE 0 END, $12
    FROM given
),
begun AS (
    INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
    SELECT operation_id, id, CASE WHEN settle THEN 'capture' ELSE 'authorize' END,
           CASE WHEN settle THEN 'succeeded' ELSE 'pending' END, amount_minor, $12
    FROM given WHERE settle OR processor IS NOT NULL
),
listed AS (
    INSERT INTO payments.open_operations
        (operation_id, intent_id, kind, amount_minor, payment_method, begun_at, next_try_at)
    SELECT operation_id, id, 'authorize', amount_minor, payment_method, $12, $18
    FROM given WHERE processor IS NOT NULL
)
INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
SELECT transaction_id, account, amount_minor, currency, reference, $12
FROM unnest($13::uuid[], $14::text[], $15::bigint[], $16::text[], $17::uuid[])
    AS entry (transaction_id, account, amount_minor, currency, reference)
"""


SETTLE = """
WITH settled AS (
    UPDATE payments.intents AS intent
    SET state = 'captured', authorized_minor = amount_minor, captured_minor = amount_minor
    FROM unnest($1::uuid[], $2::uuid[]) AS given (id, operation_id)
    WHERE intent.id = given.id AND intent.state = 'pending' AND intent.processor IS NULL
    RETURNING intent.id, given.operation_id, intent.amount_minor
),
posted AS (
    INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
    SELECT transaction_id, account, amount_minor, currency, reference, $8
    FROM unnest($3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::uuid[])
        AS entry (transaction_id, account, amount_minor, currency, reference)
    WHERE transaction_id IN (SELECT operation_id FROM settled)
)
INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
SELECT operation_id, id, 'capture', 'succeeded', amount_minor, $8 FROM settled
RETURNING intent_id
"""


READ_STATE = "SELECT state FROM payments.intents WHERE id = $1"


DROP_LOCAL = """
UPDATE payments.intents SET state = 'failed' WHERE reference = $1 AND state = 'pending' AND processor IS NULL
RETURNING tender, stored_value_id, amount_minor
"""


READ = f"""
SELECT {COLUMNS} FROM payments.intents AS intent WHERE intent.reference = ANY ($1::uuid[])
ORDER BY intent.reference, intent.created_at, intent.position
"""


async def open_intents(db: Connection, intents: Sequence[NewIntent], *, now: datetime) -> None:
    """Write down what is to be collected: what settles now is captured and in the ledger, the rest is pending."""
    if not intents:
        return
    settled = [intent for intent in intents if intent.settle]
    await db.execute(
        OPEN,
        [intent.id for intent in intents],
        [intent.operation_id for intent in intents],
        [intent.reference for intent in intents],
        [intent.tender for intent in intents],
        [intent.currency for intent in intents],
        [intent.amount_minor for intent in intents],
        [intent.tendered_minor for intent in intents],
        [intent.session_id for intent in intents],
        [intent.processor for intent in intents],
        [intent.payment_method for intent in intents],
        [intent.settle for intent in intents],
        now,
        *ledger.columns(
            entry
            for intent in settled
            for entry in ledger.against_orders(
                intent.operation_id,
                _account(intent),
                intent.amount_minor,
                intent.currency,
                intent.reference,
            )
        ),
        now + FIRST_TRY_AFTER,
        [intent.stored_value_id for intent in intents],
    )


async def settle_local(db: Connection, intents: Sequence[tuple[Intent, UUID]], *, now: datetime) -> None:
    """The local tenders that waited for a remote one are money in hand now; each with the id of its capture.

    What was held of gift cards and credit is spent. Cash whose drawer was counted meanwhile lay in it: it was what the
    count had over. ``IntentSettled`` for one that does not wait any more.
    """
    if not intents:
        return
    await stored_value.post_holds(
        db,
        [
            stored_value.Spending(stored_value_id=intent.stored_value_id, amount_minor=intent.amount_minor)
            for intent, _ in intents
            if intent.stored_value_id is not None
        ],
    )
    cash_sessions = {intent.id: intent.session_id for intent, _ in intents if intent.tender == "cash"}
    drawers = {session_id for session_id in cash_sessions.values() if session_id is not None}
    still_open = set(await cash.share_sessions(db, session_ids=sorted(drawers))) if drawers else set()
    rows = await db.fetch(
        SETTLE,
        [intent.id for intent, _ in intents],
        [operation_id for _, operation_id in intents],
        *ledger.columns(
            entry
            for intent, operation_id in intents
            for entry in ledger.against_orders(
                operation_id,
                ledger.OVER_SHORT
                if cash_sessions.get(intent.id) is not None and intent.session_id not in still_open
                else _account(intent),
                intent.amount_minor,
                intent.currency,
                intent.reference,
            )
        ),
        now,
    )
    settled = {row["intent_id"] for row in rows}
    for intent, _ in intents:
        if intent.id not in settled:
            raise IntentSettled(intent.id, await db.fetchval(READ_STATE, intent.id))


async def drop_local(db: Connection, *, reference: UUID) -> None:
    """The local tenders that waited for a remote one are not taken after all; what was held of gift cards is free."""
    dropped = await db.fetch(DROP_LOCAL, reference)
    await stored_value.void_holds(
        db,
        [
            stored_value.Spending(stored_value_id=row["stored_value_id"], amount_minor=row["amount_minor"])
            for row in dropped
            if row["stored_value_id"] is not None
        ],
    )


async def read_intents(db: Connection, *, references: Sequence[UUID]) -> list[Intent]:
    """The tenders of the references, in the order given at checkout."""
    return [intent_of(row) for row in await db.fetch(READ, list(references))]


def _account(intent: Intent | NewIntent) -> str:
    if intent.processor is not None:
        return ledger.processor(intent.processor)
    if intent.stored_value_id is not None:
        return ledger.stored_value(intent.tender, intent.stored_value_id)
    return ledger.drawer(intent.session_id) if intent.session_id else ledger.SAFE


def intent_of(row: Record) -> Intent:
    """The intent of a row that has ``COLUMNS``."""
    return Intent(
        id=row["id"],
        reference=row["reference"],
        tender=row["tender"],
        processor=row["processor"],
        processor_reference=row["processor_reference"],
        session_id=row["session_id"],
        stored_value_id=row["stored_value_id"],
        currency=row["currency"],
        amount_minor=row["amount_minor"],
        tendered_minor=row["tendered_minor"],
        state=IntentState(row["state"]),
        authorized_minor=row["authorized_minor"],
        captured_minor=row["captured_minor"],
        voided_minor=row["voided_minor"],
        refunded_minor=row["refunded_minor"],
    )


def payment_state(intents: Sequence[Intent], *, due_minor: int) -> str:
    """The payment state of an order from its tenders and what it costs now. See ``api.md`` for the words."""
    states = {intent.state for intent in intents}
    captured = sum(intent.captured_minor for intent in intents)
    refunded = sum(intent.refunded_minor for intent in intents)
    authorized = sum(intent.authorized_minor - intent.captured_minor - intent.voided_minor for intent in intents)
    for waiting in (IntentState.UNKNOWN, IntentState.PENDING):
        if waiting in states:
            return waiting.value
    if refunded:
        return "refunded" if refunded == captured else "partially_refunded"
    if captured >= due_minor and (captured or not intents):
        return "paid"
    if captured:
        return "partially_captured"
    if authorized:
        return "authorized"
    return "voided" if IntentState.VOIDED in states else "unpaid"
