"""What the tests of this room share."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest
from asyncpg import Connection

from commercehub.database import Database
from tests.inventory.shelf import Shelf


@pytest.fixture(scope="package")
def inventory_url(make_database: Callable[[str], str]) -> str:
    return make_database("inventory")


@pytest.fixture(scope="package")
async def database(inventory_url: str) -> AsyncIterator[Database]:
    """A database of the room's own: what its tests leave there belongs to no order."""
    database = await Database.connect(inventory_url, pool_size=10)
    yield database
    await database.close()


@pytest.fixture
async def now(db: Connection) -> datetime:
    moment: datetime = await db.fetchval("SELECT now()")
    return moment


@pytest.fixture
async def shelf(db: Connection, now: datetime) -> Shelf:
    """A location of the test's own, inside its transaction."""
    return await Shelf.build(db, now=now)
