"""Where processors tell what happened. The signature over the raw body is the credential, and there is no other."""

from datetime import datetime
from typing import Final

import msgspec
from asyncpg import Connection

from commercehub.api.call import Call
from commercehub.api.errors import Problem, not_found
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.workflows import webhooks
from payments.processors import BadSignature

WEBHOOK_BYTES_MAX: Final = 262_144


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """The events are kept. ``new``: how many of them were not known."""

    new: int


@route(
    "POST",
    "/v1/webhooks/{processor}",
    permission=Permission.PUBLIC,
    answer=Received,
    codes=("bad_signature", "busy", "not_found", "request_too_large"),
    body_bytes_max=WEBHOOK_BYTES_MAX,
)
async def take_in(call: Call, processor: str) -> Received:
    """Keep what a processor tells, each event once by its own id; it is looked into afterwards and never believed."""
    found = call.hub.processors.get(processor)
    if found is None:
        raise not_found()
    name, raw = found.name, await call.request.body()
    try:
        facts = found.parse_webhook(raw, call.request.headers)
    except BadSignature as error:
        raise Problem("bad_signature", "The body is not signed with a secret that we share.") from error

    async def work(db: Connection, now: datetime) -> int:
        return await webhooks.take_in(db, facts, processor_name=name, now=now)

    return Received(new=await call.database.transaction(work))


ROUTES = (take_in,)
