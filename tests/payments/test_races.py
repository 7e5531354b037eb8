"""Many at once over the same money, in real transactions that commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

import payments
from commercehub.database import Database
from payments import IntentSettled, IntentState, Kind, NoOpenSession, OperationState, SessionAlreadyOpen
from payments.intents import FIRST_TRY_AFTER
from tests.payments.desk import Desk
from tests.transactions import one_try, until_waiting

# Long before anything that other tests leave waiting.
LONG_AGO = datetime(2002, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def sound(database: Database) -> AsyncIterator[None]:
    """Whatever happened, the books agree afterwards."""
    yield
    async with one_try(database) as (db, _):
        assert await payments.verify(db) == []


async def _try(database: Database, work: Callable[[Desk], Awaitable[object]], *refusals: type[Exception]) -> bool:
    """Do it in a transaction of its own; whether it was not refused."""
    try:
        async with one_try(database) as (db, now):
            await work(Desk(db, now))
    except refusals:
        return False
    return True


async def test_refunds_begun_at_once_never_exceed_what_was_captured(database: Database) -> None:
    async with one_try(database) as (db, now):
        intent = await Desk(db, now).captured(1000)
    refunds = [_try(database, lambda desk: desk.begin(intent, Kind.REFUND, 300), IntentSettled) for _ in range(10)]
    assert sum(await asyncio.gather(*refunds)) == 3
    async with one_try(database) as (db, now):
        for operation_id in await payments.open_operation_ids(db, reference=intent.reference):
            await Desk(db, now).hear(operation_id)
        (after,) = await payments.read_intents(db, references=[intent.reference])
        assert after.refunded_minor == 900


@pytest.mark.parametrize("_", range(5))
async def test_a_capture_and_a_void_begun_at_once_share_what_is_held(database: Database, _: int) -> None:
    async with one_try(database) as (db, now):
        intent = await Desk(db, now).authorized(1000)
    begun = await asyncio.gather(
        _try(database, lambda by: by.begin(intent, Kind.CAPTURE, 1000), IntentSettled),
        _try(database, lambda by: by.begin(intent, Kind.VOID, 1000), IntentSettled),
    )
    assert sorted(begun) == [False, True]


async def test_a_fact_heard_by_two_at_once_is_booked_once(database: Database) -> None:
    async with one_try(database) as (db, now):
        desk = Desk(db, now)
        capture = await desk.begin(await desk.authorized(1000), Kind.CAPTURE, 1000)
    heard: list[int] = []

    async def hear(by: Desk) -> None:
        heard.append(len(await by.hear(capture)))

    await asyncio.gather(*(_try(database, hear) for _ in range(5)))
    assert sorted(heard) == [0, 0, 0, 0, 1]
    async with one_try(database) as (db, _):
        (intent,) = await payments.read_intents(db, references=[desk.reference])
        assert (intent.state, intent.captured_minor) == (IntentState.CAPTURED, 1000)


async def test_two_facts_of_one_intent_heard_at_once_both_count(database: Database) -> None:
    async with one_try(database) as (db, now):
        desk = Desk(db, now)
        intent = await desk.authorized(1000)
        captures = [await desk.begin(intent, Kind.CAPTURE, amount) for amount in (400, 600)]
    async with one_try(database) as (db, now):
        await Desk(db, now).hear(captures[0])
        second = asyncio.ensure_future(_try(database, lambda by: by.hear(captures[1])))
        await until_waiting(database)
    assert await second
    async with one_try(database) as (db, _):
        (after,) = await payments.read_intents(db, references=[desk.reference])
        assert (after.state, after.captured_minor) == (IntentState.CAPTURED, 1000)


async def test_what_one_completer_took_up_another_skips_without_waiting(database: Database) -> None:
    async with one_try(database) as (db, _):
        desk = Desk(db, LONG_AGO)
        cards = [desk.card(amount) for amount in (100, 200, 300)]
        await desk.open(*cards)
    due = LONG_AGO + FIRST_TRY_AFTER
    async with one_try(database) as (first, _), one_try(database) as (second, _):
        taken = await payments.take_due(first, limit=2, now=due)
        rest = await asyncio.wait_for(payments.take_due(second, limit=9, now=due), timeout=1)
        assert (len(taken), len(rest)) == (2, 1)
        assert {*taken, *rest} == {card.operation_id for card in cards}
    async with one_try(database) as (db, now):
        for card in cards:
            await Desk(db, now).hear(card.operation_id, OperationState.FAILED)


async def test_a_sale_under_way_keeps_its_drawer_open_until_it_is_in_it(database: Database) -> None:
    async with one_try(database) as (db, now):
        desk = Desk(db, now)
        register = await desk.register()
        session = await desk.open_drawer(register, 500)
    async with one_try(database) as (db, now):
        assert await payments.share_sessions(db, session_ids=[session.id]) == [session.id]
        closing = asyncio.ensure_future(_try(database, lambda by: by.close_drawer(register, 750)))
        await until_waiting(database)
        await Desk(db, now).open(desk.cash(250, session_id=session.id))
    assert await closing
    async with one_try(database) as (db, _):
        expected = "SELECT expected_minor FROM payments.register_sessions WHERE id = $1"
        assert await db.fetchval(expected, session.id) == 750


async def test_a_sale_that_waited_for_the_close_finds_no_drawer(database: Database) -> None:
    async with one_try(database) as (db, now):
        desk = Desk(db, now)
        register = await desk.register()
        session = await desk.open_drawer(register)
    shared: list[object] = []

    async def share(by: Desk) -> None:
        shared.extend(await payments.share_sessions(by.db, session_ids=[session.id]))

    async with one_try(database) as (db, now):
        await Desk(db, now).close_drawer(register, 0)
        sale = asyncio.ensure_future(_try(database, share))
        await until_waiting(database)
    assert await sale
    assert shared == []


async def test_sales_share_a_drawer_without_waiting_for_each_other(database: Database) -> None:
    async with one_try(database) as (db, now):
        desk = Desk(db, now)
        session = await desk.open_drawer(await desk.register())
    async with one_try(database) as (first, _), one_try(database) as (second, _):
        for db in (first, second):
            shared = payments.share_sessions(db, session_ids=[session.id])
            assert await asyncio.wait_for(shared, timeout=1) == [session.id]


async def test_a_drawer_opened_by_two_at_once_opens_once(database: Database) -> None:
    async with one_try(database) as (db, now):
        register = await Desk(db, now).register()
    opened = [_try(database, lambda by: by.open_drawer(register), SessionAlreadyOpen) for _ in range(3)]
    assert sorted(await asyncio.gather(*opened)) == [False, False, True]


async def test_a_drawer_closed_by_two_at_once_closes_once(database: Database) -> None:
    async with one_try(database) as (db, now):
        desk = Desk(db, now)
        register = await desk.register()
        await desk.open_drawer(register, 500)
    closed = [_try(database, lambda by: by.close_drawer(register, 500), NoOpenSession) for _ in range(3)]
    assert sorted(await asyncio.gather(*closed)) == [False, False, True]


@pytest.mark.parametrize("_", range(5))
async def test_a_refund_is_under_way_or_booked_and_never_neither(database: Database, _: int) -> None:
    async with one_try(database) as (db, now):
        desk = Desk(db, now)
        intent = await desk.captured(1000)
        first = await desk.begin(intent, Kind.REFUND, 600)
    booked, begun = await asyncio.gather(
        _try(database, lambda by: by.hear(first)),
        _try(database, lambda by: by.begin(intent, Kind.REFUND, 600), IntentSettled),
    )
    assert booked
    assert not begun
