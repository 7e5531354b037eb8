"""Errors as RFC 9457 problems: for every error there is, and nothing in them that the caller may not know."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.response.base import ASGIResponse

from commercehub.sandbox.books import KeyReused, NoSuchPayment, Refusal

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
REFUSALS: Final[Mapping[str, int]] = {
    "payment_declined": 402,
    "amount_too_large": 422,
    "invalid_state": 409,
    "too_many_operations": 409,
}
"""The status of each answer of the books that says no."""

# Not by the names in http.HTTPStatus, which change with Python: 413 and 422 got new ones in 3.13.
_CODES: Final[Mapping[int, str]] = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class Refused(Exception):
    """The request is not carried out, and nothing is stored about it."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


def refusal_answer(refusal: Refusal, *, instance: str, headers: Mapping[str, str]) -> ASGIResponse:
    """A no out of the books, the same at every replay."""
    status = REFUSALS[refusal.code]
    more = {"payment_id": refusal.payment_id, "decline_code": refusal.decline_code}
    body = _problem(status, refusal.code, refusal.detail, instance, more)
    return ASGIResponse(body=body, status_code=status, headers=dict(headers), media_type=MEDIA_TYPE)


def problem_of(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to any exception; an unforeseen one is logged."""
    headers: Mapping[str, str] = {}
    match error:
        case Refused():
            status, code, detail, headers = error.status, error.code, error.detail, error.headers
        case KeyReused():
            status, code, detail = 422, "idempotency_key_reused", "this key was used to ask for something else"
        case NoSuchPayment():
            status, code, detail = 404, "no_such_payment", "this account has no such payment"
        case HTTPException() if error.status_code < 500:
            status, headers = error.status_code, error.headers or {}
            code, detail = _CODES.get(status, "invalid_request"), HTTPStatus(status).phrase
        case _:
            log.error("a request failed", exc_info=error)
            status, code, detail = 500, "internal_error", "this is a bug in the sandbox"
    body = _problem(status, code, detail, request.url.path)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def _problem(status: int, code: str, detail: str, instance: str, more: Mapping[str, str | None] | None = None) -> bytes:
    problem = {
        "type": f"urn:sandbox:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        **(more or {}),
    }
    return msgspec.json.encode(problem)
