"""When goods reached the customer."""

from datetime import datetime
from uuid import UUID

from asyncpg import Connection

# A fulfillment does not change any more once its goods are there.
READ_ARRIVALS = """
SELECT line.line_id, max(work.changed_at) AS at
FROM fulfillment.fulfillments AS work
JOIN fulfillment.lines AS line ON line.fulfillment_id = work.id
WHERE work.reference = $1 AND work.state IN ('delivered', 'handed_over')
GROUP BY line.line_id
"""


async def read_arrivals(db: Connection, *, reference: UUID) -> dict[UUID, datetime]:
    """When the last units of each line were delivered or handed over; lines on their way are not there."""
    return {row["line_id"]: row["at"] for row in await db.fetch(READ_ARRIVALS, reference)}
