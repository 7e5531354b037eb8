"""Shopify's product CSV: products over several rows, their variants, and every row that cannot be taken.

``read`` streams. A variant carries the handle of its product, and a product comes right before the first of its
variants, wherever in the file the others stand: rows of one handle need not be neighbours, and a product of which no
variant can be taken never appears. What is kept for the whole file is one small entry for each product and variant.

Columns are found by their heading, in the names of Shopify's exports and in those of its present template. Handle,
Title and Variant Price must be there; any other may be missing, and columns we do not know are skipped.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

from commercehub.sales.csv_records import Record, Refused, Source, records
from commercehub.sales.shopify_cells import (
    NAME_CHARS_MAX,
    SKU_CHARS_MAX,
    BadRow,
    Cells,
    Columns,
    OversellPolicy,
    slug,
)

_SKU_DIGEST_BYTES: Final = 4
_PUNCTUATION: Final = re.compile(r"[^\w\s-]")


class ProductRow(msgspec.Struct, frozen=True, kw_only=True):
    """A product as its first row describes it. The description is the file's own HTML: not cleaned, not to be trusted."""

    line: int
    handle: str
    title: str
    description_html: str
    vendor: str
    kind: str
    tags: tuple[str, ...]
    published: bool
    image_url: str | None


class VariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """One variant that can be sold, under the handle of a product that came before it.

    ``position`` counts the product's variant rows from 1, refused ones included, so that mending one moves no other.
    ``title`` and ``options`` are empty for a product's only variant. ``quantity`` is ``None`` where the file gives
    none; a quantity without an inventory tracker beside it is taken as given. ``image_url`` is the variant's own.
    """

    line: int
    handle: str
    position: int
    sku: str
    sku_given: bool
    title: str | None
    options: tuple[tuple[str, str], ...]
    price_minor: int
    compare_at_minor: int | None
    barcode: str | None
    gtin14: str | None
    quantity: int | None
    policy: OversellPolicy
    weight_grams: int | None
    requires_shipping: bool
    taxable: bool
    image_url: str | None


def read(source: Source, *, currency: str) -> Iterator[ProductRow | VariantRow | Refused]:
    """Every product, variant and refused row of the file, in its order; prices are in minor units of ``currency``.

    A row without a SKU gets one made of its handle and options, the same in every run. In one file a SKU (ignoring
    case) and a barcode belong to the first row that has them. Raises ``UnreadableFile`` at once for a heading that is
    missing or lacks columns, and while reading for a line that is not UTF-8.
    """
    heading, rows = records(source)
    return _read(rows, Columns(heading), _Shelf(currency))


def _read(
    rows: Iterator[Record | Refused], columns: Columns, shelf: "_Shelf"
) -> Iterator[ProductRow | VariantRow | Refused]:
    for row in rows:
        if isinstance(row, Refused):
            yield row
            continue
        try:
            yield from shelf.put(row.line, columns.cells(row))
        except BadRow as refusal:
            yield Refused(line=row.line, reason=str(refusal))


class _Shelf:
    """What has been read so far: enough to complete a product's later rows and to find what stands twice."""

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._products: dict[str, _Product] = {}
        self._sku_lines: dict[str, int] = {}
        self._barcode_lines: dict[str, int] = {}
        self._choice_lines: dict[tuple[str, ...], int] = {}

    def put(self, line: int, cells: Cells) -> list[ProductRow | VariantRow]:
        """The variant of this row, after its product if that has not been told yet; nothing for a mere picture."""
        if not cells:
            return []
        handle = cells.handle
        product = self._products.get(handle)
        if not cells.of_a_variant and (product is not None or (cells.pictured and not cells.titled)):
            return []
        if product is None:
            product = self._products[handle] = _Product(line, handle, cells)
        product.rows += 1
        variant = self._variant(line, handle, product, cells)
        told, product.untold = product.untold, None
        return [variant] if told is None else [told, variant]

    def _variant(self, line: int, handle: str, product: "_Product", cells: Cells) -> VariantRow:
        options = cells.options(product.option_names)
        values = tuple(value for _, value in options)
        title = " / ".join(values) or None
        if title is not None and len(title) > NAME_CHARS_MAX:
            raise BadRow(f"the option values together are longer than {NAME_CHARS_MAX} characters")
        barcode, gtin14 = cells.barcode()
        given_sku = cells.sku()
        variant = VariantRow(
            line=line,
            handle=handle,
            position=product.rows,
            sku=given_sku or self._derived_sku(handle, values),
            sku_given=given_sku is not None,
            title=title,
            options=options,
            price_minor=cells.price(self._currency),
            compare_at_minor=cells.amount("compare_at", self._currency),
            barcode=barcode,
            gtin14=gtin14,
            quantity=cells.quantity(),
            policy=cells.policy(),
            weight_grams=cells.weight_grams(),
            requires_shipping=cells.truth("requires_shipping", default=True),
            taxable=cells.truth("taxable", default=True),
            image_url=cells.url("variant_image"),
        )
        self._claim(variant, (handle, *values))
        return variant

    def _claim(self, variant: VariantRow, choice: tuple[str, ...]) -> None:
        key = _sku_key(variant.sku)
        if key in self._sku_lines:
            raise BadRow(f"the SKU {variant.sku} is already on line {self._sku_lines[key]}")
        if variant.gtin14 is not None:
            if variant.gtin14 in self._barcode_lines:
                raise BadRow(f"the barcode {variant.barcode} is already on line {self._barcode_lines[variant.gtin14]}")
            self._barcode_lines[variant.gtin14] = variant.line
        self._sku_lines[key] = variant.line
        self._choice_lines.setdefault(choice, variant.line)

    def _derived_sku(self, handle: str, values: tuple[str, ...]) -> str:
        """``classic-varsity-top-small``, with a digest of the whole where those words alone would not do.

        They do not where they are too long, where another row has them, and where they lack punctuation, which may be
        all that tells "A" from "A+": with the digest it does not matter which of the two the file has first.
        """
        line = self._choice_lines.get((handle, *values))
        if line is not None:
            raise BadRow(f"no SKU, and nothing else tells this variant from the one on line {line}")
        text = " ".join((handle, *values))
        sku = slug(text)
        if 0 < len(sku) <= SKU_CHARS_MAX and not _PUNCTUATION.search(text) and _sku_key(sku) not in self._sku_lines:
            return sku
        whole = "\n".join((handle, *values)).encode()
        digest = blake2b(whole, digest_size=_SKU_DIGEST_BYTES).hexdigest()
        words = sku[: SKU_CHARS_MAX - len(digest) - 1].rstrip("-")
        return f"{words}-{digest}" if words else digest


class _Product:
    """A product under way: its option names, how many variant rows it had, and itself until it has been told."""

    def __init__(self, line: int, handle: str, cells: Cells) -> None:
        if not cells.titled:
            raise BadRow("Title: missing, and no row above has given this handle a title that could be taken")
        self.rows = 0
        self.option_names = cells.option_names()
        self.untold: ProductRow | None = ProductRow(
            line=line,
            handle=handle,
            title=cells.text("title"),
            description_html=cells.description(),
            vendor=cells.text("vendor"),
            kind=cells.text("kind"),
            tags=cells.tags(),
            published=cells.published(),
            image_url=cells.url("product_image"),
        )


def _sku_key(sku: str) -> str:
    """What SKUs that differ only in case share.

    PostgreSQL lowers the Turkish dotted capital I to a plain i, Unicode's case folding keeps the dot as a mark of its
    own: it is dropped, so that two SKUs which are one to the database are one here.
    """
    return sku.casefold().replace("i\u0307", "i")
