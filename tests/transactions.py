"""Transactions that a test holds open itself, to put others into the way of each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from asyncpg import Connection

from commercehub.database import Database

WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
POLLS_MAX = 500

# Whether everything told so far can be read: no transaction on the server is older, in other tests' databases included.
SETTLED = "SELECT coalesce(max(xid) < pg_snapshot_xmin(pg_current_snapshot()), true) FROM commercehub.events"
SETTLED_SECONDS_MAX = 30.0


@asynccontextmanager
async def one_try(database: Database) -> AsyncIterator[tuple[Connection, datetime]]:
    """A transaction that nobody starts again: a deadlock comes out of it. Commits at the end of the block."""
    async with database.connection() as db, db.transaction():
        yield db, await db.fetchval("SELECT now()")


async def until_waiting(database: Database, count: int = 1) -> None:
    """Return as soon as so many transactions wait for a lock."""
    async with database.connection() as db:
        for _ in range(POLLS_MAX):
            if await db.fetchval(WAITING) == count:
                return
            await asyncio.sleep(0.005)
    raise AssertionError(f"there never were {count} transactions waiting")


async def until_settled(database: Database) -> None:
    """Return as soon as every event so far may be read: what a test tells next is then the next that is heard."""
    async with asyncio.timeout(SETTLED_SECONDS_MAX), database.connection() as db:
        while not await db.fetchval(SETTLED):
            await asyncio.sleep(0.02)
