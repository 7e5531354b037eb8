"""Whether the hub lives, and whether it can work."""

import asyncio

import msgspec

from commercehub.api.call import Call
from commercehub.api.errors import Problem
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.database import DatabaseUnavailable

READY_SECONDS_MAX = 2.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How it is."""

    status: str


@route("GET", "/health/live", permission=Permission.PUBLIC, answer=Health)
async def live(call: Call) -> Health:  # noqa: ARG001
    """The process answers."""
    return Health(status="ok")


@route("GET", "/health/ready", permission=Permission.PUBLIC, answer=Health, codes=("busy",))
async def ready(call: Call) -> Health:
    """The process answers, so does its database, and it is not about to stop."""
    flag = call.hub.settings.drain_flag
    if flag is not None and flag.exists():
        raise Problem("busy", "This process is about to stop; it still answers what it is asked.")
    try:
        await asyncio.wait_for(call.database.now(), READY_SECONDS_MAX)
    except (DatabaseUnavailable, TimeoutError) as error:
        raise Problem("busy", "The database does not answer.") from error
    return Health(status="ok")


ROUTES = (live, ready)
