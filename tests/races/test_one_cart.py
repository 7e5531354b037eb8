"""One cart, checked out many times at once: an impatient app, a proxy that repeats, two people with one phone."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from commercehub import ids
from commercehub.database import Database
from tests.client import Channel, Channels
from tests.races.buyers import CARD, at_once, fill_carts, is_sound
from tests.serving import Books, done

SLOW_CARD = {"type": "card", "payment_method": "pm_slow"}
CARTS = 12
TIMES = 5
UNDERWAY = {(201, None), (202, None), (409, "idempotency_in_progress")}

ORDERS_OF = "SELECT id, state FROM commercehub.orders WHERE cart_id = ANY ($1::uuid[]) ORDER BY id"


async def test_one_key_five_times_in_parallel_makes_one_order_and_one_authorization(
    app: Channel, channels: Channels, database: Database, books: Books
) -> None:
    sku = await channels.product({"DC1": 100})
    carts = await fill_carts(app, CARTS, sku)
    answers = await at_once(app.check_out(cart, CARD, key=cart["id"]) for cart in carts for _ in range(TIMES))
    assert {(answer.status_code, answer.json().get("code")) for answer in answers} <= UNDERWAY
    orders = await _orders_of(database, carts)
    assert [order["state"] for order in orders] == ["placed"] * CARTS
    charged = await books.payments(database, [order["id"] for order in orders])
    assert [done(payment) for payment in charged] == [[("authorize", "succeeded")]] * CARTS
    assert await channels.level(sku, "DC1") == (100, CARTS)
    await is_sound(database)


async def test_one_key_five_times_waits_with_the_first_and_ends_in_its_answer(app: Channel, channels: Channels) -> None:
    (cart,) = await fill_carts(app, 1, await channels.product({"DC1": 9}))
    seen: list[httpx.Response] = []
    answers = await at_once(_until_final(app, cart, seen) for _ in range(TIMES))
    assert len({answer.content for answer in answers}) == 1
    meanwhile = {(answer.json()["id"], answer.json()["state"]) for answer in seen if answer.status_code == 202}
    assert meanwhile == {(answers[0].json()["id"], "awaiting_payment")}
    again = await app.check_out(cart, SLOW_CARD, key=cart["id"])
    assert (again.status_code, again.content) == (201, answers[0].content)
    assert again.headers["idempotent-replayed"] == "true"


async def test_five_keys_on_one_cart_make_one_order_and_name_it_to_the_others(
    app: Channel, channels: Channels, database: Database, books: Books
) -> None:
    sku = await channels.product({"DC1": 100})
    carts = await fill_carts(app, CARTS, sku)
    answers = await at_once(app.check_out(cart, CARD) for cart in carts for _ in range(TIMES))
    for of_cart in (answers[i : i + TIMES] for i in range(0, len(answers), TIMES)):
        made = [answer.json() for answer in of_cart if answer.status_code == 201]
        refused = [answer.json() for answer in of_cart if answer.status_code != 201]
        assert (len(made), {each["code"] for each in refused}) == (1, {"cart_already_checked_out"})
        assert {each["order_id"] for each in refused} == {made[0]["id"]}
        assert {each["state"] for each in refused} <= {"awaiting_payment", "placed"}
    orders = await _orders_of(database, carts)
    assert len(orders) == len(await books.payments(database, [order["id"] for order in orders])) == CARTS
    assert await channels.level(sku, "DC1") == (100, CARTS)
    await is_sound(database)


async def _until_final(app: Channel, cart: Mapping[str, Any], seen: list[httpx.Response]) -> httpx.Response:
    while True:
        answer = await app.check_out(cart, SLOW_CARD, key=cart["id"])
        assert (answer.status_code, answer.json().get("code")) in UNDERWAY
        seen.append(answer)
        if answer.status_code == 201:
            return answer
        await asyncio.sleep(0.05)


async def _orders_of(database: Database, carts: list[dict[str, Any]]) -> list[Any]:
    async with database.connection() as db:
        return list(await db.fetch(ORDERS_OF, [ids.parse("cart", cart["id"]) for cart in carts]))
