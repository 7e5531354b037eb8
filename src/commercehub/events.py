"""What happened, as rows of the transaction in which it happened, and who did it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
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

# Ids are not in commit order: what a transaction still open may yet commit lies above the snapshot's xmin.
READ_SETTLED = """
SELECT event.xid::text AS xid, event.id, event.type, event.aggregate_id
FROM commercehub.events AS event, commercehub.event_cursors AS cursor
WHERE cursor.reader = $1
  AND (event.xid, event.id) > (cursor.xid, cursor.id)
  AND event.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY event.xid, event.id
LIMIT $2
"""

LOCK_CURSOR = "SELECT reader FROM commercehub.event_cursors WHERE reader = $1 FOR UPDATE SKIP LOCKED"

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
    if await db.fetchval(LOCK_CURSOR, RELAY) is None:
        return None, 0
    rows = await db.fetch(READ_SETTLED, RELAY, BATCH)
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


async def keep_partitions(db: Connection, *, now: datetime) -> None:
    """Make the partitions of the days to come, and drop those whose events have been kept long enough."""
    today = now.date()
    names = {row["name"] for row in await db.fetch(LIST_PARTITIONS)}
    for ahead in range(1, DAYS_AHEAD + 1):
        day = today + timedelta(days=ahead)
        name = f"{PARTITION_PREFIX}{day:%Y%m%d}"
        if name not in names:
            # A partition is made apart and then attached: that does not wait for those who write to the others.
            await db.execute(
                f"CREATE TABLE commercehub.{name} (LIKE commercehub.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
            )
            await db.execute(
                f"ALTER TABLE commercehub.events ATTACH PARTITION commercehub.{name}"
                f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
            )
    oldest = f"{PARTITION_PREFIX}{today - timedelta(days=KEPT_DAYS):%Y%m%d}"
    for name in sorted(names):
        if name.removeprefix(PARTITION_PREFIX).isdecimal() and name < oldest:
            await db.execute(f"DROP TABLE commercehub.{name}")
