"""Who has signed in: short access tokens, refresh tokens that change at every use, and devices that were paired.

Tokens are 256 random bits, stored as hashes. A refresh token that comes a second time was copied (RFC 9700, 4.14.2):
its session ends, unless it comes within ``GRACE``, as when two tabs refresh at once.
"""

import secrets
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
    (id, kind, subject_id, sales_channel_id, key_id, location_id, access_hash, access_ends_at, refresh_hash,
     refreshed_at, created_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)
"""

REFRESH = """
UPDATE commercehub.sessions
SET access_hash = $2, access_ends_at = $3, refresh_previous_hash = refresh_hash, refresh_hash = $4, refreshed_at = $5
WHERE refresh_hash = $1 AND ends_at > $5
RETURNING id
"""

FIND_REUSED = """
SELECT id, refreshed_at FROM commercehub.sessions WHERE refresh_previous_hash = $1 AND ends_at > $2 FOR UPDATE
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

    Customers get a refresh token; a shift, a device and a look-up end by themselves.
    """
    is_customer = kind is Kind.CUSTOMER
    ends_at = now + _LIVES_FOR[kind]
    tokens = Tokens(
        session_id=ids.new(),
        access_token=_new_token(PREFIXES[kind]),
        access_ends_at=now + ACCESS_FOR if is_customer else ends_at,
        refresh_token=_new_token(REFRESH_PREFIX) if is_customer else None,
    )
    await db.execute(
        OPEN,
        tokens.session_id,
        kind.value,
        subject_id,
        through.sales_channel.id,
        through.subject_id if through.kind is Kind.KEY else None,
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

    ``SessionOver`` if it is of no session that lives, or was used within the last ``GRACE``.
    """
    access, again = _new_token(PREFIXES[Kind.CUSTOMER]), _new_token(REFRESH_PREFIX)
    used = digest(refresh_token)
    session_id = await db.fetchval(REFRESH, used, digest(access), now + ACCESS_FOR, digest(again), now)
    if session_id is not None:
        return Tokens(session_id=session_id, access_token=access, access_ends_at=now + ACCESS_FOR, refresh_token=again)
    reused = await db.fetchrow(FIND_REUSED, used, now)
    if reused is None or reused["refreshed_at"] + GRACE > now:
        raise SessionOver
    await end_session(db, session_id=reused["id"], now=now)
    return None


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


def _new_token(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(TOKEN_BYTES)
