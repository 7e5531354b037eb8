"""Events are rows of the transaction, read when no open transaction can still slip one in before them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from asyncpg import Connection

from commercehub import events
from commercehub.app import open_hub
from commercehub.events import Actor, Event
from commercehub.jobs import housekeeping
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub

SETTLED_SECONDS_MAX = 30.0
TYPES = frozenset({"order.placed"})
ACTOR = Actor(name="a test", channel="back_office")
NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)

PARTITION_OF = "SELECT tableoid::regclass::text FROM commercehub.events WHERE aggregate_id = $1"
LAST_BATCH = "SELECT id, events FROM commercehub.event_batches ORDER BY id DESC LIMIT 1"


@pytest.fixture(scope="module")
def own_url(make_database: Callable[[str], str]) -> str:
    return make_database("events")


@pytest.fixture
async def one(own_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(own_url)
    await _read_all(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def other(own_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(own_url)
    yield connection
    await connection.close()


async def test_an_event_of_a_transaction_that_commits_late_is_not_skipped(one: Connection, other: Connection) -> None:
    first, second = _event(), _event()
    async with one.transaction():
        await events.append(one, [first], now=NOW)
        async with other.transaction():
            await events.append(other, [second], now=NOW)
        # The second is committed and has the higher id, but the first may still come before it.
        assert await events.hand_on(other, types=TYPES, now=NOW) == (None, 0)
    assert await _handed_on(other) == [first.aggregate_id, second.aggregate_id]


async def test_control_a_reader_that_goes_by_ids_alone_skips_it(one: Connection, other: Connection) -> None:
    by_id = "SELECT max(id) FROM commercehub.events"
    first = _event()
    async with one.transaction():
        await events.append(one, [first], now=NOW)
        await events.append(other, [_event()], now=NOW)
        read_up_to = await other.fetchval(by_id)
    late = await other.fetchval("SELECT id FROM commercehub.events WHERE aggregate_id = $1", first.aggregate_id)
    assert late < read_up_to


async def test_what_a_rolled_back_transaction_told_never_happened(one: Connection, other: Connection) -> None:
    transaction = one.transaction()
    await transaction.start()
    await events.append(one, [_event()], now=NOW)
    await transaction.rollback()
    assert await events.hand_on(other, types=TYPES, now=NOW) == (None, 0)


async def test_events_are_handed_on_in_batches_none_twice(one: Connection) -> None:
    told = [_event() for _ in range(events.BATCH + 3)]
    await events.append(one, told, now=NOW)
    await _settle(one)
    counts, seen = [], []
    for _ in range(3):
        async with one.transaction():
            batch_id, count = await events.hand_on(one, types=TYPES, now=NOW)
        counts.append(count)
        if batch_id is not None:
            seen += [each.aggregate_id for each in await events.take_batch(one, batch_id=batch_id, now=NOW)]
    assert counts == [events.BATCH, 3, 0]
    assert seen == [event.aggregate_id for event in told]


async def test_what_no_job_wants_is_passed_over_without_a_batch(one: Connection) -> None:
    await events.append(one, [_event("stock.changed")], now=NOW)
    await _settle(one)
    assert await events.hand_on(one, types=TYPES, now=NOW) == (None, 1)
    assert await events.hand_on(one, types=TYPES, now=NOW) == (None, 0)


async def test_while_one_relay_hands_on_another_comes_away_empty(one: Connection, other: Connection) -> None:
    await events.append(one, [_event()], now=NOW)
    await _settle(one)
    async with one.transaction():
        assert (await events.hand_on(one, types=TYPES, now=NOW))[1] == 1
        assert await events.hand_on(other, types=TYPES, now=NOW) == (None, 0)


async def test_a_relay_that_dies_before_its_commit_leaves_the_events_to_the_next(
    one: Connection, other: Connection
) -> None:
    told = _event()
    await events.append(one, [told], now=NOW)
    await _settle(one)
    transaction = one.transaction()
    await transaction.start()
    assert (await events.hand_on(one, types=TYPES, now=NOW))[1] == 1
    await transaction.rollback()
    assert await _handed_on(other) == [told.aggregate_id]


async def test_a_look_for_news_reads_no_more_of_the_days_than_the_news(one: Connection) -> None:
    """The cursor has to bound the index of each partition: what has been read stays there for a month."""
    async with one.transaction():
        await one.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await one.execute("SET LOCAL enable_seqscan = off")
        await one.execute(f"PREPARE look AS {events.READ_SETTLED}")
        plan = "\n".join(row[0] for row in await one.fetch("EXPLAIN (COSTS off) EXECUTE look ('0', 0, 500)"))
    scans = [line for line in plan.splitlines() if "Scan using" in line]
    assert len(scans) == plan.count("Index Cond: ((ROW(xid, id) > ROW(") > 0, plan
    assert "Sort" not in plan


async def test_a_fact_without_an_order_stands_on_no_timeline(one: Connection) -> None:
    order_id = uuid.uuid4()
    await events.append(one, [_event(), _event(order_id=order_id), _event("stock.changed")], now=NOW)
    assert [entry.type for entry in await events.read_timeline(one, order_id=order_id, limit=9)] == ["order.placed"]


# Days. Each test has a year of its own, for the partitions of a day stay.


@pytest.fixture
async def housekeeper(own_url: str, settings: Settings) -> AsyncIterator[Any]:
    async with open_hub(Settings(database_url=own_url, secret=settings.secret)) as hub:
        yield Housekeeper(hub)


class Housekeeper:
    """The job on a database whose clock is set."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def keep(self, now: datetime) -> None:
        real = await self.hub.database.now() - self.hub.database.clock_offset
        self.hub.database.clock_offset = now - real
        await housekeeping.keep_partitions(self.hub)

    async def days(self) -> set[date]:
        async with self.hub.database.connection() as db:
            names = {row["name"] for row in await db.fetch(events.LIST_PARTITIONS)}
        return {date.fromisoformat(name[len("events_") :]) for name in names if name != "events_default"}


async def test_partitions_are_made_for_today_and_the_days_to_come(housekeeper: Housekeeper, one: Connection) -> None:
    now = NOW.replace(year=2029)
    await housekeeper.keep(now)
    assert {date(2029, 5, day) for day in (17, 18, 19, 20)} <= await housekeeper.days()
    for at, name in ((now, "events_20290517"), (now + timedelta(days=2), "events_20290519")):
        told = _event()
        await events.append(one, [told], now=at)
        assert await one.fetchval(PARTITION_OF, told.aggregate_id) == f"commercehub.{name}"


async def test_a_day_goes_from_midnight_to_midnight_in_utc(housekeeper: Housekeeper, one: Connection) -> None:
    await one.execute("SET timezone = 'Asia/Tokyo'")
    now = NOW.replace(year=2031)
    await housekeeper.keep(now)
    for at, name in (
        (datetime(2031, 5, 18, tzinfo=UTC) - timedelta(microseconds=1), "events_20310517"),
        (datetime(2031, 5, 18, tzinfo=UTC), "events_20310518"),
    ):
        told = _event()
        await events.append(one, [told], now=at)
        assert await one.fetchval(PARTITION_OF, told.aggregate_id) == f"commercehub.{name}"


async def test_keeping_them_twice_changes_nothing(housekeeper: Housekeeper) -> None:
    await housekeeper.keep(NOW.replace(year=2032))
    before = await housekeeper.days()
    await housekeeper.keep(NOW.replace(year=2032))
    assert await housekeeper.days() == before


async def test_a_day_that_began_in_the_default_partition_stays_there_and_loses_nothing(
    housekeeper: Housekeeper, one: Connection
) -> None:
    now = NOW.replace(year=2033)
    early, ahead = _event(), _event()
    await events.append(one, [early], now=now)
    await events.append(one, [ahead], now=now + timedelta(days=2))
    await housekeeper.keep(now)
    assert await housekeeper.days() >= {date(2033, 5, 18), date(2033, 5, 20)}
    assert not await housekeeper.days() & {date(2033, 5, 17), date(2033, 5, 19)}
    for told in (early, ahead):
        assert await one.fetchval(PARTITION_OF, told.aggregate_id) == "commercehub.events_default"
    assert await _handed_on(one) == [early.aggregate_id, ahead.aggregate_id]


async def test_an_event_that_slips_in_while_a_partition_is_made_puts_it_off(
    housekeeper: Housekeeper, one: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = NOW.replace(year=2034)
    told = _event()
    await events.append(one, [told], now=now)
    monkeypatch.setattr(events, "HOLDS_DAY", "SELECT $1::timestamptz > $2::timestamptz")  # looked a moment earlier
    await housekeeper.keep(now)
    assert await one.fetchval(PARTITION_OF, told.aggregate_id) == "commercehub.events_default"
    monkeypatch.undo()
    await housekeeper.keep(now)
    assert await housekeeper.days() >= {date(2034, 5, 18), date(2034, 5, 19), date(2034, 5, 20)}


async def test_days_are_dropped_after_thirty_with_all_their_events(housekeeper: Housekeeper, one: Connection) -> None:
    now = NOW.replace(year=2035)
    kept, old, in_default = _event(), _event(), _event()
    await events.append(one, [in_default], now=now)
    await housekeeper.keep(now)
    await events.append(one, [old], now=now + timedelta(days=1))
    await events.append(one, [kept], now=now + timedelta(days=2))
    await _read_all(one)
    await housekeeper.keep(now + timedelta(days=32))
    left = "SELECT aggregate_id FROM commercehub.events WHERE aggregate_id = ANY ($1)"
    found = await one.fetch(left, [each.aggregate_id for each in (kept, old, in_default)])
    assert [row["aggregate_id"] for row in found] == [kept.aggregate_id]
    assert min(await housekeeper.days()) == date(2035, 5, 19)


async def test_a_clock_that_jumps_a_year_drops_nothing_that_was_not_read(
    housekeeper: Housekeeper, one: Connection
) -> None:
    now = NOW.replace(year=2036)
    await housekeeper.keep(now)
    unread = _event()
    await events.append(one, [unread], now=now)
    await housekeeper.keep(now + timedelta(days=365))
    assert date(2036, 5, 17) in await housekeeper.days()
    assert await _handed_on(one) == [unread.aggregate_id]
    await housekeeper.keep(now + timedelta(days=365))
    assert date(2036, 5, 17) not in await housekeeper.days()
    await housekeeper.keep(now)  # and back


async def test_a_table_in_use_is_not_waited_for(housekeeper: Housekeeper, one: Connection) -> None:
    """A drop takes a lock that everybody who sells would queue behind."""
    now = NOW.replace(year=2038)
    await housekeeper.keep(now)
    async with one.transaction():
        await one.fetchval("SELECT count(*) FROM commercehub.events")
        await housekeeper.keep(now + timedelta(days=32))
        assert date(2038, 5, 17) in await housekeeper.days()
    await housekeeper.keep(now + timedelta(days=32))
    assert date(2038, 5, 17) not in await housekeeper.days()


def _event(kind: str = "order.placed", *, order_id: uuid.UUID | None = None) -> Event:
    return Event(type=kind, aggregate_id=uuid.uuid4(), sequence=1, body={}, actor=ACTOR, order_id=order_id)


SETTLED = """
SELECT coalesce(max(xid) < pg_snapshot_xmin(pg_current_snapshot()), true)
FROM commercehub.events WHERE cardinality($1::uuid[]) = 0 OR aggregate_id = ANY ($1)
"""


async def _settle(db: Connection, *told: Event) -> None:
    """Wait until nobody on the server is older than these events, or all: other tests' databases hold them up too."""
    async with asyncio.timeout(SETTLED_SECONDS_MAX):
        while not await db.fetchval(SETTLED, [each.aggregate_id for each in told]):
            await asyncio.sleep(0.02)


async def _read_all(db: Connection) -> None:
    """Whatever earlier tests told."""
    await _settle(db)
    while (await events.hand_on(db, types=(), now=NOW))[1]:
        pass


async def _handed_on(db: Connection) -> list[uuid.UUID]:
    await _settle(db)
    batch_id, _ = await events.hand_on(db, types=TYPES, now=NOW)
    assert batch_id is not None
    return [each.aggregate_id for each in await events.take_batch(db, batch_id=batch_id, now=NOW)]


# A dump that was restored.


async def test_what_a_restored_dump_brought_along_is_read_once_and_so_is_what_came_since(own_url: str) -> None:
    db = await asyncpg.connect(own_url)
    try:
        await _read_all(db)
        read, unread, since = _event(), _event(), _event()
        await events.append(db, [read], now=NOW)
        await _settle(db, read)
        await _read_all(db)
        await events.append(db, [unread], now=NOW)
        # As if these two and the cursor came from a database that had counted much further.
        shift = "xid = (xid::text::bigint + 1000000000000)::text::xid8"
        await db.execute(
            f"UPDATE commercehub.events SET {shift} WHERE aggregate_id = ANY ($1)",
            [read.aggregate_id, unread.aggregate_id],
        )
        await db.execute(f"UPDATE commercehub.event_cursors SET {shift} WHERE reader = 'relay'")
        await events.append(db, [since], now=NOW)
        await _settle(db, since)
        assert await events.hand_on(db, types=TYPES, now=NOW) == (None, 0), "control: nothing new is ever read again"
        counts = []
        while (count := await events.renumber_restored(db)) is not None:
            counts.append(count)
        assert counts == [2, 0]
        await _settle(db, unread, since)
        handed_on = []
        while (batch := await events.hand_on(db, types=TYPES, now=NOW)) != (None, 0):
            handed_on += [each.aggregate_id for each in await events.take_batch(db, batch_id=batch[0] or 0, now=NOW)]
        assert handed_on.count(unread.aggregate_id) == handed_on.count(since.aggregate_id) == 1
        assert read.aggregate_id not in handed_on
    finally:
        await db.close()


async def test_a_database_that_was_not_restored_is_left_as_it_is(one: Connection) -> None:
    await events.append(one, [_event()], now=NOW)
    assert await events.renumber_restored(one) is None
