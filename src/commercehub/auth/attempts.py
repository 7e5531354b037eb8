"""Wrong passwords, codes and look-ups, counted per subject: ten in a quarter of an hour, then no more is tried."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from asyncpg import Connection

ATTEMPTS_MAX: Final = 10
WINDOW: Final = timedelta(minutes=15)
PURGE_BATCH: Final = 1_000


class TooManyAttempts(Exception):
    """This subject was tried too often; ``retry_after_seconds`` says when the oldest of them is forgotten."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds


# One at a time per subject: fifty guesses that come at once are counted like fifty that come one by one.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))"

READ = """
SELECT at FROM commercehub.attempts
WHERE kind = $1 AND subject_hash = $2 AND at > $3
ORDER BY at DESC
LIMIT $4
"""

NOTE = "INSERT INTO commercehub.attempts (kind, subject_hash, at) VALUES ($1, $2, $3)"

FORGET = "DELETE FROM commercehub.attempts WHERE kind = $1 AND subject_hash = $2"

PURGE = """
DELETE FROM commercehub.attempts
WHERE id IN (SELECT id FROM commercehub.attempts WHERE at < $1 ORDER BY id LIMIT $2)
"""


async def check_attempts(db: Connection, *, kind: str, subject: str, now: datetime) -> None:
    """Raise ``TooManyAttempts`` where a subject was tried too often: an e-mail address, a caller, an order's number.

    Until this transaction ends nobody else counts for the subject.
    """
    await db.execute(LOCK, kind + _hash(subject).hex())
    rows = await db.fetch(READ, kind, _hash(subject), now - WINDOW, ATTEMPTS_MAX)
    if len(rows) >= ATTEMPTS_MAX:
        raise TooManyAttempts(max(1, int((rows[-1]["at"] + WINDOW - now).total_seconds()) + 1))


async def note_attempt(db: Connection, *, kind: str, subject: str, now: datetime) -> None:
    """Count a wrong try, or raise ``TooManyAttempts``, as others went wrong meanwhile.

    The caller commits it although it refuses: it has to be a transaction of its own.
    """
    await check_attempts(db, kind=kind, subject=subject, now=now)
    await db.execute(NOTE, kind, _hash(subject), now)


async def forget_attempts(db: Connection, *, kind: str, subject: str) -> None:
    """A right one: what went wrong before counts no more."""
    await db.execute(FORGET, kind, _hash(subject))


async def purge_attempts(db: Connection, *, now: datetime) -> int:
    """Forget what counts no more, a batch at a time; returns how many went."""
    tag = await db.execute(PURGE, now - WINDOW, PURGE_BATCH)
    return int(tag.rpartition(" ")[2])


def _hash(subject: str) -> bytes:
    """Subjects are personal data: who they were is nowhere but in ``customers``."""
    return hashlib.sha256(subject.lower().encode(errors="replace")).digest()
