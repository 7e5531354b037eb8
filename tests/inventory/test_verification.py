"""The proof of the books: each balance is corrupted by SQL and has to be named."""

import pytest

import inventory
from tests.inventory.shelf import Shelf

BUCKETS = "S1 each bucket holds the sum of its movements"
CHAIN = "S1 each balance follows from the one before"
RESERVED = "S2 reserved is the sum of the open reservations"

HISTORY = """
UPDATE inventory.movements SET {} WHERE sku = $1 AND delta < 0
"""


@pytest.fixture
async def sku(shelf: Shelf) -> str:
    """Ten received, three sold, two reserved, two let go."""
    sku = await shelf.stock(10)
    await shelf.claimed(shelf.claim(shelf.want(sku, 3, take=True)))
    await shelf.reserve(sku, 2)
    await shelf.void(await shelf.reserve(sku, 2))
    return sku


async def _rewrite(shelf: Shelf, statement: str, sku: str) -> list[tuple[str, str, int, int]]:
    """What is found after something was done to the books behind the triggers' back."""
    await shelf.db.execute("SET LOCAL session_replication_role = replica")
    await shelf.db.execute(statement, sku)
    return [(found.invariant, found.subject, found.expected, found.found) for found in await inventory.verify(shelf.db)]


async def test_sound_books_have_no_finding(shelf: Shelf, sku: str) -> None:
    assert await inventory.verify(shelf.db) == []


@pytest.mark.parametrize("bucket", ["on_hand", "damaged", "quarantine", "in_transit"])
async def test_a_counter_that_its_movements_do_not_explain_is_named(shelf: Shelf, sku: str, bucket: str) -> None:
    before = await shelf.column(sku, bucket)
    found = await _rewrite(shelf, f"UPDATE inventory.positions SET {bucket} = {bucket} + 1 WHERE sku = $1", sku)
    assert found == [(BUCKETS, f"{sku} at {shelf.location_id}, {bucket}", before, before + 1)]


async def test_a_reserved_counter_that_its_holds_do_not_explain_is_named(shelf: Shelf, sku: str) -> None:
    found = await _rewrite(shelf, "UPDATE inventory.positions SET reserved = 1 WHERE sku = $1", sku)
    assert found == [(RESERVED, f"{sku} at {shelf.location_id}", 2, 1)]


async def test_a_hold_that_was_ended_without_its_counter_is_named(shelf: Shelf, sku: str) -> None:
    statement = """
        UPDATE inventory.reservations SET state = 'voided', ended_at = now() WHERE sku = $1 AND state = 'open'
    """
    found = await _rewrite(shelf, statement, sku)
    assert found == [(RESERVED, f"{sku} at {shelf.location_id}", 0, 2)]


async def test_a_movement_of_another_size_is_named_by_its_counter_and_by_its_chain(shelf: Shelf, sku: str) -> None:
    found = await _rewrite(shelf, HISTORY.format("delta = -4"), sku)
    assert (BUCKETS, f"{sku} at {shelf.location_id}, on_hand", 6, 7) in found
    assert [(each[0], each[2:]) for each in found] == [(BUCKETS, (6, 7)), (CHAIN, (6, 7))]


async def test_a_balance_that_does_not_follow_is_named(shelf: Shelf, sku: str) -> None:
    ((invariant, subject, expected, said),) = await _rewrite(shelf, HISTORY.format("balance = 8"), sku)
    assert (invariant, expected, said) == (CHAIN, 7, 8)
    assert subject.endswith(f" of {sku} at {shelf.location_id}")


async def test_a_movement_that_is_gone_is_named(shelf: Shelf, sku: str) -> None:
    found = await _rewrite(shelf, "DELETE FROM inventory.movements WHERE sku = $1 AND delta > 0", sku)
    assert [(each[0], each[2:]) for each in found] == [(BUCKETS, (-3, 7)), (CHAIN, (-3, 7))]


async def test_a_movement_in_another_bucket_is_named_in_both(shelf: Shelf, sku: str) -> None:
    found = await _rewrite(shelf, HISTORY.format("bucket = 'damaged'"), sku)
    assert [each[1].rpartition(", ")[2] for each in found if each[0] == BUCKETS] == ["damaged", "on_hand"]
