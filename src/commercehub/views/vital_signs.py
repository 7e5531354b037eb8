"""How the hub is, in numbers that stand in the database: what waits, what is late, and what must never be."""

from typing import Final

from asyncpg import Connection

from commercehub.metrics import Sign

# The oldest event that the relay has not handed on; one that a transaction still open may precede waits for its end.
READ_EVENTS = """
SELECT coalesce(extract(epoch FROM greatest(now() - waiting.occurred_at, interval '0')), 0)::float8 AS lag_seconds
FROM commercehub.event_cursors AS cursor
LEFT JOIN LATERAL (
    SELECT occurred_at FROM commercehub.events
    WHERE (events.xid, events.id) > (cursor.xid, cursor.id)
    ORDER BY events.xid, events.id
    LIMIT 1
) AS waiting ON true
WHERE cursor.reader = 'relay'
"""

READ_BATCHES = """
SELECT count(*) AS open, count(*) FILTER (WHERE try_after < now() - interval '1 minute') AS late
FROM commercehub.event_batches
"""

# A payer may take a quarter of an hour to act: that is no payment that we should know of by now.
READ_PAYMENTS = """
SELECT count(*) AS open,
       count(*) FILTER (WHERE intent.state = 'unknown') AS unknown,
       count(*) FILTER (
           WHERE operation.begun_at < now() - interval '1 minute' AND operation.action_url IS NULL
       ) AS late
FROM payments.open_operations AS operation
JOIN payments.intents AS intent ON intent.id = operation.intent_id
"""

READ_WEBHOOKS = """
SELECT count(*) AS waiting, count(*) FILTER (WHERE attempts >= 3) AS failing
FROM payments.inbox
WHERE applied_at IS NULL
"""

# A CHECK stands behind it: anything but nought is a table that somebody took the CHECK from.
READ_OVERSOLD = """
SELECT count(*) FROM inventory.positions WHERE on_hand - reserved < -(backorder_limit + shortfall)
"""

# Of all processes of all hubs on this database.
READ_CONNECTIONS = """
SELECT CASE WHEN wait_event_type = 'Lock' THEN 'waiting' WHEN state LIKE 'idle in%' THEN 'in transaction'
            ELSE coalesce(state, 'unknown') END AS state,
       count(*) AS count
FROM pg_stat_activity
WHERE application_name = 'commercehub' AND datname = current_database()
GROUP BY 1
"""

IS_DURABLE = """
SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'
   AND current_setting('synchronous_commit') <> 'off'
"""

DOWN: Final = (Sign(name="hub_database_up", told="Whether the database answers."),)


async def read_signs(db: Connection) -> list[Sign]:
    """Every sign, in one look at each room."""
    events = await db.fetchrow(READ_EVENTS)
    batches = await db.fetchrow(READ_BATCHES)
    payments = await db.fetchrow(READ_PAYMENTS)
    webhooks = await db.fetchrow(READ_WEBHOOKS)
    connections = {"active": 0, "idle": 0, "in transaction": 0, "waiting": 0}
    connections |= {row["state"]: row["count"] for row in await db.fetch(READ_CONNECTIONS)}
    return [
        Sign(name="hub_database_up", told="Whether the database answers.", value=1),
        Sign(
            name="hub_database_durable",
            told="Whether the database keeps what it has acknowledged through a power cut.",
            value=await db.fetchval(IS_DURABLE),
        ),
        Sign(
            name="hub_database_connections",
            told="Connections to the database; waiting: for a lock.",
            label="state",
            parts=connections,
        ),
        Sign(
            name="hub_event_lag_seconds",
            told="Age of the oldest event that the relay has not handed on.",
            value=events["lag_seconds"] if events else 0,
        ),
        Sign(
            name="hub_event_batches",
            told="Batches of events whose jobs are not done; late: for a minute longer than they should take.",
            label="state",
            parts={"open": batches["open"] if batches else 0, "late": batches["late"] if batches else 0},
        ),
        Sign(
            name="hub_payment_operations",
            told="Operations at processors without an outcome; late: for over a minute, and not for the payer's sake.",
            label="state",
            parts={"open": payments["open"] if payments else 0, "late": payments["late"] if payments else 0},
        ),
        Sign(
            name="hub_payments_unknown",
            told="Payments of which the hub does not know whether money was taken.",
            value=payments["unknown"] if payments else 0,
        ),
        Sign(
            name="hub_webhooks",
            told="Events of processors that are not applied yet; failing: tried three times and more.",
            label="state",
            parts={
                "waiting": webhooks["waiting"] if webhooks else 0,
                "failing": webhooks["failing"] if webhooks else 0,
            },
        ),
        Sign(
            name="hub_oversold_positions",
            told="Stock positions that promise more than they may. Always 0.",
            value=await db.fetchval(READ_OVERSOLD),
        ),
    ]
