"""Card numbers never reach us: a processor's own page takes them and gives the client a token.

What looks like one is refused wherever a text may stand, and neither stored nor logged. It looks like one if it has an
issuer's first digits and length (ISO/IEC 7812) and its check digit fits; with or without the usual gaps.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from commercehub.sales.barcodes import check_digit

DIGITS_MIN: Final = 13
DIGITS_MAX: Final = 19
PHONE_DIGITS_MAX: Final = 15
"""The longest telephone number (ITU-T E.164)."""

_GAP: Final = r"[\s.\-\u2010-\u2015_/]{0,2}"
_RUN: Final = re.compile(rf"\d(?:{_GAP}\d){{{DIGITS_MIN - 1},}}")
# On the raw JSON, and quick: whether it is worth a look at each text. An escape may hide a digit or a gap.
_PERHAPS: Final = re.compile(rb'(?:\d[^\w"]{0,2}){13}')
_ISSUERS: Final[Mapping[int, re.Pattern[str]]] = {
    13: re.compile("4"),
    14: re.compile("3[0689]"),
    15: re.compile("3[47]"),
    16: re.compile("[3-6]|2[2-7]|8[12]"),
    **dict.fromkeys(range(17, DIGITS_MAX + 1), re.compile("[4-6]|3[0568]")),
}
# Where long numbers have their place.
_NUMBERED_FIELDS: Final = frozenset({"sku", "skus", "barcode", "tracking_number"})
_PHONE: Final = "phone"


def may_hold_one(raw: bytes) -> bool:
    """Whether a JSON text has to be looked at closely; most have not."""
    return not raw.isascii() or b"\\" in raw or _PERHAPS.search(raw) is not None


def find(content: object) -> str | None:
    """A JSON pointer to the first text that holds a card number, or ``None``."""
    for pointer, field, text in strings(content):
        if field not in _NUMBERED_FIELDS and holds_one(text, is_phone=field == _PHONE):
            return pointer
    return None


def strings(content: object, pointer: str = "", field: str = "") -> Iterator[tuple[str, str, str]]:
    """Every text in decoded JSON, names of fields too: its pointer, the field that it stands in, and the text."""
    match content:
        case str():
            yield pointer, field, content
        case list():
            for position, part in enumerate(content):
                yield from strings(part, f"{pointer}/{position}", field)
        case dict():
            for name, part in content.items():
                yield f"{pointer}/{name}", "", name
                yield from strings(part, f"{pointer}/{name}", name)


def holds_one(text: str, *, is_phone: bool = False) -> bool:
    """Whether a card number stands in a text."""
    return any(_is_card(digits, is_phone=is_phone) for run in _RUN.findall(text) for digits in _candidates(run))


def mask(text: str) -> str:
    """The text with nothing of a card number in it."""
    return _RUN.sub(lambda run: "#" if holds_one(run[0]) else run[0], text)


def _candidates(run: str) -> Iterator[str]:
    """The digits of every row of neighbouring groups that is as long as a card number.

    Groups of three and more are how people write them; single digits are somebody spelling one out.
    """
    groups = re.findall(r"\d+", run)
    for first in range(len(groups)):
        digits = ""
        shortest, longest = len(groups[first]), len(groups[first])
        for group in groups[first:]:
            digits += group
            shortest, longest = min(shortest, len(group)), max(longest, len(group))
            if len(digits) > DIGITS_MAX or 1 < shortest < 3 or (shortest == 1 and longest > 1):
                break
            if len(digits) >= DIGITS_MIN:
                yield digits


def _is_card(digits: str, *, is_phone: bool) -> bool:
    digits = "".join(str(int(digit)) for digit in digits)
    if is_phone and len(digits) <= PHONE_DIGITS_MAX:
        return False
    if _ISSUERS[len(digits)].match(digits) is None or not _passes_luhn(digits):
        return False
    # Thirteen digits may be the number below a barcode, which one in ten of the long gone 13-digit cards is too.
    return len(digits) != DIGITS_MIN or check_digit(digits[:-1]) != digits[-1]


def _passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in map(int, digits[-2::-2])]
    return (sum(doubled) + sum(map(int, digits[::-2]))) % 10 == 0
