"""Calling off what has not left yet: a whole order, some of its lines, or the work of one place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Connection

import fulfillment
import inventory
import payments
from commercehub import ids
from commercehub.events import Actor
from commercehub.sales import orders
from commercehub.sales.carts import Owner
from commercehub.sales.dues import worth
from commercehub.sales.errors import LineNotFound, NotCancellable
from commercehub.sales.orders import Order, OrderState
from commercehub.workflows import dues, refunds, shipping
from commercehub.workflows.announcing import move_and_tell
from fulfillment import Fulfillment, State


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """Units of some work that nobody is to get any more, by order line."""

    work: Fulfillment
    units: Mapping[UUID, int]

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the work is left."""
        return all(self.units.get(line.line_id) == line.quantity for line in self.work.lines)

    def holds(self) -> list[inventory.Hold]:
        """What is let go of."""
        return [
            msgspec.structs.replace(hold, quantity=self.units[hold.line_id])
            for hold in shipping.holds_of(self.work)
            if hold.line_id in self.units
        ]


async def cancel_order(
    db: Connection,
    *,
    order_id: UUID,
    owner: Owner,
    reason: str,
    actor: Actor,
    now: datetime,
    lines: Mapping[UUID, int] | None = None,
    till: refunds.Counter | None = None,
) -> Order:
    """Call off what has not left of an order, or the units of ``lines``; what was picked is not called off.

    ``OrderNotFound``, ``LineNotFound``, or ``NotCancellable`` where goods were picked or nothing is left to call off.
    The work is cancelled at once. What a processor holds for it is let go of by ``void`` operations written down here;
    what was taken is given back, cash out of the drawer at ``till`` (see ``refunds.give_back``). When the whole order is off and a processor holds money for it, the stock stays
    reserved until the void is confirmed; otherwise it is free at once.
    """
    await orders.read_order(db, order_id=order_id, owner=owner)
    order = await orders.lock_order(db, order_id=order_id)
    if OrderState.CANCELLED not in orders.MOVES[order.state]:
        raise NotCancellable(order.state)
    work = await fulfillment.read_fulfillments_of(db, references=[order_id])
    waiting = [each for each in work if each.state in fulfillment.UNPICKED]
    if lines is None:
        drops = [Drop(work=each, units={line.line_id: line.quantity for line in each.lines}) for each in waiting]
        if not drops or any(State.CANCELLED in _next(each) for each in work if each not in waiting):
            raise NotCancellable(order.state)
    else:
        drops = _spread(order, waiting, lines)
    return await _call_off(db, order, drops, reason=reason, told=[], actor=actor, till=till, now=now)


async def cancel_work(
    db: Connection,
    order: Order,
    work: Fulfillment,
    *,
    reason: str,
    actor: Actor,
    now: datetime,
    till: refunds.Counter | None = None,
) -> Order:
    """Call off locked work that has not left, picked or not, and with it its units of the locked order.

    ``InvalidTransition`` if it has left. Money and stock go as with ``cancel_order``.
    """
    fulfillment.check_move(work, State.CANCELLED)
    drop = Drop(work=work, units={line.line_id: line.quantity for line in work.lines})
    facts = {
        "fulfillment_id": ids.show("ful", work.id),
        "location_id": ids.show("loc", work.location_id),
        "reason": reason,
    }
    told = [("fulfillment.cancelled", facts)]
    return await _call_off(db, order, [drop], reason=reason, told=told, actor=actor, till=till, now=now)


def _next(work: Fulfillment) -> frozenset[State]:
    return fulfillment.MOVES[work.kind][work.state]


def _spread(order: Order, waiting: Sequence[Fulfillment], lines: Mapping[UUID, int]) -> list[Drop]:
    """The units out of the work that nobody has picked, the last given work first."""
    known = {line.id for line in order.lines}
    left = dict(lines)
    drops = []
    for line_id in lines:
        if line_id not in known:
            raise LineNotFound
    for work in reversed(waiting):
        units = {line.line_id: min(line.quantity, left.get(line.line_id, 0)) for line in work.lines}
        units = {line_id: quantity for line_id, quantity in units.items() if quantity}
        for line_id, quantity in units.items():
            left[line_id] -= quantity
        if units:
            drops.append(Drop(work=work, units=units))
    if any(left.values()):
        raise NotCancellable(order.state)
    return drops


async def _call_off(
    db: Connection,
    order: Order,
    drops: Sequence[Drop],
    *,
    reason: str,
    told: Sequence[tuple[str, Mapping[str, object]]],
    actor: Actor,
    till: refunds.Counter | None,
    now: datetime,
) -> Order:
    before = worth(order)
    units: Counter[UUID] = Counter()
    for drop in drops:
        units.update(drop.units)
        if drop.is_whole:
            await fulfillment.move(db, drop.work, to=State.CANCELLED, now=now, cancel_reason=reason)
        else:
            await fulfillment.drop_units(db, fulfillment_id=drop.work.id, units=drop.units, now=now)
    await orders.count_units(db, order_id=order.id, fulfilled={}, cancelled=units)
    lines = [msgspec.structs.replace(line, cancelled=line.cancelled + units[line.id]) for line in order.lines]
    order = msgspec.structs.replace(order, lines=tuple(lines))
    is_off = all(line.cancelled == line.ordered for line in order.lines)
    to = OrderState.CANCELLED if is_off else await shipping.state_without(db, order)
    balances = await dues.read_balances(db, order)
    is_let_go = await dues.let_go_of_rest(db, order, balances, now=now)
    changes = [] if is_off and is_let_go else await _free_stock(db, order, drops, now=now)
    order = await move_and_tell(
        db,
        order,
        [*told, *_facts(units, to, reason=reason)],
        to=to,
        payment_state=dues.state_of(order, balances),
        fulfillment_state=orders.fulfillment_state(order.lines),
        actor=actor,
        changes=changes,
        now=now,
    )
    return await _give_back(
        db, order, balances, saved_minor=before - worth(order), reason=reason, actor=actor, till=till, now=now
    )


def _facts(units: Mapping[UUID, int], to: OrderState, *, reason: str) -> list[tuple[str, dict[str, object]]]:
    if to is OrderState.CANCELLED:
        return [("order.cancelled", {"reason": reason})]
    lines = [{"line_id": ids.show("line", line_id), "quantity": quantity} for line_id, quantity in units.items()]
    facts: list[tuple[str, dict[str, object]]] = [("order.lines_cancelled", {"reason": reason, "lines": lines})]
    return [*facts, ("order.completed", {})] if to is OrderState.COMPLETED else facts


async def _free_stock(db: Connection, order: Order, drops: Sequence[Drop], *, now: datetime) -> list[inventory.Change]:
    held = {(hold.line_id, hold.location_id): hold for hold in await inventory.read_holds(db, reference=order.id)}
    freed = [hold for drop in drops for hold in drop.holds()]
    whole = [hold for hold in freed if held.get((hold.line_id, hold.location_id)) == hold]
    parts = [hold for hold in freed if hold not in whole]
    changes = await inventory.void(db, [(order.id, hold) for hold in whole], now=now)
    return [*changes, *await inventory.void_units(db, [(order.id, hold) for hold in parts])]


async def _give_back(
    db: Connection,
    order: Order,
    balances: Sequence[payments.Balance],
    *,
    saved_minor: int,
    reason: str,
    actor: Actor,
    till: refunds.Counter | None,
    now: datetime,
) -> Order:
    """Give back what was taken and is not owed any more, out of what the order costs less now."""
    rooms = await payments.read_rooms(db, reference=order.id)
    left = sum(room.paid_minor for room in rooms) - await payments.read_credited(db, reference=order.id)
    amount = min(saved_minor, dues.taken(order, balances) - worth(order), left)
    if amount <= 0:
        return order
    return await refunds.give_back(db, order, amount_minor=amount, reason=reason, actor=actor, counter=till, now=now)
