"""What the hub asks of a processor, and every answer it can get.

A processor moves other people's money on the far side of a network, so each answer is a value, the missing one
included: ``Unknown`` says that the operation may or may not have happened, and that only the same key, ``retrieve``
or ``find_by_reference`` can tell. Nothing here talks to a network or a database; the adapters stand beside this file.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec

from payments.money import AMOUNT_MINOR_MAX

KEY_CHARACTERS_MAX = 255


class OperationKind(StrEnum):
    """The four things that can be done with somebody's money."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing asked of a processor; stored before it is asked, and the same at every retry.

    ``ValueError`` for an amount that is no amount and for a key that a processor would refuse: both are our mistakes,
    and are better found before the money moves.
    """

    id: UUID
    key: str
    """The idempotency key: ours, stored, the same for every retry. An adapter never makes one."""
    reference: str
    """Ours, of the payment (not of this operation): by it the processor can find the payment when its id was lost."""
    amount_minor: int
    """What to authorize, capture or refund. A void lets go of all that is still held, whatever stands here."""
    currency: str
    payment_method: str | None = None
    """A token that the payer's client got from the processor; ``authorize`` needs it."""
    processor_reference: str | None = None
    """The processor's own id of the payment; ``capture``, ``void`` and ``refund`` need it."""
    return_url: str | None = None
    """Where the payer comes back to after proving who they are."""

    def __post_init__(self) -> None:
        """Refuse what no processor should be asked."""
        if not 0 < self.amount_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"operation {self.id} asks for {self.amount_minor} minor units")
        if not (self.key.isascii() and self.key.isprintable() and 0 < len(self.key) <= KEY_CHARACTERS_MAX):
            raise ValueError(f"operation {self.id} has no usable idempotency key")


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """It happened, for this amount. For a void the amount is what was let go."""

    processor_reference: str
    amount_minor: int
    currency: str


class Declined(msgspec.Struct, frozen=True, kw_only=True):
    """It did not happen and, asked with this key, never will."""

    decline_code: str
    processor_reference: str | None = None


class RequiresAction(msgspec.Struct, frozen=True, kw_only=True):
    """The payer has to go to this address first."""

    processor_reference: str
    url: str


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """The processor has it and will tell by webhook; until then, ``retrieve``."""

    processor_reference: str


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody can say whether it happened. The detail is for people and logs, never for a program to branch on."""

    detail: str


Outcome: TypeAlias = Succeeded | Declined | RequiresAction | Pending | Unknown


class PaymentStatus(StrEnum):
    """Where a payment stands in the processor's books."""

    REQUIRES_ACTION = "requires_action"
    PENDING = "pending"
    AUTHORIZED = "authorized"
    PARTIALLY_CAPTURED = "partially_captured"
    """Some was taken, and some is still held."""
    CAPTURED = "captured"
    """Some or all was taken, and nothing is held any more."""
    VOIDED = "voided"
    DECLINED = "declined"


class RecordedStatus(StrEnum):
    """What became of one operation in the processor's books."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    REQUIRES_ACTION = "requires_action"
    PENDING = "pending"


class RecordedOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as the processor has it: ours where the key is ours."""

    key: str | None
    kind: OperationKind
    status: RecordedStatus
    amount_minor: int
    decline_code: str | None = None


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as the processor has it: the truth that an ``Unknown`` is resolved by."""

    processor_reference: str
    reference: str
    status: PaymentStatus
    currency: str
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    operations: tuple[RecordedOperation, ...]
    action_url: str | None = None
    """The payer's page, while the status is ``requires_action``."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook said that something happened to a payment. It does not say what to believe: read the payment again."""

    event_id: str
    """The processor's own; the inbox is unique on it."""
    type: str
    processor_reference: str
    reference: str


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor can do, declared by its adapter so that a workflow never finds out by trying."""

    partial_capture: bool
    many_captures: bool
    """A second capture of what the first one left."""
    partial_refund: bool
    key_seconds_max: int
    """How long the processor remembers a key: after it, a retry could charge twice."""
    absence_seconds_min: int
    """How long after a call "no such payment" may still be an index that lags."""


class BadSignature(ValueError):
    """A webhook that is forged, too old, signed with a secret we do not have, or no event at all."""


class Processor(Protocol):
    """What an adapter gives. Its methods answer, they never raise for anything that the other side did."""

    @property
    def name(self) -> str:
        """The word by which rows and routes know the processor."""

    @property
    def capabilities(self) -> Capabilities:
        """What this processor can do."""

    async def authorize(self, operation: Operation) -> Outcome:
        """Promise the amount to us without taking it."""

    async def capture(self, operation: Operation) -> Outcome:
        """Take the amount, or a part of it, that was promised; the rest stays promised."""

    async def void(self, operation: Operation) -> Outcome:
        """Let go of all that is promised and not taken."""

    async def refund(self, operation: Operation) -> Outcome:
        """Give back some of what was taken."""

    async def retrieve(self, processor_reference: str) -> Payment | Unknown | None:
        """The payment as the processor has it; None where the processor says that it has none."""

    async def find_by_reference(self, reference: str) -> Payment | Unknown | None:
        """The payment under our own reference; several under one reference are ``Unknown``, for a person to look at."""

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> list[Fact]:
        """The facts in a webhook, the signature verified over the raw bytes; raises ``BadSignature``."""

    async def aclose(self) -> None:
        """Let go of the connections."""


def outcome_of(operation: Operation, kind: OperationKind, payment: Payment) -> Outcome | None:
    """What became of our operation, by the processor's own record of the payment; None where it is not in there.

    Answers and later look-ups are judged by this one function. Whatever is not exactly what we asked is ``Unknown``:
    a success for another amount must never be booked as ours.
    """
    recorded = next((one for one in payment.operations if one.key == operation.key), None)
    if recorded is None:
        return None
    asked = (operation.reference, operation.currency, kind)
    found = (payment.reference, payment.currency, recorded.kind)
    if found != asked:
        return Unknown(detail=f"asked for {asked}, and {payment.processor_reference} has {found}")
    if operation.processor_reference not in {None, payment.processor_reference}:
        return Unknown(detail=f"asked of {operation.processor_reference}, done to {payment.processor_reference}")
    if kind is not OperationKind.VOID and recorded.amount_minor != operation.amount_minor:
        return Unknown(detail=f"asked for {operation.amount_minor} minor units, the answer has {recorded.amount_minor}")
    return _settled(recorded, payment)


def _settled(recorded: RecordedOperation, payment: Payment) -> Outcome:
    match recorded.status:
        case RecordedStatus.SUCCEEDED:
            return Succeeded(
                processor_reference=payment.processor_reference,
                amount_minor=recorded.amount_minor,
                currency=payment.currency,
            )
        case RecordedStatus.DECLINED:
            code = recorded.decline_code or "declined"
            return Declined(decline_code=code, processor_reference=payment.processor_reference)
        case RecordedStatus.PENDING:
            return Pending(processor_reference=payment.processor_reference)
        case RecordedStatus.REQUIRES_ACTION if payment.action_url:
            return RequiresAction(processor_reference=payment.processor_reference, url=payment.action_url)
        case _:
            return Unknown(detail=f"{payment.processor_reference} requires an action, but names no address for it")
