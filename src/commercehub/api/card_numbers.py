"""Card numbers never reach us: a processor's own page takes them and gives the client a token.

What looks like one is refused wherever a text may stand, and neither stored nor logged. It looks like one if it has an
issuer's first digits and length (ISO/IEC 7812) and its check digit fits; in one piece, in the groups that stand on
cards, or digit by digit.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from commercehub.sales.barcodes import check_digit

DIGITS_MIN: Final = 13
DIGITS_MAX: Final = 19
PHONE_DIGITS_MAX: Final = 15
"""The longest telephone number (ITU-T E.164)."""

_GAP: Final = r"[\s.\-\u2010-\u2015_/]"
_WRITTEN: Final = tuple(
    # Each is looked for from every place on, since what stands before a number may look like its beginning.
    re.compile(rf"(?<!\d)(?=({digits})(?!\d))".replace("~", _GAP + "{1,2}"))
    for digits in (
        r"\d{13,19}",
        r"\d{4}~\d{4}~\d{4}~\d{4}",
        r"\d{4}~\d{4}~\d{4}~\d{4}~\d{1,3}",
        r"\d{4}~\d{6}~\d{4,5}",
        r"\d{4}~\d{3}~\d{3}~\d{3}",
        rf"(?<!\d{_GAP})(?<!\d{_GAP}{_GAP})\d(?:~\d){{12,18}}(?!{_GAP}{{1,2}}\d)",
    )
)
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
        if field not in _NUMBERED_FIELDS and any(_in(text, longer_than=PHONE_DIGITS_MAX if field == _PHONE else 0)):
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


def mask(text: str) -> str:
    """The text without the card numbers in it."""
    for found in set(_in(text)):
        text = text.replace(found, "#")
    return text


def _in(text: str, *, longer_than: int = 0) -> Iterator[str]:
    """The card numbers in a text, as they stand there."""
    for written in _WRITTEN:
        for found in written.findall(text):
            # Digits of other scripts are digits too.
            digits = "".join(str(int(each)) for each in found if each.isdecimal())
            if len(digits) > longer_than and _is_card(digits):
                yield found


def _is_card(digits: str) -> bool:
    if _ISSUERS[len(digits)].match(digits) is None or not _passes_luhn(digits):
        return False
    # Thirteen digits may be the number below a barcode, which one in ten of the long gone 13-digit cards is too.
    return len(digits) != DIGITS_MIN or check_digit(digits[:-1]) != digits[-1]


def _passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in map(int, digits[-2::-2])]
    return (sum(doubled) + sum(map(int, digits[::-2]))) % 10 == 0
