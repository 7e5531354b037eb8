"""The document as a page, for people: every operation, what it takes and answers, and every part."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

from commercehub.api import pages
from commercehub.api.call import Answer, Call
from commercehub.api.openapi import build
from commercehub.api.routing import Route, route
from commercehub.auth import Permission

Part = Mapping[str, Any]


def docs_route(described: Sequence[Route]) -> Route:
    """The route at which the page is seen."""
    page = cache(lambda: pages.show("API", "".join(_page(build(described)))))

    @route("GET", "/docs", permission=Permission.PUBLIC, answer=str, media_type="text/html")
    async def show_docs(_: Call) -> Answer:
        """The document, to be read."""
        return page()

    return show_docs


def _page(document: Part) -> Iterator[str]:
    info, by_tag = document["info"], _by_tag(document)
    yield (
        f"<p>{escape(info['description'])} Version {escape(info['version'])}."
        "<p>For programs: <a href=/openapi.json>openapi.json</a>. What can go wrong: <a href=/problems>all codes</a>."
        "<input type=search id=filter placeholder='Find an operation' aria-label='Find an operation' hidden><nav>"
    )
    yield from (f"<a href=#tag-{name}>{name}</a> " for name in by_tag)
    yield "<a href=#credentials>credentials</a> <a href=#parts>parts</a></nav>"
    for tag in document["tags"]:
        yield f"<section><h2 id=tag-{tag['name']}>{tag['name']}</h2><p>{escape(tag['description'])}"
        for method, path, operation in by_tag[tag["name"]]:
            yield from _operation(method, path, operation)
        yield "</section>"
    yield "<h2 id=credentials>credentials</h2><dl>"
    for name, scheme in document["components"]["securitySchemes"].items():
        yield f"<dt><code>{name}</code><dd>{pages.prose(scheme['description'])}"
    yield "</dl><section><h2 id=parts>parts</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f"<details id=part-{name}><summary><code>{name}</code></summary>"
        yield f"<p>{pages.prose(schema.get('description', ''))}{_fields(schema)}</details>"
    yield "</section>"


def _by_tag(document: Part) -> dict[str, list[tuple[str, str, Part]]]:
    found: dict[str, list[tuple[str, str, Part]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            found[operation["tags"][0]].append((method.upper(), path, operation))
    return found


def _operation(method: str, path: str, operation: Part) -> Iterator[str]:
    yield (
        f"<details id={operation['operationId']}><summary><b>{method}</b> <code>{escape(path)}</code>"
        f"{pages.prose(operation['summary'])}</summary><p>{pages.prose(operation.get('description', ''))}"
    )
    names = [" with ".join(f"<code>{name}</code>" for name in each) for each in operation.get("security", ())]
    permission = f", permission <code>{operation['x-permission']}</code>" if names else ""
    yield f"<p>Who may: {' or '.join(names) or 'anybody'}{permission}."
    if operation["parameters"]:
        yield "<h3>Parameters</h3>" + _table(
            (each["name"], each["required"], each["schema"], f"{each['in']}. {each.get('description', '')}")
            for each in operation["parameters"]
        )
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h3>Body: {escape(media_type)}, {_kind(content['schema'])}</h3>"
        if "example" in content:
            yield f"<pre>{escape(json.dumps(content['example'], indent=2, ensure_ascii=False))}</pre>"
    yield "<h3>Answers</h3><table><thead><tr><th>Status<th>What<tbody>"
    for status, answer in sorted(operation["responses"].items()):
        yield f"<tr><td>{status}<td>{_answer(answer)}"
    yield "</table></details>"


def _answer(answer: Part) -> str:
    problem = answer["content"].get("application/problem+json")
    if problem is not None:
        return ", ".join(f"<a href=/problems/{code}><code>{code}</code></a>" for code in problem["examples"])
    kinds = ", ".join(
        f"{escape(media_type)}, {_kind(content.get('x-itemSchema', content['schema']))}"
        for media_type, content in answer["content"].items()
    )
    return f"{pages.prose(answer['description'])} {kinds}"


def _fields(schema: Part) -> str:
    needed = schema.get("required", ())
    return _table(
        (name, name in needed, each, each.get("description", "")) for name, each in schema.get("properties", {}).items()
    )


def _table(rows: Iterator[tuple[str, bool, Part, str]]) -> str:
    body = "".join(
        f"<tr><td><code>{escape(name)}</code>{' (needed)' if is_needed else ''}<td>{_kind(schema)}<td>{pages.prose(told)}"
        for name, is_needed, schema, told in rows
    )
    return f"<table><thead><tr><th>Name<th>Kind<th>What it is<tbody>{body}</table>" if body else ""


_BOUNDS: Mapping[str, Callable[[Any], str]] = {
    "minimum": "at least {:,}".format,
    "maximum": "at most {:,}".format,
    "minLength": "{:,} characters or more".format,
    "maxLength": "up to {:,} characters".format,
    "maxItems": "up to {:,}".format,
    "default": lambda value: f"else {json.dumps(value)}",
}


def _kind(schema: Part) -> str:
    """What kind of value a schema takes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href=#part-{name}>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    kind = schema.get("format") or schema.get("type", "anything")
    if kind == "array":
        parts = schema.get("prefixItems") or [schema.get("items", {})]
        kind = f"list of {', '.join(map(_kind, parts))}"
    if isinstance(schema.get("additionalProperties"), dict):
        kind = f"map to {_kind(schema['additionalProperties'])}"
    bounds = [escape(say(schema[bound])) for bound, say in _BOUNDS.items() if schema.get(bound) is not None]
    return ", ".join([kind, *bounds])
