"""The work of getting goods to a customer: one fulfillment per location and method, and the states it passes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from fulfillment.errors import FulfillmentNotFound, InvalidTransition


class State(StrEnum):
    """Where a fulfillment stands."""

    OPEN = "open"
    PICKING = "picking"
    PICKED = "picked"
    PACKED = "packed"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    READY = "ready"
    HANDED_OVER = "handed_over"
    CANCELLED = "cancelled"


class Kind(StrEnum):
    """How the goods reach the customer, which decides the steps."""

    SHIP = "ship"
    PICKUP = "pickup"


SHIP_MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.OPEN: frozenset({State.PICKING, State.CANCELLED}),
    State.PICKING: frozenset({State.PICKED, State.CANCELLED}),
    State.PICKED: frozenset({State.PACKED, State.CANCELLED}),
    State.PACKED: frozenset({State.SHIPPED, State.CANCELLED}),
    State.SHIPPED: frozenset({State.DELIVERED}),
    State.DELIVERED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""The machine of ``ship`` and ``express``."""

PICKUP_MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.OPEN: frozenset({State.PICKING, State.CANCELLED}),
    State.PICKING: frozenset({State.PICKED, State.CANCELLED}),
    State.PICKED: frozenset({State.READY, State.CANCELLED}),
    State.READY: frozenset({State.HANDED_OVER, State.CANCELLED}),
    State.HANDED_OVER: frozenset(),
    State.CANCELLED: frozenset(),
}
"""The machine of ``pickup``."""

MOVES: Final[Mapping[Kind, Mapping[State, frozenset[State]]]] = {Kind.SHIP: SHIP_MOVES, Kind.PICKUP: PICKUP_MOVES}

DONE: Final = frozenset({State.DELIVERED, State.HANDED_OVER, State.CANCELLED})
UNPICKED: Final = frozenset({State.OPEN, State.PICKING})
LEFT: Final = frozenset({State.SHIPPED, State.DELIVERED, State.HANDED_OVER})
"""Where the goods are not ours any more."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one order line in a fulfillment."""

    line_id: UUID
    sku: str
    quantity: int
    picked: int = 0


class Fulfillment(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done at one location for one reference. ``collect_by``: until when a pickup that is ready is kept."""

    id: UUID
    reference: UUID
    kind: Kind
    method: str
    location_id: UUID
    state: State
    version: int
    created_at: datetime
    lines: tuple[Line, ...]
    collect_by: datetime | None = None
    cancel_reason: str | None = None


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel; its weight in grams."""

    weight_grams: int | None = None
    carrier: str | None = None
    tracking_number: str | None = None


CREATE = """
WITH created AS (
    INSERT INTO fulfillment.fulfillments (id, reference, kind, method, location_id, state, created_at, changed_at)
    SELECT id, reference, kind, method, location_id, 'open', $6, $6
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[])
        AS given (id, reference, kind, method, location_id)
)
INSERT INTO fulfillment.lines (fulfillment_id, line_id, position, sku, quantity)
SELECT * FROM unnest($7::uuid[], $8::uuid[], $9::int[], $10::text[], $11::bigint[])
"""

_COLUMNS: Final = """work.id, work.reference, work.kind, work.method, work.location_id, work.state, work.version,
    work.created_at, work.collect_by, work.cancel_reason,
    (SELECT coalesce(json_agg(json_build_object('line_id', line.line_id, 'sku', line.sku, 'quantity', line.quantity,
                                                'picked', line.picked) ORDER BY line.position), '[]')
     FROM fulfillment.lines AS line WHERE line.fulfillment_id = work.id) AS lines"""

READ_OF = f"""
SELECT {_COLUMNS} FROM fulfillment.fulfillments AS work WHERE work.reference = ANY ($1::uuid[]) ORDER BY work.id
"""

READ = f"""
SELECT {_COLUMNS} FROM fulfillment.fulfillments AS work
WHERE work.id = $1 AND ($2::uuid IS NULL OR work.location_id = $2)
"""

LIST = f"""
SELECT {_COLUMNS} FROM fulfillment.fulfillments AS work
WHERE ($1::uuid IS NULL OR work.location_id = $1)
  AND ($2::uuid IS NULL OR work.reference = $2)
  AND ($3::text IS NULL OR work.state = $3)
  AND ($4::text IS NULL OR work.kind = $4)
  AND ($5::uuid IS NULL OR work.id < $5)
ORDER BY work.id DESC
LIMIT $6
"""

LOCK = """
SELECT id FROM fulfillment.fulfillments WHERE id = $1 AND ($2::uuid IS NULL OR location_id = $2) FOR UPDATE
"""

MOVE = """
UPDATE fulfillment.fulfillments
SET state = $2, cancel_reason = coalesce($4, cancel_reason), version = version + 1, changed_at = $5
WHERE id = $1 AND state = ANY ($3::text[])
RETURNING id
"""

PICK = """
UPDATE fulfillment.lines AS line
SET picked = given.quantity
FROM unnest($2::uuid[], $3::bigint[]) AS given (line_id, quantity)
WHERE line.fulfillment_id = $1 AND line.line_id = given.line_id
"""

# A line cannot ask for nothing: the last unit takes the line with it.
DROP_UNITS = """
WITH given AS (
    SELECT * FROM unnest($2::uuid[], $3::bigint[]) AS given (line_id, quantity)
),
gone AS (
    DELETE FROM fulfillment.lines AS line USING given
    WHERE line.fulfillment_id = $1 AND line.line_id = given.line_id AND line.quantity = given.quantity
),
changed AS (
    UPDATE fulfillment.fulfillments SET version = version + 1, changed_at = $4 WHERE id = $1
)
UPDATE fulfillment.lines AS line
SET quantity = line.quantity - given.quantity
FROM given
WHERE line.fulfillment_id = $1 AND line.line_id = given.line_id AND line.quantity > given.quantity
"""

PACK = """
INSERT INTO fulfillment.parcels (fulfillment_id, position, weight_grams)
SELECT $1, position, weight_grams FROM unnest($2::bigint[]) WITH ORDINALITY AS parcel (weight_grams, position)
"""

TRACK = """
UPDATE fulfillment.parcels SET carrier = $2, tracking_number = $3 WHERE fulfillment_id = $1
"""

READ_PARCELS = """
SELECT fulfillment_id, weight_grams, carrier, tracking_number
FROM fulfillment.parcels WHERE fulfillment_id = ANY ($1::uuid[])
ORDER BY fulfillment_id, position
"""


async def create_fulfillments(db: Connection, fulfillments: Sequence[Fulfillment], *, now: datetime) -> None:
    """Give work to locations."""
    if not fulfillments:
        return
    lines = [(work.id, position, line) for work in fulfillments for position, line in enumerate(work.lines)]
    await db.execute(
        CREATE,
        [work.id for work in fulfillments],
        [work.reference for work in fulfillments],
        [work.kind for work in fulfillments],
        [work.method for work in fulfillments],
        [work.location_id for work in fulfillments],
        now,
        [work_id for work_id, _, _ in lines],
        [line.line_id for _, _, line in lines],
        [position for _, position, _ in lines],
        [line.sku for _, _, line in lines],
        [line.quantity for _, _, line in lines],
    )


async def read_fulfillment(db: Connection, *, fulfillment_id: UUID, location_id: UUID | None) -> Fulfillment:
    """One fulfillment at the location (``None``: anywhere), or raise ``FulfillmentNotFound``."""
    row = await db.fetchrow(READ, fulfillment_id, location_id)
    if row is None:
        raise FulfillmentNotFound(fulfillment_id)
    return _fulfillment(row)


async def lock_fulfillment(db: Connection, *, fulfillment_id: UUID, location_id: UUID | None) -> Fulfillment:
    """As ``read_fulfillment``, and nobody else moves it until this transaction ends."""
    # Read by a second statement: one that waits for the lock itself would see the lines as they were before.
    await db.execute(LOCK, fulfillment_id, location_id)
    return await read_fulfillment(db, fulfillment_id=fulfillment_id, location_id=location_id)


async def read_fulfillments_of(db: Connection, *, references: Sequence[UUID]) -> list[Fulfillment]:
    """All work for the references, oldest first."""
    return [_fulfillment(row) for row in await db.fetch(READ_OF, list(references))]


async def list_fulfillments(
    db: Connection,
    *,
    location_id: UUID | None,
    reference: UUID | None,
    state: str | None,
    kind: str | None,
    before_id: UUID | None,
    limit: int,
) -> list[Fulfillment]:
    """Work, newest first."""
    rows = await db.fetch(LIST, location_id, reference, state, kind, before_id, limit)
    return [_fulfillment(row) for row in rows]


def check_move(fulfillment: Fulfillment, wanted: State) -> None:
    """Raise ``InvalidTransition``, naming what is allowed, where the machine of its kind knows no such step."""
    allowed = MOVES[fulfillment.kind][fulfillment.state]
    if wanted not in allowed:
        raise InvalidTransition(fulfillment.state, wanted, allowed)


async def move(
    db: Connection, fulfillment: Fulfillment, *, to: State, now: datetime, cancel_reason: str | None = None
) -> None:
    """Take a locked fulfillment one step further, or raise ``InvalidTransition``."""
    check_move(fulfillment, to)
    moves = MOVES[fulfillment.kind]
    leaving = [state.value for state, allowed in moves.items() if to in allowed]
    if await db.fetchval(MOVE, fulfillment.id, to.value, leaving, cancel_reason, now) is None:
        raise InvalidTransition(fulfillment.state, to, moves[fulfillment.state])


async def drop_units(db: Connection, *, fulfillment_id: UUID, units: Mapping[UUID, int], now: datetime) -> None:
    """Ask for fewer units of lines whose order is locked; a line that nothing is left of is gone.

    Whoever drops every unit cancels the work instead.
    """
    await db.execute(DROP_UNITS, fulfillment_id, list(units), list(units.values()), now)


async def write_picked(db: Connection, *, fulfillment_id: UUID, picked: Mapping[UUID, int]) -> None:
    """Note how many units of each line were taken from the shelf."""
    await db.execute(PICK, fulfillment_id, list(picked), list(picked.values()))


async def write_parcels(db: Connection, *, fulfillment_id: UUID, weights_grams: Sequence[int | None]) -> None:
    """Note the parcels that the goods were packed into."""
    await db.execute(PACK, fulfillment_id, list(weights_grams))


async def write_tracking(
    db: Connection, *, fulfillment_id: UUID, carrier: str | None, tracking_number: str | None
) -> None:
    """Note who carries the parcels, and under which number they can be followed."""
    await db.execute(TRACK, fulfillment_id, carrier, tracking_number)


async def read_parcels(db: Connection, *, fulfillment_ids: Sequence[UUID]) -> dict[UUID, list[Parcel]]:
    """The parcels of each fulfillment that has some."""
    parcels: dict[UUID, list[Parcel]] = {}
    for row in await db.fetch(READ_PARCELS, list(fulfillment_ids)):
        parcels.setdefault(row["fulfillment_id"], []).append(
            Parcel(weight_grams=row["weight_grams"], carrier=row["carrier"], tracking_number=row["tracking_number"])
        )
    return parcels


def _fulfillment(row: Record) -> Fulfillment:
    return Fulfillment(
        id=row["id"],
        reference=row["reference"],
        kind=Kind(row["kind"]),
        method=row["method"],
        location_id=row["location_id"],
        state=State(row["state"]),
        version=row["version"],
        created_at=row["created_at"],
        lines=tuple(msgspec.json.decode(row["lines"], type=list[Line])),
        collect_by=row["collect_by"],
        cancel_reason=row["cancel_reason"],
    )
