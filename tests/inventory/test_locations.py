"""Places: their codes, how far they are, and what they could fulfil at once."""

from datetime import datetime, timedelta

import pytest
from asyncpg import Connection

import inventory
from commercehub import ids
from inventory import LocationCodeTaken, LocationNotFound, Nearby
from tests.inventory.shelf import Shelf, build_location, new_sku

# In the middle of the South Pacific, where no other test has a shop.
HERE = (-48.88, -123.39)
NORTH_OF_HERE = {"latitude": -47.88, "longitude": -123.39}


@pytest.fixture
async def here(db: Connection, now: datetime) -> Shelf:
    location_id = await build_location(
        db, now=now, latitude=HERE[0], longitude=HERE[1], capabilities=("ship",), code="Here"
    )
    return Shelf(db, location_id, now)


@pytest.fixture
async def north(db: Connection, now: datetime) -> Shelf:
    return Shelf(db, await build_location(db, now=now, **NORTH_OF_HERE, capabilities=("pickup", "returns")), now)


async def _search(shelf: Shelf, *wanted: tuple[str, int], **options: object) -> list[Nearby]:
    asked = {"near": HERE, "radius_km": 200.0, "capability": None, **options}
    return await inventory.search_locations(shelf.db, wanted=wanted, **asked)  # type: ignore[arg-type]


async def test_a_location_is_read_back_as_it_was_made(db: Connection, now: datetime) -> None:
    place = inventory.Location(
        id=ids.new(),
        code="Café-1",
        name="Café",
        kind="store",
        address={"line1": "1 Main St", "city": "Austin"},
        latitude=30.25,
        longitude=-97.75,
        timezone="America/Chicago",
        capabilities=("pickup", "till"),
        opening_hours={"mon": [["09:00", "20:00"]]},
        holidays=[{"date": "2026-12-25", "hours": []}],
        pickup_window_days=3,
    )
    await inventory.create_location(db, place, now=now)
    assert await inventory.read_location(db, location_id=place.id) == place
    assert await inventory.find_by_code(db, code="CAFÉ-1") == place


async def test_a_code_is_taken_once_whatever_its_case(here: Shelf, now: datetime) -> None:
    with pytest.raises(LocationCodeTaken) as refused:
        await build_location(here.db, now=now, code="HERE")
    assert refused.value.code == "HERE"


async def test_a_location_that_is_not_there_is_not_found(db: Connection) -> None:
    with pytest.raises(LocationNotFound):
        await inventory.read_location(db, location_id=ids.new())
    assert await inventory.find_by_code(db, code=ids.new().hex) is None


async def test_the_nearest_place_comes_first(here: Shelf, north: Shelf) -> None:
    found = await _search(here)
    assert [each.location.id for each in found] == [here.location_id, north.location_id]


async def test_a_degree_of_latitude_is_111_km(here: Shelf, north: Shelf) -> None:
    assert [round(each.distance_km or 0, 1) for each in await _search(here)] == [0.0, 111.2]


async def test_the_other_side_of_the_earth_is_20015_km_away(here: Shelf) -> None:
    found = await _search(here, near=(-HERE[0], HERE[1] + 180), radius_km=20_100.0)
    assert round(next(each.distance_km or 0 for each in found if each.location.id == here.location_id)) == 20_015


async def test_distance_is_measured_across_the_date_line(db: Connection, now: datetime) -> None:
    fiji = Shelf(db, await build_location(db, now=now, latitude=0.0, longitude=179.9), now)
    found = await _search(fiji, near=(0.0, -179.9), radius_km=50.0)
    assert [round(each.distance_km or 0, 1) for each in found] == [22.2]


async def test_what_is_outside_the_radius_is_left_out(here: Shelf, north: Shelf) -> None:
    assert [each.location.id for each in await _search(here, radius_km=111.0)] == [here.location_id]


async def test_a_capability_is_asked_for_by_name(here: Shelf, north: Shelf) -> None:
    assert [each.location.id for each in await _search(here, capability="returns")] == [north.location_id]
    assert await _search(here, capability="till") == []


async def test_without_a_point_places_have_no_distance_and_stand_by_their_codes(here: Shelf, north: Shelf) -> None:
    found = await _search(here, near=None, radius_km=None)
    assert {each.distance_km for each in found} == {None}
    codes = [each.location.code.lower() for each in found]
    assert codes == sorted(codes)


async def test_whether_a_place_can_fulfil_is_not_said_unless_asked(here: Shelf) -> None:
    assert [each.can_fulfill for each in await _search(here)] == [None]


async def test_a_place_can_fulfil_what_it_holds_all_of(here: Shelf, north: Shelf) -> None:
    cup, pot = await here.stock(2), await here.stock(1)
    await inventory.move_stock(here.db, [north.move(cup, 2)], now=here.now)
    found = await _search(here, (cup, 2), (pot, 1))
    assert [each.can_fulfill for each in found] == [True, False]


async def test_a_place_cannot_fulfil_more_than_it_holds(here: Shelf) -> None:
    sku = await here.stock(2)
    assert [each.can_fulfill for each in await _search(here, (sku, 3))] == [False]
    assert [each.can_fulfill for each in await _search(here, (new_sku(), 1))] == [False]


async def test_the_same_sku_wanted_twice_is_wanted_of_the_same_units(here: Shelf) -> None:
    sku = await here.stock(4)
    assert [each.can_fulfill for each in await _search(here, (sku, 2), (sku, 2))] == [True]
    assert [each.can_fulfill for each in await _search(here, (sku, 2), (sku, 3))] == [False]


async def test_safety_stock_and_promises_are_not_to_be_had(here: Shelf) -> None:
    sku = await here.stock(5, safety_stock=2)
    await here.reserve(sku, 1)
    assert [each.can_fulfill for each in await _search(here, (sku, 2))] == [True]
    assert [each.can_fulfill for each in await _search(here, (sku, 3))] == [False]


async def test_a_backorder_limit_is_to_be_had(here: Shelf) -> None:
    sku = await here.stock(0, backorder_limit=3)
    assert [each.can_fulfill for each in await _search(here, (sku, 3))] == [True]


async def test_what_an_expired_hold_kept_is_to_be_had(here: Shelf) -> None:
    sku = await here.stock(2)
    await here.reserve(sku, 2, expires_in=timedelta(hours=1))
    assert [each.can_fulfill for each in await _search(here, (sku, 2))] == [False]
    found = await _search(here, (sku, 2), clock_offset=timedelta(hours=1))
    assert [each.can_fulfill for each in found] == [True]
