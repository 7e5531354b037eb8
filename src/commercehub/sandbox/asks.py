"""What may be asked, and every way in which it may not."""

import re
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from litestar import Request

from commercehub.sandbox.methods import METHODS
from commercehub.sandbox.problems import Refused

CARD_DIGITS_MIN: Final = 13
CARD_DIGITS_MAX: Final = 19

# ``\Z`` and not ``$``, which lets a line break through at the end.
Amount = Annotated[int, msgspec.Meta(gt=0, le=2**53 - 1)]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]
Reference = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,255}\Z")]

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_PAGE_URL: Final = re.compile(r"https?://[\x21-\x7e]{1,2000}", re.ASCII)
_Ask = TypeVar("_Ask")


class AuthorizeAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/payments``."""

    amount: Amount
    currency: Currency
    reference: Reference
    payment_method: str
    return_url: str | None = None
    capture: bool = False


class CaptureAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/payments/{id}/capture``; without an amount, all that is held."""

    amount: Amount | None = None
    final: bool = False


class VoidAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/payments/{id}/void``."""


class RefundAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/payments/{id}/refund``; without an amount, all that was taken."""

    amount: Amount | None = None


def idempotency_key(request: Request[Any, Any, Any]) -> str:
    """The caller's key; ``Refused`` without one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        raise Refused(400, "idempotency_key_required", "every POST needs an Idempotency-Key")
    if _KEY.fullmatch(key) is None:
        raise Refused(400, "invalid_idempotency_key", "1 to 255 printable characters without a space")
    return key


async def read(request: Request[Any, Any, Any], shape: type[_Ask]) -> _Ask:
    """The body, in the shape that this address takes; ``Refused`` for any other."""
    if request.content_type[0] != "application/json":
        raise Refused(415, "unsupported_media_type", "send application/json")
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, "invalid_request", str(error)) from error


async def read_authorization(request: Request[Any, Any, Any]) -> AuthorizeAsk:
    """What to authorize, on a payment method that there is; ``Refused`` for everything else."""
    ask = await read(request, AuthorizeAsk)
    if _is_card_number(ask.payment_method):
        raise Refused(422, "card_number_refused", "send a token: card numbers do not belong here")
    if ask.payment_method not in METHODS:
        raise Refused(400, "invalid_payment_method", "there is no such payment method")
    if ask.return_url is not None and not _is_page(ask.return_url):
        raise Refused(400, "invalid_request", "return_url has to be the address of a page")
    if ask.capture:
        raise Refused(400, "invalid_request", "authorize first, and capture by a call of its own")
    return ask


def reference_asked(request: Request[Any, Any, Any]) -> str | None:
    """The ``reference`` to look for, None without one; ``Refused`` for what can be none."""
    try:
        return msgspec.convert(request.query_params.get("reference"), Reference | None)
    except msgspec.ValidationError as error:
        raise Refused(400, "invalid_request", f"reference: {error}") from error


def _is_page(url: str) -> bool:
    try:
        return _PAGE_URL.fullmatch(url) is not None and bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _is_card_number(text: str) -> bool:
    digits = text.replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdecimal() and CARD_DIGITS_MIN <= len(digits) <= CARD_DIGITS_MAX):
        return False
    doubled = [int(digit) * (1 + position % 2) for position, digit in enumerate(reversed(digits))]
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0
