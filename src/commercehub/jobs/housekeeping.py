"""Jobs that nobody waits for: imports, old answers, the days to come."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta

import asyncpg
import structlog
from asyncpg import Connection

from commercehub import auth, events, idempotency
from commercehub.database import Work
from commercehub.sales import handoffs
from commercehub.workflows import importing
from commercehub.workflows.parts import Hub

log = structlog.get_logger()


async def run_imports(hub: Hub) -> None:
    """Carry out the imports that wait."""
    while await importing.run_next(hub.database):
        pass


async def forget_answers(hub: Hub) -> None:
    """Forget the stored answers whose keys are not kept any longer."""

    async def work(db: Connection, now: datetime) -> int:
        return await idempotency.purge(db, before=now - timedelta(days=idempotency.KEPT_DAYS))

    while await hub.database.transaction(work) == idempotency.PURGE_BATCH:
        pass


async def forget_sign_ins(hub: Hub) -> None:
    """Forget the sign-ins that ended long ago, and the wrong tries that count no more."""

    async def sessions(db: Connection, now: datetime) -> bool:
        return await auth.purge_sessions(db, now=now) == auth.PURGE_BATCH

    async def attempts(db: Connection, now: datetime) -> bool:
        return await auth.purge_attempts(db, now=now) == auth.PURGE_BATCH

    for work in (sessions, attempts):
        while await hub.database.transaction(work):
            pass


async def forget_handoffs(hub: Hub) -> None:
    """Forget the codes that opened a cart in another channel, long ago."""

    async def work(db: Connection, now: datetime) -> bool:
        return await handoffs.purge_handoffs(db, now=now) == handoffs.PURGE_BATCH

    while await hub.database.transaction(work):
        pass


async def keep_partitions(hub: Hub) -> None:
    """Make room for the events of today and the days to come, and let go of the oldest. What cannot be had now waits."""

    async def plan(db: Connection, now: datetime) -> tuple[list[date], list[date]]:
        return await events.plan_partitions(db, now=now)

    async def purge(db: Connection, now: datetime) -> int:
        return await events.purge_default(db, now=now)

    missing, old = await hub.database.transaction(plan)
    try:
        for step, days in ((events.add_partition, missing), (events.drop_partition, old)):
            for day in days:
                # Each by itself: no lock is held for longer than one of them takes.
                await hub.database.transaction(_of_day(step, day))
    except (asyncpg.LockNotAvailableError, asyncpg.CheckViolationError) as error:
        log.info("partitions.later", reason=str(error))
    while await hub.database.transaction(purge) == events.PURGE_BATCH:
        pass


def _of_day(step: Callable[..., Awaitable[bool]], day: date) -> Work[bool]:
    async def work(db: Connection, _: datetime) -> bool:
        return await step(db, day=day)

    return work
