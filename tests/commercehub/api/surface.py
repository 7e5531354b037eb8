"""The surface of the API as its own document tells it: every operation, and bodies that fit it or do not."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

RAW = "@raw@"
"""Where in a body a token is put that ``json`` would not write."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of ``openapi.json``."""

    method: str
    path: str
    permission: str | None
    parameters: tuple[Mapping[str, Any], ...]
    schema: Mapping[str, Any] | None
    media_type: str | None
    codes: Mapping[int, str]
    """What the document says of each status that it may answer."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, places: Mapping[str, str]) -> str:
        """Its address, with ids put in."""
        return self.path.format_map(places)

    def names(self, where: str) -> list[str]:
        """Its parameters in the path, the query or the headers."""
        return [each["name"] for each in self.parameters if each["in"] == where]


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """Every operation of a document."""
    return [
        Operation(
            method=method.upper(),
            path=path,
            permission=given.get("x-permission"),
            parameters=tuple(given["parameters"]),
            schema=_body(given).get("schema"),
            media_type=next(iter(given.get("requestBody", {}).get("content", {})), None),
            codes={int(status): answer["description"] for status, answer in given["responses"].items()},
        )
        for path, methods in document["paths"].items()
        for method, given in methods.items()
    ]


def _body(given: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = given.get("requestBody", {}).get("content", {}).get("application/json", {})
    return found


class Shapes:
    """Makes bodies out of schemas."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema itself, of what may be null too."""
        if "$ref" in schema:
            return self.resolve(self._schemas[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            return self.resolve(next(each for each in schema["anyOf"] if each.get("type") != "null"))
        return schema

    def example(self, schema: Mapping[str, Any], name: str = "") -> Any:
        """A body with every field, as the schema has it; whether its ids exist is another matter."""
        schema = self.resolve(schema)
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                return {key: self.example(each, key) for key, each in schema.get("properties", {}).items()}
            case "array":
                return [self.example(schema["items"], name)] * schema.get("minItems", 1)
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
        return EXAMPLES.get(name, "x" * schema.get("minLength", 1))

    def spoiled(self, schema: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
        """Bodies with one field at fault: where and how, and the body."""
        whole = self.example(schema)
        for pointer, part in self._fields(schema):
            for fault in self._faults(part, pointer.rpartition("/")[2]):
                yield f"{pointer} = {fault[:40]}", _put(whole, pointer, fault)
        # A map from names to values has no unknown field.
        closed = [
            where
            for where, part in self._fields(schema)
            if part.get("type") == "object" and not isinstance(part.get("additionalProperties"), dict)
        ]
        for pointer in closed:
            unknown = f"{pointer}/{UNKNOWN_FIELD}"
            yield unknown, _put(whole, unknown, "1")
        for name in self.resolve(schema).get("required", ()):
            yield f"without {name}", json.dumps({k: v for k, v in whole.items() if k != name}).encode()

    def _fields(self, schema: Mapping[str, Any], pointer: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
        is_nullable = any(each.get("type") == "null" for each in schema.get("anyOf", ()))
        schema = {**self.resolve(schema), "nullable": is_nullable}
        yield pointer, schema
        if schema.get("type") == "object":
            for name, part in schema.get("properties", {}).items():
                yield from self._fields(part, f"{pointer}/{name}")
        elif schema.get("type") == "array":
            yield from self._fields(schema["items"], f"{pointer}/0")

    def _faults(self, schema: Mapping[str, Any], name: str) -> Iterator[str]:
        """JSON texts of values that the schema does not allow."""
        kind = schema.get("type", "string")
        yield from FAULTS[kind]
        if not schema.get("nullable"):
            yield "null"
        if kind == "integer":
            yield from (
                str(schema[bound] + step) for bound, step in (("minimum", -1), ("maximum", 1)) if bound in schema
            )
        if kind == "array":
            yield json.dumps(["x"] * (schema["maxItems"] + 1)) if "maxItems" in schema else "[[]]"
            yield from ["[]"] if schema.get("minItems") else []
        if kind == "string":
            yield from [json.dumps("9" * (schema["maxLength"] + 1))] if "maxLength" in schema else []
            yield from ['""'] if schema.get("minLength") or "enum" in schema else []
            if "pattern" in schema or "enum" in schema:
                odd = ("\a", "\n", f"{self.example(schema, name)}\n")
                # What may have several lines says so by its pattern.
                yield from (json.dumps(text) for text in odd if not re.search(schema.get("pattern", "(?!)"), text))


FAULTS: Mapping[str, tuple[str, ...]] = {
    "object": ("[]", '"text"', "1", "true"),
    "array": ("{}", '"text"', "1"),
    "integer": ("1.5", "1e400", '"1"', "true", "[]", "NaN", str(2**70), str(-(2**70))),
    "number": ("1e400", "Infinity", '"1"', "91e9", "-91e9"),
    "boolean": ("1", '"true"', "[]"),
    "string": (r'"a\u0000b"', r'"\ud800"', r'"\udfff"', '"\x01"', "1", "1.5", "true", "{}", "[]", '"\xff"'),
}
"""By the type of a field, JSON texts of values that it never takes, and of what is no JSON at all."""

EXAMPLES: Mapping[str, str] = {
    "currency": "USD",
    "country": "US",
    "email": "ada@example.com",
    "phone": "+1 512 555 0100",
    "barcode": "4006381333931",
    "url": "https://example.com/a.jpg",
    "date": "2026-12-25",
    "timezone": "America/Chicago",
    "unit": "each",
    "tax_class": "standard",
}

UNKNOWN_FIELD = "is_admin"


def _put(whole: Any, pointer: str, token: str) -> bytes:
    """A body with a JSON text in the place of one of its values."""
    if not pointer:
        return token.encode("latin-1")
    copy = json.loads(json.dumps(whole))
    *path, last = pointer.split("/")[1:]
    part = copy
    for step in path:
        part = part[int(step)] if isinstance(part, list) else part[step]
    if isinstance(part, list):
        part[int(last)] = RAW
    else:
        part[last] = RAW
    return json.dumps(copy).encode().replace(f'"{RAW}"'.encode(), token.encode("latin-1"), 1)
