"""The drawer is counted while the last customers still pay in cash."""

import asyncio
from typing import Any

import httpx

from commercehub.database import Database
from tests.client import Channel, Channels
from tests.races.buyers import CASH, at_once, fill_carts, is_sound

SALES = 40
PRICE = 1_250


async def test_a_drawer_that_closes_counts_every_sale_that_was_answered_and_no_other(
    till: Channel, channels: Channels, database: Database
) -> None:
    register = await channels.drawer(opening_float=5_000)
    sku = await channels.product({"S1": SALES}, price=PRICE, tax_class="exempt")
    carts = await fill_carts(till, SALES, sku, ship=False)
    counting = asyncio.create_task(_close_amid(till, register))
    answers = await at_once(_sell(till, cart, register, position) for position, cart in enumerate(carts))
    report = await counting
    sold = [answer for answer in answers if answer.status_code == 201]
    late = [answer.json()["code"] for answer in answers if answer.status_code != 201]
    assert set(late) == {"no_open_session"}, "nobody came too late, so this was no race"
    assert (report["sales_count"], report["sales"]["amount"]) == (len(sold), len(sold) * PRICE)
    assert report["tenders"][0]["expected"]["amount"] == 5_000 + len(sold) * PRICE
    assert await channels.level(sku, "S1") == (SALES - len(sold), 0)
    await is_sound(database)


async def test_a_drawer_is_closed_once_however_many_count_it(till: Channel, channels: Channels) -> None:
    register = await channels.drawer(opening_float=5_000)
    answers = await at_once(_close(till, register) for _ in range(4))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"no_open_session"}


async def _sell(till: Channel, cart: dict[str, Any], register: str, position: int) -> httpx.Response:
    await asyncio.sleep(position * 0.004)
    return await till.check_out(cart, CASH, more={"register_id": register})


async def _close_amid(till: Channel, register: str) -> Any:
    await asyncio.sleep(SALES * 0.004 / 2)
    answer = await _close(till, register)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _close(till: Channel, register: str) -> httpx.Response:
    counted = {"counted": {"amount": 5_000, "currency": "USD"}}
    return await till.post(f"/v1/registers/{register}/sessions/current/close", counted)
