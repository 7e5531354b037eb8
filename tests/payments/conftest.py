"""What the tests of this room share."""

from datetime import datetime

import pytest
from asyncpg import Connection

from tests.payments.desk import Desk


@pytest.fixture
async def now(db: Connection) -> datetime:
    moment: datetime = await db.fetchval("SELECT now()")
    return moment


@pytest.fixture
def desk(db: Connection, now: datetime) -> Desk:
    """A cash desk with a card terminal, inside the test's transaction."""
    return Desk(db, now)
