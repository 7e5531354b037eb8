"""The audit log: who changed what, newest first."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from commercehub import auth, ids
from commercehub.api.call import Call
from commercehub.api.fields import Page, Paging, read_cursor, write_cursor
from commercehub.api.routing import route
from commercehub.auth import Permission

Word = Annotated[str, Meta(min_length=1, max_length=100)]


class AuditSearch(Paging, frozen=True, kw_only=True):
    """What to look for: what was changed, or who changed it."""

    subject: Word | None = None
    actor: Word | None = None


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """One change."""

    at: datetime
    actor: str
    channel: str
    location_id: str | None
    action: str
    subject: str
    reason: str | None
    changes: dict[str, Any]


@route(
    "GET",
    "/v1/audit",
    permission=Permission.AUDIT_READ,
    query=AuditSearch,
    answer=Page[AuditView],
    codes=("invalid_cursor",),
)
async def list_audit(call: Call) -> Page[AuditView]:
    """Changes by staff and by administrators; for a manager, those made at the manager's own place."""
    wanted = call.query(AuditSearch)
    async with call.database.connection() as db:
        found = await auth.list_audit(
            db,
            subject=wanted.subject,
            actor=wanted.actor,
            location_id=call.principal.location_id,
            before_id=read_cursor(wanted.cursor, int),
            limit=wanted.limit + 1,
        )
    page = found[: wanted.limit]
    return Page(
        data=[
            AuditView(
                at=each.at,
                actor=each.actor,
                channel=each.channel,
                location_id=ids.show("loc", each.location_id) if each.location_id else None,
                action=each.action,
                subject=each.subject,
                reason=each.reason,
                changes=each.changes,
            )
            for each in page
        ],
        next_cursor=write_cursor(page[-1].id) if len(found) > wanted.limit else None,
    )


ROUTES = (list_audit,)
