"""From events to jobs: the relay hands settled events on in batches, and a batch is worked off wherever it lands."""

import asyncio
from datetime import datetime
from typing import Any, Final

import structlog
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker, func
from asyncpg import Connection

from commercehub import events
from commercehub.jobs import ON_EVENT
from commercehub.workflows.parts import Hub

POLL_SECONDS: Final = 0.2
LATE_POLL_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0
WORK_OFF: Final = "work_off"

log = structlog.get_logger()


async def relay_once(hub: Hub, queue: ArqRedis | None) -> int:
    """Hand on what is settled: into the queue, or where there is none, work it off here. Returns how many events."""

    async def work(db: Connection, now: datetime) -> tuple[int | None, int]:
        return await events.hand_on(db, types=ON_EVENT.keys(), now=now)

    batch_id, count = await hub.database.transaction(work)
    if batch_id is None:
        return count
    if queue is None:
        await work_off(hub, batch_id)
        return count
    try:
        # The id makes it one job however often the batch is handed on.
        await queue.enqueue_job(WORK_OFF, batch_id, _job_id=f"events:{batch_id}")
    except Exception as error:  # noqa: BLE001 - whatever ails Redis, the batch stands in the database
        log.warning("queue.unreachable", error=str(error), batch_id=batch_id)
        await work_off(hub, batch_id)
    return count


async def work_off(hub: Hub, batch_id: int) -> None:
    """Run the jobs of every event of a batch, and end it once all are done. A batch that fails is taken up again."""

    async def take(db: Connection, now: datetime) -> list[events.Happening]:
        return await events.take_batch(db, batch_id=batch_id, now=now)

    failed = False
    for happening in await hub.database.transaction(take):
        for job in ON_EVENT.get(happening.type, ()):
            try:
                await job(hub, happening.aggregate_id)
            except Exception:
                failed = True
                log.exception("job.failed", job=job.__name__, event=happening.type, batch_id=batch_id)
    if not failed:

        async def end(db: Connection, _: datetime) -> None:
            await events.end_batch(db, batch_id=batch_id)

        await hub.database.transaction(end)


async def work_off_late(hub: Hub) -> int:
    """Take up the batches that nobody ended in time; returns how many."""

    async def find(db: Connection, now: datetime) -> list[int]:
        return await events.late_batches(db, now=now)

    late = await hub.database.transaction(find)
    for batch_id in late:
        await work_off(hub, batch_id)
    return len(late)


async def run_relay(hub: Hub, queue: ArqRedis | None) -> None:
    """Hand events on until cancelled."""
    while True:
        try:
            count = await relay_once(hub, queue)
        except Exception:
            log.exception("relay.failed")
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

    async def from_queue(_: dict[Any, Any], batch_id: int) -> None:
        await work_off(hub, batch_id)

    while True:
        worker = Worker(
            functions=[func(from_queue, name=WORK_OFF, keep_result=0, max_tries=1)],
            redis_settings=redis_settings,
            handle_signals=False,
            poll_delay=0.05,
        )
        try:
            await worker.async_run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever ails Redis, it is tried again
            log.warning("queue.unreachable", error=str(error))
        finally:
            await worker.close()
        await asyncio.sleep(RETRY_SECONDS)


async def connect_queue(redis_url: str | None) -> ArqRedis | None:
    """The queue, if Redis is configured and answers; without it the jobs run beside the relay."""
    if redis_url is None:
        return None
    try:
        return await create_pool(queue_settings(redis_url))
    except Exception as error:  # noqa: BLE001 - whatever ails Redis, the hub runs without
        log.warning("queue.unreachable", error=str(error))
        return None


def queue_settings(redis_url: str) -> RedisSettings:
    """How arq reaches Redis: soon given up, since nothing depends on it."""
    settings = RedisSettings.from_dsn(redis_url)
    settings.conn_retries = 1
    settings.conn_timeout = 2
    return settings
