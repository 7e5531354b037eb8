"""Two hands give the same goods away, and the customer calls off what is just being handed over."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from tests.client import Channel, Channels
from tests.races.buyers import CARD, at_once, fill_carts, is_sound
from tests.serving import Books, done

ORDERS = 12

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture
async def sku(channels: Channels) -> str:
    return await channels.product({"S1": 100})


async def test_goods_are_handed_over_once_however_many_press(
    sku: str, app: Channel, till: Channel, channels: Channels, database: Database, books: Books, run_jobs: RunJobs
) -> None:
    orders = await _make_ready(app, till, channels, sku)
    answers = await at_once(_hand_over(till, order) for order in orders for _ in range(3))
    for of_order in (answers[i : i + 3] for i in range(0, len(answers), 3)):
        assert sorted(answer.status_code for answer in of_order) == [200, 409, 409]
    await at_once([run_jobs(), run_jobs()])
    payments = await books.payments(database, [ids.parse("ord", order["id"]) for order in orders])
    assert [done(payment) for payment in payments] == [[("authorize", "succeeded"), ("capture", "succeeded")]] * ORDERS
    assert await channels.level(sku, "S1") == (100 - ORDERS, 0)
    await is_sound(database)


async def test_handed_over_and_called_off_at_once_is_one_of_the_two(
    sku: str, app: Channel, till: Channel, channels: Channels, database: Database, books: Books, run_jobs: RunJobs
) -> None:
    orders = await _make_ready(app, till, channels, sku)
    answers = await at_once(each for order in orders for each in (_hand_over(till, order), _call_off(till, order)))
    pairs = [(handed.status_code, off.status_code) for handed, off in zip(answers[::2], answers[1::2], strict=True)]
    assert set(pairs) <= {(200, 409), (409, 200)}
    await run_jobs()
    handed = sum(pair == (200, 409) for pair in pairs)
    assert await channels.level(sku, "S1") == (100 - handed, 0)
    for order, pair in zip(orders, pairs, strict=True):
        (payment,) = await books.payments(database, [ids.parse("ord", order["id"])])
        seen = await app.ok("GET", f"/v1/orders/{order['id']}", token=order["token"])
        expected = ("completed", "paid", "capture") if pair == (200, 409) else ("cancelled", "voided", "void")
        assert (seen["state"], seen["payment_state"], done(payment)[-1][0]) == expected
    await is_sound(database)


async def _make_ready(app: Channel, till: Channel, channels: Channels, sku: str) -> list[dict[str, Any]]:
    place = await channels.location("S1")
    carts = await fill_carts(app, ORDERS, sku, ship=False)
    await at_once(app.pick_up(cart, place) for cart in carts)
    placed = await at_once(app.check_out(cart, CARD) for cart in carts)
    orders = [{**answer.json(), "token": cart["token"]} for answer, cart in zip(placed, carts, strict=True)]
    for step, body in (("start", {}), ("pick", {"lines": [{"sku": sku, "quantity": 1}]}), ("ready", {})):
        answers = await at_once(till.post(f"{_work(order)}/{step}", body) for order in orders)
        assert [answer.status_code for answer in answers] == [200] * ORDERS
    seen = await at_once(app.ok("GET", f"/v1/orders/{order['id']}", token=order["token"]) for order in orders)
    return [{**order, "code": page["fulfillments"][0]["pickup_code"]} for order, page in zip(orders, seen, strict=True)]


def _work(order: dict[str, Any]) -> str:
    return f"/v1/fulfillments/{order['fulfillments'][0]['id']}"


async def _hand_over(till: Channel, order: dict[str, Any]) -> httpx.Response:
    return await till.post(f"{_work(order)}/hand_over", {"code": order["code"]})


async def _call_off(till: Channel, order: dict[str, Any]) -> httpx.Response:
    return await till.post(f"{_work(order)}/cancel", {"reason": "other"})
