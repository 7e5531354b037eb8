"""What processors told by webhook: each event once, in no order, to be looked into afterwards and never believed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from asyncpg import Connection

LEASE: Final = timedelta(seconds=10)
"""How long whoever took an event may look into it before it comes up again."""
RETRY_DELAY_SECONDS_MAX: Final = 300
KEPT_DAYS: Final = 30
FORGET_BATCH: Final = 5_000


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it came: which payment it is about, by the processor's id of it and by ours."""

    event_id: str
    type: str
    processor_reference: str
    reference: str


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was taken to be looked into."""

    id: int
    processor: str
    processor_reference: str
    reference: str


STORE = """
INSERT INTO payments.inbox (processor, event_id, type, processor_reference, reference, received_at, next_try_at)
SELECT $1, event_id, type, processor_reference, reference, $6, $6
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS given (event_id, type, processor_reference, reference)
ON CONFLICT (processor, event_id) DO NOTHING
RETURNING id
"""

TAKE = """
WITH due AS (
    SELECT id FROM payments.inbox
    WHERE applied_at IS NULL AND next_try_at <= $1
    ORDER BY next_try_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE payments.inbox AS letter
SET attempts = letter.attempts + 1,
    next_try_at = $1 + $3::interval + make_interval(secs => least($4, power(2, least(letter.attempts, 10))))
FROM due
WHERE letter.id = due.id
RETURNING letter.id, letter.processor, letter.processor_reference, letter.reference
"""

APPLY = "UPDATE payments.inbox SET applied_at = $2 WHERE id = ANY ($1::bigint[])"

POSTPONE = """
UPDATE payments.inbox AS letter
SET next_try_at = given.at
FROM unnest($1::bigint[], $2::timestamptz[]) AS given (id, at)
WHERE letter.id = given.id
"""

FORGET = """
DELETE FROM payments.inbox
WHERE id IN (SELECT id FROM payments.inbox WHERE applied_at < $1 ORDER BY applied_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""


async def store(db: Connection, arrivals: Sequence[Arrival], *, processor_name: str, now: datetime) -> int:
    """Keep events, each once by the processor's own id of it; returns how many were not known."""
    rows = await db.fetch(
        STORE,
        processor_name,
        [each.event_id for each in arrivals],
        [each.type for each in arrivals],
        [each.processor_reference for each in arrivals],
        [each.reference for each in arrivals],
        now,
    )
    return len(rows)


async def take(db: Connection, *, limit: int, now: datetime) -> list[Letter]:
    """Events to be looked into now; each comes up again later and later until it is marked as applied."""
    rows = await db.fetch(TAKE, now, limit, LEASE, RETRY_DELAY_SECONDS_MAX)
    return [msgspec.convert(dict(row), Letter) for row in rows]


async def mark_applied(db: Connection, *, letter_ids: Sequence[int], now: datetime) -> None:
    """These events need not be looked into again."""
    await db.execute(APPLY, list(letter_ids), now)


async def postpone(db: Connection, until: Sequence[tuple[int, datetime]]) -> None:
    """These events come up again at another time."""
    await db.execute(POSTPONE, [letter_id for letter_id, _ in until], [at for _, at in until])


async def forget(db: Connection, *, before: datetime) -> int:
    """Let go of events that were applied long ago, a batch at a time; returns how many went."""
    tag = await db.execute(FORGET, before, FORGET_BATCH)
    return int(tag.rpartition(" ")[2])
