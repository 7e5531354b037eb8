"""Carts: what somebody wants, priced on every read. A cart holds no stock and stores no amount."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection, Record

from commercehub.sales.errors import (
    CartClosed,
    CartMerged,
    CartNotFound,
    LineNotFound,
    NoPrice,
    QuantityTooLarge,
    TooManyLines,
    VariantNotFound,
    VersionConflict,
)
from commercehub.sales.pricing import CartDelivery, CartLine, Prices, Promotion, price

LINES_MAX: Final = 200
QUANTITY_MAX: Final = 1_000_000


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """By what right a caller opens a cart or an order; it stands in the WHERE of every look-up.

    ``token_hash``: by its token. ``location_id``: made at that location. ``customer_id``: the customer's own.
    ``order_id``: the one order that a guest looked up, and no cart. All that is given has to fit; nothing: any.
    """

    token_hash: bytes | None = None
    location_id: UUID | None = None
    customer_id: UUID | None = None
    order_id: UUID | None = None


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send it. Lives in ``order_contacts`` alone."""

    name: str
    line1: str
    line2: str | None
    city: str
    region: str | None
    postal_code: str
    country: str


class GiftCard(msgspec.Struct, frozen=True, kw_only=True):
    """A gift card that is meant to pay: which one it is, and how its code ends."""

    id: UUID
    last4: str


class Cart(msgspec.Struct, frozen=True, kw_only=True):
    """A cart with its prices as they are now. ``merged_into``: the cart that all of it is in by now.

    ``token_serial`` is what the present token is derived from; ``has_token``: whether there is one.
    """

    id: UUID
    sales_channel_id: UUID
    channel: str
    locale: str
    location_id: UUID | None
    customer_id: UUID | None
    currency: str
    tax_included: bool
    state: str
    version: int
    prices: Prices
    addresses: dict[UUID, Address]
    merged_into: UUID | None
    has_token: bool
    token_serial: int
    gift_cards: tuple[GiftCard, ...]

    @property
    def lines(self) -> list[CartLine]:
        """The lines, in the order they were added."""
        return [priced.line for priced in self.prices.lines]

    @property
    def deliveries(self) -> dict[UUID, CartDelivery]:
        """The deliveries that have lines, by id."""
        return {each.delivery.id: each.delivery for each in self.prices.deliveries}


class _RawDelivery(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    method: str
    location_id: UUID | None
    address_id: UUID | None
    rate: int | None
    address: Address | None


CREATE = """
WITH created AS (
    INSERT INTO commercehub.carts
        (id, sales_channel_id, channel, location_id, customer_id, token_hash, currency, tax_included, state,
         created_at, changed_at)
    VALUES ($1, $2, $3, $4, $11, $5, $6, $7, 'open', $8, $8)
    RETURNING id
)
INSERT INTO commercehub.cart_deliveries (id, cart_id, method, location_id)
SELECT $9, id, 'carry_out', $10 FROM created WHERE $10::uuid IS NOT NULL
"""

READ = """
SELECT cart.id, cart.sales_channel_id, cart.channel, channel.locale, cart.location_id, cart.customer_id, cart.currency,
       cart.tax_included, cart.state, cart.version, cart.merged_into, cart.token_hash IS NOT NULL AS has_token,
       cart.token_serial,
       (SELECT json_agg(json_build_object(
                   'id', line.id, 'variant_id', variant.id, 'sku', variant.sku,
                   'title', product.title || coalesce(' – ' || variant.title, ''),
                   'quantity', line.quantity, 'quantity_scale', variant.quantity_scale,
                   'delivery_id', line.delivery_id,
                   -- What was taken off sale since has no price any more: the cart says so, and is not checked out.
                   'unit_price', CASE WHEN product.published AND variant.for_sale THEN price.amount_minor END,
                   'rate_ppm', coalesce(rate.rate_ppm, 0), 'shippable', variant.requires_shipping) ORDER BY line.id)
        FROM commercehub.cart_lines AS line
        JOIN commercehub.variants AS variant ON variant.id = line.variant_id
        JOIN commercehub.products AS product ON product.id = variant.product_id
        LEFT JOIN commercehub.prices AS price
            ON price.variant_id = variant.id AND price.price_list = channel.price_list
           AND price.currency = cart.currency
        LEFT JOIN commercehub.cart_deliveries AS delivery ON delivery.id = line.delivery_id
        LEFT JOIN commercehub.order_contacts AS address ON address.id = delivery.address_id
        LEFT JOIN commercehub.tax_rates AS rate
            ON rate.country = coalesce(address.country, channel.tax_country) AND rate.tax_class = variant.tax_class
        WHERE line.cart_id = cart.id) AS lines,
       (SELECT json_agg(json_build_object(
                   'id', delivery.id, 'method', delivery.method, 'location_id', delivery.location_id,
                   'address_id', delivery.address_id, 'rate', rate.amount_minor,
                   'address', CASE WHEN address.id IS NOT NULL THEN json_build_object(
                       'name', address.name, 'line1', address.line1, 'line2', address.line2, 'city', address.city,
                       'region', address.region, 'postal_code', address.postal_code, 'country', address.country)
                   END) ORDER BY delivery.id)
        FROM commercehub.cart_deliveries AS delivery
        LEFT JOIN commercehub.delivery_rates AS rate
            ON rate.method = delivery.method AND rate.currency = cart.currency
        LEFT JOIN commercehub.order_contacts AS address ON address.id = delivery.address_id
        WHERE delivery.cart_id = cart.id) AS deliveries,
       (SELECT json_agg(json_build_object(
                   'code', promotion.code, 'percent_off_ppm', promotion.percent_off_ppm,
                   'is_ended', promotion.ended_at IS NOT NULL) ORDER BY promotion.code)
        FROM commercehub.cart_promotions AS entered
        JOIN commercehub.promotions AS promotion ON promotion.code = entered.code
        WHERE entered.cart_id = cart.id) AS promotions,
       (SELECT json_agg(json_build_object('id', card.gift_card_id, 'last4', card.last4) ORDER BY card.added_at)
        FROM commercehub.cart_gift_cards AS card WHERE card.cart_id = cart.id) AS gift_cards
FROM commercehub.carts AS cart
JOIN commercehub.sales_channels AS channel ON channel.id = cart.sales_channel_id
WHERE cart.id = ANY ($1::uuid[])
  -- A token that a hand-off gave out for a customer's cart is kept under the hash of its hash: it opens the cart, and
  -- not the order that the cart becomes, whose look-up knows of no such hash.
  AND ($2::bytea IS NULL OR cart.token_hash IN ($2, sha256($2)))
  AND ($3::uuid IS NULL OR cart.location_id = $3)
  AND ($4::uuid IS NULL OR cart.customer_id = $4)
"""

# The beginning of every edit: the cart, if the caller may change it.
EDIT: Final = """
    UPDATE commercehub.carts SET version = version + 1, changed_at = $2
    WHERE id = $1 AND state = 'open'
      AND ($3::bytea IS NULL OR token_hash IN ($3, sha256($3))) AND ($4::uuid IS NULL OR location_id = $4)
      AND ($5::uuid IS NULL OR customer_id = $5) AND ($6::bigint IS NULL OR version = $6)
    RETURNING id, location_id"""

ADD_LINE = f"""
WITH cart AS ({EDIT}
),
variant AS (
    SELECT variant.id FROM commercehub.variants AS variant
    JOIN commercehub.products AS product ON product.id = variant.product_id AND product.published
    WHERE (lower(variant.sku) = lower($8) OR variant.gtin14 = $9) AND variant.for_sale
),
line AS (
    INSERT INTO commercehub.cart_lines AS line (id, cart_id, variant_id, quantity, delivery_id)
    SELECT $7, cart.id, variant.id, $10,
           (SELECT delivery.id FROM commercehub.cart_deliveries AS delivery
            WHERE delivery.cart_id = cart.id
            -- What is put into a cart at a till is in the hand, whatever was ordered before.
            ORDER BY delivery.method = 'carry_out' AND delivery.location_id = cart.location_id DESC NULLS LAST,
                     delivery.id
            LIMIT 1)
    FROM cart, variant
    ON CONFLICT (cart_id, variant_id) DO UPDATE SET quantity = line.quantity + excluded.quantity
    RETURNING id
)
SELECT (SELECT id FROM cart) AS cart_id, (SELECT id FROM variant) AS variant_id, (SELECT id FROM line) AS line_id
"""

CHANGE_LINE = f"""
WITH cart AS ({EDIT}
),
line AS (
    UPDATE commercehub.cart_lines AS line SET quantity = $8 FROM cart
    WHERE line.id = $7 AND line.cart_id = cart.id
    RETURNING line.id
)
SELECT (SELECT id FROM cart) AS cart_id, (SELECT id FROM line) AS line_id
"""

REMOVE_LINE = f"""
WITH cart AS ({EDIT}
),
line AS (
    DELETE FROM commercehub.cart_lines AS line USING cart
    WHERE line.id = $7 AND line.cart_id = cart.id
    RETURNING line.id
)
SELECT (SELECT id FROM cart) AS cart_id, (SELECT id FROM line) AS line_id
"""

SET_DELIVERY = f"""
WITH cart AS ({EDIT}
),
address AS (
    INSERT INTO commercehub.order_contacts
        (id, name, line1, line2, city, region, postal_code, country, created_at)
    SELECT $11, $12, $13, $14, $15, $16, $17, $18, $2 FROM cart WHERE $11::uuid IS NOT NULL
    RETURNING id
),
delivery AS (
    INSERT INTO commercehub.cart_deliveries (id, cart_id, method, location_id, address_id)
    SELECT $7, cart.id, $8, $9, (SELECT id FROM address) FROM cart
    RETURNING id
),
line AS (
    UPDATE commercehub.cart_lines AS line SET delivery_id = delivery.id
    FROM cart, delivery
    WHERE line.cart_id = cart.id AND ($10::uuid[] IS NULL OR line.id = ANY ($10))
    RETURNING line.id
)
SELECT (SELECT id FROM cart) AS cart_id, (SELECT count(*) FROM line) AS lines
"""

DROP_UNUSED_DELIVERIES = """
DELETE FROM commercehub.cart_deliveries AS delivery
WHERE delivery.cart_id = $1 AND delivery.id <> $2
  AND NOT EXISTS (SELECT FROM commercehub.cart_lines AS line WHERE line.delivery_id = delivery.id)
"""

EXPLAIN_REFUSAL = """
SELECT cart.state, cart.version, cart.merged_into, placed.id AS order_id, placed.state AS order_state
FROM commercehub.carts AS cart
LEFT JOIN commercehub.orders AS placed ON placed.cart_id = cart.id AND placed.state <> 'failed'
WHERE cart.id = $1
  AND ($2::bytea IS NULL OR cart.token_hash IN ($2, sha256($2))) AND ($3::uuid IS NULL OR cart.location_id = $3)
  AND ($4::uuid IS NULL OR cart.customer_id = $4)
"""

LOCK = """
SELECT cart.id, cart.state, cart.version
FROM commercehub.carts AS cart
WHERE cart.id = ANY ($1::uuid[])
ORDER BY cart.id
FOR UPDATE
"""


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """An edit of one cart: by what right, and on which version if the caller insists on one."""

    cart_id: UUID
    owner: Owner
    version: int | None = None


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """What a lock found of a cart."""

    state: str
    version: int


async def create_cart(
    db: Connection,
    *,
    cart_id: UUID,
    sales_channel_id: UUID,
    channel: str,
    location_id: UUID | None,
    token_hash: bytes | None,
    currency: str,
    tax_included: bool,
    delivery_id: UUID,
    now: datetime,
    customer_id: UUID | None = None,
) -> None:
    """Open an empty cart. One that is made in a store is carried out of it unless somebody says otherwise."""
    await db.execute(
        CREATE,
        cart_id,
        sales_channel_id,
        channel,
        location_id,
        token_hash,
        currency,
        tax_included,
        now,
        delivery_id,
        location_id,
        customer_id,
    )


async def read_cart(db: Connection, *, cart_id: UUID, owner: Owner) -> Cart:
    """The cart with its prices as they are now, or raise ``CartNotFound``."""
    row = await db.fetchrow(READ, [cart_id], *rights(owner))
    if row is None:
        raise CartNotFound
    return _cart(row)


async def add_line(
    db: Connection,
    edit: Edit,
    *,
    line_id: UUID,
    sku: str | None,
    gtin14: str | None,
    quantity: int,
    now: datetime,
) -> Cart:
    """Add units of a variant, found by SKU or barcode, to its line or to a new one.

    Raises ``VariantNotFound``, ``NoPrice``, ``QuantityTooLarge``, ``TooManyLines``, or why the cart takes no edit.
    """
    try:
        row = await db.fetchrow(ADD_LINE, *edit_values(edit, now), line_id, sku, gtin14, quantity)
    except asyncpg.CheckViolationError as error:
        raise QuantityTooLarge from error
    if row is None or row["cart_id"] is None:
        raise await refusal(db, edit)
    if row["variant_id"] is None:
        raise VariantNotFound(sku or gtin14 or "")
    cart = await read_cart(db, cart_id=edit.cart_id, owner=edit.owner)
    for line in cart.lines:
        if line.id == row["line_id"] and line.unit_price is None:
            raise NoPrice(line.sku, cart.currency)
    if len(cart.lines) > LINES_MAX:
        raise TooManyLines
    return cart


async def change_line(db: Connection, edit: Edit, *, line_id: UUID, quantity: int, now: datetime) -> Cart:
    """Set a line's quantity. ``LineNotFound``, or why the cart takes no edit."""
    row = await db.fetchrow(CHANGE_LINE, *edit_values(edit, now), line_id, quantity)
    return await _edited(db, edit, row)


async def remove_line(db: Connection, edit: Edit, *, line_id: UUID, now: datetime) -> Cart:
    """Take a line out. ``LineNotFound``, or why the cart takes no edit."""
    row = await db.fetchrow(REMOVE_LINE, *edit_values(edit, now), line_id)
    return await _edited(db, edit, row)


async def set_delivery(
    db: Connection,
    edit: Edit,
    *,
    delivery_id: UUID,
    method: str,
    location_id: UUID | None,
    address_id: UUID | None,
    address: Address | None,
    line_ids: Sequence[UUID] | None,
    now: datetime,
) -> Cart:
    """Say how all lines, or those named, reach the customer. ``LineNotFound``, or why the cart takes no edit."""
    row = await db.fetchrow(
        SET_DELIVERY,
        *edit_values(edit, now),
        delivery_id,
        method,
        location_id,
        list(line_ids) if line_ids is not None else None,
        address_id,
        *(msgspec.structs.astuple(address) if address else (None,) * 7),
    )
    if row is None or row["cart_id"] is None:
        raise await refusal(db, edit)
    if line_ids is not None and row["lines"] != len(set(line_ids)):
        raise LineNotFound
    await db.execute(DROP_UNUSED_DELIVERIES, edit.cart_id, delivery_id)
    return await read_cart(db, cart_id=edit.cart_id, owner=edit.owner)


async def lock_carts(db: Connection, *, cart_ids: Sequence[UUID]) -> dict[UUID, Locked]:
    """Lock carts, lowest id first, and tell how they are."""
    rows = await db.fetch(LOCK, sorted(cart_ids))
    return {row["id"]: Locked(state=row["state"], version=row["version"]) for row in rows}


async def find_order_of(db: Connection, *, cart_id: UUID, owner: Owner) -> CartClosed | CartMerged | CartNotFound:
    """Why a cart takes nothing more: the order that it made, the cart that it is in, or that there is no such cart."""
    row = await db.fetchrow(EXPLAIN_REFUSAL, cart_id, *rights(owner))
    return _closed(row) if row else CartNotFound()


def rights(owner: Owner) -> tuple[bytes | None, UUID | None, UUID | None]:
    """What stands in the WHERE of every look-up of a cart; ``CartNotFound`` for who looked an order up, and no cart."""
    if owner.order_id is not None:
        raise CartNotFound
    return (owner.token_hash, owner.location_id, owner.customer_id)


def _closed(row: Record) -> CartClosed | CartMerged:
    if row["merged_into"] is not None:
        return CartMerged(row["merged_into"])
    return CartClosed(row["order_id"], row["order_state"])


def edit_values(edit: Edit, now: datetime) -> tuple[UUID, datetime, bytes | None, UUID | None, UUID | None, int | None]:
    """The first parameters of every statement that begins with ``EDIT``."""
    return (edit.cart_id, now, *rights(edit.owner), edit.version)


async def _edited(db: Connection, edit: Edit, row: Record | None) -> Cart:
    if row is None or row["cart_id"] is None:
        raise await refusal(db, edit)
    if row["line_id"] is None:
        raise LineNotFound
    return await read_cart(db, cart_id=edit.cart_id, owner=edit.owner)


async def refusal(db: Connection, edit: Edit) -> Exception:
    """Why the cart takes no edit: it is not there for this caller, it is closed, or it is at another version."""
    row = await db.fetchrow(EXPLAIN_REFUSAL, edit.cart_id, *rights(edit.owner))
    if row is None:
        return CartNotFound()
    return _closed(row) if row["state"] != "open" else VersionConflict(row["version"])


def _cart(row: Record) -> Cart:
    lines = msgspec.json.decode(row["lines"] or b"[]", type=list[CartLine])
    raw = msgspec.json.decode(row["deliveries"] or b"[]", type=list[_RawDelivery])
    promotions = msgspec.json.decode(row["promotions"] or b"[]", type=list[Promotion])
    deliveries = [
        CartDelivery(
            id=each.id, method=each.method, location_id=each.location_id, address_id=each.address_id, rate=each.rate
        )
        for each in raw
    ]
    return Cart(
        id=row["id"],
        sales_channel_id=row["sales_channel_id"],
        channel=row["channel"],
        locale=row["locale"],
        location_id=row["location_id"],
        customer_id=row["customer_id"],
        currency=row["currency"],
        tax_included=row["tax_included"],
        state=row["state"],
        version=row["version"],
        prices=price(lines, deliveries, tax_included=row["tax_included"], promotions=promotions),
        addresses={each.id: each.address for each in raw if each.address is not None},
        merged_into=row["merged_into"],
        has_token=row["has_token"],
        token_serial=row["token_serial"],
        gift_cards=tuple(msgspec.json.decode(row["gift_cards"] or b"[]", type=list[GiftCard])),
    )
