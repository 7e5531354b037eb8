"""Wrong passwords, codes and look-ups, counted per subject: ten in a quarter of an hour, then no more is tried."""

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
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || lower($2), 1))"

# Subjects are personal data, so only a hash is kept. The database folds them, as it does where it looks them up: what
# it takes for the same e-mail address or login is one subject, whatever Python makes of its letters.
READ = """
SELECT at FROM commercehub.attempts
WHERE kind = $1 AND subject_hash = sha256(convert_to(lower($2), 'UTF8')) AND at > $3
ORDER BY at DESC
LIMIT $4
"""

NOTE = """
INSERT INTO commercehub.attempts (kind, subject_hash, at) VALUES ($1, sha256(convert_to(lower($2), 'UTF8')), $3)
"""

FORGET = """
DELETE FROM commercehub.attempts WHERE kind = $1 AND subject_hash = sha256(convert_to(lower($2), 'UTF8'))
"""

PURGE = """
DELETE FROM commercehub.attempts
WHERE id IN (SELECT id FROM commercehub.attempts WHERE at < $1 ORDER BY id LIMIT $2)
"""


async def check_attempts(db: Connection, *, kind: str, subject: str, now: datetime) -> None:
    """Raise ``TooManyAttempts`` where a subject was tried too often: an e-mail address, a caller, an order's number.

    Until this transaction ends nobody else counts for the subject.
    """
    await db.execute(LOCK, kind, subject)
    rows = await db.fetch(READ, kind, subject, now - WINDOW, ATTEMPTS_MAX)
    if len(rows) >= ATTEMPTS_MAX:
        raise TooManyAttempts(max(1, int((rows[-1]["at"] + WINDOW - now).total_seconds()) + 1))


async def note_attempt(db: Connection, *, kind: str, subject: str, now: datetime) -> None:
    """Count a wrong try, or raise ``TooManyAttempts``, as others went wrong meanwhile.

    The caller commits it although it refuses: it has to be a transaction of its own.
    """
    await check_attempts(db, kind=kind, subject=subject, now=now)
    await db.execute(NOTE, kind, subject, now)


async def forget_attempts(db: Connection, *, kind: str, subject: str) -> None:
    """A right one: what went wrong before counts no more."""
    await db.execute(FORGET, kind, subject)


async def purge_attempts(db: Connection, *, now: datetime) -> int:
    """Forget what counts no more, a batch at a time; returns how many went."""
    tag = await db.execute(PURGE, now - WINDOW, PURGE_BATCH)
    return int(tag.rpartition(" ")[2])
