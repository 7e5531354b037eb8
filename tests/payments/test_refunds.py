"""Money goes back over the tenders that paid: what was paid last first, never more than was paid."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import payments
from commercehub import ids
from payments import Intent, IntentState, Kind, OperationState, Reason, Room, ledger
from tests.payments.desk import Desk


def _intent(tender: str) -> Intent:
    return Intent(
        id=ids.new(),
        reference=ids.new(),
        tender=tender,
        processor=None,
        processor_reference=None,
        session_id=None,
        currency="USD",
        amount_minor=0,
        tendered_minor=None,
        state=IntentState.CAPTURED,
    )


async def give_back(desk: Desk, amount_minor: int, **why: Any) -> list[tuple[str, int, bool]]:
    """Refund over whatever may be; what went where."""
    rooms = await payments.read_rooms(desk.db, reference=desk.reference)
    parts = payments.spread(rooms, amount_minor)
    await payments.write_refunds(
        desk.db,
        [payments.NewRefund(id=ids.new(), part=part) for part in parts],
        reference=desk.reference,
        reason=Reason(words="return", actor="ada", **why),
        now=desk.now,
    )
    return [(part.intent.tender, part.amount_minor, part.waits) for part in parts]


async def test_what_was_paid_last_goes_back_first(desk: Desk) -> None:
    card = desk.card(700)
    await desk.open(desk.cash(300), card)
    (recorded,) = await desk.hear(card.operation_id)
    await desk.hear(await desk.begin(recorded.intent, Kind.CAPTURE, 700))
    assert await give_back(desk, 800) == [("card", 700, False), ("cash", 100, False)]
    assert await give_back(desk, 500) == [("cash", 200, False)]
    assert await give_back(desk, 1) == []
    assert await payments.verify(desk.db) == []


async def test_what_is_being_captured_is_owed_and_goes_back_once_it_was(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    capture = await desk.begin(intent, Kind.CAPTURE, 600)
    assert await give_back(desk, 200) == [("card", 200, True)]
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == 0
    await desk.hear(capture)
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == 200
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == 0
    for operation_id in await desk.waiting():
        await desk.hear(operation_id)
    assert (await desk.intent()).refunded_minor == 200
    (room,) = await payments.read_rooms(desk.db, reference=desk.reference)
    assert (room.in_hand_minor, room.coming_minor, room.promised_minor) == (400, 0, 400)
    assert await payments.verify(desk.db) == []


async def test_a_capture_that_failed_leaves_the_refund_owed(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    capture = await desk.begin(intent, Kind.CAPTURE, 1000)
    await give_back(desk, 1000)
    await desk.hear(capture, OperationState.DECLINED)
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == 0
    assert await give_back(desk, 1) == []
    await desk.hear(await desk.begin(await desk.intent(), Kind.CAPTURE, 1000))
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == 1000


async def test_a_refund_that_was_refused_may_be_given_again(desk: Desk) -> None:
    await desk.captured(500)
    cause = ids.new()
    await give_back(desk, 500, cause=cause)
    (refund,) = await desk.waiting()
    await desk.hear(refund, OperationState.DECLINED)
    (told,) = await payments.read_refunds(desk.db, causes=[cause])
    assert (told.id, told.state, told.tender, told.amount_minor) == (refund, "declined", "card", 500)
    assert await give_back(desk, 500) == [("card", 500, False)]


async def test_cash_comes_out_of_the_drawer_of_whoever_gives_it_back(desk: Desk) -> None:
    taker = await desk.open_drawer(await desk.register(), 100)
    register = await desk.register()
    giver = await desk.open_drawer(register, 1000)
    await desk.open(desk.cash(300, session_id=taker.id))
    await give_back(desk, 120, session_id=giver.id)
    assert await payments.read_drawer(desk.db, session_id=taker.id) == 400
    assert await payments.read_drawer(desk.db, session_id=giver.id) == 880
    (taken,) = await payments.read_taken(desk.db, session_id=giver.id)
    assert (taken.tender, taken.taken_minor, taken.refunded_minor) == ("cash", 0, 120)
    await give_back(desk, 80)
    assert (await desk.balances())[ledger.SAFE] == -80
    assert await payments.verify(desk.db) == []
    await desk.close_drawer(register, 880)
    with pytest.raises(payments.NoOpenSession):
        await give_back(desk, 1, session_id=giver.id)


async def test_credit_is_owed_instead(desk: Desk) -> None:
    await desk.captured(500)
    owner = ids.new()
    stored = await payments.open_store_credit(
        desk.db, new_id=ids.new(), owner_id=owner, currency="USD", actor="ada", now=desk.now
    )
    await payments.write_credit(
        desk.db,
        credit_id=ids.new(),
        stored=stored,
        amount_minor=200,
        reference=desk.reference,
        reason=Reason(words="return", actor="ada", cause=desk.reference),
        now=desk.now,
    )
    found = await payments.find_store_credit(desk.db, owner_id=owner, currency="USD")
    assert found is not None
    assert (found.available_minor, await payments.read_credited(desk.db, reference=desk.reference)) == (200, 200)
    assert [each.amount_minor for each in await payments.read_bookings(desk.db, found)] == [200]
    assert await payments.verify(desk.db) == []


AMOUNTS = st.integers(0, 1000)
ROOMS = st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), max_size=5)


@settings(max_examples=30)
@given(ROOMS, st.integers(0, 20_000))
def test_a_refund_is_spread_to_the_cent_or_as_far_as_it_goes(
    given_rooms: list[tuple[int, int, int]], amount: int
) -> None:
    rooms = [
        Room(intent=_intent("cash"), in_hand_minor=hand, coming_minor=coming, promised_minor=promised)
        for hand, coming, promised in given_rooms
    ]
    parts = payments.spread(rooms, amount)
    total = sum(room.paid_minor + room.promised_minor for room in rooms)
    assert sum(part.amount_minor for part in parts) == min(amount, total)
    assert len({(part.intent.id, part.waits) for part in parts}) == len(parts)
    for room in rooms:
        mine = [part for part in parts if part.intent.id == room.intent.id]
        assert sum(part.amount_minor for part in mine if not part.waits) <= room.in_hand_minor
        assert sum(part.amount_minor for part in mine if part.waits) <= room.coming_minor + room.promised_minor
