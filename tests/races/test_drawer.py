"""The drawer is counted while the last customers still pay in cash."""

import asyncio
from typing import Any

import httpx

from commercehub.database import Database
from tests.client import Channel, Channels
from tests.races.buyers import CASH, at_once, fill_carts, is_sound

ROUNDS = 4
SALES = 30
PRICE = 1_250
FLOAT = 5_000


async def test_a_drawer_that_closes_counts_every_sale_that_was_answered_and_no_other(
    till: Channel, channels: Channels, database: Database
) -> None:
    sku = await channels.product({"S1": ROUNDS * SALES}, price=PRICE, tax_class="exempt")
    sold_in_all = 0
    for _ in range(ROUNDS):
        register = await channels.drawer(opening_float=FLOAT)
        carts = await fill_carts(till, SALES, sku, ship=False)
        day = Day(till, register)
        answers = await at_once(day.sell(cart) for cart in carts)
        report = await day.closing
        sold = [answer for answer in answers if answer.status_code == 201]
        late = {answer.json()["code"] for answer in answers if answer.status_code != 201}
        assert late == {"no_open_session"}, "nobody came too late, so this was no race"
        assert (report["sales_count"], report["sales"]["amount"]) == (len(sold), len(sold) * PRICE)
        assert report["tenders"][0]["expected"]["amount"] == FLOAT + len(sold) * PRICE
        sold_in_all += len(sold)
    assert await channels.level(sku, "S1") == (ROUNDS * SALES - sold_in_all, 0)
    await is_sound(database)


async def test_a_drawer_is_closed_once_however_many_count_it(till: Channel, channels: Channels) -> None:
    register = await channels.drawer(opening_float=FLOAT)
    answers = await at_once(_close(till, register) for _ in range(4))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"no_open_session"}


class Day:
    """Sales at one register, which is closed when the first few are answered and the others are under way."""

    def __init__(self, till: Channel, register: str) -> None:
        self._till, self._register = till, register
        self._few_are_sold = asyncio.Event()
        self._sold = 0
        self.closing = asyncio.create_task(self._close())

    async def sell(self, cart: dict[str, Any]) -> httpx.Response:
        answer = await self._till.check_out(cart, CASH, more={"register_id": self._register})
        self._sold += 1
        if self._sold == SALES // 5:
            self._few_are_sold.set()
        return answer

    async def _close(self) -> Any:
        await self._few_are_sold.wait()
        answer = await _close(self._till, self._register)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def _close(till: Channel, register: str) -> httpx.Response:
    counted = {"counted": {"amount": FLOAT, "currency": "USD"}}
    return await till.post(f"/v1/registers/{register}/sessions/current/close", counted)
