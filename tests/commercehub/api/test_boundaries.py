"""Whatever is sent, the answer is a refusal that a program can read, and nothing is changed.

Everything here is generated from the document: an operation that is added is tried out as it is.
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx

from commercehub import ids
from commercehub.api.errors import CODES, MEDIA_TYPE
from commercehub.api.routing import PREFIXES
from commercehub.auth import MAY, Permission, Role
from tests.client import Channel
from tests.commercehub.api.conftest import World
from tests.commercehub.api.surface import Operation, Shapes

Fingerprint = Callable[[], Awaitable[dict[str, str]]]

BODIES = {
    "null": b"null",
    "a list": b"[]",
    "a text": b'"text"',
    "a number": b"1",
    "NUL": b"\x00",
    "NUL in a name": rb'{"\u0000": 1}',
    "a NUL escape": rb'{"note": "\u0000"}',
    "invalid UTF-8": b'{"note": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a pair": rb'{"note": "\ud800"}',
    "huge": b'{"note": 1180591620717411303424}',
    "infinite": b'{"note": 1e400}',
    "not a number": b'{"note": NaN}',
    "twice": b'{"note": 1, "note": 2}',
    "a list 5,000 deep": b"[" * 5_000 + b"]" * 5_000,
    "objects 900 deep with an escape": b'{"a":' * 900 + rb'"\u0000 4111"' + b"}" * 900,
    "open": b'{"note": ',
    "two": b"{}{}",
    "more than a MiB": b'{"note": "' + b"x" * 1_100_000 + b'"}',
}
# What needs no word is done at the first one, and cannot be done again.
DONE_BY_NOTHING = {"POST /v1/api-keys/{key_id}/rotate"}
FORMATS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/csv", "é")
CREDENTIALS = ("", "Bearer", "Bearer ", "Bearer nothing", "Basic YTpi", "Bearer \xff", "bearer " + "x" * 8_000, "\x01")
QUERY_VALUES = (
    "",
    "%00",
    "%ff",
    "%ED%A0%80",
    "-1",
    "0",
    "201",
    "1e400",
    "nan",
    "null",
    "a" * 3_000,
    "%F0%9F%98%80",
    "'--",
)


def refused(answer: httpx.Response, operation: Operation | None = None) -> httpx.Response:
    """The answer, which is a refusal that a program can read, and that the document tells of."""
    asked = f"{answer.request.method} {str(answer.request.url)[:120]} {answer.request.content[:120]!r}"
    assert 400 <= answer.status_code < 500, f"{asked}: {answer.status_code} {answer.text[:300]}"
    problem = readable(answer)
    if operation is not None:
        assert f"`{problem['code']}`" in operation.codes.get(answer.status_code, ""), f"{operation}: {problem}"
    return answer


def readable(answer: httpx.Response) -> dict[str, Any]:
    """The problem document of an answer, which has every member that it has to have."""
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "instance", "code"} <= problem.keys()
    assert (problem["status"], problem["title"]) == (answer.status_code, CODES[problem["code"]][1])
    assert answer.status_code == CODES[problem["code"]][0]
    assert problem["type"].endswith(f"/problems/{problem['code']}")
    assert httpx.URL(problem["instance"]).path == answer.request.url.path
    assert all(error.keys() == {"pointer", "detail"} for error in problem.get("errors", ()))
    return problem


class Caller:
    """Sends raw requests with a credential and a key of its own each time."""

    def __init__(self, channel: Channel, shopper: Channel | None = None) -> None:
        self._channel = channel
        self._shopper = shopper or channel
        self._serial = 0

    async def send(self, method: str, path: str, *, token: str = "", **options: Any) -> httpx.Response:
        """Send one; ``headers`` replace ours."""
        self._serial += 1
        # Only a customer is somebody there.
        channel = self._shopper if path == "/v1/customers/me" else self._channel
        headers = {"Authorization": f"Bearer {channel.key}", "Content-Type": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = f"boundary {self._serial} {ids.new()}"
        if token:
            headers["X-Cart-Token"] = token
        headers |= options.pop("headers", {})
        return await self._channel.http.request(method, path, headers=_bytes(headers), **options)


def _bytes(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def _with_body(surface: list[Operation]) -> list[Operation]:
    return [operation for operation in surface if operation.schema is not None]


async def test_no_body_that_is_no_json_object_of_ours_is_taken(
    surface: list[Operation], world: World, admin: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin), await fingerprint()
    for operation in _with_body(surface):
        for body in BODIES.values():
            refused(await caller.send(operation.method, operation.at(world), content=body), operation)
    assert await fingerprint() == before


async def test_no_other_format_than_json_is_taken(
    surface: list[Operation], shapes: Shapes, world: World, admin: Channel, shopper: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin, shopper), await fingerprint()
    for operation in _with_body(surface):
        body = json.dumps(shapes.example(operation.schema or {})).encode()
        if body == b"{}":
            continue
        for media_type in FORMATS:
            answer = await caller.send(
                operation.method, operation.at(world), content=body, headers={"Content-Type": media_type}
            )
            assert refused(answer, operation).status_code in {415, 409}, operation
    assert await fingerprint() == before


async def test_no_field_takes_what_it_is_not_made_for(
    surface: list[Operation], shapes: Shapes, world: World, admin: Channel, shopper: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin, shopper), await fingerprint()
    tried = 0
    for operation in _with_body(surface):
        for fault, body in shapes.spoiled(operation.schema or {}):
            answer = refused(await caller.send(operation.method, operation.at(world), content=body), operation)
            assert answer.status_code in {400, 409}, f"{operation} with {fault}: {answer.text}"
            tried += 1
    assert tried > 1_000
    assert await fingerprint() == before


async def test_a_fault_in_a_body_is_pointed_at(shapes: Shapes, surface: list[Operation], admin: Channel) -> None:
    caller = Caller(admin)
    operation = next(each for each in surface if str(each) == "POST /v1/products")
    pointed = 0
    for fault, body in shapes.spoiled(operation.schema or {}):
        problem = (await caller.send("POST", "/v1/products", content=body)).json()
        if "errors" in problem:
            pointer = fault.partition(" = ")[0].replace("without ", "/")
            assert pointer == problem["errors"][0]["pointer"].removesuffix(
                "/0" if "[[]]" in fault or '"x"' in fault else "/-"
            )
            pointed += 1
    assert pointed > 100


async def test_an_empty_body_counts_as_an_empty_object(surface: list[Operation], world: World, admin: Channel) -> None:
    caller = Caller(admin)
    for operation in _with_body(surface):
        if str(operation) in DONE_BY_NOTHING:
            continue
        answer = await caller.send(operation.method, operation.at(world), content=b"", headers={"If-Match": '"0"'})
        as_object = await caller.send(operation.method, operation.at(world), content=b"{}", headers={"If-Match": '"0"'})
        assert answer.status_code == as_object.status_code < 500, operation


async def test_what_needs_a_key_does_not_happen_without_one(
    surface: list[Operation], shapes: Shapes, world: World, admin: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin), await fingerprint()
    for operation in _with_body(surface):
        if any(each["name"] == "Idempotency-Key" and each["required"] for each in operation.parameters):
            body = json.dumps(shapes.example(operation.schema or {})).encode()
            keyless = {"Idempotency-Key": ""}
            answer = await caller.send(operation.method, operation.at(world), content=body, headers=keyless)
            refused(answer, operation)
    assert await fingerprint() == before


async def test_an_id_that_names_nothing_is_not_found_whatever_the_body_holds(
    surface: list[Operation], world: World, admin: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin), await fingerprint()
    for operation in surface:
        # What is no id, such as a promotion's code, is looked for as it is.
        for name in [each for each in operation.names("path") if each in PREFIXES]:
            for text in _ids_of_nothing(name, world):
                path = operation.at({**world, name: text})
                for body in (b"", b"{", b'{"quantity": -1}') if operation.schema is not None else (b"",):
                    answer = await caller.send(operation.method, path, content=body)
                    assert refused(answer, operation).status_code == 404, (path, body, answer.text)
    assert await fingerprint() == before


def _ids_of_nothing(name: str, world: World) -> Iterator[str]:
    known = world[name]
    yield ids.show(PREFIXES[name], ids.new())
    yield ids.show("nothing", ids.parse(PREFIXES[name], known))
    yield from (
        known.upper(),
        known[:-1],
        known + "0",
        known + "%00",
        known + "%0A",
        " " + known,
        f"{known[:-1]}%C3%A9",
    )
    yield from ("%00", "%ff", "1", "null", quote("'; DROP TABLE carts; --"), "x" * 5_000, "%F0%9F%98%80")


async def test_no_query_parameter_breaks_an_operation(
    surface: list[Operation], world: World, admin: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin), await fingerprint()
    for operation in surface:
        if operation.method != "GET" or not operation.names("query"):
            continue
        path = operation.at(world)
        for name in operation.names("query"):
            for value in QUERY_VALUES:
                for query in (f"{name}={value}", f"{name}={value}&{name}={value}"):
                    answer = await caller.send("GET", f"{path}?{query}")
                    assert answer.status_code < 500, (path, query, answer.text)
                    if answer.status_code >= 400:
                        refused(answer, operation)
        unknown = refused(await caller.send("GET", f"{path}?is_admin=true"), operation)
        assert unknown.status_code == 400, operation
    assert await fingerprint() == before


async def test_no_cursor_but_one_of_ours_is_taken(surface: list[Operation], world: World, admin: Channel) -> None:
    caller = Caller(admin)
    wanted = {"order_id": world["order_id"], "sku": world["sku"]}
    for operation in [each for each in surface if "cursor" in each.names("query")]:
        needed = "&".join(f"{name}={wanted[name]}" for name in operation.names("query") if name in wanted)
        # Garbage; not in its shortest form; numbers that are none, negative, and past 64 bits.
        for cursor in (
            "%00",
            "!!!!",
            "é",
            "eA",
            "MQ==",
            "MDE",
            "LTE",
            "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5",
            "a" * 101,
        ):
            path = f"{operation.at(world)}?{needed}&cursor={cursor}"
            answer = refused(await caller.send("GET", path), operation)
            assert answer.json()["code"] in {"invalid_cursor", "invalid_request"}, (path, answer.text)


async def test_no_credential_but_a_key_of_ours_opens_anything(
    surface: list[Operation], world: World, admin: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin), await fingerprint()
    for operation in [each for each in surface if each.permission is not None]:
        for credential in CREDENTIALS:
            answer = await caller.send(operation.method, operation.at(world), headers={"Authorization": credential})
            assert refused(answer, operation).status_code == 401, (operation, credential)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert await fingerprint() == before


async def test_no_idempotency_key_but_a_short_and_plain_one_is_taken(
    surface: list[Operation], world: World, admin: Channel, fingerprint: Fingerprint
) -> None:
    before = await fingerprint()
    for operation in [each for each in surface if each.method == "POST" and "Idempotency-Key" in each.names("header")]:
        for key in ("", " ", "x" * 256, "caf\xe9", "a\tb", "\x7f"):
            answer = await Caller(admin).send(
                "POST", operation.at(world), content=b"", headers={"Idempotency-Key": key, "If-Match": '"0"'}
            )
            refused(answer, operation) if answer.status_code != 200 else None
            assert answer.status_code < 500
    assert await fingerprint() == before


async def test_no_version_but_the_current_one_lets_a_cart_be_edited(
    surface: list[Operation], shapes: Shapes, world: World, admin: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(admin), await fingerprint()
    bodies = {
        "POST": json.dumps({"sku": world["sku"]}),
        "PATCH": '{"quantity": 2}',
        "PUT": json.dumps({"method": "ship", "address": _address()}),
        "DELETE": "",
    }
    checkout = json.dumps({"email": "a@example.com", "tenders": [{"type": "card", "payment_method": "pm_ok"}]})
    code = json.dumps({"code": "WELCOME10"})
    for operation in [each for each in surface if "If-Match" in each.names("header") and "carts" in each.path]:
        for etag in ('"0"', "", "garbage", '"9999999999999999999999"', "'1'", '"1", "2"', "W/", '"-1"', "\xff"):
            path = operation.at(world)
            body = {"checkout": checkout, "promotions": code, "gift-cards": code}.get(path.rpartition("/")[2])
            answer = await caller.send(
                operation.method,
                path,
                content=body or bodies[operation.method],
                headers={"If-Match": etag},
            )
            assert (answer.status_code, answer.json()["code"]) == (412, "version_conflict"), (operation, etag)
    assert await fingerprint() == before


def _address() -> dict[str, str]:
    return {"name": "Ada", "line1": "1 Main St", "city": "Austin", "postal_code": "78701", "country": "US"}


async def test_no_cart_token_but_its_own_opens_a_cart(
    surface: list[Operation], world: World, app: Channel, fingerprint: Fingerprint
) -> None:
    caller, before = Caller(app), await fingerprint()
    opened = [
        each
        for each in surface
        if "{cart_id}" in each.path and each.permission and Permission(each.permission) in MAY[Role.STOREFRONT]
    ]
    assert len(opened) >= 6
    for operation in opened:
        for token in ("nothing", "\xff", world.token.upper(), world.token[:-1], "x" * 8_000, "%00"):
            answer = await caller.send(operation.method, operation.at(world), token=token)
            assert refused(answer, operation).status_code == 404, (operation, token)
        answer = await caller.send(operation.method, operation.at(world))
        assert refused(answer, operation).status_code == 404, operation
    assert await fingerprint() == before


async def test_what_is_no_address_of_ours_answers_as_anything_else(api: httpx.AsyncClient) -> None:
    for method, path, status in (
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/%ff", 404),
        ("GET", "/v1/carts/a%2Fb", 404),
        ("GET", "/v1/" + "x" * 5_000, 404),
        ("PUT", "/v1/carts", 405),
        ("TRACE", "/v1/carts", 405),
    ):
        answer = refused(await api.request(method, path))
        assert (answer.status_code, "request-id" in answer.headers) == (status, True), path


async def test_no_file_but_a_catalog_is_imported(world: World, admin: Channel, fingerprint: Fingerprint) -> None:
    caller, before = Caller(admin), await fingerprint()
    path = f"/v1/imports/products?currency=USD&location_id={world['location_id']}"
    for content in (b"", b"\x00", b"\xff\xfe", b"a,b\n1,2\n", b'"open', b"{}", b"x" * 200_000):
        answer = await caller.send("POST", path, content=content, headers={"Content-Type": "text/csv"})
        assert refused(answer).json()["code"] == "unreadable_file", content[:20]
    assert await fingerprint() == before


async def test_a_file_for_a_place_that_is_not_there_is_not_looked_at(admin: Channel) -> None:
    path = f"/v1/imports/products?currency=USD&location_id={ids.show('loc', ids.new())}"
    answer = await Caller(admin).send("POST", path, content=b"\x00", headers={"Content-Type": "text/csv"})
    assert refused(answer).status_code == 404
