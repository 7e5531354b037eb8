"""Stripe's own documents, what we write into them, and what they come to in our words. No network, and no SDK."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from payments.processors import (
    Fact,
    Operation,
    OperationKind,
    Outcome,
    Payment,
    PaymentStatus,
    RecordedOperation,
    RecordedStatus,
    Unknown,
    outcome_of,
)

METADATA_ENTRIES_MAX: Final = 45
"""Stripe has room for 50; a few are left for whoever looks at a payment there."""
DETAIL_CHARACTERS_MAX: Final = 300

_REFERENCE: Final = "hub_reference"
_KEY: Final = "hub_key"
_CAPTURE: Final = "hub_capture_"
_VOID: Final = "hub_void_"
_DIGEST_CHARACTERS: Final = 16

# Stripe wants two decimals for these two, which have none in ISO 4217 and in our books.
_FACTORS: Final[Mapping[str, int]] = MappingProxyType({"ISK": 100, "UGX": 100})
_AUTHORIZED: Final = frozenset({"requires_capture", "succeeded"})
_GIVEN: Final[Mapping[str, RecordedStatus]] = MappingProxyType(
    {
        "succeeded": RecordedStatus.SUCCEEDED,
        "pending": RecordedStatus.PENDING,
        "requires_action": RecordedStatus.PENDING,
        "failed": RecordedStatus.DECLINED,
        "canceled": RecordedStatus.DECLINED,
    }
)

_Amount = Annotated[int, msgspec.Meta(ge=0)]
_Read = TypeVar("_Read")


class Unreadable(ValueError):
    """A body is no document of Stripe's."""


class _Multicapture(msgspec.Struct, frozen=True, kw_only=True):
    status: str


class _Card(msgspec.Struct, frozen=True, kw_only=True):
    multicapture: _Multicapture | None = None


class _MethodDetails(msgspec.Struct, frozen=True, kw_only=True):
    card: _Card | None = None


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a PaymentIntent that was confirmed came to."""

    object: Literal["charge"]
    status: str
    payment_method_details: _MethodDetails | None = None


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """Anything, by its id."""

    id: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why Stripe, or a bank, did not do what was asked."""

    type: str
    code: str | None = None
    decline_code: str | None = None
    param: str | None = None
    message: str | None = None
    payment_intent: Named | None = None

    @property
    def reason(self) -> str:
        """Why, in one word: the bank's where it gave one."""
        if self.code == "resource_missing" and self.param == "payment_method":
            return "invalid_payment_method"
        if self.decline_code not in {None, "generic_decline"}:
            return str(self.decline_code)
        return self.code or "invalid_request"

    @property
    def is_final(self) -> bool:
        """Whether nothing was done, and nothing will be by asking the same again."""
        return self.type in {"card_error", "invalid_request_error"} and not self._is_of_another_mode

    @property
    def is_absence(self) -> bool:
        """Whether there is no such payment. A key of the other mode sees none either, and proves nothing."""
        missing = self.type == "invalid_request_error" and self.code == "resource_missing"
        return missing and not self._is_of_another_mode

    @property
    def _is_of_another_mode(self) -> bool:
        return "similar object exists" in (self.message or "")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is an error."""

    error: Problem


class _Redirect(msgspec.Struct, frozen=True, kw_only=True):
    url: str | None = None


class _NextAction(msgspec.Struct, frozen=True, kw_only=True):
    redirect_to_url: _Redirect | None = None


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A PaymentIntent, of which only that is read which we rely on."""

    object: Literal["payment_intent"]
    id: str
    status: str
    amount: _Amount
    amount_received: _Amount
    currency: str
    metadata: dict[str, str]
    latest_charge: Charge | str | None = None
    last_payment_error: Problem | None = None
    next_action: _NextAction | None = None

    @property
    def has_many_captures(self) -> bool:
        """Whether Stripe lets this very payment be captured in parts."""
        details = self.latest_charge.payment_method_details if isinstance(self.latest_charge, Charge) else None
        many = details.card.multicapture if details and details.card else None
        return many is not None and many.status == "available"

    @property
    def was_authorized(self) -> bool:
        """Whether a bank ever promised the money."""
        if self.status in _AUTHORIZED or self.amount_received:
            return True
        charge = self.latest_charge
        return self.status == "canceled" and isinstance(charge, Charge) and charge.status == "succeeded"

    @property
    def amount_released(self) -> int:
        """What was promised, and is neither taken nor held any more."""
        over = self.status in {"succeeded", "canceled"} and self.was_authorized
        return max(self.amount - self.amount_received, 0) if over else 0


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Money that was given back, or is being."""

    object: Literal["refund"]
    id: str
    amount: _Amount
    currency: str
    status: str
    payment_intent: str
    balance_transaction: str | None = None
    failure_reason: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def key(self) -> str | None:
        """Ours, where we gave it back."""
        return (self.metadata or {}).get(_KEY)

    @property
    def is_money(self) -> bool:
        """Whether it is a refund. What a capture leaves may be listed as one that never touched our balance."""
        return self.key is not None or self.balance_transaction is not None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A PaymentIntent in a list: enough to see whether it is the one."""

    object: Literal["payment_intent"]
    id: str
    metadata: dict[str, str]


class ListedPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the list of PaymentIntents."""

    object: Literal["list"]
    data: list[Listed]


class RefundPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the list of refunds."""

    object: Literal["list"]
    data: list[Refund]
    has_more: bool


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """One page of what a search found."""

    object: Literal["search_result"]
    data: list[Listed]


class _Happened(msgspec.Struct, frozen=True, kw_only=True):
    object: dict[str, Any]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook."""

    object: Literal["event"]
    id: str
    type: str
    data: _Happened


def read(body: str | bytes, document: type[_Read]) -> _Read:
    """The document in a body; ``Unreadable`` where it is none."""
    try:
        return msgspec.json.decode(body, type=document)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Unreadable(f"no {document}: {error}"[:DETAIL_CHARACTERS_MAX]) from error


def in_stripe_units(amount_minor: int, currency: str) -> int:
    """Our minor units as Stripe counts them."""
    return amount_minor * _FACTORS.get(currency, 1)


def marks_of_payment(operation: Operation) -> dict[str, str]:
    """What an authorization or a refund is found again by."""
    return {_REFERENCE: operation.reference, _KEY: operation.key}


def capture_mark(operation: Operation) -> dict[str, str]:
    """What a capture is found again by, in the metadata of its payment; the amount in Stripe's units."""
    amount = in_stripe_units(operation.amount_minor, operation.currency)
    return {f"{_CAPTURE}{_digest(operation.key)}": f"{amount}:{operation.key}"}


def void_mark(operation: Operation) -> dict[str, str]:
    """What a void is found again by, once nothing is held any more."""
    return {f"{_VOID}{_digest(operation.key)}": operation.key}


def translate(intent: Intent, refunds: Sequence[Refund] = ()) -> Payment | Unknown:
    """The payment in our words; ``Unknown`` where Stripe's do not add up or are new to us."""
    currency = intent.currency.upper()
    factor = _FACTORS.get(currency, 1)
    captures = _captures(intent)
    authorization = _authorization(intent)
    if captures is None or authorization is None or any(one.status not in _GIVEN for one in refunds):
        return Unknown(
            detail=f"{intent.id} is {intent.status}, with {intent.amount_received} taken, and adds up to nothing"
        )
    given = [_given(one) for one in refunds if one.is_money]
    operations = [authorization, *captures, *_voids(intent), *given]
    amounts = [intent.amount, intent.amount_received, *(one.amount_minor for one in operations)]
    if any(amount % factor for amount in amounts):
        return Unknown(detail=f"{intent.id} has a part of the smallest coin of {currency}")
    back = sum(one.amount_minor for one in given if one.status is not RecordedStatus.DECLINED)
    return Payment(
        processor_reference=intent.id,
        reference=intent.metadata.get(_REFERENCE, ""),
        status=_status(intent),
        currency=currency,
        authorized_minor=intent.amount // factor if intent.was_authorized else 0,
        captured_minor=intent.amount_received // factor,
        refunded_minor=back // factor,
        operations=tuple(msgspec.structs.replace(one, amount_minor=one.amount_minor // factor) for one in operations),
        action_url=_page_url(intent),
    )


def given_back(operation: Operation, refund: Refund) -> Outcome | None:
    """What became of our refund by Stripe's record of one; None where it is not ours."""
    if refund.key != operation.key:
        return None
    currency = refund.currency.upper()
    factor = _FACTORS.get(currency, 1)
    if refund.status not in _GIVEN or refund.amount % factor:
        return Unknown(detail=f"{refund.id} is {refund.status}, of {refund.amount} {currency}")
    recorded = _given(refund)
    return outcome_of(
        operation,
        OperationKind.REFUND,
        Payment(
            processor_reference=refund.payment_intent,
            reference=(refund.metadata or {}).get(_REFERENCE, ""),
            status=PaymentStatus.CAPTURED,
            currency=currency,
            authorized_minor=0,
            captured_minor=0,
            refunded_minor=0,
            operations=(msgspec.structs.replace(recorded, amount_minor=recorded.amount_minor // factor),),
        ),
    )


def from_event(event: Event) -> list[Fact]:
    """The payment that an event is about, if it is one of ours: a PaymentIntent, its charge or its refund."""
    happened = event.data.object
    payment = happened.get("id") if happened.get("object") == "payment_intent" else happened.get("payment_intent")
    metadata = happened.get("metadata")
    reference = metadata.get(_REFERENCE) if isinstance(metadata, dict) else None
    if not isinstance(payment, str) or not isinstance(reference, str):
        return []
    return [Fact(event_id=event.id, type=event.type, processor_reference=payment, reference=reference)]


def _status(intent: Intent) -> PaymentStatus:
    match intent.status:
        case "requires_action":
            return PaymentStatus.REQUIRES_ACTION
        case "processing" | "requires_confirmation":
            return PaymentStatus.PENDING
        case "requires_capture":
            return PaymentStatus.PARTIALLY_CAPTURED if intent.amount_received else PaymentStatus.AUTHORIZED
        case "succeeded":
            return PaymentStatus.CAPTURED
        case "canceled":
            return PaymentStatus.CAPTURED if intent.amount_received else PaymentStatus.VOIDED
        case _:
            return PaymentStatus.DECLINED


def _authorization(intent: Intent) -> RecordedOperation | None:
    code = None
    match intent.status:
        case "requires_capture" | "succeeded":
            status = RecordedStatus.SUCCEEDED
        case "requires_action":
            status = RecordedStatus.REQUIRES_ACTION
        case "processing" | "requires_confirmation":
            status = RecordedStatus.PENDING
        case "canceled":
            status = RecordedStatus.SUCCEEDED if intent.was_authorized else RecordedStatus.DECLINED
            code = None if intent.was_authorized else "voided"
        case "requires_payment_method":
            status = RecordedStatus.DECLINED
            code = intent.last_payment_error.reason if intent.last_payment_error else None
        case _:
            return None
    return RecordedOperation(
        key=intent.metadata.get(_KEY),
        kind=OperationKind.AUTHORIZE,
        status=status,
        amount_minor=intent.amount,
        decline_code=code,
    )


def _captures(intent: Intent) -> list[RecordedOperation] | None:
    """By our marks, and without a key what was taken beside them. None where the marks say more than was taken."""
    taken: list[tuple[int, str | None]] = []
    for name, value in intent.metadata.items():
        amount, _, key = value.partition(":")
        if name.startswith(_CAPTURE) and amount.isascii() and amount.isdecimal():
            taken.append((int(amount), key))
    unmarked = intent.amount_received - sum(amount for amount, _ in taken)
    if unmarked < 0:
        return None
    if unmarked:
        taken.append((unmarked, None))
    kind, status = OperationKind.CAPTURE, RecordedStatus.SUCCEEDED
    return [RecordedOperation(key=key, kind=kind, status=status, amount_minor=amount) for amount, key in taken]


def _voids(intent: Intent) -> list[RecordedOperation]:
    """By our marks, which were made before the cancel and mean nothing while money is held."""
    if intent.status != "canceled" and not intent.amount_released:
        return []
    return [
        RecordedOperation(
            key=key, kind=OperationKind.VOID, status=RecordedStatus.SUCCEEDED, amount_minor=intent.amount_released
        )
        for name, key in intent.metadata.items()
        if name.startswith(_VOID)
    ]


def _given(refund: Refund) -> RecordedOperation:
    status = _GIVEN[refund.status]
    code = (refund.failure_reason or refund.status) if status is RecordedStatus.DECLINED else None
    return RecordedOperation(
        key=refund.key, kind=OperationKind.REFUND, status=status, amount_minor=refund.amount, decline_code=code
    )


def _page_url(intent: Intent) -> str | None:
    """Where the payer has to go: a page, and nothing that a browser would run."""
    redirect = intent.next_action.redirect_to_url if intent.next_action else None
    if redirect is None or redirect.url is None:
        return None
    try:
        return redirect.url if urlsplit(redirect.url).scheme in {"http", "https"} else None
    except ValueError:
        return None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:_DIGEST_CHARACTERS]
