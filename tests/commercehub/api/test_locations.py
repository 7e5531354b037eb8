"""Places are changed by administrators, and what is not named stays."""

import uuid
from typing import Any

import pytest

from tests.client import Channel

PLACE = {
    "name": "A Place",
    "kind": "store",
    "address": {"line1": "1 Main St", "city": "Austin", "country": "US"},
    "latitude": 30.0,
    "longitude": -97.0,
    "timezone": "America/Chicago",
    "capabilities": ["ship", "pickup"],
    "opening_hours": {"mon": [["09:00", "20:00"]]},
}


@pytest.fixture
async def place(admin: Channel) -> Any:
    """A place of the test's own."""
    return await admin.ok("POST", "/v1/locations", PLACE | {"code": f"T{uuid.uuid4().hex[:10]}"})


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Another Name"},
        {"capabilities": ["returns"]},
        {"pickup_window_days": 3},
        {"holidays": [{"date": "2026-12-25", "hours": []}]},
        {"opening_hours": {"sun": [["10:00", "12:00"]]}},
        {"address": {"line1": "2 Main St", "city": "Dallas", "country": "US"}},
    ],
)
async def test_what_is_named_changes_and_the_rest_stays(change: dict[str, Any], place: Any, admin: Channel) -> None:
    changed = await admin.ok("PATCH", f"/v1/locations/{place['id']}", change)
    name, wanted = next(iter(change.items()))
    assert {key: value for key, value in changed.items() if key != name} == {
        key: value for key, value in place.items() if key != name
    }
    found = changed[name]
    assert (wanted.items() <= found.items()) if isinstance(wanted, dict) else bool(found)
    assert changed == await admin.ok("GET", f"/v1/locations/{place['id']}")


async def test_a_till_does_not_change_its_place(place: Any, till: Channel) -> None:
    assert (await till.patch(f"/v1/locations/{place['id']}", {"name": "Mine"})).status_code == 403
