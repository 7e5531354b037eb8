"""Who works here: staff with a role at some locations, and the devices that were paired with a location."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection, Record

from commercehub.auth.keys import digest

PAIRING_FOR: Final = timedelta(minutes=15)
CODE_LETTERS: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
CODE_LENGTH: Final = 8
STAFF_MAX: Final = 500


class LoginTaken(Exception):
    """Somebody else has this login; they are unique ignoring case."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A member of staff. An ``admin`` or ``support`` without locations works everywhere."""

    id: UUID
    login: str
    name: str
    role: str
    location_ids: tuple[UUID, ...]
    password_hash: str
    pin_hash: str | None
    ended_at: datetime | None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A till's or a scanner's hardware."""

    id: UUID
    name: str
    role: str
    location_id: UUID
    ended_at: datetime | None = None


_PERSON: Final = "id, login, name, role, location_ids, password_hash, pin_hash, ended_at"

CREATE = """
INSERT INTO commercehub.staff (id, login, name, role, location_ids, password_hash, pin_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

FIND = f"SELECT {_PERSON} FROM commercehub.staff WHERE lower(login) = lower($1) AND ended_at IS NULL"

READ = f"SELECT {_PERSON} FROM commercehub.staff WHERE id = $1"

LOCK = f"SELECT {_PERSON} FROM commercehub.staff WHERE id = $1 AND ended_at IS NULL FOR UPDATE"

LIST = f"SELECT {_PERSON} FROM commercehub.staff ORDER BY lower(login) LIMIT $1"

END = "UPDATE commercehub.staff SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL RETURNING id"

REHASH = "UPDATE commercehub.staff SET password_hash = $2 WHERE id = $1 AND password_hash = $3"

UPDATE = """
UPDATE commercehub.staff
SET name = $2, role = $3, location_ids = $4, password_hash = $5, pin_hash = $6
WHERE id = $1
"""

OFFER_PAIRING = """
INSERT INTO commercehub.devices (id, name, role, location_id, pairing_hash, pairing_ends_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

PAIR = """
UPDATE commercehub.devices SET pairing_hash = NULL, pairing_ends_at = NULL
WHERE pairing_hash = $1 AND pairing_ends_at > $2 AND ended_at IS NULL
RETURNING id, name, role, location_id, ended_at
"""

_DEVICE: Final = "id, name, role, location_id, ended_at"

LIST_DEVICES = f"""
SELECT {_DEVICE} FROM commercehub.devices WHERE ($1::uuid IS NULL OR location_id = $1) ORDER BY id LIMIT $2
"""

READ_DEVICE = f"SELECT {_DEVICE} FROM commercehub.devices WHERE id = $1"

END_DEVICE = "UPDATE commercehub.devices SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL RETURNING id"


async def create_person(db: Connection, person: Person, *, now: datetime) -> None:
    """Take somebody on, or raise ``LoginTaken``."""
    try:
        await db.execute(
            CREATE,
            person.id,
            person.login,
            person.name,
            person.role,
            list(person.location_ids),
            person.password_hash,
            person.pin_hash,
            now,
        )
    except asyncpg.UniqueViolationError as error:
        raise LoginTaken from error


async def find_person(db: Connection, *, login: str) -> Person | None:
    """Who signs in with this login, if they still work here."""
    row = await db.fetchrow(FIND, login)
    return _person(row) if row else None


async def read_person(db: Connection, *, staff_id: UUID) -> Person | None:
    """One member of staff."""
    row = await db.fetchrow(READ, staff_id)
    return _person(row) if row else None


async def lock_person(db: Connection, *, staff_id: UUID) -> Person | None:
    """Somebody who works here, as they are until this transaction ends; ``None`` if they have left, or never were."""
    row = await db.fetchrow(LOCK, staff_id)
    return _person(row) if row else None


async def list_people(db: Connection) -> Sequence[Person]:
    """Everybody who works or worked here."""
    return [_person(row) for row in await db.fetch(LIST, STAFF_MAX)]


async def end_person(db: Connection, *, staff_id: UUID, now: datetime) -> bool:
    """Somebody leaves. False if they had left, or never were."""
    return await db.fetchval(END, staff_id, now) is not None


async def update_person(db: Connection, person: Person) -> None:
    """Change what a member of staff, who is locked, may do, where, or by which secrets."""
    await db.execute(
        UPDATE,
        person.id,
        person.name,
        person.role,
        list(person.location_ids),
        person.password_hash,
        person.pin_hash,
    )


async def rehash_password(db: Connection, *, staff_id: UUID, old_hash: str, new_hash: str) -> None:
    """Store the same password at today's cost, unless it was changed meanwhile."""
    await db.execute(REHASH, staff_id, new_hash, old_hash)


async def offer_pairing(db: Connection, *, device: Device, now: datetime) -> tuple[str, datetime]:
    """Make a one-time code that a device at the location pairs itself with; and until when it holds."""
    code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
    ends_at = now + PAIRING_FOR
    await db.execute(OFFER_PAIRING, device.id, device.name, device.role, device.location_id, digest(code), ends_at, now)
    return code, ends_at


async def pair(db: Connection, *, code: str, now: datetime) -> Device | None:
    """Use a code up; ``None`` if it is wrong, used or old."""
    row = await db.fetchrow(PAIR, digest(code.upper().replace("-", "")), now)
    return msgspec.convert(dict(row), Device) if row else None


async def list_devices(db: Connection, *, location_id: UUID | None) -> Sequence[Device]:
    """The devices of a location, or of all."""
    return [msgspec.convert(dict(row), Device) for row in await db.fetch(LIST_DEVICES, location_id, STAFF_MAX)]


async def read_device(db: Connection, *, device_id: UUID) -> Device | None:
    """One device."""
    row = await db.fetchrow(READ_DEVICE, device_id)
    return msgspec.convert(dict(row), Device) if row else None


async def end_device(db: Connection, *, device_id: UUID, now: datetime) -> bool:
    """A device is lost or retired. False if it was already."""
    return await db.fetchval(END_DEVICE, device_id, now) is not None


def _person(row: Record) -> Person:
    return Person(
        id=row["id"],
        login=row["login"],
        name=row["name"],
        role=row["role"],
        location_ids=tuple(row["location_ids"]),
        password_hash=row["password_hash"],
        pin_hash=row["pin_hash"],
        ended_at=row["ended_at"],
    )
