"""Changes of what lies on the shelf, and their ledger."""

from datetime import timedelta

import pytest

import inventory
from inventory import Opening, StockTooLow
from inventory.stock import MOVEMENTS_PAGE_MAX
from tests.inventory.shelf import Shelf, build_location, new_sku


async def test_a_receipt_of_a_new_sku_begins_at_zero(shelf: Shelf) -> None:
    sku = new_sku()
    (change,) = await inventory.move_stock(shelf.db, [shelf.move(sku, 7, kind="receipt")], now=shelf.now)
    assert (change.on_hand, change.reserved, change.available) == (7, 0, 7)


async def test_stock_falls_by_a_correction(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    (change,) = await inventory.move_stock(shelf.db, [shelf.move(sku, -2)], now=shelf.now)
    assert change.on_hand == 3


async def test_a_fall_below_zero_is_refused(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    with pytest.raises(StockTooLow) as refused:
        await inventory.move_stock(shelf.db, [shelf.move(sku, -6)], now=shelf.now)
    assert (refused.value.sku, refused.value.location_id) == (sku, shelf.location_id)


async def test_a_fall_where_the_sku_never_lay_is_refused(shelf: Shelf) -> None:
    with pytest.raises(StockTooLow):
        await inventory.move_stock(shelf.db, [shelf.move(new_sku(), -1)], now=shelf.now)


async def test_a_fall_below_what_is_promised_is_refused(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 4)
    with pytest.raises(StockTooLow):
        await inventory.move_stock(shelf.db, [shelf.move(sku, -2)], now=shelf.now)


async def test_a_fall_may_use_what_expired_holds_kept(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 4, expires_in=timedelta(seconds=-1))
    await inventory.move_stock(shelf.db, [shelf.move(sku, -5)], now=shelf.now)
    assert (await shelf.column(sku, "on_hand"), await shelf.column(sku, "reserved")) == (0, 0)


async def test_one_refused_fall_refuses_the_whole_batch(shelf: Shelf) -> None:
    good, bad = await shelf.stock(5), await shelf.stock(1)
    with pytest.raises(StockTooLow) as refused:
        await inventory.move_stock(
            shelf.db, [shelf.move(good, -1), shelf.move(bad, -2), shelf.move(good, 9)], now=shelf.now
        )
    assert refused.value.sku == bad
    assert await shelf.ledger(good) == [(5, 5)]
    assert await shelf.numbers(good) == (5, 0, 5)


async def test_a_receipt_is_taken_even_where_more_is_promised_than_lies_there(shelf: Shelf) -> None:
    sku = await shelf.stock(0, backorder_limit=5)
    await shelf.reserve(sku, 5)
    await shelf.db.execute("UPDATE inventory.positions SET backorder_limit = 0, shortfall = 5 WHERE sku = $1", sku)
    (change,) = await inventory.move_stock(shelf.db, [shelf.move(sku, 1, kind="receipt")], now=shelf.now)
    assert change.on_hand == 1


async def test_the_same_sku_several_times_is_one_change_and_a_movement_each(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    changes = await inventory.move_stock(shelf.db, [shelf.move(sku, delta) for delta in (3, -4, 2)], now=shelf.now)
    assert [(change.on_hand, change.version) for change in changes] == [(6, 3)]
    assert await shelf.ledger(sku) == [(5, 5), (3, 8), (-4, 4), (2, 6)]


async def test_a_new_sku_several_times_begins_once(shelf: Shelf) -> None:
    sku = new_sku()
    await inventory.move_stock(shelf.db, [shelf.move(sku, 3), shelf.move(sku, 4)], now=shelf.now)
    assert await shelf.ledger(sku) == [(3, 3), (4, 7)]


async def test_movements_stand_in_the_order_they_were_given_in(shelf: Shelf) -> None:
    first, second = new_sku("B"), new_sku("A")
    moves = [shelf.move(first, 1), shelf.move(second, 2), shelf.move(first, 3), shelf.move(second, 4)]
    await inventory.move_stock(shelf.db, moves, now=shelf.now)
    found = await inventory.list_movements(shelf.db, sku=None, location_id=shelf.location_id, before_id=None, limit=9)
    assert [(each.sku, each.delta) for each in reversed(found)] == [(move.sku, move.delta) for move in moves]


async def test_what_changes_nothing_leaves_no_movement(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    assert await inventory.move_stock(shelf.db, [], now=shelf.now) == []
    assert await inventory.move_stock(shelf.db, [shelf.move(sku, 0)], now=shelf.now) == []
    assert await shelf.ledger(sku) == [(5, 5)]


async def test_a_correction_up_and_down_by_the_same_is_told_and_changes_no_number(shelf: Shelf) -> None:
    sku = await shelf.stock(0)
    await inventory.move_stock(shelf.db, [shelf.move(sku, -5), shelf.move(sku, 5)], now=shelf.now)
    assert await shelf.ledger(sku) == [(-5, -5), (5, 0)]


async def test_a_movement_says_who_why_and_by_which_paper(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    move = shelf.move(sku, -1, reason="damaged", reference="note 7")
    await inventory.move_stock(shelf.db, [move], now=shelf.now)
    last, _ = await inventory.list_movements(shelf.db, sku=sku, location_id=None, before_id=None, limit=9)
    assert (last.kind, last.reason, last.reference, last.actor, last.channel) == (
        *("adjustment", "damaged", "note 7"),
        *("tester", "store"),
    )
    assert last.recorded_at == shelf.now


async def test_the_ledger_is_read_in_pages_from_the_newest_down(shelf: Shelf) -> None:
    sku = new_sku()
    await inventory.move_stock(shelf.db, [shelf.move(sku, delta) for delta in range(1, 6)], now=shelf.now)
    pages, before_id = [], None
    while page := await inventory.list_movements(shelf.db, sku=sku, location_id=None, before_id=before_id, limit=2):
        pages.append([each.delta for each in page])
        before_id = page[-1].id
    assert pages == [[5, 4], [3, 2], [1]]


async def test_a_page_of_the_ledger_has_a_limit(shelf: Shelf) -> None:
    sku = new_sku()
    await inventory.move_stock(shelf.db, [shelf.move(sku, 1)] * (MOVEMENTS_PAGE_MAX + 1), now=shelf.now)
    page = await inventory.list_movements(shelf.db, sku=sku, location_id=None, before_id=None, limit=10**6)
    assert len(page) == MOVEMENTS_PAGE_MAX


async def _open(shelf: Shelf, *openings: tuple[str, int]) -> set[str]:
    return await inventory.open_stock(
        shelf.db,
        [Opening(sku=sku, location_id=shelf.location_id, quantity=quantity) for sku, quantity in openings],
        actor="importer",
        channel="back_office",
        now=shelf.now,
    )


async def test_an_opening_is_received_once(shelf: Shelf) -> None:
    sku = new_sku()
    assert await _open(shelf, (sku, 8)) == {sku}
    assert await _open(shelf, (sku, 8)) == set()
    assert await shelf.ledger(sku) == [(8, 8)]


async def test_an_opening_sent_again_changes_nothing_whatever_was_sold_since(shelf: Shelf) -> None:
    sku = new_sku()
    await _open(shelf, (sku, 8))
    await shelf.claimed(shelf.claim(shelf.want(sku, 3, take=True)))
    await _open(shelf, (sku, 9))
    assert await shelf.numbers(sku) == (5, 0, 5)


async def test_an_opening_adds_to_what_was_received_before(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    await _open(shelf, (sku, 8))
    assert await shelf.ledger(sku) == [(5, 5), (8, 13)]


async def test_each_location_has_its_own_opening(shelf: Shelf) -> None:
    sku = new_sku()
    await _open(shelf, (sku, 8))
    elsewhere = Shelf(shelf.db, await build_location(shelf.db, now=shelf.now), shelf.now)
    assert await _open(elsewhere, (sku, 3)) == {sku}
    assert await elsewhere.numbers(sku) == (3, 0, 3)


async def test_an_opening_of_nothing_makes_the_position_known(shelf: Shelf) -> None:
    sku = new_sku()
    assert await _open(shelf, (sku, 0)) == set()
    assert await shelf.numbers(sku) == (0, 0, 0)
    assert await shelf.ledger(sku) == []


async def test_a_sku_twice_in_one_import_opens_with_the_first(shelf: Shelf) -> None:
    sku = new_sku()
    assert await _open(shelf, (sku, 4), (sku, 9)) == {sku}
    assert await shelf.ledger(sku) == [(4, 4)]


async def test_an_import_without_stock_opens_nothing(shelf: Shelf) -> None:
    assert await _open(shelf) == set()


async def test_an_opening_may_be_larger_than_32_bits(shelf: Shelf) -> None:
    sku = new_sku()
    await _open(shelf, (sku, 2**40))
    assert await shelf.numbers(sku) == (2**40, 0, 2**40)
