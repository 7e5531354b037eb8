"""Barcode numbers: whatever a scanner reads off a retail pack, as the one 14-digit number it is looked up by.

The rules are those of the GS1 General Specifications: the key formats of section 2.1, the prefixes of section 1.4,
the check digit of section 7.9, the zero suppression of UPC-E of section 7.10.
"""

from typing import Final

IN_STORE_PREFIXES: Final = ("02", *(str(prefix) for prefix in range(20, 30)))
"""Starts of a GTIN-13 that no manufacturer gets: each shop prints them for its own weighed or relabelled goods."""

IN_STORE_GTIN_8_PREFIXES: Final = ("0", "2")
"""Starts of a GTIN-8 with the same meaning."""

_GTIN_DIGITS: Final = (12, 13, 14)
_GTIN_8_DIGITS: Final = 8
_ISBN_10_DIGITS: Final = 10
_UPC_E_NUMBER_SYSTEMS: Final = ("0", "1")


class InvalidBarcode(ValueError):
    """The text is no number that a GS1 barcode can carry; ``reason`` says why, in words for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def gtin14(text: str) -> str:
    """The 14 digits that a GTIN-8, 12, 13, 14 or UPC-E is looked up by, its check digit verified.

    An ISBN-13 is a GTIN-13. Spaces and hyphens are refused: who reads a file or a form cleans its text first.
    Raises ``InvalidBarcode``.

    UPC-E comes as its six digits, with the number system before them (7), or with that and the check digit (8); seven
    digits that start with no number system, 0 or 1, are the six and the check digit. Only with a check digit can a
    misread UPC-E be told.

    Eight digits may also be a GTIN-8, and the check digit does not decide: in every UPC-E whose sixth digit is 5 to 9
    it holds either way. The prefix does. GS1 gives no GTIN-8 that starts with 0 to anybody (000 to 099 are in-store
    numbers) because those are the UPC-Es, so 0 is a UPC-E where the check digit allows it and an in-store GTIN-8
    otherwise. GS1 does give out 1, and does not know UPC-E of number system 1, so 1 is tried in the opposite order.
    """
    if not (text.isascii() and text.isdigit()):
        raise InvalidBarcode("a barcode number is made of the digits 0 to 9 alone")
    if not text.strip("0"):
        raise InvalidBarcode("a barcode number is not all zeros")
    if len(text) in _GTIN_DIGITS:
        return _checked(text).zfill(14)
    if len(text) == _GTIN_8_DIGITS:
        return _eight_digits(text).zfill(14)
    if len(text) == _GTIN_8_DIGITS - 1:
        if text[0] in _UPC_E_NUMBER_SYSTEMS:
            return _with_check_digit(_expand(text)).zfill(14)
        return _checked(_expand("0" + text[:6]) + text[6]).zfill(14)
    if len(text) == _GTIN_8_DIGITS - 2:
        return _with_check_digit(_expand("0" + text)).zfill(14)
    if len(text) == _ISBN_10_DIGITS:
        raise InvalidBarcode("10 digits are no barcode number: of a book it takes the ISBN-13, not the ISBN-10")
    raise InvalidBarcode(f"a barcode number has 6, 7, 8, 12, 13 or 14 digits, not {len(text)}")


def is_in_store(number: str) -> bool:
    """Whether these 14 digits are of a range that every shop uses as it likes, so that they mean nothing elsewhere."""
    if number.startswith("000000"):
        return number[6] in IN_STORE_GTIN_8_PREFIXES
    # A case of several (first digit 1 to 9) is always of somebody's assigned number.
    return number[0] == "0" and number[1:3] in IN_STORE_PREFIXES


def check_digit(digits: str) -> str:
    """The digit that completes a number of any GS1 format: weights 3 and 1 from the right, up to the next ten."""
    total = 3 * sum(map(int, digits[::-2])) + sum(map(int, digits[-2::-2]))
    return str(-total % 10)


def _eight_digits(text: str) -> str:
    gtin_8 = text if _holds(text) else None
    upc_e = None
    if text[0] in _UPC_E_NUMBER_SYSTEMS:
        expanded = _expand(text[:7]) + text[7]
        upc_e = expanded if _holds(expanded) else None
    number = (upc_e or gtin_8) if text[0] == "0" else (gtin_8 or upc_e)
    if number is None:
        raise InvalidBarcode("the check digit does not fit: misread, or mistyped")
    return number


def _expand(text: str) -> str:
    """The 11 digits that a number system and six digits of UPC-E stand for: the last says where zeros were left out."""
    system, a, b, c, d, e, last = tuple(text)
    if last in "012":
        return f"{system}{a}{b}{last}0000{c}{d}{e}"
    if last == "3":
        return f"{system}{a}{b}{c}00000{d}{e}"
    if last == "4":
        return f"{system}{a}{b}{c}{d}00000{e}"
    return f"{system}{a}{b}{c}{d}{e}0000{last}"


def _with_check_digit(digits: str) -> str:
    return digits + check_digit(digits)


def _holds(number: str) -> bool:
    return number[-1] == check_digit(number[:-1])


def _checked(number: str) -> str:
    if not _holds(number):
        raise InvalidBarcode("the check digit does not fit: misread, or mistyped")
    return number
