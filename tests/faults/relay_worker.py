"""The process that works jobs off, with one job of ours in it: it notes whom it was called for, and has one effect.

``PROOF_LATE_SECONDS`` shortens the wait for a batch that was lost; ``PROOF_READ`` puts another look for news in the
place of the hub's own.
"""

import os
import sys
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from asyncpg import Connection

from commercehub import events, jobs, worker
from commercehub.jobs import relay
from commercehub.workflows.parts import Hub

TOLD = "told.in_a_proof"

REACH = "INSERT INTO proof.reached (aggregate_id) VALUES ($1)"
TAKE_EFFECT = "INSERT INTO proof.effects (aggregate_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true"
COUNT_EFFECT = "UPDATE proof.counters SET count = count + 1 WHERE stripe = $1"


async def note(hub: Hub, aggregate_id: UUID) -> None:
    """As a job has to be: called again, it finds that it was called before."""

    async def work(db: Connection, _: datetime) -> None:
        await db.execute(REACH, aggregate_id)
        if await db.fetchval(TAKE_EFFECT, aggregate_id):
            await db.execute(COUNT_EFFECT, aggregate_id.int % 16)

    await hub.database.transaction(work)


def main() -> int:
    on_event: Any = jobs.ON_EVENT
    on_event.clear()
    on_event[TOLD] = (note,)
    patched: Any = (events, relay)
    if late := os.environ.get("PROOF_LATE_SECONDS"):
        patched[0].LATE_AFTER = timedelta(seconds=float(late))
        patched[1].LATE_POLL_SECONDS = float(late) / 4
    if read := os.environ.get("PROOF_READ"):
        patched[0].READ_SETTLED = read
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
