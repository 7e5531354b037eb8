"""Two hundred buyers, fifty units, two workers: whoever is too late hears so, and nobody else is harmed."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest

from commercehub.database import Database
from commercehub.seed import planting
from commercehub.settings import Settings
from tests.client import Channel, Channels
from tests.conftest import SECRET
from tests.races.buyers import CARD, CASH, at_once, counted, fill_carts, is_sound, order_ids
from tests.serving import Books, Wire, done, serving_hub

BUYERS = 200
UNITS = 50
ORDERS_OF = """
SELECT id, state FROM commercehub.orders
WHERE id IN (SELECT order_id FROM commercehub.order_lines WHERE sku = $1)
"""

LEFT_OUT = (409, "out_of_stock")


async def test_fifty_units_make_fifty_card_orders_and_150_clean_refusals(
    app: Channel, channels: Channels, database: Database, books: Books
) -> None:
    sku = await channels.product({"DC1": UNITS})
    carts = await fill_carts(app, BUYERS, sku)
    answers = await at_once(app.check_out(cart, CARD) for cart in carts)
    assert counted(answers) == {(201, None): UNITS, LEFT_OUT: BUYERS - UNITS}
    assert await channels.level(sku, "DC1") == (UNITS, UNITS)
    authorized = await books.payments(database, order_ids(answers))
    assert [done(payment) for payment in authorized] == [[("authorize", "succeeded")]] * UNITS
    await is_sound(database)


async def test_the_refused_touched_no_tender(
    app: Channel, channels: Channels, database: Database, books: Books
) -> None:
    sku = await channels.product({"DC1": 5})
    carts = await fill_carts(app, 25, sku)
    answers = await at_once(app.check_out(cart, CARD) for cart in carts)
    async with database.connection() as db:
        made = await db.fetch(ORDERS_OF, sku)
    assert [row["state"] for row in made] == ["placed"] * 5
    assert len(await books.payments(database, [row["id"] for row in made])) == 5
    assert all(
        answer.json()["lines"] == [{"sku": sku, "requested": 1, "available": 0}]
        for answer in answers
        if answer.status_code == 409
    )


async def test_fifty_units_make_fifty_cash_sales_and_150_clean_refusals(
    till: Channel, channels: Channels, database: Database
) -> None:
    register = await channels.drawer(opening_float=10_000)
    sku = await channels.product({"S1": UNITS}, price=700, tax_class="exempt")
    carts = await fill_carts(till, BUYERS, sku, ship=False)
    more = {"register_id": register}
    answers = await at_once(till.check_out(cart, CASH, more=more) for cart in carts)
    assert counted(answers) == {(201, None): UNITS, LEFT_OUT: BUYERS - UNITS}
    assert await channels.level(sku, "S1") == (0, 0)
    report = await till.ok("GET", f"/v1/registers/{register}/sessions/current")
    assert (report["sales_count"], report["tenders"][0]["expected"]["amount"]) == (UNITS, 10_000 + UNITS * 700)
    await is_sound(database)


@pytest.fixture
def naive_url(make_database: Callable[[str], str]) -> str:
    return make_database("naive")


async def test_control_a_claim_that_does_not_lock_sells_more_than_there_is(
    settings: Settings,
    naive_url: str,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    """The same race on a hub without the lock, the condition and the CHECK: then it does go wrong."""
    connection = await asyncpg.connect(naive_url)
    await connection.execute("ALTER TABLE inventory.positions DROP CONSTRAINT ck_positions_never_oversold")
    await connection.close()
    naive = msgspec.structs.replace(settings, database_url=naive_url, base_url=f"http://127.0.0.1:{free_port()}")
    with (tmp_path / "log").open("wb") as log, serving_hub(naive, log, factory="tests.races.naive:create_app"):
        async with httpx.AsyncClient(base_url=naive.base_url, transport=Wire(naive.base_url)) as http:
            channels = Channels(http, {name: planting.demo_secret(SECRET, name) for name in planting.KEYS})
            sku = await channels.product({"DC1": 10})
            carts = await fill_carts(channels["app"], 40, sku)
            answers = await at_once(channels["app"].check_out(cart, CARD) for cart in carts)
            on_hand, reserved = await channels.level(sku, "DC1")
    assert counted(answers)[201, None] > 10
    assert reserved > on_hand == 10
