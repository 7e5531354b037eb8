"""A card number that somebody types where it does not belong is refused, and nowhere kept."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commercehub.api import card_numbers
from commercehub.database import Database
from commercehub.sales.barcodes import check_digit
from tests.client import SHIP_TO, Channel, Channels
from tests.commercehub.api.conftest import World
from tests.commercehub.api.surface import Operation, Shapes

# The processors' own numbers for tests.
CARDS = (
    "4242424242424242",
    "4000056655665556",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
    "30569309025904",
    "3566002020360505",
    "6200000000000005",
    "6304000000000000",
)
NUMBERED = {"sku", "skus", "barcode", "tracking_number"}


def _found(text: str, field: str = "note") -> bool:
    return card_numbers.find({field: text}) is not None


@pytest.mark.parametrize("number", CARDS)
def test_every_issuers_number_is_found(number: str) -> None:
    assert _found(number)
    assert _found(f"please charge {number} now")


@pytest.mark.parametrize(
    "written",
    [
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "4242.4242.4242.4242",
        "4242  4242  4242  4242",
        "4242\u00a04242\u00a04242\u00a04242",
        "4242\n4242\n4242\n4242",
        "4 2 4 2 4 2 4 2 4 2 4 2 4 2 4 2",
        "４２４２４２４２４２４２４２４２",
        "3782 822463 10005",
        "6304 0000 0000 0000 0 ok 4242424242424242",
        "my 2 cards: 1 4242 4242 4242 4242 12/29",
        "card4242424242424242cvc123",
    ],
)
def test_it_is_found_however_it_is_written(written: str) -> None:
    assert _found(written)


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424241",
        "9780553380958",
        "978-0-553-38095-8",
        "4006381333931",
        "04006381333931",
        "+49 151 23456789",
        "+1 (512) 555-0100",
        "1732492800000",
        "2026-11-24T23:39:49.703259Z",
        "sizes 36 37 38 39 40 41 42",
        "550e8400-e29b-41d4-a716-446655440000",
        "42424242424242424242424242",
        "pm_1PGsK42eZvKYlo2C",
        "",
    ],
)
def test_what_only_looks_like_one_from_afar_is_left_alone(text: str) -> None:
    assert not _found(text)


@given(st.integers(0, 10**12 - 1))
def test_no_barcode_is_taken_for_a_card(number: int) -> None:
    digits = f"{number:012}"
    assert not _found(digits + check_digit(digits))


@given(st.integers(10**5, 10**14 - 1))
def test_no_telephone_number_is_taken_for_a_card(number: int) -> None:
    assert not _found(f"+{number}", "phone")


def test_a_telephone_number_does_not_have_sixteen_digits() -> None:
    assert _found("4242 4242 4242 4242", "phone")


@pytest.mark.parametrize("field", sorted(NUMBERED))
def test_where_long_numbers_belong_they_are_let_in(field: str) -> None:
    assert not _found("4242424242424242", field)


def test_it_is_found_in_names_and_in_the_depth() -> None:
    assert card_numbers.find({"4242424242424242": 1}) is not None
    assert card_numbers.find({"lines": [{}, {"notes": ["a", "4242424242424242"]}]}) == "/lines/1/notes/1"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"note":"4242 4242 4242 4242"}',
        rb'{"note":"\u0034242424242424242"}',
        rb'{"note":"4242\t4242\t4242\t4242"}',
        '{"note":"４２"}'.encode(),
    ],
)
def test_a_body_that_may_hold_one_is_looked_at_closely(raw: bytes) -> None:
    assert card_numbers.may_hold_one(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"sku":"TEE-S","quantity":2}',
        b'{"amount":{"amount":1999,"currency":"USD"},"id":"loc_01m880bv4wfjsvfeaze1b8yawn"}',
    ],
)
def test_most_bodies_are_not_looked_at_twice(raw: bytes) -> None:
    assert not card_numbers.may_hold_one(raw)


@given(st.text(alphabet="42 -x", max_size=60))
def test_what_is_masked_holds_none(text: str) -> None:
    assert not _found(card_numbers.mask(text)) or "#" in card_numbers.mask(text)


async def test_it_is_refused_in_every_text_of_every_body(
    surface: list[Operation],
    shapes: Shapes,
    world: World,
    admin: Channel,
    shopper: Channel,
    database: Database,
    tables: list[str],
) -> None:
    tried = 0
    for operation in [each for each in surface if each.schema is not None]:
        whole = shapes.example(operation.schema or {})
        for body, field in _with_a_card(whole):
            caller = shopper if operation.path == "/v1/customers/me" else admin
            answer = await caller.send(operation.method, operation.at(world), json.loads(body))
            assert answer.status_code in {422, 409}, (operation, field, answer.text)
            if answer.status_code == 422:
                assert answer.json()["code"] == "secret_in_request", (operation, field)
                assert f"/{field}" in answer.json()["errors"][0]["pointer"], (operation, field)
            assert "4242424242" not in answer.text
            tried += 1
    assert tried > 50
    assert await _kept(database, tables) == []


def _with_a_card(whole: Any) -> list[tuple[str, str]]:
    """A body for each of its texts, with a card number there; long numbers have their place in some."""
    bodies = []
    text = json.dumps(whole)
    for pointer, field, _ in card_numbers.strings(whole):
        if pointer and field and field not in NUMBERED:
            copy = json.loads(text)
            *path, last = pointer.split("/")[1:]
            part = copy
            for step in path:
                part = part[int(step)] if isinstance(part, list) else part[step]
            part[int(last) if isinstance(part, list) else last] = "4242424242424242"
            bodies.append((json.dumps(copy), field))
    return bodies


async def _kept(database: Database, tables: list[str]) -> list[str]:
    async with database.connection() as db:
        return [
            name
            for name in tables
            if await db.fetchval(f"SELECT EXISTS (SELECT FROM {name} AS r WHERE r::text LIKE '%4242424242%')")
        ]


async def test_it_is_in_no_log(app: Channel, channels: Channels, logged: list[Mapping[str, Any]]) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    tender = {"type": "card", "payment_method": "4242424242424242"}
    refused = await app.check_out(cart, tender)
    assert (refused.status_code, refused.json()["code"]) == (422, "secret_in_request")
    address = {**SHIP_TO, "line2": "card 4242 4242 4242 4242"}
    await app.put(f"/v1/carts/{cart['id']}/delivery", {"method": "ship", "address": address}, token=cart["token"])
    await app.get("/v1/orders/4242424242424242")
    await app.get("/v1/4242-4242-4242-4242?q=4242424242424242")
    await app.get("/v1/orders?number=4242424242424242")
    assert len(logged) > 5
    assert "4242" not in str(logged)


async def test_an_isbn_and_a_telephone_number_are_let_in(app: Channel, admin: Channel, channels: Channels) -> None:
    text = "ISBN 978-0-553-38095-8, call +1 512 555 0100"
    variants = [{"sku": f"4242424242424242 {uuid.uuid4().hex}", "prices": []}]
    await admin.ok("POST", "/v1/products", {"title": text, "variants": variants, "description_html": text * 20})
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    tender = {"type": "card", "payment_method": "pm_ok"}
    bought = await app.check_out(cart, tender, more={"phone": "+49 1512 34567890"})
    assert bought.status_code == 201
