"""The document says what the API does, and does not change by itself.

Renew what is kept of it, and read what changed, with: .venv/bin/python -m tests.commercehub.api.test_openapi
"""

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from commercehub import api as routes_of
from commercehub.api.errors import CODES
from commercehub.api.examples import BODIES
from commercehub.api.openapi import ProblemDocument, build, operation_id
from commercehub.auth import MAY, STAFF_ROLES, Permission, Role
from tests.commercehub.api.surface import Operation

SNAPSHOT = Path(__file__).with_name("openapi.txt")
CHANGES_MAX = 80
CHARACTERS_MAX = 65_536

BUILD = """
import hashlib, msgspec
from commercehub import api
from commercehub.api.openapi import build
print(hashlib.sha256(msgspec.json.encode(build(api.described()), order="sorted")).hexdigest())
"""

MONEY = {"amount", "currency"}

# The promise of api.md, as far as it is built: fields of answers by their path in the document.
PROMISED_ANSWERS: Mapping[str, set[str]] = {
    "GET /v1/locations": {
        *("id", "code", "name", "kind", "address", "latitude", "longitude", "timezone", "capabilities"),
        *("opening_hours", "holidays", "distance_km", "can_fulfill"),
    },
    "GET /v1/availability": {"sku", "available_to_ship", "available_for_pickup", "locations"},
    "POST /v1/availability/query": {"sku", "available_to_ship", "available_for_pickup", "locations"},
    "GET /v1/carts/{cart_id}": {
        *("id", "currency", "version", "lines", "deliveries", "promotions", "problems", "tax_included"),
        *("subtotal", "discount_total", "delivery_total", "tax_total", "total", "token"),
    },
    "POST /v1/carts/{cart_id}/checkout": {
        *("id", "number", "state", "payment_state", "fulfillment_state", "on_hold", "channel", "lines", "fulfillments"),
        *("receipt_barcode", "permalink", "next_action", "change", "tax_included", "version"),
        *("subtotal", "discount_total", "delivery_total", "tax_total", "total"),
    },
    "GET /v1/orders/{order_id}/timeline": {"at", "channel", "actor", "location_id", "type", "changes"},
    "GET /v1/registers/{register_id}/sessions/current": {"tenders", "sales", "returns", "cash_in", "cash_out"},
    "POST /v1/registers/{register_id}/sessions/current/close": {
        *("tenders", "sales", "returns", "cash_in", "cash_out"),
    },
    "GET /v1/fulfillments": {"id", "order_id", "kind", "state", "location_id", "version", "lines"},
    "GET /v1/stock/movements": {
        *("id", "sku", "location_id", "delta", "bucket", "kind", "reason", "reference", "actor", "channel", "balance"),
        *("occurred_at", "recorded_at"),
    },
    "GET /v1/payments": {"id", "order_id", "tender", "processor", "amount", "operations"},
    "GET /v1/operations/{operation_id}": {"id", "state", "rows", "refused"},
    "POST /v1/api-keys": {"id", "secret"},
    "GET /v1/variants": {"sku", "barcode", "prices", "unit", "quantity_scale", "tax_class"},
}

PROMISED_PARTS: Mapping[str, set[str]] = {
    "CartLineView": {"id", "sku", "quantity", "unit_price", "discount", "tax", "total"},
    "CartDeliveryView": {"method", "location_id", "address", "line_ids", "price"},
    "PromotionView": {"code", "discount"},
    "OrderLineView": {"id", "sku", "ordered", "cancelled", "fulfilled", "returned", "unit_price", "total"},
    "FulfillmentSummary": {"id", "kind", "state", "location_id"},
    "NextAction": {"type", "url"},
    "TenderReport": {"type", "expected", "counted", "over_short"},
    "FulfillmentLineView": {"sku", "quantity", "picked"},
    "LocationAvailability": {"location_id", "available", "on_hand", "reserved"},
    "Rows": {"read", "created", "changed"},
    "RefusedRow": {"line", "reason"},
    "Money": MONEY,
    "PositiveMoney": MONEY,
    "FieldError": {"pointer", "detail"},
    "ProblemDocument": {"type", "title", "status", "detail", "instance", "code", "errors"},
}

PROMISED_BODIES: Mapping[str, set[str]] = {
    "POST /v1/carts": {"currency"},
    "POST /v1/carts/{cart_id}/lines": {"sku", "barcode", "quantity"},
    "PATCH /v1/carts/{cart_id}/lines/{line_id}": {"quantity"},
    "PUT /v1/carts/{cart_id}/delivery": {"method", "address", "location_id", "line_ids"},
    "POST /v1/carts/{cart_id}/checkout": {"email", "phone", "expected_total", "register_id", "tenders"},
    "POST /v1/orders/{order_id}/cancel": {"reason"},
    "POST /v1/registers/{register_id}/sessions": {"opening_float"},
    "POST /v1/registers/{register_id}/sessions/current/close": {"counted"},
    "POST /v1/fulfillments/{fulfillment_id}/pick": {"lines"},
    "POST /v1/fulfillments/{fulfillment_id}/pack": {"parcels"},
    "POST /v1/fulfillments/{fulfillment_id}/ship": {"carrier", "tracking_number"},
    "POST /v1/stock/receipts": {"location_id", "lines", "reference"},
    "POST /v1/stock/adjustments": {"location_id", "lines"},
    "POST /v1/products": {"title", "variants"},
    "POST /v1/locations": {
        *("code", "name", "kind", "address", "latitude", "longitude", "timezone", "capabilities", "opening_hours"),
        "holidays",
    },
    "POST /v1/api-keys": {"channel", "role", "location_id"},
    "POST /v1/availability/query": {"skus", "location_ids"},
}

PROMISED_QUERIES: Mapping[str, set[str]] = {
    "GET /v1/locations": {"near", "radius_km", "sku", "capability"},
    "GET /v1/availability": {"sku", "location_id"},
    "GET /v1/orders": {"number", "email", "customer_id", "channel", "state", "limit", "cursor"},
    "GET /v1/fulfillments": {"location_id", "order_id", "state", "kind", "limit", "cursor"},
    "GET /v1/stock/movements": {"sku", "location_id", "limit", "cursor"},
    "GET /v1/payments": {"order_id"},
    "GET /v1/products": {"q", "limit", "cursor"},
    "GET /v1/variants": {"barcode"},
    "POST /v1/imports/products": {"format", "currency", "location_id"},
}

# The refusals that a client of api.md programs against, where they come from.
PROMISED_CODES: Mapping[str, set[str]] = {
    "POST /v1/carts/{cart_id}/lines": {"no_price", "version_conflict", "cart_already_checked_out"},
    "POST /v1/carts/{cart_id}/checkout": {
        *("payment_declined", "payment_not_completed", "out_of_stock", "total_changed", "no_open_session"),
        *("cart_already_checked_out", "idempotency_key_required", "idempotency_key_reused", "idempotency_in_progress"),
        "busy",
    },
    "POST /v1/fulfillments/{fulfillment_id}/pick": {"invalid_transition", "not_on_this_list", "unaccounted_units"},
    "POST /v1/api-keys": {"secret_already_shown"},
}


def _refs(part: object) -> Iterator[str]:
    match part:
        case dict():
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for each in part.values():
                yield from _refs(each)
        case list():
            for each in part:
                yield from _refs(each)


def _schema(document: Mapping[str, Any], ref: str) -> Any:
    return document["components"]["schemas"][ref.removeprefix("#/components/schemas/")]


def _fields(document: Mapping[str, Any], operation: str) -> set[str]:
    """The fields of what an operation answers; of a list, those of its items."""
    method, path = operation.split()
    responses = document["paths"][path][method.lower()]["responses"]
    answer = next(responses[status] for status in sorted(responses) if status < "300")
    schema = next(iter(answer["content"].values()))["schema"]
    whole = _schema(document, schema["$ref"])
    if whole["properties"].keys() == {"data", "next_cursor"}:
        whole = _schema(document, whole["properties"]["data"]["items"]["$ref"])
    return set(whole["properties"])


def test_it_is_the_same_to_the_byte_at_every_start() -> None:
    built = [
        subprocess.run(
            [sys.executable, "-c", BUILD],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert built[0] == built[1] != ""


async def test_it_is_what_the_code_builds(api: httpx.AsyncClient) -> None:
    answer = await api.get("/openapi.json")
    assert answer.content == msgspec.json.encode(build(routes_of.described(demo=True)), order="sorted")
    assert answer.json()["openapi"] == "3.1.0"


def test_it_is_as_it_was() -> None:
    kept, now = SNAPSHOT.read_text().splitlines(), snapshot().splitlines()
    changes = list(difflib.unified_diff(kept, now, "kept", "now", lineterm="", n=4))
    told = "\n".join([*changes[:CHANGES_MAX], f"… {len(changes)} lines, renew with the command above"])
    assert not changes, f"{__doc__}\n{told}"


def snapshot() -> str:
    """The document, a line for each of its parts; without the examples that are made from it."""
    document = build(routes_of.described(demo=True))
    lines = [f"{name}: {_line(document[name])}" for name in sorted(document.keys() - {"paths", "components"})]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in sorted(methods.items()):
            lines += ["", f"{method.upper()} {path}"]
            lines += [
                f"  {name}: {_line(operation[name])}" for name in sorted(operation.keys() - {"parameters", "responses"})
            ]
            lines += [f"  {each['in']} {each['name']}: {_line(each)}" for each in operation["parameters"]]
            lines += [f"  {status}: {_line(_short(each))}" for status, each in sorted(operation["responses"].items())]
    for kind, parts in sorted(document["components"].items()):
        for name, part in sorted(parts.items()):
            lines += ["", f"{kind} {name}: {_line({key: part[key] for key in part.keys() - {'properties'}})}"]
            lines += [f"  {field}: {_line(each)}" for field, each in sorted(part.get("properties", {}).items())]
    return "\n".join(lines) + "\n"


def _short(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer, of whose content a reader of changes needs the schema."""
    if "application/problem+json" in answer["content"]:
        return {name: each for name, each in answer.items() if name != "content"}
    of_kinds = {kind: {k: v for k, v in each.items() if k != "example"} for kind, each in answer["content"].items()}
    return {**answer, "content": of_kinds}


def _line(part: object) -> str:
    return json.dumps(part, sort_keys=True, ensure_ascii=False)


def test_every_reference_leads_somewhere(document: Mapping[str, Any]) -> None:
    refs = set(_refs(document))
    assert len(refs) > 20
    for ref in refs:
        found: Any = document
        for step in ref.removeprefix("#/").split("/"):
            found = found[step]


def test_no_name_tells_where_it_stands_in_our_files(document: Mapping[str, Any]) -> None:
    assert all(re.fullmatch(r"[A-Za-z]+(_[A-Za-z]+_)?", name) for name in document["components"]["schemas"])
    assert "commercehub.api" not in json.dumps(document)


def test_every_body_refuses_unknown_fields_at_every_depth(
    document: Mapping[str, Any], surface: list[Operation]
) -> None:
    todo = [ref for operation in surface for ref in _refs(operation.schema)]
    seen: set[str] = set()
    while todo:
        ref = todo.pop()
        if ref not in seen:
            seen.add(ref)
            schema = _schema(document, ref)
            assert schema.get("additionalProperties") is False, ref
            todo += _refs(schema)
    assert len(seen) > 15


def test_every_route_is_in_it(document: Mapping[str, Any]) -> None:
    declared = {(route.method.lower(), route.path) for route in routes_of.routes(demo=True)}
    told = {(method, path) for path, methods in document["paths"].items() for method in methods}
    about = {"/openapi.json", "/docs", "/docs/style.css", "/docs/filter.js", "/problems", "/problems/{code}"}
    assert declared - told == {("get", path) for path in about}


def test_every_operation_has_an_id_of_its_own_and_a_summary(document: Mapping[str, Any]) -> None:
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert all(each["summary"].endswith(".") for each in operations)


def test_every_parameter_of_a_path_is_told(document: Mapping[str, Any], surface: list[Operation]) -> None:
    for operation in surface:
        assert operation.names("path") == re.findall(r"\{(\w+)\}", operation.path), operation


def test_every_code_comes_from_somewhere(surface: list[Operation]) -> None:
    told = {code for each in surface for text in each.codes.values() for code in re.findall(r"`(\w+)`", text)}
    # These come from where no operation is.
    assert set(CODES) - told == {"method_not_allowed"}


def test_every_code_reads_as_a_word_and_has_a_status_of_its_kind() -> None:
    for code, (status, title) in CODES.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert status in {400, 401, 402, 403, 404, 405, 408, 409, 412, 413, 415, 422, 429, 500, 503}
        assert title[0].isupper()


def test_patterns_are_those_of_json_schema(document: Mapping[str, Any]) -> None:
    assert "(?!" not in msgspec.json.encode(document).decode()


@pytest.mark.parametrize("operation", sorted(PROMISED_ANSWERS))
def test_an_answer_has_the_fields_that_were_promised(operation: str, document: Mapping[str, Any]) -> None:
    assert PROMISED_ANSWERS[operation] <= _fields(document, operation)


@pytest.mark.parametrize("name", sorted(PROMISED_PARTS))
def test_a_part_has_the_fields_that_were_promised(name: str, document: Mapping[str, Any]) -> None:
    assert PROMISED_PARTS[name] <= set(document["components"]["schemas"][name]["properties"])


@pytest.mark.parametrize("operation", sorted(PROMISED_BODIES))
def test_a_body_takes_the_fields_that_were_promised(
    operation: str, document: Mapping[str, Any], surface: list[Operation]
) -> None:
    found = next(each for each in surface if str(each) == operation)
    assert found.schema is not None
    assert PROMISED_BODIES[operation] <= set(_schema(document, found.schema["$ref"])["properties"])


@pytest.mark.parametrize("operation", sorted(PROMISED_QUERIES))
def test_a_query_takes_the_parameters_that_were_promised(operation: str, surface: list[Operation]) -> None:
    found = next(each for each in surface if str(each) == operation)
    assert PROMISED_QUERIES[operation] <= set(found.names("query"))


@pytest.mark.parametrize("operation", sorted(PROMISED_CODES))
def test_a_refusal_that_was_promised_is_told(operation: str, surface: list[Operation]) -> None:
    found = next(each for each in surface if str(each) == operation)
    told = {code for text in found.codes.values() for code in re.findall(r"`(\w+)`", text)}
    assert PROMISED_CODES[operation] <= told


def test_every_body_has_an_example_that_it_takes(document: Mapping[str, Any]) -> None:
    seen = set()
    for route in routes_of.described(demo=True):
        if route.body is not None:
            name = operation_id(route)
            content = document["paths"][route.path][route.method.lower()]["requestBody"]["content"]["application/json"]
            msgspec.convert(content["example"], route.body)
            assert content["example"] == BODIES.get(name, content["example"])
            # What is made from a schema alone says little: whoever adds a body says what is sent.
            assert name in BODIES or not route.body.__struct_fields__, name
            seen.add(name)
    assert set(BODIES) <= seen


def test_every_answer_has_an_example_that_is_one(document: Mapping[str, Any]) -> None:
    tried = 0
    for route in routes_of.described(demo=True):
        responses = document["paths"][route.path][route.method.lower()]["responses"]
        for status, answer in responses.items():
            content = answer["content"].get("application/json")
            if status < "300" and content is not None:
                example = msgspec.convert(content["example"], route.answer)
                assert msgspec.to_builtins(example).keys() >= content["example"].keys()
                tried += 1
    assert tried > 100


def test_every_refusal_has_an_example(document: Mapping[str, Any]) -> None:
    examples = document["components"]["examples"]
    assert examples.keys() == CODES.keys()
    for code, example in examples.items():
        problem = msgspec.convert(example["value"], ProblemDocument)
        assert (problem.code, problem.status, problem.title) == (code, *CODES[code])


def test_every_operation_says_which_credentials_open_it(document: Mapping[str, Any]) -> None:
    keys = {Role.STOREFRONT, Role.TILL, Role.SERVICE, Role.FULFILLMENT, Role.ADMIN}
    roles = {"key": keys, "customer": {Role.CUSTOMER}, "staff": STAFF_ROLES, "order": {Role.GUEST}}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            told = {name for each in operation.get("security", ()) for name in each}
            permission = Permission(operation.get("x-permission", "public"))
            for name, its in roles.items():
                assert (name in told) == any(permission in MAY[role] for role in its), (method, path, name)
            assert told <= document["components"]["securitySchemes"].keys()


def test_every_stream_is_told_as_one(document: Mapping[str, Any]) -> None:
    streams = [path for path in document["paths"] if path.endswith("/stream")]
    assert streams
    for path in streams:
        operation = document["paths"][path]["get"]
        content = operation["responses"]["200"]["content"]
        assert content.keys() == {"text/event-stream"}
        assert "$ref" in content["text/event-stream"]["x-itemSchema"]
        assert "Last-Event-ID" in [each["name"] for each in operation["parameters"]]


def test_nothing_that_is_sent_is_without_bounds(document: Mapping[str, Any], surface: list[Operation]) -> None:
    """Each list has a length, and each text one that is less than a body's."""
    todo = [("", operation.schema) for operation in surface if operation.schema is not None]
    todo += [(f"?{each['name']}", each["schema"]) for op in surface for each in op.parameters if each["in"] == "query"]
    seen, loose = set(), set()
    while todo:
        where, schema = todo.pop()
        if "$ref" in schema:
            if schema["$ref"] not in seen:
                seen.add(schema["$ref"])
                whole = _schema(document, schema["$ref"])
                todo += [(f"{whole['title']}.{name}", each) for name, each in whole["properties"].items()]
            continue
        todo += [(where, each) for each in schema.get("anyOf", ())]
        todo += [
            (where, schema[part]) for part in ("items", "additionalProperties") if isinstance(schema.get(part), dict)
        ]
        if schema.get("type") == "array" and "maxItems" not in schema:
            loose.add(where)
        is_short = (
            schema.get("maxLength", CHARACTERS_MAX + 1) <= CHARACTERS_MAX or "enum" in schema or "format" in schema
        )
        if schema.get("type") == "string" and not is_short and not _is_finite(schema.get("pattern", "*")):
            loose.add(where)
    assert loose == set()


def _is_finite(pattern: str) -> bool:
    return not re.search(r"[*+]|\{\d+,\}", pattern)


def test_a_moment_is_told_as_one(document: Mapping[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        for field, each in schema["properties"].items():
            if field.endswith("_at") or field == "at":
                kinds = [part for part in each.get("anyOf", [each]) if part["type"] == "string"]
                assert all(part["format"] == "date-time" for part in kinds), (name, field)


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
