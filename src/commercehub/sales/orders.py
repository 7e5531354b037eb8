"""Orders: what was bought, at what price, and how far it has got. Lines and amounts are a snapshot of the cart."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from commercehub.sales.carts import Address, Owner
from commercehub.sales.errors import OrderNotFound

IN_STORE_PREFIX: Final = "29"
"""GS1 leaves GTIN-13 prefixes 20 to 29 to the shop; ours for receipts."""


class OrderState(StrEnum):
    """Where an order stands."""

    AWAITING_PAYMENT = "awaiting_payment"
    PAYMENT_UNKNOWN = "payment_unknown"
    PLACED = "placed"
    IN_FULFILLMENT = "in_fulfillment"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


MOVES: Final[Mapping[OrderState, frozenset[OrderState]]] = {
    OrderState.AWAITING_PAYMENT: frozenset(
        {OrderState.PAYMENT_UNKNOWN, OrderState.PLACED, OrderState.COMPLETED, OrderState.FAILED}
    ),
    OrderState.PAYMENT_UNKNOWN: frozenset({OrderState.PLACED, OrderState.COMPLETED, OrderState.FAILED}),
    OrderState.PLACED: frozenset({OrderState.IN_FULFILLMENT, OrderState.COMPLETED, OrderState.CANCELLED}),
    OrderState.IN_FULFILLMENT: frozenset({OrderState.COMPLETED, OrderState.CANCELLED}),
    OrderState.COMPLETED: frozenset(),
    OrderState.CANCELLED: frozenset(),
    OrderState.FAILED: frozenset(),
}

UNPAID: Final = frozenset({OrderState.AWAITING_PAYMENT, OrderState.PAYMENT_UNKNOWN})


class OrderLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line with its amounts in minor units, and what became of its units."""

    id: UUID
    delivery_id: UUID
    variant_id: UUID
    sku: str
    title: str
    quantity_scale: int
    ordered: int
    unit_price: int
    discount: int
    tax: int
    tax_rate_ppm: int
    total: int
    cancelled: int = 0
    fulfilled: int = 0
    returned: int = 0


class OrderDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How some lines reach the customer."""

    id: UUID
    method: str
    location_id: UUID | None
    address_id: UUID | None
    price: int


class OrderPromotion(msgspec.Struct, frozen=True, kw_only=True):
    """A code, and what it took off."""

    code: str
    discount: int


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order. Its contact and addresses are ids: see ``order_contacts``."""

    id: UUID
    number: str
    cart_id: UUID
    sales_channel_id: UUID
    channel: str
    locale: str
    location_id: UUID | None
    customer_id: UUID | None
    contact_id: UUID | None
    currency: str
    tax_included: bool
    subtotal: int
    discount_total: int
    delivery_total: int
    tax_total: int
    total: int
    change: int | None
    state: OrderState
    payment_state: str
    fulfillment_state: str
    on_hold: bool
    version: int
    placed_by: str
    created_at: datetime
    lines: tuple[OrderLine, ...]
    deliveries: tuple[OrderDelivery, ...]
    promotions: tuple[OrderPromotion, ...] = ()


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach whom an order is for."""

    id: UUID
    email: str | None
    phone: str | None


# $1-$20 one row per order, $21-$23 contacts, $24-$30 deliveries, $31-$43 lines, $47-$49 promotions.
CREATE = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::uuid[], $8::uuid[],
                         $9::text[], $10::bool[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
                         $15::bigint[], $16::bigint[], $17::text[], $18::text[], $19::text[], $20::text[])
        AS given (id, cart_id, sales_channel_id, channel, locale, location_id, customer_id, contact_id, currency,
                  tax_included, subtotal, discount, delivery, tax, total, change, state, payment_state,
                  fulfillment_state, placed_by)
),
closed AS (
    UPDATE commercehub.carts AS cart SET state = 'checked_out', version = version + 1, changed_at = $44
    FROM given WHERE cart.id = given.cart_id
),
contact AS (
    INSERT INTO commercehub.order_contacts (id, email, phone, created_at)
    SELECT id, email, phone, $44 FROM unnest($21::uuid[], $22::text[], $23::text[]) AS contact (id, email, phone)
),
placed AS (
    INSERT INTO commercehub.orders
        (id, number, cart_id, sales_channel_id, channel, locale, location_id, customer_id, contact_id, currency,
         tax_included, subtotal_minor, discount_minor, delivery_minor, tax_minor, total_minor, change_minor, state,
         payment_state, fulfillment_state, placed_by, created_at, changed_at)
    SELECT id, nextval('commercehub.order_number')::text, cart_id, sales_channel_id, channel, locale, location_id,
           customer_id, contact_id, currency, tax_included, subtotal, discount, delivery, tax, total, change, state,
           payment_state, fulfillment_state, placed_by, $44, $44
    FROM given
    RETURNING id, number
),
delivered AS (
    INSERT INTO commercehub.order_deliveries
        (id, order_id, position, method, location_id, address_id, price_minor)
    SELECT * FROM unnest($24::uuid[], $25::uuid[], $26::int[], $27::text[], $28::uuid[], $29::uuid[], $30::bigint[])
),
lined AS (
    INSERT INTO commercehub.order_lines
        (id, order_id, position, delivery_id, variant_id, sku, title, quantity_scale, ordered, fulfilled,
         unit_price_minor, discount_minor, tax_minor, tax_rate_ppm, total_minor)
    SELECT id, order_id, position, delivery_id, variant_id, sku, title, quantity_scale, ordered, fulfilled,
           unit_price, discount, tax, tax_rate_ppm, total
    FROM unnest($31::uuid[], $32::uuid[], $33::int[], $34::uuid[], $35::uuid[], $36::text[], $37::text[], $38::int[],
                $39::bigint[], $40::bigint[], $41::bigint[], $42::bigint[], $43::bigint[], $45::int[], $46::bigint[])
        AS line (id, order_id, position, delivery_id, variant_id, sku, title, quantity_scale, ordered, fulfilled,
                 unit_price, discount, tax, tax_rate_ppm, total)
),
promoted AS (
    INSERT INTO commercehub.order_promotions (order_id, code, discount_minor)
    SELECT * FROM unnest($47::uuid[], $48::text[], $49::bigint[])
)
SELECT id, number FROM placed
"""

_COLUMNS: Final = """placed.id, placed.number, placed.cart_id, placed.sales_channel_id, placed.channel, placed.locale,
    placed.location_id, placed.customer_id, placed.contact_id, placed.currency, placed.tax_included,
    placed.subtotal_minor, placed.discount_minor, placed.delivery_minor, placed.tax_minor, placed.total_minor,
    placed.change_minor, placed.state, placed.payment_state, placed.fulfillment_state, placed.on_hold, placed.version,
    placed.placed_by, placed.created_at,
    (SELECT json_agg(json_build_object(
                'id', line.id, 'delivery_id', line.delivery_id, 'variant_id', line.variant_id, 'sku', line.sku,
                'title', line.title, 'quantity_scale', line.quantity_scale, 'ordered', line.ordered,
                'cancelled', line.cancelled, 'fulfilled', line.fulfilled, 'returned', line.returned,
                'unit_price', line.unit_price_minor, 'discount', line.discount_minor, 'tax', line.tax_minor,
                'tax_rate_ppm', line.tax_rate_ppm, 'total', line.total_minor) ORDER BY line.position)
     FROM commercehub.order_lines AS line WHERE line.order_id = placed.id) AS lines,
    (SELECT json_agg(json_build_object(
                'id', delivery.id, 'method', delivery.method, 'location_id', delivery.location_id,
                'address_id', delivery.address_id, 'price', delivery.price_minor) ORDER BY delivery.position)
     FROM commercehub.order_deliveries AS delivery WHERE delivery.order_id = placed.id) AS deliveries,
    (SELECT json_agg(json_build_object('code', applied.code, 'discount', applied.discount_minor) ORDER BY applied.code)
     FROM commercehub.order_promotions AS applied WHERE applied.order_id = placed.id) AS promotions"""

READ = f"""
SELECT {_COLUMNS}
FROM commercehub.orders AS placed
WHERE placed.id = $1
  AND ($2::bytea IS NULL
       OR EXISTS (SELECT FROM commercehub.carts AS cart WHERE cart.id = placed.cart_id AND cart.token_hash = $2))
  AND ($3::uuid IS NULL OR placed.customer_id = $3)
  AND ($4::uuid IS NULL OR placed.id = $4)
"""


# Who gives the number and one of the two ways to reach them may see the order; a phone is compared by its digits.
FIND_FOR_GUEST = """
SELECT placed.id
FROM commercehub.orders AS placed
JOIN commercehub.order_contacts AS contact ON contact.id = placed.contact_id
WHERE placed.number = $1
  AND (lower(contact.email) = lower($2)
       OR regexp_replace(contact.phone, '[^0-9]', '', 'g') = regexp_replace($3, '[^0-9]', '', 'g'))
"""

READ_MANY = f"SELECT {_COLUMNS} FROM commercehub.orders AS placed WHERE placed.id = ANY ($1::uuid[])"

LOCK = "SELECT placed.id FROM commercehub.orders AS placed WHERE placed.id = $1 FOR UPDATE"

# The lines of an order that waits for its payment do not change, so one statement may lock and read them.
LOCK_UNPAID = f"""
SELECT {_COLUMNS}
FROM commercehub.orders AS placed
WHERE placed.id = $1 AND placed.state IN ('awaiting_payment', 'payment_unknown')
FOR UPDATE OF placed
"""

LIST = f"""
SELECT {_COLUMNS}
FROM commercehub.orders AS placed
WHERE ($1::text IS NULL OR placed.number = $1)
  AND ($2::text IS NULL OR placed.contact_id IN (
      SELECT id FROM commercehub.order_contacts WHERE lower(email) = lower($2)))
  AND ($3::uuid IS NULL OR placed.customer_id = $3)
  AND ($4::text IS NULL OR placed.channel = $4)
  AND ($5::text IS NULL OR placed.state = $5)
  AND ($6::uuid IS NULL OR placed.id < $6)
ORDER BY placed.id DESC
LIMIT $7
"""

MOVE = """
UPDATE commercehub.orders
SET state = $2, payment_state = $3, fulfillment_state = $4, version = version + $7, changed_at = $6
WHERE id = $1 AND (state = $2 OR state = ANY ($5::text[]))
RETURNING version
"""

COUNT_UNITS = """
UPDATE commercehub.order_lines AS line
SET fulfilled = line.fulfilled + given.fulfilled, cancelled = line.cancelled + given.cancelled
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS given (id, fulfilled, cancelled)
WHERE line.order_id = $1 AND line.id = given.id
"""

READ_CONTACTS = """
SELECT id, email, phone, name, line1, line2, city, region, postal_code, country
FROM commercehub.order_contacts WHERE id = ANY ($1::uuid[])
"""


async def create_orders(
    db: Connection, orders: Sequence[Order], *, contacts: Sequence[Contact], now: datetime
) -> dict[UUID, str]:
    """Write orders and close their carts; returns the number that each got."""
    lines = [(order.id, position, line) for order in orders for position, line in enumerate(order.lines)]
    deliveries = [(order.id, position, each) for order in orders for position, each in enumerate(order.deliveries)]
    promotions = [(order.id, each) for order in orders for each in order.promotions]
    rows = await db.fetch(
        CREATE,
        *(
            [getattr(order, name) for order in orders]
            for name in (
                *("id", "cart_id", "sales_channel_id", "channel", "locale", "location_id", "customer_id", "contact_id"),
                *("currency", "tax_included", "subtotal", "discount_total", "delivery_total", "tax_total", "total"),
                *("change", "state", "payment_state", "fulfillment_state", "placed_by"),
            )
        ),
        [contact.id for contact in contacts],
        [contact.email for contact in contacts],
        [contact.phone for contact in contacts],
        [each.id for _, _, each in deliveries],
        [order_id for order_id, _, _ in deliveries],
        [position for _, position, _ in deliveries],
        [each.method for _, _, each in deliveries],
        [each.location_id for _, _, each in deliveries],
        [each.address_id for _, _, each in deliveries],
        [each.price for _, _, each in deliveries],
        [line.id for _, _, line in lines],
        [order_id for order_id, _, _ in lines],
        [position for _, position, _ in lines],
        *(
            [getattr(line, name) for _, _, line in lines]
            for name in (
                *("delivery_id", "variant_id", "sku", "title", "quantity_scale", "ordered", "fulfilled"),
                *("unit_price", "discount", "tax"),
            )
        ),
        now,
        [line.tax_rate_ppm for _, _, line in lines],
        [line.total for _, _, line in lines],
        [order_id for order_id, _ in promotions],
        [each.code for _, each in promotions],
        [each.discount for _, each in promotions],
    )
    return {row["id"]: row["number"] for row in rows}


async def read_order(db: Connection, *, order_id: UUID, owner: Owner) -> Order:
    """One order, or raise ``OrderNotFound``. A cart's token opens the order that the cart became."""
    row = await db.fetchrow(READ, order_id, owner.token_hash, owner.customer_id, owner.order_id)
    if row is None:
        raise OrderNotFound
    return _order(row)


async def find_for_guest(db: Connection, *, number: str, email: str | None, phone: str | None) -> UUID:
    """The order of this number and this e-mail address or phone, or raise ``OrderNotFound``."""
    order_id: UUID | None = await db.fetchval(FIND_FOR_GUEST, number, email, phone)
    if order_id is None:
        raise OrderNotFound
    return order_id


async def read_orders(db: Connection, *, order_ids: Sequence[UUID]) -> dict[UUID, Order]:
    """Those of the orders that there are, by id."""
    return {row["id"]: _order(row) for row in await db.fetch(READ_MANY, list(order_ids))}


async def lock_order(db: Connection, *, order_id: UUID) -> Order:
    """Lock an order and read it as it is then, or raise ``OrderNotFound``."""
    await db.fetchval(LOCK, order_id)
    return await read_order(db, order_id=order_id, owner=Owner())


async def lock_unpaid_order(db: Connection, *, order_id: UUID) -> Order | None:
    """Lock an order that waits for its payment; ``None`` if it does not wait any more."""
    row = await db.fetchrow(LOCK_UNPAID, order_id)
    return _order(row) if row else None


async def list_orders(
    db: Connection,
    *,
    number: str | None,
    email: str | None,
    customer_id: UUID | None,
    channel: str | None,
    state: str | None,
    before_id: UUID | None,
    limit: int,
) -> list[Order]:
    """Orders, newest first."""
    rows = await db.fetch(LIST, number, email, customer_id, channel, state, before_id, limit)
    return [_order(row) for row in rows]


async def move_order(
    db: Connection,
    order: Order,
    *,
    to: OrderState,
    payment_state: str,
    fulfillment_state: str,
    facts: int,
    now: datetime,
) -> int:
    """Take a locked order to a state, or let it stay there; returns its new version, ``facts`` higher.

    ``OrderNotFound`` if it is not in a state that leads there: the lock was not held.
    """
    leaving = [state.value for state, allowed in MOVES.items() if to in allowed]
    version: int | None = await db.fetchval(
        MOVE, order.id, to.value, payment_state, fulfillment_state, leaving, now, facts
    )
    if version is None:
        raise OrderNotFound
    return version


async def count_units(
    db: Connection, *, order_id: UUID, fulfilled: Mapping[UUID, int], cancelled: Mapping[UUID, int]
) -> None:
    """Add units of lines to what was fulfilled or cancelled; CHECKs keep both within what was ordered."""
    lines = sorted(fulfilled.keys() | cancelled.keys())
    await db.execute(
        COUNT_UNITS,
        order_id,
        lines,
        [fulfilled.get(line, 0) for line in lines],
        [cancelled.get(line, 0) for line in lines],
    )


async def read_contacts(db: Connection, *, contact_ids: Sequence[UUID]) -> dict[UUID, tuple[Contact, Address | None]]:
    """Contacts and addresses by id."""
    rows = await db.fetch(READ_CONTACTS, list(contact_ids))
    return {
        row["id"]: (
            Contact(id=row["id"], email=row["email"], phone=row["phone"]),
            Address(
                name=row["name"],
                line1=row["line1"],
                line2=row["line2"],
                city=row["city"],
                region=row["region"],
                postal_code=row["postal_code"],
                country=row["country"],
            )
            if row["line1"] is not None
            else None,
        )
        for row in rows
    }


def receipt_barcode(number: str) -> str:
    """The barcode on a receipt: an in-store GTIN-13 (GS1 prefix 29) around the order's number."""
    digits = IN_STORE_PREFIX + number.rjust(10, "0")[-10:]
    total = sum(int(digit) * (3 if position % 2 else 1) for position, digit in enumerate(digits))
    return digits + str(-total % 10)


def fulfillment_state(lines: Sequence[OrderLine]) -> str:
    """How far the goods have got, from the units of the lines."""
    wanted = sum(line.ordered - line.cancelled for line in lines)
    fulfilled = sum(line.fulfilled for line in lines)
    if fulfilled == 0:
        return "unfulfilled"
    if sum(line.returned for line in lines) == fulfilled == wanted:
        return "returned"
    return "fulfilled" if fulfilled == wanted else "partial"


def _order(row: Record) -> Order:
    return Order(
        id=row["id"],
        number=row["number"],
        cart_id=row["cart_id"],
        sales_channel_id=row["sales_channel_id"],
        channel=row["channel"],
        locale=row["locale"],
        location_id=row["location_id"],
        customer_id=row["customer_id"],
        contact_id=row["contact_id"],
        currency=row["currency"],
        tax_included=row["tax_included"],
        subtotal=row["subtotal_minor"],
        discount_total=row["discount_minor"],
        delivery_total=row["delivery_minor"],
        tax_total=row["tax_minor"],
        total=row["total_minor"],
        change=row["change_minor"],
        state=OrderState(row["state"]),
        payment_state=row["payment_state"],
        fulfillment_state=row["fulfillment_state"],
        on_hold=row["on_hold"],
        version=row["version"],
        placed_by=row["placed_by"],
        created_at=row["created_at"],
        lines=tuple(msgspec.json.decode(row["lines"], type=list[OrderLine])),
        deliveries=tuple(msgspec.json.decode(row["deliveries"], type=list[OrderDelivery])),
        promotions=tuple(msgspec.json.decode(row["promotions"] or b"[]", type=list[OrderPromotion])),
    )
