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
        "Authorization, Content-Type, Idempotency-Key, If-Match, Request-Id, X-Cart-Token, traceparent"
    ),
    "Access-Control-Max-Age": PREFLIGHT_SECONDS,
}
_EXPOSED: Final = "ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy, Request-Id, Retry-After"


def admit(principal: Principal, origin: str | None) -> Mapping[str, str]:
    """The headers with which the page that calls may read the answer; ``Problem`` if the key is not for that page."""
    if origin is None or not principal.is_public:
        return {}
    if principal.allowed_origins and origin not in principal.allowed_origins:
        raise Problem("forbidden", "This key may not be used from this origin.")
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}
