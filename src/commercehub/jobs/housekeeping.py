"""Jobs that nobody waits for: imports, old answers, the days to come."""

from datetime import datetime, timedelta

from asyncpg import Connection

from commercehub import events, idempotency
from commercehub.workflows import importing
from commercehub.workflows.parts import Hub


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


async def keep_partitions(hub: Hub) -> None:
    """Make room for the events of the days to come, and let go of the oldest."""

    async def work(db: Connection, now: datetime) -> None:
        await events.keep_partitions(db, now=now)

    await hub.database.transaction(work)
