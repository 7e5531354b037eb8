"""What the tests of this room share."""

from datetime import datetime

import pytest
from asyncpg import Connection

from tests.inventory.shelf import Shelf


@pytest.fixture
async def now(db: Connection) -> datetime:
    moment: datetime = await db.fetchval("SELECT now()")
    return moment


@pytest.fixture
async def shelf(db: Connection, now: datetime) -> Shelf:
    """A location of the test's own, inside its transaction."""
    return await Shelf.build(db, now=now)
