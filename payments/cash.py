"""Registers and their drawer sessions: opened with a float, closed with a count, no cash without one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection, Record

from payments import ledger
from payments.errors import NoOpenSession, RegisterNameTaken, RegisterNotFound, SessionAlreadyOpen

REGISTERS_MAX: Final = 200


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """A till at a location."""

    id: UUID
    location_id: UUID
    name: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A drawer from opening to count."""

    id: UUID
    register_id: UUID
    currency: str
    opening_float_minor: int
    expected_minor: int | None
    counted_minor: int | None
    opened_by: str
    opened_at: datetime
    closed_by: str | None
    closed_at: datetime | None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of tender brought in and paid out during a session.

    A card is taken when it is authorized: that a job captures it a moment later is no matter of the drawer's.
    """

    tender: str
    taken_minor: int
    refunded_minor: int


_SESSION: Final = """id, register_id, currency, opening_float_minor, expected_minor, counted_minor, opened_by, opened_at,
    closed_by, closed_at"""

CREATE_REGISTER = "INSERT INTO payments.registers (id, location_id, name, created_at) VALUES ($1, $2, $3, $4)"

RENAME_REGISTER = "UPDATE payments.registers SET name = $2 WHERE id = $1 RETURNING id, location_id, name"

LIST_REGISTERS = """
SELECT id, location_id, name FROM payments.registers
WHERE ($1::uuid IS NULL OR location_id = $1)
ORDER BY location_id, name
LIMIT $2
"""

READ_REGISTER = """
SELECT id, location_id, name FROM payments.registers WHERE id = $1 AND ($2::uuid IS NULL OR location_id = $2)
"""

OPEN_SESSION = f"""
WITH opened AS (
    INSERT INTO payments.register_sessions (id, register_id, currency, opening_float_minor, opened_by, opened_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING {_SESSION}
),
posted AS (
    INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
    SELECT transaction_id, account, amount_minor, currency, reference, $6
    FROM unnest($7::uuid[], $8::text[], $9::bigint[], $10::text[], $11::uuid[])
        AS entry (transaction_id, account, amount_minor, currency, reference)
)
SELECT * FROM opened
"""

READ_OPEN = f"SELECT {_SESSION} FROM payments.register_sessions WHERE register_id = $1 AND closed_at IS NULL"

LOCK_OPEN = f"""
SELECT {_SESSION} FROM payments.register_sessions WHERE register_id = $1 AND closed_at IS NULL FOR UPDATE
"""

FIND_OPEN = """
SELECT session.id
FROM payments.registers AS register
JOIN payments.register_sessions AS session ON session.register_id = register.id AND session.closed_at IS NULL
WHERE register.location_id = $1 AND ($2::uuid IS NULL OR register.id = $2) AND session.currency = $3
ORDER BY session.id
"""

# A sale shares the session; a close takes it alone, and whoever waited for it then finds no open session.
SHARE_OPEN = """
SELECT id FROM payments.register_sessions
WHERE id = ANY ($1::uuid[]) AND closed_at IS NULL
ORDER BY id
FOR SHARE
"""

CLOSE_SESSION = f"""
WITH posted AS (
    INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, reference, at)
    SELECT transaction_id, account, amount_minor, currency, reference, $5
    FROM unnest($6::uuid[], $7::text[], $8::bigint[], $9::text[], $10::uuid[])
        AS entry (transaction_id, account, amount_minor, currency, reference)
)
UPDATE payments.register_sessions
SET expected_minor = $2, counted_minor = $3, closed_by = $4, closed_at = $5
WHERE id = $1
RETURNING {_SESSION}
"""

IN_DRAWER = "SELECT coalesce(sum(amount_minor), 0)::bigint FROM payments.entries WHERE account = $1"

# What was given back belongs to the session that gave it, whichever took it. A refund that is refused gave nothing.
TAKEN = """
SELECT tender, sum(taken)::bigint AS taken_minor, sum(refunded)::bigint AS refunded_minor
FROM (
    SELECT tender, authorized_minor - voided_minor AS taken, 0 AS refunded
    FROM payments.intents WHERE session_id = $1
    UNION ALL
    SELECT intent.tender, 0, refund.amount_minor
    FROM payments.refunds AS refund
    JOIN payments.intents AS intent ON intent.id = refund.intent_id
    WHERE refund.session_id = $1 AND NOT EXISTS (
        SELECT FROM payments.operations
        WHERE operation_id = refund.id AND intent_id = intent.id AND state IN ('declined', 'failed')
    )
) AS moved
GROUP BY tender
ORDER BY tender
"""


COUNT_SALES = """
SELECT count(DISTINCT reference) FROM payments.intents WHERE session_id = $1 AND authorized_minor > voided_minor
"""


async def create_register(db: Connection, register: Register, *, now: datetime) -> None:
    """Set up a till, or raise ``RegisterNameTaken``."""
    try:
        await db.execute(CREATE_REGISTER, register.id, register.location_id, register.name, now)
    except asyncpg.UniqueViolationError as error:
        raise RegisterNameTaken(register.name) from error


async def rename_register(db: Connection, *, register_id: UUID, name: str) -> Register:
    """Give a till another name, or raise ``RegisterNotFound`` or ``RegisterNameTaken``."""
    try:
        row = await db.fetchrow(RENAME_REGISTER, register_id, name)
    except asyncpg.UniqueViolationError as error:
        raise RegisterNameTaken(name) from error
    if row is None:
        raise RegisterNotFound(register_id)
    return Register(id=row["id"], location_id=row["location_id"], name=row["name"])


async def list_registers(db: Connection, *, location_id: UUID | None) -> list[Register]:
    """The tills of a location, or of all."""
    rows = await db.fetch(LIST_REGISTERS, location_id, REGISTERS_MAX)
    return [Register(id=row["id"], location_id=row["location_id"], name=row["name"]) for row in rows]


async def read_register(db: Connection, *, register_id: UUID, location_id: UUID | None) -> Register:
    """A till that stands at the location (``None``: anywhere), or raise ``RegisterNotFound``."""
    row = await db.fetchrow(READ_REGISTER, register_id, location_id)
    if row is None:
        raise RegisterNotFound(register_id)
    return Register(id=row["id"], location_id=row["location_id"], name=row["name"])


async def open_session(
    db: Connection,
    *,
    session_id: UUID,
    register_id: UUID,
    opening_float_minor: int,
    currency: str,
    actor: str,
    now: datetime,
) -> Session:
    """Open the drawer with what was put into it from the safe, or raise ``SessionAlreadyOpen``."""
    entries = ledger.columns(
        ledger.Entry(transaction_id=session_id, account=account, amount_minor=amount, currency=currency)
        for account, amount in (
            (ledger.drawer(session_id), opening_float_minor),
            (ledger.SAFE, -opening_float_minor),
        )
    )
    try:
        row = await db.fetchrow(
            OPEN_SESSION, session_id, register_id, currency, opening_float_minor, actor, now, *entries
        )
    except asyncpg.UniqueViolationError as error:
        raise SessionAlreadyOpen(register_id) from error
    return _session(row)


async def read_open_session(db: Connection, *, register_id: UUID) -> Session:
    """The register's open session, or raise ``NoOpenSession``."""
    row = await db.fetchrow(READ_OPEN, register_id)
    if row is None:
        raise NoOpenSession
    return _session(row)


async def find_sessions(db: Connection, *, register_id: UUID | None, location_id: UUID, currency: str) -> list[UUID]:
    """The open sessions at a location, of one register or of any, that take a currency. No lock: see ``share_sessions``."""
    return [row["id"] for row in await db.fetch(FIND_OPEN, location_id, register_id, currency)]


async def share_sessions(db: Connection, *, session_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the sessions that are open, lowest id first; they cannot close before this transaction ends."""
    return [row["id"] for row in await db.fetch(SHARE_OPEN, list(session_ids))]


async def close_session(
    db: Connection, *, register_id: UUID, closing_id: UUID, counted_minor: int, actor: str, now: datetime
) -> Session:
    """Close the drawer with a count, all of it into the safe, the difference into over and short.

    ``NoOpenSession`` if it is not open. ``closing_id`` becomes the ledger transaction.
    """
    row = await db.fetchrow(LOCK_OPEN, register_id)
    if row is None:
        raise NoOpenSession
    session = _session(row)
    expected: int = await db.fetchval(IN_DRAWER, ledger.drawer(session.id))
    entries = ledger.columns(
        ledger.Entry(transaction_id=closing_id, account=account, amount_minor=amount, currency=session.currency)
        for account, amount in (
            (ledger.drawer(session.id), -expected),
            (ledger.SAFE, counted_minor),
            (ledger.OVER_SHORT, expected - counted_minor),
        )
    )
    row = await db.fetchrow(CLOSE_SESSION, session.id, expected, counted_minor, actor, now, *entries)
    return _session(row)


async def read_drawer(db: Connection, *, session_id: UUID) -> int:
    """How much cash should be in the drawer now, in minor units: the ledger says."""
    total: int = await db.fetchval(IN_DRAWER, ledger.drawer(session_id))
    return total


async def read_taken(db: Connection, *, session_id: UUID) -> list[Taken]:
    """What each kind of tender brought during a session."""
    rows = await db.fetch(TAKEN, session_id)
    return [msgspec.convert(dict(row), Taken) for row in rows]


async def count_sales(db: Connection, *, session_id: UUID) -> int:
    """How many sales a session took money for, however many tenders each was paid with."""
    count: int = await db.fetchval(COUNT_SALES, session_id)
    return count


def _session(row: Record | None) -> Session:
    return msgspec.convert(dict(row or {}), Session)
