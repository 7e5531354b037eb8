"""The floor of one location: the shortest words for the work there."""

from datetime import datetime
from typing import Any

from asyncpg import Connection

import fulfillment
from commercehub import ids
from fulfillment import Fulfillment, Kind, Line, State

# What is ready has a code that opens it.
PUT = """
UPDATE fulfillment.fulfillments
SET state = $2,
    code_hash = CASE WHEN $2 IN ('ready', 'handed_over') THEN '\\x01'::bytea END,
    collect_by = CASE WHEN $2 IN ('ready', 'handed_over') THEN created_at + interval '7 days' END
WHERE id = $1
"""


def work(now: datetime, *lines: Line, **facts: Any) -> Fulfillment:
    """Work that nobody has written down yet; two cups and a pot unless said otherwise."""
    given: dict[str, Any] = {
        "id": ids.new(),
        "reference": ids.new(),
        "kind": Kind.SHIP,
        "method": "ship",
        "location_id": ids.new(),
        "state": State.OPEN,
        "version": 1,
        "created_at": now,
        "lines": lines
        or (
            Line(line_id=ids.new(), sku="CUP", quantity=2),
            Line(line_id=ids.new(), sku="POT", quantity=1),
        ),
    }
    return Fulfillment(**given | facts)


class Floor:
    """One location, as one connection sees it."""

    def __init__(self, db: Connection, now: datetime) -> None:
        self.db, self.now = db, now
        self.location_id = ids.new()

    async def work(self, *lines: Line, state: State = State.OPEN, **facts: Any) -> Fulfillment:
        """Work that was given to this location and stands where it should."""
        given = work(self.now, *lines, **{"location_id": self.location_id, **facts})
        await fulfillment.create_fulfillments(self.db, [given], now=self.now)
        await self.db.execute(PUT, given.id, state.value)
        return await self.read(given)

    async def read(self, given: Fulfillment) -> Fulfillment:
        return await fulfillment.read_fulfillment(self.db, fulfillment_id=given.id, location_id=None)

    async def listed(self, **wanted: Any) -> list[Fulfillment]:
        options = {"location_id": self.location_id, "reference": None, "state": None, "kind": None, "before_id": None}
        return await fulfillment.list_fulfillments(self.db, **{**options, "limit": 50, **wanted})
