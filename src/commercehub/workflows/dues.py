"""What has to be taken for an order, and what has to be let go of, now that it costs what it does."""

from collections.abc import Sequence
from datetime import datetime

from asyncpg import Connection

import payments
from commercehub import ids
from commercehub.sales import dues
from commercehub.sales.dues import earned, worth
from commercehub.sales.orders import Order
from payments import Kind


def amount_due(order: Order, intents: Sequence[payments.Intent]) -> int:
    """What is left to pay, in minor units. What is promised or being asked for is not left to pay."""
    return dues.amount_due(order, covered_minor=sum(intent.covered_minor for intent in intents))


def is_secured(order: Order, intents: Sequence[payments.Intent]) -> bool:
    """Whether all that the order costs is in hand or promised; what is being asked for is neither."""
    return worth(order) <= sum(intent.authorized_minor - intent.voided_minor for intent in intents)


def payment_state(order: Order, intents: Sequence[payments.Intent]) -> str:
    """The payment state of an order that costs what it does now."""
    if not intents:
        return "unpaid" if order.total else "paid"
    return payments.payment_state(intents, due_minor=worth(order))


async def begin_captures(db: Connection, order: Order, intents: Sequence[payments.Intent], *, now: datetime) -> int:
    """Write down the captures that take what has been earned by now; returns how much, in minor units."""
    under_way = await payments.read_under_way(db, intent_ids=[intent.id for intent in intents])
    due = earned(order) - sum(intent.captured_minor + under_way.get((intent.id, Kind.CAPTURE), 0) for intent in intents)
    wanted = []
    for intent in intents:
        held = intent.authorized_minor - intent.captured_minor - intent.voided_minor
        held -= under_way.get((intent.id, Kind.CAPTURE), 0) + under_way.get((intent.id, Kind.VOID), 0)
        amount = min(held, due)
        if intent.processor is not None and amount > 0:
            wanted.append((ids.new(), intent.id, Kind.CAPTURE, amount))
            due -= amount
    if wanted:
        await payments.begin(db, wanted, now=now)
    return sum(amount for _, _, _, amount in wanted)


async def let_go_of_rest(db: Connection, order: Order, intents: Sequence[payments.Intent], *, now: datetime) -> bool:
    """Write down voids of what processors still hold once nothing more will be taken; whether any was.

    A void lets go of all that is held: while a capture is under way it has to wait.
    """
    under_way = await payments.read_under_way(db, intent_ids=[intent.id for intent in intents])
    taken = sum(intent.captured_minor + under_way.get((intent.id, Kind.CAPTURE), 0) for intent in intents)
    if taken < worth(order):
        return False
    wanted = []
    for intent in intents:
        held = intent.authorized_minor - intent.captured_minor - intent.voided_minor
        is_busy = any(under_way.get((intent.id, kind), 0) for kind in (Kind.CAPTURE, Kind.VOID))
        if intent.processor is not None and held > 0 and not is_busy:
            wanted.append((ids.new(), intent.id, Kind.VOID, held))
    if wanted:
        await payments.begin(db, wanted, now=now)
    return bool(wanted)
