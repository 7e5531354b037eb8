"""Around every request: an id to follow it by, and one line in the access log."""

import re
import time
from typing import Any, Final

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from commercehub import ids

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

log = structlog.get_logger("access")


class Trace:
    """Gives each request its ``Request-Id``, the caller's own if it is a plain one, and logs it when it is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        given = _header(scope, b"request-id")
        request_id = given if _SAFE_ID.fullmatch(given) else ids.show("req", ids.new())
        traceparent = _header(scope, b"traceparent")
        state: dict[str, Any] = scope.setdefault("state", {})  # type: ignore[typeddict-item]
        state["request_id"] = request_id
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (b"request-id", request_id.encode())]
                if traceparent:
                    headers.append((b"traceparent", traceparent.encode("latin-1")))
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, tell)
        finally:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.perf_counter() - begun) * 1000, 1),
                actor=state.get("actor"),
                request_id=request_id,
                traceparent=traceparent or None,
            )


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
