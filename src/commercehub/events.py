"""What happened, as rows of the transaction in which it happened, and who did it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

SYSTEM_CHANNEL: Final = "back_office"
RELAY: Final = "relay"
BATCH: Final = 500
LATE_AFTER: Final = timedelta(seconds=15)
LATE_BATCHES_MAX: Final = 20
KEPT_DAYS: Final = 30
DAYS_AHEAD: Final = 3
PARTITION_PREFIX: Final = "events_"
PURGE_BATCH: Final = 5_000


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something, and from where: it stands in the timeline, the movements and the events."""

    name: str
    channel: str
    location_id: UUID | None = None


SYSTEM: Final = Actor(name="hub", channel=SYSTEM_CHANNEL)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact. ``sequence`` is the aggregate's version after it, taken under its lock, so it has no gaps.

    ``order_id`` puts the fact on that order's timeline, which outlives the event.
    """

    type: str
    aggregate_id: UUID
    sequence: int
    body: Mapping[str, object]
    actor: Actor
    order_id: UUID | None = None


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a job gets it."""

    type: str
    aggregate_id: UUID


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a timeline."""

    type: str
    channel: str
    actor: str
    location_id: UUID | None
    changes: dict[str, object]
    at: datetime


APPEND = """
WITH recorded AS (
    INSERT INTO commercehub.events (type, aggregate_id, sequence, body, occurred_at)
    SELECT type, aggregate_id, sequence, body::jsonb, $5
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[]) AS event (type, aggregate_id, sequence, body)
)
INSERT INTO commercehub.timeline (order_id, type, channel, actor, location_id, changes, at)
SELECT order_id, type, channel, actor, location_id, changes::jsonb, $5
FROM unnest($6::uuid[], $7::text[], $8::text[], $9::text[], $10::uuid[], $11::text[])
    AS entry (order_id, type, channel, actor, location_id, changes)
"""

LOCK_CURSOR = "SELECT xid::text AS xid, id FROM commercehub.event_cursors WHERE reader = $1 FOR UPDATE SKIP LOCKED"

# Ids are not in commit order: what a transaction still open may yet commit lies above the snapshot's xmin.
# The cursor comes as a parameter: joined, it would not bound the indexes of the days, and each look would read them all.
READ_SETTLED = """
SELECT xid::text AS xid, id, type, aggregate_id
FROM commercehub.events
WHERE (xid, id) > ($1::text::xid8, $2::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY events.xid, id
LIMIT $3
"""

MOVE_CURSOR = "UPDATE commercehub.event_cursors SET xid = $2::text::xid8, id = $3 WHERE reader = $1"

OPEN_BATCH = """
INSERT INTO commercehub.event_batches (events, created_at, try_after)
VALUES ($1::jsonb, $2::timestamptz, $2::timestamptz + $3::interval)
RETURNING id
"""

TAKE_BATCH = """
UPDATE commercehub.event_batches
SET attempts = attempts + 1, try_after = $2::timestamptz + least(attempts + 1, 60) * $3::interval
WHERE id = $1
RETURNING events
"""

TAKE_LATE_BATCHES = """
SELECT id FROM commercehub.event_batches WHERE try_after <= $1 ORDER BY try_after LIMIT $2
"""

END_BATCH = "DELETE FROM commercehub.event_batches WHERE id = $1"

LIST_PARTITIONS = """
SELECT child.relname AS name
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = 'commercehub.events'::regclass
"""

HOLDS_DAY = """
SELECT EXISTS (SELECT FROM commercehub.events_default WHERE occurred_at >= $1 AND occurred_at < $2)
"""

IS_UNREAD = """
SELECT EXISTS (
    SELECT FROM commercehub.events AS event, commercehub.event_cursors AS cursor
    WHERE event.occurred_at >= $1 AND event.occurred_at < $2 AND (event.xid, event.id) > (cursor.xid, cursor.id)
)
"""

PURGE_DEFAULT = """
DELETE FROM commercehub.events_default AS event
WHERE (event.occurred_at, event.id) IN (
    SELECT occurred_at, id FROM commercehub.events_default WHERE occurred_at < $1 ORDER BY occurred_at, id LIMIT $2
)
AND NOT EXISTS (
    SELECT FROM commercehub.event_cursors AS cursor WHERE (event.xid, event.id) > (cursor.xid, cursor.id)
)
"""

# Partitions are made and dropped under locks that everybody who sells waits for: rather try again in an hour.
WAIT_BRIEFLY = "SELECT set_config('lock_timeout', '500ms', true)"

READ_TIMELINE = """
SELECT type, channel, actor, location_id, changes, at
FROM commercehub.timeline
WHERE order_id = $1
ORDER BY id
LIMIT $2
"""


async def append(db: Connection, events: Sequence[Event], *, now: datetime) -> None:
    """Record what happened in this transaction: it is published if, and only if, the transaction commits."""
    if not events:
        return
    bodies = [msgspec.json.encode(event.body).decode() for event in events]
    told = [(event, body) for event, body in zip(events, bodies, strict=True) if event.order_id is not None]
    await db.execute(
        APPEND,
        [event.type for event in events],
        [event.aggregate_id for event in events],
        [event.sequence for event in events],
        bodies,
        now,
        [event.order_id for event, _ in told],
        [event.type for event, _ in told],
        [event.actor.channel for event, _ in told],
        [event.actor.name for event, _ in told],
        [event.actor.location_id for event, _ in told],
        [body for _, body in told],
    )


async def read_timeline(db: Connection, *, order_id: UUID, limit: int) -> list[Entry]:
    """Everything that happened to an order, in order, whatever channel did it."""
    rows = await db.fetch(READ_TIMELINE, order_id, limit)
    return [
        Entry(
            type=row["type"],
            channel=row["channel"],
            actor=row["actor"],
            location_id=row["location_id"],
            changes=msgspec.json.decode(row["changes"]),
            at=row["at"],
        )
        for row in rows
    ]


async def hand_on(db: Connection, *, types: Collection[str], now: datetime) -> tuple[int | None, int]:
    """Take the next events that are settled and write down a batch of those of the types that some job wants.

    Returns the batch, if there is one, and how many events were taken. One relay at a time; others come away empty.
    """
    cursor = await db.fetchrow(LOCK_CURSOR, RELAY)
    if cursor is None:
        return None, 0
    rows = await db.fetch(READ_SETTLED, cursor["xid"], cursor["id"], BATCH)
    if not rows:
        return None, 0
    await db.execute(MOVE_CURSOR, RELAY, rows[-1]["xid"], rows[-1]["id"])
    wanted = [Happening(type=r["type"], aggregate_id=r["aggregate_id"]) for r in rows if r["type"] in types]
    if not wanted:
        return None, len(rows)
    batch_id: int = await db.fetchval(OPEN_BATCH, msgspec.json.encode(wanted).decode(), now, LATE_AFTER)
    return batch_id, len(rows)


async def take_batch(db: Connection, *, batch_id: int, now: datetime) -> list[Happening]:
    """The events of a batch, to be worked off; none if somebody ended it already."""
    events: str | None = await db.fetchval(TAKE_BATCH, batch_id, now, LATE_AFTER)
    return msgspec.json.decode(events, type=list[Happening]) if events else []


async def end_batch(db: Connection, *, batch_id: int) -> None:
    """Every job of the batch is done."""
    await db.execute(END_BATCH, batch_id)


async def late_batches(db: Connection, *, now: datetime) -> list[int]:
    """Batches that nobody ended in time: the queue lost them, or the worker died."""
    return [row["id"] for row in await db.fetch(TAKE_LATE_BATCHES, now, LATE_BATCHES_MAX)]


async def plan_partitions(db: Connection, *, now: datetime) -> tuple[list[date], list[date]]:
    """The days from today on that have no partition yet, and those whose partitions have been kept long enough."""
    today = now.date()
    names = {row["name"] for row in await db.fetch(LIST_PARTITIONS)}
    coming = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
    kept = [date.fromisoformat(digits) for name in names if (digits := name.removeprefix(PARTITION_PREFIX)).isdecimal()]
    oldest = today - timedelta(days=KEPT_DAYS)
    return [day for day in coming if _partition(day) not in names], sorted(day for day in kept if day < oldest)


async def add_partition(db: Connection, *, day: date) -> bool:
    """Make room for a day. False if its events have begun to fall into the default partition: there they may stay."""
    begin, end = _bounds(day)
    await db.execute(WAIT_BRIEFLY)
    if await db.fetchval(HOLDS_DAY, begin, end):
        return False
    # Made apart and then attached, a partition does not wait for those who write to the others.
    statement = f"CREATE TABLE commercehub.{_partition(day)} (LIKE commercehub.events INCLUDING DEFAULTS)"
    await db.execute(statement)
    statement = (
        f"ALTER TABLE commercehub.events ATTACH PARTITION commercehub.{_partition(day)}"
        f" FOR VALUES FROM ('{begin.isoformat()}') TO ('{end.isoformat()}')"
    )
    await db.execute(statement)
    return True


async def drop_partition(db: Connection, *, day: date) -> bool:
    """Let go of a day's events. False if a reader has not come to the last of them."""
    await db.execute(WAIT_BRIEFLY)
    if await db.fetchval(IS_UNREAD, *_bounds(day)):
        return False
    statement = f"DROP TABLE commercehub.{_partition(day)}"
    await db.execute(statement)
    return True


async def purge_default(db: Connection, *, now: datetime) -> int:
    """Let go of what the default partition has kept long enough, a batch at a time; returns how many events went."""
    oldest, _ = _bounds(now.date() - timedelta(days=KEPT_DAYS))
    tag = await db.execute(PURGE_DEFAULT, oldest, PURGE_BATCH)
    return int(tag.rpartition(" ")[2])


def _partition(day: date) -> str:
    return f"{PARTITION_PREFIX}{day:%Y%m%d}"


def _bounds(day: date) -> tuple[datetime, datetime]:
    begin = datetime.combine(day, time(), UTC)
    return begin, begin + timedelta(days=1)
