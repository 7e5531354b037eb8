"""Returns: what a customer brings or sends back, why, and how far that has got."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from commercehub.sales.errors import NotReturnable, ReturnNotFound, ReturnNotInTurn, ReturnWindowClosed
from commercehub.sales.orders import IN_STORE_PREFIX, Order, OrderLine, receipt_barcode
from payments import money

WINDOW: Final = timedelta(days=30)
"""From delivery or hand-over; what was carried out of a store, from the sale. What is on its way may be sent back."""
FOUND_MAX: Final = 50


class ReturnState(StrEnum):
    """Where a return stands."""

    REQUESTED = "requested"
    APPROVED = "approved"
    IN_TRANSIT = "in_transit"
    RECEIVED = "received"
    INSPECTED = "inspected"
    REFUNDED = "refunded"
    CLOSED = "closed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


MOVES: Final[Mapping[ReturnState, frozenset[ReturnState]]] = {
    ReturnState.REQUESTED: frozenset(
        {
            ReturnState.APPROVED,
            ReturnState.IN_TRANSIT,
            ReturnState.RECEIVED,
            ReturnState.REJECTED,
            ReturnState.CANCELLED,
        }
    ),
    ReturnState.APPROVED: frozenset({ReturnState.IN_TRANSIT, ReturnState.RECEIVED, ReturnState.CANCELLED}),
    ReturnState.IN_TRANSIT: frozenset({ReturnState.RECEIVED}),
    ReturnState.RECEIVED: frozenset({ReturnState.INSPECTED, ReturnState.REFUNDED, ReturnState.CLOSED}),
    ReturnState.INSPECTED: frozenset({ReturnState.REFUNDED, ReturnState.CLOSED, ReturnState.REJECTED}),
    ReturnState.REFUNDED: frozenset(),
    ReturnState.CLOSED: frozenset(),
    ReturnState.REJECTED: frozenset(),
    ReturnState.CANCELLED: frozenset(),
}


class ReturnLine(msgspec.Struct, frozen=True, kw_only=True):
    """Units of an order line; what was received of them, by what became of it; and what they were worth."""

    line_id: UUID
    sku: str
    quantity: int
    reason: str
    restocked: int = 0
    damaged: int = 0
    quarantined: int = 0
    amount_minor: int = 0

    @property
    def received(self) -> int:
        """The units that came back."""
        return self.restocked + self.damaged + self.quarantined


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """A return. ``amount_minor`` is what was given back for it, once it is settled."""

    id: UUID
    order_id: UUID
    state: ReturnState
    method: str
    resolution: str
    location_id: UUID | None
    amount_minor: int | None
    requested_by: str
    channel: str
    version: int
    created_at: datetime
    lines: tuple[ReturnLine, ...]


CREATE = """
WITH created AS (
    INSERT INTO commercehub.returns
        (id, order_id, state, method, resolution, location_id, requested_by, channel, created_at, changed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
)
INSERT INTO commercehub.return_lines (return_id, line_id, position, sku, quantity, reason)
SELECT $1, line_id, position, sku, quantity, reason
FROM unnest($10::uuid[], $11::text[], $12::bigint[], $13::text[]) WITH ORDINALITY
    AS line (line_id, sku, quantity, reason, position)
"""

_COLUMNS: Final = """back.id, back.order_id, back.state, back.method, back.resolution, back.location_id,
    back.amount_minor, back.requested_by, back.channel, back.version, back.created_at,
    (SELECT json_agg(json_build_object(
                'line_id', line.line_id, 'sku', line.sku, 'quantity', line.quantity, 'reason', line.reason,
                'restocked', line.restocked, 'damaged', line.damaged, 'quarantined', line.quarantined,
                'amount_minor', line.amount_minor) ORDER BY line.position)
     FROM commercehub.return_lines AS line WHERE line.return_id = back.id) AS lines"""

READ = f"SELECT {_COLUMNS} FROM commercehub.returns AS back WHERE back.id = $1"

READ_OF = f"SELECT {_COLUMNS} FROM commercehub.returns AS back WHERE back.order_id = $1 ORDER BY back.id"

# Under the order's lock, which every change of a return takes first.
READ_OPEN_UNITS = """
SELECT line.line_id, sum(line.quantity)::bigint AS quantity
FROM commercehub.return_lines AS line
JOIN commercehub.returns AS back ON back.id = line.return_id
WHERE back.order_id = $1 AND back.state IN ('requested', 'approved', 'in_transit')
GROUP BY line.line_id
"""

MOVE = """
UPDATE commercehub.returns
SET state = $2, location_id = coalesce($4, location_id), amount_minor = $5, version = version + 1, changed_at = $6
WHERE id = $1 AND state = ANY ($3::text[])
RETURNING version
"""

GIVE_LESS = """
UPDATE commercehub.returns SET amount_minor = amount_minor - $2, version = version + 1, changed_at = $3 WHERE id = $1
"""

COUNT_RECEIVED = """
WITH given AS (
    SELECT * FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
        AS given (line_id, restocked, damaged, quarantined, amount_minor)
),
counted AS (
    UPDATE commercehub.order_lines AS line
    SET returned = line.returned + given.restocked + given.damaged + given.quarantined
    FROM given
    WHERE line.id = given.line_id
)
UPDATE commercehub.return_lines AS line
SET restocked = given.restocked, damaged = given.damaged, quarantined = given.quarantined,
    amount_minor = given.amount_minor
FROM given
WHERE line.return_id = $1 AND line.line_id = given.line_id
"""

# A customer's orders are found by what the customer gave at sign-up too. A phone is compared by its digits.
FIND_ORDERS = """
SELECT placed.id FROM commercehub.orders AS placed
WHERE ($1::text IS NOT NULL AND placed.number = $1)
   OR ($2::text IS NOT NULL AND (
       placed.contact_id IN (SELECT id FROM commercehub.order_contacts WHERE lower(email) = lower($2))
       OR placed.customer_id IN (SELECT id FROM commercehub.customers WHERE lower(email) = lower($2))))
   OR ($3::text IS NOT NULL AND (
       placed.contact_id IN (
           SELECT id FROM commercehub.order_contacts WHERE regexp_replace(phone, '[^0-9]', '', 'g') = $3)
       OR placed.customer_id IN (
           SELECT id FROM commercehub.customers WHERE regexp_replace(phone, '[^0-9]', '', 'g') = $3)))
ORDER BY placed.id DESC
LIMIT $4
"""


async def create_return(db: Connection, back: Return, *, now: datetime) -> None:
    """Write a return down. The order is locked and ``check_returnable`` has been asked."""
    await db.execute(
        CREATE,
        back.id,
        back.order_id,
        back.state.value,
        back.method,
        back.resolution,
        back.location_id,
        back.requested_by,
        back.channel,
        now,
        [line.line_id for line in back.lines],
        [line.sku for line in back.lines],
        [line.quantity for line in back.lines],
        [line.reason for line in back.lines],
    )


async def read_return(db: Connection, *, return_id: UUID) -> Return:
    """One return, or raise ``ReturnNotFound``. Whether the caller may know of it is a matter of its order."""
    row = await db.fetchrow(READ, return_id)
    if row is None:
        raise ReturnNotFound
    return _return(row)


async def read_returns_of(db: Connection, *, order_id: UUID) -> list[Return]:
    """Every return of an order, oldest first."""
    return [_return(row) for row in await db.fetch(READ_OF, order_id)]


async def read_open_units(db: Connection, *, order_id: UUID) -> dict[UUID, int]:
    """The units of each line that are asked back for and have not come yet."""
    return {row["line_id"]: row["quantity"] for row in await db.fetch(READ_OPEN_UNITS, order_id)}


def check_move(back: Return, wanted: ReturnState) -> None:
    """Raise ``ReturnNotInTurn``, naming what is allowed, where the machine knows no such step."""
    allowed = MOVES[back.state]
    if wanted not in allowed:
        raise ReturnNotInTurn(back.state, wanted, sorted(allowed))


async def move_return(
    db: Connection,
    back: Return,
    *,
    to: ReturnState,
    location_id: UUID | None = None,
    amount_minor: int | None = None,
    now: datetime,
) -> Return:
    """Take a return, whose order is locked, one step further, or raise ``ReturnNotInTurn``."""
    check_move(back, to)
    leaving = [state.value for state, allowed in MOVES.items() if to in allowed]
    version = await db.fetchval(MOVE, back.id, to.value, leaving, location_id, amount_minor, now)
    if version is None:
        raise ReturnNotInTurn(back.state, to, sorted(MOVES[back.state]))
    return msgspec.structs.replace(
        back, state=to, version=version, location_id=location_id or back.location_id, amount_minor=amount_minor
    )


async def give_less(db: Connection, *, return_id: UUID, amount_minor: int, now: datetime) -> None:
    """A settled return, whose order is locked, gives so much less back: that money never came."""
    await db.execute(GIVE_LESS, return_id, amount_minor, now)


async def count_received(db: Connection, back: Return) -> None:
    """Note what came back on the return's lines and on the order's; a CHECK keeps it within what was fulfilled."""
    await db.execute(
        COUNT_RECEIVED,
        back.id,
        [line.line_id for line in back.lines],
        [line.restocked for line in back.lines],
        [line.damaged for line in back.lines],
        [line.quarantined for line in back.lines],
        [line.amount_minor for line in back.lines],
    )


async def find_orders(db: Connection, *, number: str | None, email: str | None, phone: str | None) -> list[UUID]:
    """The orders of a number, or of whoever is reached so, newest first; ``FOUND_MAX`` at most."""
    digits = "".join(each for each in phone if each in "0123456789") if phone else None
    return [row["id"] for row in await db.fetch(FIND_ORDERS, number, email, digits, FOUND_MAX)]


def number_of(receipt: str) -> str | None:
    """The order's number in a receipt's barcode; ``None`` for another barcode."""
    if not receipt.startswith(IN_STORE_PREFIX) or len(receipt) != 13 or not receipt.isdecimal():
        return None
    number = receipt[len(IN_STORE_PREFIX) : -1].lstrip("0")
    return number if receipt_barcode(number) == receipt else None


def check_returnable(order: Order, wanted: Mapping[UUID, int], open_units: Mapping[UUID, int]) -> None:
    """Raise ``NotReturnable`` for more than was fulfilled, not returned, and not asked back for already."""
    lines = {line.id: line for line in order.lines}
    short = []
    for line_id, quantity in wanted.items():
        line = lines.get(line_id)
        returnable = line.fulfilled - line.returned - open_units.get(line_id, 0) if line is not None else 0
        if quantity > returnable:
            short.append((line_id, quantity, max(0, returnable)))
    if short:
        raise NotReturnable(short)


def check_window(order: Order, line_ids: Sequence[UUID], arrivals: Mapping[UUID, datetime], *, now: datetime) -> None:
    """Raise ``ReturnWindowClosed`` for a line that the customer has had for longer than ``WINDOW``."""
    carried = {each.id for each in order.deliveries if each.method == "carry_out"}
    for line in order.lines:
        if line.id not in line_ids:
            continue
        since = order.created_at if line.delivery_id in carried else arrivals.get(line.id)
        if since is not None and now > since + WINDOW:
            raise ReturnWindowClosed(line.id, since + WINDOW)


def worth(order: Order, line: OrderLine, quantity: int) -> int:
    """What the next units of a line that come back were paid with, in minor units: after discounts, with tax.

    What delivery cost is not in it. Shares are of the running total and rounded once, as those of captures are, so
    that all returns of a line add up to exactly what its fulfilled units cost.
    """
    paid = line.total + (0 if order.tax_included else line.tax)
    before, after = line.returned, line.returned + quantity
    return money.divide(paid * after, line.ordered) - money.divide(paid * before, line.ordered)


def _return(row: Record) -> Return:
    return Return(
        id=row["id"],
        order_id=row["order_id"],
        state=ReturnState(row["state"]),
        method=row["method"],
        resolution=row["resolution"],
        location_id=row["location_id"],
        amount_minor=row["amount_minor"],
        requested_by=row["requested_by"],
        channel=row["channel"],
        version=row["version"],
        created_at=row["created_at"],
        lines=tuple(msgspec.json.decode(row["lines"], type=list[ReturnLine])),
    )
