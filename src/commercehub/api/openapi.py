"""The OpenAPI 3.1 document, made from what the routes declare: the same bytes at every start."""

import inspect
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import msgspec

from commercehub.api.call import KEY_CHARACTERS_MAX, Answer, Call
from commercehub.api.errors import CODES, RETRY_AFTER_SECONDS, FieldError
from commercehub.api.examples import BODIES, Samples, show_id
from commercehub.api.fields import END
from commercehub.api.routing import EVENT_STREAM, PREFIXES, Route, route
from commercehub.auth import MAY, STAFF_ROLES, Permission, Role

REF: Final = "#/components/schemas/{name}"
TAGS: Final[Mapping[str, str]] = {
    "api-keys": "Credentials of shops, tills and services.",
    "audit": "What staff and administrators changed.",
    "availability": "What can be had where, now and as it changes.",
    "carts": "One cart, carried across channels, and its checkout.",
    "categories": "The tree that products stand in.",
    "customers": "Who buys: sign-up, sign-in, what is theirs.",
    "demo": "Of demos only.",
    "devices": "Tills and scanners, paired once.",
    "fulfillments": "The floor: pick, pack, ship, hand over.",
    "gift-cards": "Gift cards, issued and looked up.",
    "hub": "The hub itself.",
    "imports": "Catalogs by the file.",
    "locations": "Stores and warehouses.",
    "operations": "What takes longer than an answer.",
    "orders": "One order book for every channel.",
    "payments": "What was paid, captured, voided and refunded.",
    "products": "The catalog.",
    "registers": "Drawers of cash, and their sessions.",
    "returns": "What comes back, in any channel.",
    "staff": "Who works here.",
    "stock": "Receipts, adjustments and the ledger of stock.",
    "variants": "What is sold, by SKU or barcode.",
    "webhooks": "Where processors tell what happened.",
    "wishlists": "What somebody wants later.",
}
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_KEY_ROLES: Final = (Role.STOREFRONT, Role.TILL, Role.SERVICE, Role.FULFILLMENT, Role.ADMIN)
_DEVICE_ROLES: Final = (Role.TILL, Role.FULFILLMENT)
_SCHEMES: Final[Mapping[str, tuple[str, frozenset[Role]]]] = {
    "key": ("A key of the shop: publishable in browsers and apps, secret on servers.", frozenset(_KEY_ROLES)),
    "customer": ("`access_token` of a customer's sign-in.", frozenset({Role.CUSTOMER})),
    "staff": ("`access_token` of a shift.", STAFF_ROLES),
    "device": ("`access_token` of a paired till or scanner.", frozenset(_DEVICE_ROLES)),
    "order": (
        "`access_token` of an order that was looked up; it opens that order for an hour.",
        frozenset({Role.GUEST}),
    ),
}
_BY_CART_TOKEN: Final = frozenset(
    {
        Permission.CARTS,
        Permission.CARTS_CLAIM,
        Permission.ORDERS_READ,
        Permission.ORDERS_PAY,
        Permission.RETURNS,
    }
)
_KEY_PATTERN: Final = r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"
_RAW: Final[Mapping[str, str]] = {"/v1/imports/products": "text/csv"}
"""What a body is that is taken as it comes; elsewhere it is what its sender makes it."""
_PAGES: Final = frozenset({"/demo/mailbox"})
"""What is a page too, for people."""
_HEADERS: Final[Mapping[str, tuple[str, Mapping[str, object]]]] = {
    "ETag": ("The version, for `If-Match`.", {"type": "string"}),
    "Idempotent-Replayed": ("`true` if it is the answer to an earlier request with the same key.", {"type": "string"}),
    "RateLimit": ("What is left to the caller, and when more is.", {"type": "string"}),
    "RateLimit-Policy": ("How much a caller may ask.", {"type": "string"}),
    "Request-Id": ("What the hub logs this request under.", {"type": "string"}),
    "Retry-After": ("Seconds to wait before the next try.", {"type": "integer", "minimum": RETRY_AFTER_SECONDS}),
}


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal (RFC 9457). ``code`` is what programs go by; some codes add members of their own.

    ``type`` is the address of a page that says what the code means and what can be done.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldError] = []


def document_route(routes: Sequence[Route]) -> Route:
    """The route at which the document is read."""
    document = cache(lambda: msgspec.json.encode(build(routes), order="sorted"))

    @route("GET", "/openapi.json", permission=Permission.PUBLIC, answer=dict)
    async def get_document(_: Call) -> Answer:
        """This document."""
        return Answer(body=document())

    return get_document


def operation_id(declared: Route) -> str:
    """The name of an operation: no two handlers of a file have the same."""
    return f"{declared.handler.__module__.rpartition('.')[2]}_{declared.handler.__name__}"


def tag(declared: Route) -> str:
    """The chapter that an operation stands in."""
    return declared.path.split("/")[2] if declared.path.startswith("/v1/") else "hub"


def build(routes: Sequence[Route]) -> dict[str, Any]:
    """The document of some routes."""
    types: list[Any] = [ProblemDocument]
    for declared in routes:
        types += [kind for kind in (declared.body, declared.answer) if kind not in {None, dict}]
        types += [kind for kind, _ in _query_fields(declared.query)]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, object]] = {}
    for declared in routes:
        paths.setdefault(declared.path, {})[declared.method.lower()] = _operation(declared, schema_of)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "commercehub",
            "version": version("commercehub"),
            "description": "One cart, one stock, one order book and one payments layer for every channel.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": TAGS.get(name, "")} for name in sorted({tag(each) for each in routes})],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": _security_schemes(),
            "headers": {name: {"description": told, "schema": dict(kind)} for name, (told, kind) in _HEADERS.items()},
            "examples": {code: {"value": _refusal(code)} for code in CODES},
        },
    }
    moments = {place for kind in types for place in _moments(kind)}
    plain: dict[str, Any] = _plain(document, {name: _plain_name(name) for name in components}, moments)
    _add_examples(plain)
    return plain


def _plain(part: Any, names: Mapping[str, str], moments: frozenset[tuple[str, str]] | set[tuple[str, str]]) -> Any:
    """The document as a stranger reads it: without our file names, in ECMA's dialect of patterns, times as such."""
    match part:
        case dict():
            made = {names.get(key, key): _plain(each, names, moments) for key, each in part.items()}
            # A ``$`` of JSON Schema stands at the very end already.
            if isinstance(made.get("pattern"), str):
                made["pattern"] = made["pattern"].replace(END, "$")
            if isinstance(made.get("description"), str):
                made["description"] = inspect.cleandoc(made["description"]).replace("``", "`")
            if isinstance(made.get("$ref"), str):
                head, _, name = made["$ref"].rpartition("/")
                made["$ref"] = f"{head}/{names.get(name, name)}"
            for name, each in made["properties"].items() if isinstance(made.get("properties"), dict) else ():
                if (made.get("title"), name) in moments:
                    _say_moment(each)
            return made
        case list() | tuple():
            return [_plain(each, names, moments) for each in part]
    return part


def _say_moment(schema: dict[str, Any]) -> None:
    for each in schema.get("anyOf", [schema]):
        if each.get("type") == "string":
            each["format"] = "date-time"


def _moments(kind: Any) -> Iterator[tuple[str, str]]:
    """Which fields are moments, by the names of their part and their own: ``msgspec`` says so of aware ones only."""
    for part in _parts(kind, set()):
        for field in msgspec.structs.fields(part):
            if datetime in {field.type, *typing.get_args(field.type)}:
                yield part.__name__, field.encode_name


def _parts(kind: Any, seen: set[int]) -> Iterator[Any]:
    """Every struct that a type is made of."""
    if id(kind) in seen:
        return
    seen.add(id(kind))
    origin = typing.get_origin(kind)
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    if is_struct or (isinstance(origin, type) and issubclass(origin, msgspec.Struct)):
        yield origin or kind
        for field in msgspec.structs.fields(kind):
            yield from _parts(field.type, seen)
    for each in typing.get_args(kind):
        yield from _parts(each, seen)


def _plain_name(name: str) -> str:
    """``msgspec`` tells parts of the same name apart by where they stand."""
    *_, module, last = name.split(".") if "." in name else ("", "", name)
    return "".join(word.capitalize() for word in module.split("_")) + last


def _refusal(code: str) -> dict[str, object]:
    status, title = CODES[code]
    return {
        "type": f"https://hub.example.com/problems/{code}",
        "title": title,
        "status": status,
        "detail": f"{title}.",
        "instance": "/v1/…",
        "code": code,
    }


def _add_examples(document: Mapping[str, Any]) -> None:
    """To each body one that is sent, and to each answer one that may come."""
    samples = Samples(document["components"]["schemas"])
    for operation in (each for path in document["paths"].values() for each in path.values()):
        answers = [each["content"] for status, each in operation["responses"].items() if status < "300"]
        for content in (operation.get("requestBody", {}).get("content", {}), *answers):
            of_json = content.get("application/json", {"schema": {}})
            if operation["operationId"] in BODIES and content not in answers:
                of_json["example"] = BODIES[operation["operationId"]]
            elif "$ref" in of_json["schema"]:
                of_json["example"] = samples.make(of_json["schema"])


def _security_schemes() -> dict[str, dict[str, str]]:
    bearers = {name: {"type": "http", "scheme": "bearer", "description": told} for name, (told, _) in _SCHEMES.items()}
    told = "What opens a guest's cart, or the order that it became, for a publishable key."
    return bearers | {"cart": {"type": "apiKey", "in": "header", "name": "X-Cart-Token", "description": told}}


def _security(permission: Permission) -> list[dict[str, list[str]]]:
    roles = {role for role, allowed in MAY.items() if permission in allowed}
    bearers: list[dict[str, list[str]]] = [{name: []} for name, (_, its) in _SCHEMES.items() if its & roles]
    guests: list[dict[str, list[str]]] = (
        [{"key": [], "cart": []}] if permission in _BY_CART_TOKEN and Role.STOREFRONT in roles else []
    )
    return [*bearers, *guests]


def _operation(declared: Route, schema_of: dict[int, Any]) -> dict[str, object]:
    summary, _, rest = (declared.handler.__doc__ or "").strip().partition("\n")
    operation: dict[str, object] = {
        "operationId": operation_id(declared),
        "summary": summary,
        "parameters": [*_path_parameters(declared), *_query_parameters(declared, schema_of), *_headers(declared)],
        "responses": _responses(declared, schema_of),
        "tags": [tag(declared)],
    }
    if rest.strip():
        operation["description"] = rest.strip()
    if declared.permission is not Permission.PUBLIC:
        operation["security"] = _security(declared.permission)
        operation["x-permission"] = declared.permission.value
    if declared.body is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(declared.body)),
            "content": {"application/json": {"schema": schema_of[id(declared.body)]}},
        }
    elif declared.body_bytes_max is not None:
        schema = {"type": "string"} if declared.path in _RAW else {}
        told = f"As it comes, at most {declared.body_bytes_max:,} bytes."
        content = {_RAW.get(declared.path, "*/*"): {"schema": schema}}
        operation["requestBody"] = {"required": True, "description": told, "content": content}
    return operation


def _responses(declared: Route, schema_of: dict[int, Any]) -> dict[str, object]:
    content = {declared.media_type: _answer(declared, schema_of)}
    if declared.path in _PAGES:
        content["text/html"] = {"schema": {"type": "string"}}
    successes = {declared.status: "Done.", **declared.also}
    if declared.needs_key and "payment_declined" in declared.codes:
        successes[202] = "The payment is not known yet, or waits for the payer."
    responses: dict[str, object] = {
        str(status): {"description": meaning, "headers": _answer_headers(declared), "content": content}
        for status, meaning in successes.items()
    }
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes_of(declared)):
        by_status.setdefault(CODES[code][0], []).append(code)
    for status, codes in by_status.items():
        names = ["Retry-After"] if status in {429, 503} else []
        problem = {
            "schema": schema_of[id(ProblemDocument)],
            "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
        }
        responses[str(status)] = {
            "description": "; ".join(f"`{code}`: {CODES[code][1]}" for code in codes),
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
            "content": {"application/problem+json": problem},
        }
    return responses


def _answer(declared: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    if declared.answer is dict:
        return {"schema": {"type": "object"}}
    schema = schema_of[id(declared.answer)]
    if declared.media_type == EVENT_STREAM:
        # OpenAPI 3.1 has no word for a stream of parts; 3.2 calls it so.
        return {"schema": {"type": "string", "description": "Server-sent events."}, "x-itemSchema": schema}
    return {"schema": schema}


def _answer_headers(declared: Route) -> dict[str, object]:
    names = ["RateLimit", "RateLimit-Policy", "Request-Id"]
    if isinstance(declared.answer, type) and "version" in getattr(declared.answer, "__struct_fields__", ()):
        names.append("ETag")
    if declared.method == "POST" and declared.permission is not Permission.PUBLIC:
        names.append("Idempotent-Replayed")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in sorted(names)}


def codes_of(declared: Route) -> set[str]:
    """The route's own refusals, and those that any route of its kind may give."""
    codes = {*declared.codes, "internal_error", "rate_limited", "busy"}
    if declared.permission is not Permission.PUBLIC:
        codes |= {"unauthenticated", "forbidden"}
    if _PARAMETER.search(declared.path):
        codes.add("not_found")
    if declared.body is not None or declared.query is not None:
        codes |= {"invalid_request", "not_found"}
    if declared.body is not None:
        codes |= {"secret_in_request", "unsupported_media_type"}
    if declared.body is not None or declared.body_bytes_max is not None:
        codes |= {"invalid_request", "request_timeout", "request_too_large"}
    if declared.method == "POST" and declared.permission is not Permission.PUBLIC:
        codes |= {"idempotency_in_progress", "idempotency_key_reused", "invalid_request"}
    if declared.needs_key:
        codes.add("idempotency_key_required")
    return codes


def _path_parameters(declared: Route) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _id_or_word(name),
            **({"example": show_id(PREFIXES[name])} if name in PREFIXES else {}),
        }
        for name in _PARAMETER.findall(declared.path)
    ]


def _id_or_word(name: str) -> dict[str, object]:
    """An id of its kind, or where none stands there, as in ``/webhooks/{processor}``, a word."""
    if name not in PREFIXES:
        return {"type": "string"}
    return {"type": "string", "pattern": f"^{PREFIXES[name]}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"}


@cache
def _query_fields(query: type[msgspec.Struct] | None) -> tuple[tuple[Any, Any], ...]:
    """The type and the field of each query parameter; cached, since types are looked up by identity."""
    return tuple((field.type, field) for field in msgspec.structs.fields(query)) if query is not None else ()


def _query_parameters(declared: Route, schema_of: dict[int, Any]) -> list[dict[str, object]]:
    return [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": schema_of[id(kind)],
            "explode": True,
        }
        for kind, field in _query_fields(declared.query)
    ]


def _headers(declared: Route) -> list[dict[str, object]]:
    headers: list[dict[str, object]] = []
    if declared.permission in _BY_CART_TOKEN:
        headers.append(
            _header("X-Cart-Token", "What opens the cart, or the order that it became, for a publishable key.")
        )
    if declared.method == "POST" and declared.permission is not Permission.PUBLIC:
        told = "The same at each retry: the request is then carried out once."
        schema = {"minLength": 1, "maxLength": KEY_CHARACTERS_MAX, "pattern": _KEY_PATTERN}
        headers.append(_header("Idempotency-Key", told, required=declared.needs_key, **schema))
    if declared.method in {"POST", "PATCH", "PUT", "DELETE"} and "version_conflict" in declared.codes:
        headers.append(_header("If-Match", "The `ETag` that the change is meant for; any other one is refused."))
    if declared.media_type == EVENT_STREAM:
        headers.append(_header("Last-Event-ID", "The last event that was heard: what was missed since comes first."))
    return headers


def _header(name: str, told: str, *, required: bool = False, **schema: object) -> dict[str, object]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "schema": {"type": "string", **schema},
        "description": told,
    }
