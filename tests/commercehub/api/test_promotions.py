"""Codes that take a part of the price off: entered in any case, split over the lines, kept on the order."""

import uuid
from typing import Any

import httpx
import pytest

from commercehub.database import Database
from commercehub.sales import promotions
from tests.client import Channel, Channels

CARD = {"type": "card", "payment_method": "pm_ok"}
END = "UPDATE commercehub.promotions SET ended_at = now() WHERE code = $1"


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def _enter(app: Channel, cart: Any, code: str) -> httpx.Response:
    return await app.post(f"/v1/carts/{cart['id']}/promotions", {"code": code}, token=cart["token"])


async def _promotion(database: Database, percent: int) -> str:
    code = f"P{uuid.uuid4().hex[:12].upper()}"

    async def work(db: Any, now: Any) -> None:
        await promotions.create_promotion(db, code=code, percent_off_ppm=percent * 10_000, now=now)

    await database.transaction(work)
    return code


def _applied(cart: Any) -> list[tuple[str, int]]:
    return [(each["code"], each["discount"]["amount"]) for each in cart["promotions"]]


async def test_ten_percent_are_taken_off_before_tax_and_split_over_the_lines(app: Channel, channels: Channels) -> None:
    lines = [{"sku": await channels.product({"DC1": 9}, price=price)} for price in (333, 333, 333)]
    cart = await app.cart(*lines, ship=True)
    reduced = (await _enter(app, cart, "welcome10")).json()
    assert _applied(reduced) == [("WELCOME10", 100)]
    assert [line["discount"]["amount"] for line in reduced["lines"]] == [34, 33, 33]
    assert [line["total"]["amount"] for line in reduced["lines"]] == [299, 300, 300]
    assert reduced["tax_total"]["amount"] == sum(line["tax"]["amount"] for line in reduced["lines"]) == 25 + 25 + 25
    total = 999 - 100 + cart["delivery_total"]["amount"] + 75
    assert (reduced["discount_total"]["amount"], reduced["total"]["amount"]) == (100, total)
    assert reduced["version"] == cart["version"] + 1


async def test_the_order_keeps_what_was_taken_off(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 9}, price=999)}, ship=True)
    reduced = (await _enter(app, cart, "WELCOME10")).json()
    order = (await app.check_out(cart, CARD)).json()
    read = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    for page in (order, read):
        assert _applied(page) == [("WELCOME10", 100)]
        assert (page["discount_total"], page["total"]) == (reduced["discount_total"], reduced["total"])
        assert page["lines"][0]["discount"]["amount"] == 100


async def test_a_code_counts_once_and_can_be_taken_out(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product(price=1000)})
    await _enter(app, cart, "WELCOME10")
    assert _applied((await _enter(app, cart, "Welcome10")).json()) == [("WELCOME10", 100)]
    path = f"/v1/carts/{cart['id']}/promotions"
    assert _applied(await app.ok("DELETE", f"{path}/welcome10", token=cart["token"])) == []
    for code in ("welcome10", "%00", "%C3%A9", "x" * 50):
        assert _code(await app.delete(f"{path}/{code}", token=cart["token"])) == (404, "not_found")


async def test_of_several_codes_the_best_one_counts_alone(app: Channel, channels: Channels, database: Database) -> None:
    cart = await app.cart({"sku": await channels.product(price=1000)})
    code = await _promotion(database, 25)
    await _enter(app, cart, "WELCOME10")
    assert _applied((await _enter(app, cart, code)).json()) == [(code, 250), ("WELCOME10", 0)]
    async with database.connection() as db:
        await db.execute(END, code)
    seen = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert _applied(seen) == [(code, 0), ("WELCOME10", 100)]
    assert _code(await _enter(app, cart, code)) == (422, "unknown_promotion")


@pytest.mark.parametrize("code", ["NOPE", "welcome-10"])
async def test_a_code_that_is_none_is_refused(code: str, app: Channel) -> None:
    assert _code(await _enter(app, await app.cart(), code)) == (422, "unknown_promotion")


async def test_a_cart_takes_five_codes(app: Channel, database: Database) -> None:
    cart = await app.cart()
    codes = [await _promotion(database, percent) for percent in range(1, 7)]
    answers = [_code(await _enter(app, cart, code)) for code in codes]
    assert answers == [(200, "")] * 5 + [(422, "too_many_promotions")]


async def test_what_costs_nothing_any_more_needs_no_tender(
    app: Channel, till: Channel, channels: Channels, database: Database
) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    free = (await _enter(till, cart, await _promotion(database, 100))).json()
    assert free["total"]["amount"] == 0
    order = await till.ok("POST", f"/v1/carts/{cart['id']}/checkout", {"tenders": []})
    assert (order["state"], order["total"]["amount"]) == ("completed", 0)
