"""What happened, as rows of the transaction in which it happened, and who did it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

SYSTEM_CHANNEL: Final = "back_office"
RELAY: Final = "relay"
BATCH: Final = 500
LATE_AFTER: Final = timedelta(seconds=15)
LATE_BATCHES_MAX: Final = 20
KEPT_DAYS: Final = 30
DAYS_AHEAD: Final = 3
PARTITION_PREFIX: Final = "events_"
PURGE_BATCH: Final = 5_000
RENUMBER_BATCH: Final = 5_000


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something, and from where: it stands in the timeline, the movements and the events."""

    name: str
    channel: str
    location_id: UUID | None = None


SYSTEM: Final = Actor(name="hub", channel=SYSTEM_CHANNEL)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact. ``sequence`` is the aggregate's version after it, taken under its lock, so it has no gaps.

    ``order_id`` puts the fact on that order's timeline, ``customer_id`` on that customer's; both outlive the event. What
    happened to an order of a customer's stands on both. A fact of no order (a wishlist's item, a note) has the customer
    alone, and as its aggregate whatever it changed.
    """

    type: str
    aggregate_id: UUID
    sequence: int
    body: Mapping[str, object]
    actor: Actor
    order_id: UUID | None = None
    customer_id: UUID | None = None


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a job gets it."""

    type: str
    aggregate_id: UUID


class Position(NamedTuple):
    """A place among the events, in the order in which they are read."""

    xid: int
    id: int


BEGINNING: Final = Position(0, 0)


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a listener gets it; ``body`` where it is about stock."""

    position: Position
    type: str
    order_id: UUID | None
    body: dict[str, Any]
    occurred_at: datetime


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a timeline. Its ``id`` is a place in that timeline, and in no other."""

    id: int
    order_id: UUID | None
    type: str
    channel: str
    actor: str
    location_id: UUID | None
    changes: dict[str, object]
    at: datetime


APPEND = """
WITH recorded AS (
    INSERT INTO commercehub.events (type, aggregate_id, sequence, order_id, body, occurred_at)
    SELECT type, aggregate_id, sequence, order_id, body::jsonb, $6
    FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[])
        AS event (type, aggregate_id, sequence, order_id, body)
)
INSERT INTO commercehub.timeline (order_id, customer_id, type, channel, actor, location_id, changes, at)
SELECT order_id, customer_id, type, channel, actor, location_id, changes::jsonb, $6
FROM unnest($7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[])
    AS entry (order_id, customer_id, type, channel, actor, location_id, changes)
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
SELECT id, order_id, type, channel, actor, location_id, changes, at
FROM commercehub.timeline
WHERE order_id = $1 AND id > $2
ORDER BY id
LIMIT $3
"""

READ_END = "SELECT coalesce(max(id), 0) FROM commercehub.timeline WHERE order_id = $1"

READ_OF_CUSTOMER = """
SELECT id, order_id, type, channel, actor, location_id, changes, at
FROM commercehub.timeline
WHERE customer_id = $1 AND id > $2 AND type <> ALL ($3::text[])
ORDER BY id
LIMIT $4
"""

# Everything that is settled lies before it, and whatever is told from now on behind it.
READ_POSITION = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"

READ_TOLD = """
SELECT xid::text AS xid, id, type, order_id, occurred_at, CASE type WHEN 'stock.changed' THEN body END AS body
FROM commercehub.events
WHERE (xid, id) > ($1::text::xid8, $2::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY events.xid, id
LIMIT $3
"""

# Up to a place that is settled. A place that is kept has all that came after it.
READ_MISSED = """
SELECT xid::text AS xid, id, type, order_id, occurred_at, CASE type WHEN 'stock.changed' THEN body END AS body
FROM commercehub.events
WHERE (xid, id) > ($1::text::xid8, $2::bigint) AND (xid, id) <= ($3::text::xid8, $4::bigint)
ORDER BY events.xid, id
LIMIT $5
"""

IS_KEPT = "SELECT EXISTS (SELECT FROM commercehub.events WHERE xid = $1::text::xid8 AND id = $2)"

# A dump that was restored brought its transaction ids along, and its new home counts from the beginning: what has a
# number that is still to come would not be read until then, and everything new would count as read.
IS_AHEAD = """
SELECT EXISTS (SELECT FROM commercehub.event_cursors WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))
    OR EXISTS (SELECT FROM commercehub.events WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))
"""

RENUMBER = """
UPDATE commercehub.events AS event
SET xid = CASE WHEN (event.xid, event.id) > (cursor.xid, cursor.id) THEN pg_current_xact_id() ELSE '3'::xid8 END
FROM commercehub.event_cursors AS cursor
WHERE cursor.reader = $1 AND (event.occurred_at, event.id) IN (
    SELECT occurred_at, id FROM commercehub.events
    WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
    ORDER BY xid, id
    LIMIT $2
)
"""

# No transaction of a database has the number 3; what was read before has it now.
BEGIN_AGAIN = """
UPDATE commercehub.event_cursors SET xid = '4'::xid8, id = 0 WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
"""


async def append(db: Connection, events: Sequence[Event], *, now: datetime) -> None:
    """Record what happened in this transaction: it is published if, and only if, the transaction commits."""
    if not events:
        return
    bodies = [msgspec.json.encode(event.body).decode() for event in events]
    told = [
        (event, body)
        for event, body in zip(events, bodies, strict=True)
        if event.order_id is not None or event.customer_id is not None
    ]
    await db.execute(
        APPEND,
        [event.type for event in events],
        [event.aggregate_id for event in events],
        [event.sequence for event in events],
        [event.order_id for event in events],
        bodies,
        now,
        [event.order_id for event, _ in told],
        [event.customer_id for event, _ in told],
        [event.type for event, _ in told],
        [event.actor.channel for event, _ in told],
        [event.actor.name for event, _ in told],
        [event.actor.location_id for event, _ in told],
        [body for _, body in told],
    )


async def read_timeline(db: Connection, *, order_id: UUID, limit: int, after_id: int = 0) -> list[Entry]:
    """Everything that happened to an order, in order, whatever channel did it; ``after_id``: what came after an entry."""
    return [_entry(row) for row in await db.fetch(READ_TIMELINE, order_id, after_id, limit)]


async def read_timeline_end(db: Connection, *, order_id: UUID) -> int:
    """The last entry of an order's timeline; 0 if it has none."""
    end: int = await db.fetchval(READ_END, order_id)
    return end


async def read_customer_timeline(
    db: Connection, *, customer_id: UUID, limit: int, after_id: int = 0, without: Collection[str] = ()
) -> list[Entry]:
    """Everything that happened with a customer, in order, in every channel; ``without`` the types named."""
    return [_entry(row) for row in await db.fetch(READ_OF_CUSTOMER, customer_id, after_id, list(without), limit)]


def _entry(row: Record) -> Entry:
    return Entry(
        id=row["id"],
        order_id=row["order_id"],
        type=row["type"],
        channel=row["channel"],
        actor=row["actor"],
        location_id=row["location_id"],
        changes=msgspec.json.decode(row["changes"]),
        at=row["at"],
    )


async def read_position(db: Connection) -> Position:
    """Where the events stand: everything settled lies before it, whatever is told from now on behind it."""
    return Position(int(await db.fetchval(READ_POSITION)), 0)


async def read_told(db: Connection, *, after: Position, limit: int) -> list[Told]:
    """What was told after a position and is settled, in order."""
    return [_told(row) for row in await db.fetch(READ_TOLD, str(after.xid), after.id, limit)]


async def read_missed(db: Connection, *, after: Position, until: Position, limit: int) -> list[Told]:
    """What was told between two positions, of which the second one is settled."""
    rows = await db.fetch(READ_MISSED, str(after.xid), after.id, str(until.xid), until.id, limit)
    return [_told(row) for row in rows]


async def is_kept(db: Connection, *, position: Position) -> bool:
    """Whether the event of a position is still there, and so all that came after it."""
    kept: bool = await db.fetchval(IS_KEPT, str(position.xid), position.id)
    return kept


def _told(row: Record) -> Told:
    return Told(
        position=Position(int(row["xid"]), row["id"]),
        type=row["type"],
        order_id=row["order_id"],
        body=msgspec.json.decode(row["body"]) if row["body"] else {},
        occurred_at=row["occurred_at"],
    )


async def renumber_restored(db: Connection) -> int | None:
    """Give what a restored dump brought along transaction ids of this database, a batch at a time.

    Returns how many events got theirs; 0 if that was the last of it, ``None`` if nothing was restored. What no relay had
    read before is read now.
    """
    if not await db.fetchval(IS_AHEAD):
        return None
    tag = await db.execute(RENUMBER, RELAY, RENUMBER_BATCH)
    count = int(tag.rpartition(" ")[2])
    if count == 0:
        await db.execute(BEGIN_AGAIN)
    return count


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
