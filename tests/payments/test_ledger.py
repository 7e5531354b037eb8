"""The proof of the books: each balance is corrupted by SQL and has to be named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import payments
from commercehub import ids
from payments import Intent, Kind, Session, ledger, operations
from payments.ledger import Entry
from tests.payments.desk import Desk

BALANCED = "M1 every ledger transaction adds up to nothing"
SUMS = "M4 an intent's sums are those of its operations"
POSTED = "M4 the ledger has what the intents captured less what they refunded"
LISTED = "M4 what was begun and has not ended is on the open list"
HELD = "M3 the ledger has at each processor what its payments took"
DRAWERS = "M9 a drawer holds its float and its cash until it closes, then nothing"

Named = list[tuple[str, str, int, int]]


async def _rewrite(desk: Desk, statement: str, *values: object) -> Named:
    """What is found after something was done to the books behind the triggers' back."""
    await desk.db.execute("SET LOCAL session_replication_role = replica")
    await desk.db.execute(statement, *values)
    return [(each.invariant, each.subject, each.expected, each.found) for each in await payments.verify(desk.db)]


@pytest.fixture
async def card(desk: Desk) -> Intent:
    """1000 by card: 600 captured, 100 of it refunded, 300 let go, a capture of 100 under way."""
    intent = await desk.authorized(1000)
    await desk.hear(await desk.begin(intent, Kind.CAPTURE, 600))
    # ``begin`` refuses a void of a part; books that hold one have to add up nevertheless.
    void = ids.new()
    await desk.db.execute(operations.BEGIN, [void], [intent.id], [Kind.VOID], [300], desk.now, desk.now)
    await desk.hear(void)
    await desk.hear(await desk.begin(intent, Kind.REFUND, 100))
    await desk.begin(intent, Kind.CAPTURE, 100)
    return await desk.intent()


@pytest.fixture
async def drawer(desk: Desk) -> Session:
    """A float of 500, and 250 taken for another sale."""
    session = await desk.open_drawer(await desk.register(), 500)
    await desk.open(desk.cash(250, session_id=session.id, reference=ids.new()))
    return session


async def test_sound_books_have_no_finding(desk: Desk, card: Intent, drawer: Session) -> None:
    assert await payments.verify(desk.db) == []


async def test_closed_drawers_are_sound(desk: Desk, drawer: Session) -> None:
    register = payments.Register(id=drawer.register_id, location_id=ids.new(), name="")
    await desk.close_drawer(register, 700)
    assert await payments.verify(desk.db) == []


async def test_an_entry_of_another_size_is_named(desk: Desk, card: Intent) -> None:
    statement = """
        UPDATE payments.entries SET amount_minor = 601
        WHERE reference = $1 AND account = 'processor:sandbox' AND amount_minor = 600 RETURNING transaction_id
    """
    (unbalanced, held) = await _rewrite(desk, statement, desk.reference)
    assert (unbalanced[0], unbalanced[1][-4:], unbalanced[2:]) == (BALANCED, " USD", (0, 1))
    assert held == (HELD, f"processor:sandbox for {desk.reference}", 500, 501)


async def test_an_entry_in_another_currency_is_named_in_both(desk: Desk, card: Intent) -> None:
    statement = """
        UPDATE payments.entries SET currency = 'EUR' WHERE reference = $1 AND account = 'orders' AND amount_minor = -600
    """
    found = await _rewrite(desk, statement, desk.reference)
    assert sorted((each[0], each[1][-3:], each[3]) for each in found) == [
        (BALANCED, "EUR", -600),
        (BALANCED, "USD", 600),
    ]


async def test_a_transaction_that_is_gone_is_named(desk: Desk, card: Intent) -> None:
    statement = "DELETE FROM payments.entries WHERE reference = $1 AND abs(amount_minor) = 600"
    assert await _rewrite(desk, statement, desk.reference) == [
        (POSTED, str(desk.reference), 500, -100),
        (HELD, f"processor:sandbox for {desk.reference}", 500, -100),
    ]


async def test_a_payment_booked_into_the_safe_is_named(desk: Desk, card: Intent) -> None:
    statement = """
        UPDATE payments.entries SET account = 'safe' WHERE reference = $1 AND account = 'processor:sandbox'
        AND amount_minor = 600
    """
    found = await _rewrite(desk, statement, desk.reference)
    assert found == [(HELD, f"processor:sandbox for {desk.reference}", 500, -100)]


async def test_a_payment_booked_for_another_order_is_named_at_both(desk: Desk, card: Intent) -> None:
    other = ids.new()
    found = await _rewrite(
        desk, "UPDATE payments.entries SET reference = $2 WHERE reference = $1", desk.reference, other
    )
    assert {each[1:] for each in found} == {
        *((str(desk.reference), 500, 0), (str(other), 0, 500)),
        *((f"processor:sandbox for {desk.reference}", 500, 0), (f"processor:sandbox for {other}", 0, 500)),
    }


@pytest.mark.parametrize(
    ("column", "was", "wrong"),
    [("authorized", 1000, 999), ("captured", 600, 601), ("voided", 300, 299), ("refunded", 100, 101)],
)
async def test_a_sum_that_its_operations_do_not_explain_is_named(
    desk: Desk, card: Intent, column: str, was: int, wrong: int
) -> None:
    found = await _rewrite(desk, f"UPDATE payments.intents SET {column}_minor = $2 WHERE id = $1", card.id, wrong)
    assert (SUMS, f"{card.id} {column}", was, wrong) in found
    assert {each[0] for each in found} <= {SUMS, POSTED, HELD}


async def test_an_operation_that_is_gone_is_named(desk: Desk, card: Intent) -> None:
    statement = "DELETE FROM payments.operations WHERE intent_id = $1 AND kind = 'void' AND state = 'succeeded'"
    found = await _rewrite(desk, statement, card.id)
    assert (SUMS, f"{card.id} voided", 0, 300) in found


async def test_a_local_sum_that_its_capture_does_not_explain_is_named(desk: Desk) -> None:
    await desk.open(desk.cash(250))
    intent = await desk.intent()
    found = await _rewrite(desk, "UPDATE payments.operations SET amount_minor = 249 WHERE intent_id = $1", intent.id)
    assert {each[1:] for each in found} == {
        (f"{intent.id} authorized", 249, 250),
        (f"{intent.id} captured", 249, 250),
    }


async def test_an_operation_that_nobody_will_ask_after_is_named(desk: Desk, card: Intent) -> None:
    (waiting,) = await desk.waiting()
    found = await _rewrite(desk, "DELETE FROM payments.open_operations WHERE operation_id = $1", waiting)
    assert found == [(LISTED, str(waiting), 1, 0)]


async def test_an_operation_that_ended_and_is_still_listed_is_named(desk: Desk, card: Intent) -> None:
    (waiting,) = await desk.waiting()
    statement = """
        UPDATE payments.operations SET state = 'failed' WHERE operation_id = $1
    """
    assert await _rewrite(desk, statement, waiting) == [(LISTED, str(waiting), 0, 1)]


async def test_a_drawer_that_its_sales_do_not_explain_is_named(desk: Desk, drawer: Session) -> None:
    statement = "UPDATE payments.entries SET account = 'safe' WHERE account = $1 AND amount_minor = 250"
    found = await _rewrite(desk, statement, ledger.drawer(drawer.id))
    assert found == [(DRAWERS, str(drawer.id), 750, 500)]


async def test_a_drawer_that_was_closed_and_not_emptied_is_named(desk: Desk, drawer: Session) -> None:
    statement = """
        UPDATE payments.register_sessions SET closed_at = now(), counted_minor = 750, expected_minor = 750 WHERE id = $1
    """
    assert await _rewrite(desk, statement, drawer.id) == [(DRAWERS, str(drawer.id), 0, 750)]


@given(st.lists(st.integers(-3, 3)))
def test_entries_of_no_amount_are_left_out(amounts: list[int]) -> None:
    entries = [
        Entry(transaction_id=ids.new(), account=str(i), amount_minor=amount, currency="USD")
        for i, amount in enumerate(amounts)
    ]
    columns = ledger.columns(entries)
    assert columns[2] == [amount for amount in amounts if amount]
    assert {len(column) for column in columns} == {len(columns[2])}
