"""The page that Prometheus reads. It exists where ``HUB_METRICS_TOKEN`` is set, and opens for that token alone.

A token and not a key: whoever watches the hub needs to see it when its database is gone too.
"""

import asyncio
import hmac
from typing import Final

from commercehub import metrics
from commercehub.api.call import Answer, Call
from commercehub.api.errors import Problem
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.database import DatabaseUnavailable
from commercehub.views import vital_signs

READ_SECONDS_MAX: Final = 3.0


@route("GET", "/metrics", permission=Permission.PUBLIC, answer=str, codes=("unauthenticated",))
async def show_metrics(call: Call) -> Answer:
    """What all processes of this hub have counted, and how its database is."""
    _, _, given = call.request.headers.get("authorization", "").partition(" ")
    if not hmac.compare_digest(given.strip().encode(), (call.hub.settings.metrics_token or "").encode()):
        headers = {"WWW-Authenticate": "Bearer"}
        raise Problem("unauthenticated", "Send HUB_METRICS_TOKEN as Authorization: Bearer <token>.", headers=headers)
    try:
        signs = await asyncio.wait_for(_read(call), READ_SECONDS_MAX)
    except (DatabaseUnavailable, TimeoutError):
        signs = list(vital_signs.DOWN)
    headers = {"Content-Type": metrics.CONTENT_TYPE, "Cache-Control": "no-store"}
    return Answer(body=metrics.render(signs), headers=headers)


async def _read(call: Call) -> list[metrics.Sign]:
    async with call.database.connection() as db:
        return await vital_signs.read_signs(db)


ROUTES = (show_metrics,)
