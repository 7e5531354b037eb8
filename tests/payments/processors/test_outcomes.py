"""How a processor's record of a payment is judged: by our key, and only if it is exactly what we asked."""

from typing import Any
from uuid import uuid4

import pytest

from payments.processors import (
    Declined,
    Operation,
    OperationKind,
    Outcome,
    Payment,
    PaymentStatus,
    Pending,
    RecordedOperation,
    RecordedStatus,
    RequiresAction,
    Succeeded,
    Unknown,
    outcome_of,
)

CAPTURE = Operation(id=uuid4(), key="k", reference="ref", amount_minor=500, currency="USD", processor_reference="pay_1")


def judged(asked: OperationKind = OperationKind.CAPTURE, **facts: Any) -> Outcome | None:
    """The outcome of the capture, where one fact about the payment or its one operation is another than asked."""
    recorded = {
        "key": facts.pop("key", "k"),
        "kind": facts.pop("kind", OperationKind.CAPTURE),
        "amount_minor": facts.pop("amount_minor", 500),
        "status": facts.pop("recorded", RecordedStatus.SUCCEEDED),
        "decline_code": facts.pop("decline_code", None),
    }
    usual = {
        "processor_reference": "pay_1",
        "reference": "ref",
        "status": PaymentStatus.CAPTURED,
        "currency": "USD",
        "authorized_minor": 500,
        "captured_minor": 500,
        "refunded_minor": 0,
        "operations": (RecordedOperation(**recorded),),
    }
    return outcome_of(CAPTURE, asked, Payment(**{**usual, **facts}))


def test_what_was_done_as_asked_succeeded() -> None:
    assert judged() == Succeeded(processor_reference="pay_1", amount_minor=500, currency="USD")


def test_an_operation_that_is_not_there_has_no_outcome() -> None:
    assert judged(key="another") is None
    assert judged(key=None) is None


@pytest.mark.parametrize(
    "other",
    [
        {"amount_minor": 501},
        {"currency": "EUR"},
        {"reference": "another"},
        {"processor_reference": "pay_2"},
        {"kind": OperationKind.REFUND},
    ],
)
def test_another_amount_currency_reference_payment_or_kind_is_unknown(other: dict[str, Any]) -> None:
    outcome = judged(**other)
    assert isinstance(outcome, Unknown)
    assert str(next(iter(other.values()))) in outcome.detail


def test_a_void_succeeds_for_whatever_was_still_held() -> None:
    outcome = judged(OperationKind.VOID, kind=OperationKind.VOID, amount_minor=200)
    assert outcome == Succeeded(processor_reference="pay_1", amount_minor=200, currency="USD")


def test_a_decline_says_why_and_of_which_payment() -> None:
    outcome = judged(recorded=RecordedStatus.DECLINED, decline_code="expired_card")
    assert outcome == Declined(decline_code="expired_card", processor_reference="pay_1")


def test_what_the_processor_is_still_working_on_is_pending() -> None:
    assert judged(recorded=RecordedStatus.PENDING) == Pending(processor_reference="pay_1")


def test_an_action_has_an_address_or_is_unknown() -> None:
    outcome = judged(recorded=RecordedStatus.REQUIRES_ACTION, action_url="https://bank.example/3ds")
    assert outcome == RequiresAction(processor_reference="pay_1", url="https://bank.example/3ds")
    assert isinstance(judged(recorded=RecordedStatus.REQUIRES_ACTION), Unknown)
