"""A product as its reader may see it, with what can be had of each variant: one read of the stock for all of a page."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from asyncpg import Connection

import inventory
from commercehub import ids
from commercehub.sales.catalog import DEFAULT_PRICE_LIST, Product, Variant
from payments.money import Money


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Who reads. The public sees what is for sale, at the prices of its channel; staff sees everything."""

    is_public: bool
    price_list: str = DEFAULT_PRICE_LIST


class AvailabilityTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What can be had of a variant everywhere together, after safety stock: sent, and fetched."""

    available_to_ship: int
    available_for_pickup: int


class ImageView(msgspec.Struct, frozen=True, kw_only=True):
    """A picture by its address. The hub keeps the address, and never fetches it."""

    url: str
    alt: str
    position: int


class VariantView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A variant. ``price_lists``, for staff: its prices in the lists that have a name. ``availability``: on a page."""

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
    for_sale: bool
    price_lists: dict[str, list[Money]] | None = None
    availability: AvailabilityTotals | None = None


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
    version: int
    category_ids: list[str]
    images: list[ImageView]
    variants: list[VariantView]


async def show_products(
    db: Connection, products: Sequence[Product], *, audience: Audience, clock_offset: timedelta
) -> list[ProductView]:
    """The page of some products."""
    skus = sorted({variant.sku for product in products for variant in product.variants})
    levels = await inventory.read_levels(db, skus=skus, clock_offset=clock_offset) if skus else []
    to_ship, for_pickup = dict.fromkeys(skus, 0), dict.fromkeys(skus, 0)
    for level in levels:
        if "ship" in level.capabilities:
            to_ship[level.sku] += level.available
        if "pickup" in level.capabilities:
            for_pickup[level.sku] += level.available
    totals = {
        sku: AvailabilityTotals(available_to_ship=to_ship[sku], available_for_pickup=for_pickup[sku]) for sku in skus
    }
    return [product_view(product, audience=audience, totals=totals) for product in products]


def product_view(
    product: Product, *, audience: Audience, totals: dict[str, AvailabilityTotals] | None = None
) -> ProductView:
    """A product, with totals by SKU if they were read."""
    return ProductView(
        id=ids.show("prod", product.id),
        handle=product.handle,
        title=product.title,
        description_html=product.description_html,
        vendor=product.vendor,
        kind=product.kind,
        tags=list(product.tags),
        published=product.published,
        version=product.version,
        category_ids=[ids.show("cat", category_id) for category_id in product.category_ids],
        images=[
            ImageView(url=image.url, alt=image.alt, position=position)
            for position, image in enumerate(product.images, start=1)
        ],
        variants=[
            variant_view(variant, audience=audience, totals=totals)
            for variant in product.variants
            if variant.for_sale or not audience.is_public
        ],
    )


def variant_view(
    variant: Variant, *, audience: Audience, totals: dict[str, AvailabilityTotals] | None = None
) -> VariantView:
    """A variant, with its totals if they were read."""
    shown = audience.price_list if audience.is_public else DEFAULT_PRICE_LIST
    lists: dict[str, list[Money]] = {}
    for price in variant.prices:
        lists.setdefault(price.price_list, []).append(Money(price.amount_minor, price.currency))
    named = {name: prices for name, prices in lists.items() if name != DEFAULT_PRICE_LIST}
    return VariantView(
        id=ids.show("var", variant.id),
        product_id=ids.show("prod", variant.product_id),
        sku=variant.sku,
        barcode=variant.barcode,
        title=variant.title,
        options=list(variant.options),
        prices=lists.get(shown, []),
        tax_class=variant.tax_class,
        unit=variant.unit,
        quantity_scale=variant.quantity_scale,
        weight_grams=variant.weight_grams,
        requires_shipping=variant.requires_shipping,
        for_sale=variant.for_sale,
        price_lists=named if named and not audience.is_public else None,
        availability=totals.get(variant.sku) if totals is not None else None,
    )
