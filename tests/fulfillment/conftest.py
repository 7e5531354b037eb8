"""What the tests of this room share."""

from datetime import datetime

import pytest
from asyncpg import Connection

from tests.fulfillment.floor import Floor


@pytest.fixture
async def now(db: Connection) -> datetime:
    moment: datetime = await db.fetchval("SELECT now()")
    return moment


@pytest.fixture
def floor(db: Connection, now: datetime) -> Floor:
    """The floor of a location, inside the test's transaction."""
    return Floor(db, now)
