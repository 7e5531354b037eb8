"""Products found: all of them, those of a category, or those that words ask for, the best first.

A word counts in the language of whoever asks; the last one may be the beginning of a word that is still being typed. A
whole SKU or barcode comes before all words, the beginning of a SKU after them.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection, Record

from commercehub.sales.barcodes import InvalidBarcode, gtin14
from commercehub.sales.catalog import PRODUCT_COLUMNS, Product, product_of
from commercehub.sales.words import Language, question

RANK_MAX: Final = 2_000_000
RANKED_MAX: Final = 5_000
"""Of how many products the words are weighed: of more than that none is, and they come as they were made."""
BEGUN_MAX: Final = 1_000
"""How many SKUs that begin in one way are looked at."""
_FIRST: Final = UUID(int=0)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a list of products: by rank, the highest first, then by id. What is not ranked has rank 0."""

    rank: int
    id: UUID


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A product and its place in the list."""

    place: Place
    product: Product


# A category and all below it. UNION, not UNION ALL: it would end in a circle too, if there ever were one.
_INSIDE: Final = """inside AS (
    SELECT $1::uuid AS id
    UNION
    SELECT category.id FROM commercehub.categories AS category JOIN inside ON inside.id = category.parent_id
)"""

LIST = f"""
SELECT {PRODUCT_COLUMNS}, 0 AS rank
FROM commercehub.products AS product
WHERE product.published = $1 AND product.id > $2
ORDER BY product.id
LIMIT $3
"""

# From each category the first that may be on the page: it costs the same however many products are in it.
LIST_IN_CATEGORY = f"""
WITH RECURSIVE {_INSIDE},
page AS (
    SELECT DISTINCT member.product_id AS id
    FROM inside
    CROSS JOIN LATERAL (
        SELECT filed.product_id
        FROM commercehub.product_categories AS filed
        JOIN commercehub.products AS product ON product.id = filed.product_id AND product.published = $2
        WHERE filed.category_id = inside.id AND filed.product_id > $3
        ORDER BY filed.product_id
        LIMIT $4
    ) AS member
    ORDER BY 1
    LIMIT $4
)
SELECT {PRODUCT_COLUMNS}, 0 AS rank
FROM page JOIN commercehub.products AS product ON product.id = page.id
ORDER BY product.id
"""

# What the caller may see is asked of each hit where its product is at hand; its category only until the page is full.
_PAGE: Final = f"""
    UNION ALL
    SELECT product.id, {RANK_MAX}
    FROM commercehub.variants AS variant JOIN commercehub.products AS product ON product.id = variant.product_id
    WHERE (lower(variant.sku) = lower($8::text) OR variant.gtin14 = $10::text) AND product.published = $2
    UNION ALL
    SELECT begun.product_id, 0
    FROM (
        SELECT variant.product_id
        FROM commercehub.variants AS variant
        WHERE lower(variant.sku) ~>=~ lower($9::text) AND lower(variant.sku) ~<~ (lower($9::text) || chr(1114111))
        ORDER BY lower(variant.sku) USING ~<~
        LIMIT {BEGUN_MAX}
    ) AS begun JOIN commercehub.products AS product ON product.id = begun.product_id
    WHERE product.published = $2
),
ranked AS (
    SELECT hit.id, max(hit.rank) AS rank
    FROM hit
    GROUP BY hit.id
    HAVING max(hit.rank) < $3 OR (max(hit.rank) = $3 AND hit.id > $4)
    ORDER BY max(hit.rank) DESC, hit.id
    OFFSET 0
),
page AS (
    SELECT ranked.id, ranked.rank
    FROM ranked
    WHERE $1::uuid IS NULL OR EXISTS (
        SELECT FROM commercehub.product_categories AS member JOIN inside ON inside.id = member.category_id
        WHERE member.product_id = ranked.id)
    LIMIT $11
)
SELECT {PRODUCT_COLUMNS}, page.rank
FROM page JOIN commercehub.products AS product ON product.id = page.id
ORDER BY page.rank DESC, product.id
"""

SEARCH_EN = f"""
WITH RECURSIVE {_INSIDE},
asked AS (
    SELECT to_tsquery('english', $5) && (to_tsquery('english', $6) || to_tsquery('simple', $7)) AS words
),
few AS (
    SELECT count(*) <= {RANKED_MAX} AS enough
    FROM (SELECT FROM asked JOIN commercehub.products AS product ON product.search_en @@ asked.words
          LIMIT {RANKED_MAX} + 1) AS counted
),
hit AS (
    SELECT product.id,
           CASE WHEN few.enough THEN round(1000000 * ts_rank(product.search_en, asked.words))::int ELSE 0 END AS rank
    FROM asked CROSS JOIN few JOIN commercehub.products AS product ON product.search_en @@ asked.words
    WHERE product.published = $2
{_PAGE}"""

SEARCH_ES = f"""
WITH RECURSIVE {_INSIDE},
asked AS (
    SELECT to_tsquery('spanish', $5) && (to_tsquery('spanish', $6) || to_tsquery('simple', $7)) AS words
),
few AS (
    SELECT count(*) <= {RANKED_MAX} AS enough
    FROM (SELECT FROM asked JOIN commercehub.products AS product ON product.search_es @@ asked.words
          LIMIT {RANKED_MAX} + 1) AS counted
),
hit AS (
    SELECT product.id,
           CASE WHEN few.enough THEN round(1000000 * ts_rank(product.search_es, asked.words))::int ELSE 0 END AS rank
    FROM asked CROSS JOIN few JOIN commercehub.products AS product ON product.search_es @@ asked.words
    WHERE product.published = $2
{_PAGE}"""

_STATEMENTS: Final[Mapping[Language, str]] = {Language.EN: SEARCH_EN, Language.ES: SEARCH_ES}


async def list_products(
    db: Connection,
    *,
    limit: int,
    after: Place | None = None,
    category_id: UUID | None = None,
    published: bool = True,
) -> list[Found]:
    """Products, of a category and all below it if one is named, oldest first."""
    first = after.id if after is not None else _FIRST
    if category_id is None:
        rows = await db.fetch(LIST, published, first, limit)
    else:
        rows = await db.fetch(LIST_IN_CATEGORY, category_id, published, first, limit)
    return _found(rows)


async def search_products(
    db: Connection,
    text: str,
    *,
    language: Language,
    limit: int,
    after: Place | None = None,
    category_id: UUID | None = None,
    published: bool = True,
) -> list[Found]:
    """Products that have all of the words, or a variant with that SKU or barcode, the best first."""
    asked = question(text)
    statement = _STATEMENTS[language]
    place = after or Place(rank=RANK_MAX, id=_FIRST)
    rows = await db.fetch(
        statement,
        category_id,
        published,
        place.rank,
        place.id,
        asked.others,
        asked.last,
        asked.beginning,
        asked.sku,
        asked.sku_beginning,
        _barcode(asked.sku),
        limit,
    )
    return _found(rows)


def _barcode(text: str) -> str | None:
    try:
        return gtin14(text)
    except InvalidBarcode:
        return None


def _found(rows: Sequence[Record]) -> list[Found]:
    return [Found(place=Place(rank=row["rank"], id=row["id"]), product=product_of(row)) for row in rows]
