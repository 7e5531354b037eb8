"""Products and their variants: made one by one or by the thousand, edited, and found by SKU and barcode.

A product has one version, which counts the edits of its variants too. Whoever edits it locks the product first, then
what belongs to it. A variant is never deleted: orders, stock and carts name it. It is taken off sale.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection, Record

from commercehub.sales.errors import (
    BarcodeTaken,
    CategoryNotFound,
    HandleTaken,
    ProductNotFound,
    SkuTaken,
    TooManyVariants,
    VariantNotFound,
    VersionConflict,
)
from commercehub.sales.words import VECTOR_EN, VECTOR_ES, folded_html, folded_text

DEFAULT_PRICE_LIST: Final = "default"
CURRENCIES_MAX: Final = 50
VARIANTS_MAX: Final = 200


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one unit costs in a price list, in minor units."""

    currency: str
    amount_minor: int
    price_list: str = DEFAULT_PRICE_LIST


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A picture by its address, which the hub never fetches, and what it shows in words."""

    url: str
    alt: str = ""


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
    for_sale: bool = True


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
    images: tuple[Image, ...] = ()
    category_ids: tuple[UUID, ...] = ()
    version: int = 1


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
        'for_sale', variant.for_sale,
        'prices', coalesce((SELECT json_agg(json_build_object(
                      'price_list', price.price_list, 'currency', price.currency, 'amount_minor', price.amount_minor)
                      ORDER BY price.price_list, price.currency)
                   FROM commercehub.prices AS price WHERE price.variant_id = variant.id), '[]'))"""

PRODUCT_COLUMNS: Final = f"""product.id, product.handle, product.title, product.description_html, product.vendor,
    product.kind, product.tags, product.published, product.images, product.version,
    ARRAY (SELECT member.category_id FROM commercehub.product_categories AS member
           WHERE member.product_id = product.id ORDER BY member.category_id) AS category_ids,
    (SELECT json_agg({_VARIANT_JSON} ORDER BY variant.position, variant.sku)
     FROM commercehub.variants AS variant WHERE variant.product_id = product.id) AS variants"""

_GIVEN_PRODUCTS: Final = """unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::bool[], $9::text[], $10::text[], $11::text[], $12::text[])
    AS given (id, handle, title, description_html, vendor, kind, tags, published, images, title_words, label_words,
              text_words)"""

_INSERT_PRODUCTS: Final = f"""
INSERT INTO commercehub.products AS product
    (id, handle, title, description_html, vendor, kind, tags, published, images, search_en, search_es, created_at)
SELECT id, handle, title, description_html, vendor, kind,
       ARRAY (SELECT jsonb_array_elements_text(tags::jsonb)), published, images::jsonb,
       {VECTOR_EN},
       {VECTOR_ES},
       $13
FROM {_GIVEN_PRODUCTS}"""

INSERT_PRODUCTS = _INSERT_PRODUCTS

UPDATE_PRODUCTS = f"""
UPDATE commercehub.products AS product
SET handle = given.handle, title = given.title, description_html = given.description_html, vendor = given.vendor,
    kind = given.kind, tags = ARRAY (SELECT jsonb_array_elements_text(given.tags::jsonb)),
    published = given.published, images = given.images::jsonb, version = product.version + 1,
    search_en = {VECTOR_EN},
    search_es = {VECTOR_ES}
FROM {_GIVEN_PRODUCTS}
WHERE product.id = given.id
"""

# Edits of one product queue here; carts and orders that name a variant of it do not wait.
LOCK_PRODUCT = "SELECT version FROM commercehub.products WHERE id = $1 FOR NO KEY UPDATE"

COUNT_EDIT = "UPDATE commercehub.products SET version = version + 1 WHERE id = $1"

COUNT_EDITS = """
UPDATE commercehub.products SET version = version + 1
WHERE id IN (SELECT product_id FROM commercehub.variants WHERE id = ANY ($1::uuid[]))
"""

FILE_PRODUCT = """
WITH gone AS (
    DELETE FROM commercehub.product_categories WHERE product_id = $1 AND category_id <> ALL ($2::uuid[])
)
INSERT INTO commercehub.product_categories (product_id, category_id)
SELECT $1, category_id FROM unnest($2::uuid[]) AS given (category_id)
ON CONFLICT (product_id, category_id) DO NOTHING
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

UPDATE_VARIANT = """
UPDATE commercehub.variants
SET barcode = $2, gtin14 = $3, title = $4, tax_class = $5, weight_grams = $6, requires_shipping = $7, for_sale = $8
WHERE id = $1
"""

SET_PRICES = """
INSERT INTO commercehub.prices AS price (variant_id, price_list, currency, amount_minor)
SELECT variant_id, price_list, currency, amount_minor
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
    AS given (variant_id, price_list, currency, amount_minor)
ON CONFLICT (variant_id, price_list, currency) DO UPDATE SET amount_minor = excluded.amount_minor
WHERE price.amount_minor <> excluded.amount_minor
RETURNING price.variant_id
"""

# Of the lists that are named: what they do not say any more is not for sale in that currency.
DROP_PRICES = """
DELETE FROM commercehub.prices
WHERE variant_id = $1 AND price_list = ANY ($2::text[])
  AND (price_list, currency) NOT IN (SELECT * FROM unnest($3::text[], $4::text[]))
"""

# A file knows of one image: it does not take the place of those that somebody chose.
UPSERT_PRODUCTS = f"""{_INSERT_PRODUCTS}
ON CONFLICT (lower(handle)) DO UPDATE
SET title = excluded.title, description_html = excluded.description_html, vendor = excluded.vendor,
    kind = excluded.kind, tags = excluded.tags, published = excluded.published,
    images = CASE WHEN product.images = '[]' THEN excluded.images ELSE product.images END,
    search_en = excluded.search_en, search_es = excluded.search_es, version = product.version + 1
WHERE (product.title, product.description_html, product.vendor, product.kind, product.tags, product.published)
      IS DISTINCT FROM (excluded.title, excluded.description_html, excluded.vendor, excluded.kind, excluded.tags,
                        excluded.published)
   OR (product.images = '[]' AND excluded.images <> '[]')
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

READ_PRODUCT = f"SELECT {PRODUCT_COLUMNS} FROM commercehub.products AS product WHERE product.id = $1"

FIND_VARIANTS = f"""
SELECT {_VARIANT_JSON} AS variant
FROM commercehub.variants AS variant
JOIN commercehub.products AS product ON product.id = variant.product_id
WHERE (lower(variant.sku) = ANY ($1::text[]) OR variant.gtin14 = ANY ($2::text[]))
  AND ($3 OR (product.published AND variant.for_sale))
ORDER BY variant.sku
"""


def folded(sku: str) -> str:
    """A SKU as PostgreSQL lowers it: letter by letter, whereas Python looks at a letter's neighbours too."""
    return "".join(["i" if letter == "\u0130" else letter.lower() for letter in sku])


async def create_product(db: Connection, product: Product, *, now: datetime) -> None:
    """Add a product with its variants and prices, in its categories.

    ``HandleTaken``, ``SkuTaken`` or ``BarcodeTaken``; ``CategoryNotFound``.
    """
    try:
        await db.execute(INSERT_PRODUCTS, *_product_columns([product]), now)
        await db.execute(INSERT_VARIANTS, *_variant_columns(product.variants))
    except asyncpg.UniqueViolationError as error:
        raise _taken(error, product.handle, product.variants) from error
    await set_prices(db, [(variant.id, price) for variant in product.variants for price in variant.prices])
    if product.category_ids:
        await _file(db, product.id, product.category_ids)


async def change_product(
    db: Connection, *, product_id: UUID, changes: Mapping[str, object], version: int | None = None
) -> Product:
    """Give fields of a product other values; what is not named stays. ``category_ids`` are all it is in from now on.

    ``ProductNotFound``; ``VersionConflict`` unless it is at ``version``; ``HandleTaken``; ``CategoryNotFound``.
    """
    product = await _lock(db, product_id, version)
    if not changes:
        return product
    changed = msgspec.structs.replace(product, version=product.version + 1, **changes)
    try:
        await db.execute(UPDATE_PRODUCTS, *_product_columns([changed]))
    except asyncpg.UniqueViolationError as error:
        raise HandleTaken(changed.handle) from error
    if "category_ids" in changes:
        await _file(db, product_id, changed.category_ids)
    return changed


async def add_variant(db: Connection, *, product_id: UUID, variant: Variant, version: int | None = None) -> Product:
    """Add a variant to a product, after its others.

    ``ProductNotFound``; ``VersionConflict`` unless it is at ``version``; ``TooManyVariants``; ``SkuTaken`` or
    ``BarcodeTaken``.
    """
    product = await _lock(db, product_id, version)
    if len(product.variants) >= VARIANTS_MAX:
        raise TooManyVariants
    position = max((each.position for each in product.variants), default=0) + 1
    added = msgspec.structs.replace(variant, position=position)
    try:
        await db.execute(INSERT_VARIANTS, *_variant_columns([added]))
    except asyncpg.UniqueViolationError as error:
        raise _taken(error, product.handle, [added]) from error
    await set_prices(db, [(added.id, price) for price in added.prices])
    await db.execute(COUNT_EDIT, product_id)
    return msgspec.structs.replace(product, version=product.version + 1, variants=(*product.variants, added))


async def change_variant(
    db: Connection,
    *,
    product_id: UUID,
    variant_id: UUID,
    changes: Mapping[str, object],
    prices: Mapping[str, Sequence[Price]],
    version: int | None = None,
) -> Product:
    """Give fields of a variant other values; what is not named stays. ``prices`` are all of the price lists it names.

    ``ProductNotFound``, ``VariantNotFound``; ``VersionConflict`` unless the product is at ``version``; ``BarcodeTaken``.
    """
    product = await _lock(db, product_id, version)
    variant = variant_of(product, variant_id)
    if not changes and not prices:
        return product
    kept = [price for price in variant.prices if price.price_list not in prices]
    given = [price for listed in prices.values() for price in listed]
    in_order = sorted((*kept, *given), key=lambda price: (price.price_list, price.currency))
    changed = msgspec.structs.replace(variant, prices=tuple(in_order), **changes)
    try:
        await db.execute(UPDATE_VARIANT, variant_id, *_changeable(changed))
    except asyncpg.UniqueViolationError as error:
        raise _taken(error, product.handle, [changed]) from error
    if prices:
        stated = [price.price_list for price in given], [price.currency for price in given]
        await db.execute(DROP_PRICES, variant_id, list(prices), *stated)
        await set_prices(db, [(variant_id, price) for price in given])
    await db.execute(COUNT_EDIT, product_id)
    variants = tuple(changed if each.id == variant_id else each for each in product.variants)
    return msgspec.structs.replace(product, version=product.version + 1, variants=variants)


def variant_of(product: Product, variant_id: UUID) -> Variant:
    """A product's variant, or raise ``VariantNotFound``."""
    found = next((variant for variant in product.variants if variant.id == variant_id), None)
    if found is None:
        raise VariantNotFound(str(variant_id))
    return found


async def _lock(db: Connection, product_id: UUID, version: int | None) -> Product:
    current = await db.fetchval(LOCK_PRODUCT, product_id)
    if current is None:
        raise ProductNotFound
    if version not in {None, current}:
        raise VersionConflict(current)
    return await read_product(db, product_id=product_id)


async def _file(db: Connection, product_id: UUID, category_ids: Sequence[UUID]) -> None:
    try:
        await db.execute(FILE_PRODUCT, product_id, list(category_ids))
    except asyncpg.ForeignKeyViolationError as error:
        raise CategoryNotFound from error


async def set_prices(db: Connection, prices: Sequence[tuple[UUID, Price]]) -> set[UUID]:
    """Set prices; returns the variants whose price was new or changed."""
    rows = await db.fetch(
        SET_PRICES,
        [variant_id for variant_id, _ in prices],
        [price.price_list for _, price in prices],
        [price.currency for _, price in prices],
        [price.amount_minor for _, price in prices],
    )
    return {row["variant_id"] for row in rows}


async def upsert_products(db: Connection, products: Sequence[Product], *, now: datetime) -> None:
    """Add products or bring them up to date, by handle."""
    await db.execute(UPSERT_PRODUCTS, *_product_columns(products), now)


async def count_edits(db: Connection, *, variant_ids: Sequence[UUID]) -> None:
    """The products of these variants are at a version of their own: whoever has seen an older one hears of it."""
    await db.execute(COUNT_EDITS, list(variant_ids))


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
    return product_of(row)


async def find_variants(
    db: Connection, *, skus: Sequence[str] = (), gtin14s: Sequence[str] = (), hidden: bool = True
) -> list[Variant]:
    """The variants that have one of the SKUs, ignoring case, or one of the barcodes; ``hidden``: not for sale too."""
    rows = await db.fetch(FIND_VARIANTS, [folded(sku) for sku in skus], list(gtin14s), hidden)
    return [msgspec.json.decode(row["variant"], type=Variant) for row in rows]


def _product_columns(products: Sequence[Product]) -> list[list[object]]:
    return [
        [product.id for product in products],
        [product.handle for product in products],
        [product.title for product in products],
        [product.description_html for product in products],
        [product.vendor for product in products],
        [product.kind for product in products],
        [msgspec.json.encode(product.tags).decode() for product in products],
        [product.published for product in products],
        [msgspec.json.encode(product.images).decode() for product in products],
        [folded_text(product.title) for product in products],
        [folded_text(product.vendor, product.kind, *product.tags) for product in products],
        [folded_html(product.description_html) for product in products],
    ]


def _changeable(variant: Variant) -> tuple[object, ...]:
    return (
        variant.barcode,
        variant.gtin14,
        variant.title,
        variant.tax_class,
        variant.weight_grams,
        variant.requires_shipping,
        variant.for_sale,
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


def _taken(error: asyncpg.UniqueViolationError, handle: str, variants: Sequence[Variant]) -> Exception:
    known = error.detail or ""
    if error.constraint_name == "uq_products_handle":
        return HandleTaken(handle)
    if error.constraint_name == "uq_variants_gtin14":
        return BarcodeTaken(next((v.barcode or "" for v in variants if (v.gtin14 or "-") in known), ""))
    return SkuTaken(next((v.sku for v in variants if f"({folded(v.sku)})" in known), ""))


def product_of(row: Record) -> Product:
    """A product from its ``PRODUCT_COLUMNS``."""
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
        images=tuple(msgspec.json.decode(row["images"], type=list[Image])),
        category_ids=tuple(row["category_ids"]),
        version=row["version"],
    )
