"""Products and variants: made, edited, searched, and found by what a scanner reads."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import UNSET, Meta, UnsetType

from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.categories import Handle
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import (
    END,
    PAGE_DEFAULT,
    Barcode,
    Cursor,
    Id,
    Limit,
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
from commercehub.sales import catalog, search, words
from commercehub.sales.errors import VariantNotFound
from commercehub.sales.shopify_cells import slug
from commercehub.views import product_page
from commercehub.views.product_page import Audience, ProductView, VariantView

IMAGES_MAX = 50
CATEGORIES_OF_PRODUCT_MAX = 50
PRICE_LISTS_MAX = 20

Prices = Annotated[list[PositiveMoney], Meta(max_length=catalog.CURRENCIES_MAX)]
PriceListName = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,39}" + END)]
PriceLists = Annotated[dict[PriceListName, Prices], Meta(max_length=PRICE_LISTS_MAX)]
TaxClass = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,39}" + END)]
Grams = Annotated[int, Meta(ge=0, le=10_000_000)]
Label = Annotated[str, Meta(max_length=200)]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=100)]
CategoryIds = Annotated[list[Id], Meta(max_length=CATEGORIES_OF_PRODUCT_MAX)]
ImageUrl = Annotated[
    str,
    Meta(
        max_length=2_048,
        pattern=r'^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?([/?#][^\s"<>\\\x00-\x1f\x7f]*)?' + END,
        description="https alone; the hub keeps it, and never fetches it",
    ),
]


class NewImage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture by its address, and what it shows in words. Pictures are shown in the order of their list."""

    url: ImageUrl
    alt: Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*" + END)] = ""


Images = Annotated[list[NewImage], Meta(max_length=IMAGES_MAX)]


class NewVariant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that can be sold; a price for each currency it is sold in, in price lists with a name too."""

    sku: Sku
    prices: Prices
    price_lists: PriceLists = {}
    barcode: Barcode | None = None
    title: Name | None = None
    tax_class: TaxClass = "standard"
    unit: Annotated[str, Meta(pattern="^[a-z]{1,12}" + END)] = "each"
    quantity_scale: Annotated[int, Meta(ge=0, le=6)] = 0
    weight_grams: Grams | None = None
    requires_shipping: bool = True


class NewProduct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product with its variants."""

    title: Name
    variants: Annotated[list[NewVariant], Meta(min_length=1, max_length=catalog.VARIANTS_MAX)]
    handle: Handle | None = None
    description_html: LongText = ""
    vendor: Label = ""
    kind: Label = ""
    tags: Tags = []
    published: bool = True
    images: Images = []
    category_ids: CategoryIds = []


class ProductChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be otherwise; what is not named stays. A list takes the place of the whole list."""

    title: Name | UnsetType = UNSET
    handle: Handle | UnsetType = UNSET
    description_html: LongText | UnsetType = UNSET
    vendor: Label | UnsetType = UNSET
    kind: Label | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    published: bool | UnsetType = UNSET
    images: Images | UnsetType = UNSET
    category_ids: CategoryIds | UnsetType = UNSET


class VariantChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be otherwise; what is not named stays. Prices are all prices of their list from now on.

    A variant is never deleted: ``for_sale`` takes it off sale.
    """

    title: Name | UnsetType | None = UNSET
    barcode: Barcode | UnsetType | None = UNSET
    prices: Prices | UnsetType = UNSET
    price_lists: PriceLists | UnsetType = UNSET
    tax_class: TaxClass | UnsetType = UNSET
    weight_grams: Grams | UnsetType | None = UNSET
    requires_shipping: bool | UnsetType = UNSET
    for_sale: bool | UnsetType = UNSET


class ProductSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words in a language, a SKU, its beginning or a barcode; in a category and all below it.

    ``locale`` is the channel's unless it is given. ``published=false`` is for staff.
    """

    q: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    category_id: Id | None = None
    locale: Annotated[str, Meta(pattern="^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*" + END, max_length=35)] | None = None
    published: bool = True
    limit: Limit = PAGE_DEFAULT
    cursor: Cursor | None = None


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
    product = _product(call, given)

    async def work(db: Connection, now: datetime) -> ProductView:
        await catalog.create_product(db, product, now=now)
        return product_page.product_view(product, audience=_audience(call))

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
    """Published products, oldest first; those that ``q`` asks for, the best first."""
    wanted = call.query(ProductSearch)
    after = read_cursor(wanted.cursor, _Place)
    narrowed: dict[str, Any] = {
        "after": search.Place(rank=after.rank, id=after.id) if after is not None else None,
        "category_id": call.id("cat", wanted.category_id) if wanted.category_id is not None else None,
        "published": wanted.published or call.principal.is_public,
        "limit": wanted.limit + 1,
    }
    language = words.language_of(wanted.locale or call.principal.sales_channel.locale)
    async with call.database.connection() as db:
        if wanted.q is None:
            found = await search.list_products(db, **narrowed)
        else:
            found = await search.search_products(db, wanted.q, language=language, **narrowed)
        page = found[: wanted.limit]
        shown = await product_page.show_products(
            db,
            [each.product for each in page],
            audience=_audience(call),
            clock_offset=call.database.clock_offset,
        )
    return Page(data=shown, next_cursor=_cursor(page[-1].place) if len(found) > wanted.limit else None)


@route("GET", "/v1/products/{product_id}", permission=Permission.CATALOG_READ, answer=ProductView)
async def get_product(call: Call, product_id: UUID) -> ProductView:
    """One product."""
    async with call.database.connection() as db:
        product = await catalog.read_product(db, product_id=product_id)
        if call.principal.is_public and not product.published:
            raise not_found()
        shown = await product_page.show_products(
            db, [product], audience=_audience(call), clock_offset=call.database.clock_offset
        )
    return shown[0]


@route(
    "PATCH",
    "/v1/products/{product_id}",
    permission=Permission.CATALOG_WRITE,
    body=ProductChange,
    answer=ProductView,
    codes=("handle_taken", "version_conflict"),
)
async def change_product(call: Call, product_id: UUID) -> ProductView:
    """Edit a product, publish it, or take it out of every channel."""
    async with call.asking_first(lambda db: catalog.read_product(db, product_id=product_id)):
        given = await call.read(ProductChange)
        changes = _named(given)
        if not isinstance(given.tags, UnsetType):
            changes["tags"] = tuple(given.tags)
        if not isinstance(given.images, UnsetType):
            changes["images"] = _images(given.images)
        if not isinstance(given.category_ids, UnsetType):
            changes["category_ids"] = _category_ids(call, given.category_ids)

    async def work(db: Connection, _: datetime) -> ProductView:
        product = await catalog.change_product(db, product_id=product_id, changes=changes, version=call.if_match())
        call.audited(ids.show("prod", product_id), fields=sorted(changes))
        return product_page.product_view(product, audience=_audience(call))

    return await call.transact(work)


@route(
    "POST",
    "/v1/products/{product_id}/variants",
    permission=Permission.CATALOG_WRITE,
    body=NewVariant,
    answer=ProductView,
    status=201,
    codes=("sku_taken", "barcode_taken", "invalid_barcode", "too_many_variants", "version_conflict"),
)
async def add_variant(call: Call, product_id: UUID) -> Answer:
    """Add a variant to a product; answers the whole product."""
    async with call.asking_first(lambda db: catalog.read_product(db, product_id=product_id)):
        variant = _variant(product_id, 0, await call.read(NewVariant), where="")

    async def work(db: Connection, _: datetime) -> ProductView:
        product = await catalog.add_variant(db, product_id=product_id, variant=variant, version=call.if_match())
        call.audited(ids.show("prod", product_id), variant_id=ids.show("var", variant.id), sku=variant.sku)
        return product_page.product_view(product, audience=_audience(call))

    return await call.once(work, status=201)


@route(
    "PATCH",
    "/v1/products/{product_id}/variants/{variant_id}",
    permission=Permission.CATALOG_WRITE,
    body=VariantChange,
    answer=ProductView,
    codes=("barcode_taken", "invalid_barcode", "version_conflict"),
)
async def change_variant(call: Call, product_id: UUID, variant_id: UUID) -> ProductView:
    """Edit a variant: prices, barcode, whether it is for sale; answers the whole product."""

    async def has_variant(db: Connection) -> None:
        _variant_of(await catalog.read_product(db, product_id=product_id), variant_id)

    async with call.asking_first(has_variant):
        given = await call.read(VariantChange)
        changes = _named(given)
        prices = _prices_given(changes.pop("prices", None), changes.pop("price_lists", {}))
        if not isinstance(given.barcode, UnsetType):
            changes["gtin14"] = read_barcode(given.barcode, "/barcode") if given.barcode is not None else None

    async def work(db: Connection, _: datetime) -> ProductView:
        try:
            product = await catalog.change_variant(
                db,
                product_id=product_id,
                variant_id=variant_id,
                changes=changes,
                prices=prices,
                version=call.if_match(),
            )
        except VariantNotFound as error:
            raise not_found() from error
        fields = sorted([*changes, *(f"prices.{name}" for name in prices)])
        call.audited(ids.show("prod", product_id), variant_id=ids.show("var", variant_id), fields=fields)
        return product_page.product_view(product, audience=_audience(call))

    return await call.transact(work)


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
    audience = _audience(call)
    async with call.database.connection() as db:
        found = await catalog.find_variants(
            db, skus=[wanted.sku] if wanted.sku else [], gtin14s=gtins, hidden=not audience.is_public
        )
    page, next_cursor = cut(found, wanted, id_of=lambda variant: variant.id)
    return Page(
        data=[product_page.variant_view(variant, audience=audience) for variant in page], next_cursor=next_cursor
    )


class _Place:
    """A place in a list of products as its cursor has it: ``rank.id``."""

    def __init__(self, text: str) -> None:
        rank, _, product_id = text.partition(".")
        self.rank = int(rank)
        self.id = UUID(product_id)
        if not 0 <= self.rank <= search.RANK_MAX:
            raise ValueError(text)

    def __str__(self) -> str:
        return f"{self.rank}.{self.id}"


def _cursor(place: search.Place) -> str:
    return write_cursor(_Place(f"{place.rank}.{place.id}"))  # type: ignore[arg-type]  # it is written as a text


def _audience(call: Call) -> Audience:
    return Audience(is_public=call.principal.is_public, price_list=call.principal.sales_channel.price_list)


def _named(given: msgspec.Struct) -> dict[str, Any]:
    """The fields that a change names."""
    return {name: value for name, value in msgspec.structs.asdict(given).items() if value is not UNSET}


def _variant_of(product: catalog.Product, variant_id: UUID) -> catalog.Variant:
    try:
        return catalog.variant_of(product, variant_id)
    except VariantNotFound as error:
        raise not_found() from error


def _images(given: Sequence[NewImage]) -> tuple[catalog.Image, ...]:
    return tuple(catalog.Image(url=image.url, alt=image.alt) for image in given)


def _category_ids(call: Call, given: Sequence[str]) -> tuple[UUID, ...]:
    return tuple(sorted({call.id("cat", each) for each in given}))


def _prices_given(
    prices: Sequence[PositiveMoney] | None, price_lists: Mapping[str, Sequence[PositiveMoney]], where: str = ""
) -> dict[str, list[catalog.Price]]:
    """The prices by their list, each list that is named with all of its prices."""
    lists = {name: (f"{where}/price_lists/{name}", listed) for name, listed in price_lists.items()}
    if catalog.DEFAULT_PRICE_LIST in lists:
        raise _invalid(lists[catalog.DEFAULT_PRICE_LIST][0], "The prices of this list stand in prices.")
    if prices is not None:
        lists[catalog.DEFAULT_PRICE_LIST] = (f"{where}/prices", prices)
    for pointer, listed in lists.values():
        currencies = [price.currency for price in listed]
        if len(set(currencies)) != len(currencies):
            raise _invalid(pointer, "One price for each currency.")
    return {
        name: [catalog.Price(currency=price.currency, amount_minor=price.amount, price_list=name) for price in listed]
        for name, (_, listed) in lists.items()
    }


def _product(call: Call, given: NewProduct) -> catalog.Product:
    product_id = ids.new()
    return catalog.Product(
        id=product_id,
        handle=given.handle
        or f"{slug(words.folded_text(given.title))[:180]}-{ids.show('p', product_id)[-8:]}".lstrip("-"),
        title=given.title,
        description_html=given.description_html,
        vendor=given.vendor,
        kind=given.kind,
        tags=tuple(given.tags),
        published=given.published,
        images=_images(given.images),
        category_ids=_category_ids(call, given.category_ids),
        variants=tuple(
            _variant(product_id, position, variant, where=f"/variants/{position - 1}")
            for position, variant in enumerate(given.variants, start=1)
        ),
    )


def _variant(product_id: UUID, position: int, given: NewVariant, *, where: str) -> catalog.Variant:
    if not given.sku.isprintable() or given.sku != given.sku.strip():
        raise _invalid(f"{where}/sku", "A SKU has printable characters, and no spaces around them.")
    prices = _prices_given(given.prices, given.price_lists, where)
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
        prices=tuple(price for listed in prices.values() for price in listed),
    )


def _invalid(pointer: str, detail: str) -> Problem:
    return Problem("invalid_request", detail, errors=[FieldError(pointer=pointer, detail=detail)])


ROUTES = (create_product, list_products, get_product, change_product, add_variant, change_variant, find_variants)
