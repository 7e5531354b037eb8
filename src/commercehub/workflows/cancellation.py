"""Calling an order off before anybody has taken its goods from the shelf."""

from datetime import datetime
from uuid import UUID

from asyncpg import Connection

import fulfillment
import inventory
import payments
from commercehub import ids
from commercehub.events import Actor
from commercehub.sales import orders
from commercehub.sales.errors import NotCancellable
from commercehub.sales.orders import Order, OrderState
from commercehub.workflows.announcing import move_and_tell


async def cancel_order(db: Connection, *, order_id: UUID, reason: str, actor: Actor, now: datetime) -> Order:
    """Call the whole order off, or raise ``NotCancellable`` if goods were picked or money was taken.

    The work is cancelled at once. What a processor holds is let go of by ``void`` operations written down here, and
    the stock stays reserved until one is confirmed; where no processor holds anything it is free at once.
    """
    order = await orders.lock_order(db, order_id=order_id)
    if OrderState.CANCELLED not in orders.MOVES[order.state]:
        raise NotCancellable(order.state)
    work = await fulfillment.read_fulfillments_of(db, references=[order_id])
    cancelled = await fulfillment.cancel_all(db, fulfillment_ids=[each.id for each in work], reason=reason, now=now)
    intents = await payments.read_intents(db, references=[order_id])
    if len(cancelled) != len(work) or any(intent.captured_minor for intent in intents):
        raise NotCancellable(order.state)
    held = [intent for intent in intents if intent.authorized_minor > intent.voided_minor]
    changes = []
    if held:
        await payments.begin(
            db,
            [(ids.new(), i.id, payments.Kind.VOID, i.authorized_minor - i.voided_minor) for i in held],
            now=now,
        )
    else:
        holds = await inventory.read_holds(db, reference=order_id)
        changes = await inventory.void(db, [(order_id, hold) for hold in holds], now=now)
    await orders.count_units(
        db,
        order_id=order_id,
        fulfilled={},
        cancelled={line.id: line.ordered - line.cancelled for line in order.lines},
    )
    return await move_and_tell(
        db,
        order,
        [("order.cancelled", {"reason": reason})],
        to=OrderState.CANCELLED,
        payment_state=order.payment_state,
        fulfillment_state=order.fulfillment_state,
        actor=actor,
        changes=changes,
        now=now,
    )
