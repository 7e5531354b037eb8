"""What is asked of a processor, and what its answers come to. No transaction is held here, and none is begun.

An authorization that nobody has heard of is asked for again by its own key, for a while; then it is looked for by our
reference of it, and only long after the last question "no such payment" is believed. A key is never made anew.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
import structlog
from msgspec.structs import replace

import payments
from payments import processors
from payments.processors import Payment, PaymentStatus, Processor

ASK_AGAIN_FOR: Final = timedelta(seconds=20)
"""After an authorization was begun. Within it the same question is safe; after it nobody asks any more."""
ANSWER_WITHIN: Final = timedelta(seconds=6)
"""A little longer than any call to a processor: what was asked has arrived by then, or never will."""
PAYER_ACTS_WITHIN: Final = timedelta(minutes=30)
"""How long goods are held for a payer who was sent to the processor's page."""
HOLDS: Final = frozenset({PaymentStatus.REQUIRES_ACTION, PaymentStatus.PENDING, PaymentStatus.AUTHORIZED})
"""Where a payment may still become ours, or is."""

log = structlog.get_logger()


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor said of an operation, and of which payment that is one."""

    fact: payments.Fact
    intent_id: UUID

    @property
    def next_url(self) -> str | None:
        """Where the payer has to go, if anywhere."""
        return self.fact.action_url


async def ask(processor: Processor, operation: payments.OpenOperation) -> Heard:
    """Ask a processor for what was written down, by the key that was written down: repeating it is safe."""
    request = _request(operation)
    match operation.kind:
        case payments.Kind.AUTHORIZE:
            outcome = await processor.authorize(request)
        case payments.Kind.CAPTURE:
            outcome = await processor.capture(request)
        case payments.Kind.VOID:
            outcome = await processor.void(request)
            if isinstance(outcome, processors.Declined):
                outcome = await _nothing_to_void(processor, operation) or outcome
        case payments.Kind.REFUND:
            outcome = await processor.refund(request)
    return _heard(operation, outcome)


async def _nothing_to_void(processor: Processor, operation: payments.OpenOperation) -> processors.Succeeded | None:
    """A void that is refused since nothing is held any more has come to what was wanted."""
    found = await processor.retrieve(operation.processor_reference or "")
    if isinstance(found, Payment) and found.status is PaymentStatus.VOIDED:
        return processors.Succeeded(
            processor_reference=found.processor_reference,
            amount_minor=operation.amount_minor,
            currency=operation.currency,
        )
    return None


async def find_out(processor: Processor, operation: payments.OpenOperation, *, now: datetime) -> Heard:
    """Find out what became of an operation that nobody has heard of, in the safe order of questions."""
    if operation.kind is not payments.Kind.AUTHORIZE:
        return await ask(processor, operation)
    if operation.given_up:
        return await let_go(processor, operation)
    if operation.processor_reference is None and now < _asked_until(operation):
        heard = await ask(processor, operation)
        if heard.fact.state is not payments.OperationState.UNKNOWN:
            return heard
    return await look_up(processor, operation, now=now)


async def look_up(processor: Processor, operation: payments.OpenOperation, *, now: datetime) -> Heard:
    """Read the processor's own record of a payment, and judge our operation by it, asking for nothing."""
    found = await _record_of(processor, operation)
    if found is None:
        if operation.kind is payments.Kind.AUTHORIZE and now >= _absent_from(processor, operation):
            return _failed(operation, "the processor knows of no such payment")
        return _heard(operation, processors.Unknown(detail="no such payment, which may not be true yet"))
    if isinstance(found, processors.Unknown):
        if operation.action_url is not None:  # it waits for the payer, as far as anybody knows
            return _waiting(operation, action_url=operation.action_url)
        return _heard(operation, found)
    return judge(operation, found)


def judge(operation: payments.OpenOperation, found: Payment) -> Heard:
    """What became of our operation by the processor's own record of the payment; unknown where it does not say."""
    if operation.kind is payments.Kind.AUTHORIZE and found.status is PaymentStatus.VOIDED:
        return _failed(operation, "the processor has let go of the money")
    outcome = processors.outcome_of(_request(operation), processors.OperationKind(operation.kind), found)
    return _heard(operation, outcome or processors.Unknown(detail="the payment has no operation of ours"))


async def let_go(processor: Processor, operation: payments.OpenOperation) -> Heard:
    """Void an authorization that was given up. It has failed once the processor holds nothing, and not before."""
    found = await _record_of(processor, operation)
    if isinstance(found, Payment) and found.status in HOLDS:
        # To let go of all that is held comes to the same however often and by whatever key it is asked.
        await processor.void(
            replace(
                _request(operation),
                key=f"{operation.operation_id}:give-up:{operation.attempts}",
                processor_reference=found.processor_reference,
            )
        )
        found = await _record_of(processor, operation)
    if found is None or (isinstance(found, Payment) and found.status is PaymentStatus.VOIDED):
        return _failed(operation, "given up, and the processor holds nothing")
    if isinstance(found, Payment) and found.status is PaymentStatus.DECLINED:
        outcome = processors.outcome_of(_request(operation), processors.OperationKind.AUTHORIZE, found)
        if isinstance(outcome, processors.Declined):
            return _heard(operation, outcome)
    log.warning("payment.not_let_go_of", operation_id=str(operation.operation_id), found=repr(found)[:200])
    return _waiting(operation)


def waited_long_enough(operation: payments.OpenOperation, heard: Heard, *, now: datetime) -> bool:
    """Whether a payer who was sent to the processor's page had the time to act there."""
    return (
        heard.next_url is not None and operation.begun_at is not None and now >= operation.begun_at + PAYER_ACTS_WITHIN
    )


async def _record_of(processor: Processor, operation: payments.OpenOperation) -> Payment | processors.Unknown | None:
    if operation.processor_reference is not None:
        return await processor.retrieve(operation.processor_reference)
    return await processor.find_by_reference(str(operation.intent_id))


def _asked_until(operation: payments.OpenOperation) -> datetime:
    begun_at = operation.begun_at
    if begun_at is None:
        raise AssertionError(operation)
    return begun_at + ASK_AGAIN_FOR


def _absent_from(processor: Processor, operation: payments.OpenOperation) -> datetime:
    """From when on "no such payment" is the truth: the last question has arrived, and the index does not lag."""
    lag = timedelta(seconds=processor.capabilities.absence_seconds_min)
    return _asked_until(operation) + ANSWER_WITHIN + lag


def _failed(operation: payments.OpenOperation, detail: str) -> Heard:
    state = payments.OperationState.FAILED
    fact = payments.Fact(operation_id=operation.operation_id, state=state, detail=detail)
    return Heard(fact=fact, intent_id=operation.intent_id)


def _waiting(operation: payments.OpenOperation, *, action_url: str | None = None) -> Heard:
    state = payments.OperationState.PENDING
    fact = payments.Fact(operation_id=operation.operation_id, state=state, action_url=action_url)
    return Heard(fact=fact, intent_id=operation.intent_id)


def _request(operation: payments.OpenOperation) -> processors.Operation:
    return processors.Operation(
        id=operation.operation_id,
        key=str(operation.operation_id),
        reference=str(operation.intent_id),
        amount_minor=operation.amount_minor,
        currency=operation.currency,
        payment_method=operation.payment_method,
        processor_reference=operation.processor_reference,
    )


def _heard(operation: payments.OpenOperation, outcome: processors.Outcome) -> Heard:
    fact = payments.Fact(operation_id=operation.operation_id, state=payments.OperationState.PENDING)
    match outcome:
        case processors.Succeeded():
            fact = replace(
                fact, state=payments.OperationState.SUCCEEDED, processor_reference=outcome.processor_reference
            )
        case processors.Declined():
            fact = replace(
                fact,
                state=payments.OperationState.DECLINED,
                processor_reference=outcome.processor_reference,
                decline_code=outcome.decline_code,
            )
        case processors.RequiresAction():
            fact = replace(fact, processor_reference=outcome.processor_reference, action_url=outcome.url)
        case processors.Pending():
            fact = replace(fact, processor_reference=outcome.processor_reference)
        case processors.Unknown():
            log.warning("payment.unknown", operation_id=str(operation.operation_id), detail=outcome.detail)
            fact = replace(fact, state=payments.OperationState.UNKNOWN, detail=outcome.detail)
    return Heard(fact=fact, intent_id=operation.intent_id)
