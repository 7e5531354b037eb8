"""What customers are sent. A message is written down once per order and kind; its words are made when it is read."""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import events
from commercehub.sales import orders
from commercehub.sales.carts import Owner
from commercehub.sales.orders import Order
from payments import money

MAILBOX_MAX: Final = 200
FACTS_MAX: Final = 100
"""Of an order whose payment is not settled: it has a handful."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it would arrive."""

    to: str
    subject: str
    text: str
    order_id: UUID
    sent_at: datetime


WRITE = """
INSERT INTO commercehub.messages (kind, order_id, locale, sent_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (order_id, kind) DO NOTHING
"""

LIST = "SELECT kind, order_id, locale, sent_at FROM commercehub.messages ORDER BY id DESC LIMIT $1"

ORDER_PLACED: Final = "order_placed"
PAYMENT_FAILED: Final = "payment_failed"

_WORDS: Final = {
    (ORDER_PLACED, "en"): (
        "Your order {number}",
        "Thank you. We have your order {number}:\n{lines}\nTotal: {total}\n",
    ),
    (ORDER_PLACED, "es"): (
        "Tu pedido {number}",
        "Gracias. Tenemos tu pedido {number}:\n{lines}\nTotal: {total}\n",
    ),
    (PAYMENT_FAILED, "en"): (
        "The payment for {number} did not come about",
        "Nothing was charged, and your cart is still there:\n{lines}\nTotal: {total}\n",
    ),
    (PAYMENT_FAILED, "es"): (
        "El pago de {number} no se completó",
        "No se te cobró nada, y tu carrito sigue ahí:\n{lines}\nTotal: {total}\n",
    ),
}
"""Subject and text by kind and language."""


async def confirm_order(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order is for that it is placed, once however often this is called; a till's customer has a receipt."""
    await _write(db, ORDER_PLACED, order_id, now)


async def tell_of_failure(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order would have been for that its payment failed, unless the checkout itself could answer so."""
    timeline = await events.read_timeline(db, order_id=order_id, limit=FACTS_MAX)
    if any(entry.type == "order.payment_unknown" for entry in timeline):
        await _write(db, PAYMENT_FAILED, order_id, now)


async def _write(db: Connection, kind: str, order_id: UUID, now: datetime) -> None:
    order = await orders.read_order(db, order_id=order_id, owner=Owner())
    if order.contact_id is not None:
        await db.execute(WRITE, kind, order_id, order.locale, now)


async def list_messages(db: Connection) -> list[Message]:
    """The newest messages to those who can be reached, rendered from the orders as they are."""
    rows = await db.fetch(LIST, MAILBOX_MAX)
    written = [(row, await orders.read_order(db, order_id=row["order_id"], owner=Owner())) for row in rows]
    contacts = await orders.read_contacts(
        db, contact_ids=[order.contact_id for _, order in written if order.contact_id is not None]
    )
    reachable = {contact_id: contact.email or contact.phone for contact_id, (contact, _) in contacts.items()}
    return [
        _render(row["kind"], order, to, row["locale"], row["sent_at"])
        for row, order in written
        if order.contact_id is not None and (to := reachable.get(order.contact_id))
    ]


def _render(kind: str, order: Order, to: str, locale: str, sent_at: datetime) -> Message:
    subject, text = _WORDS[kind, "es" if locale.startswith("es") else "en"]
    words = {
        "number": order.number,
        "lines": "\n".join(f"  {line.ordered} x {line.title}" for line in order.lines),
        "total": money.show(order.total, order.currency),
    }
    return Message(
        to=to, subject=subject.format(**words), text=text.format(**words), order_id=order.id, sent_at=sent_at
    )
