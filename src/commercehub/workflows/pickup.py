"""Goods that a customer comes for: ready and told of, handed over by a code, or given up when nobody came."""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
import structlog
from asyncpg import Connection

import fulfillment
import inventory
from commercehub import auth, ids
from commercehub.database import Database, Work
from commercehub.events import SYSTEM
from commercehub.sales import orders
from commercehub.sales.orders import Order
from commercehub.workflows import cancellation, messages, shipping
from commercehub.workflows.announcing import move_and_tell
from commercehub.workflows.shipping import Step
from fulfillment import Fulfillment, State

BATCH: Final = 50
ATTEMPT: Final = "pickup_code"
"""What wrong codes are counted as, by the pickup that they were tried on."""
NOT_COLLECTED: Final = "not_collected"

log = structlog.get_logger()


async def make_ready(
    db: Connection, step: Step, order: Order, work: Fulfillment, *, secret: str, now: datetime
) -> Fulfillment:
    """The goods wait for the customer, who alone has the code, until the end of the location's last day for them."""
    place = await inventory.read_location(db, location_id=work.location_id)
    collect_by = fulfillment.last_moment(now, timezone=place.timezone, window_days=place.pickup_window_days)
    code = fulfillment.pickup_code(secret, work.id)
    await fulfillment.keep_for_customer(
        db,
        fulfillment_id=work.id,
        code_hash=fulfillment.hash_of_code(secret, work.id, code),
        collect_by=collect_by,
    )
    work = msgspec.structs.replace(work, collect_by=collect_by)
    return await shipping.take_step(db, step, order, work, to=order.state, now=now, collect_by=collect_by)


async def hand_over(
    db: Connection, step: Step, order: Order, work: Fulfillment, *, code: str, secret: str, now: datetime
) -> Fulfillment:
    """The customer has it, who had the code: stock falls, what it costs is captured, the order may be completed.

    ``TooManyAttempts`` where too many codes were tried on it, ``WrongPickupCode`` (see ``note_wrong_code``), or
    ``PaymentDue`` where it is not paid for (see ``shipping.let_leave``).
    """
    await auth.check_attempts(db, kind=ATTEMPT, subject=str(work.id), now=now)
    code_hash = fulfillment.hash_of_code(secret, work.id, code)
    await fulfillment.check_code(db, fulfillment_id=work.id, code_hash=code_hash)
    order, changes = await shipping.let_leave(db, step, order, work, now=now)
    to = await shipping.state_without(db, order, work)
    return await shipping.take_step(db, step, order, work, to=to, now=now, changes=changes)


async def note_wrong_code(db: Connection, *, fulfillment_id: UUID, now: datetime) -> None:
    """Count a wrong code. A transaction of its own: that of the hand-over is rolled back."""
    await auth.note_attempt(db, kind=ATTEMPT, subject=str(fulfillment_id), now=now)


async def remind_due(database: Database) -> int:
    """Remind those who have two days left to come, once; returns how many were."""
    reminded, after_id = 0, None
    while True:
        async with database.connection() as db:
            now = await database.now()
            batch = await fulfillment.list_to_remind(db, now=now, after_id=after_id, limit=BATCH)
        for work_id in batch:
            reminded += await _try(database, work_id, _reminding(work_id))
        if len(batch) < BATCH:
            return reminded
        after_id = batch[-1]


def _reminding(work_id: UUID) -> Work[bool]:
    async def work(db: Connection, now: datetime) -> bool:
        found = await fulfillment.read_fulfillment(db, fulfillment_id=work_id, location_id=None)
        order = await orders.lock_order(db, order_id=found.reference)
        if not await fulfillment.note_reminded(db, fulfillment_id=work_id, now=now):
            return False
        await messages.remind(db, order=order, fulfillment_id=work_id, now=now)
        await move_and_tell(
            db,
            order,
            [("fulfillment.reminded", {"fulfillment_id": ids.show("ful", work_id), "collect_by": found.collect_by})],
            to=order.state,
            payment_state=order.payment_state,
            fulfillment_state=order.fulfillment_state,
            actor=SYSTEM,
            now=now,
        )
        return True

    return work


async def give_up_uncollected(database: Database) -> int:
    """Call off what nobody came for in time: its goods are on sale again, its money goes back; returns how many."""
    given_up, after_id = 0, None
    while True:
        async with database.connection() as db:
            now = await database.now()
            batch = await fulfillment.list_uncollected(db, now=now, after_id=after_id, limit=BATCH)
        for work_id in batch:
            given_up += await _try(database, work_id, _giving_up(work_id))
        if len(batch) < BATCH:
            return given_up
        after_id = batch[-1]


def _giving_up(work_id: UUID) -> Work[bool]:
    async def work(db: Connection, now: datetime) -> bool:
        step = Step(fulfillment_id=work_id, location_id=None, to=State.CANCELLED, actor=SYSTEM)
        try:
            order, found = await shipping.begin_step(db, step)
        except fulfillment.InvalidTransition:
            return False
        if found.state is not State.READY or found.collect_by is None or found.collect_by >= now:
            return False
        await cancellation.cancel_work(db, order, found, reason=NOT_COLLECTED, actor=SYSTEM, now=now)
        return True

    return work


async def _try(database: Database, work_id: UUID, work: Work[bool]) -> bool:
    """One that cannot be dealt with must not keep the others; it comes up again in its turn."""
    try:
        return await database.transaction(work)
    except Exception:
        log.exception("pickup.not_dealt_with", fulfillment_id=str(work_id))
        return False
