"""Giving money back: how much of it, over which tenders, and what is told of it.

What was paid last goes back first: the tenders in the reverse of the order in which they were given, so that with a
gift card and then a card the card is refunded before the gift card, each up to what it paid. What delivery cost is
part of what was paid: a caller who does not mean to give it back does not ask for it.

Cash is given back out of a drawer wherever there are tills; from the safe anywhere else. What comes back onto a gift
card can be spent for a year at least: one that has expired, or would before, lasts longer from then on. Nobody gets a
refund or credit that can be spent before the money it stands for was captured.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec.structs import replace

import inventory
import payments
from commercehub import ids
from commercehub.events import Actor
from commercehub.sales import orders, returns
from commercehub.sales.dues import earned, worth
from commercehub.sales.orders import Order
from commercehub.workflows import dues
from commercehub.workflows.announcing import move_and_tell
from commercehub.workflows.refusals import RegisterRequired

CAPTURE_FAILED: Final = "capture_failed"
CASH: Final = "cash"
TILL: Final = "till"


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """Where somebody stands who may open drawers: at a location, or anywhere; and the register that they named."""

    location_id: UUID | None
    register_id: UUID | None = None


async def refundable(db: Connection, *, order_id: UUID) -> int:
    """What was paid for an order, or is promised to be, and was not given back yet, in minor units.

    The order is locked, or the answer is only what it was a moment ago.
    """
    return _sum(await read_rooms(db, order_id=order_id))


async def refundable_for_goods(db: Connection, order: Order) -> int:
    """What goods that come back can bring at most: what was paid for all that was handed over, less what went back.

    What pays for units that have not left yet is not given back for others. What was given back up to the surplus
    over what the order costs now was for what was called off, and does not count here.
    """
    rooms = await payments.read_rooms(db, reference=order.id)
    credited = await payments.read_credited(db, reference=order.id)
    given = sum(room.given_minor for room in rooms) + credited
    paid = given - credited + _sum(rooms)
    called_off = max(0, min(given, paid - worth(order)))
    for_goods = min(earned(order), paid - called_off) - (given - called_off)
    return max(0, min(for_goods, paid - given))


async def read_rooms(db: Connection, *, order_id: UUID) -> list[payments.Room]:
    """What may go back over each tender of an order, what was paid last first; what became credit is in none."""
    rooms = await payments.read_rooms(db, reference=order_id)
    return payments.less_credit(rooms, await payments.read_credited(db, reference=order_id))


async def find_drawer(db: Connection, counter: Counter, *, currency: str, for_cash: bool) -> UUID | None:
    """The open drawer session that gives money back: the named register's, else the only one there; ``None``: the safe.

    ``RegisterNotFound`` or ``NoOpenSession`` for a register that stands elsewhere or is closed. Where there are tills
    cash comes out of a drawer: ``NoOpenSession`` if none is open, ``RegisterRequired`` if several are.
    """
    place, register_id = counter.location_id, counter.register_id
    if register_id is not None:
        register = await payments.read_register(db, register_id=register_id, location_id=place)
        place = register.location_id
    if place is None:
        return None
    found = await payments.find_sessions(db, register_id=register_id, location_id=place, currency=currency)
    if len(found) == 1:
        return found[0]
    if register_id is not None:
        raise payments.NoOpenSession
    if for_cash and await _has_tills(db, place):
        raise RegisterRequired if found else payments.NoOpenSession
    return None


async def _has_tills(db: Connection, location_id: UUID) -> bool:
    place = await inventory.read_location(db, location_id=location_id)
    return TILL in place.capabilities and bool(await payments.list_registers(db, location_id=location_id))


async def give_back(
    db: Connection,
    order: Order,
    *,
    amount_minor: int,
    reason: str,
    actor: Actor,
    now: datetime,
    session_id: UUID | None = None,
    counter: Counter | None = None,
    cause: UUID | None = None,
) -> Order:
    """Give an amount of a locked order back over the tenders that paid; returns the order as it is now.

    Gift cards, store credit and cash at once: cash from the drawer of ``session_id``, which has to be open, or the one
    that ``find_drawer`` finds for a ``counter``, with its refusals, or else from the safe. A card by a refund that is written down here and carried out by the job of ``payment.refund_begun``.
    What is not captured yet is owed, and begun once its capture has succeeded (``begin_owed``): never lost, never
    twice. ``NothingToRefund`` or ``RefundTooLarge`` where less was paid and not yet given back.
    """
    rooms = await read_rooms(db, order_id=order.id)
    check_amount(amount_minor, _sum(rooms))
    parts = payments.spread(rooms, amount_minor)
    if counter is not None:
        session_id = await _drawer_for(db, counter, parts, currency=order.currency)
    why = payments.Reason(words=reason, actor=actor.name, cause=cause, session_id=session_id)
    return await write(db, order, parts, reason=why, actor=actor, now=now)


async def _drawer_for(
    db: Connection, counter: Counter, parts: Sequence[payments.Part], *, currency: str
) -> UUID | None:
    is_cash = any(part.intent.tender == CASH for part in parts)
    return await find_drawer(db, counter, currency=currency, for_cash=is_cash)


async def give_credit(
    db: Connection, order: Order, *, amount_minor: int, reason: str, actor: Actor, now: datetime, cause: UUID
) -> Order:
    """Owe the customer of a locked order an amount instead of giving it back. Refusals as for ``give_back``.

    What was captured can be spent at once; the rest waits for its capture, as refunds do, and is credited by
    ``begin_owed``.
    """
    if order.customer_id is None:
        raise AssertionError(order.id)
    rooms = await read_rooms(db, order_id=order.id)
    check_amount(amount_minor, _sum(rooms))
    at_once = min(amount_minor, sum(room.in_hand_minor for room in rooms))
    stored = await payments.open_store_credit(
        db, new_id=ids.new(), owner_id=order.customer_id, currency=order.currency, actor=actor.name, now=now
    )
    told: list[tuple[str, dict[str, object]]] = []
    for fact, amount, waits in (
        ("payment.credited", at_once, False),
        ("payment.credit_owed", amount_minor - at_once, True),
    ):
        if amount == 0:
            continue
        await payments.write_credit(
            db,
            credit_id=ids.new(),
            stored=stored,
            amount_minor=amount,
            reference=order.id,
            reason=payments.Reason(words=reason, actor=actor.name, cause=cause),
            waits=waits,
            now=now,
        )
        told.append((fact, {"amount": {"amount": amount, "currency": order.currency}}))
    return await _tell(db, order, told, actor=actor, now=now)


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
    extended = await payments.write_refunds(db, written, reference=order.id, reason=reason, now=now)
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
    told += [
        ("gift_card.extended", {"gift_card_id": ids.show("gift", each.stored_value_id), "expires_at": each.expires_at})
        for each in extended
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
    counter: Counter | None = None,
) -> Order:
    """Give back what one payment took, or a part of it, whatever became of the goods; as ``give_back`` otherwise.

    ``PaymentNotFound``, ``NothingToRefund``, ``RefundTooLarge``, and what ``find_drawer`` refuses.
    """
    order = await _lock_order_of(db, intent_id)
    rooms = await payments.read_rooms(db, reference=order.id)
    credited = await payments.read_credited(db, reference=order.id)
    # What became credit is of no tender: this one may give all that it took, as long as no more goes back in all.
    in_hand = max(0, sum(room.in_hand_minor for room in rooms) - credited)
    mine = [
        replace(room, in_hand_minor=min(room.in_hand_minor, in_hand), promised_minor=0)
        for room in rooms
        if room.intent.id == intent_id
    ]
    left = min(_sum(mine), sum(room.paid_minor for room in rooms) - credited)
    amount = left if amount_minor is None else amount_minor
    check_amount(amount, left)
    parts = payments.spread(mine, amount)
    session_id = await _drawer_for(db, counter, parts, currency=order.currency) if counter is not None else None
    why = payments.Reason(words=reason, actor=actor.name, session_id=session_id)
    return await write(db, order, parts, reason=why, actor=actor, now=now)


async def begin_operation(
    db: Connection, kind: payments.Kind, *, intent_id: UUID, amount_minor: int | None, actor: Actor, now: datetime
) -> Order:
    """Write down a capture or a void of one payment, all that is held unless said otherwise; a job carries it out.

    ``PaymentNotFound``, ``IntentSettled`` where not that much is held, or ``PartialVoid`` for a void of less than that.
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
    """Begin the refunds, and give the credit, that waited for a capture of a locked order; returns what to tell of it.

    What can never be captured any more is not owed any more either, and the return that it was owed for gives that
    much less back.
    """

    def money(amount: int) -> dict[str, object]:
        return {"amount": amount, "currency": order.currency}

    settled = await payments.begin_owed(db, reference=order.id, now=now)
    told: list[tuple[str, dict[str, object]]] = []
    if settled.begun_minor:
        told.append(("payment.refund_begun", {"amount": money(settled.begun_minor)}))
    if settled.credited_minor:
        told.append(("payment.credited", {"amount": money(settled.credited_minor)}))
    for each in settled.dropped:
        facts: dict[str, object] = {"amount": money(each.amount_minor)}
        if each.cause is not None:
            await returns.give_less(db, return_id=each.cause, amount_minor=each.amount_minor, now=now)
            facts["return_id"] = ids.show("ret", each.cause)
        told.append(("payment.refund_dropped", facts))
    return told


def check_amount(amount_minor: int, left_minor: int) -> None:
    """Raise ``NothingToRefund`` or ``RefundTooLarge`` where an amount is more than what is left."""
    if left_minor <= 0:
        raise payments.NothingToRefund
    if amount_minor > left_minor:
        raise payments.RefundTooLarge(left_minor)


def _sum(rooms: Sequence[payments.Room]) -> int:
    return sum(room.left_minor for room in rooms)


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
