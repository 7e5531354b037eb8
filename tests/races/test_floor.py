"""The customer calls the order off while the warehouse works on it, and two hands press the same button."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from tests.client import Channel, Channels
from tests.races.buyers import CARD, at_once, fill_carts, is_sound
from tests.serving import Books, done

ORDERS = 16
STEPS = ("start", "pick", "pack", "ship")

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture
async def sku(channels: Channels) -> str:
    return await channels.product({"DC1": 100})


@pytest.mark.parametrize("step", STEPS)
async def test_cancel_against_a_step_has_one_winner(
    step: str,
    sku: str,
    app: Channel,
    warehouse: Channel,
    channels: Channels,
    database: Database,
    books: Books,
    run_jobs: RunJobs,
) -> None:
    orders = await _place(app, sku)
    for before in STEPS[: STEPS.index(step)]:
        await at_once(_step(warehouse, order, before, sku) for order in orders)
    answers = await at_once(
        each for order in orders for each in (_cancel(channels, order), _step(warehouse, order, step, sku))
    )
    pairs = list(zip(answers[::2], answers[1::2], strict=True))
    assert {(answer.status_code, answer.json().get("code")) for pair in pairs for answer in pair} <= {
        (200, None),
        (409, "not_cancellable"),
        (409, "invalid_transition"),
    }
    # Who is on the way to the shelf may be called back; goods that were picked may not.
    both = {(cancelled.status_code, moved.status_code) for cancelled, moved in pairs}
    assert both <= ({(200, 409), (200, 200)} if step == "start" else {(200, 409), (409, 200)})
    await run_jobs()
    called_off = [order for order, (cancelled, _) in zip(orders, pairs, strict=True) if cancelled.status_code == 200]
    shipped = ORDERS - len(called_off) if step == "ship" else 0
    assert await channels.level(sku, "DC1") == (100 - shipped, ORDERS - len(called_off) - shipped)
    for order in called_off:
        assert (await app.ok("GET", f"/v1/orders/{order['id']}", token=order["token"]))["state"] == "cancelled"
    voided = await books.payments(database, [ids.parse("ord", order["id"]) for order in called_off])
    assert [done(payment)[1:] for payment in voided] == [[("void", "succeeded")]] * len(called_off)
    await is_sound(database)


async def test_an_order_is_cancelled_once_however_many_ask(
    sku: str, app: Channel, channels: Channels, database: Database, books: Books
) -> None:
    orders = await _place(app, sku)
    answers = await at_once(_cancel(channels, order) for order in orders for _ in range(3))
    for of_order in (answers[i : i + 3] for i in range(0, len(answers), 3)):
        assert sorted(answer.status_code for answer in of_order) == [200, 409, 409]
    payments = await books.payments(database, [ids.parse("ord", order["id"]) for order in orders])
    assert [done(payment) for payment in payments] == [[("authorize", "succeeded"), ("void", "succeeded")]] * ORDERS
    assert await channels.level(sku, "DC1") == (100, 0)
    await is_sound(database)


async def test_a_parcel_is_shipped_and_captured_once_however_many_press(
    sku: str,
    app: Channel,
    warehouse: Channel,
    channels: Channels,
    database: Database,
    books: Books,
    run_jobs: RunJobs,
) -> None:
    orders = await _place(app, sku)
    for step in STEPS[:-1]:
        await at_once(_step(warehouse, order, step, sku) for order in orders)
    answers = await at_once(_step(warehouse, order, "ship", sku) for order in orders for _ in range(3))
    for of_order in (answers[i : i + 3] for i in range(0, len(answers), 3)):
        assert sorted(answer.status_code for answer in of_order) == [200, 409, 409]
    await at_once([run_jobs(), run_jobs(), run_jobs()])
    payments = await books.payments(database, [ids.parse("ord", order["id"]) for order in orders])
    assert [done(payment) for payment in payments] == [[("authorize", "succeeded"), ("capture", "succeeded")]] * ORDERS
    assert await channels.level(sku, "DC1") == (100 - ORDERS, 0)
    await is_sound(database)


async def _place(app: Channel, sku: str) -> list[dict[str, Any]]:
    carts = await fill_carts(app, ORDERS, sku)
    answers = await at_once(app.check_out(cart, CARD) for cart in carts)
    assert [answer.status_code for answer in answers] == [201] * ORDERS
    return [{**answer.json(), "token": cart["token"]} for answer, cart in zip(answers, carts, strict=True)]


async def _step(warehouse: Channel, order: dict[str, Any], step: str, sku: str) -> httpx.Response:
    body = {"lines": [{"sku": sku, "quantity": 1}]} if step == "pick" else {}
    return await warehouse.post(f"/v1/fulfillments/{order['fulfillments'][0]['id']}/{step}", body)


async def _cancel(channels: Channels, order: dict[str, Any]) -> httpx.Response:
    await asyncio.sleep(0)
    return await channels["admin"].post(f"/v1/orders/{order['id']}/cancel", {"reason": "customer_request"})
