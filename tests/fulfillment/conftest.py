"""What the tests of this room share."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest
from asyncpg import Connection

from commercehub.database import Database
from tests.fulfillment.floor import Floor


@pytest.fixture(scope="package")
def fulfillment_url(make_database: Callable[[str], str]) -> str:
    return make_database("fulfillment")


@pytest.fixture(scope="package")
async def database(fulfillment_url: str) -> AsyncIterator[Database]:
    """A database of the room's own: what its tests leave there belongs to no order."""
    database = await Database.connect(fulfillment_url, pool_size=10)
    yield database
    await database.close()


@pytest.fixture
async def now(db: Connection) -> datetime:
    moment: datetime = await db.fetchval("SELECT now()")
    return moment


@pytest.fixture
def floor(db: Connection, now: datetime) -> Floor:
    """The floor of a location, inside the test's transaction."""
    return Floor(db, now)
