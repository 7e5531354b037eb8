"""Who changed what: a row with every change by staff, in the transaction of the change."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub.events import Actor


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change. ``subject`` is an id as it is shown; ``changes`` holds no secret and nothing personal."""

    id: int
    at: datetime
    actor: str
    channel: str
    location_id: UUID | None
    action: str
    subject: str
    reason: str | None
    changes: dict[str, Any]


WRITE = """
INSERT INTO commercehub.audit (actor, channel, location_id, action, subject, reason, changes, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

LIST = """
SELECT id, at, actor, channel, location_id, action, subject, reason, changes
FROM commercehub.audit
WHERE ($1::text IS NULL OR subject = $1) AND ($2::text IS NULL OR actor = $2) AND ($3::bigint IS NULL OR id < $3)
  AND ($4::uuid IS NULL OR location_id = $4)
ORDER BY id DESC
LIMIT $5
"""


async def write_audit(
    db: Connection,
    *,
    actor: Actor,
    action: str,
    subject: str,
    now: datetime,
    reason: str | None = None,
    changes: Mapping[str, object] | None = None,
) -> None:
    """Write down who did what to whom: ``action`` is the verb, as in ``staff.ended``."""
    body = msgspec.json.encode(changes or {}).decode()
    await db.execute(WRITE, actor.name, actor.channel, actor.location_id, action, subject, reason, body, now)


async def list_audit(
    db: Connection,
    *,
    subject: str | None,
    actor: str | None,
    location_id: UUID | None,
    before_id: int | None,
    limit: int,
) -> Sequence[AuditEntry]:
    """Changes, newest first; those made at a location, or all."""
    rows = await db.fetch(LIST, subject, actor, before_id, location_id, limit)
    return [msgspec.convert(dict(row) | {"changes": msgspec.json.decode(row["changes"])}, AuditEntry) for row in rows]
