"""Money as whole minor units of one ISO 4217 currency: parsing, splitting and rounding without a float."""

import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

AMOUNT_MINOR_MAX: Final = 2**53 - 1
"""The largest amount we accept: what a JavaScript client can still read exactly."""

# ISO 4217 currencies whose minor unit is not a hundredth. Every other code has two decimals.
_EXPONENTS: Final = {
    code: digits
    for digits, codes in (
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    )
    for code in codes.split()
}
CURRENCIES: Final = frozenset(
    code
    for codes in (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE",
        "CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF",
        "GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR",
        "LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN",
        "PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS",
        "TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR",
        "ZMW ZWG",
    )
    for code in codes.split()
)
"""The active codes of ISO 4217 that are money: no metals, no units of account, none for tests or for nothing."""
_DECIMAL: Final = re.compile(r"(-?)(\d{1,16})(?:\.(\d{1,6}))?", re.ASCII)

CurrencyCode = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", max_length=3, description="ISO 4217, upper case")]


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies met where only one may be."""


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount in minor units: ``Money(1999, "USD")`` is 19.99 dollars, ``Money(1999, "JPY")`` 1,999 yen."""

    amount_minor: Annotated[int, msgspec.Meta(ge=-AMOUNT_MINOR_MAX, le=AMOUNT_MINOR_MAX)] = msgspec.field(name="amount")
    currency: CurrencyCode

    def __add__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(self.amount_minor - other.amount_minor, self.currency)

    def _same_currency(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency}")


def exponent(currency: str) -> int:
    """How many decimals the currency's minor unit stands for: USD 2, JPY 0, KWD 3."""
    return _EXPONENTS.get(currency, 2)


def parse(text: str, currency: str) -> int:
    """Read ``"17.99"`` as minor units. ``ValueError`` for anything else than a decimal this currency can hold.

    More decimals than the currency has are refused unless they are zeros: rounding a price is nobody's wish.
    """
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a decimal amount")
    sign, whole, fraction = match[1], match[2], match[3] or ""
    digits = exponent(currency)
    if fraction[digits:].strip("0"):
        raise ValueError(f"{text!r} has more decimals than {currency} holds ({digits})")
    amount = int(whole + fraction[:digits].ljust(digits, "0"))
    if amount > AMOUNT_MINOR_MAX:
        raise ValueError(f"{text!r} is larger than {AMOUNT_MINOR_MAX} minor units")
    return -amount if sign else amount


def show(amount_minor: int, currency: str) -> str:
    """Write minor units for people: ``1799, "USD"`` is ``"17.99 USD"``."""
    digits = exponent(currency)
    sign, text = "-" if amount_minor < 0 else "", str(abs(amount_minor)).rjust(digits + 1, "0")
    number = f"{text[:-digits]}.{text[-digits:]}" if digits else text
    return f"{sign}{number} {currency}"


def divide(numerator: int, denominator: int) -> int:
    """Divide and round half away from zero, the rule of every rounding in the hub. ``denominator`` is positive."""
    quotient = (2 * abs(numerator) + denominator) // (2 * denominator)
    return -quotient if numerator < 0 else quotient


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Split an amount by weights so that the parts add up exactly: largest remainder, ties to the first part.

    All weights zero counts as all equal. ``ValueError`` for no weights or a negative one.
    """
    if not weights or min(weights) < 0:
        raise ValueError("weights are needed, none of them negative")
    if not any(weights):
        weights = [1] * len(weights)
    total, size = sum(weights), abs(amount)
    parts = [size * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(size * weights[i] % total), i))
    for i in by_remainder[: size - sum(parts)]:
        parts[i] += 1
    return [-part for part in parts] if amount < 0 else parts


def tax(amount: int, rate_ppm: int, *, included: bool) -> int:
    """The tax on an amount at a rate in parts per million (8.25 % is 82,500): on top of it, or the part inside it."""
    return divide(amount * rate_ppm, 1_000_000 + rate_ppm if included else 1_000_000)
