"""Jobs follow from what happened, at least once each and with one effect, whatever becomes of workers and of Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import msgspec
import pytest
from arq.connections import ArqRedis

from commercehub import events, ids, jobs
from commercehub.database import Database
from commercehub.jobs import orders, relay
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.commercehub.jobs.conftest import Valkey
from tests.transactions import until_settled

CARD = {"type": "card", "payment_method": "pm_ok"}
SOON_SECONDS_MAX = 4.0
# What an answer that never came leaves of redis-py's pipeline; nobody can reach it to close it.
LEAVES_A_PIPELINE = pytest.mark.filterwarnings("ignore:Unclosed client session:ResourceWarning")

COUNT_MESSAGES = "SELECT count(*) FROM commercehub.messages WHERE order_id = $1 AND kind = 'order_placed'"
COUNT_BATCHES = "SELECT count(*) FROM commercehub.event_batches WHERE id = $1"
MAKE_LATE = "UPDATE commercehub.event_batches SET try_after = now()"
TRY_AFTER = "SELECT try_after - now() FROM commercehub.event_batches WHERE id = $1"

RunJobs = Callable[[], Awaitable[None]]
Place = Callable[[], Awaitable[UUID]]


@pytest.fixture(autouse=True)
async def settled(run_jobs: RunJobs) -> None:
    """What earlier tests left behind is no business of these."""
    await run_jobs()


@pytest.fixture
async def place(app: Channel, channels: Channels, database: Database) -> Place:
    sku = await channels.product({"DC1": 100})

    async def place() -> UUID:
        answer = await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)
        assert answer.status_code == 201, answer.text
        # What follows is bounded by what is tried here, and not by transactions in other tests' databases.
        await until_settled(database)
        return ids.parse("ord", answer.json()["id"])

    return place


# A batch.


async def test_an_order_is_confirmed_once_however_often_its_batch_is_worked_off(hub: Hub, place: Place) -> None:
    order_id = await place()
    batch_id = await _hand_on(hub)
    await asyncio.gather(*(relay.work_off(hub, batch_id) for _ in range(3)))
    await relay.work_off(hub, batch_id)
    assert await _count(hub, COUNT_MESSAGES, order_id) == 1
    assert await _count(hub, COUNT_BATCHES, batch_id) == 0


async def test_a_batch_whose_worker_dies_is_taken_up_by_another(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await place()
    batch_id = await _hand_on(hub)
    with monkeypatch.context() as patched:
        reached = asyncio.Event()
        _let_follow(patched, "order.placed", _hang(reached), orders.confirm)
        dying = asyncio.create_task(relay.work_off(hub, batch_id))
        await reached.wait()
        dying.cancel()
        with suppress(asyncio.CancelledError):
            await dying
    assert await _count(hub, COUNT_MESSAGES, order_id) == 0
    await relay.work_off_late(hub)
    assert await _count(hub, COUNT_MESSAGES, order_id) == 0, "nobody may take it up at once: it could be worked on"
    await _make_late(hub)
    await relay.work_off_late(hub)
    assert await _count(hub, COUNT_MESSAGES, order_id) == 1
    assert await _count(hub, COUNT_BATCHES, batch_id) == 0


async def test_a_job_that_fails_keeps_its_batch_and_harms_no_other_order(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = await place(), await place()
    batch_id = await _hand_on(hub)

    async def confirm_or_fail(hub: Hub, order_id: UUID) -> None:
        if order_id == broken:
            raise RuntimeError("on purpose")
        await orders.confirm(hub, order_id)

    with monkeypatch.context() as patched:
        _let_follow(patched, "order.placed", confirm_or_fail)
        await relay.work_off(hub, batch_id)
    assert (await _count(hub, COUNT_MESSAGES, broken), await _count(hub, COUNT_MESSAGES, whole)) == (0, 1)
    await _make_late(hub)
    await relay.work_off_late(hub)
    assert (await _count(hub, COUNT_MESSAGES, broken), await _count(hub, COUNT_MESSAGES, whole)) == (1, 1)
    assert await _count(hub, COUNT_BATCHES, batch_id) == 0


async def test_a_batch_that_goes_on_failing_is_tried_less_and_less_often(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place()
    batch_id = await _hand_on(hub)

    async def fail(_: Hub, __: UUID) -> None:
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patched:
        _let_follow(patched, "order.placed", fail)
        waits = []
        for _ in range(3):
            await relay.work_off(hub, batch_id)
            async with hub.database.connection() as db:
                waits.append((await db.fetchval(TRY_AFTER, batch_id)).total_seconds())
    assert [round(wait / events.LATE_AFTER.total_seconds()) for wait in waits] == [1, 2, 3]
    await relay.work_off(hub, batch_id)


async def test_an_order_that_waits_for_its_processor_does_not_keep_the_others(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = await place(), await place()
    batch_id = await _hand_on(hub)
    waits = asyncio.Event()

    async def wait_or_confirm(hub: Hub, order_id: UUID) -> None:
        if order_id == slow:
            await waits.wait()
        await orders.confirm(hub, order_id)

    with monkeypatch.context() as patched:
        _let_follow(patched, "order.placed", wait_or_confirm)
        working = asyncio.create_task(relay.work_off(hub, batch_id))
        await _until(lambda: _count(hub, COUNT_MESSAGES, quick))
        assert not working.done()
        waits.set()
        await working
    assert await _count(hub, COUNT_MESSAGES, slow) == 1


# The two drivers.


@pytest.fixture(params=["in process", "arq"])
async def driver(request: pytest.FixtureRequest, hub: Hub) -> AsyncIterator[None]:
    url = request.getfixturevalue("redis_url") if request.param == "arq" else None
    async with _working(hub, url):
        yield


async def test_either_driver_confirms_captures_and_lets_go(
    driver: None, app: Channel, warehouse: Channel, channels: Channels, hub: Hub
) -> None:
    sku = await channels.product({"DC1": 9}, price=2_500)
    shipped, cancelled = [(await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)).json() for _ in range(2)]
    for step, body in (("start", {}), ("pick", {"lines": [{"sku": sku, "quantity": 1}]}), ("pack", {}), ("ship", {})):
        await warehouse.ok("POST", f"/v1/fulfillments/{shipped['fulfillments'][0]['id']}/{step}", body)
    await channels["admin"].ok("POST", f"/v1/orders/{cancelled['id']}/cancel", {"reason": "other"})

    async def payment_states() -> tuple[str, str]:
        found = [await channels["admin"].ok("GET", f"/v1/orders/{order['id']}") for order in (shipped, cancelled)]
        return found[0]["payment_state"], found[1]["payment_state"]

    async def is_done() -> bool:
        messages = [await _count(hub, COUNT_MESSAGES, ids.parse("ord", each["id"])) for each in (shipped, cancelled)]
        return messages == [1, 1] and await payment_states() == ("paid", "voided")

    await _until(is_done)
    assert await channels.level(sku, "DC1") == (8, 0)


# Redis.


async def test_a_batch_that_redis_forgot_is_worked_off_a_little_later(hub: Hub, place: Place, valkey: Valkey) -> None:
    order_id = await place()
    queue = await _queue(valkey.url)
    await _relay_until(hub, queue, lambda: queue.zcard(relay.queue_name(hub)))
    assert await queue.zcard(relay.queue_name(hub)) == 1
    await queue.flushall()
    await queue.aclose()
    assert await _count(hub, COUNT_MESSAGES, order_id) == 0
    await _make_late(hub)
    await relay.work_off_late(hub)
    assert await _count(hub, COUNT_MESSAGES, order_id) == 1


@LEAVES_A_PIPELINE
@pytest.mark.parametrize("ailment", ["kill", "stop_answering"])
async def test_without_redis_the_jobs_run_all_the_same(ailment: str, hub: Hub, place: Place, valkey: Valkey) -> None:
    queue = await _queue(valkey.url)
    await queue.ping()
    getattr(valkey, ailment)()
    order_id = await place()
    await _relay_until(hub, queue, lambda: _count(hub, COUNT_MESSAGES, order_id))
    assert await _count(hub, COUNT_MESSAGES, order_id) == 1
    await queue.aclose()


@LEAVES_A_PIPELINE
async def test_a_redis_that_is_not_there_at_the_start_is_used_once_it_comes(
    hub: Hub, place: Place, valkey: Valkey
) -> None:
    valkey.kill()
    async with _working(hub, valkey.url) as queue:
        first = await place()
        await _until(lambda: _count(hub, COUNT_MESSAGES, first))
        valkey.start()
        await _until(lambda: _is_taken_from(queue, hub))
        second = await place()
        await _until(lambda: _count(hub, COUNT_MESSAGES, second))


@LEAVES_A_PIPELINE
async def test_a_redis_that_dies_amid_a_job_does_not_take_the_worker_with_it(
    hub: Hub, place: Place, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()
    async with _working(hub, valkey.url) as queue:
        with monkeypatch.context() as patched:
            _let_follow(patched, "order.placed", _hang(reached))
            await place()
            await asyncio.wait_for(reached.wait(), SOON_SECONDS_MAX)
            valkey.kill()
            valkey.start()
            await asyncio.sleep(0.3)
        await _until(lambda: _is_taken_from(queue, hub))
    await _make_late(hub)
    await relay.work_off_late(hub)


async def test_hubs_that_share_a_redis_do_not_take_each_others_batches(hub: Hub) -> None:
    neighbour = msgspec.structs.replace(hub, settings=msgspec.structs.replace(hub.settings, secret="x" * 40))
    assert relay.queue_name(hub) != relay.queue_name(neighbour)
    assert hub.settings.secret not in relay.queue_name(hub)


# The clock.


async def test_a_job_of_the_clock_that_fails_runs_again_and_keeps_no_other(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    async def fail(_: Hub) -> None:
        ran.append("fails")
        raise RuntimeError("on purpose")

    async def work(_: Hub) -> None:
        ran.append("works")

    monkeypatch.setattr(jobs, "SCHEDULE", ((0.01, fail), (0.01, work)))
    with suppress(TimeoutError):
        await asyncio.wait_for(jobs.run_schedule(hub), 0.2)
    assert (ran.count("fails") > 1, ran.count("works") > 1) == (True, True)


@asynccontextmanager
async def _working(hub: Hub, redis_url: str | None) -> AsyncIterator[Any]:
    """The loops of a jobs process, and its queue."""
    queue = await relay.connect_queue(redis_url)
    tasks = [asyncio.create_task(relay.run_relay(hub, queue))]
    if redis_url is not None:
        tasks.append(asyncio.create_task(relay.run_queue(hub, relay.queue_settings(redis_url))))
    try:
        yield queue
        assert [task for task in tasks if task.done()] == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if queue is not None:
            await queue.aclose()


async def _queue(redis_url: str) -> ArqRedis:
    queue = await relay.connect_queue(redis_url)
    assert queue is not None
    return queue


async def _is_taken_from(queue: ArqRedis, hub: Hub) -> bool:
    """Whether somebody works off what is put into the queue: a batch that does not exist, so nothing happens."""
    with suppress(Exception):
        await queue.enqueue_job(relay.WORK_OFF, 0, _job_id="a-knock", _queue_name=relay.queue_name(hub))
        await asyncio.sleep(0.15)
        return bool(await queue.zcard(relay.queue_name(hub)) == 0)
    return False


async def _hand_on(hub: Hub) -> int:
    async def hand_on(db: Any, now: Any) -> tuple[int | None, int]:
        return await events.hand_on(db, types=jobs.ON_EVENT.keys(), now=now)

    async with asyncio.timeout(SOON_SECONDS_MAX):
        while True:
            batch_id, _ = await hub.database.transaction(hand_on)
            if batch_id is not None:
                return batch_id
            await asyncio.sleep(0.02)


def _hang(reached: asyncio.Event) -> Any:
    async def hang(_: Hub, __: UUID) -> None:
        reached.set()
        await asyncio.Event().wait()

    return hang


def _let_follow(patched: pytest.MonkeyPatch, event: str, *follow: Any) -> None:
    patched.setitem(jobs.ON_EVENT, event, follow)


async def _make_late(hub: Hub) -> None:
    async with hub.database.connection() as db:
        await db.execute(MAKE_LATE)


async def _count(hub: Hub, statement: str, *arguments: Any) -> int:
    async with hub.database.connection() as db:
        return int(await db.fetchval(statement, *arguments))


async def _relay_until(hub: Hub, queue: ArqRedis, condition: Callable[[], Awaitable[object]]) -> None:
    async def relayed() -> object:
        await relay.relay_once(hub, queue)
        return await condition()

    await _until(relayed)


async def _until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(SOON_SECONDS_MAX):
        while not await condition():
            await asyncio.sleep(0.02)
