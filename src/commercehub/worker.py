"""The process that works jobs off: events handed on, the clock's jobs, and what comes through Redis."""

import asyncio
import os
import signal
import sys
from typing import Final

from arq.connections import ArqRedis

from commercehub import jobs, metrics, settings
from commercehub.app import configure_logging, open_hub
from commercehub.jobs import relay
from commercehub.settings import Settings

END_SECONDS_MAX: Final = 5.0


async def run_jobs(given: Settings) -> None:
    """Work jobs off until SIGINT or SIGTERM."""
    configure_logging(given.log_level)
    if given.metrics_port is not None and given.run_folder is None:
        metrics.serve(given.metrics_port, given.host)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_hub(given) as hub:
        queue: ArqRedis | None = await relay.connect_queue(given.redis_url)
        tasks = [
            asyncio.create_task(relay.run_relay(hub, queue)),
            asyncio.create_task(relay.run_late(hub)),
            asyncio.create_task(jobs.run_schedule(hub)),
        ]
        if given.redis_url is not None:
            tasks.append(asyncio.create_task(relay.run_queue(hub, relay.queue_settings(given.redis_url))))
        await stop.wait()
        for task in tasks:
            task.cancel()
        # Whatever does not end is cut off: every job is taken up again by whoever works next.
        await asyncio.wait(tasks, timeout=END_SECONDS_MAX)
        if queue is not None:
            await queue.aclose()


def main() -> int:
    """Work for the hub that the environment describes."""
    try:
        given = settings.read(os.environ)
    except settings.InvalidSettings as error:
        print(f"hub: {error}", file=sys.stderr)
        return 1
    asyncio.run(run_jobs(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
