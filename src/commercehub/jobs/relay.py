"""From events to jobs: the relay hands settled events on in batches, and a batch is worked off wherever it lands.

Redis carries a batch's number from the relay to a worker, and nothing else. Whatever ails it, the batch is a row in
PostgreSQL: it is worked off beside the relay at once, or taken up a little later.
"""

import asyncio
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker, func
from asyncpg import Connection

from commercehub import events
from commercehub.jobs import ON_EVENT
from commercehub.workflows.parts import Hub

POLL_SECONDS: Final = 0.2
LATE_POLL_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0
REDIS_SECONDS_MAX: Final = 1.0
"""For one answer of Redis. Nothing depends on it, so it is soon given up."""
ORDERS_AT_ONCE: Final = 8
"""Of a batch: one that waits for a processor must not keep the others."""
BATCHES_AT_ONCE: Final = 4
TRIES_MAX: Final = 5
"""How often a worker that is stopped amid a batch finds it in the queue again."""
WORK_OFF: Final = "work_off"

log = structlog.get_logger()


async def relay_once(hub: Hub, queue: ArqRedis | None) -> int:
    """Hand on what is settled: into the queue, or where there is none, work it off here. Returns how many events."""

    async def work(db: Connection, now: datetime) -> tuple[int | None, int]:
        return await events.hand_on(db, types=ON_EVENT.keys(), now=now)

    batch_id, count = await hub.database.transaction(work)
    if batch_id is not None and not await _enqueue(hub, queue, batch_id):
        await work_off(hub, batch_id)
    return count


async def _enqueue(hub: Hub, queue: ArqRedis | None, batch_id: int) -> bool:
    """Put a batch into the queue, if there is one and it takes it."""
    if queue is None:
        return False
    name = queue_name(hub)
    try:
        async with asyncio.timeout(2 * REDIS_SECONDS_MAX):
            # The id makes it one job however often the batch is handed on.
            await queue.enqueue_job(WORK_OFF, batch_id, _job_id=f"{name}:{batch_id}", _queue_name=name)
    except Exception as error:  # noqa: BLE001 - whatever ails Redis, the batch stands in the database
        log.warning("queue.unreachable", error=repr(error), batch_id=batch_id)
        return False
    return True


async def work_off(hub: Hub, batch_id: int) -> None:
    """Run the jobs of every event of a batch, and end it once all are done. A batch that fails is taken up again."""

    async def take(db: Connection, now: datetime) -> list[events.Happening]:
        return await events.take_batch(db, batch_id=batch_id, now=now)

    async def end(db: Connection, _: datetime) -> None:
        await events.end_batch(db, batch_id=batch_id)

    happenings: dict[UUID, list[events.Happening]] = {}
    for happening in await hub.database.transaction(take):
        happenings.setdefault(happening.aggregate_id, []).append(happening)
    turns = asyncio.Semaphore(ORDERS_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_work_off_one(hub, of_one, batch_id, turns)) for of_one in happenings.values()]
    if all(task.result() for task in tasks):
        await hub.database.transaction(end)


async def _work_off_one(
    hub: Hub, happenings: Sequence[events.Happening], batch_id: int, turns: asyncio.Semaphore
) -> bool:
    """Run the jobs of what happened to one order, in order. False if one of them failed."""
    done = True
    async with turns:
        for happening in happenings:
            for job in ON_EVENT.get(happening.type, ()):
                try:
                    await job(hub, happening.aggregate_id)
                except Exception:
                    done = False
                    log.exception("job.failed", job=job.__name__, type=happening.type, batch_id=batch_id)
    return done


async def work_off_late(hub: Hub) -> int:
    """Take up the batches that nobody ended in time; returns how many."""

    async def find(db: Connection, now: datetime) -> list[int]:
        return await events.late_batches(db, now=now)

    late = await hub.database.transaction(find)
    for batch_id in late:
        await work_off(hub, batch_id)
    return len(late)


async def settle_restored(hub: Hub) -> int:
    """Have events and cursors of a restored dump counted as this database counts; returns how many events were not."""

    async def work(db: Connection, _: datetime) -> int | None:
        return await events.renumber_restored(db)

    found = 0
    while (count := await hub.database.transaction(work)) is not None:
        if found == 0:
            log.warning("relay.restored", detail="the database counts its transactions anew: a dump was restored")
        found += count
    return found


async def run_relay(hub: Hub, queue: ArqRedis | None) -> None:
    """Hand events on until cancelled."""
    is_looked_over = False
    while True:
        try:
            if not is_looked_over:
                # At the start and after each failure: nobody restores a database that is being worked with.
                await settle_restored(hub)
                is_looked_over = True
            count = await relay_once(hub, queue)
        except Exception:
            log.exception("relay.failed")
            is_looked_over = False
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if count < events.BATCH:
            await asyncio.sleep(POLL_SECONDS)


async def run_late(hub: Hub) -> None:
    """Look after batches that were lost, until cancelled."""
    while True:
        await asyncio.sleep(LATE_POLL_SECONDS)
        try:
            await work_off_late(hub)
        except Exception:
            log.exception("relay.failed")


async def run_queue(hub: Hub, redis_settings: RedisSettings) -> None:
    """Work off what comes through Redis, until cancelled; begin again whenever Redis comes back."""

    async def from_queue(ctx: dict[Any, Any], batch_id: int) -> None:  # noqa: ARG001 - arq passes it by its name
        await work_off(hub, batch_id)

    is_told = False
    while True:
        redis = _connect(redis_settings)
        worker = Worker(
            functions=[func(from_queue, name=WORK_OFF, keep_result=0, max_tries=TRIES_MAX)],
            queue_name=queue_name(hub),
            redis_pool=redis,
            handle_signals=False,
            max_jobs=BATCHES_AT_ONCE,
            poll_delay=0.05,
        )
        begun = asyncio.get_running_loop().time()
        try:
            await worker.async_run()
        except Exception as error:
            if not is_told or asyncio.get_running_loop().time() > begun + RETRY_SECONDS:
                log.warning("queue.unreachable", error=repr(error))
            is_told = True
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # Asked to end while Redis ended too: arq's own error came instead of the cancellation.
                raise asyncio.CancelledError from error
        finally:
            # Not by worker.close(): it raises what its jobs raise, and that would end this loop.
            for task in worker.tasks.values():
                task.cancel()
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
            await redis.aclose()
        await asyncio.sleep(RETRY_SECONDS)


async def connect_queue(redis_url: str | None) -> ArqRedis | None:
    """The queue, if Redis is configured; without it the jobs run beside the relay. It connects when it is used."""
    return None if redis_url is None else _connect(queue_settings(redis_url))


def queue_settings(redis_url: str) -> RedisSettings:
    """Where Redis is."""
    return RedisSettings.from_dsn(redis_url)


def queue_name(hub: Hub) -> str:
    """The hub's own queue: hubs that share a Redis count their batches alike."""
    return f"commercehub:{hmac.new(hub.settings.secret.encode(), b'queue', 'sha256').hexdigest()[:16]}"


def _connect(settings: RedisSettings) -> ArqRedis:
    return ArqRedis(
        host=settings.host,
        port=settings.port,
        unix_socket_path=settings.unix_socket_path,
        db=settings.database,
        username=settings.username,
        password=settings.password,
        ssl=settings.ssl,
        socket_timeout=REDIS_SECONDS_MAX,
        socket_connect_timeout=REDIS_SECONDS_MAX,
    )
