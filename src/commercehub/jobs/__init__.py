"""What runs beside the requests: which job follows from which event, and which ones the clock starts.

Jobs are plain functions of the hub. With Redis they come through arq, without it the relay calls them itself; the
truth about what is to be done stands in PostgreSQL either way, so Redis may lose everything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import UUID

import structlog

from commercehub.jobs import housekeeping, orders
from commercehub.workflows.parts import Hub

EventJob = Callable[[Hub, UUID], Awaitable[None]]
Job = Callable[[Hub], Awaitable[None]]

ON_EVENT: Final[Mapping[str, tuple[EventJob, ...]]] = {
    "order.placed": (orders.confirm, orders.carry_out_payments),
    "order.payment_unknown": (orders.tell_of_unknown,),
    "order.payment_failed": (orders.tell_of_failure,),
    "order.cancelled": (orders.carry_out_payments, orders.tell_of_cancellation),
    "order.lines_cancelled": (orders.carry_out_payments, orders.tell_of_cancellation),
    "payment.came_late": (orders.carry_out_payments,),
    "payment.capture_begun": (orders.carry_out_payments,),
    "payment.refund_begun": (orders.carry_out_payments,),
    "payment.void_begun": (orders.carry_out_payments,),
    "payment.refunded": (orders.tell_of_refunds,),
    "fulfillment.ready": (orders.tell_of_work,),
    "fulfillment.shipped": (orders.carry_out_payments, orders.tell_of_work),
    "fulfillment.handed_over": (orders.carry_out_payments, orders.tell_of_work),
}
"""The aggregate of each of these events is an order."""

SCHEDULE: Final[tuple[tuple[float, Job], ...]] = (
    (0.25, housekeeping.run_imports),
    (0.25, orders.apply_webhooks),
    (2.0, orders.resolve_payments),
    (60.0, orders.retry_refused),
    (10.0, orders.remind_of_pickups),
    (10.0, orders.give_up_uncollected),
    (3_600.0, orders.forget_webhooks),
    (60.0, housekeeping.forget_answers),
    (60.0, housekeeping.forget_sign_ins),
    (3_600.0, housekeeping.forget_handoffs),
    (3_600.0, housekeeping.keep_partitions),
)
"""Seconds between two runs, and the job."""

log = structlog.get_logger()


async def run_schedule(hub: Hub) -> None:
    """Run the jobs that the clock starts, until cancelled. One that fails is logged, and run again in its turn."""
    async with asyncio.TaskGroup() as group:
        for every_seconds, job in SCHEDULE:
            group.create_task(_repeat(hub, every_seconds, job))


async def _repeat(hub: Hub, every_seconds: float, job: Job) -> None:
    while True:
        try:
            await job(hub)
        except Exception:
            log.exception("job.failed", job=job.__name__)
        await asyncio.sleep(every_seconds)
