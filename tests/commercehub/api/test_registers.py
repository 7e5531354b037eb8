"""Tills: registers, and their drawers from the float to the count."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from tests.client import Channel, Channels


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def _usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


async def _sell(till: Channel, channels: Channels, register: str, price: int, *tenders: Any) -> Any:
    cart = await till.cart({"sku": await channels.product({"S1": 1}, price=price, tax_class="books")})
    answer = await till.check_out(cart, *tenders, more={"register_id": register})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_days_takings_are_told_by_tender_and_counted(
    till: Channel, channels: Channels, run_jobs: Callable[[], Awaitable[None]]
) -> None:
    register = await channels.drawer("S1", opening_float=10_000)
    path = f"/v1/registers/{register}/sessions/current"
    sold = await _sell(till, channels, register, 1_799, {"type": "cash", "tendered": _usd(2_000)})
    assert sold["change"] == _usd(201)
    await _sell(till, channels, register, 500, {"type": "card", "payment_method": "pm_ok"})
    # A card is charged by a job, once the goods have left.
    await run_jobs()
    report = await till.ok("GET", path)
    assert (report["state"], report["opening_float"], report["sales"], report["sales_count"]) == (
        "open",
        _usd(10_000),
        _usd(2_299),
        2,
    )
    assert [(each["type"], each["expected"]) for each in report["tenders"]] == [
        ("cash", _usd(11_799)),
        ("card", _usd(500)),
    ]
    assert (report["returns"], report["cash_in"], report["cash_out"]) == (_usd(0), _usd(0), _usd(0))
    closed = await till.ok("POST", f"{path}/close", {"counted": _usd(11_800)})
    assert (closed["state"], closed["tenders"][0]["counted"], closed["tenders"][0]["over_short"]) == (
        "closed",
        _usd(11_800),
        _usd(1),
    )
    assert _code(await till.get(path)) == (409, "no_open_session")


async def test_too_little_in_the_drawer_is_short(till: Channel, drawer: str) -> None:
    closed = await till.ok("POST", f"/v1/registers/{drawer}/sessions/current/close", {"counted": _usd(0)})
    assert closed["tenders"][0]["over_short"] == _usd(0)
    await till.ok("POST", f"/v1/registers/{drawer}/sessions", {"opening_float": _usd(500)})
    closed = await till.ok("POST", f"/v1/registers/{drawer}/sessions/current/close", {"counted": _usd(300)})
    assert closed["tenders"][0]["over_short"] == _usd(-200)


async def test_a_drawer_is_opened_once(till: Channel, drawer: str) -> None:
    answer = await till.post(f"/v1/registers/{drawer}/sessions", {"opening_float": _usd(0)})
    assert _code(answer) == (409, "session_already_open")


@pytest.mark.parametrize("money", [{"amount": -1, "currency": "USD"}, {"amount": 1, "currency": "EUR"}, 100])
async def test_a_drawer_is_opened_and_counted_in_its_own_money(money: Any, till: Channel, drawer: str) -> None:
    path = f"/v1/registers/{drawer}/sessions"
    assert _code(await till.post(f"{path}/current/close", {"counted": money})) == (400, "invalid_request")
    await till.ok("POST", f"{path}/current/close", {"counted": _usd(0)})
    assert _code(await till.post(path, {"opening_float": money})) == (400, "invalid_request")


async def test_a_till_that_is_not_there_is_not_found(till: Channel) -> None:
    register = ids.show("reg", ids.new())
    for method, below in (("GET", "sessions/current"), ("POST", "sessions"), ("POST", "sessions/current/close")):
        answer = await till.send(method, f"/v1/registers/{register}/{below}", {"opening_float": _usd(0)})
        assert _code(answer) == (404, "not_found"), below


async def test_a_tills_name_is_its_own_at_its_place(admin: Channel, channels: Channels) -> None:
    here, there, name = await channels.location("S1"), await channels.location("S2"), f"Till {ids.new()}"
    made = await admin.ok("POST", "/v1/registers", {"location_id": here, "name": name})
    assert (made["location_id"], made["name"]) == (here, name)
    assert _code(await admin.post("/v1/registers", {"location_id": here, "name": name})) == (409, "name_taken")
    await admin.ok("POST", "/v1/registers", {"location_id": there, "name": name})


async def test_a_till_stands_at_a_place_that_is_there(admin: Channel) -> None:
    for place in (ids.show("loc", ids.new()), "S1"):
        assert _code(await admin.post("/v1/registers", {"location_id": place, "name": "x"})) == (404, "not_found")


async def test_of_several_open_drawers_one_has_to_be_named(till: Channel, channels: Channels, drawer: str) -> None:
    await channels.drawer()
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    assert _code(await till.check_out(cart, {"type": "cash"})) == (422, "register_required")
    assert (await till.check_out(cart, {"type": "cash"}, more={"register_id": drawer})).status_code == 201


async def test_a_drawer_that_is_not_there_takes_no_cash(till: Channel, channels: Channels) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    for register in (ids.show("reg", ids.new()), "reg_1"):
        answer = await till.check_out(cart, {"type": "cash"}, more={"register_id": register})
        assert answer.status_code in {404, 409}, answer.text


async def test_a_till_is_renamed_and_keeps_its_drawer(admin: Channel, till: Channel, drawer: str) -> None:
    renamed = await admin.ok("PATCH", f"/v1/registers/{drawer}", {"name": f"By the door {drawer}"})
    assert (renamed["id"], renamed["name"]) == (drawer, f"By the door {drawer}")
    await till.ok("GET", f"/v1/registers/{drawer}/sessions/current")
    assert (await till.patch(f"/v1/registers/{drawer}", {"name": "Mine"})).status_code == 403
