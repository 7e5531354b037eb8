"""The bounds of every kind of field that callers fill in, and the cursors of lists."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from commercehub.api.errors import FieldError, Problem
from commercehub.sales.barcodes import InvalidBarcode, gtin14
from payments.money import AMOUNT_MINOR_MAX

T = TypeVar("T")

PAGE_MAX: Final = 200
PAGE_DEFAULT: Final = 50
BATCH_MAX: Final = 500
BIGINT_MAX: Final = 2**63 - 1

# A `$` of Python's also stands before a line feed at the end.
END: Final = r"$(?!\n)"
Id = Annotated[str, Meta(min_length=1, max_length=64, description="an id as the hub shows it, with its prefix")]
Sku = Annotated[str, Meta(min_length=1, max_length=64, description="1 to 64 characters; unique ignoring case")]
Barcode = Annotated[
    str, Meta(min_length=6, max_length=14, pattern="^[0-9]+" + END, description="GTIN-8, 12, 13, 14 or UPC-E")
]
Quantity = Annotated[int, Meta(ge=1, le=1_000_000, description="in the variant's steps")]
Delta = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*" + END,
        description="one line, not blank",
    ),
]
LongText = Annotated[str, Meta(max_length=65_536)]
Email = Annotated[str, Meta(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+" + END)]
Phone = Annotated[
    str,
    Meta(
        min_length=6,
        max_length=32,
        pattern=r"^\+?(?:[ ()./-]*[0-9]){6,}[ ()./-]*" + END,
        description="6 digits or more; compared by its digits",
    ),
]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}" + END, description="ISO 3166-1 alpha-2")]
Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}" + END, description="ISO 4217, upper case")]
Cursor = Annotated[str, Meta(max_length=100, description="next_cursor of the page before, as it is")]


class PositiveMoney(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount in minor units that is not negative."""

    amount: Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]
    currency: Currency


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list; ``next_cursor`` opens the next one, ``null`` is the end."""

    data: list[T]
    next_cursor: str | None = None


class Paging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a list that is wanted."""

    limit: Limit = PAGE_DEFAULT
    cursor: Cursor | None = None


def cut(found: Sequence[T], paging: Paging, *, id_of: Callable[[T], UUID]) -> tuple[list[T], str | None]:
    """The part of a short list that is wanted, and the cursor that follows it."""
    after = read_cursor(paging.cursor, UUID)
    first = 0
    if after is not None:
        first = next((at for at, each in enumerate(found, start=1) if id_of(each) == after), len(found))
    page = list(found[first : first + paging.limit])
    return page, write_cursor(id_of(page[-1])) if page and first + paging.limit < len(found) else None


def read_barcode(text: str, pointer: str) -> str:
    """A barcode as GTIN-14, or a ``Problem`` that points to it."""
    try:
        return gtin14(text)
    except InvalidBarcode as error:
        where = FieldError(pointer=pointer, detail=error.reason)
        raise Problem("invalid_barcode", f"{text}: {error.reason}", errors=[where]) from error


def in_currency(given: PositiveMoney, currency: str, pointer: str) -> int:
    """The minor units of an amount that has to be in a currency, or a ``Problem`` that points to it."""
    if given.currency != currency:
        detail = f"It is in {given.currency}, and has to be in {currency}."
        raise Problem("invalid_request", detail, errors=[FieldError(pointer=f"{pointer}/currency", detail=detail)])
    return given.amount


def write_cursor(after: UUID | int) -> str:
    """The place in a list after an id."""
    return urlsafe_b64encode(str(after).encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, kind: type[Any]) -> Any:
    """The id that a cursor stands after; ``None`` without a cursor, a ``Problem`` for one that is not ours."""
    if cursor is None:
        return None
    try:
        after = kind(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"))
    except (ValueError, UnicodeError):
        after = None
    if after is None or write_cursor(after) != cursor or (isinstance(after, int) and not 0 <= after <= BIGINT_MAX):
        raise Problem("invalid_cursor", "Take the cursor from next_cursor, as it is.")
    return after
