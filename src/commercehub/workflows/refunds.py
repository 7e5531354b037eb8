"""Giving money back: how much of it, over which tenders, and what is told of it.

What was paid last goes back first: the tenders in the reverse of the order in which they were given, so that with a
gift card and then a card the card is refunded before the gift card, each up to what it paid. What delivery cost is
part of what was paid: a caller who does not mean to give it back does not ask for it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Connection
from msgspec.structs import replace

import payments
from commercehub import ids
from commercehub.events import Actor
from commercehub.sales import orders
from commercehub.sales.orders import Order
from commercehub.workflows import dues
from commercehub.workflows.announcing import move_and_tell

CAPTURE_FAILED: Final = "capture_failed"


async def refundable(db: Connection, *, order_id: UUID) -> int:
    """What was paid for an order, or is promised to be, and was not given back yet, in minor units.

    The order is locked, or the answer is only what it was a moment ago.
    """
    rooms = await payments.read_rooms(db, reference=order_id)
    return _left(rooms, await payments.read_credited(db, reference=order_id))


async def give_back(
    db: Connection,
    order: Order,
    *,
    amount_minor: int,
    reason: str,
    actor: Actor,
    now: datetime,
    session_id: UUID | None = None,
    cause: UUID | None = None,
) -> Order:
    """Give an amount of a locked order back over the tenders that paid; returns the order as it is now.

    Gift cards, store credit and cash at once: cash from the drawer of ``session_id``, which has to be open, or else
    from the safe. A card by a refund that is written down here and carried out by the job of ``payment.refund_begun``.
    What is not captured yet is owed, and begun once its capture has succeeded (``begin_owed``): never lost, never
    twice. ``NothingToRefund`` or ``RefundTooLarge`` where less was paid and not yet given back.
    """
    rooms = await payments.read_rooms(db, reference=order.id)
    left = _left(rooms, await payments.read_credited(db, reference=order.id))
    check_amount(amount_minor, left)
    why = payments.Reason(words=reason, actor=actor.name, cause=cause, session_id=session_id)
    return await write(db, order, payments.spread(rooms, amount_minor), reason=why, actor=actor, now=now)


async def give_credit(
    db: Connection, order: Order, *, amount_minor: int, reason: str, actor: Actor, now: datetime, cause: UUID
) -> Order:
    """Owe the customer of a locked order an amount instead of giving it back. Refusals as for ``give_back``."""
    if order.customer_id is None:
        raise AssertionError(order.id)
    check_amount(amount_minor, await refundable(db, order_id=order.id))
    stored = await payments.open_store_credit(
        db, new_id=ids.new(), owner_id=order.customer_id, currency=order.currency, actor=actor.name, now=now
    )
    await payments.write_credit(
        db,
        credit_id=ids.new(),
        stored=stored,
        amount_minor=amount_minor,
        reference=order.id,
        reason=payments.Reason(words=reason, actor=actor.name, cause=cause),
        now=now,
    )
    amount = {"amount": amount_minor, "currency": order.currency}
    return await _tell(db, order, [("payment.credited", {"amount": amount})], actor=actor, now=now)


async def write(
    db: Connection,
    order: Order,
    parts: Sequence[payments.Part],
    *,
    reason: payments.Reason,
    actor: Actor,
    now: datetime,
) -> Order:
    """Give parts of what a locked order paid back, and tell of each; returns the order as it is now."""
    written = [payments.NewRefund(id=ids.new(), part=part) for part in parts]
    await payments.write_refunds(db, written, reference=order.id, reason=reason, now=now)
    told: list[tuple[str, dict[str, object]]] = [
        (
            _fact(part),
            {
                "payment_id": ids.show("pay", part.intent.id),
                "tender": part.intent.tender,
                "amount": {"amount": part.amount_minor, "currency": order.currency},
            },
        )
        for part in parts
    ]
    return await _tell(db, order, told, actor=actor, now=now)


async def refund_payment(
    db: Connection,
    *,
    intent_id: UUID,
    amount_minor: int | None,
    reason: str,
    actor: Actor,
    now: datetime,
    session_id: UUID | None = None,
) -> Order:
    """Give back what one payment took, or a part of it, whatever became of the goods; as ``give_back`` otherwise.

    ``PaymentNotFound``, ``NothingToRefund``, ``RefundTooLarge``.
    """
    order = await _lock_order_of(db, intent_id)
    rooms = await payments.read_rooms(db, reference=order.id)
    mine = [replace(room, promised_minor=0) for room in rooms if room.intent.id == intent_id]
    left = min(_left(mine, 0), _left(rooms, await payments.read_credited(db, reference=order.id)))
    amount = left if amount_minor is None else amount_minor
    check_amount(amount, left)
    why = payments.Reason(words=reason, actor=actor.name, session_id=session_id)
    return await write(db, order, payments.spread(mine, amount), reason=why, actor=actor, now=now)


async def begin_operation(
    db: Connection, kind: payments.Kind, *, intent_id: UUID, amount_minor: int | None, actor: Actor, now: datetime
) -> Order:
    """Write down a capture or a void of one payment, all that is held unless said otherwise; a job carries it out.

    ``PaymentNotFound``, or ``IntentSettled`` where not that much is held.
    """
    order = await _lock_order_of(db, intent_id)
    (room,) = [each for each in await payments.read_rooms(db, reference=order.id) if each.intent.id == intent_id]
    amount = room.promised_minor if amount_minor is None else amount_minor
    await payments.begin(db, [(ids.new(), intent_id, kind, amount)], now=now)
    facts: dict[str, object] = {
        "payment_id": ids.show("pay", intent_id),
        "amount": {"amount": amount, "currency": order.currency},
    }
    return await _tell(db, order, [(f"payment.{kind.value}_begun", facts)], actor=actor, now=now)


async def _lock_order_of(db: Connection, intent_id: UUID) -> Order:
    return await orders.lock_order(db, order_id=await payments.read_reference(db, intent_id=intent_id))


async def begin_owed(db: Connection, order: Order, *, now: datetime) -> list[tuple[str, dict[str, object]]]:
    """Begin the refunds that waited for a capture of a locked order; returns what there is to tell of it."""
    begun = await payments.begin_owed(db, reference=order.id, now=now)
    if not begun:
        return []
    return [("payment.refund_begun", {"amount": {"amount": begun, "currency": order.currency}})]


def check_amount(amount_minor: int, left_minor: int) -> None:
    """Raise ``NothingToRefund`` or ``RefundTooLarge`` where an amount is more than what is left."""
    if left_minor <= 0:
        raise payments.NothingToRefund
    if amount_minor > left_minor:
        raise payments.RefundTooLarge(left_minor)


def _left(rooms: Sequence[payments.Room], credited_minor: int) -> int:
    return sum(room.paid_minor + room.promised_minor for room in rooms) - credited_minor


def _fact(part: payments.Part) -> str:
    if part.waits:
        return "payment.refund_owed"
    return "payment.refunded" if part.intent.processor is None else "payment.refund_begun"


async def _tell(
    db: Connection, order: Order, told: Sequence[tuple[str, dict[str, object]]], *, actor: Actor, now: datetime
) -> Order:
    intents = await payments.read_intents(db, references=[order.id])
    state = dues.payment_state(order, intents)
    return await move_and_tell(
        db,
        order,
        told,
        to=order.state,
        # That a capture failed stays an alarm until one succeeds.
        payment_state=order.payment_state if order.payment_state == CAPTURE_FAILED else state,
        fulfillment_state=order.fulfillment_state,
        actor=actor,
        now=now,
    )
