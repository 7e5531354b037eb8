"""What comes in with a request: in time, or the caller hears so; and what nobody read is out of the next one's way.

A server that answers before it has read the body, and closes, takes its answer with it: most clients send everything
before they read. So a short rest is read and forgotten before the answer, and a long one after it, within limits.
"""

import asyncio
import re
from typing import Final, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from commercehub.api.errors import Problem

IDLE_SECONDS_MAX = 10.0
"""How long the next bytes of a body may take."""
BODY_SECONDS_MAX = 30.0
"""How long a body may take whatever it holds; a long one has more time, at ``BYTES_PER_SECOND_MIN``."""
BYTES_PER_SECOND_MIN: Final = 16_384
FORGOTTEN_BYTES_MAX: Final = 1_048_576
FORGOTTEN_SECONDS_MAX = 1.0
LINGER_BYTES_MAX: Final = 64 * 1_048_576
LINGER_SECONDS_MAX = 5.0

LIMIT: Final = "limit"
"""Where in a request's state the time limit of its work is, if work has begun."""

_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class Bodies:
    """Watches over the body of each request that has one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        length = _length(scope)
        if length == 0:
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, send, length)
        await self._app(scope, body.receive, body.send)
        if body.is_left_behind:
            await body.read_away(LINGER_BYTES_MAX, LINGER_SECONDS_MAX)


class _Body:
    """One body. ``length`` is ``None`` where nobody says how long it is."""

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send, length: int | None) -> None:
        self._scope, self._receive, self._send, self._length = scope, receive, send, length
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._read = 0
        self._is_over = False
        self._is_given_up = False
        self.is_left_behind = False
        """Answered, and there is more of it to come, which nobody wants."""

    async def receive(self) -> HTTPReceiveMessage:
        """The next part of it. ``Problem`` if it does not come in time, or not whole."""
        if self._is_over:
            return cast("HTTPReceiveMessage", await self._receive())
        left = self._begun + BODY_SECONDS_MAX + self._read / BYTES_PER_SECOND_MIN - self._loop.time()
        limit: asyncio.Timeout | None = self._scope["state"].get(LIMIT)
        # The work's own time stands still meanwhile: a slow line is no slow hub.
        until = limit.when() if limit is not None else None
        asked_at = self._loop.time()
        if limit is not None:
            limit.reschedule(None)
        try:
            async with asyncio.timeout(max(0.0, min(IDLE_SECONDS_MAX, left))):
                message = await self._next()
        except TimeoutError as error:
            self._is_given_up = True
            raise Problem("request_timeout", "The body came too slowly, or the rest of it did not come.") from error
        finally:
            if limit is not None and until is not None:
                limit.reschedule(until + self._loop.time() - asked_at)
        if message["type"] == "http.disconnect":
            self._is_given_up = True
            raise Problem("invalid_request", "The body ended before it was whole, or its chunks are none.")
        return message

    async def send(self, message: Message) -> None:
        """Answer. First what is left of the body is read, or the caller is told that the connection ends here."""
        if message["type"] == "http.response.start" and not await self._is_out_of_the_way():
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await self._send(message)

    async def _is_out_of_the_way(self) -> bool:
        """Whether the next request on the connection can be read, once a short rest of this one has been."""
        # Who asks first whether to send the body has not sent it, and whoever gave up on it does not wait for it.
        if not self._is_given_up and not (self._read == 0 and _asks_first(self._scope)):
            if self._length is None or self._length - self._read <= FORGOTTEN_BYTES_MAX:
                await self.read_away(FORGOTTEN_BYTES_MAX, FORGOTTEN_SECONDS_MAX)
            self.is_left_behind = not self._is_over
        return self._is_over and not self._is_given_up

    async def read_away(self, bytes_max: int, seconds_max: float) -> None:
        """Read what is left, or as much of it, and forget it."""
        until = self._read + bytes_max
        try:
            async with asyncio.timeout(seconds_max):
                while not self._is_over and self._read < until:
                    await self._next()
        except TimeoutError:
            return

    async def _next(self) -> HTTPReceiveMessage:
        message = cast("HTTPReceiveMessage", await self._receive())
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self._is_over = not message.get("more_body", False)
        else:
            self._is_over = True
        return message


def _asks_first(scope: HTTPScope) -> bool:
    return any(name == b"expect" for name, _ in scope["headers"])


def _length(scope: HTTPScope) -> int | None:
    """How many bytes come; ``None`` if that is not said, 0 if there is no body."""
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value) if _LENGTH.fullmatch(value) else None
    return length
