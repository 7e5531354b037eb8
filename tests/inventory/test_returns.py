"""Goods that come back lie where they belong, and the ledger knows."""

import inventory
from inventory import Bucket, Change, Returned
from tests.inventory.shelf import Shelf, new_sku


async def _take_back(shelf: Shelf, sku: str, *came: tuple[Bucket, int]) -> list[Change]:
    returned = [
        Returned(sku=sku, location_id=shelf.location_id, bucket=bucket, quantity=quantity, reason="too_big")
        for bucket, quantity in came
    ]
    return await inventory.take_back(
        shelf.db, returned, reference="a return", actor="tester", channel="store", now=shelf.now
    )


async def test_only_what_goes_back_on_the_shelf_can_be_sold_again(shelf: Shelf) -> None:
    sku = await shelf.stock(5)
    (change,) = await _take_back(
        shelf, sku, (Bucket.ON_HAND, 2), (Bucket.DAMAGED, 1), (Bucket.QUARANTINE, 3), (Bucket.ON_HAND, 1)
    )
    assert (change.on_hand, change.available) == (8, 8)
    assert (await shelf.column(sku, "damaged"), await shelf.column(sku, "quarantine")) == (1, 3)
    movements = await inventory.list_movements(
        shelf.db, sku=sku, location_id=shelf.location_id, before_id=None, limit=9
    )
    assert {(each.bucket, each.delta, each.balance, each.kind, each.reason) for each in movements[:-1]} == {
        ("on_hand", 3, 8, "return", "too_big"),
        ("damaged", 1, 1, "return", "too_big"),
        ("quarantine", 3, 3, "return", "too_big"),
    }
    assert await inventory.verify(shelf.db) == []


async def test_goods_may_come_back_where_they_never_lay(shelf: Shelf) -> None:
    sku = new_sku()
    (change,) = await _take_back(shelf, sku, (Bucket.DAMAGED, 2))
    assert (change.on_hand, change.available) == (0, 0)
    assert await shelf.column(sku, "damaged") == 2


async def test_nothing_changes_nothing(shelf: Shelf) -> None:
    assert await _take_back(shelf, new_sku()) == []
