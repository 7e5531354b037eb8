"""The demo's own catalogue and shop: what every journey and every newcomer relies on."""

from zoneinfo import ZoneInfo

import pytest

from commercehub.sales.barcodes import is_in_store
from commercehub.sales.csv_records import Refused
from commercehub.sales.shopify import ProductRow, VariantRow, read
from commercehub.seed import CATALOG, shop

ITEMS = list(read(CATALOG.read_bytes(), currency=shop.CURRENCY))
PRODUCTS = [item for item in ITEMS if isinstance(item, ProductRow)]
VARIANTS = [item for item in ITEMS if isinstance(item, VariantRow)]
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def test_every_row_goes_in() -> None:
    assert [item for item in ITEMS if isinstance(item, Refused)] == []


def test_there_are_some_40_products_and_120_variants() -> None:
    assert (len(PRODUCTS), len(VARIANTS)) == (43, 120)


def test_every_variant_has_a_barcode_of_its_own_from_the_range_for_demonstrations() -> None:
    numbers = {variant.gtin14 for variant in VARIANTS if variant.gtin14 is not None}
    assert len(numbers) == len(VARIANTS)
    assert {number[:4] for number in numbers} == {"0952"}
    assert not any(is_in_store(number) for number in numbers)


def test_every_sku_is_given_and_short_enough_to_say() -> None:
    assert all(variant.sku_given and len(variant.sku) <= 16 for variant in VARIANTS)


@pytest.mark.parametrize("sku", ["TEE-S", "TEE-M", "TEE-L", "TEE-XL"])
def test_the_tee_of_the_api_page_costs_what_it_says_there(sku: str) -> None:
    assert [variant.price_minor for variant in VARIANTS if variant.sku == sku] == [1999]


def test_the_mug_of_the_api_page_is_there() -> None:
    assert [variant.options for variant in VARIANTS if variant.sku == "MUG"] == [()]


def test_there_is_stock_of_everything() -> None:
    assert all(5 <= (variant.quantity or 0) <= 120 for variant in VARIANTS)


def test_every_product_says_what_it_is() -> None:
    assert all(p.published and p.vendor and p.kind and p.tags and len(p.description_html) > 40 for p in PRODUCTS)


def test_a_former_price_is_higher_than_the_present_one() -> None:
    former = [(v.compare_at_minor, v.price_minor) for v in VARIANTS if v.compare_at_minor is not None]
    assert former
    assert all(compare_at > price for compare_at, price in former)


def test_every_tax_class_of_a_product_has_a_rate() -> None:
    rated = {rate.tax_class for rate in shop.TAX_RATES}
    assert {shop.TAX_CLASSES_BY_KIND.get(product.kind, shop.TAX_CLASS_DEFAULT) for product in PRODUCTS} == rated


def test_every_kind_with_a_tax_class_of_its_own_is_sold() -> None:
    assert set(shop.TAX_CLASSES_BY_KIND) <= {product.kind for product in PRODUCTS}


def test_there_is_one_warehouse_and_there_are_three_stores() -> None:
    assert [(location.code, location.kind) for location in shop.LOCATIONS] == [
        ("DC1", "warehouse"),
        ("S1", "store"),
        ("S2", "store"),
        ("S3", "store"),
    ]


def test_only_stores_have_tills_and_the_first_has_two() -> None:
    assert [len(location.registers) for location in shop.LOCATIONS] == [0, 2, 1, 1]
    assert [("till" in location.capabilities) for location in shop.LOCATIONS] == [False, True, True, True]


def test_the_warehouse_has_everything_and_each_store_a_part() -> None:
    warehouse, *stores = (location.stock_share_percent for location in shop.LOCATIONS)
    assert warehouse == 100
    assert all(0 < share < 100 for share in stores)


@pytest.mark.parametrize("location", shop.LOCATIONS, ids=lambda location: location.code)
def test_opening_hours_are_pairs_of_local_times_in_order(location: shop.Location) -> None:
    assert ZoneInfo(location.timezone)
    assert set(location.opening_hours) <= set(DAYS)
    for spans in location.opening_hours.values():
        times = [time for span in spans for time in span]
        assert times == sorted(times)
        assert all(len(time) == 5 and "00:00" <= time <= "23:59" for time in times)


def test_there_is_a_sales_channel_of_every_kind() -> None:
    kinds = [channel.kind for channel in shop.SALES_CHANNELS]
    assert kinds == ["web", "app", "store", "call_center", "chat", "agent", "back_office"]


def test_every_way_of_delivery_has_a_price() -> None:
    assert {rate.method: rate.amount_minor for rate in shop.DELIVERY_RATES} == {
        "ship": 499,
        "express": 1299,
        "pickup": 0,
        "carry_out": 0,
        "digital": 0,
    }
