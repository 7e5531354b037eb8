"""Money that goes back: over which tenders, why, and what is owed until it was captured.

A refund over a tender has the id of its operation. What was paid last goes back first: the tenders of a sale in the
reverse of the order in which they were given, each up to what it paid.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from payments import cash, intents, ledger, operations, stored_value
from payments.errors import IntentSettled, NoOpenSession, PaymentNotFound
from payments.intents import Intent
from payments.operations import Kind

CASH: Final = "cash"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What may go back over one tender, in minor units.

    ``in_hand_minor`` was captured; ``coming_minor`` is being captured; ``promised_minor`` may yet be captured. What was
    given back, is being given back or is owed already is in none of them.
    """

    intent: Intent
    in_hand_minor: int
    coming_minor: int
    promised_minor: int

    @property
    def paid_minor(self) -> int:
        """What was captured or is being captured."""
        return self.in_hand_minor + self.coming_minor


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a refund over one tender. ``waits``: it is owed until the tender's capture has succeeded."""

    intent: Intent
    amount_minor: int
    waits: bool


class NewRefund(msgspec.Struct, frozen=True, kw_only=True):
    """A part with the id that its operation will have."""

    id: UUID
    part: Part


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why money goes back, by whom, for what (``cause``), and from the drawer of which session."""

    words: str
    actor: str
    cause: UUID | None = None
    session_id: UUID | None = None


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as it stands: ``owed``, or the state of its operation. ``intent_id`` is ``None`` for credit instead."""

    id: UUID
    intent_id: UUID | None
    tender: str
    amount_minor: int
    currency: str
    state: str
    reason: str
    cause: UUID | None


READ_REFERENCE = "SELECT reference FROM payments.intents WHERE id = $1"

OWED = """
SELECT intent_id, sum(amount_minor)::bigint AS amount_minor FROM payments.refunds
WHERE reference = $1 AND waits
GROUP BY intent_id
"""

CREDITED = """
SELECT coalesce(sum(amount_minor), 0)::bigint FROM payments.refunds
WHERE reference = $1 AND stored_value_id IS NOT NULL
"""

WRITE = """
INSERT INTO payments.refunds
    (id, reference, intent_id, stored_value_id, amount_minor, waits, cause, reason, actor, session_id, created_at)
SELECT id, $7, intent_id, stored_value_id, amount_minor, waits, $6, $8, $9, $10, $11
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bool[])
    AS given (id, intent_id, stored_value_id, amount_minor, waits)
"""

# $1-$3 one row per local tender; $4-$8 the ledger entries.
REFUND_LOCAL = """
WITH refunded AS (
    UPDATE payments.intents AS intent
    SET refunded_minor = intent.refunded_minor + given.amount_minor
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS given (id, operation_id, amount_minor)
    WHERE intent.id = given.id AND intent.processor IS NULL
      AND intent.captured_minor - intent.refunded_minor >= given.amount_minor
    RETURNING intent.id, given.operation_id, given.amount_minor
),
posted AS (
    INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
    SELECT transaction_id, account, amount_minor, currency, reference, $9
    FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::text[], $8::uuid[])
        AS entry (transaction_id, account, amount_minor, currency, reference)
)
INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
SELECT operation_id, id, 'refund', 'succeeded', amount_minor, $9 FROM refunded
RETURNING intent_id
"""

CREDIT = """
INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
SELECT transaction_id, account, amount_minor, currency, reference, $6
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::uuid[])
    AS entry (transaction_id, account, amount_minor, currency, reference)
"""

LOCK_OWED = """
SELECT id, intent_id, amount_minor FROM payments.refunds WHERE reference = $1 AND waits ORDER BY id FOR UPDATE
"""

BEGUN = "UPDATE payments.refunds SET waits = false WHERE id = ANY ($1::uuid[])"

READ_OF_CAUSE = """
SELECT refund.id, refund.intent_id, refund.amount_minor, refund.reason, refund.cause,
       coalesce(intent.tender, stored.kind) AS tender, coalesce(intent.currency, stored.currency) AS currency,
       CASE WHEN refund.waits THEN 'owed' WHEN refund.intent_id IS NULL THEN 'succeeded' ELSE last.state END AS state
FROM payments.refunds AS refund
LEFT JOIN payments.intents AS intent ON intent.id = refund.intent_id
LEFT JOIN payments.stored_values AS stored ON stored.id = refund.stored_value_id
LEFT JOIN LATERAL (
    SELECT state FROM payments.operations
    WHERE intent_id = refund.intent_id AND operation_id = refund.id ORDER BY id DESC LIMIT 1
) AS last ON true
WHERE refund.cause = ANY ($1::uuid[])
ORDER BY refund.created_at, intent.position DESC, refund.waits, refund.id
"""


async def read_reference(db: Connection, *, intent_id: UUID) -> UUID:
    """What an intent belongs to, or raise ``PaymentNotFound``."""
    reference: UUID | None = await db.fetchval(READ_REFERENCE, intent_id)
    if reference is None:
        raise PaymentNotFound
    return reference


async def read_rooms(db: Connection, *, reference: UUID) -> list[Room]:
    """What may go back over each tender of a sale, what was paid last first."""
    found = await intents.read_intents(db, references=[reference])
    under_way = await operations.read_under_way(db, intent_ids=[intent.id for intent in found])
    owed = {row["intent_id"]: row["amount_minor"] for row in await db.fetch(OWED, reference)}
    return [_room(intent, under_way, owed.get(intent.id, 0)) for intent in reversed(found)]


async def read_credited(db: Connection, *, reference: UUID) -> int:
    """What was given as credit instead of over the tenders of a sale, in minor units."""
    credited: int = await db.fetchval(CREDITED, reference)
    return credited


def _room(intent: Intent, under_way: Mapping[tuple[UUID, Kind], int], owed_minor: int) -> Room:
    def doing(kind: Kind) -> int:
        return under_way.get((intent.id, kind), 0)

    # What is owed already takes what comes first.
    left = [
        intent.captured_minor - intent.refunded_minor - doing(Kind.REFUND),
        doing(Kind.CAPTURE),
        intent.authorized_minor - intent.captured_minor - intent.voided_minor - doing(Kind.CAPTURE) - doing(Kind.VOID),
    ]
    for position, amount in enumerate(left):
        taken = min(max(amount, 0), owed_minor)
        left[position] = max(amount, 0) - taken
        owed_minor -= taken
    return Room(intent=intent, in_hand_minor=left[0], coming_minor=left[1], promised_minor=left[2])


def spread(rooms: Sequence[Room], amount_minor: int) -> list[Part]:
    """The parts of a refund, at most one that is paid at once and one that waits for each tender. Pure.

    First what was captured or is being captured, tender by tender, then what may yet be captured.
    """
    parts: dict[tuple[UUID, bool], Part] = {}

    def take(room: Room, available: int, *, waits: bool) -> int:
        amount = min(available, amount_minor - sum(part.amount_minor for part in parts.values()))
        key = (room.intent.id, waits)
        if amount > 0:
            before = parts[key].amount_minor if key in parts else 0
            parts[key] = Part(intent=room.intent, amount_minor=before + amount, waits=waits)
        return amount

    for room in rooms:
        take(room, room.in_hand_minor, waits=False)
        take(room, room.coming_minor, waits=True)
    for room in rooms:
        take(room, room.promised_minor, waits=True)
    return list(parts.values())


async def write_refunds(
    db: Connection, refunds: Sequence[NewRefund], *, reference: UUID, reason: Reason, now: datetime
) -> None:
    """Give back: local tenders at once, remote ones begun, what is not captured yet owed.

    ``NoOpenSession`` where cash is to come from a drawer that has closed, ``IntentSettled`` where a tender has not
    that much left: the caller did not hold what ``read_rooms`` was read under.
    """
    await db.execute(
        WRITE,
        [each.id for each in refunds],
        [each.part.intent.id for each in refunds],
        [None for _ in refunds],
        [each.part.amount_minor for each in refunds],
        [each.part.waits for each in refunds],
        reason.cause,
        reference,
        reason.words,
        reason.actor,
        reason.session_id,
        now,
    )
    await operations.begin(
        db,
        [
            (each.id, each.part.intent.id, Kind.REFUND, each.part.amount_minor)
            for each in refunds
            if each.part.intent.processor is not None and not each.part.waits
        ],
        now=now,
    )
    local = [each for each in refunds if each.part.intent.processor is None]
    if local:
        await _refund_local(db, local, session_id=reason.session_id, now=now)


async def _refund_local(
    db: Connection, refunds: Sequence[NewRefund], *, session_id: UUID | None, now: datetime
) -> None:
    await stored_value.add_to(
        db,
        [
            stored_value.Spending(stored_value_id=intent.stored_value_id, amount_minor=each.part.amount_minor)
            for each in refunds
            if (intent := each.part.intent).stored_value_id is not None
        ],
    )
    is_cash = any(each.part.intent.tender == CASH for each in refunds)
    if is_cash and session_id is not None and await cash.share_sessions(db, session_ids=[session_id]) != [session_id]:
        raise NoOpenSession
    rows = await db.fetch(
        REFUND_LOCAL,
        [each.part.intent.id for each in refunds],
        [each.id for each in refunds],
        [each.part.amount_minor for each in refunds],
        *ledger.columns(
            ledger.Entry(
                transaction_id=each.id,
                account=account,
                amount_minor=amount,
                currency=each.part.intent.currency,
                reference=each.part.intent.reference,
            )
            for each in refunds
            for account, amount in (
                (_account(each.part.intent, session_id), -each.part.amount_minor),
                (ledger.ORDERS, each.part.amount_minor),
            )
        ),
        now,
    )
    refunded = {row["intent_id"] for row in rows}
    for each in refunds:
        if each.part.intent.id not in refunded:
            raise IntentSettled(each.part.intent.id, each.part.intent.state)


def _account(intent: Intent, session_id: UUID | None) -> str:
    """Where the money comes from; cash from the drawer of whoever gives it back, else from the safe."""
    if intent.stored_value_id is not None:
        return ledger.stored_value(intent.tender, intent.stored_value_id)
    return ledger.drawer(session_id) if session_id is not None else ledger.SAFE


async def write_credit(
    db: Connection,
    *,
    credit_id: UUID,
    stored: stored_value.StoredValue,
    amount_minor: int,
    reference: UUID,
    reason: Reason,
    now: datetime,
) -> None:
    """Owe a customer an amount instead of giving it back over the tenders."""
    await stored_value.add_to(db, [stored_value.Spending(stored_value_id=stored.id, amount_minor=amount_minor)])
    await db.execute(
        WRITE,
        [credit_id],
        [None],
        [stored.id],
        [amount_minor],
        [False],
        reason.cause,
        reference,
        reason.words,
        reason.actor,
        reason.session_id,
        now,
    )
    await db.execute(
        CREDIT,
        *ledger.columns(
            ledger.Entry(
                transaction_id=credit_id,
                account=account,
                amount_minor=amount,
                currency=stored.currency,
                reference=reference,
            )
            for account, amount in (
                (ledger.ISSUED, amount_minor),
                (ledger.stored_value(stored.kind, stored.id), -amount_minor),
            )
        ),
        now,
    )


async def begin_owed(db: Connection, *, reference: UUID, now: datetime) -> int:
    """Begin what was owed of a sale and is captured by now; returns how many minor units.

    A part that is not wholly captured goes on waiting.
    """
    owed = await db.fetch(LOCK_OWED, reference)
    if not owed:
        return 0
    found = await intents.read_intents(db, references=[reference])
    under_way = await operations.read_under_way(db, intent_ids=[intent.id for intent in found])
    captured = {
        intent.id: intent.captured_minor - intent.refunded_minor - under_way.get((intent.id, Kind.REFUND), 0)
        for intent in found
    }
    due = []
    for row in owed:
        if captured[row["intent_id"]] >= row["amount_minor"]:
            captured[row["intent_id"]] -= row["amount_minor"]
            due.append((row["id"], row["intent_id"], Kind.REFUND, row["amount_minor"]))
    if due:
        await db.execute(BEGUN, [refund_id for refund_id, _, _, _ in due])
        await operations.begin(db, due, now=now)
    return sum(amount for _, _, _, amount in due)


async def read_refunds(db: Connection, *, causes: Sequence[UUID]) -> list[Refund]:
    """What went back, or is to go back, for the causes; oldest first."""
    return [msgspec.convert(dict(row), Refund) for row in await db.fetch(READ_OF_CAUSE, list(causes))]
