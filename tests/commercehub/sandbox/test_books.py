"""The books add up, whatever is asked of them, in whatever order, and however often."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commercehub.sandbox.books import (
    EVENT_ATTEMPTS_MAX,
    OPERATIONS_MAX,
    Books,
    Claim,
    KeyReused,
    NoSuchPayment,
    Payment,
    Refusal,
    Status,
    Total,
)
from commercehub.sandbox.methods import METHODS, Kind

ASKS = st.lists(
    st.tuples(st.sampled_from(["capture", "final", "void", "refund", "decide"]), st.integers(1, 1200)), max_size=12
)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "books.sqlite")
    yield books
    books.close()


def claim(key: str | None = None, *, account: str = "a", fingerprint: str = "f") -> Claim:
    return Claim(account=account, key=key or str(uuid4()), fingerprint=fingerprint)


def authorize(books: Books, *, method: str = "pm_ok", by: Claim | None = None, reference: str = "r") -> str:
    outcome = books.authorize(
        by or claim(), reference=reference, amount=1000, currency="USD", payment_method=method, return_url=None
    )
    return outcome.payment_id if isinstance(outcome, Refusal) else outcome.id


@settings(deadline=None)
@given(st.sampled_from(["pm_ok", "pm_requires_action", "pm_declined", "pm_refund_declined"]), ASKS)
def test_counters_and_operations_agree_after_any_asks(method: str, asks: list[tuple[str, int]]) -> None:
    books = Books(Path(":memory:"))
    try:
        payment_id = authorize(books, method=method)
        for ask, amount in asks:
            match ask:
                case "capture" | "final":
                    books.capture(claim(), payment_id, amount=amount, final=ask == "final")
                case "void":
                    books.void(claim(), payment_id)
                case "refund":
                    books.refund(claim(), payment_id, amount=amount)
                case _:
                    books.decide(payment_id, approve=amount % 2 == 0)
        payment = books.payment(payment_id)
        totals = books.totals(account="a") or [Total(currency="USD", authorized=0, captured=0, voided=0, refunded=0)]
        (total,) = totals
        counted = (payment.amount_authorized, payment.amount_captured, payment.amount_refunded)
        assert counted == (total.authorized, total.captured, total.refunded)
        assert payment.amount_held == total.authorized - total.captured - total.voided
        assert 0 <= payment.amount_refunded <= payment.amount_captured <= payment.amount_authorized <= payment.amount
    finally:
        books.close()


def test_the_file_itself_refuses_a_refund_of_more_than_was_captured(books: Books) -> None:
    payment_id = authorize(books)
    with pytest.raises(sqlite3.IntegrityError, match="no_more_than_there_is"):
        books._db.execute("UPDATE payments SET amount_refunded = 1 WHERE id = ?", (payment_id,))


def test_an_answer_is_the_same_at_every_replay_even_after_the_payment_moved_on(books: Books) -> None:
    first = claim()
    payment_id = authorize(books, by=first)
    answered = books.recall(first)
    books.capture(claim(), payment_id)
    assert books.recall(first) == answered
    assert authorize(books, by=first) == payment_id


def test_an_effect_whose_answer_could_not_be_stored_did_not_happen(books: Books) -> None:
    payment_id, asked = authorize(books), claim()
    books._db.execute("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'full'); END")
    for _ in range(2):
        with pytest.raises(sqlite3.IntegrityError, match="full"):
            books.capture(asked, payment_id)
    books._db.execute("DROP TRIGGER full")
    assert books.payment(payment_id).amount_captured == 0
    assert isinstance(books.capture(asked, payment_id), Payment)


def test_a_refusal_is_an_answer_too(books: Books) -> None:
    payment_id, asked = authorize(books), claim()
    assert isinstance(books.refund(asked, payment_id, amount=1), Refusal)
    books.capture(claim(), payment_id)
    assert isinstance(books.refund(asked, payment_id, amount=1), Refusal)


def test_a_key_with_another_question_is_refused_and_nothing_happens(books: Books) -> None:
    authorize(books, by=claim("k"))
    with pytest.raises(KeyReused):
        authorize(books, by=claim("k", fingerprint="other"))
    assert len(books.latest(10)) == 1


def test_the_same_key_of_two_accounts_is_two_keys(books: Books) -> None:
    mine, theirs = authorize(books, by=claim("k")), authorize(books, by=claim("k", account="b"))
    assert mine != theirs


def test_a_payment_of_another_account_is_no_payment(books: Books) -> None:
    payment_id = authorize(books)
    with pytest.raises(NoSuchPayment):
        books.payment(payment_id, account="b")
    with pytest.raises(NoSuchPayment):
        books.capture(claim(account="b"), payment_id)


@pytest.mark.parametrize("payment_id", ["", "pay_", "pay_\x00", "\ud800", "pay_" + "0" * 33, "'; DROP TABLE payments"])
def test_what_is_no_id_is_no_payment(books: Books, payment_id: str) -> None:
    with pytest.raises(NoSuchPayment):
        books.payment(payment_id)


def test_two_servers_on_one_file_charge_one_key_once(tmp_path: Path) -> None:
    path, asked = tmp_path / "books.sqlite", claim()
    both = [Books(path), Books(path)]
    made: list[str] = []
    threads = [threading.Thread(target=lambda one=one: made.append(authorize(one, by=asked))) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert len(both[0].latest(10)) == 1
    for one in both:
        one.close()


def test_a_final_capture_lets_go_of_the_rest(books: Books) -> None:
    payment_id = authorize(books)
    after = books.capture(claim(), payment_id, amount=600, final=True)
    assert isinstance(after, Payment)
    assert (after.status, after.amount_captured, after.amount_held) == (Status.CAPTURED, 600, 0)
    assert [one.kind for one in after.operations] == [Kind.AUTHORIZE, Kind.CAPTURE, Kind.VOID]


def test_the_payer_decides_once(books: Books) -> None:
    payment_id = authorize(books, method="pm_requires_action")
    assert books.decide(payment_id, approve=True).status is Status.AUTHORIZED
    assert books.decide(payment_id, approve=False).status is Status.AUTHORIZED


def test_a_payment_carries_a_limited_number_of_operations(books: Books) -> None:
    payment_id = authorize(books)
    for _ in range(OPERATIONS_MAX - 1):
        assert isinstance(books.capture(claim(), payment_id, amount=1), Payment)
    refusal = books.capture(claim(), payment_id, amount=1)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "too_many_operations"


def test_a_fault_is_due_once_for_each_key_even_after_a_restart(tmp_path: Path) -> None:
    path, asked = tmp_path / "books.sqlite", claim()
    books = Books(path)
    assert books.fault_is_due(asked)
    books.close()
    books = Books(path)
    assert not books.fault_is_due(asked)
    assert books.fault_is_due(claim())
    books.close()


def test_every_change_leaves_one_event_where_somebody_listens(tmp_path: Path) -> None:
    books = Books(tmp_path / "books.sqlite", events=True)
    payment_id = authorize(books)
    books.capture(claim(), payment_id)
    books.refund(claim(), payment_id, amount=1)
    books.refund(claim(), payment_id, amount=5000)
    due = books.due_events(limit=10)
    assert [event.body.split(b'"type":"')[1].split(b'"')[0] for event in due] == [
        b"payment.authorized",
        b"payment.captured",
        b"payment.refunded",
    ]
    books.close()


def test_an_event_is_due_until_it_was_delivered_or_tried_too_often(tmp_path: Path) -> None:
    books = Books(tmp_path / "books.sqlite", events=True)
    authorize(books)
    for _ in range(EVENT_ATTEMPTS_MAX):
        (event,) = books.due_events(limit=10)
        books.event_failed(event.id, pause_seconds=0)
    assert books.due_events(limit=10) == []
    authorize(books)
    (event,) = books.due_events(limit=10)
    books.event_failed(event.id, pause_seconds=60)
    assert books.due_events(limit=10) == []
    books.event_failed(event.id, pause_seconds=-60)
    assert [due.id for due in books.due_events(limit=10)] == [event.id]
    books.event_delivered(event.id)
    assert books.due_events(limit=10) == []
    books.close()


def test_every_payment_method_does_something_to_one_kind_of_operation() -> None:
    assert {"pm_ok", "pm_answer_lost", "pm_capture_answer_lost", "pm_refund_declined"} <= METHODS.keys()
