"""What can be had where, and which place has all of it at once."""

import itertools
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from commercehub.database import Database
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD, World


def _by_place(answer: Mapping[str, Any]) -> dict[str, int]:
    return {each["location_id"]: each["available"] for each in answer["data"][0]["locations"]}


async def test_what_can_be_sent_and_fetched_is_summed_over_the_places_that_do_it(
    app: Channel, channels: Channels
) -> None:
    sku = await channels.product({"DC1": 5, "S1": 3, "S2": 2})
    found = (await app.ok("GET", f"/v1/availability?sku={sku}"))["data"][0]
    # DC1 sends, the stores do both.
    assert (found["sku"], found["available_to_ship"], found["available_for_pickup"]) == (sku, 10, 5)
    assert len(found["locations"]) == 3


async def test_what_is_promised_cannot_be_had(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 3})
    await app.check_out(await app.cart({"sku": sku, "quantity": 2}, ship=True), CARD)
    assert (await app.ok("GET", f"/v1/availability?sku={sku}"))["data"][0]["available_to_ship"] == 1


async def test_safety_stock_is_held_back(app: Channel, channels: Channels, database: Database) -> None:
    sku = await channels.product({"DC1": 3})
    async with database.connection() as db:
        await db.execute("UPDATE inventory.positions SET safety_stock = 2 WHERE sku = $1", sku)
    assert (await app.ok("GET", f"/v1/availability?sku={sku}"))["data"][0]["available_to_ship"] == 1


@pytest.mark.parametrize("name", ["web", "app", "agent"])
async def test_a_publishable_key_does_not_see_what_is_on_hand(name: str, channels: Channels) -> None:
    sku = await channels.product({"DC1": 3})
    query = {"skus": [sku]}
    for found in (
        await channels[name].ok("GET", f"/v1/availability?sku={sku}"),
        await channels[name].ok("POST", "/v1/availability/query", query),
    ):
        assert [place.keys() for place in found["data"][0]["locations"]] == [{"location_id", "available"}]


@pytest.mark.parametrize("name", ["store", "call_center", "chat", "warehouse", "admin"])
async def test_a_secret_key_sees_what_is_on_hand_and_reserved(name: str, channels: Channels) -> None:
    sku = await channels.product({"DC1": 3})
    place = (await channels[name].ok("GET", f"/v1/availability?sku={sku}"))["data"][0]["locations"][0]
    assert (place["available"], place["on_hand"], place["reserved"]) == (3, 3, 0)


async def test_what_nobody_has_is_none(app: Channel) -> None:
    found = await app.ok("GET", "/v1/availability?sku=nobody+has+this")
    assert found["data"] == [
        {"sku": "nobody has this", "available_to_ship": 0, "available_for_pickup": 0, "locations": []}
    ]


async def test_five_hundred_skus_are_asked_for_at_once_and_answered_in_order(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 1})
    skus = [*(f"none-{n}" for n in range(499)), sku]
    found = await app.ok("POST", "/v1/availability/query", {"skus": skus})
    assert [each["sku"] for each in found["data"]] == skus
    assert [each["available_to_ship"] for each in found["data"]] == [0] * 499 + [1]
    answer = await app.post("/v1/availability/query", {"skus": [*skus, "one-more"]})
    assert answer.status_code == 400


async def test_some_places_alone_are_asked_for(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 5, "S1": 3, "S2": 2})
    here, there = await channels.location("S1"), await channels.location("DC1")
    assert _by_place(await app.ok("GET", f"/v1/availability?sku={sku}&location_id={here}")) == {here: 3}
    query = {"skus": [sku], "location_ids": [here, there]}
    assert _by_place(await app.ok("POST", "/v1/availability/query", query)) == {here: 3, there: 5}


async def test_a_place_that_cannot_be_is_not_found(app: Channel) -> None:
    for answer in (
        await app.get("/v1/availability?sku=A&location_id=DC1"),
        await app.post("/v1/availability/query", {"skus": ["A"], "location_ids": ["loc_1"]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_availability_without_a_sku_is_refused(app: Channel) -> None:
    assert (await app.get("/v1/availability")).status_code == 400


# --- places -----------------------------------------------------------------------------------------------------------

BUENOS_AIRES = (-34.6037, -58.3816)
_wests = itertools.count()
"""Places of different tests lie 300 km apart, so that none is near another's."""


@pytest.fixture
async def nearby(admin: Channel) -> list[str]:
    """Three new stores at 0, some 11 and some 111 km from a place of the test's own; the last does pickup."""
    west = -179 + 8 * next(_wests)
    stores = []
    for distance, capabilities in ((0.0, ["ship"]), (0.1, ["ship", "returns"]), (1.0, ["ship", "pickup"])):
        code = f"N-{uuid.uuid4().hex[:12]}"
        address = {"line1": "1 Main St", "city": "South", "country": "AQ"}
        body = {"code": code, "name": code, "kind": "store", "address": address, "latitude": -70 + distance}
        more = {"longitude": west, "timezone": "UTC", "capabilities": capabilities}
        stores.append(await admin.ok("POST", "/v1/locations", body | more))
    return [f"{stores[0]['latitude']},{west}", *(store["id"] for store in stores)]


async def _stock(admin: Channel, place: str, sku: str, quantity: int) -> None:
    await admin.ok("POST", "/v1/stock/receipts", {"location_id": place, "lines": [{"sku": sku, "quantity": quantity}]})


async def test_places_stand_by_distance(app: Channel, nearby: list[str]) -> None:
    near, *stores = nearby
    found = await app.ok("GET", f"/v1/locations?near={near}&radius_km=150")
    assert [place["id"] for place in found["data"]] == stores
    assert [round(place["distance_km"]) for place in found["data"]] == [0, 11, 111]
    assert "can_fulfill" not in found["data"][0]


async def test_a_radius_leaves_out_what_is_farther(app: Channel, nearby: list[str]) -> None:
    near, *stores = nearby
    found = await app.ok("GET", f"/v1/locations?near={near}&radius_km=100")
    assert [place["id"] for place in found["data"]] == stores[:2]


async def test_a_capability_leaves_out_who_has_it_not(app: Channel, nearby: list[str]) -> None:
    near, *stores = nearby
    found = await app.ok("GET", f"/v1/locations?near={near}&radius_km=150&capability=pickup")
    assert [place["id"] for place in found["data"]] == stores[2:]
    assert (await app.get("/v1/locations?capability=fly")).status_code == 400


async def test_a_place_can_fulfill_if_it_has_all_lines_at_once(
    app: Channel, admin: Channel, channels: Channels, nearby: list[str]
) -> None:
    near, *stores = nearby
    first, second = await channels.product(), await channels.product()
    for place, units in zip(stores, ((2, 1), (2, 0), (1, 5)), strict=True):
        for sku, quantity in zip((first, second), units, strict=True):
            if quantity:
                await _stock(admin, place, sku, quantity)
    found = await app.ok("GET", f"/v1/locations?near={near}&radius_km=150&sku={first}:2&sku={second}")
    assert [place["can_fulfill"] for place in found["data"]] == [True, False, False]


async def test_the_last_colon_splits_where_digits_follow(app: Channel, admin: Channel, nearby: list[str]) -> None:
    near, place, *_ = nearby
    mark = uuid.uuid4().hex[:10]
    for sku in (f"{mark}:B", f"{mark}:B:X"):
        await admin.ok("POST", "/v1/products", {"title": sku, "variants": [{"sku": sku, "prices": []}]})
        await _stock(admin, place, sku, 2)
    for wanted, can in ((f"{mark}:B:2", True), (f"{mark}:B:3", False), (f"{mark}:B:X", True), (f"{mark}:B:X:3", False)):
        found = await app.ok("GET", f"/v1/locations?near={near}&radius_km=1&sku={wanted}")
        assert found["data"][0]["can_fulfill"] is can, wanted


@pytest.mark.parametrize(
    "query",
    [
        "near=here",
        "near=1",
        "near=1,2,3",
        "near=91,0",
        "near=0,181",
        "near=nan,nan",
        "near=inf,0",
        "radius_km=5",
        "near=0,0&radius_km=0",
        "near=0,0&radius_km=nan",
        "near=0,0&radius_km=1e400",
        "sku=A:0",
        "sku=:2",
        "sku=A:99999999",
        "&".join(["sku=A"] * 21),
    ],
)
async def test_what_is_no_place_on_earth_or_no_quantity_is_refused(query: str, app: Channel) -> None:
    answer = await app.get(f"/v1/locations?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_a_place_is_shown_as_it_was_set_up(admin: Channel, app: Channel) -> None:
    body = {
        "code": f"P-{uuid.uuid4().hex[:12]}",
        "name": "Palermo",
        "kind": "store",
        "address": {"line1": "Thames 1", "city": "Buenos Aires", "country": "AR", "line2": None, "region": None},
        "latitude": BUENOS_AIRES[0],
        "longitude": BUENOS_AIRES[1],
        "timezone": "America/Argentina/Buenos_Aires",
        "capabilities": ["pickup", "till"],
        "opening_hours": {"mon": [["09:00", "13:00"], ["14:00", "24:00"]]},
        "holidays": [{"date": "2026-12-25", "hours": []}],
        "pickup_window_days": 3,
    }
    made = await admin.ok("POST", "/v1/locations", body)
    assert await app.ok("GET", f"/v1/locations/{made['id']}") == made
    kept = {name: value for name, value in made.items() if name in body}
    address = {"line1": "Thames 1", "city": "Buenos Aires", "country": "AR"}
    assert {**kept, "address": {k: v for k, v in made["address"].items() if v is not None}} == {
        **body,
        "address": address,
    }
    assert "distance_km" not in made


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "America"),
        ("timezone", ""),
        ("opening_hours", {"mon": [["25:00", "26:00"]]}),
        ("opening_hours", {"mon": [["09:00"]]}),
        ("opening_hours", {"monday": []}),
        ("holidays", [{"date": "2026-02-30"}]),
        ("holidays", [{"date": "25.12.2026"}]),
        ("capabilities", ["fly"]),
        ("code", "two words"),
        ("latitude", 90.1),
        ("pickup_window_days", 0),
    ],
)
async def test_a_place_that_could_not_be_is_not_set_up(field: str, value: object, admin: Channel) -> None:
    address = {"line1": "1 Main St", "city": "Austin", "country": "US"}
    body = {"code": "NEVER", "name": "x", "kind": "store", "address": address, "latitude": 0, "longitude": 0}
    answer = await admin.post("/v1/locations", {**body, "timezone": "UTC", "capabilities": [], field: value})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_a_code_is_one_places_whatever_its_case(admin: Channel) -> None:
    address = {"line1": "1 Main St", "city": "Austin", "country": "US"}
    body = {"code": "dc1", "name": "x", "kind": "store", "address": address, "latitude": 0, "longitude": 0}
    answer = await admin.post("/v1/locations", {**body, "timezone": "UTC", "capabilities": []})
    assert (answer.status_code, answer.json()["code"]) == (409, "code_taken")


# --- the ledger -------------------------------------------------------------------------------------------------------


async def test_every_change_of_stock_is_a_movement_with_its_cause(warehouse: Channel, channels: Channels) -> None:
    sku, place = await channels.product(), await channels.location("DC1")
    receipt = {"location_id": place, "lines": [{"sku": sku.lower(), "quantity": 5}], "reference": "delivery note 7"}
    received = await warehouse.ok("POST", "/v1/stock/receipts", receipt)
    version = received["data"][0].pop("version")
    assert received["data"] == [{"sku": sku, "location_id": place, "on_hand": 5, "reserved": 0, "available": 5}]
    assert version > 0
    adjusted = {"location_id": place, "lines": [{"sku": sku, "delta": -2, "reason": "damaged"}]}
    await warehouse.ok("POST", "/v1/stock/adjustments", adjusted)
    told = (await warehouse.ok("GET", f"/v1/stock/movements?sku={sku}&location_id={place}"))["data"]
    assert [(each["delta"], each["kind"], each["reason"], each["balance"]) for each in told] == [
        (-2, "adjustment", "damaged", 3),
        (5, "receipt", None, 5),
    ]
    assert (told[1]["reference"], told[1]["channel"], told[1]["bucket"]) == (
        "delivery note 7",
        "back_office",
        "on_hand",
    )
    assert told[1].keys() == {
        *("id", "sku", "location_id", "delta", "bucket", "kind", "reason", "reference", "actor", "channel", "balance"),
        *("occurred_at", "recorded_at"),
    }


async def test_stock_does_not_fall_below_what_is_promised(app: Channel, warehouse: Channel, channels: Channels) -> None:
    sku, place = await channels.product({"DC1": 3}), await channels.location("DC1")
    await app.check_out(await app.cart({"sku": sku, "quantity": 2}, ship=True), CARD)
    body = {"location_id": place, "lines": [{"sku": sku, "delta": -2, "reason": "lost"}]}
    answer = await warehouse.post("/v1/stock/adjustments", body)
    assert (answer.status_code, answer.json()["code"], answer.json()["sku"]) == (409, "insufficient_stock", sku)
    assert await channels.level(sku, "DC1") == (3, 2)


@pytest.mark.parametrize("line", [{"delta": 0, "reason": "found"}, {"delta": 1, "reason": "magic"}, {"delta": 1}])
async def test_a_correction_changes_something_for_a_reason(
    line: Mapping[str, Any], warehouse: Channel, world: World
) -> None:
    body = {"location_id": world["location_id"], "lines": [{"sku": world["sku"], **line}]}
    assert (await warehouse.post("/v1/stock/adjustments", body)).status_code == 400


async def test_what_nobody_sells_is_not_received(warehouse: Channel, world: World) -> None:
    body = {"location_id": world["location_id"], "lines": [{"sku": "nothing", "quantity": 1}]}
    answer = await warehouse.post("/v1/stock/receipts", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_variant")
    assert answer.json()["errors"][0]["pointer"] == "/lines/0/sku"


async def test_a_sku_is_found_whatever_its_case_as_a_cart_finds_it(app: Channel, channels: Channels) -> None:
    sku, place = await channels.product({"DC1": 5, "S1": 3}), await channels.location("S1")
    low = sku.lower()
    assert low != sku
    for found in (
        await app.ok("GET", f"/v1/availability?sku={low}"),
        await app.ok("GET", f"/v1/availability?sku={low}&sku={sku}"),
        await app.ok("POST", "/v1/availability/query", {"skus": [low]}),
    ):
        assert [(each["sku"], each["available_to_ship"]) for each in found["data"]] == [(sku, 8)]
    assert _by_place(await app.ok("GET", f"/v1/availability?sku={low}&location_id={place}")) == {place: 3}


async def test_places_near_hold_a_sku_however_it_is_spelled(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"S1": 3})
    for spelling in (sku, sku.lower()):
        found = await app.ok("GET", f"/v1/locations?sku={spelling}:3")
        assert {place["code"] for place in found["data"] if place["can_fulfill"]} == {"S1"}
