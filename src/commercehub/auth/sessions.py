"""Who has signed in: short access tokens, refresh tokens that change at every use, and devices that were paired.

Tokens are 256 bits, stored as hashes. A refresh token names its session, so that any one of it that comes a second time
is known to be copied (RFC 9700, 4.14.2): the session ends. Only the last one may come again within ``GRACE``, as when
an answer was lost or two tabs refresh at once: it gets the same tokens as before, made from it and a salt that we keep.
"""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import ids
from commercehub.auth.attempts import PURGE_BATCH
from commercehub.auth.keys import digest
from commercehub.auth.principal import Kind, Principal

ACCESS_FOR: Final = timedelta(minutes=15)
SESSION_FOR: Final = timedelta(days=60)
SHIFT_FOR: Final = timedelta(hours=12)
DEVICE_FOR: Final = timedelta(days=3_650)
ORDER_FOR: Final = timedelta(hours=1)
GRACE: Final = timedelta(seconds=10)
TOKEN_BYTES: Final = 32
KEPT_FOR: Final = timedelta(days=7)
REFRESH_PREFIX: Final = "hub_rt_"

PREFIXES: Final[Mapping[Kind, str]] = {
    Kind.CUSTOMER: "hub_ct_",
    Kind.STAFF: "hub_st_",
    Kind.DEVICE: "hub_dt_",
    Kind.ORDER: "hub_ot_",
}
TOKEN_PREFIXES: Final = tuple(PREFIXES.values())
_LIVES_FOR: Final[Mapping[Kind, timedelta]] = {
    Kind.CUSTOMER: SESSION_FOR,
    Kind.STAFF: SHIFT_FOR,
    Kind.DEVICE: DEVICE_FOR,
    Kind.ORDER: ORDER_FOR,
}


class SessionOver(Exception):
    """The refresh token is of no session that lives."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody who signed in gets. Shown once."""

    session_id: UUID
    access_token: str
    access_ends_at: datetime
    refresh_token: str | None


OPEN = """
INSERT INTO commercehub.sessions
    (id, kind, subject_id, sales_channel_id, key_id, device_id, location_id, access_hash, access_ends_at, refresh_hash,
     refreshed_at, created_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12)
"""

REFRESH = """
UPDATE commercehub.sessions
SET access_hash = $3, access_ends_at = $4, refresh_previous_hash = refresh_hash, refresh_hash = $5, refresh_salt = $6,
    refreshed_at = $7
WHERE id = $1 AND refresh_hash = $2 AND ends_at > $7
RETURNING id
"""

READ_SPENT = """
SELECT refresh_previous_hash = $2 AS is_last, refresh_salt, refreshed_at, access_ends_at
FROM commercehub.sessions WHERE id = $1 AND refresh_hash IS NOT NULL AND ends_at > $3
FOR UPDATE
"""

END = "UPDATE commercehub.sessions SET ends_at = $2, access_ends_at = $2 WHERE id = $1 AND ends_at > $2"

END_ALL = """
UPDATE commercehub.sessions SET ends_at = $2, access_ends_at = $2
WHERE subject_id = $1 AND ends_at > $2 AND ($3::uuid IS NULL OR id <> $3)
"""

PURGE = """
DELETE FROM commercehub.sessions
WHERE id IN (SELECT id FROM commercehub.sessions WHERE ends_at < $1 ORDER BY ends_at LIMIT $2)
"""


async def open_session(
    db: Connection,
    *,
    kind: Kind,
    subject_id: UUID,
    through: Principal,
    location_id: UUID | None,
    now: datetime,
) -> Tokens:
    """Sign somebody in ``through`` a credential, whose channel and allowed origins they inherit.

    A shift ends with the key or the device that it was begun on; a customer's sign-in does not.

    Customers get a refresh token; a shift, a device and a look-up end by themselves.
    """
    is_customer = kind is Kind.CUSTOMER
    ends_at = now + _LIVES_FOR[kind]
    session_id = ids.new()
    tokens = Tokens(
        session_id=session_id,
        access_token=PREFIXES[kind] + secrets.token_urlsafe(TOKEN_BYTES),
        access_ends_at=now + ACCESS_FOR if is_customer else ends_at,
        refresh_token=_refresh_token(session_id, secrets.token_bytes(TOKEN_BYTES)) if is_customer else None,
    )
    await db.execute(
        OPEN,
        tokens.session_id,
        kind.value,
        subject_id,
        through.sales_channel.id,
        through.subject_id if through.kind is Kind.KEY else None,
        through.subject_id if through.kind is Kind.DEVICE else None,
        location_id,
        digest(tokens.access_token),
        tokens.access_ends_at,
        digest(tokens.refresh_token) if tokens.refresh_token else None,
        now,
        ends_at,
    )
    return tokens


async def refresh_session(db: Connection, *, refresh_token: str, now: datetime) -> Tokens | None:
    """New tokens for the one that is used up by this. ``None``: it was used before, and its session is over now.

    ``SessionOver`` if it is of no session that lives.
    """
    session_id = _session_of(refresh_token)
    used = digest(refresh_token)
    salt = secrets.token_bytes(TOKEN_BYTES)
    tokens = _next_tokens(session_id, refresh_token, salt, access_ends_at=now + ACCESS_FOR)
    refreshed = await db.fetchval(
        REFRESH,
        session_id,
        used,
        digest(tokens.access_token),
        tokens.access_ends_at,
        digest(tokens.refresh_token or ""),
        salt,
        now,
    )
    if refreshed is not None:
        return tokens
    spent = await db.fetchrow(READ_SPENT, session_id, used, now)
    if spent is None:
        raise SessionOver
    if spent["is_last"] and spent["refreshed_at"] + GRACE > now:
        return _next_tokens(session_id, refresh_token, spent["refresh_salt"], access_ends_at=spent["access_ends_at"])
    await end_session(db, session_id=session_id, now=now)
    return None


def _refresh_token(session_id: UUID, secret: bytes) -> str:
    return REFRESH_PREFIX + urlsafe_b64encode(session_id.bytes + secret).decode()


def _session_of(refresh_token: str) -> UUID:
    """The session that a refresh token names, or ``SessionOver`` if it is no such token."""
    try:
        return UUID(bytes=urlsafe_b64decode(refresh_token.removeprefix(REFRESH_PREFIX))[:16])
    except ValueError as error:
        raise SessionOver from error


def _next_tokens(session_id: UUID, used: str, salt: bytes, *, access_ends_at: datetime) -> Tokens:
    """Who has the used token alone cannot make them, nor can who reads the database alone."""

    def derive(what: bytes) -> bytes:
        return hmac.digest(salt, what + used.encode(), "sha256")

    access = urlsafe_b64encode(derive(b"access:")).decode().rstrip("=")
    return Tokens(
        session_id=session_id,
        access_token=PREFIXES[Kind.CUSTOMER] + access,
        access_ends_at=access_ends_at,
        refresh_token=_refresh_token(session_id, derive(b"refresh:")),
    )


async def end_session(db: Connection, *, session_id: UUID, now: datetime) -> None:
    """Sign out."""
    await db.execute(END, session_id, now)


async def end_sessions_of(db: Connection, *, subject_id: UUID, now: datetime, but: UUID | None = None) -> None:
    """Sign somebody, or a device, out everywhere, or everywhere ``but`` one session.

    Within five seconds no process takes the tokens any more.
    """
    await db.execute(END_ALL, subject_id, now, but)


async def purge_sessions(db: Connection, *, now: datetime) -> int:
    """Forget the sessions that ended more than ``KEPT_FOR`` ago, a batch at a time; returns how many went."""
    tag = await db.execute(PURGE, now - KEPT_FOR, PURGE_BATCH)
    return int(tag.rpartition(" ")[2])
