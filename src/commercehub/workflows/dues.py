"""What has to be taken for an order, what has to be let go of, and what may leave, now that it costs what it does."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asyncpg import Connection

import payments
from commercehub import ids
from commercehub.sales import dues
from commercehub.sales.dues import amount_due, earned, taken, worth
from commercehub.sales.orders import Order
from commercehub.workflows.refusals import PaymentDue
from payments import Balance, Kind

__all__ = ["amount_due", "begin_captures", "check_secured", "let_go_of_rest", "payment_state", "state_of", "taken"]

CAPTURE_FAILED: Final = "capture_failed"


async def read_balances(db: Connection, order: Order) -> list[Balance]:
    """What stands behind an order. The order is locked, or it is only what it was a moment ago."""
    return await payments.read_balances(db, references=[order.id])


def check_secured(order: Order, balances: Sequence[Balance]) -> None:
    """Raise ``PaymentDue`` unless all that has left is paid for or promised, what leaves now (counted already) included.

    See ``sales.dues`` for what refunds do to it.
    """
    missing = dues.missing(order, balances)
    if missing:
        raise PaymentDue(missing, order.currency)


def payment_state(order: Order, intents: Sequence[payments.Intent]) -> str:
    """The payment state of an order that costs what it does now, but for the alarm of ``state_of``."""
    if not intents:
        return "unpaid" if order.total else "paid"
    return payments.payment_state(intents, due_minor=worth(order))


def state_of(order: Order, balances: Sequence[Balance]) -> str:
    """The payment state of an order: ``capture_failed`` as long as it is, else what its tenders say."""
    if dues.is_capture_failed(order, balances):
        return CAPTURE_FAILED
    return payment_state(order, [each.intent for each in balances])


async def begin_captures(db: Connection, order: Order, balances: Sequence[Balance], *, now: datetime) -> int:
    """Write down the captures that take what has been earned by now; returns how much, in minor units.

    A tender by which it was refused already is asked last.
    """
    due = earned(order) - taken(order, balances)
    wanted = []
    for each in sorted(balances, key=lambda balance: balance.capture_refused):
        amount = min(each.held_minor, due)
        if each.intent.processor is not None and amount > 0:
            wanted.append((ids.new(), each.intent.id, Kind.CAPTURE, amount))
            due -= amount
    if wanted:
        await payments.begin(db, wanted, now=now)
    return sum(amount for _, _, _, amount in wanted)


async def let_go_of_rest(db: Connection, order: Order, balances: Sequence[Balance], *, now: datetime) -> bool:
    """Write down voids of what processors still hold once nothing more will be taken; whether any was.

    A void lets go of all that is held: while a capture is under way it has to wait.
    """
    if taken(order, balances) < worth(order):
        return False
    wanted = [
        (ids.new(), each.intent.id, Kind.VOID, each.held_minor)
        for each in balances
        if each.intent.processor is not None
        and each.held_minor > 0
        and not each.capturing_minor
        and not each.voiding_minor
    ]
    if wanted:
        await payments.begin(db, wanted, now=now)
    return bool(wanted)
