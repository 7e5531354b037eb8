"""Gift cards and store credit: money that we owe to whoever holds the code, or to a customer.

A local tender, promised, spent or let go of like stock. The balance is a cache of the ledger's account, whose credit
is what we owe; ``held`` is what checkouts under way have promised.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from payments import ledger
from payments.errors import StoredValueNotFound, StoredValueSpent

GIFT_CARD: Final = "gift_card"
STORE_CREDIT: Final = "store_credit"
ENTRIES_MAX: Final = 200
BALANCE_MINOR_MAX: Final = 1_000_000_000
"""The most that a gift card is issued with: ten million dollars, or as many rupiah as five hundred are worth."""
REFUND_LASTS: Final = timedelta(days=365)
"""How long what comes back onto a gift card can be spent at least."""


class StoredValue(msgspec.Struct, frozen=True, kw_only=True):
    """A gift card or a customer's credit; amounts in minor units."""

    id: UUID
    kind: str
    owner_id: UUID | None
    currency: str
    balance_minor: int
    held_minor: int
    expires_at: datetime | None
    is_expired: bool

    @property
    def available_minor(self) -> int:
        """What can be spent now."""
        return 0 if self.is_expired else self.balance_minor - self.held_minor


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of a card or credit. ``settle``: it is spent now, not promised."""

    stored_value_id: UUID
    amount_minor: int
    settle: bool = False


class Extended(msgspec.Struct, frozen=True, kw_only=True):
    """A card that lasts longer than it said, as money came back onto it."""

    stored_value_id: UUID
    expires_at: datetime


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a balance. ``reference`` is what the caller calls its cause."""

    amount_minor: int
    reference: UUID | None
    at: datetime


_COLUMNS: Final = """id, kind, owner_id, currency, balance_minor, held_minor, expires_at,
    coalesce(expires_at <= now() + $2::interval, false) AS is_expired"""

ISSUE = """
WITH issued AS (
    INSERT INTO payments.stored_values
        (id, kind, code_hash, owner_id, currency, balance_minor, expires_at, issued_by, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
)
INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
SELECT transaction_id, account, amount_minor, currency, reference, $9
FROM unnest($10::uuid[], $11::text[], $12::bigint[], $13::text[], $14::uuid[])
    AS entry (transaction_id, account, amount_minor, currency, reference)
"""

# Somebody's credit is opened with nothing on it by whoever comes first; the others find it.
OPEN_CREDIT = """
INSERT INTO payments.stored_values (id, kind, owner_id, currency, balance_minor, issued_by, created_at)
VALUES ($1, 'store_credit', $2, $3, 0, $4, $5)
ON CONFLICT (owner_id, currency) WHERE owner_id IS NOT NULL DO NOTHING
"""

FIND = f"SELECT {_COLUMNS} FROM payments.stored_values WHERE code_hash = $1"

FIND_CREDIT = f"SELECT {_COLUMNS} FROM payments.stored_values WHERE owner_id = $1 AND currency = $3"

FIND_MANY = f"SELECT {_COLUMNS} FROM payments.stored_values WHERE id = ANY ($1::uuid[])"

LOCK = "SELECT id FROM payments.stored_values WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE"

# The claim is the check: what has not enough left is not among the rows that come back.
CLAIM = """
UPDATE payments.stored_values AS stored
SET held_minor = stored.held_minor + wanted.promised_minor, balance_minor = stored.balance_minor - wanted.spent_minor
FROM (
    SELECT id, coalesce(sum(amount_minor) FILTER (WHERE NOT settle), 0)::bigint AS promised_minor,
           coalesce(sum(amount_minor) FILTER (WHERE settle), 0)::bigint AS spent_minor
    FROM unnest($1::uuid[], $2::bigint[], $3::bool[]) AS given (id, amount_minor, settle) GROUP BY id
) AS wanted
WHERE stored.id = wanted.id
  AND stored.balance_minor - stored.held_minor >= wanted.promised_minor + wanted.spent_minor
  AND (stored.expires_at IS NULL OR stored.expires_at > $4)
RETURNING stored.id
"""

# $1-$3 what is let go of, and by how much the balance falls, or rises where money comes back.
CHANGE = """
UPDATE payments.stored_values AS stored
SET held_minor = stored.held_minor - given.released_minor, balance_minor = stored.balance_minor - given.spent_minor
FROM (
    SELECT id, sum(released_minor)::bigint AS released_minor, sum(spent_minor)::bigint AS spent_minor
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS change (id, released_minor, spent_minor) GROUP BY id
) AS given
WHERE stored.id = given.id
"""

EXTEND = """
UPDATE payments.stored_values SET expires_at = $2 WHERE id = ANY ($1::uuid[]) AND expires_at < $2
RETURNING id
"""

READ_BOOKINGS = """
SELECT -amount_minor AS amount_minor, reference, at FROM payments.entries
WHERE account = $1 ORDER BY id DESC LIMIT $2
"""


async def issue_gift_card(
    db: Connection,
    *,
    card_id: UUID,
    code_hash: bytes,
    currency: str,
    balance_minor: int,
    expires_at: datetime | None,
    actor: str,
    now: datetime,
) -> StoredValue:
    """Issue a card: from now on we owe its balance to whoever has the code."""
    entries = ledger.columns(
        ledger.Entry(transaction_id=card_id, account=name, amount_minor=amount, currency=currency)
        for name, amount in (
            (ledger.ISSUED, balance_minor),
            (ledger.stored_value(GIFT_CARD, card_id), -balance_minor),
        )
    )
    await db.execute(
        ISSUE, card_id, GIFT_CARD, code_hash, None, currency, balance_minor, expires_at, actor, now, *entries
    )
    return StoredValue(
        id=card_id,
        kind=GIFT_CARD,
        owner_id=None,
        currency=currency,
        balance_minor=balance_minor,
        held_minor=0,
        expires_at=expires_at,
        is_expired=expires_at is not None and expires_at <= now,
    )


async def find_gift_card(db: Connection, *, code_hash: bytes, clock_offset: timedelta = timedelta()) -> StoredValue:
    """The card of a code, or raise ``StoredValueNotFound``."""
    row = await db.fetchrow(FIND, code_hash, clock_offset)
    if row is None:
        raise StoredValueNotFound
    return _stored_value(row)


async def read_gift_cards(
    db: Connection, *, card_ids: Sequence[UUID], clock_offset: timedelta = timedelta()
) -> dict[UUID, StoredValue]:
    """Those of the cards that there are, by id."""
    rows = await db.fetch(FIND_MANY, list(card_ids), clock_offset)
    return {row["id"]: _stored_value(row) for row in rows}


async def find_store_credit(
    db: Connection, *, owner_id: UUID, currency: str, clock_offset: timedelta = timedelta()
) -> StoredValue | None:
    """What we owe a customer in a currency; ``None`` if there never was any."""
    row = await db.fetchrow(FIND_CREDIT, owner_id, clock_offset, currency)
    return _stored_value(row) if row else None


async def open_store_credit(
    db: Connection, *, new_id: UUID, owner_id: UUID, currency: str, actor: str, now: datetime
) -> StoredValue:
    """A customer's credit in a currency, opened with nothing on it if there was none."""
    await db.execute(OPEN_CREDIT, new_id, owner_id, currency, actor, now)
    found = await find_store_credit(db, owner_id=owner_id, currency=currency)
    if found is None:
        raise StoredValueNotFound
    return found


async def read_bookings(db: Connection, stored: StoredValue) -> list[Booking]:
    """Every change of a balance, newest first: positive where it rose."""
    rows = await db.fetch(READ_BOOKINGS, ledger.stored_value(stored.kind, stored.id), ENTRIES_MAX)
    return [msgspec.convert(dict(row), Booking) for row in rows]


async def claim_stored_value(db: Connection, wanted: Sequence[Spending], *, now: datetime) -> None:
    """Promise or spend amounts, all of them, or raise ``StoredValueSpent``. The ledger's side goes with the intents."""
    if not wanted:
        return
    asked = {each.stored_value_id for each in wanted}
    await db.fetch(LOCK, sorted(asked))
    rows = await db.fetch(
        CLAIM,
        [each.stored_value_id for each in wanted],
        [each.amount_minor for each in wanted],
        [each.settle for each in wanted],
        now,
    )
    if {row["id"] for row in rows} != asked:
        raise StoredValueSpent


async def post_holds(db: Connection, spent: Sequence[Spending]) -> None:
    """What was promised is spent. The ledger's side is written with the intents."""
    await _change(db, spent, released=1, spent_sign=1)


async def void_holds(db: Connection, released: Sequence[Spending]) -> None:
    """What was promised is free again."""
    await _change(db, released, released=1, spent_sign=0)


async def add_to(db: Connection, added: Sequence[Spending]) -> None:
    """Balances rise: money comes back, or is owed from now on. The ledger's side is the caller's."""
    await _change(db, added, released=0, spent_sign=-1)


async def extend(db: Connection, *, stored_value_ids: Sequence[UUID], now: datetime) -> list[Extended]:
    """Those of the locked cards that have expired, or would too soon, last for ``REFUND_LASTS`` from now on."""
    until = now + REFUND_LASTS
    rows = await db.fetch(EXTEND, list(stored_value_ids), until)
    return [Extended(stored_value_id=row["id"], expires_at=until) for row in rows]


async def _change(db: Connection, given: Sequence[Spending], *, released: int, spent_sign: int) -> None:
    if not given:
        return
    await db.fetch(LOCK, sorted({each.stored_value_id for each in given}))
    await db.execute(
        CHANGE,
        [each.stored_value_id for each in given],
        [each.amount_minor * released for each in given],
        [each.amount_minor * spent_sign for each in given],
    )


def _stored_value(row: Record) -> StoredValue:
    return msgspec.convert(dict(row), StoredValue)
