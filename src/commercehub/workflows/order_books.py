"""What every room has of the same orders, read side by side in the order of their ids.

A stretch of orders is read, then from each room what it has between the first and the last of them: no join crosses a
schema, no list of ids is sent, and what belongs to no order at all comes to light on the way.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import payments
from commercehub import ids
from commercehub.sales import verification as sales_books
from commercehub.sales.orders import Order
from fulfillment import Fulfillment
from fulfillment import verification as work_books
from inventory import verification as stock_books
from inventory.verification import Held, Moved
from payments import Balance
from payments import verification as money_books
from payments.verification import GivenBack, Tender

STRETCH: Final = 1_000
FIRST: Final = UUID(int=0)
LAST: Final = UUID(int=2**128 - 1)


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What an order's timeline tells: how many facts, and each change as ``from>to``, first to last."""

    facts: int
    states: str | None
    payment_states: str | None
    fulfillment_states: str | None
    steps: str | None


class OrderBooks(msgspec.Struct, frozen=True, kw_only=True):
    """One order as all rooms have it."""

    order: Order
    tenders: Sequence[Tender]
    # Of an order of which a capture was ever refused.
    balances: Sequence[Balance]
    refunds: Sequence[GivenBack]
    work: Sequence[Fulfillment]
    held: Sequence[Held]
    moved: Sequence[Moved]
    story: Story | None


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Some orders, the last id looked at, and what rooms have for no order, by what it is."""

    books: Sequence[OrderBooks]
    until: UUID
    strangers: Mapping[str, Collection[str]]


# The first fact of an order says its states, the others what they were and are.
STORIES = """
SELECT order_id, count(*) AS facts,
       string_agg(CASE jsonb_typeof(changes->'state')
           WHEN 'object' THEN (changes->'state'->>'from') || '>' || (changes->'state'->>'to')
           WHEN 'string' THEN '>' || (changes->>'state') END, ' ' ORDER BY id) AS states,
       string_agg(CASE jsonb_typeof(changes->'payment_state')
           WHEN 'object' THEN (changes->'payment_state'->>'from') || '>' || (changes->'payment_state'->>'to')
           WHEN 'string' THEN '>' || (changes->>'payment_state') END, ' ' ORDER BY id) AS payment_states,
       string_agg(CASE jsonb_typeof(changes->'fulfillment_state')
           WHEN 'object' THEN (changes->'fulfillment_state'->>'from') || '>' || (changes->'fulfillment_state'->>'to')
           WHEN 'string' THEN '>' || (changes->>'fulfillment_state') END, ' ' ORDER BY id) AS fulfillment_states,
       string_agg((changes->>'fulfillment_id') || '>' || split_part(type, '.', 2), ' ' ORDER BY id)
           FILTER (WHERE type LIKE 'fulfillment.%' AND type <> 'fulfillment.reminded') AS steps
FROM commercehub.timeline
WHERE order_id > $1 AND order_id <= $2
GROUP BY order_id
"""


async def read_stretch(db: Connection, *, after: UUID) -> Stretch:
    """The next orders behind one, with what every room has of them; ``until`` is ``LAST`` with the last of them."""
    batch = await sales_books.read_orders_after(db, after=after, limit=STRETCH)
    until = batch[-1].id if len(batch) == STRETCH else LAST
    tenders = await money_books.read_tenders(db, after=after, until=until)
    refused = [reference for reference, each in tenders.items() if any(tender.capture_refused for tender in each)]
    balances: dict[UUID, list[Balance]] = {}
    for balance in await payments.read_balances(db, references=refused) if refused else ():
        balances.setdefault(balance.intent.reference, []).append(balance)
    refunds = await money_books.read_given_back(db, after=after, until=until)
    work = await work_books.read_work(db, after=after, until=until)
    held = await stock_books.read_held(db, after=after, until=until)
    moved = await stock_books.read_moved(db, after=ids.show("ord", after), until=ids.show("ord", until))
    stories = {row["order_id"]: _story(row) for row in await db.fetch(STORIES, after, until)}
    known = {order.id for order in batch}
    labels = {ids.show("ord", order.id): order.id for order in batch}
    return Stretch(
        books=[
            OrderBooks(
                order=order,
                tenders=tenders.get(order.id, ()),
                balances=balances.get(order.id, ()),
                refunds=refunds.get(order.id, ()),
                work=work.get(order.id, ()),
                held=held.get(order.id, ()),
                moved=moved.get(label, ()),
                story=stories.get(order.id),
            )
            for order, label in zip(batch, labels, strict=True)
        ],
        until=until,
        strangers={
            "M3 every payment is for an order": _show(tenders.keys() - known),
            "R2 every refund is of an order": _show(refunds.keys() - known),
            "O2 all work is for an order": _show(work.keys() - known),
            "S2 what the clock does not end is held for an order": _show(held.keys() - known),
            "S3 what was sold was sold with an order": [
                label for label in moved if label.startswith("ord_") and label not in labels
            ],
            "E1 every timeline is an order's": _show(stories.keys() - known),
        },
    )


def _show(references: Collection[UUID]) -> list[str]:
    return [ids.show("ord", reference) for reference in sorted(references)]


def _story(row: Any) -> Story:
    return Story(
        facts=row["facts"],
        states=row["states"],
        payment_states=row["payment_states"],
        fulfillment_states=row["fulfillment_states"],
        steps=row["steps"],
    )
