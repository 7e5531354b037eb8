"""A process that is about to stop sheds its callers.

Each answer closes its connection, so that the next one is made to a process that stays.
"""

from pathlib import Path

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send


class Draining:
    """Adds ``Connection: close`` to every answer once the flag is there."""

    def __init__(self, app: ASGIApp, *, flag: Path) -> None:
        self._app = app
        self._flag = flag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def tell(message: Message) -> None:
            # Asked at the answer, not at the request: a long one may have begun before.
            if message["type"] == "http.response.start" and self._flag.exists():
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, tell if scope["type"] == ScopeType.HTTP else send)
