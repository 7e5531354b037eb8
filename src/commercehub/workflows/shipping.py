"""The floor's steps from an open fulfillment to a delivered parcel, and what each means for stock and money."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Connection

import fulfillment
import inventory
from commercehub import ids
from commercehub.events import Actor
from commercehub.sales import orders
from commercehub.sales.orders import Order, OrderState
from commercehub.workflows import dues, payment_results
from commercehub.workflows.announcing import move_and_tell
from fulfillment import Fulfillment, State


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one fulfillment. ``location_id``: where the caller may work, ``None`` anywhere."""

    fulfillment_id: UUID
    location_id: UUID | None
    to: State
    actor: Actor


async def begin_step(db: Connection, step: Step) -> tuple[Order, Fulfillment]:
    """Lock the order and then the fulfillment, and see that the step is in turn.

    ``FulfillmentNotFound`` or ``InvalidTransition``, before anything else about the request is looked at.
    """
    found = await fulfillment.read_fulfillment(db, fulfillment_id=step.fulfillment_id, location_id=step.location_id)
    order = await orders.lock_order(db, order_id=found.reference)
    locked = await fulfillment.lock_fulfillment(db, fulfillment_id=step.fulfillment_id, location_id=step.location_id)
    fulfillment.check_move(locked, step.to)
    return order, locked


async def start(db: Connection, step: Step, order: Order, work: Fulfillment, *, now: datetime) -> Fulfillment:
    """Somebody is on the way to the shelf."""
    return await take_step(db, step, order, work, to=OrderState.IN_FULFILLMENT, now=now)


async def pick(
    db: Connection, step: Step, order: Order, work: Fulfillment, *, counted: Mapping[str, int], now: datetime
) -> Fulfillment:
    """Every unit is off the shelf. ``counted`` is by SKU; ``NotOnThisList`` or ``UnaccountedUnits`` otherwise."""
    picked = fulfillment.account_for(work, counted)
    await fulfillment.write_picked(db, fulfillment_id=work.id, picked=picked)
    lines = tuple(msgspec.structs.replace(line, picked=picked[line.line_id]) for line in work.lines)
    await inventory.note_picked(
        db, reference=order.id, location_id=work.location_id, line_ids=[line.line_id for line in work.lines]
    )
    return await take_step(db, step, order, msgspec.structs.replace(work, lines=lines), to=order.state, now=now)


async def pack(
    db: Connection,
    step: Step,
    order: Order,
    work: Fulfillment,
    *,
    weights_grams: Sequence[int | None],
    now: datetime,
) -> Fulfillment:
    """The goods are in parcels, one for each weight."""
    await fulfillment.write_parcels(db, fulfillment_id=work.id, weights_grams=weights_grams)
    return await take_step(db, step, order, work, to=order.state, now=now, parcels=len(weights_grams))


async def ship(
    db: Connection,
    step: Step,
    order: Order,
    work: Fulfillment,
    *,
    carrier: str | None,
    tracking_number: str | None,
    now: datetime,
) -> Fulfillment:
    """The parcels have left: stock falls, and the capture of what they cost is written down in the same transaction.

    ``PaymentDue`` where they are not paid for, see ``let_leave``.
    """
    order, changes = await let_leave(db, step, order, work, now=now)
    await fulfillment.write_tracking(db, fulfillment_id=work.id, carrier=carrier, tracking_number=tracking_number)
    return await take_step(
        db,
        step,
        order,
        work,
        to=order.state,
        now=now,
        changes=changes,
        carrier=carrier,
        tracking_number=tracking_number,
    )


async def deliver(db: Connection, step: Step, order: Order, work: Fulfillment, *, now: datetime) -> Fulfillment:
    """The customer has it. The order is completed once every unit is delivered, handed over or cancelled."""
    to = await state_without(db, order, work)
    return await take_step(db, step, order, work, to=to, now=now)


async def let_leave(
    db: Connection, step: Step, order: Order, work: Fulfillment, *, now: datetime
) -> tuple[Order, list[inventory.Change]]:
    """The goods are not ours any more: stock falls, and a capture takes what they cost; with the positions changed.

    ``PaymentDue``, before anything leaves, where their price is neither in hand nor promised. A capture that fails
    later never undoes the parcel, but no further one leaves upon what is left of that promise.
    """
    units = {line.line_id: line.quantity for line in work.lines}
    balances = await dues.read_balances(db, order)
    dues.check_secured(payment_results.with_fulfilled(order, units), balances)
    changes = await inventory.post(
        db,
        [(order.id, hold) for hold in holds_of(work)],
        label=ids.show("ord", order.id),
        actor=step.actor.name,
        channel=step.actor.channel,
        now=now,
    )
    order = await payment_results.fulfil_units(db, order, units)
    await dues.begin_captures(db, order, balances, now=now)
    return order, changes


def holds_of(work: Fulfillment) -> list[inventory.Hold]:
    """What is promised to the work while it goes on."""
    return [
        inventory.Hold(line_id=line.line_id, sku=line.sku, location_id=work.location_id, quantity=line.quantity)
        for line in work.lines
    ]


async def state_without(db: Connection, order: Order, *ending: Fulfillment) -> OrderState:
    """Where an order stands once this work is done: completed if nothing else is left to do."""
    all_work = await fulfillment.read_fulfillments_of(db, references=[order.id])
    ended = {each.id for each in ending}
    others_done = all(each.state in fulfillment.DONE for each in all_work if each.id not in ended)
    units_done = all(line.fulfilled + line.cancelled == line.ordered for line in order.lines)
    return OrderState.COMPLETED if others_done and units_done else order.state


async def take_step(
    db: Connection,
    step: Step,
    order: Order,
    work: Fulfillment,
    *,
    to: OrderState,
    now: datetime,
    changes: Sequence[inventory.Change] = (),
    **facts: object,
) -> Fulfillment:
    """Take the locked work its step further, and its order with it, and tell of both."""
    await fulfillment.move(db, work, to=step.to, now=now)
    told: list[tuple[str, dict[str, object]]] = [
        (
            f"fulfillment.{step.to.value}",
            {"fulfillment_id": ids.show("ful", work.id), "location_id": ids.show("loc", work.location_id), **facts},
        )
    ]
    if to is OrderState.COMPLETED:
        told.append(("order.completed", {}))
    await move_and_tell(
        db,
        order,
        told,
        to=to,
        payment_state=order.payment_state,
        fulfillment_state=orders.fulfillment_state(order.lines),
        actor=step.actor,
        changes=changes,
        now=now,
    )
    return msgspec.structs.replace(work, state=step.to, version=work.version + 1)
