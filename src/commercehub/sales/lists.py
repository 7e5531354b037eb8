"""Wishlists: what a customer wants some day, put there by hand or by a scan at the shelf."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from commercehub.sales.errors import CustomerNotFound, ItemNotFound, ListFull, ListNotFound, VariantNotFound

LISTS_MAX: Final = 50
ITEMS_MAX: Final = 200


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A variant on a list, what it costs where the reader asks, and the store that it was scanned in."""

    id: UUID
    sku: str
    title: str
    unit_price: int | None
    location_id: UUID | None
    added_at: datetime


class Wishlist(msgspec.Struct, frozen=True, kw_only=True):
    """A list of one customer. ``share_serial`` is what the present link is derived from."""

    id: UUID
    customer_id: UUID
    name: str
    is_shared: bool
    share_serial: int
    version: int
    created_at: datetime
    items: tuple[Item, ...]


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks: whose lists they open, ``None`` for anybody's, and where they see prices."""

    customer_id: UUID | None
    price_list: str
    currency: str


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """The item of a variant, and whether it was not on the list before."""

    item_id: UUID
    is_news: bool
    version: int


CREATE = "INSERT INTO commercehub.wishlists (id, customer_id, name, created_at) VALUES ($1, $2, $3, $4)"

# Two lists that are begun at once are counted one after the other.
LOCK_CUSTOMER = "SELECT id FROM commercehub.customers WHERE id = $1 FOR NO KEY UPDATE"

COUNT = "SELECT count(*) FROM commercehub.wishlists WHERE customer_id = $1"

_LIST: Final = """list.id, list.customer_id, list.name, list.share_hash IS NOT NULL AS is_shared, list.share_serial,
    list.version, list.created_at,
    (SELECT json_agg(json_build_object(
                'id', item.id, 'sku', variant.sku,
                'title', product.title || coalesce(' – ' || variant.title, ''), 'unit_price', price.amount_minor,
                'location_id', item.location_id, 'added_at', item.added_at) ORDER BY item.id)
     FROM commercehub.wishlist_items AS item
     JOIN commercehub.variants AS variant ON variant.id = item.variant_id
     JOIN commercehub.products AS product ON product.id = variant.product_id
     LEFT JOIN commercehub.prices AS price
         ON price.variant_id = variant.id AND price.price_list = $2 AND price.currency = $3
     WHERE item.wishlist_id = list.id) AS items"""

READ = f"""
SELECT {_LIST} FROM commercehub.wishlists AS list
WHERE list.id = $1 AND ($4::uuid IS NULL OR list.customer_id = $4)
"""

READ_SHARED = f"SELECT {_LIST} FROM commercehub.wishlists AS list WHERE list.id = $1 AND list.share_hash = $4"

LIST_OF = f"""
SELECT {_LIST} FROM commercehub.wishlists AS list WHERE list.customer_id = $1 ORDER BY list.id LIMIT $4
"""

# Lists are edited one after the other, so that their version counts without gaps and nobody exceeds the limit.
LOCK = """
SELECT list.id, list.customer_id, list.version FROM commercehub.wishlists AS list
WHERE list.id = $1 AND ($2::uuid IS NULL OR list.customer_id = $2)
FOR UPDATE
"""

ADD = """
WITH variant AS (
    SELECT variant.id FROM commercehub.variants AS variant
    JOIN commercehub.products AS product ON product.id = variant.product_id AND product.published
    WHERE variant.for_sale AND (lower(variant.sku) = lower($3) OR variant.gtin14 = $4)
),
added AS (
    INSERT INTO commercehub.wishlist_items (id, wishlist_id, variant_id, location_id, added_at)
    SELECT $2, $1, variant.id, $5, $6 FROM variant
    ON CONFLICT (wishlist_id, variant_id) DO NOTHING
    RETURNING id
),
grown AS (
    UPDATE commercehub.wishlists SET version = version + 1 WHERE id = $1 AND EXISTS (SELECT FROM added)
    RETURNING version
)
SELECT (SELECT id FROM variant) AS variant_id, (SELECT id FROM added) AS added_id,
       (SELECT version FROM grown) AS version,
       (SELECT item.id FROM commercehub.wishlist_items AS item, variant
        WHERE item.wishlist_id = $1 AND item.variant_id = variant.id) AS known_id,
       (SELECT count(*) FROM commercehub.wishlist_items WHERE wishlist_id = $1) AS items
"""

REMOVE = """
WITH gone AS (
    DELETE FROM commercehub.wishlist_items WHERE id = $2 AND wishlist_id = $1 RETURNING variant_id
),
grown AS (
    UPDATE commercehub.wishlists SET version = version + 1 WHERE id = $1 AND EXISTS (SELECT FROM gone)
    RETURNING version
)
SELECT variant.sku, grown.version FROM gone JOIN commercehub.variants AS variant ON variant.id = gone.variant_id, grown
"""

SHARE = "UPDATE commercehub.wishlists SET share_hash = $2, version = version + 1 WHERE id = $1"

# The next link is another one.
UNSHARE = """
UPDATE commercehub.wishlists SET share_hash = NULL, share_serial = share_serial + 1, version = version + 1
WHERE id = $1 AND share_hash IS NOT NULL
"""


async def create_wishlist(db: Connection, *, wishlist_id: UUID, customer_id: UUID, name: str, now: datetime) -> None:
    """Begin a list. ``CustomerNotFound``, or ``ListFull`` where somebody has too many."""
    if await db.fetchval(LOCK_CUSTOMER, customer_id) is None:
        raise CustomerNotFound
    if await db.fetchval(COUNT, customer_id) >= LISTS_MAX:
        raise ListFull
    await db.execute(CREATE, wishlist_id, customer_id, name, now)


async def read_wishlist(db: Connection, *, wishlist_id: UUID, reader: Reader) -> Wishlist:
    """A list that the reader may open, or raise ``ListNotFound``."""
    row = await db.fetchrow(READ, wishlist_id, reader.price_list, reader.currency, reader.customer_id)
    if row is None:
        raise ListNotFound
    return _wishlist(row)


async def read_shared_wishlist(db: Connection, *, wishlist_id: UUID, share_hash: bytes, reader: Reader) -> Wishlist:
    """A list that its owner gave somebody the link to, or raise ``ListNotFound``."""
    row = await db.fetchrow(READ_SHARED, wishlist_id, reader.price_list, reader.currency, share_hash)
    if row is None:
        raise ListNotFound
    return _wishlist(row)


async def list_wishlists(db: Connection, *, customer_id: UUID, reader: Reader) -> Sequence[Wishlist]:
    """All lists of a customer, oldest first."""
    rows = await db.fetch(LIST_OF, customer_id, reader.price_list, reader.currency, LISTS_MAX)
    return [_wishlist(row) for row in rows]


async def lock_wishlist(db: Connection, *, wishlist_id: UUID, customer_id: UUID | None) -> UUID:
    """Lock a list of the customer's, or of anybody's, and say whose it is; ``ListNotFound``."""
    row = await db.fetchrow(LOCK, wishlist_id, customer_id)
    if row is None:
        raise ListNotFound
    owner_id: UUID = row["customer_id"]
    return owner_id


async def add_item(
    db: Connection,
    *,
    wishlist_id: UUID,
    item_id: UUID,
    sku: str | None,
    gtin14: str | None,
    location_id: UUID | None,
    now: datetime,
) -> Added:
    """Put a variant on a locked list; once is enough. ``VariantNotFound`` or ``ListFull``."""
    row = await db.fetchrow(ADD, wishlist_id, item_id, sku, gtin14, location_id, now)
    if row is None or row["variant_id"] is None:
        raise VariantNotFound(sku or gtin14 or "")
    if row["known_id"] is not None:
        return Added(item_id=row["known_id"], is_news=False, version=0)
    # The count is that of before this statement.
    if row["items"] >= ITEMS_MAX:
        raise ListFull
    return Added(item_id=row["added_id"], is_news=True, version=row["version"])


async def remove_item(db: Connection, *, wishlist_id: UUID, item_id: UUID) -> tuple[str, int]:
    """Take a variant off a locked list; returns its SKU and the list's version. ``ItemNotFound`` if it is not there."""
    row = await db.fetchrow(REMOVE, wishlist_id, item_id)
    if row is None:
        raise ItemNotFound
    return row["sku"], row["version"]


async def share_wishlist(db: Connection, *, wishlist_id: UUID, share_hash: bytes) -> None:
    """From now on whoever has the link may see a locked list."""
    await db.execute(SHARE, wishlist_id, share_hash)


async def unshare_wishlist(db: Connection, *, wishlist_id: UUID) -> None:
    """From now on a link opens a locked list no more, nor ever again."""
    await db.execute(UNSHARE, wishlist_id)


def _wishlist(row: Record) -> Wishlist:
    return Wishlist(
        id=row["id"],
        customer_id=row["customer_id"],
        name=row["name"],
        is_shared=row["is_shared"],
        share_serial=row["share_serial"],
        version=row["version"],
        created_at=row["created_at"],
        items=tuple(msgspec.json.decode(row["items"] or b"[]", type=list[Item])),
    )
