"""Products and their variants: made one by one or by the thousand, found by SKU, barcode and words."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection, Record

from commercehub.sales.errors import BarcodeTaken, HandleTaken, ProductNotFound, SkuTaken

DEFAULT_PRICE_LIST: Final = "default"
CURRENCIES_MAX: Final = 50


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one unit costs in the default price list, in minor units."""

    currency: str
    amount_minor: int


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be sold."""

    id: UUID
    product_id: UUID
    position: int
    sku: str
    barcode: str | None
    gtin14: str | None
    title: str | None
    options: tuple[tuple[str, str], ...]
    tax_class: str
    unit: str
    quantity_scale: int
    weight_grams: int | None
    requires_shipping: bool
    prices: tuple[Price, ...]


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A product with its variants. ``description_html`` is what somebody typed: to be escaped or cleaned when shown."""

    id: UUID
    handle: str
    title: str
    description_html: str
    vendor: str
    kind: str
    tags: tuple[str, ...]
    published: bool
    variants: tuple[Variant, ...] = ()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A variant by its SKU, in the spelling that is kept."""

    sku: str
    id: UUID
    product_id: UUID


_VARIANT_JSON: Final = """json_build_object(
        'id', variant.id, 'product_id', variant.product_id, 'position', variant.position, 'sku', variant.sku,
        'barcode', variant.barcode, 'gtin14', variant.gtin14, 'title', variant.title, 'options', variant.options,
        'tax_class', variant.tax_class, 'unit', variant.unit, 'quantity_scale', variant.quantity_scale,
        'weight_grams', variant.weight_grams, 'requires_shipping', variant.requires_shipping,
        'prices', coalesce((SELECT json_agg(json_build_object(
                      'currency', price.currency, 'amount_minor', price.amount_minor) ORDER BY price.currency)
                   FROM commercehub.prices AS price
                   WHERE price.variant_id = variant.id AND price.price_list = 'default'), '[]'))"""

_PRODUCT: Final = f"""product.id, product.handle, product.title, product.description_html, product.vendor, product.kind,
    product.tags, product.published,
    (SELECT json_agg({_VARIANT_JSON} ORDER BY variant.position, variant.sku)
     FROM commercehub.variants AS variant WHERE variant.product_id = product.id) AS variants"""

INSERT_PRODUCT = """
INSERT INTO commercehub.products (id, handle, title, description_html, vendor, kind, tags, published, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text[], $8, $9)
"""

INSERT_VARIANTS = """
INSERT INTO commercehub.variants
    (id, product_id, position, sku, barcode, gtin14, title, options, tax_class, unit, quantity_scale, weight_grams,
     requires_shipping)
SELECT id, product_id, position, sku, barcode, gtin14, title, options::jsonb, tax_class, unit, quantity_scale,
       weight_grams, requires_shipping
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::int[], $12::int[], $13::bool[])
    AS variant (id, product_id, position, sku, barcode, gtin14, title, options, tax_class, unit, quantity_scale,
                weight_grams, requires_shipping)
"""

SET_PRICES = """
INSERT INTO commercehub.prices AS price (variant_id, price_list, currency, amount_minor)
SELECT variant_id, 'default', currency, amount_minor
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS given (variant_id, currency, amount_minor)
ON CONFLICT (variant_id, price_list, currency) DO UPDATE SET amount_minor = excluded.amount_minor
WHERE price.amount_minor <> excluded.amount_minor
RETURNING price.variant_id
"""

UPSERT_PRODUCTS = """
INSERT INTO commercehub.products AS product
    (id, handle, title, description_html, vendor, kind, tags, published, created_at)
SELECT id, handle, title, description_html, vendor, kind,
       ARRAY (SELECT jsonb_array_elements_text(tags::jsonb)), published, $9
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bool[])
    AS given (id, handle, title, description_html, vendor, kind, tags, published)
ON CONFLICT (lower(handle)) DO UPDATE
SET title = excluded.title, description_html = excluded.description_html, vendor = excluded.vendor,
    kind = excluded.kind, tags = excluded.tags, published = excluded.published
WHERE (product.title, product.description_html, product.vendor, product.kind, product.tags, product.published)
      IS DISTINCT FROM (excluded.title, excluded.description_html, excluded.vendor, excluded.kind, excluded.tags,
                        excluded.published)
"""

READ_PRODUCT_IDS = """
SELECT lower(handle) AS handle, id FROM commercehub.products WHERE lower(handle) = ANY ($1::text[])
"""

UPSERT_VARIANTS = """
INSERT INTO commercehub.variants AS variant
    (id, product_id, position, sku, barcode, gtin14, title, options, tax_class, unit, quantity_scale, weight_grams,
     requires_shipping)
SELECT id, product_id, position, sku, barcode, gtin14, title, options::jsonb, tax_class, unit, quantity_scale,
       weight_grams, requires_shipping
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::int[], $12::int[], $13::bool[])
    AS given (id, product_id, position, sku, barcode, gtin14, title, options, tax_class, unit, quantity_scale,
              weight_grams, requires_shipping)
ON CONFLICT (lower(sku)) DO UPDATE
SET product_id = excluded.product_id, position = excluded.position, barcode = excluded.barcode,
    gtin14 = excluded.gtin14, title = excluded.title, options = excluded.options,
    weight_grams = excluded.weight_grams, requires_shipping = excluded.requires_shipping
WHERE (variant.product_id, variant.position, variant.barcode, variant.gtin14, variant.title, variant.options,
       variant.weight_grams, variant.requires_shipping)
      IS DISTINCT FROM (excluded.product_id, excluded.position, excluded.barcode, excluded.gtin14, excluded.title,
                        excluded.options, excluded.weight_grams, excluded.requires_shipping)
RETURNING variant.id, (variant.xmax = 0) AS created
"""

READ_VARIANT_IDS = """
SELECT lower(sku) AS key, sku, id, product_id FROM commercehub.variants WHERE lower(sku) = ANY ($1::text[])
"""

READ_BARCODES = """
SELECT gtin14, lower(sku) AS key FROM commercehub.variants WHERE gtin14 = ANY ($1::text[])
"""

READ_PRODUCT = f"SELECT {_PRODUCT} FROM commercehub.products AS product WHERE product.id = $1"

SEARCH = f"""
SELECT {_PRODUCT}
FROM commercehub.products AS product
WHERE product.published
  AND ($1::text IS NULL OR position(lower($1) IN lower(product.title)) > 0 OR EXISTS (
      SELECT FROM commercehub.variants AS variant
      WHERE variant.product_id = product.id AND starts_with(lower(variant.sku), lower($1))))
  AND ($2::uuid IS NULL OR product.id > $2)
ORDER BY product.id
LIMIT $3
"""

FIND_VARIANTS = f"""
SELECT {_VARIANT_JSON} AS variant
FROM commercehub.variants AS variant
JOIN commercehub.products AS product ON product.id = variant.product_id
WHERE lower(variant.sku) = ANY ($1::text[]) OR variant.gtin14 = ANY ($2::text[])
ORDER BY variant.sku
"""


def folded(sku: str) -> str:
    """A SKU as PostgreSQL lowers it: letter by letter, whereas Python looks at a letter's neighbours too."""
    return "".join(["i" if letter == "\u0130" else letter.lower() for letter in sku])


async def create_product(db: Connection, product: Product, *, now: datetime) -> None:
    """Add a product with its variants and prices. ``HandleTaken``, ``SkuTaken`` or ``BarcodeTaken``."""
    try:
        await db.execute(INSERT_PRODUCT, *_product_columns(product), now)
        await db.execute(INSERT_VARIANTS, *_variant_columns(product.variants))
    except asyncpg.UniqueViolationError as error:
        raise _taken(error, product) from error
    await set_prices(db, [(variant.id, price) for variant in product.variants for price in variant.prices])


async def set_prices(db: Connection, prices: Sequence[tuple[UUID, Price]]) -> set[UUID]:
    """Set prices in the default list; returns the variants whose price was new or changed."""
    rows = await db.fetch(
        SET_PRICES,
        [variant_id for variant_id, _ in prices],
        [price.currency for _, price in prices],
        [price.amount_minor for _, price in prices],
    )
    return {row["variant_id"] for row in rows}


async def upsert_products(db: Connection, products: Sequence[Product], *, now: datetime) -> None:
    """Add products or bring them up to date, by handle."""
    await db.execute(
        UPSERT_PRODUCTS,
        [product.id for product in products],
        [product.handle for product in products],
        [product.title for product in products],
        [product.description_html for product in products],
        [product.vendor for product in products],
        [product.kind for product in products],
        [msgspec.json.encode(product.tags).decode() for product in products],
        [product.published for product in products],
        now,
    )


async def find_product_ids(db: Connection, *, handles: Sequence[str]) -> dict[str, UUID]:
    """The ids of the products that have these handles, by handle as ``folded``."""
    rows = await db.fetch(READ_PRODUCT_IDS, [folded(handle) for handle in handles])
    return {row["handle"]: row["id"] for row in rows}


async def upsert_variants(db: Connection, variants: Sequence[Variant]) -> dict[UUID, bool]:
    """Add variants or bring them up to date, by SKU; returns those touched, and whether each is new."""
    rows = await db.fetch(UPSERT_VARIANTS, *_variant_columns(variants))
    return {row["id"]: row["created"] for row in rows}


async def find_skus(db: Connection, *, skus: Sequence[str]) -> dict[str, Kept]:
    """What is kept under these SKUs, by SKU as ``folded``."""
    rows = await db.fetch(READ_VARIANT_IDS, [folded(sku) for sku in skus])
    return {row["key"]: Kept(sku=row["sku"], id=row["id"], product_id=row["product_id"]) for row in rows}


async def find_barcodes(db: Connection, *, gtin14s: Sequence[str]) -> dict[str, str]:
    """The SKU, as ``folded``, that each of these barcodes belongs to."""
    rows = await db.fetch(READ_BARCODES, list(gtin14s))
    return {row["gtin14"]: row["key"] for row in rows}


async def read_product(db: Connection, *, product_id: UUID) -> Product:
    """One product, or raise ``ProductNotFound``."""
    row = await db.fetchrow(READ_PRODUCT, product_id)
    if row is None:
        raise ProductNotFound
    return _product(row)


async def search_products(db: Connection, *, words: str | None, after_id: UUID | None, limit: int) -> list[Product]:
    """Published products whose title has the words in it, or a variant's SKU begins with them, oldest first."""
    return [_product(row) for row in await db.fetch(SEARCH, words, after_id, limit)]


async def find_variants(db: Connection, *, skus: Sequence[str] = (), gtin14s: Sequence[str] = ()) -> list[Variant]:
    """The variants that have one of the SKUs, ignoring case, or one of the barcodes."""
    rows = await db.fetch(FIND_VARIANTS, [folded(sku) for sku in skus], list(gtin14s))
    return [msgspec.json.decode(row["variant"], type=Variant) for row in rows]


def _product_columns(product: Product) -> tuple[object, ...]:
    return (
        product.id,
        product.handle,
        product.title,
        product.description_html,
        product.vendor,
        product.kind,
        list(product.tags),
        product.published,
    )


def _variant_columns(variants: Sequence[Variant]) -> list[list[object]]:
    names = (
        *("id", "product_id", "position", "sku", "barcode", "gtin14", "title", "options", "tax_class", "unit"),
        *("quantity_scale", "weight_grams", "requires_shipping"),
    )
    return [
        [
            msgspec.json.encode(variant.options).decode() if name == "options" else getattr(variant, name)
            for variant in variants
        ]
        for name in names
    ]


def _taken(error: asyncpg.UniqueViolationError, product: Product) -> Exception:
    known = error.detail or ""
    if error.constraint_name == "uq_products_handle":
        return HandleTaken(product.handle)
    if error.constraint_name == "uq_variants_gtin14":
        return BarcodeTaken(next((v.barcode or "" for v in product.variants if (v.gtin14 or "-") in known), ""))
    return SkuTaken(next((v.sku for v in product.variants if f"({folded(v.sku)})" in known), ""))


def _product(row: Record) -> Product:
    return Product(
        id=row["id"],
        handle=row["handle"],
        title=row["title"],
        description_html=row["description_html"],
        vendor=row["vendor"],
        kind=row["kind"],
        tags=tuple(row["tags"]),
        published=row["published"],
        variants=tuple(msgspec.json.decode(row["variants"] or b"[]", type=list[Variant])),
    )
