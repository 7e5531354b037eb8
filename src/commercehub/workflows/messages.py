"""What customers are sent. A message is written down once about its subject; its words are made when it is read."""

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from asyncpg import Connection, Record

import fulfillment
import inventory
import payments
from commercehub import events, ids
from commercehub.events import SYSTEM, Event
from commercehub.sales import customers, orders, password_resets
from commercehub.sales.carts import Owner
from commercehub.sales.customers import Customer
from commercehub.sales.orders import Contact, Order, OrderState
from commercehub.sales.password_resets import Reset
from commercehub.workflows.wording import Kind, words
from fulfillment import Fulfillment, Parcel, State
from payments import money

MAILBOX_MAX: Final = 200
FACTS_MAX: Final = 100
"""Of an order whose payment is not settled: it has a handful."""
NOT_COLLECTED: Final = "not_collected"
SENT: Final = "message.sent"
_WITH_CODE: Final = frozenset({Kind.READY, Kind.REMINDER})


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it would arrive; ``qr`` is a picture of a pickup's code."""

    to: str
    subject: str
    text: str
    sent_at: datetime
    order_id: UUID | None = None
    qr: str | None = None


class _Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """All that the words of some messages are made of, by id."""

    secret: str
    contacts: Mapping[UUID, Contact]
    customers: Mapping[UUID, Customer]
    work: Mapping[UUID, Fulfillment]
    parcels: Mapping[UUID, list[Parcel]]
    places: Mapping[UUID, inventory.Location]


WRITE = """
INSERT INTO commercehub.messages (kind, order_id, subject_id, amount_minor, locale, sent_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (order_id, kind, subject_id) DO NOTHING
RETURNING id
"""

LIST = """
SELECT kind, order_id, subject_id, amount_minor, locale, sent_at FROM commercehub.messages ORDER BY id DESC LIMIT $1
"""


async def confirm_order(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order is for that it is placed, once however often this is called; a till's customer has a receipt.

    Who was told that the payment is not known is told that it is now.
    """
    order = await orders.read_order(db, order_id=order_id, owner=Owner())
    if await _was_unknown(db, order_id):
        await _write(db, Kind.PAYMENT_RESOLVED, order, now=now)
    await _write(db, Kind.ORDER_PLACED, order, now=now)


async def tell_of_unknown(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order is for that nobody knows yet whether it is paid."""
    await _write(db, Kind.PAYMENT_UNKNOWN, await orders.read_order(db, order_id=order_id, owner=Owner()), now=now)


async def tell_of_failure(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order would have been for that its payment failed, unless the checkout itself could answer so."""
    if await _was_unknown(db, order_id):
        order = await orders.read_order(db, order_id=order_id, owner=Owner())
        await _write(db, Kind.PAYMENT_FAILED, order, now=now)


async def tell_of_work(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order is for how far each place has got with it: ready, sent, handed over, called off."""
    order = await orders.read_order(db, order_id=order_id, owner=Owner())
    for work in await fulfillment.read_fulfillments_of(db, references=[order_id]):
        match work.state:
            case State.READY:
                await _write(db, Kind.READY, order, subject_id=work.id, now=now)
            case State.SHIPPED | State.DELIVERED:
                await _write(db, Kind.SHIPPED, order, subject_id=work.id, now=now)
            case State.HANDED_OVER:
                await _write(db, Kind.HANDED_OVER, order, subject_id=work.id, now=now)
            case State.CANCELLED if work.cancel_reason == NOT_COLLECTED:
                await _write(db, Kind.NOT_COLLECTED, order, subject_id=work.id, now=now)
            case State.CANCELLED if order.state is not OrderState.CANCELLED:
                await _write(db, Kind.PARTLY_CANCELLED, order, subject_id=work.id, now=now)


async def tell_of_cancellation(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order was for that all of it is called off, or what of it."""
    order = await orders.read_order(db, order_id=order_id, owner=Owner())
    work = await fulfillment.read_fulfillments_of(db, references=[order_id])
    if order.state is OrderState.CANCELLED and all(each.cancel_reason != NOT_COLLECTED for each in work):
        await _write(db, Kind.CANCELLED, order, now=now)
    else:
        await tell_of_work(db, order_id=order_id, now=now)


async def tell_of_refunds(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order is for of each refund that has come about."""
    order = await orders.read_order(db, order_id=order_id, owner=Owner())
    for operation in await payments.read_operations(db, reference=order_id):
        if operation.kind is payments.Kind.REFUND and operation.state is payments.OperationState.SUCCEEDED:
            await _write(
                db,
                Kind.REFUNDED,
                order,
                subject_id=operation.operation_id,
                amount_minor=operation.amount_minor,
                now=now,
            )


async def remind(db: Connection, *, order: Order, fulfillment_id: UUID, now: datetime) -> None:
    """Remind whom an order is for of what waits for them."""
    await _write(db, Kind.REMINDER, order, subject_id=fulfillment_id, now=now)


async def _was_unknown(db: Connection, order_id: UUID) -> bool:
    timeline = await events.read_timeline(db, order_id=order_id, limit=FACTS_MAX)
    return any(entry.type == "order.payment_unknown" for entry in timeline)


async def _write(
    db: Connection,
    kind: Kind,
    order: Order,
    *,
    now: datetime,
    subject_id: UUID | None = None,
    amount_minor: int | None = None,
) -> None:
    """Write a message down, unless it was, in the customer's own language; it stands on the customer's timeline."""
    if order.contact_id is None and order.customer_id is None:
        return
    locale = order.locale
    if order.customer_id is not None:
        person = (await customers.read_customers(db, customer_ids=[order.customer_id])).get(order.customer_id)
        locale = person.locale if person is not None else locale
    written = await db.fetchval(WRITE, kind.value, order.id, subject_id or order.id, amount_minor, locale, now)
    if written is None or order.customer_id is None:
        return
    sent = Event(
        type=SENT,
        aggregate_id=ids.new(),
        sequence=1,
        body={"order_id": ids.show("ord", order.id), "number": order.number, "kind": kind.value},
        actor=SYSTEM,
        customer_id=order.customer_id,
    )
    await events.append(db, [sent], now=now)


async def list_messages(db: Connection, *, secret: str) -> list[Message]:
    """The newest messages to those who can be reached, with the words that they have now: one read for each room."""
    rows = await db.fetch(LIST, MAILBOX_MAX)
    found = await orders.read_orders(db, order_ids=list({row["order_id"] for row in rows}))
    shelf = await _take_down(db, list(found.values()), secret=secret)
    messages = []
    for row in rows:
        order = found[row["order_id"]]
        to = _reach(order, shelf)
        if to is not None:
            messages.append(_render(row, order, to, shelf))
    resets = [_render_reset(each, secret) for each in await password_resets.list_resets(db, limit=MAILBOX_MAX)]
    # Each stays in the order in which it was written.
    both = heapq.merge(messages, resets, key=lambda message: message.sent_at, reverse=True)
    return list(both)[:MAILBOX_MAX]


def _render_reset(reset: Reset, secret: str) -> Message:
    subject, text = words(Kind.NEW_PASSWORD, reset.locale)
    code = password_resets.reset_code(secret, reset.customer_id, reset.ends_at)
    return Message(to=reset.email, subject=subject, text=text.format(code=code), sent_at=reset.asked_at)


async def _take_down(db: Connection, found: Sequence[Order], *, secret: str) -> _Shelf:
    contacts = await orders.read_contacts(db, contact_ids=[each.contact_id for each in found if each.contact_id])
    people = await customers.read_customers(db, customer_ids=[each.customer_id for each in found if each.customer_id])
    work = await fulfillment.read_fulfillments_of(db, references=[each.id for each in found])
    return _Shelf(
        secret=secret,
        contacts={contact_id: contact for contact_id, (contact, _) in contacts.items()},
        customers=people,
        work={each.id: each for each in work},
        parcels=await fulfillment.read_parcels(db, fulfillment_ids=[each.id for each in work]),
        places=await inventory.read_locations(db, location_ids=list({each.location_id for each in work})),
    )


def _reach(order: Order, shelf: _Shelf) -> str | None:
    """Where somebody is reached: as they said with the order, or else as they said when they signed up."""
    contact = shelf.contacts.get(order.contact_id) if order.contact_id else None
    person = shelf.customers.get(order.customer_id) if order.customer_id else None
    for known in (contact, person):
        if known is not None and (known.email or known.phone):
            return known.email or known.phone
    return None


def _render(row: Record, order: Order, to: str, shelf: _Shelf) -> Message:
    kind = Kind(row["kind"])
    subject, text = words(kind, row["locale"])
    work = shelf.work.get(row["subject_id"])
    filled = {
        "number": order.number,
        "lines": _lines(order, work),
        "total": money.show(order.total, order.currency),
        "amount": money.show(row["amount_minor"] or 0, order.currency),
        **(_of_work(work, shelf) if work is not None else {}),
    }
    qr = fulfillment.qr_of(filled["code"]) if kind in _WITH_CODE else None
    return Message(
        to=to,
        subject=subject.format(**filled),
        text=text.format(**filled),
        order_id=order.id,
        sent_at=row["sent_at"],
        qr=qr,
    )


def _lines(order: Order, work: Fulfillment | None) -> str:
    if work is None:
        return "\n".join(f"  {line.ordered} x {line.title}" for line in order.lines)
    titles = {line.id: line.title for line in order.lines}
    return "\n".join(f"  {line.quantity} x {titles[line.line_id]}" for line in work.lines)


def _of_work(work: Fulfillment, shelf: _Shelf) -> dict[str, str]:
    place = shelf.places[work.location_id]
    parcels = shelf.parcels.get(work.id, [])
    collect_by = f"{work.collect_by.astimezone(ZoneInfo(place.timezone)):%Y-%m-%d %H:%M}" if work.collect_by else "-"
    return {
        "place": place.name,
        "collect_by": collect_by,
        "code": fulfillment.pickup_code(shelf.secret, work.id),
        "carrier": ", ".join(dict.fromkeys(parcel.carrier for parcel in parcels if parcel.carrier)) or "-",
        "tracking": ", ".join(dict.fromkeys(p.tracking_number for p in parcels if p.tracking_number)) or "-",
    }
