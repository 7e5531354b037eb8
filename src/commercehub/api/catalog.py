"""Products and variants: made, searched, and found by what a scanner reads."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import (
    END,
    Barcode,
    LongText,
    Name,
    Page,
    Paging,
    PositiveMoney,
    Sku,
    cut,
    read_barcode,
    read_cursor,
    write_cursor,
)
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import catalog
from commercehub.sales.shopify_cells import slug
from payments.money import Money

VARIANTS_MAX = 200


class NewVariant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that can be sold; a price for each currency it is sold in."""

    sku: Sku
    prices: Annotated[list[PositiveMoney], Meta(max_length=catalog.CURRENCIES_MAX)]
    barcode: Barcode | None = None
    title: Name | None = None
    tax_class: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,39}" + END)] = "standard"
    unit: Annotated[str, Meta(pattern="^[a-z]{1,12}" + END)] = "each"
    quantity_scale: Annotated[int, Meta(ge=0, le=6)] = 0
    weight_grams: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    requires_shipping: bool = True


class NewProduct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product with its variants."""

    title: Name
    variants: Annotated[list[NewVariant], Meta(min_length=1, max_length=VARIANTS_MAX)]
    handle: Annotated[str, Meta(min_length=1, max_length=200, pattern="^[a-z0-9][a-z0-9-]*" + END)] | None = None
    description_html: LongText = ""
    vendor: Annotated[str, Meta(max_length=200)] = ""
    kind: Annotated[str, Meta(max_length=200)] = ""
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=100)] = []
    published: bool = True


class VariantView(msgspec.Struct, frozen=True, kw_only=True):
    """A variant."""

    id: str
    product_id: str
    sku: str
    barcode: str | None
    title: str | None
    options: list[tuple[str, str]]
    prices: list[Money]
    tax_class: str
    unit: str
    quantity_scale: int
    weight_grams: int | None
    requires_shipping: bool


class ProductView(msgspec.Struct, frozen=True, kw_only=True):
    """A product. ``description_html`` is what somebody typed: clean it before you show it."""

    id: str
    handle: str
    title: str
    description_html: str
    vendor: str
    kind: str
    tags: list[str]
    published: bool
    variants: list[VariantView]


class ProductSearch(Paging, frozen=True, kw_only=True):
    """Words of a title, or how a SKU begins."""

    q: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class VariantSearch(Paging, frozen=True, kw_only=True):
    """What a scanner read, or a SKU."""

    barcode: Barcode | None = None
    sku: Sku | None = None


@route(
    "POST",
    "/v1/products",
    permission=Permission.CATALOG_WRITE,
    body=NewProduct,
    answer=ProductView,
    status=201,
    codes=("sku_taken", "barcode_taken", "handle_taken", "invalid_barcode"),
)
async def create_product(call: Call) -> Answer:
    """Add a product with its variants and prices."""
    given = await call.read(NewProduct)
    product = _product(given)

    async def work(db: Connection, now: datetime) -> ProductView:
        await catalog.create_product(db, product, now=now)
        return _view(product)

    return await call.once(work, status=201)


@route(
    "GET",
    "/v1/products",
    permission=Permission.CATALOG_READ,
    query=ProductSearch,
    answer=Page[ProductView],
    codes=("invalid_cursor",),
)
async def list_products(call: Call) -> Page[ProductView]:
    """Published products, oldest first."""
    wanted = call.query(ProductSearch)
    async with call.database.connection() as db:
        found = await catalog.search_products(
            db, words=wanted.q, after_id=read_cursor(wanted.cursor, UUID), limit=wanted.limit + 1
        )
    page = found[: wanted.limit]
    return Page(
        data=[_view(product) for product in page],
        next_cursor=write_cursor(page[-1].id) if len(found) > wanted.limit else None,
    )


@route("GET", "/v1/products/{product_id}", permission=Permission.CATALOG_READ, answer=ProductView)
async def get_product(call: Call, product_id: UUID) -> ProductView:
    """One product."""
    async with call.database.connection() as db:
        product = await catalog.read_product(db, product_id=product_id)
    if call.principal.is_public and not product.published:
        raise not_found()
    return _view(product)


@route(
    "GET",
    "/v1/variants",
    permission=Permission.CATALOG_READ,
    query=VariantSearch,
    answer=Page[VariantView],
    codes=("invalid_barcode", "invalid_cursor"),
)
async def find_variants(call: Call) -> Page[VariantView]:
    """The variant that a barcode or a SKU belongs to."""
    wanted = call.query(VariantSearch)
    if (wanted.barcode is None) == (wanted.sku is None):
        where = FieldError(pointer="?barcode", detail="Give barcode or sku, one of the two.")
        raise Problem("invalid_request", where.detail, errors=[where])
    gtins = [read_barcode(wanted.barcode, "?barcode")] if wanted.barcode is not None else []
    async with call.database.connection() as db:
        found = await catalog.find_variants(db, skus=[wanted.sku] if wanted.sku else [], gtin14s=gtins)
        if call.principal.is_public:
            product_ids = {variant.product_id for variant in found}
            products = [await catalog.read_product(db, product_id=product_id) for product_id in product_ids]
            published = {product.id for product in products if product.published}
            found = [variant for variant in found if variant.product_id in published]
    page, next_cursor = cut(found, wanted, id_of=lambda variant: variant.id)
    return Page(data=[_variant_view(variant) for variant in page], next_cursor=next_cursor)


def _product(given: NewProduct) -> catalog.Product:
    product_id = ids.new()
    return catalog.Product(
        id=product_id,
        handle=given.handle or f"{slug(given.title)[:180]}-{ids.show('p', product_id)[-8:]}".lstrip("-"),
        title=given.title,
        description_html=given.description_html,
        vendor=given.vendor,
        kind=given.kind,
        tags=tuple(given.tags),
        published=given.published,
        variants=tuple(
            _variant(product_id, position, variant) for position, variant in enumerate(given.variants, start=1)
        ),
    )


def _variant(product_id: UUID, position: int, given: NewVariant) -> catalog.Variant:
    where = f"/variants/{position - 1}"
    if not given.sku.isprintable() or given.sku != given.sku.strip():
        detail = "A SKU has printable characters, and no spaces around them."
        raise Problem("invalid_request", detail, errors=[FieldError(pointer=f"{where}/sku", detail=detail)])
    currencies = [price.currency for price in given.prices]
    if len(set(currencies)) != len(currencies):
        detail = "One price for each currency."
        raise Problem("invalid_request", detail, errors=[FieldError(pointer=f"{where}/prices", detail=detail)])
    return catalog.Variant(
        id=ids.new(),
        product_id=product_id,
        position=position,
        sku=given.sku,
        barcode=given.barcode,
        gtin14=read_barcode(given.barcode, f"{where}/barcode") if given.barcode is not None else None,
        title=given.title,
        options=(),
        tax_class=given.tax_class,
        unit=given.unit,
        quantity_scale=given.quantity_scale,
        weight_grams=given.weight_grams,
        requires_shipping=given.requires_shipping,
        prices=tuple(catalog.Price(currency=price.currency, amount_minor=price.amount) for price in given.prices),
    )


def _view(product: catalog.Product) -> ProductView:
    return ProductView(
        id=ids.show("prod", product.id),
        handle=product.handle,
        title=product.title,
        description_html=product.description_html,
        vendor=product.vendor,
        kind=product.kind,
        tags=list(product.tags),
        published=product.published,
        variants=[_variant_view(variant) for variant in product.variants],
    )


def _variant_view(variant: catalog.Variant) -> VariantView:
    return VariantView(
        id=ids.show("var", variant.id),
        product_id=ids.show("prod", variant.product_id),
        sku=variant.sku,
        barcode=variant.barcode,
        title=variant.title,
        options=list(variant.options),
        prices=[Money(price.amount_minor, price.currency) for price in variant.prices],
        tax_class=variant.tax_class,
        unit=variant.unit,
        quantity_scale=variant.quantity_scale,
        weight_grams=variant.weight_grams,
        requires_shipping=variant.requires_shipping,
    )


ROUTES = (create_product, list_products, get_product, find_variants)
