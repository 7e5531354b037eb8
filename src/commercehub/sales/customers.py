"""Customers, known everywhere: one person, however they come. One of the two homes of personal data."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection

from commercehub.sales.errors import CustomerNotFound, EmailTaken

FOUND_MAX: Final = 50


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A person who buys. Reachable by e-mail or phone, or both."""

    id: UUID
    email: str | None
    phone: str | None
    name: str | None
    locale: str
    created_at: datetime


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What a sign-in is checked against."""

    customer_id: UUID
    password_hash: str | None


_COLUMNS: Final = "id, email, phone, name, locale, created_at"

CREATE = """
INSERT INTO commercehub.customers (id, email, phone, name, locale, password_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

READ = f"SELECT {_COLUMNS} FROM commercehub.customers WHERE id = $1"

READ_MANY = f"SELECT {_COLUMNS} FROM commercehub.customers WHERE id = ANY ($1::uuid[])"

# Two statements rather than one with ORs: each has its index, whatever the planner thinks.
FIND_BY_EMAIL = f"""
SELECT {_COLUMNS} FROM commercehub.customers
WHERE lower(email) = lower($1)
  AND ($2::text IS NULL OR regexp_replace(phone, '[^0-9]', '', 'g') = regexp_replace($2, '[^0-9]', '', 'g'))
ORDER BY id
LIMIT $3
"""

FIND_BY_PHONE = f"""
SELECT {_COLUMNS} FROM commercehub.customers
WHERE regexp_replace(phone, '[^0-9]', '', 'g') = regexp_replace($1, '[^0-9]', '', 'g')
ORDER BY id
LIMIT $2
"""

READ_ACCOUNT = "SELECT id, password_hash FROM commercehub.customers WHERE lower(email) = lower($1)"

READ_ACCOUNT_OF = "SELECT id, password_hash FROM commercehub.customers WHERE id = $1"

CHANGE = f"""
UPDATE commercehub.customers
SET name = coalesce($2, name), phone = coalesce($3, phone), locale = coalesce($4, locale)
WHERE id = $1
RETURNING {_COLUMNS}
"""

REPLACE_HASH = """
UPDATE commercehub.customers SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING id
"""

SET_HASH = "UPDATE commercehub.customers SET password_hash = $2 WHERE id = $1"

# Whoever changes the password waits for this transaction, and ends what it has opened.
HOLD_HASH = "SELECT id FROM commercehub.customers WHERE id = $1 AND password_hash = $2 FOR UPDATE"

REHASH = "UPDATE commercehub.customers SET password_hash = $2 WHERE id = $1 AND password_hash = $3"


async def create_customer(db: Connection, customer: Customer, *, password_hash: str | None) -> None:
    """Take somebody in, or raise ``EmailTaken``: an e-mail address belongs to one person."""
    try:
        await db.execute(
            CREATE,
            customer.id,
            customer.email,
            customer.phone,
            customer.name,
            customer.locale,
            password_hash,
            customer.created_at,
        )
    except asyncpg.UniqueViolationError as error:
        raise EmailTaken from error


async def read_customer(db: Connection, *, customer_id: UUID) -> Customer:
    """One person, or raise ``CustomerNotFound``."""
    row = await db.fetchrow(READ, customer_id)
    if row is None:
        raise CustomerNotFound
    return msgspec.convert(dict(row), Customer)


async def read_customers(db: Connection, *, customer_ids: Sequence[UUID]) -> dict[UUID, Customer]:
    """Those of the people that there are, by id."""
    rows = await db.fetch(READ_MANY, list(customer_ids))
    return {row["id"]: msgspec.convert(dict(row), Customer) for row in rows}


async def find_customers(db: Connection, *, email: str | None, phone: str | None) -> Sequence[Customer]:
    """The people with this e-mail address and this phone; nobody where neither is given."""
    if email is not None:
        rows = await db.fetch(FIND_BY_EMAIL, email, phone, FOUND_MAX)
    else:
        rows = await db.fetch(FIND_BY_PHONE, phone, FOUND_MAX)
    return [msgspec.convert(dict(row), Customer) for row in rows]


async def change_customer(
    db: Connection, *, customer_id: UUID, name: str | None, phone: str | None, locale: str | None
) -> Customer:
    """Change what is given and leave the rest, or raise ``CustomerNotFound``."""
    row = await db.fetchrow(CHANGE, customer_id, name, phone, locale)
    if row is None:
        raise CustomerNotFound
    return msgspec.convert(dict(row), Customer)


async def find_account(db: Connection, *, email: str) -> Account | None:
    """Whose sign-in this is."""
    row = await db.fetchrow(READ_ACCOUNT, email)
    return Account(customer_id=row["id"], password_hash=row["password_hash"]) if row else None


async def read_account(db: Connection, *, customer_id: UUID) -> Account:
    """The sign-in of a person, or raise ``CustomerNotFound``."""
    row = await db.fetchrow(READ_ACCOUNT_OF, customer_id)
    if row is None:
        raise CustomerNotFound
    return Account(customer_id=row["id"], password_hash=row["password_hash"])


async def replace_password(db: Connection, *, customer_id: UUID, old_hash: str, new_hash: str) -> bool:
    """Store the hash of a new password; false if the old one was changed meanwhile."""
    return await db.fetchval(REPLACE_HASH, customer_id, old_hash, new_hash) is not None


async def set_password(db: Connection, *, customer_id: UUID, new_hash: str) -> None:
    """Store the hash of a new password, whatever the old one was: the caller has another proof of who it is."""
    await db.execute(SET_HASH, customer_id, new_hash)


async def hold_password(db: Connection, *, customer_id: UUID, old_hash: str) -> bool:
    """Whether this is the password still; if so it stays so until the transaction ends."""
    return await db.fetchval(HOLD_HASH, customer_id, old_hash) is not None


async def rehash_password(db: Connection, *, customer_id: UUID, old_hash: str, new_hash: str) -> None:
    """Store the same password at today's cost, unless it was changed meanwhile."""
    await db.execute(REHASH, customer_id, new_hash, old_hash)
