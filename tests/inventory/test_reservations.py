"""Promises of stock: reserve, post, void, expire."""

from datetime import timedelta

import msgspec
import pytest

import inventory
from commercehub import ids
from inventory import ReservationSettled
from tests.inventory.shelf import Shelf, build_location, new_sku

GONE_BY = timedelta(seconds=-1)
STILL = timedelta(hours=1)


async def test_a_claim_reserves_what_it_wants(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 2)
    assert await shelf.numbers(sku) == (5, 2, 3)


async def test_a_claim_is_granted_whole_or_not_at_all(shelf: Shelf) -> None:
    plenty, scarce = await shelf.stock(5), await shelf.stock(1)
    claimed = await shelf.claimed(shelf.claim(shelf.want(plenty, 2), shelf.want(scarce, 2)))
    assert [short.sku for short in claimed.shortages[0]] == [scarce]
    assert claimed.changes == []
    assert await shelf.numbers(plenty) == (5, 0, 5)


async def test_a_refusal_says_what_could_have_been_had(shelf: Shelf) -> None:
    sku = await shelf.stock(3)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 4)))
    assert claimed.shortages == [
        (inventory.Shortage(sku=sku, location_id=shelf.location_id, requested=4, available=3),)
    ]


async def test_two_lines_of_one_claim_share_what_is_there(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 3), shelf.want(sku, 3)))
    assert [(short.requested, short.available) for short in claimed.shortages[0]] == [(3, 2)]


async def test_what_lies_nowhere_cannot_be_had(shelf: Shelf) -> None:
    claimed = await shelf.claimed(shelf.claim(shelf.want(new_sku(), 1)))
    assert claimed.shortages[0][0].available == 0


async def test_the_first_to_come_is_served_first(shelf: Shelf) -> None:
    sku = await shelf.stock(3)
    claims = [shelf.claim(shelf.want(sku, quantity)) for quantity in (2, 2, 1)]
    claimed = await shelf.claimed(*claims)
    assert [bool(short) for short in claimed.shortages] == [False, True, False]


async def test_a_refused_claim_takes_nothing_from_the_next(shelf: Shelf) -> None:
    sku, other = await shelf.stock(3), await shelf.stock(0)
    claimed = await shelf.claimed(
        shelf.claim(shelf.want(sku, 3), shelf.want(other, 1)), shelf.claim(shelf.want(sku, 3))
    )
    assert [bool(short) for short in claimed.shortages] == [True, False]


async def test_a_batch_without_a_want_changes_nothing(shelf: Shelf) -> None:
    assert await shelf.claimed(shelf.claim(), shelf.claim()) == inventory.Claimed([(), ()], [])
    assert await shelf.claimed() == inventory.Claimed([], [])


async def test_each_position_is_answered_once_however_many_claims_touch_it(shelf: Shelf) -> None:
    sku = await shelf.stock(9)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 1)), shelf.claim(shelf.want(sku, 2), shelf.want(sku, 3)))
    assert [(change.sku, change.reserved, change.version) for change in claimed.changes] == [(sku, 6, 3)]


async def test_what_is_taken_is_gone_and_not_reserved(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.claimed(shelf.claim(shelf.want(sku, 2, take=True)))
    assert await shelf.numbers(sku) == (3, 0, 3)
    assert await shelf.ledger(sku) == [(5, 5), (-2, 3)]


async def test_units_taken_and_reserved_by_one_claim_are_counted_together(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    claim = shelf.claim(shelf.want(sku, 2, take=True), shelf.want(sku, 3))
    assert (await shelf.claimed(claim)).shortages == [()]
    assert await shelf.numbers(sku) == (3, 3, 0)
    assert (await shelf.claimed(shelf.claim(shelf.want(sku, 1, take=True)))).shortages[0][0].available == 0


async def test_what_others_were_promised_cannot_be_taken(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 4)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 2, take=True)))
    assert claimed.shortages[0][0].available == 1


async def test_safety_stock_binds_who_reserves(shelf: Shelf) -> None:
    sku = await shelf.stock(5, safety_stock=2)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 4)), shelf.claim(shelf.want(sku, 3)))
    assert claimed.shortages[0][0].available == 3
    assert claimed.shortages[1] == ()


async def test_safety_stock_does_not_bind_who_has_it_in_the_hand(shelf: Shelf) -> None:
    sku = await shelf.stock(5, safety_stock=2)
    assert (await shelf.claimed(shelf.claim(shelf.want(sku, 5, take=True)))).shortages == [()]


async def test_what_one_claim_took_is_missing_to_the_next_that_reserves(shelf: Shelf) -> None:
    sku = await shelf.stock(10, safety_stock=5)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 4, take=True)), shelf.claim(shelf.want(sku, 2)))
    assert [short.available for short in claimed.shortages[1]] == [1]


async def test_a_backorder_limit_may_be_promised_on_top(shelf: Shelf) -> None:
    sku = await shelf.stock(1, backorder_limit=3)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 4)), shelf.claim(shelf.want(sku, 1)))
    assert claimed.shortages[0] == ()
    assert claimed.shortages[1][0].available == 0


async def test_a_shortfall_is_nothing_to_promise(shelf: Shelf) -> None:
    sku = await shelf.stock(3, shortfall=2)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 4)), shelf.claim(shelf.want(sku, 3)))
    assert claimed.shortages[0][0].available == 3
    assert claimed.shortages[1] == ()


async def test_a_shortfall_lets_a_till_take_what_the_books_have_not(shelf: Shelf) -> None:
    sku = await shelf.stock(1, shortfall=2)
    claimed = await shelf.claimed(
        shelf.claim(shelf.want(sku, 3, take=True)), shelf.claim(shelf.want(sku, 1, take=True))
    )
    assert [bool(short) for short in claimed.shortages] == [False, True]


async def test_a_reader_does_not_see_expired_holds(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 1, expires_in=STILL)
    await shelf.reserve(sku, 2, expires_in=GONE_BY)
    assert await shelf.numbers(sku) == (5, 1, 4)
    assert await shelf.column(sku, "reserved") == 3


async def test_a_reader_of_a_shifted_clock_sees_holds_expire_then(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 2, expires_in=STILL)
    (level,) = await inventory.read_levels(shelf.db, skus=[sku], clock_offset=STILL)
    assert level.reserved == 0


async def test_a_claim_folds_expired_holds_back_and_takes_their_units(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    expired = await shelf.reserve(sku, 4, expires_in=GONE_BY)
    await shelf.reserve(sku, 5)
    assert await shelf.column(sku, "reserved") == 5
    assert await shelf.holds(expired[0][0]) == []


async def test_a_hold_is_over_in_the_very_moment_it_expires(shelf: Shelf) -> None:
    sku = await shelf.stock(1)
    await shelf.reserve(sku, 1, expires_in=timedelta())
    assert await shelf.numbers(sku) == (1, 0, 1)
    await shelf.reserve(sku, 1)
    assert await shelf.numbers(sku) == (1, 1, 0)


async def test_a_refused_claim_leaves_expired_holds_as_they_are(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 4, expires_in=GONE_BY)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, 6)))
    assert claimed.shortages[0][0].available == 5
    assert await shelf.column(sku, "reserved") == 4


async def test_holds_of_orders_never_expire_by_the_clock(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 5)
    shelf.now += timedelta(days=3650)
    assert (await shelf.claimed(shelf.claim(shelf.want(sku, 1)))).shortages[0][0].available == 0


async def test_an_expired_hold_that_nobody_claimed_is_still_its_owners(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.post(await shelf.reserve(sku, 5, expires_in=GONE_BY))
    assert await shelf.numbers(sku) == (0, 0, 0)


async def test_a_buyers_own_hold_is_let_go_and_claimed_in_one_transaction(shelf: Shelf) -> None:
    sku = await shelf.stock(2)
    await shelf.void(await shelf.reserve(sku, 2, expires_in=STILL))
    await shelf.reserve(sku, 2)
    assert await shelf.numbers(sku) == (2, 2, 0)


async def test_posting_takes_the_goods_and_the_promise_away_together(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    changes = await shelf.post(await shelf.reserve(sku, 2))
    assert [(change.on_hand, change.reserved) for change in changes] == [(3, 0)]
    assert await shelf.ledger(sku) == [(5, 5), (-2, 3)]


async def test_some_units_of_a_hold_are_let_go_of_and_the_rest_is_kept(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    ((reference, hold),) = await shelf.reserve(sku, 3)
    (change,) = await inventory.void_units(shelf.db, [(reference, msgspec.structs.replace(hold, quantity=2))])
    assert (change.sku, change.available) == (sku, 4)
    assert await shelf.numbers(sku) == (5, 1, 4)
    assert [left.quantity for left in await inventory.read_holds(shelf.db, reference=reference)] == [1]
    assert await inventory.verify(shelf.db) == []


@pytest.mark.parametrize("units", [3, 4])
async def test_letting_go_of_some_units_leaves_some(shelf: Shelf, units: int) -> None:
    sku = await shelf.stock(5)
    ((reference, hold),) = await shelf.reserve(sku, 3)
    with pytest.raises(ReservationSettled):
        await inventory.void_units(shelf.db, [(reference, msgspec.structs.replace(hold, quantity=units))])
    assert await shelf.numbers(sku) == (5, 3, 2)
    assert await inventory.void_units(shelf.db, []) == []


async def test_voiding_gives_the_units_back_without_a_movement(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    changes = await shelf.void(await shelf.reserve(sku, 2))
    assert [(change.on_hand, change.reserved) for change in changes] == [(5, 0)]
    assert await shelf.ledger(sku) == [(5, 5)]


@pytest.mark.parametrize("second", ["post", "void"])
@pytest.mark.parametrize("first", ["post", "void"])
async def test_a_hold_ends_once(shelf: Shelf, first: str, second: str) -> None:
    sku = await shelf.stock(5)
    holds = await shelf.reserve(sku, 2)
    await getattr(shelf, first)(holds)
    with pytest.raises(ReservationSettled) as refused:
        await getattr(shelf, second)(holds)
    assert refused.value.reference == holds[0][0]


async def test_a_hold_given_twice_is_not_ended_twice(shelf: Shelf) -> None:
    holds = await shelf.reserve(await shelf.stock(5), 2)
    with pytest.raises(ReservationSettled):
        await shelf.post([*holds, *holds])


async def test_an_expired_hold_that_was_folded_back_cannot_be_posted(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    holds = await shelf.reserve(sku, 5, expires_in=GONE_BY)
    await shelf.reserve(sku, 1)
    with pytest.raises(ReservationSettled):
        await shelf.post(holds)


@pytest.mark.parametrize("change", [{"quantity": 1}, {"sku": "another"}, {"line_id": ids.new()}])
async def test_a_hold_that_is_not_as_it_is_written_down_is_not_ended(shelf: Shelf, change: dict[str, object]) -> None:
    ((reference, hold),) = await shelf.reserve(await shelf.stock(5), 2)
    facts = {"line_id": hold.line_id, "sku": hold.sku, "location_id": hold.location_id, "quantity": hold.quantity}
    with pytest.raises(ReservationSettled):
        await shelf.post([(reference, inventory.Hold(**facts | change))])  # type: ignore[arg-type]


async def test_each_component_of_one_line_ends_by_itself(shelf: Shelf) -> None:
    cup, saucer = await shelf.stock(5), await shelf.stock(5)
    line = shelf.want(cup, 1)
    claim = shelf.claim(
        line, inventory.Want(line_id=line.line_id, sku=saucer, location_id=shelf.location_id, quantity=1)
    )
    await shelf.claimed(claim)
    holds = await shelf.holds(claim.reference)
    await shelf.post([(reference, hold) for reference, hold in holds if hold.sku == cup])
    assert [hold.sku for _, hold in await shelf.holds(claim.reference)] == [saucer]


async def test_ending_nothing_changes_nothing(shelf: Shelf) -> None:
    assert await shelf.post([]) == []
    assert await shelf.void([]) == []


async def test_a_batch_of_sales_leaves_a_movement_each_with_its_own_balance(shelf: Shelf) -> None:
    sku, other = await shelf.stock(10, name="B"), await shelf.stock(10, name="A")
    claims = [
        shelf.claim(shelf.want(sku, 1, take=True), shelf.want(other, 2, take=True)),
        shelf.claim(shelf.want(sku, 3, take=True), shelf.want(sku, 2, take=True)),
    ]
    await shelf.claimed(*claims)
    assert await shelf.ledger(sku) == [(10, 10), (-1, 9), (-3, 6), (-2, 4)]
    assert await shelf.ledger(other) == [(10, 10), (-2, 8)]


async def test_a_batch_of_holds_posted_leaves_a_movement_each_with_its_own_balance(shelf: Shelf) -> None:
    sku = await shelf.stock(10)
    holds = [hold for quantity in (1, 3, 2) for hold in await shelf.reserve(sku, quantity)]
    await shelf.post(holds)
    assert await shelf.ledger(sku) == [(10, 10), (-1, 9), (-3, 6), (-2, 4)]


async def test_a_sale_says_who_sold_it_where_and_for_what(shelf: Shelf) -> None:
    sku = await shelf.stock(1)
    await shelf.claimed(shelf.claim(shelf.want(sku, 1, take=True)))
    sale, _ = await inventory.list_movements(shelf.db, sku=sku, location_id=None, before_id=None, limit=9)
    assert (sale.kind, sale.bucket, sale.reference, sale.actor, sale.channel) == (
        *("sale", "on_hand", "an order"),
        *("tester", "store"),
    )


async def test_one_claim_may_want_of_several_locations(shelf: Shelf) -> None:
    sku = await shelf.stock(1)
    elsewhere = Shelf(shelf.db, await build_location(shelf.db, now=shelf.now), shelf.now)
    await inventory.move_stock(shelf.db, [elsewhere.move(sku, 1)], now=shelf.now)
    await shelf.claimed(shelf.claim(shelf.want(sku, 1), elsewhere.want(sku, 1)))
    assert (await shelf.numbers(sku), await elsewhere.numbers(sku)) == ((1, 1, 0), (1, 1, 0))


async def test_picked_units_are_noted_on_the_hold(shelf: Shelf) -> None:
    ((reference, hold),) = await shelf.reserve(await shelf.stock(5), 2)
    await inventory.note_picked(shelf.db, reference=reference, location_id=shelf.location_id, line_ids=[hold.line_id])
    statement = "SELECT picked FROM inventory.reservations WHERE reference = $1"
    assert await shelf.db.fetchval(statement, reference) == 2
