"""What happened, as rows of the transaction in which it happened, and who did it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

SYSTEM_CHANNEL: Final = "back_office"


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
    """An event as a reader gets it."""

    id: int
    type: str
    aggregate_id: UUID
    sequence: int
    occurred_at: datetime


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
