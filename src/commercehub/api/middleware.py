"""Around every request: an id to follow it by, and one line in the access log."""

import re
import time
from collections.abc import Iterable
from typing import Final

import structlog
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from commercehub import ids, metrics
from commercehub.api import card_numbers, origins

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[ -~]{0,200})?"
)

HSTS: Final = "max-age=31536000"
# A page of ours takes what it needs from us, and runs nothing that stands in it; pictures of codes are written out.
_PAGE: Final = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# What is no page is to be shown by none: whatever is in it is text.
_DATA: Final = "default-src 'none'; frame-ancestors 'none'"
DATA: Final = {"Content-Security-Policy": _DATA}
PAGE_POLICY: Final = (b"content-security-policy", _PAGE.encode())
DATA_POLICY: Final = (b"content-security-policy", _DATA.encode())

log = structlog.get_logger("access")


class Visit:
    """One request from its first byte to its answer. Everything logged meanwhile carries its ``request_id``."""

    def __init__(self, scope: HTTPScope, *, is_https: bool = False) -> None:
        self._scope = scope
        self._is_https = is_https
        self._begun = time.perf_counter()
        self._answered: float | None = None
        metrics.begin_request()
        given = _header(scope, b"request-id")
        traceparent = _header(scope, b"traceparent")
        self.request_id = given if _SAFE_ID.fullmatch(given) else ids.show("req", ids.new())
        self.traceparent = traceparent if _TRACEPARENT.fullmatch(traceparent) else None
        scope["state"]["request_id"] = self.request_id

    def headers(self) -> dict[str, str]:
        """What every answer says: the caller's own id if it is a plain one, its trace, and that it is what it says."""
        headers = {"Request-Id": self.request_id, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        if self._is_https:
            headers["Strict-Transport-Security"] = HSTS
        if self.traceparent is not None:
            headers["traceparent"] = self.traceparent
        return headers

    def answer(self) -> None:
        """The first byte of the answer goes out."""
        self._answered = time.perf_counter()

    def end(self, status: int) -> None:
        """Count it, and log it. The path alone: a query may hold an e-mail address."""
        metrics.end_request(
            method=self._scope["method"],
            route=(self._scope.get("path_template") or metrics.UNMATCHED).replace(":str}", "}"),
            status=status,
            seconds=(self._answered or time.perf_counter()) - self._begun,
        )
        log.info(
            "request",
            method=self._scope["method"],
            path=card_numbers.mask(self._scope["path"]),
            status=status,
            ms=round((time.perf_counter() - self._begun) * 1000, 1),
            actor=self._scope["state"].get("actor"),
            request_id=self.request_id,
            traceparent=self.traceparent,
        )


class Trace:
    """Makes a ``Visit`` of each request to a route."""

    def __init__(self, app: ASGIApp, *, is_https: bool = False) -> None:
        self._app = app
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        visit = Visit(scope, is_https=self._is_https)
        added = visit.headers()
        if scope["method"] == HttpMethod.OPTIONS and _header(scope, b"access-control-request-method"):
            added |= origins.PREFLIGHT
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in added.items()]
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                visit.answer()
                given = list(message.get("headers", []))
                message["headers"] = [*given, *headers, PAGE_POLICY if _is_page(given) else DATA_POLICY]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=visit.request_id):
            try:
                await self._app(scope, receive, tell)
            finally:
                visit.end(status)


def _is_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)


def _header(scope: HTTPScope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
