"""What customers are sent. A message is written down once per order and kind; its words are made when it is read."""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub.sales import orders
from commercehub.sales.carts import Owner
from commercehub.sales.orders import Order
from payments import money

MAILBOX_MAX: Final = 200


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

_SUBJECTS: Final = {
    "en": "Your order {number}",
    "es": "Tu pedido {number}",
}
_TEXTS: Final = {
    "en": "Thank you. We have your order {number}:\n{lines}\nTotal: {total}\n",
    "es": "Gracias. Tenemos tu pedido {number}:\n{lines}\nTotal: {total}\n",
}


async def confirm_order(db: Connection, *, order_id: UUID, now: datetime) -> None:
    """Tell whom an order is for that it is placed, once however often this is called; a till's customer has a receipt."""
    order = await orders.read_order(db, order_id=order_id, owner=Owner())
    if order.contact_id is not None:
        await db.execute(WRITE, "order_placed", order_id, order.locale, now)


async def list_messages(db: Connection) -> list[Message]:
    """The newest messages to those who have an e-mail address, rendered from the orders as they are."""
    messages = []
    for row in await db.fetch(LIST, MAILBOX_MAX):
        order = await orders.read_order(db, order_id=row["order_id"], owner=Owner())
        contacts = await orders.read_contacts(db, contact_ids=[order.contact_id] if order.contact_id else [])
        for contact, _ in contacts.values():
            to = contact.email or contact.phone
            if to is not None:
                messages.append(_render(order, to, row["locale"], row["sent_at"]))
    return messages


def _render(order: Order, to: str, locale: str, sent_at: datetime) -> Message:
    language = "es" if locale.startswith("es") else "en"
    words = {
        "number": order.number,
        "lines": "\n".join(f"  {line.ordered} x {line.title}" for line in order.lines),
        "total": money.show(order.total, order.currency),
    }
    return Message(
        to=to,
        subject=_SUBJECTS[language].format(**words),
        text=_TEXTS[language].format(**words),
        order_id=order.id,
        sent_at=sent_at,
    )
