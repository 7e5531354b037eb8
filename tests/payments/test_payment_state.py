"""The payment state of an order, a case a line."""

import pytest

from commercehub import ids
from payments import Intent, IntentState, payment_state


def intent(state: str, authorized: int = 0, captured: int = 0, voided: int = 0, refunded: int = 0) -> Intent:
    return Intent(
        id=ids.new(),
        reference=ids.new(),
        tender="card",
        processor="sandbox",
        processor_reference=None,
        session_id=None,
        currency="USD",
        amount_minor=1000,
        tendered_minor=None,
        state=IntentState(state),
        authorized_minor=authorized,
        captured_minor=captured,
        voided_minor=voided,
        refunded_minor=refunded,
    )


@pytest.mark.parametrize(
    ("intents", "due", "state"),
    [
        ([], 1000, "unpaid"),
        ([], 0, "paid"),
        ([intent("pending")], 1000, "pending"),
        ([intent("unknown")], 1000, "unknown"),
        ([intent("declined")], 1000, "unpaid"),
        ([intent("failed")], 1000, "unpaid"),
        ([intent("authorized", 1000)], 1000, "authorized"),
        ([intent("authorized", 1000, 400)], 1000, "partially_captured"),
        ([intent("captured", 1000, 1000)], 1000, "paid"),
        ([intent("captured", 1000, 400, 600)], 400, "paid"),
        ([intent("captured", 1000, 400, 600)], 1000, "partially_captured"),
        ([intent("voided", 1000, 0, 1000)], 1000, "voided"),
        ([intent("voided", 1000, 0, 1000)], 0, "voided"),
        ([intent("captured", 1000, 1000, 0, 1)], 1000, "partially_refunded"),
        ([intent("captured", 1000, 1000, 0, 1000)], 1000, "refunded"),
        ([intent("declined"), intent("captured", 1000, 1000)], 1000, "paid"),
        ([intent("captured", 300, 300), intent("pending")], 1000, "pending"),
        ([intent("pending"), intent("unknown")], 1000, "unknown"),
        ([intent("captured", 300, 300), intent("authorized", 700)], 1000, "partially_captured"),
        ([intent("captured", 300, 300), intent("captured", 700, 700)], 1000, "paid"),
        ([intent("captured", 300, 300, 0, 300), intent("captured", 700, 700)], 1000, "partially_refunded"),
    ],
)
def test_the_state_follows_from_the_tenders_and_what_is_due(intents: list[Intent], due: int, state: str) -> None:
    assert payment_state(intents, due_minor=due) == state
