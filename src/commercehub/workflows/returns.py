"""Returns in any channel: asked for, received anywhere that takes them, and settled over the tenders that paid.

Every step locks the order first: whoever brings the same goods back at another till at the same moment waits, and then
finds them returned.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import fulfillment
import inventory
import payments
from commercehub import ids
from commercehub.events import Actor
from commercehub.sales import orders, returns
from commercehub.sales.carts import Owner
from commercehub.sales.errors import NotReturnable, ReturnNotInTurn
from commercehub.sales.orders import Order
from commercehub.sales.returns import Return, ReturnLine, ReturnState
from commercehub.workflows import refunds
from commercehub.workflows.announcing import move_and_tell
from commercehub.workflows.refusals import ResolutionNotOffered, ReturnsNotTaken
from inventory import Bucket

REASON: Final = "return"
STORE_CREDIT: Final = "store_credit"
NOT_GIVEN: Final = frozenset({"declined", "failed"})
BUCKETS: Final[Mapping[str, Bucket]] = {
    "restock": Bucket.ON_HAND,
    "damaged": Bucket.DAMAGED,
    "quarantine": Bucket.QUARANTINE,
}
"""Where goods go by what was found of them: their disposition."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a line that somebody wants to give back, and why."""

    line_id: UUID
    quantity: int
    reason: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A return that is asked for."""

    order_id: UUID
    owner: Owner
    lines: tuple[Asked, ...]
    method: str
    resolution: str
    location_id: UUID | None
    actor: Actor


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a line that lie on the counter, and what is to become of them."""

    line_id: UUID
    quantity: int
    disposition: str = "restock"


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """Where goods come back and money goes out. ``till``: where cash is given from, ``None`` for the safe."""

    location_id: UUID
    actor: Actor
    till: refunds.Counter | None = None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a return would give back: by line, and over which tenders (none: as store credit)."""

    amounts: Mapping[UUID, int]
    amount_minor: int
    parts: tuple[payments.Part, ...]


async def request_return(db: Connection, request: Request, *, now: datetime) -> tuple[Order, Return]:
    """Write a return down: its units cannot be asked back for again. The order is as it was.

    ``OrderNotFound``, ``NotReturnable``, ``ReturnWindowClosed``, ``ResolutionNotOffered`` or ``ReturnsNotTaken``.
    """
    await orders.read_order(db, order_id=request.order_id, owner=request.owner)
    order = await orders.lock_order(db, order_id=request.order_id)
    wanted: dict[UUID, int] = {}
    for line in request.lines:
        wanted[line.line_id] = wanted.get(line.line_id, 0) + line.quantity
    returns.check_returnable(order, wanted, await returns.read_open_units(db, order_id=order.id))
    arrivals = await fulfillment.read_arrivals(db, reference=order.id)
    returns.check_window(order, list(wanted), arrivals, now=now)
    _check_resolution(order, request.resolution)
    if request.location_id is not None:
        await check_place(db, request.location_id)
    skus = {line.id: line.sku for line in order.lines}
    reasons = {line.line_id: line.reason for line in reversed(request.lines)}
    back = Return(
        id=ids.new(),
        order_id=order.id,
        state=ReturnState.REQUESTED,
        method=request.method,
        resolution=request.resolution,
        location_id=request.location_id,
        amount_minor=None,
        requested_by=request.actor.name,
        channel=request.actor.channel,
        version=1,
        created_at=now,
        lines=tuple(
            ReturnLine(line_id=line_id, sku=skus[line_id], quantity=quantity, reason=reasons[line_id])
            for line_id, quantity in wanted.items()
        ),
    )
    await returns.create_return(db, back, now=now)
    lines = [
        {"line_id": ids.show("line", line.line_id), "quantity": line.quantity, "reason": line.reason}
        for line in back.lines
    ]
    facts = {"method": back.method, "resolution": back.resolution, "lines": lines}
    return await _tell(db, order, back, "requested", facts, actor=request.actor, now=now), back


async def lock(db: Connection, *, return_id: UUID) -> tuple[Order, Return]:
    """A return with its order locked, or raise ``ReturnNotFound``."""
    found = await returns.read_return(db, return_id=return_id)
    order = await orders.lock_order(db, order_id=found.order_id)
    return order, await returns.read_return(db, return_id=return_id)


async def receive(
    db: Connection,
    order: Order,
    back: Return,
    received: Sequence[Received],
    counter: Counter,
    *,
    settle_now: bool,
    now: datetime,
) -> tuple[Order, Return]:
    """The goods are here, and in the stock of this place; what they were worth is given back unless it waits.

    Fewer than were asked back for may come; the others can be asked back for again. ``ReturnNotInTurn``,
    ``ReturnsNotTaken``, ``NotReturnable`` for goods that are not in the return.
    """
    returns.check_move(back, ReturnState.RECEIVED)
    await check_place(db, counter.location_id)
    back = msgspec.structs.replace(back, lines=_counted(order, back, received))
    changes = await _take_back(db, back, received, counter, now=now)
    await returns.count_received(db, back)
    came = {line.line_id: line.received for line in back.lines}
    order = msgspec.structs.replace(
        order,
        lines=tuple(
            msgspec.structs.replace(line, returned=line.returned + came.get(line.id, 0)) for line in order.lines
        ),
    )
    back = await returns.move_return(db, back, to=ReturnState.RECEIVED, location_id=counter.location_id, now=now)
    facts = {
        "location_id": ids.show("loc", counter.location_id),
        "lines": [
            {
                "line_id": ids.show("line", each.line_id),
                "quantity": each.quantity,
                "disposition": each.disposition,
            }
            for each in received
        ],
    }
    order = await _tell(db, order, back, "received", facts, actor=counter.actor, changes=changes, now=now)
    if not settle_now:
        return order, back
    return await settle(db, order, back, counter, now=now)


async def settle(
    db: Connection, order: Order, back: Return, counter: Counter, *, now: datetime
) -> tuple[Order, Return]:
    """What came back is paid for: over the tenders, or as credit. Never more than what was paid for what was handed over.

    A return that is refunded is settled again where a processor refused its refund: that part is tried anew. Anything
    else out of turn is ``ReturnNotInTurn``. For cash, what ``refunds.find_drawer`` refuses.
    """
    if back.state is ReturnState.REFUNDED:
        return await _try_again(db, order, back, counter, now=now), back
    to = ReturnState.CLOSED if back.resolution == STORE_CREDIT else ReturnState.REFUNDED
    returns.check_move(back, to)
    wanted = sum(line.amount_minor for line in back.lines)
    amount = min(wanted, await refunds.refundable_for_goods(db, order))
    if amount > 0 and back.resolution == STORE_CREDIT:
        order = await refunds.give_credit(
            db, order, amount_minor=amount, reason=REASON, actor=counter.actor, cause=back.id, now=now
        )
    elif amount > 0:
        order = await _give_back(db, order, back, counter, amount, now=now)
    back = await returns.move_return(db, back, to=to, amount_minor=max(0, amount), now=now)
    facts = {"amount": {"amount": max(0, amount), "currency": order.currency}}
    return await _tell(db, order, back, to.value, facts, actor=counter.actor, now=now), back


async def cancel(db: Connection, order: Order, back: Return, *, actor: Actor, now: datetime) -> tuple[Order, Return]:
    """The goods stay with the customer. ``ReturnNotInTurn`` once they are on their way or have come."""
    back = await returns.move_return(db, back, to=ReturnState.CANCELLED, now=now)
    return await _tell(db, order, back, "cancelled", {}, actor=actor, now=now), back


async def preview(db: Connection, order: Order, back: Return) -> Preview:
    """What would go where if everything that was asked back for came, or goes where for what has come."""
    has_come = back.state not in {ReturnState.REQUESTED, ReturnState.APPROVED, ReturnState.IN_TRANSIT}
    lines = {line.id: line for line in order.lines}
    amounts = {
        line.line_id: line.amount_minor if has_come else returns.worth(order, lines[line.line_id], line.quantity)
        for line in back.lines
    }
    rooms = await refunds.read_rooms(db, order_id=order.id)
    left = await refunds.refundable_for_goods(db, order)
    amount = back.amount_minor if back.amount_minor is not None else max(0, min(left, sum(amounts.values())))
    is_credit = back.resolution == STORE_CREDIT or back.amount_minor is not None
    return Preview(
        amounts=amounts,
        amount_minor=amount,
        parts=() if is_credit else tuple(payments.spread(rooms, amount)),
    )


async def check_place(db: Connection, location_id: UUID) -> None:
    """Raise ``LocationNotFound`` or ``ReturnsNotTaken``."""
    place = await inventory.read_location(db, location_id=location_id)
    if "returns" not in place.capabilities:
        raise ReturnsNotTaken


def _check_resolution(order: Order, resolution: str) -> None:
    if resolution == "exchange":
        raise ResolutionNotOffered("Exchanges are not offered yet: return it, and buy the other one.")
    if resolution == STORE_CREDIT and order.customer_id is None:
        raise ResolutionNotOffered("Store credit belongs to a customer, and the order was a guest's.")


def _counted(order: Order, back: Return, received: Sequence[Received]) -> tuple[ReturnLine, ...]:
    """The return's lines with what came of each and what it is worth."""
    by_line: dict[UUID, dict[str, int]] = {line.line_id: dict.fromkeys(BUCKETS, 0) for line in back.lines}
    asked = {line.line_id: line.quantity for line in back.lines}
    for each in received:
        counts = by_line.setdefault(each.line_id, dict.fromkeys(BUCKETS, 0))
        counts[each.disposition] += each.quantity
    short = [
        (line_id, sum(counts.values()), asked.get(line_id, 0))
        for line_id, counts in by_line.items()
        if sum(counts.values()) > asked.get(line_id, 0)
    ]
    if short:
        raise NotReturnable(short)
    lines = {line.id: line for line in order.lines}
    return tuple(
        msgspec.structs.replace(
            line,
            restocked=by_line[line.line_id]["restock"],
            damaged=by_line[line.line_id]["damaged"],
            quarantined=by_line[line.line_id]["quarantine"],
            amount_minor=returns.worth(order, lines[line.line_id], sum(by_line[line.line_id].values())),
        )
        for line in back.lines
    )


async def _take_back(
    db: Connection, back: Return, received: Sequence[Received], counter: Counter, *, now: datetime
) -> list[inventory.Change]:
    lines = {line.line_id: line for line in back.lines}
    return await inventory.take_back(
        db,
        [
            inventory.Returned(
                sku=lines[each.line_id].sku,
                location_id=counter.location_id,
                bucket=BUCKETS[each.disposition],
                quantity=each.quantity,
                reason=lines[each.line_id].reason,
            )
            for each in received
        ],
        reference=ids.show("ret", back.id),
        actor=counter.actor.name,
        channel=counter.actor.channel,
        now=now,
    )


async def _give_back(
    db: Connection, order: Order, back: Return, counter: Counter, amount: int, *, now: datetime
) -> Order:
    return await refunds.give_back(
        db,
        order,
        amount_minor=amount,
        reason=REASON,
        actor=counter.actor,
        counter=counter.till,
        cause=back.id,
        now=now,
    )


async def _try_again(db: Connection, order: Order, back: Return, counter: Counter, *, now: datetime) -> Order:
    tried = await payments.read_refunds(db, causes=[back.id])
    given = sum(each.amount_minor for each in tried if each.state not in NOT_GIVEN)
    missing = (back.amount_minor or 0) - given
    if missing <= 0:
        raise ReturnNotInTurn(back.state, ReturnState.REFUNDED, [])
    amount = min(missing, await refunds.refundable_for_goods(db, order))
    if amount <= 0:
        raise payments.NothingToRefund
    return await _give_back(db, order, back, counter, amount, now=now)


async def _tell(
    db: Connection,
    order: Order,
    back: Return,
    what: str,
    facts: Mapping[str, object],
    *,
    actor: Actor,
    changes: Sequence[inventory.Change] = (),
    now: datetime,
) -> Order:
    return await move_and_tell(
        db,
        order,
        [(f"return.{what}", {"return_id": ids.show("ret", back.id), **facts})],
        to=order.state,
        payment_state=order.payment_state,
        fulfillment_state=orders.fulfillment_state(order.lines),
        actor=actor,
        changes=changes,
        now=now,
    )
