"""API keys: made, shown once, rotated and ended. Only a hash is stored."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import ids
from commercehub.auth.permissions import Role
from commercehub.auth.principal import SalesChannel

SECRET_BYTES: Final = 32
KEYS_MAX: Final = 500


class KeyEnded(Exception):
    """There is no such key, or it does not work any more."""


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key just made. ``secret`` is shown here and never again."""

    id: UUID
    secret: str


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed: without anything that opens a door."""

    id: UUID
    channel: str
    role: Role
    location_id: UUID | None
    allowed_origins: list[str]
    created_at: datetime
    ends_at: datetime | None


INSERT_KEY = """
INSERT INTO commercehub.api_keys
    (id, sales_channel_id, role, location_id, secret_hash, allowed_origins, created_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

END_KEY = """
UPDATE commercehub.api_keys SET ends_at = $2
WHERE id = $1 AND (ends_at IS NULL OR ends_at > $2)
RETURNING id
"""

# The key that follows has all that the first one has, but its secret.
ROTATE_KEY = """
WITH ended AS (
    UPDATE commercehub.api_keys SET ends_at = $2
    WHERE id = $1 AND ends_at IS NULL
    RETURNING sales_channel_id, role, location_id, allowed_origins
)
INSERT INTO commercehub.api_keys
    (id, sales_channel_id, role, location_id, secret_hash, allowed_origins, created_at, created_by)
SELECT $3, sales_channel_id, role, location_id, $4, allowed_origins, $5, $6 FROM ended
RETURNING id, role
"""

READ_ROLE = "SELECT role FROM commercehub.api_keys WHERE id = $1 AND ends_at IS NULL FOR UPDATE"

LIST_KEYS = """
SELECT api_key.id, channel.kind AS channel, api_key.role, api_key.location_id, api_key.allowed_origins,
       api_key.created_at, api_key.ends_at
FROM commercehub.api_keys AS api_key
JOIN commercehub.sales_channels AS channel ON channel.id = api_key.sales_channel_id
ORDER BY api_key.id
LIMIT $1
"""

READ_CHANNEL = """
SELECT id, kind, name, currency, locale, price_list, tax_included = 1 AS tax_included, tax_country
FROM commercehub.sales_channels
WHERE kind = $1
ORDER BY name
LIMIT 1
"""


async def create_key(
    db: Connection,
    *,
    sales_channel_id: UUID,
    role: Role,
    location_id: UUID | None,
    created_by: str,
    now: datetime,
    allowed_origins: frozenset[str] = frozenset(),
    secret: str | None = None,
) -> NewKey:
    """Make a key. Only its SHA-256 is stored: 256 random bits need no slow hash. A ``secret`` is given by demos only."""
    key = NewKey(id=ids.new(), secret=secret or _new_secret(role))
    await db.execute(
        INSERT_KEY,
        key.id,
        sales_channel_id,
        role.value,
        location_id,
        digest(key.secret),
        sorted(allowed_origins),
        now,
        created_by,
    )
    return key


async def rotate_key(db: Connection, *, key_id: UUID, overlap: timedelta, rotated_by: str, now: datetime) -> NewKey:
    """Make a key that takes another's place; the other works on for ``overlap``. ``KeyEnded`` if it works no more."""
    role = await db.fetchval(READ_ROLE, key_id)
    if role is None:
        raise KeyEnded(key_id)
    key = NewKey(id=ids.new(), secret=_new_secret(Role(role)))
    await db.execute(ROTATE_KEY, key_id, now + overlap, key.id, digest(key.secret), now, rotated_by)
    return key


async def revoke_key(db: Connection, *, key_id: UUID, now: datetime) -> bool:
    """End a key; within ``VERIFIED_SECONDS`` no process takes it any more. False if there is none that works."""
    return await db.fetchval(END_KEY, key_id, now) is not None


async def list_keys(db: Connection) -> Sequence[Key]:
    """All keys, oldest first, ended ones too."""
    return [msgspec.convert(dict(row), Key) for row in await db.fetch(LIST_KEYS, KEYS_MAX)]


async def find_channel(db: Connection, *, kind: str) -> SalesChannel | None:
    """The shop's sales channel of a kind; the first by name if it has several."""
    row = await db.fetchrow(READ_CHANNEL, kind)
    return msgspec.convert(dict(row), SalesChannel) if row else None


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def _new_secret(role: Role) -> str:
    kind = "pk" if role is Role.STOREFRONT else "sk"
    return f"hub_{kind}_{secrets.token_urlsafe(SECRET_BYTES)}"
