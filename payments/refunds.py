"""Money that goes back: over which tenders, why, and what is owed until it was captured.

A refund over a tender has the id of its operation. What was paid last goes back first: the tenders of a sale in the
reverse of the order in which they were given, each up to what it paid.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record
from msgspec.structs import replace

from payments import cash, intents, ledger, operations, stored_value
from payments.errors import IntentSettled, NoOpenSession, PaymentNotFound
from payments.intents import Intent
from payments.operations import Kind

CASH: Final = "cash"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What may go back over one tender, in minor units.

    ``in_hand_minor`` was captured; ``coming_minor`` is being captured; ``promised_minor`` may yet be captured. What was
    given back, is being given back or is owed already is in none of them: it is ``given_minor``.
    """

    intent: Intent
    in_hand_minor: int
    coming_minor: int
    promised_minor: int
    given_minor: int = 0

    @property
    def paid_minor(self) -> int:
        """What was captured or is being captured."""
        return self.in_hand_minor + self.coming_minor

    @property
    def left_minor(self) -> int:
        """What may go back at most, now or later."""
        return self.paid_minor + self.promised_minor


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


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """What was owed for a cause, and will never be captured."""

    cause: UUID | None
    amount_minor: int


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of what was owed: refunds begun, credit given, and what nobody waits for any more."""

    begun_minor: int = 0
    credited_minor: int = 0
    dropped: tuple[Dropped, ...] = ()


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
WHERE reference = $1 AND waits AND intent_id IS NOT NULL
GROUP BY intent_id
"""

CREDITED = """
SELECT coalesce(sum(amount_minor), 0)::bigint FROM payments.refunds
WHERE reference = $1 AND stored_value_id IS NOT NULL AND ($2 OR NOT waits)
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
SELECT refund.id, refund.intent_id, refund.stored_value_id, refund.amount_minor, refund.cause, stored.kind, stored.currency
FROM payments.refunds AS refund
LEFT JOIN payments.stored_values AS stored ON stored.id = refund.stored_value_id
WHERE refund.reference = $1 AND refund.waits
ORDER BY refund.id
FOR UPDATE OF refund
"""

SHRINK = """
UPDATE payments.refunds AS refund SET amount_minor = given.amount_minor
FROM unnest($1::uuid[], $2::bigint[]) AS given (id, amount_minor)
WHERE refund.id = given.id
"""

DROP = "DELETE FROM payments.refunds WHERE id = ANY ($1::uuid[]) AND waits"

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


async def read_credited(db: Connection, *, reference: UUID, with_owed: bool = True) -> int:
    """What was given as credit instead of over the tenders of a sale, or is owed so, in minor units."""
    credited: int = await db.fetchval(CREDITED, reference, with_owed)
    return credited


def less_credit(rooms: Sequence[Room], credited_minor: int) -> list[Room]:
    """What may go back where so much was given as credit instead: credit takes what comes first, paid first. Pure."""
    left = list(rooms)
    for name in ("in_hand_minor", "coming_minor", "promised_minor"):
        for position in reversed(range(len(left))):
            taken = min(getattr(left[position], name), credited_minor)
            if taken > 0:
                left[position] = replace(left[position], **{name: getattr(left[position], name) - taken})
                credited_minor -= taken
    return left


def _room(intent: Intent, under_way: Mapping[tuple[UUID, Kind], int], owed_minor: int) -> Room:
    def doing(kind: Kind) -> int:
        return under_way.get((intent.id, kind), 0)

    given = intent.refunded_minor + doing(Kind.REFUND) + owed_minor
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
    return Room(intent=intent, in_hand_minor=left[0], coming_minor=left[1], promised_minor=left[2], given_minor=given)


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
) -> list[stored_value.Extended]:
    """Give back: local tenders at once, remote ones begun, what is not captured yet owed.

    Returns the gift cards that last longer from now on, so that what came back onto them can be spent. ``NoOpenSession`` where cash is to come from a drawer that has closed, ``IntentSettled`` where a tender has not
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
    return await _refund_local(db, local, session_id=reason.session_id, now=now) if local else []


async def _refund_local(
    db: Connection, refunds: Sequence[NewRefund], *, session_id: UUID | None, now: datetime
) -> list[stored_value.Extended]:
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
    onto = [intent.stored_value_id for each in refunds if (intent := each.part.intent).stored_value_id is not None]
    return await stored_value.extend(db, stored_value_ids=onto, now=now) if onto else []


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
    waits: bool = False,
) -> None:
    """Owe a customer an amount instead of giving it back over the tenders.

    Where it ``waits`` it cannot be spent before ``begin_owed`` finds it captured.
    """
    await db.execute(
        WRITE,
        [credit_id],
        [None],
        [stored.id],
        [amount_minor],
        [waits],
        reason.cause,
        reference,
        reason.words,
        reason.actor,
        reason.session_id,
        now,
    )
    if not waits:
        credit = _Credit(
            id=credit_id,
            stored_value_id=stored.id,
            kind=stored.kind,
            currency=stored.currency,
            amount_minor=amount_minor,
        )
        await _post_credits(db, [credit], reference=reference, now=now)


class _Credit(msgspec.Struct, frozen=True, kw_only=True):
    """Credit that can be spent from now on."""

    id: UUID
    stored_value_id: UUID
    kind: str
    currency: str
    amount_minor: int


async def _post_credits(db: Connection, credits_: Sequence[_Credit], *, reference: UUID, now: datetime) -> None:
    spendings = [
        stored_value.Spending(stored_value_id=each.stored_value_id, amount_minor=each.amount_minor) for each in credits_
    ]
    await stored_value.add_to(db, spendings)
    await db.execute(
        CREDIT,
        *ledger.columns(
            ledger.Entry(
                transaction_id=each.id,
                account=account,
                amount_minor=amount,
                currency=each.currency,
                reference=reference,
            )
            for each in credits_
            for account, amount in (
                (ledger.ISSUED, each.amount_minor),
                (ledger.stored_value(each.kind, each.stored_value_id), -each.amount_minor),
            )
        ),
        now,
    )


async def begin_owed(db: Connection, *, reference: UUID, now: datetime) -> Settled:
    """Begin what was owed of a sale and is captured by now, credit too; drop what can never be captured any more.

    A part that is not wholly captured goes on waiting. What a void under way lets go of may still come, should the
    void fail: it is dropped once the void has succeeded.
    """
    owed = await db.fetch(LOCK_OWED, reference)
    if not owed:
        return Settled()
    found = await intents.read_intents(db, references=[reference])
    under_way = await operations.read_under_way(db, intent_ids=[intent.id for intent in found])
    back = {intent.id: intent.refunded_minor + under_way.get((intent.id, Kind.REFUND), 0) for intent in found}
    credited = await read_credited(db, reference=reference, with_owed=False)
    most = _Purse({each.id: each.authorized_minor - each.voided_minor - back[each.id] for each in found}, credited)
    in_hand = _Purse({each.id: each.captured_minor - back[each.id] for each in found}, credited)
    kept: list[tuple[Record, int]] = []
    ready: list[tuple[Record, int]] = []
    for row in owed:
        amount = most.take(row["intent_id"], row["amount_minor"])
        kept.append((row, amount))
        if amount > 0 and in_hand.holds(row["intent_id"]) >= amount:
            in_hand.take(row["intent_id"], amount)
            ready.append((row, amount))
    dropped = await _shrink(db, kept)
    await _begin(db, ready, reference=reference, now=now)
    return Settled(
        begun_minor=sum(amount for row, amount in ready if row["intent_id"] is not None),
        credited_minor=sum(amount for row, amount in ready if row["intent_id"] is None),
        dropped=dropped,
    )


class _Purse:
    """Minor units by tender, less what was given as credit, which is of no tender: the whole holds no more than that."""

    def __init__(self, by_intent: dict[UUID, int], credited_minor: int) -> None:
        self._by_intent = by_intent
        self._total = sum(by_intent.values()) - credited_minor

    def holds(self, intent_id: UUID | None) -> int:
        """What may be taken for a tender, or for credit (``None``)."""
        return max(0, self._total if intent_id is None else min(self._by_intent[intent_id], self._total))

    def take(self, intent_id: UUID | None, amount_minor: int) -> int:
        """Take an amount, or what there is; returns how much."""
        taken = min(amount_minor, self.holds(intent_id))
        self._total -= taken
        if intent_id is not None:
            self._by_intent[intent_id] -= taken
        return taken


async def _shrink(db: Connection, kept: Sequence[tuple[Record, int]]) -> tuple[Dropped, ...]:
    """Owe no more than what may come; returns what is not owed any more."""
    less = [(row, amount) for row, amount in kept if amount < row["amount_minor"]]
    if not less:
        return ()
    smaller = [(row["id"], amount) for row, amount in less if amount > 0]
    await db.execute(SHRINK, [refund_id for refund_id, _ in smaller], [amount for _, amount in smaller])
    await db.execute(DROP, [row["id"] for row, amount in less if amount == 0])
    return tuple(Dropped(cause=row["cause"], amount_minor=row["amount_minor"] - amount) for row, amount in less)


async def _begin(db: Connection, ready: Sequence[tuple[Record, int]], *, reference: UUID, now: datetime) -> None:
    if not ready:
        return
    await db.execute(BEGUN, [row["id"] for row, _ in ready])
    over_tenders = [(row["id"], row["intent_id"], Kind.REFUND, amount) for row, amount in ready if row["intent_id"]]
    await operations.begin(db, over_tenders, now=now)
    as_credit = [
        _Credit(
            id=row["id"],
            stored_value_id=row["stored_value_id"],
            kind=row["kind"],
            currency=row["currency"],
            amount_minor=amount,
        )
        for row, amount in ready
        if row["intent_id"] is None
    ]
    if as_credit:
        await _post_credits(db, as_credit, reference=reference, now=now)


async def read_refunds(db: Connection, *, causes: Sequence[UUID]) -> list[Refund]:
    """What went back, or is to go back, for the causes; oldest first."""
    return [msgspec.convert(dict(row), Refund) for row in await db.fetch(READ_OF_CAUSE, list(causes))]
