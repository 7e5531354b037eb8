"""Shopify's product CSV: what arrives, what is refused and by which line, and that nothing else ever happens."""

import csv
import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commercehub.sales.csv_records import Refused, Source, UnreadableFile
from commercehub.sales.shopify import ProductRow, VariantRow, read
from commercehub.sales.shopify_cells import OversellPolicy
from commercehub.seed import CATALOG

HEADING = (
    "Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Option2 Name,Option2 Value,"
    "Variant SKU,Variant Grams,Variant Inventory Qty,Variant Inventory Policy,Variant Price,Variant Compare At Price,"
    "Variant Requires Shipping,Variant Taxable,Variant Barcode,Image Src,Variant Image,Status"
)
COLUMNS = HEADING.split(",")
MUG = {"Handle": "mug", "Title": "Mug", "Variant SKU": "MUG", "Variant Price": "12.50"}

# The files that the import was asked for stand beside the checkout, if at all, and do not belong to the repository.
REAL_FILES = sorted((Path(__file__).parents[3] / "../shared/data").glob("shopify-*.csv")) or [CATALOG]


def text_of(*rows: dict[str, str], columns: Sequence[str] = COLUMNS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def everything(source: Source, currency: str = "USD") -> list[ProductRow | VariantRow | Refused]:
    return list(read(source, currency=currency))


def products(source: Source) -> list[ProductRow]:
    return [item for item in everything(source) if isinstance(item, ProductRow)]


def variants(source: Source, currency: str = "USD") -> list[VariantRow]:
    return [item for item in everything(source, currency) if isinstance(item, VariantRow)]


def refused(source: Source, currency: str = "USD") -> list[Refused]:
    return [item for item in everything(source, currency) if isinstance(item, Refused)]


def the_refusal(source: Source, currency: str = "USD") -> Refused:
    (refusal,) = refused(source, currency)
    return refusal


def the_variant(**given_cells: str) -> VariantRow:
    return variants(text_of(MUG | {name.replace("_", " "): text for name, text in given_cells.items()}))[0]


# --- Whole files


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_every_row_of_a_real_file_arrives(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    read_rows = variants(path.read_bytes())
    assert [(v.quantity, v.barcode or "", f"{v.price_minor / 100:g}") for v in read_rows] == [
        (int(row["Variant Inventory Qty"]), row["Variant Barcode"], f"{float(row['Variant Price']):g}") for row in rows
    ]
    assert refused(path.read_bytes()) == []


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_a_real_file_reads_the_same_twice(path: Path) -> None:
    with path.open("rb") as binary, path.open(newline="", encoding="utf-8") as text:
        assert everything(binary) == everything(text)


@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_every_product_of_a_real_file_comes_right_before_its_first_variant(path: Path) -> None:
    items = everything(path.read_bytes())
    for item, following in pairwise(items):
        if isinstance(item, ProductRow):
            assert isinstance(following, VariantRow)
            assert (following.handle, following.position) == (item.handle, 1)


def test_the_headings_of_the_present_template_are_read() -> None:
    columns = ["Title", "URL handle", "Description", "SKU", "Price", "Inventory quantity", "Weight value (grams)"]
    row = dict(zip(columns, ["Mug", "mug", "<p>Thick</p>", "MUG", "12.50", "7", "390.5"], strict=True))
    product, variant = everything(text_of(row, columns=columns))
    assert isinstance(product, ProductRow)
    assert isinstance(variant, VariantRow)
    assert (product.handle, product.title, product.description_html) == ("mug", "Mug", "<p>Thick</p>")
    assert (variant.sku, variant.price_minor, variant.quantity, variant.weight_grams) == ("MUG", 1250, 7, 391)


def test_optional_columns_may_be_missing_and_unknown_ones_are_skipped() -> None:
    columns = ["Cost per item", "Handle", "Title", "Variant Price"]
    row = {"Cost per item": "3", "Handle": "mug", "Title": "Mug", "Variant Price": "12.50"}
    (variant,) = variants(text_of(row, columns=columns))
    assert (variant.quantity, variant.weight_grams, variant.gtin14, variant.compare_at_minor) == (None,) * 4


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("Handle,Title\nmug,Mug\n", "lacks Variant Price"),
        ("name,cost\nMug,1\n", "lacks Handle, Title, Variant Price"),
        (HEADING.replace(",", ";"), "separated by commas"),
        (HEADING + ",Title\n", "Title stands twice"),
        (b"PK\x03\x04\x14\x00\x00\xff\xfe", "line 1 is not UTF-8"),
    ],
)
def test_a_file_that_is_no_product_csv_says_what_is_missing(source: Source, named: str) -> None:
    with pytest.raises(UnreadableFile, match=named):
        read(source, currency="USD")


# --- Products


def test_a_product_is_what_its_first_row_says() -> None:
    first = MUG | {
        "Body (HTML)": "<p>Thick,\nheavy</p>",
        "Vendor": "Kilnside",
        "Type": "Kitchen",
        "Tags": "mugs,  stone  ware, mugs,",
        "Image Src": "https://pictures.test/1.jpg",
        "Option1 Name": "Size",
        "Option1 Value": "Small",
    }
    later = {"Handle": "mug", "Title": "Not this", "Option1 Value": "Large", "Variant Price": "15"}
    assert products(text_of(first, later)) == [
        ProductRow(
            line=2,
            handle="mug",
            title="Mug",
            description_html="<p>Thick,\nheavy</p>",
            vendor="Kilnside",
            kind="Kitchen",
            tags=("mugs", "stone ware"),
            published=True,
            image_url="https://pictures.test/1.jpg",
        )
    ]


@pytest.mark.parametrize(
    ("published", "status", "expected"),
    [("", "", True), ("TRUE", "active", True), ("false", "", False), ("true", "draft", False), ("", "archived", False)],
)
def test_a_product_is_published_unless_a_column_says_otherwise(published: str, status: str, *, expected: bool) -> None:
    (product,) = products(text_of(MUG | {"Published": published, "Status": status}))
    assert product.published is expected


def test_rows_of_one_handle_need_not_be_neighbours() -> None:
    size = {"Option1 Name": "Size", "Option1 Value": "Small", "Variant SKU": ""}
    source = text_of(
        {"Handle": "tee", "Title": "Tee", "Variant Price": "20"} | size,
        MUG,
        {"Handle": "Tee", "Option1 Value": "Large", "Variant Price": "21"},
    )
    assert [(v.handle, v.position, v.title) for v in variants(source)] == [
        ("tee", 1, "Small"),
        ("mug", 1, None),
        ("tee", 2, "Large"),
    ]
    assert [product.handle for product in products(source)] == ["tee", "mug"]


def test_a_row_that_only_adds_a_picture_is_neither_a_variant_nor_refused() -> None:
    source = text_of(MUG, {"Handle": "mug", "Image Src": "https://pictures.test/2.jpg"})
    assert len(everything(source)) == 2


def test_a_product_none_of_whose_variants_can_be_taken_does_not_appear() -> None:
    source = text_of(MUG | {"Variant Price": "dear"}, {"Handle": "mug", "Image Src": "https://pictures.test/2.jpg"})
    assert [(item.line, type(item)) for item in everything(source)] == [(2, Refused)]


def test_a_product_whose_first_variant_is_refused_comes_with_its_second() -> None:
    first = MUG | {"Option1 Name": "Size", "Option1 Value": "Small", "Variant Price": ""}
    second = {"Handle": "mug", "Option1 Value": "Large", "Variant Price": "15"}
    refusal, product, variant = everything(text_of(first, second))
    assert (refusal.line, product.line, variant.line) == (2, 2, 3)
    assert isinstance(variant, VariantRow)
    assert (variant.options, variant.position) == ((("Size", "Large"),), 2)


def test_the_rows_of_a_product_whose_title_cannot_be_taken_are_each_refused() -> None:
    first = MUG | {"Title": "M" * 256}
    second = {"Handle": "mug", "Option1 Value": "Large", "Variant Price": "15"}
    assert [(r.line, r.reason.split(":")[0]) for r in refused(text_of(first, second))] == [(2, "Title"), (3, "Title")]


def test_a_row_without_a_handle_has_the_one_its_title_makes() -> None:
    (product,) = products(text_of(MUG | {"Handle": "", "Title": "Чашка & блюдце, 12 oz"}))
    assert product.handle == "чашка-блюдце-12-oz"


# --- Variants


def test_a_variant_is_what_its_row_says() -> None:
    row = MUG | {
        "Option1 Name": "Color",
        "Option1 Value": "Blue",
        "Option2 Name": "Size",
        "Option2 Value": "12 oz",
        "Variant Grams": "390",
        "Variant Inventory Qty": "7",
        "Variant Inventory Policy": "continue",
        "Variant Compare At Price": "15",
        "Variant Requires Shipping": "false",
        "Variant Taxable": "FALSE",
        "Variant Barcode": "'978-0-553-38095-8",
        "Variant Image": "https://pictures.test/blue.jpg",
    }
    assert variants(text_of(row)) == [
        VariantRow(
            line=2,
            handle="mug",
            position=1,
            sku="MUG",
            sku_given=True,
            title="Blue / 12 oz",
            options=(("Color", "Blue"), ("Size", "12 oz")),
            price_minor=1250,
            compare_at_minor=1500,
            barcode="9780553380958",
            gtin14="09780553380958",
            quantity=7,
            policy=OversellPolicy.CONTINUE,
            weight_grams=390,
            requires_shipping=False,
            taxable=False,
            image_url="https://pictures.test/blue.jpg",
        )
    ]


def test_the_default_title_is_no_option() -> None:
    variant = the_variant(Option1_Name="Title", Option1_Value="Default Title")
    assert (variant.title, variant.options) == (None, ())


def test_empty_cells_mean_unknown_or_the_usual() -> None:
    variant = the_variant()
    assert (variant.quantity, variant.barcode, variant.gtin14, variant.weight_grams) == (None, None, None, None)
    assert (variant.policy, variant.requires_shipping, variant.taxable) == (OversellPolicy.DENY, True, True)


@pytest.mark.parametrize(("currency", "price_minor"), [("USD", 1200), ("JPY", 12), ("KWD", 12_000)])
def test_a_price_is_in_minor_units_of_the_currency(currency: str, price_minor: int) -> None:
    assert variants(text_of(MUG | {"Variant Price": "12.00"}), currency)[0].price_minor == price_minor


def test_the_apostrophe_of_an_export_is_no_part_of_the_sku() -> None:
    assert the_variant(Variant_SKU="'9780553380958").sku == "9780553380958"


def test_a_colon_in_a_sku_is_fine() -> None:
    assert the_variant(Variant_SKU="MUG:blue").sku == "MUG:blue"


def sized(*values: str, handle: str = "classic-varsity-top") -> str:
    option = {"Handle": handle, "Title": "Top", "Option1 Name": "Size", "Variant Price": "60"}
    return text_of(*(option | {"Option1 Value": value} for value in values))


def test_a_row_without_a_sku_gets_one_from_its_handle_and_options() -> None:
    assert [v.sku for v in variants(sized("Small", "Extra Large"))] == [
        "classic-varsity-top-small",
        "classic-varsity-top-extra-large",
    ]


def test_a_product_without_options_gets_its_handle_as_sku() -> None:
    variant = the_variant(Variant_SKU="", Option1_Name="Title", Option1_Value="Default Title")
    assert (variant.sku, variant.sku_given) == ("mug", False)


def test_made_skus_that_only_punctuation_would_tell_apart_do_not_depend_on_which_comes_first() -> None:
    there, back = variants(sized("A", "A+", "A/")), variants(sized("A/", "A+", "A"))
    assert {v.title: v.sku for v in there} == {v.title: v.sku for v in back}
    assert len({v.sku for v in there}) == 3


def test_a_made_sku_that_another_row_has_gets_a_digest() -> None:
    taken = MUG | {"Variant SKU": "Teapot"}
    given_sku, made = variants(text_of(taken, {"Handle": "teapot", "Title": "Teapot", "Variant Price": "30"}))
    assert given_sku.sku == "Teapot"
    assert made.sku.startswith("teapot-")


@pytest.mark.parametrize("value", ["Extra " * 40, "小", "!!!", "½ Liter"])
def test_a_made_sku_is_short_printable_and_the_same_in_every_run(value: str) -> None:
    (variant,) = variants(sized(value, handle="h" * 40))
    assert 1 <= len(variant.sku) <= 64
    assert variant.sku.isprintable()
    assert variants(sized("Small", value, handle="h" * 40))[1].sku == variant.sku


# --- What is refused


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("Variant Price", ""),
        ("Variant Price", "dear"),
        ("Variant Price", "1,299.00"),
        ("Variant Price", "$5"),
        ("Variant Price", "-5"),
        ("Variant Price", "17.995"),
        ("Variant Price", "NaN"),
        ("Variant Price", "9" * 400),
        ("Variant Compare At Price", "dear"),
        ("Variant Inventory Qty", "-1"),
        ("Variant Inventory Qty", "1.5"),
        ("Variant Inventory Qty", "1e3"),
        ("Variant Inventory Qty", "٣"),
        ("Variant Inventory Qty", "2147483648"),
        ("Variant Inventory Qty", "9" * 5_000),
        ("Variant Grams", "-1"),
        ("Variant Grams", "heavy"),
        ("Variant Barcode", "9780553380957"),
        ("Variant Barcode", "0553380958"),
        ("Variant Barcode", "9.78055E+12"),
        ("Variant Inventory Policy", "maybe"),
        ("Variant Taxable", "perhaps"),
        ("Published", "soon"),
        ("Variant SKU", "S" * 65),
        ("Variant SKU", "A\x07B"),
        ("Variant SKU", "A\u200bB"),
        ("Handle", "h" * 256),
        ("Handle", "mug\x07"),
        ("Title", ""),
        ("Title", "T" * 256),
        ("Vendor", "V" * 256),
        ("Type", "T" * 256),
        ("Tags", "t" * 256),
        ("Tags", ",".join(str(n) for n in range(251))),
        ("Option1 Value", "O" * 256),
        ("Body (HTML)", "é" * 32_769),
        ("Image Src", "https://pictures.test/" + "i" * 2_048),
        ("Variant Image", "https://pictures.test/" + "i" * 2_048),
    ],
)
def test_a_bad_cell_is_refused_by_line_and_heading_and_the_rest_goes_in(column: str, text: str) -> None:
    bad = MUG | {"Option1 Name": "Size", column: text}
    source = text_of(bad, {"Handle": "pot", "Title": "Pot", "Variant Price": "30"})
    refusal = the_refusal(source)
    assert refusal.line == 2
    assert refusal.reason.startswith(f"{column}: ")
    assert len(refusal.reason) < 200
    assert [v.handle for v in variants(source)] == ["pot"]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("Variant Price", "0"),
        ("Variant Inventory Qty", "0"),
        ("Variant Inventory Qty", "2147483647"),
        ("Variant SKU", "S" * 64),
        ("Handle", "h" * 255),
        ("Title", "T" * 255),
        ("Body (HTML)", "é" * 32_768),
    ],
)
def test_a_cell_at_its_limit_is_taken(column: str, text: str) -> None:
    assert refused(text_of(MUG | {column: text})) == []


def test_a_row_with_neither_handle_nor_title_is_refused() -> None:
    assert the_refusal(text_of({"Variant Price": "5"})).reason.startswith("Handle: missing")


def test_an_option_value_without_a_name_is_refused() -> None:
    assert "no Option2 Name" in the_refusal(text_of(MUG | {"Option2 Value": "Large"})).reason


def test_option_values_that_make_too_long_a_title_are_refused() -> None:
    row = MUG | {"Option1 Name": "A", "Option1 Value": "a" * 200, "Option2 Name": "B", "Option2 Value": "b" * 200}
    assert "together" in the_refusal(text_of(row)).reason


@pytest.mark.parametrize(("first", "second"), [("MUG", "mug"), ("STRASSE", "straße"), ("I-1", "İ-1"), ("K", "\u212a")])
def test_the_later_of_two_equal_skus_is_refused_whatever_their_case(first: str, second: str) -> None:
    source = text_of(MUG | {"Variant SKU": first}, MUG | {"Handle": "cup", "Variant SKU": second})
    assert the_refusal(source) == Refused(line=3, reason=f"the SKU {second} is already on line 2")


def test_a_sku_of_a_refused_row_is_still_free() -> None:
    source = text_of(MUG | {"Variant Price": "dear"}, MUG | {"Handle": "cup"})
    assert [v.line for v in variants(source)] == [3]


def test_the_later_of_two_equal_barcodes_is_refused() -> None:
    upc_a, upc_e = {"Variant Barcode": "042100005264"}, {"Variant Barcode": "04252614"}
    source = text_of(MUG | upc_a, MUG | upc_e | {"Handle": "cup", "Variant SKU": "CUP"})
    assert the_refusal(source) == Refused(line=3, reason="the barcode 04252614 is already on line 2")


def test_two_rows_that_neither_a_sku_nor_an_option_tells_apart_cannot_both_go_in() -> None:
    refusal = the_refusal(sized("Small", "Small"))
    assert refusal == Refused(line=3, reason="no SKU, and nothing else tells this variant from the one on line 2")


@pytest.mark.parametrize("text", ["A\0B", "A\ud800B"])
def test_a_character_that_cannot_be_stored_is_refused_in_any_column(text: str) -> None:
    assert the_refusal(text_of(MUG | {"Variant Image": text}, MUG)).line == 2


# --- For any input at all

LINES = st.lists(st.text("ab,\"\n\r\0;'é\ud800 1.-", max_size=30), max_size=20)


@given(st.one_of(st.text(), st.binary()))
def test_a_file_without_the_heading_is_unreadable_and_nothing_else(source: str | bytes) -> None:
    with pytest.raises(UnreadableFile):
        everything(source)


@given(LINES)
def test_any_text_below_the_heading_is_read_to_the_end(lines: list[str]) -> None:
    source = "\n".join([HEADING, *lines])
    for item in everything(source):
        assert 2 <= item.line <= source.count("\n") + source.count("\r") + 1


@given(st.lists(st.fixed_dictionaries({}, optional={name: st.text(max_size=12) for name in COLUMNS}), max_size=8))
def test_any_cells_are_read_the_same_twice(rows: list[dict[str, str]]) -> None:
    assert everything(text_of(*rows)) == everything(text_of(*rows))


NAMES = st.sampled_from(["tee", "Tee", "tee-s", "S", "s", "S+", "İ", "i", "", " ", "ß", "SS"])
CHOICES = dict.fromkeys(("Handle", "Title", "Option1 Value", "Option2 Value", "Variant SKU"), NAMES)


@given(st.lists(st.fixed_dictionaries(CHOICES), max_size=12))
def test_no_two_variants_share_a_sku_and_each_has_a_product(rows: list[dict[str, str]]) -> None:
    usual = {"Variant Price": "1", "Option1 Name": "Size", "Option2 Name": "Cut"}
    items = everything(text_of(*(usual | row for row in rows)))
    skus = [item.sku.lower() for item in items if isinstance(item, VariantRow)]
    assert len(set(skus)) == len(skus)
    handles = {item.handle for item in items if isinstance(item, VariantRow)}
    assert handles == {item.handle for item in items if isinstance(item, ProductRow)}
