"""Where transactions begin and end, and what happens when PostgreSQL goes away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import asyncpg
import pytest
from asyncpg import Connection

from commercehub.database import Database, DatabaseUnavailable, Raced

TABLE = "CREATE TABLE IF NOT EXISTS public.kept (id int PRIMARY KEY, value int NOT NULL)"


@pytest.fixture(scope="module")
async def own(make_database: Callable[[str], str]) -> AsyncIterator[Database]:
    url = await asyncio.to_thread(make_database, "transactions")
    database = await Database.connect(url, pool_size=4)
    async with database.connection() as db:
        await db.execute(TABLE)
        await db.execute("INSERT INTO public.kept VALUES (1, 0), (2, 0)")
    yield database
    await database.close()


async def _value(database: Database, row: int) -> int:
    async with database.connection() as db:
        value: int = await db.fetchval("SELECT value FROM public.kept WHERE id = $1", row)
        return value


async def test_what_the_work_did_is_kept_when_it_returns(own: Database) -> None:
    async def work(db: Connection, _: datetime) -> str:
        await db.execute("UPDATE public.kept SET value = 1 WHERE id = 1")
        return "done"

    assert await own.transaction(work) == "done"
    assert await _value(own, 1) == 1


async def test_what_the_work_did_is_undone_when_it_raises(own: Database) -> None:
    before = await _value(own, 1)

    async def work(db: Connection, _: datetime) -> None:
        await db.execute("UPDATE public.kept SET value = value + 10 WHERE id = 1")
        raise LookupError

    with pytest.raises(LookupError):
        await own.transaction(work)
    assert await _value(own, 1) == before


async def test_two_works_that_lock_against_each_other_are_both_done(own: Database) -> None:
    async def crossing(first: int, second: int) -> None:
        async def work(db: Connection, _: datetime) -> None:
            await db.execute("UPDATE public.kept SET value = value + 1 WHERE id = $1", first)
            await asyncio.sleep(0.1)
            await db.execute("UPDATE public.kept SET value = value + 1 WHERE id = $1", second)

        await own.transaction(work)

    before = await _value(own, 1), await _value(own, 2)
    await asyncio.gather(crossing(1, 2), crossing(2, 1))
    assert (await _value(own, 1), await _value(own, 2)) == (before[0] + 2, before[1] + 2)


async def test_a_race_is_run_again_and_given_up_after_three_more_times(own: Database) -> None:
    runs = []

    async def work(_: Connection, __: datetime) -> None:
        runs.append(1)
        raise Raced

    with pytest.raises(Raced):
        await own.transaction(work)
    assert len(runs) == 4


async def test_now_is_one_moment_for_the_whole_transaction(own: Database) -> None:
    async def work(db: Connection, now: datetime) -> bool:
        await asyncio.sleep(0.01)
        return bool(await db.fetchval("SELECT now()") == now)

    assert await own.transaction(work)


async def test_a_demo_may_live_in_another_time(make_database: Callable[[str], str]) -> None:
    url = await asyncio.to_thread(make_database, "ahead")
    ahead = await Database.connect(url, pool_size=1, clock_offset_seconds=86_400)
    try:
        async with ahead.connection() as db:
            real: datetime = await db.fetchval("SELECT now()")
        assert timedelta(hours=23) < await ahead.now() - real < timedelta(hours=25)
    finally:
        await ahead.close()


async def test_a_lost_connection_is_told_as_such_and_the_next_one_works(own: Database) -> None:
    async def work(db: Connection, _: datetime) -> None:
        await db.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseUnavailable):
        await own.transaction(work)
    assert await own.now() is not None


async def test_a_transaction_that_takes_too_long_is_ended_by_postgresql(make_database: Callable[[str], str]) -> None:
    url = await asyncio.to_thread(make_database, "slow")
    slow = await Database.connect(url, pool_size=1, session={"transaction_timeout": "200ms"})

    async def work(db: Connection, _: datetime) -> None:
        await db.execute("SELECT pg_sleep(1)")

    try:
        with pytest.raises((DatabaseUnavailable, asyncpg.QueryCanceledError)):
            await slow.transaction(work)
        assert await slow.now() is not None
    finally:
        await slow.close()
