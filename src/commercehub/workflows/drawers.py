"""Which drawer a payment at a till belongs to."""

from uuid import UUID

from asyncpg import Connection

import payments
from commercehub.events import Actor
from commercehub.workflows.refusals import RegisterRequired


async def find_drawer(
    db: Connection, *, actor: Actor, register_id: UUID | None, currency: str, for_cash: bool
) -> UUID | None:
    """The open drawer session that a payment at the caller's location belongs to; cash needs exactly one.

    ``RegisterNotFound``, and for cash ``NoOpenSession`` or ``RegisterRequired``.
    """
    found: list[UUID] = []
    if actor.location_id is not None:
        found = await payments.find_sessions(
            db, register_id=register_id, location_id=actor.location_id, currency=currency
        )
        if register_id is not None and not found:
            await payments.read_register(db, register_id=register_id, location_id=actor.location_id)
    if for_cash and not found:
        raise payments.NoOpenSession
    if for_cash and len(found) > 1:
        raise RegisterRequired
    return found[0] if len(found) == 1 else None
