"""Money goes back over the tenders that paid: what was paid last first, never more than was paid."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import payments
from commercehub import ids
from payments import Intent, IntentState, Kind, OperationState, Reason, Room, StoredValue, ledger
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


async def begun(desk: Desk) -> int:
    """How much of what was owed is begun."""
    return (await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now)).begun_minor


async def credit(desk: Desk, amount_minor: int, *, waits: bool = False, **why: Any) -> StoredValue:
    """Credit in place of money; whoever is owed it."""
    stored = await payments.open_store_credit(
        desk.db, new_id=ids.new(), owner_id=desk.reference, currency="USD", actor="ada", now=desk.now
    )
    await payments.write_credit(
        desk.db,
        credit_id=ids.new(),
        stored=stored,
        amount_minor=amount_minor,
        reference=desk.reference,
        reason=Reason(words="return", actor="ada", **why),
        waits=waits,
        now=desk.now,
    )
    return await balance(desk)


async def balance(desk: Desk) -> StoredValue:
    """What we owe."""
    found = await payments.find_store_credit(desk.db, owner_id=desk.reference, currency="USD")
    assert found is not None
    return found


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
    assert await begun(desk) == 0
    await desk.hear(capture)
    assert await begun(desk) == 200
    assert await begun(desk) == 0
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
    assert await begun(desk) == 0
    assert await give_back(desk, 1) == []
    await desk.hear(await desk.begin(await desk.intent(), Kind.CAPTURE, 1000))
    assert await begun(desk) == 1000


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
    found = await credit(desk, 200, cause=desk.reference)
    assert (found.available_minor, await payments.read_credited(desk.db, reference=desk.reference)) == (200, 200)
    assert [each.amount_minor for each in await payments.read_bookings(desk.db, found)] == [200]
    assert await payments.verify(desk.db) == []


async def test_credit_for_what_is_not_captured_cannot_be_spent_before_it_is(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    assert (await credit(desk, 300, waits=True)).balance_minor == 0
    capture = await desk.begin(intent, Kind.CAPTURE, 1000)
    assert (await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now)).credited_minor == 0
    await desk.hear(capture)
    settled = await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now)
    assert (settled.credited_minor, settled.begun_minor, settled.dropped) == (300, 0, ())
    assert (await balance(desk)).available_minor == 300
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == payments.Settled()
    assert await payments.verify(desk.db) == []


async def test_what_can_never_come_is_not_owed_any_more(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    cause = ids.new()
    await give_back(desk, 700, cause=cause)
    await credit(desk, 300, waits=True, cause=cause)
    await desk.hear(await desk.begin(intent, Kind.CAPTURE, 500))
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == payments.Settled(
        credited_minor=300
    )
    void = await desk.begin(intent, Kind.VOID, 500)
    # A void may fail: what it lets go of may still come.
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == payments.Settled()
    await desk.hear(void)
    settled = await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now)
    assert settled == payments.Settled(begun_minor=200, dropped=(payments.Dropped(cause=cause, amount_minor=500),))
    assert sorted(
        (each.tender, each.amount_minor, each.state) for each in await payments.read_refunds(desk.db, causes=[cause])
    ) == [("card", 200, "pending"), ("store_credit", 300, "succeeded")]
    assert await payments.verify(desk.db) == []


async def test_all_that_was_let_go_of_leaves_nothing_owed(desk: Desk) -> None:
    intent = await desk.authorized(1000)
    await give_back(desk, 600)
    await credit(desk, 400, waits=True)
    await desk.hear(await desk.begin(intent, Kind.VOID, 1000))
    settled = await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now)
    assert sorted(each.amount_minor for each in settled.dropped) == [400, 600]
    assert await payments.begin_owed(desk.db, reference=desk.reference, now=desk.now) == payments.Settled()
    assert (await balance(desk)).balance_minor == 0
    assert await payments.verify(desk.db) == []


def test_credit_takes_what_is_in_hand_and_was_paid_first() -> None:
    rooms = [
        Room(intent=_intent("card"), in_hand_minor=100, coming_minor=200, promised_minor=300),
        Room(intent=_intent("cash"), in_hand_minor=50, coming_minor=0, promised_minor=0),
    ]

    def left(credited: int) -> list[tuple[int, int, int]]:
        return [
            (room.in_hand_minor, room.coming_minor, room.promised_minor)
            for room in payments.less_credit(rooms, credited)
        ]

    assert left(0) == [(100, 200, 300), (50, 0, 0)]
    assert left(60) == [(90, 200, 300), (0, 0, 0)]
    assert left(400) == [(0, 0, 250), (0, 0, 0)]
    assert left(1_000) == [(0, 0, 0), (0, 0, 0)]


@pytest.mark.parametrize(("days", "is_extended"), [(None, False), (-30, True), (30, True), (400, False)])
async def test_what_comes_back_onto_a_gift_card_can_be_spent_for_a_year_at_least(
    desk: Desk, days: int | None, *, is_extended: bool
) -> None:
    card_id = ids.new()
    expires_at = desk.now + timedelta(days=days) if days is not None else None
    await payments.issue_gift_card(
        desk.db,
        card_id=card_id,
        code_hash=card_id.bytes,
        currency="USD",
        balance_minor=500,
        expires_at=None,
        actor="ada",
        now=desk.now,
    )
    gift = payments.NewIntent(
        id=ids.new(),
        operation_id=ids.new(),
        reference=desk.reference,
        tender="gift_card",
        currency="USD",
        amount_minor=500,
        stored_value_id=card_id,
        settle=True,
    )
    spending = payments.Spending(stored_value_id=card_id, amount_minor=500, settle=True)
    await payments.claim_stored_value(desk.db, [spending], now=desk.now)
    await desk.open(gift)
    await desk.db.execute("UPDATE payments.stored_values SET expires_at = $2 WHERE id = $1", card_id, expires_at)
    await give_back(desk, 400)
    card = (await payments.read_gift_cards(desk.db, card_ids=[card_id]))[card_id]
    assert (card.balance_minor, card.available_minor) == (400, 400)
    assert card.expires_at == (desk.now + timedelta(days=365) if is_extended else expires_at)
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
