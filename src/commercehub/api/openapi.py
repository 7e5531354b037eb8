"""The OpenAPI 3.1 document, made from what the routes declare: the same bytes at every start."""

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import msgspec

from commercehub.api.call import Answer, Call
from commercehub.api.errors import CODES, FieldError
from commercehub.api.fields import END
from commercehub.api.routing import PREFIXES, Route, route
from commercehub.auth import Permission

REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal (RFC 9457). ``code`` is what programs go by; some codes add members of their own."""

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


def build(routes: Sequence[Route]) -> dict[str, object]:
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
    document: dict[str, object] = {
        "openapi": "3.1.0",
        "info": {
            "title": "commercehub",
            "version": version("commercehub"),
            "description": "One cart, one stock, one order book and one payments layer for every channel.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "an API key"}},
        },
    }
    _plainly(document)
    return document


def _plainly(part: object) -> None:
    """In ECMA's dialect, which JSON Schema's patterns are of, a ``$`` stands at the very end already."""
    match part:
        case dict():
            if isinstance(part.get("pattern"), str):
                part["pattern"] = part["pattern"].replace(END, "$")
            for each in part.values():
                _plainly(each)
        case list():
            for each in part:
                _plainly(each)


def _operation(declared: Route, schema_of: dict[int, Any]) -> dict[str, object]:
    summary, _, rest = (declared.handler.__doc__ or "").strip().partition("\n")
    operation: dict[str, object] = {
        "operationId": declared.handler.__name__,
        "summary": summary,
        "parameters": [*_path_parameters(declared), *_query_parameters(declared, schema_of), *_headers(declared)],
        "responses": _responses(declared, schema_of),
        "tags": [declared.path.split("/")[2] if declared.path.startswith("/v1/") else "hub"],
    }
    if rest.strip():
        operation["description"] = rest.strip()
    if declared.permission is not Permission.PUBLIC:
        operation["security"] = [{"key": []}]
        operation["x-permission"] = declared.permission.value
    if declared.body is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(declared.body)),
            "content": {"application/json": {"schema": schema_of[id(declared.body)]}},
        }
    elif declared.body_bytes_max is not None:
        operation["requestBody"] = {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}
    return operation


def _responses(declared: Route, schema_of: dict[int, Any]) -> dict[str, object]:
    answer = {"type": "object"} if declared.answer is dict else schema_of[id(declared.answer)]
    responses: dict[str, object] = {
        str(declared.status): {"description": "Done.", "content": {declared.media_type: {"schema": answer}}}
    }
    if declared.needs_key and "payment_declined" in declared.codes:
        responses["202"] = {
            "description": "The payment is not known yet, or waits for the payer.",
            "content": {declared.media_type: {"schema": answer}},
        }
    for status, meaning in declared.also.items():
        responses[str(status)] = {"description": meaning, "content": {declared.media_type: {"schema": answer}}}
    by_status: dict[int, list[str]] = {}
    for code in sorted(_codes(declared)):
        by_status.setdefault(CODES[code][0], []).append(code)
    for status, codes in by_status.items():
        responses[str(status)] = {
            "description": "; ".join(f"`{code}`: {CODES[code][1]}" for code in codes),
            "content": {"application/problem+json": {"schema": schema_of[id(ProblemDocument)]}},
        }
    return responses


def _codes(declared: Route) -> set[str]:
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
        codes.add("request_too_large")
    if declared.method == "POST":
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
    if declared.permission is Permission.CARTS or declared.permission is Permission.ORDERS_READ:
        headers.append(
            {
                "name": "X-Cart-Token",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "What opens the cart, or the order that it became, for a publishable key.",
            }
        )
    if declared.method == "POST" and declared.permission is not Permission.PUBLIC:
        headers.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": declared.needs_key,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "The same at each retry: the request is then carried out once.",
            }
        )
    if declared.method in {"POST", "PATCH", "PUT", "DELETE"} and "version_conflict" in declared.codes:
        headers.append({"name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"}})
    return headers
