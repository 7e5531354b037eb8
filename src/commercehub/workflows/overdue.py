"""What has waited for longer than anything should: nothing is wrong in the books yet, and somebody has to look.

A hub that was stopped for a while, or a backup that was just restored, has some; they go when its jobs run.
"""

from typing import Final

from asyncpg import Connection

from commercehub.workflows.order_checks import Finding
from payments.unsettled import TRIES_MAX

FINDINGS_MAX: Final = 1_000

UNREAD = """
SELECT event.type || ' of ' || event.aggregate_id AS subject
FROM commercehub.event_cursors AS cursor
JOIN commercehub.events AS event ON (event.xid, event.id) > (cursor.xid, cursor.id)
WHERE event.occurred_at < now() - interval '1 hour'
ORDER BY event.xid, event.id
LIMIT $1
"""

BATCHES = """
SELECT 'batch ' || id AS subject FROM commercehub.event_batches
WHERE created_at < now() - interval '1 hour'
ORDER BY id
LIMIT $1
"""

WEBHOOKS = """
SELECT processor || ' ' || event_id AS subject FROM payments.inbox
WHERE applied_at IS NULL AND received_at < now() - interval '1 hour'
ORDER BY id
LIMIT $1
"""

ORDERS = """
SELECT 'order ' || number AS subject FROM commercehub.orders
WHERE state IN ('awaiting_payment', 'payment_unknown') AND created_at < now() - interval '1 hour'
ORDER BY id
LIMIT $1
"""

OPERATIONS = """
SELECT kind || ' ' || operation_id AS subject FROM payments.open_operations
WHERE begun_at < now() - interval '1 hour'
ORDER BY begun_at, operation_id
LIMIT $1
"""

# After so many tries nobody asks again but a person.
REFUSED = """
SELECT refused.kind || ' of payment ' || refused.intent_id AS subject
FROM (
    SELECT intent_id, kind, count(*) AS tries FROM payments.operations
    WHERE state IN ('declined', 'failed') AND kind IN ('capture', 'void')
    GROUP BY intent_id, kind
) AS refused
JOIN payments.intents AS intent ON intent.id = refused.intent_id
WHERE intent.state = 'authorized' AND refused.tries >= $2
  AND NOT EXISTS (SELECT FROM payments.open_operations AS operation WHERE operation.intent_id = intent.id)
ORDER BY refused.intent_id
LIMIT $1
"""

# A return that was settled by a refund which its processor refused is settled again by somebody.
NOT_GIVEN = """
SELECT 'refund ' || refund.id AS subject
FROM payments.refunds AS refund
JOIN payments.operations AS operation ON operation.intent_id = refund.intent_id AND operation.operation_id = refund.id
WHERE operation.state IN ('declined', 'failed')
  AND NOT EXISTS (
      SELECT FROM payments.refunds AS again
      WHERE again.reference = refund.reference AND again.created_at > refund.created_at
        AND again.cause IS NOT DISTINCT FROM refund.cause
  )
ORDER BY refund.id
LIMIT $1
"""

UNCOLLECTED = """
SELECT 'fulfillment ' || id AS subject FROM fulfillment.fulfillments
WHERE state = 'ready' AND collect_by < now() - interval '1 hour'
ORDER BY id
LIMIT $1
"""

UNTOLD = """
SELECT 'order ' || placed.number AS subject
FROM commercehub.orders AS placed
WHERE placed.created_at BETWEEN now() - interval '7 days' AND now() - interval '1 hour'
  AND placed.state IN ('placed', 'in_fulfillment', 'completed')
  AND placed.contact_id IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM commercehub.messages AS told WHERE told.order_id = placed.id AND told.kind = 'order_placed'
  )
ORDER BY placed.id
LIMIT $1
"""

_CHECKS: Final = (
    ("E2 an event is handed on within the hour", UNREAD),
    ("E2 a batch of events is worked off within the hour", BATCHES),
    ("E2 whoever can be reached is told of an order within the hour", UNTOLD),
    ("E4 a processor's event is applied within the hour", WEBHOOKS),
    ("O2 an order is paid, or given up, within the hour", ORDERS),
    ("O5 what nobody came for is given up", UNCOLLECTED),
    ("M3 an operation has an outcome within the hour", OPERATIONS),
    ("M4 a refund that was refused is tried again", NOT_GIVEN),
)
REFUSED_FOR_GOOD: Final = "M3 a capture or a void is not refused for good"


async def look(db: Connection) -> list[Finding]:
    """Everything that has waited too long, ``FINDINGS_MAX`` of each kind at most; empty is good."""
    late = [
        (invariant, row["subject"])
        for invariant, statement in _CHECKS
        for row in await db.fetch(statement, FINDINGS_MAX)
    ]
    late += [(REFUSED_FOR_GOOD, row["subject"]) for row in await db.fetch(REFUSED, FINDINGS_MAX, TRIES_MAX)]
    return [Finding(invariant=invariant, subject=subject, expected=0, found=1) for invariant, subject in late]
