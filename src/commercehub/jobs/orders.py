"""Jobs that follow from what happened to an order. Each may run twice, late, and beside itself."""

from datetime import datetime, timedelta
from uuid import UUID

from asyncpg import Connection

from commercehub.workflows import messages, payment_results, pickup, webhooks
from commercehub.workflows.parts import Hub
from payments import inbox


async def confirm(hub: Hub, order_id: UUID) -> None:
    """Tell the customer that the order is placed."""

    async def work(db: Connection, now: datetime) -> None:
        await messages.confirm_order(db, order_id=order_id, now=now)

    await hub.database.transaction(work)


async def tell_of_failure(hub: Hub, order_id: UUID) -> None:
    """Tell the customer that the payment which nobody knew of has failed."""

    async def work(db: Connection, now: datetime) -> None:
        await messages.tell_of_failure(db, order_id=order_id, now=now)

    await hub.database.transaction(work)


async def tell_of_unknown(hub: Hub, order_id: UUID) -> None:
    """Tell the customer that nobody knows yet whether the order is paid."""

    async def work(db: Connection, now: datetime) -> None:
        await messages.tell_of_unknown(db, order_id=order_id, now=now)

    await hub.database.transaction(work)


async def tell_of_work(hub: Hub, order_id: UUID) -> None:
    """Tell the customer what is ready, sent or handed over."""

    async def work(db: Connection, now: datetime) -> None:
        await messages.tell_of_work(db, order_id=order_id, now=now)

    await hub.database.transaction(work)


async def tell_of_cancellation(hub: Hub, order_id: UUID) -> None:
    """Tell the customer that the order, or a part of it, is called off."""

    async def work(db: Connection, now: datetime) -> None:
        await messages.tell_of_cancellation(db, order_id=order_id, now=now)

    await hub.database.transaction(work)


async def tell_of_refunds(hub: Hub, order_id: UUID) -> None:
    """Tell the customer what was given back."""

    async def work(db: Connection, now: datetime) -> None:
        await messages.tell_of_refunds(db, order_id=order_id, now=now)

    await hub.database.transaction(work)


async def remind_of_pickups(hub: Hub) -> None:
    """Remind the customers whose goods wait for them."""
    await pickup.remind_due(hub.database)


async def give_up_uncollected(hub: Hub) -> None:
    """Call off what nobody came for."""
    await pickup.give_up_uncollected(hub.database)


async def carry_out_payments(hub: Hub, order_id: UUID) -> None:
    """Ask for the captures and voids that are written down for the order."""
    await payment_results.resolve_order(hub.database, hub.processors, order_id=order_id, render=hub.render)


async def resolve_payments(hub: Hub) -> None:
    """Find out what became of the payments that nobody has heard of."""
    while (
        await payment_results.resolve_due(hub.database, hub.processors, render=hub.render) == payment_results.DUE_BATCH
    ):
        pass


async def apply_webhooks(hub: Hub) -> None:
    """Look into what processors told."""
    while await webhooks.apply_due(hub.database, hub.processors, render=hub.render) == webhooks.BATCH:
        pass


async def retry_refused(hub: Hub) -> None:
    """Try captures, voids and refunds anew that were refused a while ago."""
    await payment_results.retry_refused(hub.database, hub.processors, render=hub.render)


async def forget_webhooks(hub: Hub) -> None:
    """Let go of what processors told long ago."""

    async def work(db: Connection, now: datetime) -> int:
        return await inbox.forget(db, before=now - timedelta(days=inbox.KEPT_DAYS))

    while await hub.database.transaction(work) == inbox.FORGET_BATCH:
        pass
