"""How a handler becomes a route: it declares who may call it, what it reads and what it answers.

A route that declares no permission cannot be made, so none is open by mistake.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.enums import HttpMethod
from litestar.exceptions import ClientException, HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.handlers import route as litestar_route
from litestar.response import Stream
from litestar.types import HTTPScope

from commercehub import ids
from commercehub.api import bodies, middleware, origins
from commercehub.api.call import BODY_BYTES_MAX, Answer, Call
from commercehub.api.errors import MEDIA_TYPE, Problem, not_found, problem_for
from commercehub.api.limits import Limiter
from commercehub.api.middleware import Visit
from commercehub.auth import Permission, Principal
from commercehub.workflows.parts import Hub

Handler = Callable[..., Awaitable[object]]

EVENT_STREAM: Final = "text/event-stream"

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
PREFIXES: Final[Mapping[str, str]] = {
    "cart_id": "cart",
    "category_id": "cat",
    "customer_id": "cus",
    "device_id": "dev",
    "fulfillment_id": "ful",
    "gift_card_id": "gift",
    "item_id": "item",
    "key_id": "key",
    "line_id": "line",
    "list_id": "list",
    "location_id": "loc",
    "operation_id": "op",
    "order_id": "ord",
    "payment_id": "pay",
    "product_id": "prod",
    "register_id": "reg",
    "return_id": "ret",
    "staff_id": "staff",
    "variant_id": "var",
}
"""Which ids stand in which path parameters."""

_ODD: Final = re.compile(rb"//|%2f", re.IGNORECASE)

_DETAILS: Final = {
    "not_found": "There is nothing at this address.",
    "method_not_allowed": "See the header Allow.",
    "request_too_large": "The body has more bytes than this address takes.",
}

log = structlog.get_logger()


class _Versioned(msgspec.Struct):
    version: int | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the API, with all that its documentation needs."""

    method: str
    path: str
    handler: Handler
    permission: Permission
    status: int
    body: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    answer: Any
    codes: tuple[str, ...]
    needs_key: bool
    media_type: str
    body_bytes_max: int | None
    also: Mapping[int, str] = {}
    """Other successes, and what each means."""


def route(
    method: str,
    path: str,
    *,
    permission: Permission,
    answer: Any,
    status: int = 200,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
    codes: Sequence[str] = (),
    needs_key: bool = False,
    media_type: str = "application/json",
    body_bytes_max: int | None = None,
    also: Mapping[int, str] = {},
) -> Callable[[Handler], Route]:
    """Declare a handler's route. ``codes`` are the refusals of its own, beside those that any route may give."""

    def declare(handler: Handler) -> Route:
        return Route(
            method=method,
            path=path,
            handler=handler,
            permission=permission,
            status=status,
            body=body,
            query=query,
            answer=answer,
            codes=tuple(codes),
            needs_key=needs_key,
            media_type=media_type,
            body_bytes_max=body_bytes_max,
            also=also,
        )

    return declare


def mount(declared: Route, get_hub: Callable[[], Hub], limiter: Limiter, *, base_url: str) -> HTTPRouteHandler:
    """The route as Litestar takes it. ``get_hub``: routes are made before the hub's connections are."""
    if not isinstance(declared.permission, Permission):
        raise TypeError(f"{declared.method} {declared.path} declares no permission")
    names = _PARAMETER.findall(declared.path)
    path = _PARAMETER.sub(r"{\1:str}", declared.path)
    action = f"{declared.method} {declared.path}"

    async def handle(request: Request[Any, Any, Any]) -> Response[Any]:
        headers: dict[str, str] = {}
        hub = get_hub()
        limit = asyncio.timeout(hub.settings.request_seconds_max)
        request.scope["state"][bodies.LIMIT] = limit
        try:
            async with limit:
                _look_at_address(request.scope)
                principal = await _admit(declared, hub, limiter, request, headers)
                parameters = {name: _path_id(name, request.path_params[name]) for name in names}
                call = Call(hub, request, principal, action=action, permission=declared.permission)
                if declared.method == "POST" and principal is not None:
                    call.key()  # taken or not, none is ignored that is no key
                content = await declared.handler(call, **parameters)
        except Exception as error:  # noqa: BLE001 - every error becomes an answer here, the unforeseen one too
            is_late = isinstance(error, TimeoutError) and limit.expired()
            return _refuse(_given_up() if is_late else error, base_url, request, headers)
        return _respond(content, declared, headers)

    return litestar_route(
        path,
        http_method=_methods(declared),
        status_code=declared.status,
        request_max_body_size=declared.body_bytes_max or BODY_BYTES_MAX,
    )(handle)


def _methods(declared: Route) -> list[HttpMethod]:
    """What can be read can be asked after without being read; a stream has no end to wait for."""
    asked_after = [HttpMethod.HEAD] if declared.method == "GET" and declared.media_type != EVENT_STREAM else []
    return [HttpMethod(declared.method), *asked_after]


def mount_options(routes: Sequence[Route]) -> list[HTTPRouteHandler]:
    """What each address answers to OPTIONS. Litestar's own answer knows the first method of an address only."""
    by_path: dict[str, set[str]] = {}
    for declared in routes:
        path = _PARAMETER.sub(r"{\1:str}", declared.path)
        by_path.setdefault(path, {"OPTIONS"}).update(method.value for method in _methods(declared))
    return [_options(path, ", ".join(sorted(methods))) for path, methods in by_path.items()]


def _options(path: str, methods: str) -> HTTPRouteHandler:
    async def tell() -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": methods}, media_type="text/plain")

    return litestar_route(path, http_method=[HttpMethod.OPTIONS], status_code=204)(tell)


def _look_at_address(scope: HTTPScope) -> None:
    """Raise unless it is spelled as ours are: a guard on the way that knows one spelling must not be got around."""
    if _ODD.search(scope.get("raw_path") or b""):
        raise Problem("not_found", _DETAILS["not_found"])


def _given_up() -> Problem:
    return Problem(
        "busy",
        "It took longer than a request may. Whether it was done shows when it is read,"
        " or sent again with the same Idempotency-Key.",
    )


async def _admit(
    declared: Route, hub: Hub, limiter: Limiter, request: Request[Any, Any, Any], headers: dict[str, str]
) -> Principal | None:
    """Who calls, if the route may be called; fills in the headers that tell what is left to the caller."""
    authorization = request.headers.get("authorization", "")
    scheme, _, secret = authorization.partition(" ")
    principal = None
    if secret and scheme.lower() == "bearer" and declared.permission is not Permission.PUBLIC:
        principal = await hub.keyring.verify(secret.strip())
    address = request.client.host if request.client else ""
    if principal is None:
        caller = address
    else:
        # Every shopper sends the same publishable key: the address tells them apart.
        caller = f"{principal.subject_id}:{address}" if principal.is_publishable else str(principal.subject_id)
    origin = request.headers.get("origin")
    headers.update(origins.readable(principal, origin))
    allowance = limiter.take(caller)
    headers["RateLimit-Policy"] = limiter.policy
    headers["RateLimit"] = f'"default";r={allowance.remaining};t={allowance.reset_seconds}'
    if not allowance.granted:
        wait = {"Retry-After": str(allowance.reset_seconds)}
        raise Problem("rate_limited", "Slow down, and try again after the time in Retry-After.", headers=wait)
    if declared.permission is Permission.PUBLIC:
        return None
    if principal is None:
        raise Problem(
            "unauthenticated",
            "Send a key or a token that works as Authorization: Bearer <key>.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    origins.check(principal, origin)
    if not principal.may(declared.permission):
        raise Problem("forbidden", f"A credential of role {principal.role} may not do this.")
    # What one credential is answered is for no other: neither a browser nor a cache on the way may keep it.
    headers["Cache-Control"] = "no-store"
    request.scope["state"]["actor"] = principal.name
    return principal


def _path_id(name: str, text: str) -> UUID | str:
    prefix = PREFIXES.get(name)
    if prefix is None:
        return text
    try:
        return ids.parse(prefix, text)
    except ids.InvalidId as error:
        raise not_found() from error


def _respond(content: object, declared: Route, headers: dict[str, str]) -> Response[Any]:
    answer = content if isinstance(content, Answer) else Answer(content=content)
    if answer.stream is not None:
        return Stream(
            answer.stream,
            status_code=answer.status or declared.status,
            headers=headers | dict(answer.headers),
            media_type=declared.media_type,
        )
    body = answer.body if answer.body is not None else msgspec.json.encode(answer.content)
    status = answer.status or declared.status
    if status < 300:
        version = _version(answer)
        if version is not None:
            headers["ETag"] = f'"{version}"'
    return Response(
        body,
        status_code=status,
        headers=headers | dict(answer.headers),
        media_type=MEDIA_TYPE if status >= 400 else declared.media_type,
    )


def _version(answer: Answer) -> int | None:
    """The version of what is answered, in an answer from the store too."""
    if answer.body is None:
        version: int | None = getattr(answer.content, "version", None)
        return version
    return msgspec.json.decode(answer.body, type=_Versioned).version if answer.body.startswith(b"{") else None


def _refuse(
    error: Exception, base_url: str, request: Request[Any, Any, Any], headers: Mapping[str, str]
) -> Response[bytes]:
    problem = problem_for(error) or _litestar_problem(error) or _lock_problem(error)
    if problem is None:
        log.error("request.failed", request_id=request.scope["state"].get("request_id"), exc_info=error)
        problem = Problem("internal_error", "It is logged under the Request-Id of this answer.")
    return Response(
        problem.body(instance=quote(request.scope["path"], errors="replace"), base_url=base_url),
        status_code=problem.status,
        headers={**headers, **problem.headers},
        media_type=MEDIA_TYPE,
    )


def _lock_problem(error: Exception) -> Problem | None:
    """Waiting for a lock or for the database took too long: nothing was done, which the caller may rely on."""
    waited = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError, TimeoutError)
    if isinstance(error, waited):
        return Problem("busy", "It took too long. Nothing was done; try again.")
    return None


def _litestar_problem(error: Exception) -> Problem | None:
    if not isinstance(error, HTTPException):
        return None
    code = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 415: "unsupported_media_type"}.get(
        error.status_code
    )
    if code is None:
        code = "invalid_request" if isinstance(error, ClientException) else "internal_error"
    return Problem(code, _DETAILS.get(code, str(error.detail)), headers=dict(error.headers or {}))


def on_exception(base_url: str) -> Callable[[Request[Any, Any, Any], Exception], Response[bytes]]:
    """The handler of what is raised outside of our routes: no route, wrong method, a body too large."""

    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        state = request.scope["state"]
        if "request_id" in state:
            return _refuse(error, base_url, request, {})
        # Middleware of Litestar's begins at a route, and there is none here.
        visit = Visit(request.scope, is_https=base_url.lower().startswith("https://"))
        response = _refuse(error, base_url, request, visit.headers() | middleware.DATA)
        visit.end(response.status_code or 0)
        return response

    return handle
