"""Answers kept by the caller's key, in the transaction of the effect: a repeated request is answered, not done again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection

from commercehub.database import Raced, violated

KEPT_DAYS: Final = 7
PURGE_BATCH: Final = 1_000


class KeyReused(Exception):
    """The key belongs to a request with another body."""


class InProgress(Exception):
    """A request with this key is being worked on right now."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies one attempt: the key within its scope, and a hash of the request."""

    scope: str
    key: str
    request_hash: bytes


class Stored(msgspec.Struct, frozen=True):
    """The final answer to an earlier request with this key."""

    status: int
    body: str


class Underway(msgspec.Struct, frozen=True):
    """The earlier request began something that is not finished: ``subject_id`` says what."""

    subject_id: UUID


Found = Stored | Underway | KeyReused | InProgress | None
"""What is known of a key; ``None``: nothing, and it is ours until the transaction ends."""

LOOK_UP = """
SELECT pg_try_advisory_xact_lock(hashtextextended(wanted.scope || ' ' || wanted.key, 0)) AS ours,
       known.request_hash, known.status, known.body, known.subject_id
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (scope, key, position)
LEFT JOIN commercehub.idempotency_keys AS known USING (scope, key)
ORDER BY wanted.position
"""

KEEP = """
INSERT INTO commercehub.idempotency_keys (scope, key, request_hash, status, body, subject_id, created_at)
SELECT scope, key, request_hash, status, body, subject_id, $7
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::smallint[], $5::text[], $6::uuid[])
    AS answer (scope, key, request_hash, status, body, subject_id)
"""

SETTLE = """
UPDATE commercehub.idempotency_keys AS known
SET status = settled.status, body = settled.body
FROM unnest($1::uuid[], $2::smallint[], $3::text[]) AS settled (subject_id, status, body)
WHERE known.subject_id = settled.subject_id AND known.status IS NULL
"""

PURGE = """
DELETE FROM commercehub.idempotency_keys
WHERE (scope, key) IN (
    SELECT scope, key FROM commercehub.idempotency_keys
    WHERE created_at < $1 AND status IS NOT NULL
    ORDER BY created_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
"""


async def look_up(db: Connection, claims: Sequence[Claim]) -> list[Found]:
    """What is known of each key, in order; a key not known before is held until this transaction ends.

    The look-up may miss a row committed between its snapshot and the lock; ``keep`` then meets the primary key.
    """
    rows = await db.fetch(LOOK_UP, [claim.scope for claim in claims], [claim.key for claim in claims])
    return [_found(claim, row) for claim, row in zip(claims, rows, strict=True)]


def _found(claim: Claim, row: asyncpg.Record) -> Found:
    if row["request_hash"] is not None and row["request_hash"] != claim.request_hash:
        return KeyReused(claim.key)
    if row["status"] is not None:
        return Stored(row["status"], row["body"])
    if row["subject_id"] is not None:
        return Underway(row["subject_id"])
    return None if row["ours"] else InProgress(claim.key)


async def keep(db: Connection, answers: Sequence[tuple[Claim, Stored | None, UUID | None]], *, now: datetime) -> None:
    """Store answers, or for what is not finished the id of its subject. ``Raced`` if a key was taken meanwhile."""
    if not answers:
        return
    try:
        await db.execute(
            KEEP,
            [claim.scope for claim, _, _ in answers],
            [claim.key for claim, _, _ in answers],
            [claim.request_hash for claim, _, _ in answers],
            [stored.status if stored else None for _, stored, _ in answers],
            [stored.body if stored else None for _, stored, _ in answers],
            [subject_id for _, _, subject_id in answers],
            now,
        )
    except asyncpg.UniqueViolationError as error:
        if violated(error) == "pk_idempotency_keys":
            raise Raced from error
        raise


async def settle(db: Connection, answers: Sequence[tuple[UUID, Stored]]) -> None:
    """Give what was under way its final answer, under whatever keys it was begun."""
    await db.execute(
        SETTLE,
        [subject_id for subject_id, _ in answers],
        [stored.status for _, stored in answers],
        [stored.body for _, stored in answers],
    )


async def purge(db: Connection, *, before: datetime) -> int:
    """Forget the answers older than ``before``, a batch at a time; returns how many went."""
    tag = await db.execute(PURGE, before, PURGE_BATCH)
    return int(tag.rpartition(" ")[2])
