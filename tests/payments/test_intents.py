"""Intents and their operations: what was asked, what was said, and what that makes of the money."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

import payments
from commercehub import ids
from payments import Fact, IntentSettled, IntentState, Kind, OperationState, PartialVoid
from payments.intents import FIRST_TRY_AFTER, MOVES
from payments.operations import RETRY_DELAY_SECONDS_MAX
from tests.payments.desk import Desk

PENDING, UNKNOWN = OperationState.PENDING, OperationState.UNKNOWN
DECLINED, FAILED = OperationState.DECLINED, OperationState.FAILED
# Long before anything that other tests leave waiting.
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


async def test_cash_in_hand_is_captured_and_in_the_books(desk: Desk) -> None:
    await desk.open(desk.cash(1999, tendered_minor=2000))
    intent = await desk.intent()
    assert (intent.state, intent.authorized_minor, intent.captured_minor) == (IntentState.CAPTURED, 1999, 1999)
    assert intent.tendered_minor == 2000
    assert await desk.balances() == {"orders": -1999, "safe": 1999}


async def test_cash_goes_into_the_drawer_that_is_open(desk: Desk) -> None:
    session_id = ids.new()
    await desk.open(desk.cash(500, session_id=session_id))
    assert await desk.balances() == {"orders": -500, f"drawer:{session_id}": 500}


async def test_a_local_tender_has_a_capture_alone(desk: Desk) -> None:
    await desk.open(desk.cash(500))
    assert await desk.told() == [("capture", "succeeded", 500)]
    assert await desk.waiting() == []


async def test_a_card_waits_for_its_processor_and_is_not_in_the_books(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    assert (await desk.intent()).state is IntentState.PENDING
    assert await desk.told() == [("authorize", "pending", 500)]
    assert await desk.waiting() == [card.operation_id]
    assert await desk.balances() == {}


async def test_what_waits_has_all_that_its_processor_needs_to_hear(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    (waiting,) = await payments.read_open(desk.db, operation_ids=[card.operation_id, ids.new()])
    assert waiting == payments.OpenOperation(
        operation_id=card.operation_id,
        intent_id=card.id,
        reference=desk.reference,
        kind=Kind.AUTHORIZE,
        amount_minor=500,
        currency="USD",
        processor="sandbox",
        processor_reference=None,
        payment_method="pm_1",
        attempts=0,
        begun_at=desk.now,
    )


async def test_no_intents_are_no_work(desk: Desk) -> None:
    await desk.open()
    await payments.settle_local(desk.db, [], now=desk.now)
    await payments.begin(desk.db, [], now=desk.now)
    assert await payments.record(desk.db, [], now=desk.now) == []
    assert await desk.intents() == []


async def test_tenders_are_read_in_the_order_they_were_given_in(desk: Desk) -> None:
    tenders = [desk.cash(amount, settle=False) for amount in range(20, 0, -1)]
    await desk.open(*tenders)
    assert [intent.id for intent in await desk.intents()] == [tender.id for tender in tenders]


async def test_a_local_tender_beside_a_card_waits_with_it(desk: Desk) -> None:
    await desk.open(desk.cash(100, settle=False), desk.card(400))
    cash, _ = await desk.intents()
    assert (cash.state, cash.captured_minor) == (IntentState.PENDING, 0)
    assert await desk.balances() == {}
    assert await desk.told() == [("authorize", "pending", 400)]


async def test_a_local_tender_that_waited_is_settled_into_the_books(desk: Desk) -> None:
    await desk.open(desk.cash(100, settle=False))
    await payments.settle_local(desk.db, [(await desk.intent(), ids.new())], now=desk.now)
    assert (await desk.intent()).state is IntentState.CAPTURED
    assert await desk.told() == [("capture", "succeeded", 100)]
    assert await desk.balances() == {"orders": -100, "safe": 100}


async def test_a_local_tender_is_not_settled_twice(desk: Desk) -> None:
    await desk.open(desk.cash(100, settle=False))
    waiting = await desk.intent()
    await payments.settle_local(desk.db, [(waiting, ids.new())], now=desk.now)
    with pytest.raises(IntentSettled) as refused:
        await payments.settle_local(desk.db, [(waiting, ids.new())], now=desk.now)
    assert refused.value.state == "captured"
    assert await desk.balances() == {"orders": -100, "safe": 100}


async def test_a_local_tender_that_was_dropped_is_never_money(desk: Desk) -> None:
    await desk.open(desk.cash(100, settle=False))
    waiting = await desk.intent()
    await payments.drop_local(desk.db, reference=desk.reference)
    assert (await desk.intent()).state is IntentState.FAILED
    with pytest.raises(IntentSettled):
        await payments.settle_local(desk.db, [(waiting, ids.new())], now=desk.now)
    assert await desk.balances() == {}


async def test_dropping_leaves_cards_and_settled_money_alone(desk: Desk) -> None:
    await desk.open(desk.cash(100), desk.card(400))
    await payments.drop_local(desk.db, reference=desk.reference)
    assert [intent.state for intent in await desk.intents()] == [IntentState.CAPTURED, IntentState.PENDING]


async def test_an_authorization_promises_money_and_moves_none(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    assert (intent.state, intent.authorized_minor, intent.captured_minor) == (IntentState.AUTHORIZED, 1000, 0)
    assert await desk.balances() == {}
    assert await desk.waiting() == []


async def test_the_processors_own_reference_is_kept_from_the_first_that_brings_one(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    await desk.hear(card.operation_id, UNKNOWN, processor_reference="pi_1")
    (recorded,) = await desk.hear(card.operation_id, processor_reference="pi_2")
    assert recorded.intent.processor_reference == "pi_1"
    assert (await desk.intent()).processor_reference == "pi_1"


async def test_a_card_is_captured_in_parts_and_refunded(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    (part,) = await desk.hear(await desk.begin(intent, Kind.CAPTURE, 400))
    assert (part.intent.state, part.intent.captured_minor) == (IntentState.AUTHORIZED, 400)
    (rest,) = await desk.hear(await desk.begin(intent, Kind.CAPTURE, 600))
    assert (rest.intent.state, rest.intent.captured_minor) == (IntentState.CAPTURED, 1000)
    assert await desk.balances() == {"orders": -1000, "processor:sandbox": 1000}
    (refund,) = await desk.hear(await desk.begin(intent, Kind.REFUND, 250))
    assert (refund.intent.state, refund.intent.refunded_minor) == (IntentState.CAPTURED, 250)
    assert await desk.balances() == {"orders": -750, "processor:sandbox": 750}
    assert await desk.told() == [
        ("authorize", "succeeded", 1000),
        ("capture", "succeeded", 400),
        ("capture", "succeeded", 600),
        ("refund", "succeeded", 250),
    ]


async def test_an_authorization_is_let_go_of(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    (voided,) = await desk.hear(await desk.begin(intent, Kind.VOID, 1000))
    assert (voided.kind, voided.amount_minor) == (Kind.VOID, 1000)
    assert (voided.intent.state, voided.intent.voided_minor) == (IntentState.VOIDED, 1000)
    assert await desk.balances() == {}


async def test_what_is_left_after_a_part_was_captured_is_let_go_of(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    await desk.hear(await desk.begin(intent, Kind.CAPTURE, 400))
    (voided,) = await desk.hear(await desk.begin(intent, Kind.VOID, 600))
    assert voided.intent.state is IntentState.CAPTURED
    assert await desk.balances() == {"orders": -400, "processor:sandbox": 400}


async def test_a_declined_card_leaves_nothing_but_its_story(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    (recorded,) = await desk.hear(card.operation_id, DECLINED, decline_code="insufficient_funds")
    assert (recorded.intent.state, recorded.intent.authorized_minor) == (IntentState.DECLINED, 0)
    (operation,) = await payments.read_operations(desk.db, reference=desk.reference)
    assert (operation.state, operation.decline_code) == (DECLINED, "insufficient_funds")
    assert await desk.balances() == {}
    assert await desk.waiting() == []


async def test_a_capture_that_fails_leaves_the_authorization(desk: Desk) -> None:
    intent = await desk.authorized(500)
    (recorded,) = await desk.hear(await desk.begin(intent, Kind.CAPTURE, 500), FAILED)
    assert recorded.intent == intent
    assert await desk.begin(intent, Kind.CAPTURE, 500)


async def test_an_answer_that_was_lost_is_unknown_until_it_is_found(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    (lost,) = await desk.hear(card.operation_id, UNKNOWN, detail="timed out")
    assert lost.intent.state is IntentState.UNKNOWN
    assert await desk.waiting() == [card.operation_id]
    (found,) = await desk.hear(card.operation_id)
    assert found.intent.state is IntentState.AUTHORIZED
    assert await desk.rows() == ["pending", "unknown", "succeeded"]


async def test_an_unknown_capture_does_not_make_the_intent_unknown(desk: Desk) -> None:
    intent = await desk.authorized(500)
    (lost,) = await desk.hear(await desk.begin(intent, Kind.CAPTURE, 500), UNKNOWN)
    assert lost.intent.state is IntentState.AUTHORIZED


async def test_an_operation_that_waits_for_its_payer_stays_pending(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    for _ in range(2):
        (recorded,) = await desk.hear(card.operation_id, PENDING, processor_reference="pi_1")
        assert (recorded.intent.state, recorded.intent.processor_reference) == (IntentState.PENDING, "pi_1")
    assert await desk.rows() == ["pending"]
    assert await desk.waiting() == [card.operation_id]


async def test_a_fact_heard_twice_is_booked_once(desk: Desk) -> None:
    intent = await desk.authorized(500)
    capture = await desk.begin(intent, Kind.CAPTURE, 500)
    assert len(await desk.hear(capture)) == 1
    assert await desk.hear(capture) == []
    assert await desk.hear(capture, FAILED) == []
    assert await desk.balances() == {"orders": -500, "processor:sandbox": 500}


async def test_a_fact_of_an_operation_that_nobody_began_is_nothing(desk: Desk) -> None:
    assert await desk.hear(ids.new()) == []


async def test_of_facts_that_come_together_the_final_one_counts(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    facts = [
        Fact(operation_id=card.operation_id, state=state) for state in (UNKNOWN, OperationState.SUCCEEDED, UNKNOWN)
    ]
    (recorded,) = await payments.record(desk.db, facts, now=desk.now)
    assert recorded.intent.state is IntentState.AUTHORIZED


async def test_two_facts_of_one_intent_may_come_together(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    captures = [await desk.begin(intent, Kind.CAPTURE, amount) for amount in (400, 600)]
    facts = [Fact(operation_id=capture, state=OperationState.SUCCEEDED) for capture in captures]
    recorded = await payments.record(desk.db, facts, now=desk.now)
    assert sorted(each.amount_minor for each in recorded) == [400, 600]
    assert [each.intent.captured_minor for each in recorded] == [recorded[0].amount_minor, 1000]
    assert (await desk.intent()).state is IntentState.CAPTURED
    assert await payments.verify(desk.db) == []


async def test_facts_of_several_intents_are_booked_together(desk: Desk) -> None:
    cards = [desk.card(amount) for amount in (100, 200, 300)]
    await desk.open(*cards)
    states = (OperationState.SUCCEEDED, DECLINED, UNKNOWN)
    facts = [Fact(operation_id=card.operation_id, state=state) for card, state in zip(cards, states, strict=True)]
    await payments.record(desk.db, facts, now=desk.now)
    assert [intent.state.value for intent in await desk.intents()] == ["authorized", "declined", "unknown"]


@pytest.mark.parametrize(
    ("kind", "amounts", "refused"),
    [
        (Kind.CAPTURE, [1001], True),
        (Kind.CAPTURE, [600, 400], False),
        (Kind.CAPTURE, [600, 401], True),
        (Kind.VOID, [1000], False),
        (Kind.VOID, [1000, 1], True),
        (Kind.REFUND, [1], True),
        (Kind.CAPTURE, [0], True),
        (Kind.CAPTURE, [-1], True),
    ],
)
async def test_no_more_is_begun_of_an_authorization_than_it_holds(
    desk: Desk, kind: Kind, amounts: list[int], *, refused: bool
) -> None:
    intent = await desk.authorized(1000)
    *first, last = amounts
    for amount in first:
        await desk.begin(intent, kind, amount)
    if refused:
        with pytest.raises(IntentSettled):
            await desk.begin(intent, kind, last)
    else:
        await desk.begin(intent, kind, last)


async def test_a_void_lets_go_of_all_that_is_held_or_of_nothing(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    for part in (1, 999):
        with pytest.raises(PartialVoid) as refused:
            await desk.begin(intent, Kind.VOID, part)
        assert refused.value.held_minor == 1000
    await desk.hear(await desk.begin(intent, Kind.CAPTURE, 400))
    with pytest.raises(PartialVoid):
        await desk.begin(intent, Kind.VOID, 599)
    await desk.begin(intent, Kind.VOID, 600)


async def test_nothing_is_let_go_of_while_a_capture_is_under_way(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    capture = await desk.begin(intent, Kind.CAPTURE, 700)
    for amount in (300, 301, 1000):
        with pytest.raises(IntentSettled):
            await desk.begin(intent, Kind.VOID, amount)
    await desk.hear(capture)
    await desk.begin(intent, Kind.VOID, 300)
    with pytest.raises(IntentSettled):
        await desk.begin(intent, Kind.CAPTURE, 1)


async def test_refunds_under_way_count_against_what_was_captured(desk: Desk) -> None:
    intent = await desk.captured(1000)
    first = await desk.begin(intent, Kind.REFUND, 600)
    with pytest.raises(IntentSettled):
        await desk.begin(intent, Kind.REFUND, 401)
    await desk.hear(first, FAILED)
    await desk.begin(intent, Kind.REFUND, 1000)


async def test_operations_begun_together_count_each_other(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    with pytest.raises(IntentSettled):
        await payments.begin(
            desk.db, [(ids.new(), intent.id, Kind.CAPTURE, amount) for amount in (600, 600)], now=desk.now
        )
    assert await desk.waiting() == []


async def test_a_card_that_was_declined_has_nothing_to_capture(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    await desk.hear(card.operation_id, DECLINED)
    with pytest.raises(IntentSettled) as refused:
        await desk.begin(await desk.intent(), Kind.CAPTURE, 1)
    assert (refused.value.intent_id, refused.value.state) == (card.id, "declined")


async def test_cash_is_nothing_that_a_processor_could_be_asked_for(desk: Desk) -> None:
    await desk.open(desk.cash(500))
    with pytest.raises(IntentSettled):
        await desk.begin(await desk.intent(), Kind.REFUND, 500)


async def test_what_is_under_way_is_summed_by_intent_and_kind(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    for amount in (100, 200):
        await desk.hear(await desk.begin(intent, Kind.CAPTURE, amount))
    for amount in (10, 20):
        await desk.begin(intent, Kind.REFUND, amount)
    await desk.begin(intent, Kind.VOID, 700)
    assert await payments.read_under_way(desk.db, intent_ids=[intent.id]) == {
        (intent.id, Kind.REFUND): 30,
        (intent.id, Kind.VOID): 700,
    }


def test_an_intent_that_ended_moves_no_more() -> None:
    ended = {state for state, reached in MOVES.items() if not reached}
    assert ended == {IntentState.VOIDED, IntentState.DECLINED, IntentState.FAILED}
    assert set(MOVES) == set(IntentState)


async def test_money_that_comes_after_it_was_given_up_is_booked_once_and_can_be_let_go_of(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    await desk.hear(card.operation_id, OperationState.FAILED)
    late = payments.Fact(operation_id=ids.new(), state=OperationState.SUCCEEDED, processor_reference="pay_1")
    intent = await payments.record_late(desk.db, late, intent_id=card.id, now=desk.now)
    assert intent == await desk.intent()
    assert (intent.state, intent.authorized_minor) == (IntentState.AUTHORIZED, 500)
    again = msgspec.structs.replace(late, operation_id=ids.new())
    assert await payments.record_late(desk.db, again, intent_id=card.id, now=desk.now) is None
    await desk.hear(await desk.begin(intent, Kind.VOID, 500))
    assert (await desk.intent()).state is IntentState.VOIDED
    assert await payments.record_late(desk.db, again, intent_id=card.id, now=desk.now) is None
    assert await payments.verify(desk.db) == []


async def test_a_success_of_what_was_given_up_is_not_ours(desk: Desk) -> None:
    card = desk.card(500)
    await desk.open(card)
    await desk.hear(card.operation_id, OperationState.PENDING, action_url="https://bank.example/1")
    assert await payments.read_next_urls(desk.db, references=[desk.reference]) == {
        desk.reference: "https://bank.example/1"
    }
    assert await payments.give_up(desk.db, operation_id=card.operation_id, now=desk.now)
    assert await payments.read_next_urls(desk.db, references=[desk.reference]) == {}
    await desk.hear(card.operation_id)
    assert (await desk.intent()).state is IntentState.PENDING
    await desk.hear(card.operation_id, OperationState.FAILED)
    assert (await desk.intent()).state is IntentState.FAILED
    assert not await payments.give_up(desk.db, operation_id=card.operation_id, now=desk.now)


async def _due(desk: Desk, after: timedelta, limit: int = 9) -> int:
    return len(await payments.take_due(desk.db, limit=limit, now=LONG_AGO + after))


async def test_an_operation_is_left_to_its_flow_at_first(desk: Desk) -> None:
    desk.now = LONG_AGO
    await desk.open(desk.card(500))
    assert await _due(desk, FIRST_TRY_AFTER - timedelta(seconds=1)) == 0
    assert await _due(desk, FIRST_TRY_AFTER) == 1


async def test_an_operation_taken_up_is_left_alone_until_its_next_try(desk: Desk) -> None:
    desk.now = LONG_AGO
    card = desk.card(500)
    await desk.open(card)
    assert await _due(desk, FIRST_TRY_AFTER) == 1
    assert await _due(desk, FIRST_TRY_AFTER) == 0
    (waiting,) = await payments.read_open(desk.db, operation_ids=[card.operation_id])
    assert waiting.attempts == 1


async def test_the_tries_come_further_and_further_apart_up_to_a_limit(desk: Desk) -> None:
    desk.now = LONG_AGO
    card = desk.card(500)
    await desk.open(card)
    statement = "SELECT next_try_at FROM payments.open_operations WHERE operation_id = $1"
    delays, last = [], LONG_AGO + FIRST_TRY_AFTER
    for _ in range(12):
        assert await payments.take_due(desk.db, limit=1, now=last) == [card.operation_id]
        following = await desk.db.fetchval(statement, card.operation_id)
        delays.append((following - last).total_seconds())
        last = following
    assert delays[:7] == [5, 10, 20, 40, 80, 160, 300]
    assert set(delays[6:]) == {RETRY_DELAY_SECONDS_MAX}


async def test_the_longest_waiting_are_taken_up_first(desk: Desk) -> None:
    desk.now = LONG_AGO
    first = desk.card(500)
    await desk.open(first)
    desk.now += timedelta(seconds=1)
    await desk.open(desk.card(500), desk.card(500))
    assert await payments.take_due(desk.db, limit=1, now=desk.now + FIRST_TRY_AFTER) == [first.operation_id]


async def test_what_ended_is_not_due(desk: Desk) -> None:
    desk.now = LONG_AGO
    card = desk.card(500)
    await desk.open(card)
    await desk.hear(card.operation_id)
    assert await _due(desk, timedelta(days=1)) == 0
