"""The cells of one row of Shopify's product CSV, found by their headings and read one by one."""

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Final
from unicodedata import normalize

from commercehub.sales.barcodes import InvalidBarcode, gtin14
from commercehub.sales.csv_records import Record, UnreadableFile
from payments import money

HANDLE_CHARS_MAX: Final = 255
NAME_CHARS_MAX: Final = 255
"""Of a title, vendor, kind, tag, option name and option value each, and of a variant's title as a whole."""

DESCRIPTION_BYTES_MAX: Final = 65_536
URL_CHARS_MAX: Final = 2_048
SKU_CHARS_MAX: Final = 64
TAGS_MAX: Final = 250
OPTIONS_MAX: Final = 3
QUANTITY_MAX: Final = 2**31 - 1
WEIGHT_GRAMS_MAX: Final = 2**31 - 1

_QUOTED_CHARS_MAX: Final = 40
_NUMBERS: Final = range(1, OPTIONS_MAX + 1)

# Our name of a cell -> its heading in exports up to 2024, then in the template since.
_HEADINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "handle": ("Handle", "URL handle"),
    "title": ("Title",),
    "description": ("Body (HTML)", "Description"),
    "vendor": ("Vendor",),
    "kind": ("Type",),
    "tags": ("Tags",),
    "published": ("Published", "Published on online store"),
    "status": ("Status",),
    **{f"option{n}_name": (f"Option{n} Name",) for n in _NUMBERS},
    **{f"option{n}": (f"Option{n} Value",) for n in _NUMBERS},
    "sku": ("Variant SKU", "SKU"),
    "weight": ("Variant Grams", "Weight value (grams)"),
    "quantity": ("Variant Inventory Qty", "Inventory quantity"),
    "policy": ("Variant Inventory Policy", "Continue selling when out of stock"),
    "price": ("Variant Price", "Price"),
    "compare_at": ("Variant Compare At Price", "Compare-at price"),
    "requires_shipping": ("Variant Requires Shipping", "Requires shipping"),
    "taxable": ("Variant Taxable", "Charge tax"),
    "barcode": ("Variant Barcode", "Barcode"),
    "product_image": ("Image Src", "Product image URL"),
    "variant_image": ("Variant Image", "Variant image URL"),
}
_REQUIRED: Final = ("handle", "title", "price")
_OF_A_VARIANT: Final = (*(f"option{n}" for n in _NUMBERS), "price", "sku", "barcode")
_DEFAULT_OPTION: Final = ("Title", "Default Title")

_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WORD: Final = re.compile(r"[^\W_]+")
_WHOLE: Final = re.compile(r"\d{1,12}", re.ASCII)
_DECIMAL: Final = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)


class OversellPolicy(StrEnum):
    """What the shop wants when a variant runs out: deny the sale, or continue selling."""

    DENY = "deny"
    CONTINUE = "continue"


class BadRow(Exception):
    """The row cannot be taken, and why, in words for the person who mends the file."""


def slug(text: str) -> str:
    """The letters and digits of a text, of any alphabet, in lower case and with hyphens between the words."""
    return "-".join(_WORD.findall(normalize("NFKC", text).lower()))


class Columns:
    """Where each cell stands that we know. Raises ``UnreadableFile`` if one we need is missing, or one stands twice."""

    def __init__(self, heading: Record) -> None:
        names = {text.casefold(): name for name, texts in _HEADINGS.items() for text in texts}
        self._index: dict[str, int] = {}
        for index, text in enumerate(heading.cells):
            name = names.get(text.strip().casefold())
            if name in self._index:
                raise UnreadableFile(f"line {heading.line}, the heading: the column {text.strip()} stands twice")
            if name is not None:
                self._index[name] = index
        missing = ", ".join(_HEADINGS[name][0] for name in _REQUIRED if name not in self._index)
        if missing:
            commas = " (are its columns separated by commas?)" if len(heading.cells) == 1 else ""
            raise UnreadableFile(f"this is no product CSV: line {heading.line}, the heading, lacks {missing}{commas}")

    def cells(self, row: Record) -> "Cells":
        """The cells of a row that we know, without space around them."""
        return Cells({name: row.cells[index].strip() for name, index in self._index.items()})


class Cells:
    """One row. Every reading raises ``BadRow`` for a cell that does not hold what its heading says."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = cells

    def __bool__(self) -> bool:
        return any(self._cells.values())

    @property
    def handle(self) -> str:
        """The product's name in addresses: lower case, and made of the title where there is none, as Shopify does it.

        So a capital that a spreadsheet put there makes no other product, and rows without a handle that share a title
        are one product.
        """
        handle = self._fits("handle", self.text("handle").lower() or slug(self.text("title")), HANDLE_CHARS_MAX)
        if not handle:
            raise BadRow("Handle: missing, and there is no title to make one of")
        if not handle.isprintable():
            raise BadRow("Handle: it has characters that cannot be printed")
        return handle

    @property
    def titled(self) -> bool:
        """Whether the row says what product it begins."""
        return bool(self._cells["title"])

    @property
    def of_a_variant(self) -> bool:
        """Whether there is anything of a variant in it: a row without only adds a picture to its product."""
        return any(self._cells.get(name) for name in _OF_A_VARIANT)

    @property
    def pictured(self) -> bool:
        """Whether there is a picture of the product in it."""
        return bool(self._cells.get("product_image"))

    def text(self, name: str) -> str:
        """The cell as one line: line ends and runs of spaces in a name are a spreadsheet's, not the shop's."""
        return self._fits(name, " ".join(self._cells.get(name, "").split()), NAME_CHARS_MAX)

    def description(self) -> str:
        """The file's own HTML, at a length we store."""
        text = self._cells.get("description", "")
        if len(text.encode()) > DESCRIPTION_BYTES_MAX:
            raise BadRow(f"{_HEADINGS['description'][0]}: longer than {DESCRIPTION_BYTES_MAX} bytes")
        return text

    def tags(self) -> tuple[str, ...]:
        """Each tag once, in the order they are first named."""
        texts = (" ".join(text.split()) for text in self._cells.get("tags", "").split(","))
        tags = tuple(dict.fromkeys(self._fits("tags", text, NAME_CHARS_MAX) for text in texts if text))
        if len(tags) > TAGS_MAX:
            raise BadRow(f"Tags: more than {TAGS_MAX}")
        return tags

    def published(self) -> bool:
        """An archived product or a draft keeps its old Published in an export, and its Status says what it is now."""
        return self.truth("published", default=True) and self._cells.get("status", "").lower() in {"", "active"}

    def url(self, name: str) -> str | None:
        """An address, not looked at further."""
        return self._fits(name, self._cells.get(name, ""), URL_CHARS_MAX) or None

    def option_names(self) -> tuple[str, ...]:
        """The names of the product's options; they stand in its first row only."""
        return tuple(self.text(f"option{n}_name") for n in _NUMBERS)

    def options(self, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Name and value of each option that this row chooses: none for a product's only variant."""
        chosen = []
        for n, name in zip(_NUMBERS, names, strict=True):
            value = self.text(f"option{n}")
            if value and not name:
                raise BadRow(f"Option{n} Value: the product's first row has no Option{n} Name")
            if value and (name, value) != _DEFAULT_OPTION:
                chosen.append((name, value))
        return tuple(chosen)

    def sku(self) -> str | None:
        """Printable, with its case. Shopify's exports put an apostrophe before digits for the spreadsheet's sake."""
        sku = self._cells.get("sku", "").removeprefix("'").strip()
        if not sku.isprintable():
            raise BadRow("Variant SKU: it has characters that cannot be printed")
        return self._fits("sku", sku, SKU_CHARS_MAX) or None

    def barcode(self) -> tuple[str, str] | tuple[None, None]:
        """The number as it stands below the bars, without the spaces and hyphens people write into it; and 14 digits."""
        barcode = self._cells.get("barcode", "").removeprefix("'").replace(" ", "").replace("-", "")
        if not barcode:
            return None, None
        try:
            return barcode, gtin14(barcode)
        except InvalidBarcode as error:
            raise self._bad("barcode", f"is no barcode number: {error.reason}") from error

    def price(self, currency: str) -> int:
        """Minor units, zero included; it has to be there."""
        price_minor = self.amount("price", currency)
        if price_minor is None:
            raise BadRow("Variant Price: missing")
        return price_minor

    def amount(self, name: str, currency: str) -> int | None:
        """Minor units, zero included, if the file says."""
        text = self._cells.get(name, "")
        if not text:
            return None
        try:
            amount_minor = money.parse(text, currency)
        except ValueError as error:
            raise self._bad(name, f"is no amount of {currency}") from error
        if amount_minor < 0:
            raise self._bad(name, "is negative")
        return amount_minor

    def quantity(self) -> int | None:
        """Whole pieces, if the file says."""
        text = self._cells.get("quantity", "")
        if not text:
            return None
        if not _WHOLE.fullmatch(text) or int(text) > QUANTITY_MAX:
            raise self._bad("quantity", f"is no whole number from 0 to {QUANTITY_MAX}")
        return int(text)

    def weight_grams(self) -> int | None:
        """Whole grams, if the file says; a fraction is rounded."""
        text = self._cells.get("weight", "")
        if not text:
            return None
        grams = int(Decimal(text).quantize(Decimal(1), ROUND_HALF_UP)) if _DECIMAL.fullmatch(text) else -1
        if not 0 <= grams <= WEIGHT_GRAMS_MAX:
            raise self._bad("weight", f"is no weight from 0 to {WEIGHT_GRAMS_MAX}")
        return grams

    def policy(self) -> OversellPolicy:
        """Deny, unless the file says otherwise; the present template asks it as a yes or no."""
        text = self._cells.get("policy", "").lower()
        if text in {"", "deny", "false"}:
            return OversellPolicy.DENY
        if text in {"continue", "true"}:
            return OversellPolicy.CONTINUE
        raise self._bad("policy", "is neither deny nor continue")

    def truth(self, name: str, *, default: bool) -> bool:
        """True or false, in the ways that spreadsheets write it."""
        text = self._cells.get(name, "").lower()
        if text and text not in _TRUTHS:
            raise self._bad(name, "is neither true nor false")
        return _TRUTHS.get(text, default)

    @staticmethod
    def _fits(name: str, text: str, chars_max: int) -> str:
        if len(text) > chars_max:
            raise BadRow(f"{_HEADINGS[name][0]}: longer than {chars_max} characters")
        return text

    def _bad(self, name: str, fault: str) -> BadRow:
        return BadRow(f"{_HEADINGS[name][0]}: {self._cells[name][:_QUOTED_CHARS_MAX]!r} {fault}")
