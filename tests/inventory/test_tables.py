"""What the tables themselves refuse, whatever the code may do."""

import asyncpg
import pytest
from sqlalchemy import CheckConstraint

from inventory.tables import metadata
from tests.inventory.shelf import Shelf

MOVE = """
INSERT INTO inventory.movements
    (sku, location_id, bucket, delta, balance, kind, actor, channel, occurred_at, recorded_at)
SELECT sku, location_id, {}, 0, {}, 'tester', 'store', now(), now() FROM inventory.positions WHERE sku = $1
"""
POSITION = "UPDATE inventory.positions SET {} WHERE sku = $1"
HOLD = "UPDATE inventory.reservations SET {} WHERE sku = $1"
PLACE = """
UPDATE inventory.locations SET {} WHERE id IN (SELECT location_id FROM inventory.positions WHERE sku = $1)
"""

# Five units on hand, two of them reserved.
VIOLATIONS = [
    ("ck_locations_kind", PLACE.format("kind = 'moon'")),
    ("ck_locations_on_earth", PLACE.format("latitude = 91")),
    ("ck_locations_on_earth", PLACE.format("longitude = -181")),
    ("ck_positions_reserved", POSITION.format("reserved = -1")),
    ("ck_positions_never_oversold", POSITION.format("reserved = 6")),
    ("ck_positions_never_oversold", POSITION.format("on_hand = 1")),
    ("ck_positions_never_oversold", POSITION.format("reserved = 9, backorder_limit = 3")),
    ("ck_positions_never_oversold", POSITION.format("on_hand = -2, shortfall = 3")),
    ("ck_positions_not_negative", POSITION.format("safety_stock = -1")),
    ("ck_positions_not_negative", POSITION.format("backorder_limit = -1")),
    ("ck_positions_not_negative", POSITION.format("shortfall = -1")),
    ("ck_positions_not_negative", POSITION.format("damaged = -1")),
    ("ck_positions_not_negative", POSITION.format("quarantine = -1")),
    ("ck_positions_not_negative", POSITION.format("in_transit = -1")),
    ("ck_reservations_quantity", HOLD.format("quantity = 0")),
    ("ck_reservations_quantity", HOLD.format("picked = 3")),
    ("ck_reservations_quantity", HOLD.format("picked = -1")),
    ("ck_reservations_state", HOLD.format("state = 'lost', ended_at = now()")),
    ("ck_reservations_ended_once", HOLD.format("state = 'posted'")),
    ("ck_reservations_ended_once", HOLD.format("ended_at = now()")),
    ("ck_movements_bucket", MOVE.format("'attic', 1", "'sale'")),
    ("ck_movements_kind", MOVE.format("'on_hand', 1", "'theft'")),
    ("ck_movements_delta", MOVE.format("'on_hand', 0", "'sale'")),
]


@pytest.mark.parametrize(("name", "statement"), VIOLATIONS)
async def test_the_tables_refuse_it_by_name(shelf: Shelf, name: str, statement: str) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 2)
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await shelf.db.execute(statement, sku)
    assert refused.value.constraint_name == name


def test_every_check_of_the_room_is_tried() -> None:
    checks = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert {name for name, _ in VIOLATIONS} == checks


@pytest.mark.parametrize("book", ["movements", "reservations", "opening_receipts"])
async def test_nothing_is_written_down_of_a_position_that_is_not_there(shelf: Shelf, book: str) -> None:
    sku = await shelf.stock(5)
    await shelf.reserve(sku, 2)
    statements = {
        "movements": MOVE.format("'on_hand', 1", "'sale'").replace("SELECT sku", "SELECT sku || '?'"),
        "reservations": HOLD.format("sku = sku || '?'"),
        "opening_receipts": """
            INSERT INTO inventory.opening_receipts (sku, location_id, quantity)
            SELECT sku || '?', location_id, 1 FROM inventory.positions WHERE sku = $1
        """,
    }
    with pytest.raises(asyncpg.ForeignKeyViolationError) as refused:
        await shelf.db.execute(statements[book], sku)
    assert refused.value.constraint_name == f"fk_{book}_sku"
