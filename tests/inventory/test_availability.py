"""What can be promised where."""

import inventory
from tests.inventory.shelf import Shelf, build_location, new_sku


async def test_available_is_what_is_neither_promised_nor_kept_for_safety(shelf: Shelf) -> None:
    sku = await shelf.stock(10, safety_stock=3, backorder_limit=1)
    await shelf.reserve(sku, 2)
    assert await shelf.numbers(sku) == (10, 2, 6)


async def test_available_never_falls_below_zero_for_a_reader(shelf: Shelf) -> None:
    sku = await shelf.stock(1, safety_stock=3)
    assert await shelf.numbers(sku) == (1, 0, 0)


async def test_a_shortfall_is_not_available(shelf: Shelf) -> None:
    sku = await shelf.stock(0, shortfall=3)
    assert await shelf.numbers(sku) == (0, 0, 0)


async def test_a_claim_gets_what_a_reader_saw_and_no_more(shelf: Shelf) -> None:
    sku = await shelf.stock(10, safety_stock=3, backorder_limit=1)
    _, _, available = await shelf.numbers(sku)
    claimed = await shelf.claimed(shelf.claim(shelf.want(sku, available + 1)), shelf.claim(shelf.want(sku, available)))
    assert [bool(short) for short in claimed.shortages] == [True, False]


async def test_a_level_says_what_its_place_can_do_and_where_it_is(shelf: Shelf) -> None:
    level = await shelf.level(await shelf.stock(1))
    assert (level.capabilities, level.latitude, level.longitude) == (("ship", "pickup"), 30.27, -97.74)


async def test_levels_come_by_sku_and_then_by_the_codes_of_their_places(shelf: Shelf) -> None:
    other = Shelf(shelf.db, await build_location(shelf.db, now=shelf.now, code=f"!{new_sku()}"), shelf.now)
    b, a = await shelf.stock(1, name="B"), await shelf.stock(1, name="A")
    await inventory.move_stock(shelf.db, [other.move(a, 1), other.move(b, 1)], now=shelf.now)
    levels = await inventory.read_levels(shelf.db, skus=[b, a])
    assert [(level.sku, level.location_id) for level in levels] == [
        (a, other.location_id),
        (a, shelf.location_id),
        (b, other.location_id),
        (b, shelf.location_id),
    ]


async def test_levels_may_be_asked_of_some_places_only(shelf: Shelf) -> None:
    sku = await shelf.stock(1)
    assert await inventory.read_levels(shelf.db, skus=[sku], location_ids=[]) == []
    assert len(await inventory.read_levels(shelf.db, skus=[sku], location_ids=[shelf.location_id])) == 1


async def test_what_lies_nowhere_has_no_level(shelf: Shelf) -> None:
    assert await inventory.read_levels(shelf.db, skus=[new_sku()]) == []
    assert await inventory.read_levels(shelf.db, skus=[]) == []


async def test_a_sku_asked_for_twice_is_answered_once(shelf: Shelf) -> None:
    sku = await shelf.stock(1)
    assert len(await inventory.read_levels(shelf.db, skus=[sku, sku])) == 1
