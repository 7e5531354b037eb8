"""How a workflow says what it did: order events with the order's version, stock events with the position's."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from asyncpg import Connection

import inventory
from commercehub import events, ids
from commercehub.events import Actor, Event
from commercehub.sales.orders import Order, OrderState, move_order


def stock_events(changes: Iterable[inventory.Change], actor: Actor) -> list[Event]:
    """One ``stock.changed`` for each position; its sequence is the position's version."""
    return [
        Event(
            type="stock.changed",
            aggregate_id=change.location_id,
            sequence=change.version,
            body={
                "sku": change.sku,
                "location_id": ids.show("loc", change.location_id),
                "available": change.available,
            },
            actor=actor,
        )
        for change in changes
    ]


def order_event(order: Order, kind: str, actor: Actor, *, sequence: int, **facts: object) -> Event:
    """One fact about an order, for its timeline too. ``facts`` are ids, amounts and states: never personal data."""
    return Event(
        type=kind,
        aggregate_id=order.id,
        sequence=sequence,
        body={"order_id": ids.show("ord", order.id), "number": order.number, **facts},
        actor=actor,
        order_id=order.id,
        customer_id=order.customer_id,
    )


async def move_and_tell(
    db: Connection,
    order: Order,
    told: Sequence[tuple[str, Mapping[str, object]]],
    *,
    to: OrderState,
    payment_state: str,
    fulfillment_state: str,
    actor: Actor,
    changes: Iterable[inventory.Change] = (),
    now: datetime,
) -> Order:
    """Move a locked order and append what happened, each fact with its own version; returns the order as it is now.

    The last fact carries what changed of the three states.
    """
    version = await move_order(
        db,
        order,
        to=to,
        payment_state=payment_state,
        fulfillment_state=fulfillment_state,
        facts=len(told),
        now=now,
    )
    changed = {
        name: {"from": before, "to": after}
        for name, before, after in (
            ("state", order.state.value, to.value),
            ("payment_state", order.payment_state, payment_state),
            ("fulfillment_state", order.fulfillment_state, fulfillment_state),
        )
        if before != after
    }
    first = version - len(told) + 1
    await events.append(
        db,
        [
            order_event(
                order,
                kind,
                actor,
                sequence=first + position,
                **facts,
                **(changed if position == len(told) - 1 else {}),
            )
            for position, (kind, facts) in enumerate(told)
        ]
        + stock_events(changes, actor),
        now=now,
    )
    return _moved(order, to, payment_state, fulfillment_state, version)


def _moved(order: Order, to: OrderState, payment_state: str, fulfillment_state: str, version: int) -> Order:
    return msgspec.structs.replace(
        order, state=to, payment_state=payment_state, fulfillment_state=fulfillment_state, version=version
    )
