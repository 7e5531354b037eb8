"""What the tests of this room share."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest
from asyncpg import Connection

from commercehub.database import Database
from tests.payments.desk import Desk


@pytest.fixture(scope="package")
def payments_url(make_database: Callable[[str], str]) -> str:
    return make_database("payments")


@pytest.fixture(scope="package")
async def database(payments_url: str) -> AsyncIterator[Database]:
    """A database of the room's own: what its tests leave there belongs to no order."""
    database = await Database.connect(payments_url, pool_size=10)
    yield database
    await database.close()


@pytest.fixture
async def now(db: Connection) -> datetime:
    moment: datetime = await db.fetchval("SELECT now()")
    return moment


@pytest.fixture
def desk(db: Connection, now: datetime) -> Desk:
    """A cash desk with a card terminal, inside the test's transaction."""
    return Desk(db, now)
