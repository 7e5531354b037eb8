"""Proof that carts, orders and returns agree with each other, and orders in their own order for whoever goes on.

What an order's amounts are made of is checked where its other rooms are looked into: by ``workflows.verification``.
"""

from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub.sales.orders import Order, read_orders

FINDINGS_MAX: Final = 1_000


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: which invariant, where, and what both sides say."""

    invariant: str
    subject: str
    expected: int
    found: int


class BackLine(msgspec.Struct, frozen=True, kw_only=True):
    """What came back of a SKU, by the bucket that it was put into."""

    sku: str
    on_hand: int
    damaged: int
    quarantine: int


class Back(msgspec.Struct, frozen=True, kw_only=True):
    """A return with what has come back for it, and what was given back (``None``: not settled)."""

    id: UUID
    order_id: UUID
    location_id: UUID | None
    amount_minor: int | None
    lines: tuple[BackLine, ...]


LIVE_ORDERS = """
SELECT cart_id::text AS subject, 1::bigint AS expected, count(*) AS found
FROM commercehub.orders
WHERE state <> 'failed'
GROUP BY cart_id
HAVING count(*) > 1
ORDER BY cart_id
LIMIT $1
"""

CHECKED_OUT = """
SELECT cart.id::text AS subject, (made.cart_id IS NOT NULL)::int AS expected, (cart.state = 'checked_out')::int AS found
FROM commercehub.carts AS cart
LEFT JOIN (SELECT DISTINCT cart_id FROM commercehub.orders WHERE state <> 'failed') AS made ON made.cart_id = cart.id
WHERE (made.cart_id IS NOT NULL) <> (cart.state = 'checked_out')
ORDER BY cart.id
LIMIT $1
"""

OPEN_CARTS = """
SELECT customer_id::text AS subject, 1::bigint AS expected, count(*) AS found
FROM commercehub.carts
WHERE state = 'open' AND customer_id IS NOT NULL
GROUP BY customer_id
HAVING count(*) > 1
ORDER BY customer_id
LIMIT $1
"""

NUMBERS = """
SELECT number AS subject, 1::bigint AS expected, count(*) AS found
FROM commercehub.orders
GROUP BY number
HAVING count(*) > 1
ORDER BY number
LIMIT $1
"""

RETURNED = """
SELECT coalesce(line.id, came.line_id)::text AS subject, coalesce(came.units, 0)::bigint AS expected,
       coalesce(line.returned, 0) AS found
FROM (SELECT id, returned FROM commercehub.order_lines WHERE returned <> 0) AS line
FULL JOIN (
    SELECT line_id, sum(restocked + damaged + quarantined) AS units FROM commercehub.return_lines
    GROUP BY line_id
    HAVING sum(restocked + damaged + quarantined) <> 0
) AS came ON came.line_id = line.id
WHERE coalesce(came.units, 0) <> coalesce(line.returned, 0)
ORDER BY 1
LIMIT $1
"""

# What is asked back for and has not come counts too.
RETURNABLE = """
SELECT line.id::text AS subject, line.fulfilled AS expected, (line.returned + asked.units)::bigint AS found
FROM (
    SELECT asked.line_id,
           coalesce(sum(asked.quantity) FILTER (WHERE back.state IN ('requested', 'approved', 'in_transit')), 0)
               AS units
    FROM commercehub.return_lines AS asked
    JOIN commercehub.returns AS back ON back.id = asked.return_id
    GROUP BY asked.line_id
) AS asked
JOIN commercehub.order_lines AS line ON line.id = asked.line_id
WHERE line.returned + asked.units > line.fulfilled
ORDER BY line.id
LIMIT $1
"""

# All returns of a line together are worth exactly what its units that came back were paid with.
WORTH = """
SELECT line.id::text AS subject,
       round((line.total_minor + CASE WHEN placed.tax_included THEN 0 ELSE line.tax_minor END)::numeric
             * line.returned / line.ordered)::bigint AS expected,
       came.amount_minor AS found
FROM (
    SELECT line_id, sum(amount_minor)::bigint AS amount_minor FROM commercehub.return_lines GROUP BY line_id
) AS came
JOIN commercehub.order_lines AS line ON line.id = came.line_id
JOIN commercehub.orders AS placed ON placed.id = line.order_id
WHERE came.amount_minor
      <> round((line.total_minor + CASE WHEN placed.tax_included THEN 0 ELSE line.tax_minor END)::numeric
               * line.returned / line.ordered)
ORDER BY line.id
LIMIT $1
"""

SETTLED = """
SELECT back.id::text AS subject, came.amount_minor AS expected, back.amount_minor AS found
FROM commercehub.returns AS back
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount_minor), 0)::bigint AS amount_minor FROM commercehub.return_lines
    WHERE return_id = back.id
) AS came
WHERE back.amount_minor > came.amount_minor
ORDER BY back.id
LIMIT $1
"""

MISPLACED = """
SELECT line.return_id || ', ' || line.line_id AS subject, 1::bigint AS expected, 0::bigint AS found
FROM commercehub.return_lines AS line
JOIN commercehub.returns AS back ON back.id = line.return_id
JOIN commercehub.order_lines AS sold ON sold.id = line.line_id
WHERE sold.order_id <> back.order_id OR sold.sku <> line.sku
ORDER BY line.return_id, line.line_id
LIMIT $1
"""

ORDERS_AFTER = "SELECT id FROM commercehub.orders WHERE id > $1 ORDER BY id LIMIT $2"

RETURNS_AFTER = """
SELECT back.id, back.order_id, back.location_id, back.amount_minor,
       coalesce(json_agg(json_build_object(
           'sku', line.sku, 'on_hand', line.restocked, 'damaged', line.damaged, 'quarantine', line.quarantined
       )) FILTER (WHERE line.restocked + line.damaged + line.quarantined > 0), '[]') AS lines
FROM (
    SELECT id, order_id, location_id, amount_minor FROM commercehub.returns WHERE id > $1 ORDER BY id LIMIT $2
) AS back
LEFT JOIN commercehub.return_lines AS line ON line.return_id = back.id
GROUP BY back.id, back.order_id, back.location_id, back.amount_minor
ORDER BY back.id
"""

COUNT_ORDERS = "SELECT count(*) FROM commercehub.orders"

_CHECKS: Final = (
    ("O2 a cart makes one order that lives", LIVE_ORDERS),
    ("O2 a cart is checked out while its order lives", CHECKED_OUT),
    ("W1 a customer has one open cart", OPEN_CARTS),
    ("O4 a number belongs to one order", NUMBERS),
    ("R1 what a line counts as returned has come back", RETURNED),
    ("R1 no more comes back than was fulfilled", RETURNABLE),
    ("R1 a return is of its own order's lines", MISPLACED),
    ("M7 what came back of a line is worth its share", WORTH),
    ("M7 no more is given back for a return than it is worth", SETTLED),
)


async def verify(db: Connection) -> list[Finding]:
    """Every difference within this room, ``FINDINGS_MAX`` of each kind at most; empty is good."""
    return [
        Finding(invariant=invariant, subject=row["subject"], expected=row["expected"], found=row["found"])
        for invariant, statement in _CHECKS
        for row in await db.fetch(statement, FINDINGS_MAX)
    ]


async def count_orders(db: Connection) -> int:
    """How many orders there are."""
    count: int = await db.fetchval(COUNT_ORDERS)
    return count


async def read_orders_after(db: Connection, *, after: UUID, limit: int) -> list[Order]:
    """The next orders in the order of their ids."""
    order_ids = [row["id"] for row in await db.fetch(ORDERS_AFTER, after, limit)]
    found = await read_orders(db, order_ids=order_ids)
    return [found[order_id] for order_id in order_ids]


async def read_returns_after(db: Connection, *, after: UUID, limit: int) -> list[Back]:
    """The next returns in the order of their ids."""
    return [
        Back(
            id=row["id"],
            order_id=row["order_id"],
            location_id=row["location_id"],
            amount_minor=row["amount_minor"],
            lines=tuple(msgspec.json.decode(row["lines"], type=list[BackLine])),
        )
        for row in await db.fetch(RETURNS_AFTER, after, limit)
    ]
