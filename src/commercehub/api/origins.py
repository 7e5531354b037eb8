"""Browsers: from which pages a publishable key may be used, and what the browser is told (the Fetch standard's CORS).

A secret key has no place in a page, so no page may read an answer to one.
"""

from collections.abc import Mapping
from typing import Final

from commercehub.api.errors import Problem
from commercehub.auth import Principal

PREFLIGHT_SECONDS: Final = "600"

# Before the request itself the browser names no key: what it is told here holds for all, and lets nothing be read.
PREFLIGHT: Final[Mapping[str, str]] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, Request-Id, X-Cart-Token, traceparent"
    ),
    "Access-Control-Max-Age": PREFLIGHT_SECONDS,
}
_EXPOSED: Final = "ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy, Request-Id, Retry-After"


def readable(principal: Principal | None, origin: str | None) -> Mapping[str, str]:
    """The headers with which the page that calls may read the answer; none where it may not.

    What nobody is answered, that they are nobody or too fast, any page may read: how else would it know to sign in again.
    """
    if origin is None:
        return {}
    if principal is None:
        return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": _EXPOSED}
    if not principal.is_public or not _is_allowed(principal, origin):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}


def check(principal: Principal, origin: str | None) -> None:
    """Raise ``Problem`` if the credential is not for the page that calls."""
    if origin is not None and principal.is_public and not _is_allowed(principal, origin):
        raise Problem("forbidden", "This key may not be used from this origin.")


def _is_allowed(principal: Principal, origin: str) -> bool:
    return not principal.allowed_origins or origin in principal.allowed_origins
