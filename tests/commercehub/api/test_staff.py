"""Staff works by role, at its own places, and is gone within seconds; whatever it changes leaves a row."""

import asyncio
import uuid
from typing import Any

import pytest

from commercehub import auth, ids
from commercehub.seed import planting
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.conftest import SECRET

PASSWORD = "correct horse battery"


def _code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def _hire(channels: Channels, role: str, *codes: str, pin: str | None = None, by: Channel | None = None) -> Any:
    body = {
        "login": f"{role}-{uuid.uuid4().hex[:12]}",
        "name": "Somebody",
        "role": role,
        "password": PASSWORD,
        "location_ids": [await channels.location(code) for code in codes],
    } | ({"pin": pin} if pin else {})
    return await (by or channels["admin"]).ok("POST", "/v1/staff", body)


async def _start(through: Channel, login: str, **more: Any) -> Any:
    secret = {} if "pin" in more else {"password": PASSWORD}
    return await through.post("/v1/staff/sessions", {"login": login, **secret, **more}, key="")


async def _shift(channels: Channels, role: str, *codes: str, through: str = "store") -> Channel:
    person = await _hire(channels, role, *codes)
    return Channel(channels.http, (await _start(channels[through], person["login"])).json()["access_token"])


# --- shifts -----------------------------------------------------------------------------------------------------------


async def test_a_shift_at_a_till_works_in_its_channel_at_its_place(channels: Channels, hub: Hub) -> None:
    person = await _hire(channels, "cashier", "S1", "S2")
    shift = (await _start(channels["store"], person["login"])).json()
    principal = await auth.Keyring(hub.database).verify(shift["access_token"])
    assert principal is not None
    assert shift["location_id"] == await channels.location("S1")
    assert (principal.kind, principal.role, principal.sales_channel.kind) == ("staff", "cashier", "store")
    assert ids.show("loc", principal.location_id or ids.new()) == shift["location_id"]
    assert principal.as_actor().name == person["id"]


async def test_a_sale_by_a_shift_is_told_as_that_persons(channels: Channels, drawer: str) -> None:
    cashier = await _shift(channels, "cashier", "S1")
    cart = await cashier.cart({"sku": await channels.product({"S1": 1})})
    order = (await cashier.check_out(cart, {"type": "cash"}, more={"register_id": drawer})).json()
    timeline = await cashier.ok("GET", f"/v1/orders/{order['id']}/timeline")
    assert timeline["data"][0]["actor"].startswith("staff_")
    assert order["channel"] == "store"


async def test_a_pin_works_at_a_till_and_nowhere_else(channels: Channels) -> None:
    person = await _hire(channels, "cashier", "S1", pin="4711")
    assert (await _start(channels["store"], person["login"], pin="4711")).status_code == 201
    assert _code(await _start(channels["store"], person["login"], pin="4712")) == (401, "invalid_credentials")
    assert _code(await _start(channels["call_center"], person["login"], pin="4711")) == (400, "invalid_request")


async def test_nobody_begins_a_shift_at_a_place_they_do_not_work_at(channels: Channels) -> None:
    person = await _hire(channels, "cashier", "S2")
    assert _code(await _start(channels["store"], person["login"])) == (403, "wrong_location")


async def test_who_works_at_two_places_says_which(channels: Channels) -> None:
    person = await _hire(channels, "picker", "S1", "DC1")
    assert _code(await _start(channels["warehouse"], person["login"])) == (403, "wrong_location")
    place = await channels.location("DC1")
    shift = await _start(channels["warehouse"], person["login"], location_id=place)
    assert shift.json()["location_id"] == place


async def test_a_storefront_signs_no_staff_in(app: Channel, channels: Channels) -> None:
    person = await _hire(channels, "support")
    assert _code(await _start(app, person["login"])) == (403, "forbidden")


async def test_ten_wrong_secrets_close_a_login_known_or_not(channels: Channels) -> None:
    for login in ((await _hire(channels, "cashier", "S1"))["login"], f"nobody-{uuid.uuid4().hex}"):
        answers = [await _start(channels["store"], login, pin="0000") for _ in range(11)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429]


async def test_a_shift_ends_when_it_is_ended(channels: Channels, hub: Hub) -> None:
    cashier = await _shift(channels, "cashier", "S1")
    await cashier.ok("DELETE", "/v1/staff/sessions/current")
    assert await auth.Keyring(hub.database).verify(cashier.key) is None


@pytest.mark.parametrize("role", ["cashier", "manager", "picker", "support"])
async def test_the_demo_has_one_of_each_role(role: str, channels: Channels) -> None:
    login = planting.demo_login(SECRET, role)
    shift = await channels["admin"].post(
        "/v1/staff/sessions",
        {"login": login["login"], "password": login["password"], "location_id": await channels.location("S1")},
        key="",
    )
    assert (shift.status_code, shift.json()["staff"]["role"]) == (201, role)


# --- administration ---------------------------------------------------------------------------------------------------


async def test_who_leaves_is_out_at_once(channels: Channels, hub: Hub) -> None:
    person = await _hire(channels, "cashier", "S1")
    token = (await _start(channels["store"], person["login"])).json()["access_token"]
    await channels["admin"].ok("DELETE", f"/v1/staff/{person['id']}")
    assert await auth.Keyring(hub.database).verify(token) is None
    assert _code(await _start(channels["store"], person["login"])) == (401, "invalid_credentials")
    assert _code(await channels["admin"].delete(f"/v1/staff/{person['id']}")) == (404, "not_found")


async def test_a_place_that_is_taken_away_ends_the_shift_there(channels: Channels, hub: Hub) -> None:
    person = await _hire(channels, "cashier", "S1")
    token = (await _start(channels["store"], person["login"])).json()["access_token"]
    change = {"location_ids": [await channels.location("S2")]}
    await channels["admin"].ok("PATCH", f"/v1/staff/{person['id']}", change)
    assert await auth.Keyring(hub.database).verify(token) is None


async def test_a_new_password_ends_the_shifts_that_are_on(channels: Channels, hub: Hub) -> None:
    person = await _hire(channels, "cashier", "S1")
    token = (await _start(channels["store"], person["login"])).json()["access_token"]
    await channels["admin"].ok("PATCH", f"/v1/staff/{person['id']}", {"password": "another good one"})
    assert await auth.Keyring(hub.database).verify(token) is None


async def test_logins_are_unique_ignoring_case(channels: Channels) -> None:
    person = await _hire(channels, "support")
    body = {"login": person["login"].upper(), "name": "X", "role": "support", "password": PASSWORD}
    assert _code(await channels["admin"].post("/v1/staff", body)) == (409, "login_taken")


async def test_a_cashier_works_somewhere(channels: Channels) -> None:
    body = {"login": f"c-{uuid.uuid4().hex}", "name": "X", "role": "cashier", "password": PASSWORD}
    answer = await channels["admin"].post("/v1/staff", body)
    assert (_code(answer), answer.json()["errors"][0]["pointer"]) == ((400, "invalid_request"), "/location_ids")


async def test_a_manager_has_a_say_over_cashiers_and_pickers_at_the_managers_own_place(channels: Channels) -> None:
    manager = await _shift(channels, "manager", "S1")
    mine = await _hire(channels, "cashier", "S1", by=manager)
    await manager.ok("PATCH", f"/v1/staff/{mine['id']}", {"name": "Another Name"})
    elsewhere = await _hire(channels, "cashier", "S2")
    assert _code(await manager.get(f"/v1/staff/{elsewhere['id']}")) == (404, "not_found")
    assert _code(await manager.delete(f"/v1/staff/{elsewhere['id']}")) == (404, "not_found")
    for change in ({"role": "manager"}, {"role": "admin"}, {"location_ids": [await channels.location("S2")]}):
        assert _code(await manager.patch(f"/v1/staff/{mine['id']}", change)) == (403, "forbidden"), change
    other_manager = await _hire(channels, "manager", "S1")
    assert _code(await manager.delete(f"/v1/staff/{other_manager['id']}")) == (403, "forbidden")
    seen = (await manager.ok("GET", "/v1/staff?limit=200"))["data"]
    place = await channels.location("S1")
    assert all(place in each["location_ids"] for each in seen)


@pytest.mark.parametrize("role", ["manager", "support"])
async def test_a_manager_takes_nobody_over_by_demoting_them_first(role: str, channels: Channels) -> None:
    manager = await _shift(channels, "manager", "S1")
    above = await _hire(channels, role, "S1")
    for change in ({"role": "picker", "password": "taken over"}, {"name": "Mine"}):
        assert _code(await manager.patch(f"/v1/staff/{above['id']}", change)) == (403, "forbidden")
    assert (await _start(channels["store"], above["login"])).status_code == 201


async def test_a_manager_takes_nobody_away_from_another_place(channels: Channels) -> None:
    manager = await _shift(channels, "manager", "S1")
    shared = await _hire(channels, "cashier", "S1", "S2")
    change = {"location_ids": [await channels.location("S1")]}
    assert _code(await manager.patch(f"/v1/staff/{shared['id']}", change)) == (403, "forbidden")


async def test_two_changes_at_once_both_hold(channels: Channels) -> None:
    person = await _hire(channels, "manager", "S1")
    path = f"/v1/staff/{person['id']}"
    changes: tuple[dict[str, str], ...] = ({"password": "another good one"}, {"role": "cashier"}, {"name": "New Name"})
    answers = await asyncio.gather(*(channels["admin"].patch(path, change) for change in changes))
    assert {answer.status_code for answer in answers} == {200}
    found = await channels["admin"].ok("GET", path)
    assert (found["role"], found["name"]) == ("cashier", "New Name")
    signed_in = await channels["store"].post(
        "/v1/staff/sessions", {"login": person["login"], "password": "another good one"}, key=""
    )
    assert signed_in.status_code == 201


async def test_an_admin_works_everywhere(channels: Channels) -> None:
    body = {"login": f"a-{uuid.uuid4().hex}", "name": "X", "role": "admin", "password": PASSWORD}
    here = {"location_ids": [await channels.location("S1")]}
    assert _code(await channels["admin"].post("/v1/staff", body | here)) == (400, "invalid_request")
    await channels["admin"].ok("POST", "/v1/staff", body)


async def test_a_shift_ends_with_the_key_that_it_was_begun_on(channels: Channels, hub: Hub) -> None:
    place = await channels.location("S1")
    key = await channels["admin"].ok("POST", "/v1/api-keys", {"channel": "store", "role": "till", "location_id": place})
    person = await _hire(channels, "cashier", "S1")
    shift = (await _start(Channel(channels.http, key["secret"]), person["login"])).json()["access_token"]
    await channels["admin"].ok("DELETE", f"/v1/api-keys/{key['id']}")
    assert await auth.Keyring(hub.database).verify(shift) is None


# --- devices ----------------------------------------------------------------------------------------------------------


async def _pair(channels: Channels, role: str = "till") -> tuple[Any, Channel]:
    body = {"name": "Till 9", "location_id": await channels.location("S1"), "role": role}
    device = await channels["admin"].ok("POST", "/v1/devices", body)
    paired = await channels.http.post("/v1/devices/pair", json={"code": device["pairing_code"].lower()})
    assert paired.status_code == 201, paired.text
    return device, Channel(channels.http, paired.json()["access_token"])


async def test_a_paired_device_sells_at_its_place(channels: Channels, drawer: str) -> None:
    _, device = await _pair(channels)
    cart = await device.cart({"sku": await channels.product({"S1": 1})})
    order = (await device.check_out(cart, {"type": "cash"}, more={"register_id": drawer})).json()
    assert (order["channel"], order["location_id"]) == ("store", await channels.location("S1"))


async def test_a_pairing_code_works_once(channels: Channels) -> None:
    body = {"name": "Till 9", "location_id": await channels.location("S1")}
    code = (await channels["admin"].ok("POST", "/v1/devices", body))["pairing_code"]
    answers = [await channels.http.post("/v1/devices/pair", json={"code": code}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 404]


async def test_a_retired_device_is_out(channels: Channels, hub: Hub) -> None:
    made, device = await _pair(channels, "fulfillment")
    await channels["admin"].ok("DELETE", f"/v1/devices/{made['id']}")
    assert await auth.Keyring(hub.database).verify(device.key) is None


async def test_a_shift_ends_with_the_device_that_it_was_begun_on(channels: Channels, hub: Hub) -> None:
    made, device = await _pair(channels)
    person = await _hire(channels, "cashier", "S1")
    shift = (await _start(device, person["login"])).json()["access_token"]
    await channels["admin"].ok("DELETE", f"/v1/devices/{made['id']}")
    assert await auth.Keyring(hub.database).verify(shift) is None


async def test_a_person_signs_in_on_a_paired_device_by_pin(channels: Channels) -> None:
    _, device = await _pair(channels)
    person = await _hire(channels, "cashier", "S1", pin="4711")
    assert (await _start(device, person["login"], pin="4711")).json()["location_id"] == await channels.location("S1")


async def test_a_pairing_code_is_shown_once(channels: Channels) -> None:
    body, key = {"name": "Till 9", "location_id": await channels.location("S1")}, str(uuid.uuid4())
    await channels["admin"].ok("POST", "/v1/devices", body, key=key)
    assert _code(await channels["admin"].post("/v1/devices", body, key=key)) == (409, "secret_already_shown")


# --- the audit log ----------------------------------------------------------------------------------------------------


async def _rows(channels: Channels, subject: str) -> list[Any]:
    return list((await channels["admin"].ok("GET", f"/v1/audit?subject={subject}"))["data"])


async def test_a_change_by_staff_leaves_who_what_and_why(channels: Channels) -> None:
    manager = await _shift(channels, "manager", "S1")
    hired = await _hire(channels, "cashier", "S1", by=manager)
    row = (await _rows(channels, hired["id"]))[0]
    assert row["actor"].startswith("staff_")
    assert (row["action"], row["changes"]["role"]) == ("POST /v1/staff", "cashier")
    assert PASSWORD not in str(row)


async def test_a_change_that_is_refused_leaves_no_row(channels: Channels) -> None:
    hired = await _hire(channels, "cashier", "S1")
    before = await _rows(channels, hired["id"])
    assert (await channels["admin"].patch(f"/v1/staff/{hired['id']}", {"location_ids": []})).status_code == 400
    assert await _rows(channels, hired["id"]) == before


async def test_stock_places_registers_and_keys_leave_rows_too(channels: Channels) -> None:
    admin = channels["admin"]
    place = await channels.location("S1")
    body = {"location_id": place, "name": f"Till {uuid.uuid4().hex[:8]}"}
    register = await admin.ok("POST", "/v1/registers", body)
    key = await admin.ok("POST", "/v1/api-keys", {"channel": "web", "role": "storefront"})
    await admin.ok("DELETE", f"/v1/api-keys/{key['id']}")
    assert [row["action"] for row in await _rows(channels, register["id"])] == ["POST /v1/registers"]
    assert [row["action"] for row in await _rows(channels, key["id"])] == [
        "DELETE /v1/api-keys/{key_id}",
        "POST /v1/api-keys",
    ]


async def test_what_customers_and_tills_do_is_on_timelines_and_not_in_the_log(channels: Channels, app: Channel) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    assert await _rows(channels, cart["id"]) == []


async def test_a_manager_reads_what_was_changed_at_the_managers_own_place(channels: Channels) -> None:
    manager = await _shift(channels, "manager", "S1")
    await _hire(channels, "cashier", "S1", by=manager)
    seen = (await manager.ok("GET", "/v1/audit"))["data"]
    assert seen
    assert {row["location_id"] for row in seen} == {await channels.location("S1")}
