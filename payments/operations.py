"""What is asked of processors for an intent, and what became of it.

Remote operations are begun here, asked of the processor by a flow outside any transaction, and recorded here: the same
outcome twice changes nothing. An intent's sums are a cache of its operations, written by the same statement.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from payments import ledger
from payments.errors import IntentSettled, PartialVoid
from payments.intents import COLUMNS, FIRST_TRY_AFTER, GIVEN_UP, MOVES, Intent, IntentState, intent_of

RETRY_DELAY_SECONDS_MAX: Final = 300


class Kind(StrEnum):
    """What can be asked of a processor; a local tender knows ``capture`` and ``refund`` alone."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class OperationState(StrEnum):
    """What became of it. The last three are final."""

    PENDING = "pending"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"


FINAL: Final = frozenset({OperationState.SUCCEEDED, OperationState.DECLINED, OperationState.FAILED})


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as it stands: the last of its rows."""

    operation_id: UUID
    intent_id: UUID
    kind: Kind
    state: OperationState
    amount_minor: int
    reference: str | None
    decline_code: str | None
    at: datetime


class OpenOperation(msgspec.Struct, frozen=True, kw_only=True):
    """A remote operation that waits for its outcome, with all that a processor needs to hear."""

    operation_id: UUID
    intent_id: UUID
    reference: UUID
    kind: Kind
    amount_minor: int
    currency: str
    processor: str
    processor_reference: str | None
    payment_method: str | None
    attempts: int
    begun_at: datetime | None = None
    action_url: str | None = None
    given_up: bool = False


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor said of an operation."""

    operation_id: UUID
    state: OperationState
    processor_reference: str | None = None
    decline_code: str | None = None
    detail: str | None = None
    action_url: str | None = None
    """Where the payer has to go, if anywhere."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What recording a fact came to: the intent as it is now."""

    kind: Kind
    amount_minor: int
    intent: Intent


LOCK = f"""
SELECT {COLUMNS} FROM payments.intents AS intent WHERE intent.id = ANY ($1::uuid[]) ORDER BY intent.id FOR UPDATE
"""


READ_OPERATIONS = """
SELECT operation_id, intent_id, kind, state, amount_minor, reference, decline_code, at
FROM (
    SELECT DISTINCT ON (operation.operation_id)
           operation.*, min(operation.id) OVER (PARTITION BY operation.operation_id) AS first_id
    FROM payments.operations AS operation
    JOIN payments.intents AS intent ON intent.id = operation.intent_id
    WHERE intent.reference = $1
    ORDER BY operation.operation_id, operation.id DESC
) AS last
ORDER BY first_id
"""


BEGIN = """
WITH begun AS (
    INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
    SELECT operation_id, intent_id, kind, 'pending', amount_minor, $5
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
        AS given (operation_id, intent_id, kind, amount_minor)
    RETURNING operation_id, intent_id, kind, amount_minor
)
INSERT INTO payments.open_operations (operation_id, intent_id, kind, amount_minor, begun_at, next_try_at)
SELECT operation_id, intent_id, kind, amount_minor, $5, $6 FROM begun
"""


UNDER_WAY = """
SELECT intent_id, kind, sum(amount_minor)::bigint AS amount_minor
FROM payments.open_operations WHERE intent_id = ANY ($1::uuid[])
GROUP BY intent_id, kind
"""


READ_OPEN = f"""
SELECT operation.operation_id, operation.kind, operation.amount_minor AS wanted_minor, operation.payment_method,
       operation.attempts, operation.begun_at, operation.action_url, operation.given_up_at, {COLUMNS}
FROM payments.open_operations AS operation
JOIN payments.intents AS intent ON intent.id = operation.intent_id
WHERE operation.operation_id = ANY ($1::uuid[])
ORDER BY operation.operation_id
"""


LOCK_WAITING = f"""
SELECT operation.operation_id, operation.kind, operation.amount_minor AS wanted_minor, operation.payment_method,
       operation.attempts, operation.begun_at, operation.action_url, operation.given_up_at, {COLUMNS}
FROM payments.open_operations AS operation
JOIN payments.intents AS intent ON intent.id = operation.intent_id
WHERE operation.operation_id = ANY ($1::uuid[])
ORDER BY intent.id, operation.operation_id
FOR UPDATE OF intent, operation
"""


READ_OPEN_OF = """
SELECT operation.operation_id
FROM payments.open_operations AS operation
JOIN payments.intents AS intent ON intent.id = operation.intent_id
WHERE intent.reference = $1
ORDER BY operation.operation_id
"""


TAKE_DUE = """
WITH due AS (
    SELECT operation_id FROM payments.open_operations
    WHERE next_try_at <= $1
    ORDER BY next_try_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE payments.open_operations AS operation
SET attempts = operation.attempts + 1,
    next_try_at = $1 + make_interval(secs => least($3, 5 * power(2, least(operation.attempts, 10))))
FROM due
WHERE operation.operation_id = due.operation_id
RETURNING operation.operation_id
"""


# $1-$5 and $19 one row per fact; $7-$11 the ledger entries; $12-$18 one row per intent, with its sums as they are now. A final
# fact takes the operation off the open list. That it is pending is written down already, when it was begun.
RECORD = """
WITH given AS (
    SELECT given.*, operation.intent_id, operation.kind, operation.amount_minor
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $19::text[])
        AS given (operation_id, state, processor_reference, decline_code, detail, action_url)
    JOIN payments.open_operations AS operation USING (operation_id)
),
closed AS (
    DELETE FROM payments.open_operations AS operation
    USING given
    WHERE operation.operation_id = given.operation_id AND given.state IN ('succeeded', 'declined', 'failed')
),
sent AS (
    UPDATE payments.open_operations AS operation
    SET action_url = given.action_url
    FROM given
    WHERE operation.operation_id = given.operation_id AND given.state = 'pending'
),
told AS (
    INSERT INTO payments.operations
        (operation_id, intent_id, kind, state, amount_minor, reference, decline_code, detail, at)
    SELECT operation_id, intent_id, kind, state, amount_minor, processor_reference, decline_code, detail, $6
    FROM given WHERE state <> 'pending'
),
posted AS (
    INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
    SELECT transaction_id, account, amount_minor, currency, reference, $6
    FROM unnest($7::uuid[], $8::text[], $9::bigint[], $10::text[], $11::uuid[])
        AS entry (transaction_id, account, amount_minor, currency, reference)
)
UPDATE payments.intents AS intent
SET state = reached.state,
    processor_reference = reached.processor_reference,
    authorized_minor = reached.authorized_minor,
    captured_minor = reached.captured_minor,
    voided_minor = reached.voided_minor,
    refunded_minor = reached.refunded_minor
FROM unnest($12::uuid[], $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[])
    AS reached (id, state, processor_reference, authorized_minor, captured_minor, voided_minor, refunded_minor)
WHERE intent.id = reached.id
"""


RECORD_LATE = """
WITH told AS (
    INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, reference, at)
    VALUES ($1, $2, 'authorize', 'succeeded', $3, $4, $5)
)
UPDATE payments.intents
SET state = 'authorized', authorized_minor = $3, processor_reference = $4
WHERE id = $2 AND authorized_minor = 0
"""


async def begin(db: Connection, wanted: Sequence[tuple[UUID, UUID, Kind, int]], *, now: datetime) -> None:
    """Write down remote operations before the processor is asked: (operation id, intent id, kind, minor units) each.

    ``IntentSettled`` if an intent has not enough left for it, counting what is under way, or has no processor. A void
    lets go at the processor of all that is held, so ``PartialVoid`` for less than that, and ``IntentSettled`` while a
    capture of it is under way.
    """
    if not wanted:
        return
    intents = {
        row["id"]: intent_of(row) for row in await db.fetch(LOCK, sorted({intent for _, intent, _, _ in wanted}))
    }
    under_way = await read_under_way(db, intent_ids=list(intents))
    for _, intent_id, kind, amount_minor in wanted:
        intent = intents[intent_id]
        claimed = {other: under_way.get((intent_id, other), 0) for other in Kind}
        if kind is Kind.REFUND:
            left = intent.captured_minor - intent.refunded_minor - claimed[Kind.REFUND]
        else:
            left = intent.authorized_minor - intent.captured_minor - intent.voided_minor
            left -= claimed[Kind.CAPTURE] + claimed[Kind.VOID]
        is_taken = kind is Kind.VOID and claimed[Kind.CAPTURE] > 0
        if intent.processor is None or is_taken or not 0 < amount_minor <= left:
            raise IntentSettled(intent_id, intent.state)
        if kind is Kind.VOID and amount_minor < left:
            raise PartialVoid(left)
        under_way[intent_id, kind] = claimed[kind] + amount_minor
    await db.execute(
        BEGIN,
        [operation_id for operation_id, _, _, _ in wanted],
        [intent_id for _, intent_id, _, _ in wanted],
        [kind for _, _, kind, _ in wanted],
        [amount_minor for _, _, _, amount_minor in wanted],
        now,
        now + FIRST_TRY_AFTER,
    )


async def read_under_way(db: Connection, *, intent_ids: Sequence[UUID]) -> dict[tuple[UUID, Kind], int]:
    """The minor units that operations under way are about, by intent and kind."""
    rows = await db.fetch(UNDER_WAY, list(intent_ids))
    return {(row["intent_id"], Kind(row["kind"])): row["amount_minor"] for row in rows}


async def read_open(db: Connection, *, operation_ids: Iterable[UUID]) -> list[OpenOperation]:
    """The operations among these that still wait for their outcome."""
    rows = await db.fetch(READ_OPEN, list(operation_ids))
    return [_open_operation(row) for row in rows]


async def open_operation_ids(db: Connection, *, reference: UUID) -> list[UUID]:
    """The operations for a reference that still wait for their outcome."""
    return [row["operation_id"] for row in await db.fetch(READ_OPEN_OF, reference)]


async def take_due(db: Connection, *, limit: int, now: datetime) -> list[UUID]:
    """The operations nobody has heard of for too long; each is left alone by others until its next try."""
    return [row["operation_id"] for row in await db.fetch(TAKE_DUE, now, limit, RETRY_DELAY_SECONDS_MAX)]


async def record(db: Connection, facts: Sequence[Fact], *, now: datetime) -> list[Recorded]:
    """Write down what processors said, and move the intents' sums and the ledger with it.

    One result per fact whose operation still waits, in the order of their intents: a final operation stays as it
    is, so the same fact may come any number of times and from anywhere. That an authorization succeeded which was
    given up is not booked: whoever gave it up is letting go of the money.
    """
    said: dict[UUID, Fact] = {}
    for fact in facts:
        if fact.operation_id not in said or said[fact.operation_id].state not in FINAL:
            said[fact.operation_id] = fact
    # Both rows are locked: whoever recorded the same operation while we waited has taken it off the list.
    rows = await db.fetch(LOCK_WAITING, list(said))
    if not rows:
        return []
    after = {row["id"]: intent_of(row) for row in rows}
    heard = [
        (operation, _believed(operation, said[operation.operation_id])) for operation in map(_open_operation, rows)
    ]
    recorded = []
    for operation, fact in heard:
        after[operation.intent_id] = intent = _moved(after[operation.intent_id], operation, fact)
        recorded.append(Recorded(kind=operation.kind, amount_minor=operation.amount_minor, intent=intent))
    await db.execute(
        RECORD,
        [fact.operation_id for _, fact in heard],
        [fact.state for _, fact in heard],
        [fact.processor_reference for _, fact in heard],
        [fact.decline_code for _, fact in heard],
        [fact.detail for _, fact in heard],
        now,
        *ledger.columns(entry for operation, fact in heard for entry in _posted(operation, fact)),
        list(after),
        [intent.state for intent in after.values()],
        [intent.processor_reference for intent in after.values()],
        [intent.authorized_minor for intent in after.values()],
        [intent.captured_minor for intent in after.values()],
        [intent.voided_minor for intent in after.values()],
        [intent.refunded_minor for intent in after.values()],
        [fact.action_url for _, fact in heard],
    )
    return recorded


async def record_late(db: Connection, fact: Fact, *, intent_id: UUID, now: datetime) -> Intent | None:
    """Book money that a processor promised after it was given up, and write down the void that lets go of it.

    ``fact.operation_id`` is new and stands for the authorization, as the old one has ended. Returns the intent as it
    is now, or ``None`` if nobody had given it up or its late promise is in the books already.
    """
    rows = await db.fetch(LOCK, [intent_id])
    if not rows or rows[0]["state"] not in GIVEN_UP:
        return None
    intent = intent_of(rows[0])
    await db.execute(RECORD_LATE, fact.operation_id, intent.id, intent.amount_minor, fact.processor_reference, now)
    return msgspec.structs.replace(
        intent,
        state=IntentState.AUTHORIZED,
        authorized_minor=intent.amount_minor,
        processor_reference=fact.processor_reference,
    )


async def read_operations(db: Connection, *, reference: UUID) -> list[Operation]:
    """Every operation for a reference as it stands, in the order they were begun."""
    return [msgspec.convert(dict(row), Operation) for row in await db.fetch(READ_OPERATIONS, reference)]


def _believed(operation: OpenOperation, fact: Fact) -> Fact:
    if operation.given_up and fact.state is OperationState.SUCCEEDED:
        return msgspec.structs.replace(fact, state=OperationState.PENDING)
    return fact


def _moved(intent: Intent, operation: OpenOperation, fact: Fact) -> Intent:
    """The intent after this fact, or ``IntentSettled`` where ``MOVES`` knows no such step."""
    done = operation.amount_minor if fact.state is OperationState.SUCCEEDED else 0
    sums = msgspec.structs.replace(
        intent,
        processor_reference=intent.processor_reference or fact.processor_reference,
        authorized_minor=intent.authorized_minor + (done if operation.kind is Kind.AUTHORIZE else 0),
        captured_minor=intent.captured_minor + (done if operation.kind is Kind.CAPTURE else 0),
        voided_minor=intent.voided_minor + (done if operation.kind is Kind.VOID else 0),
        refunded_minor=intent.refunded_minor + (done if operation.kind is Kind.REFUND else 0),
    )
    reached = _reached(sums, operation.kind, fact.state)
    if reached is not intent.state and reached not in MOVES[intent.state]:
        raise IntentSettled(intent.id, intent.state)
    return msgspec.structs.replace(sums, state=reached)


def _reached(intent: Intent, kind: Kind, said: OperationState) -> IntentState:
    """The state of an intent whose sums are moved already."""
    if said not in FINAL:
        waits = intent.state in {IntentState.PENDING, IntentState.UNKNOWN}
        return IntentState.UNKNOWN if waits and said is OperationState.UNKNOWN else intent.state
    if said is not OperationState.SUCCEEDED:
        return IntentState(said) if kind is Kind.AUTHORIZE else intent.state
    if kind is Kind.REFUND:
        return intent.state
    if intent.captured_minor + intent.voided_minor < intent.authorized_minor:
        return IntentState.AUTHORIZED
    return IntentState.CAPTURED if intent.captured_minor else IntentState.VOIDED


def _posted(operation: OpenOperation, fact: Fact) -> list[ledger.Entry]:
    if fact.state is not OperationState.SUCCEEDED or operation.kind not in {Kind.CAPTURE, Kind.REFUND}:
        return []
    amount = operation.amount_minor if operation.kind is Kind.CAPTURE else -operation.amount_minor
    account = ledger.processor(operation.processor)
    return ledger.against_orders(operation.operation_id, account, amount, operation.currency, operation.reference)


def _open_operation(row: Record) -> OpenOperation:
    return OpenOperation(
        operation_id=row["operation_id"],
        intent_id=row["id"],
        reference=row["reference"],
        kind=Kind(row["kind"]),
        amount_minor=row["wanted_minor"],
        currency=row["currency"],
        processor=row["processor"],
        processor_reference=row["processor_reference"],
        payment_method=row["payment_method"],
        attempts=row["attempts"],
        begun_at=row["begun_at"],
        action_url=row["action_url"],
        given_up=row["given_up_at"] is not None,
    )
