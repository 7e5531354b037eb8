"""The same goods are brought back at ten tills at once: they come back once, and so does the money."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from commercehub import ids
from commercehub.database import Database
from commercehub.workflows import payment_results
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.races.buyers import CARD, at_once, counted, is_sound
from tests.serving import Books, done

REQUESTS = 50
TILLS = 10
UNITS = 7
PRICE = 1_000

NOT_RETURNABLE = (409, "not_returnable")


async def _bring_back(till: Channel, order: Mapping[str, Any], few: asyncio.Semaphore, **more: Any) -> httpx.Response:
    asked = {
        "order_id": order["id"],
        "method": "in_store",
        "lines": [{"line_id": order["lines"][0]["id"], "quantity": 1, "reason": "changed_mind"}],
        "receive": True,
        **more,
    }
    async with few:
        return await till.post("/v1/returns", asked)


async def _tills(channels: Channels) -> list[Channel]:
    """Tills in three stores, each with its own key."""
    admin = channels["admin"]
    places = [await channels.location(code) for code in ("S1", "S2", "S3")]
    keys = [
        await admin.ok(
            "POST", "/v1/api-keys", {"channel": "store", "role": "till", "location_id": places[at % len(places)]}
        )
        for at in range(TILLS)
    ]
    return [Channel(channels.http, key["secret"]) for key in keys]


async def _returned(channels: Channels, order: Mapping[str, Any], sku: str) -> None:
    """Every unit is back, in one of the stores; each was paid back once."""
    levels = [await channels.level(sku, code) for code in ("S1", "S2", "S3")]
    assert sum(on_hand for on_hand, _ in levels) == UNITS
    now = await channels["admin"].ok("GET", f"/v1/orders/{order['id']}")
    assert (now["lines"][0]["returned"], now["fulfillment_state"]) == (UNITS, "returned")


async def test_fifty_returns_of_seven_units_at_ten_tills_give_seven_back(
    till: Channel, channels: Channels, database: Database
) -> None:
    sku = await channels.product({"S1": UNITS}, price=PRICE, tax_class="exempt")
    register = await channels.drawer(opening_float=0)
    cart = await till.cart({"sku": sku, "quantity": UNITS})
    order = (await till.check_out(cart, {"type": "cash"}, more={"register_id": register})).json()
    tills, few = await _tills(channels), asyncio.Semaphore(TILLS)
    # Each gives the money out of a drawer of its own store: `tills` goes round through the stores.
    drawers = [register, *[await channels.drawer(code) for code in ("S2", "S3")]]
    answers = await at_once(
        _bring_back(tills[at % TILLS], order, few, register_id=drawers[at % TILLS % len(drawers)])
        for at in range(REQUESTS)
    )
    assert counted(answers) == {(201, None): UNITS, NOT_RETURNABLE: REQUESTS - UNITS}
    given = [answer.json()["amount"]["amount"] for answer in answers if answer.status_code == 201]
    assert given == [PRICE] * UNITS
    await _returned(channels, order, sku)
    (payment,) = (await till.ok("GET", f"/v1/payments?order_id={order['id']}"))["data"]
    assert payment["refunded"]["amount"] == UNITS * PRICE
    await is_sound(database)


async def test_the_card_gets_its_money_once_while_its_capture_is_under_way(
    app: Channel, warehouse: Channel, channels: Channels, database: Database, hub: Hub, books: Books
) -> None:
    sku = await channels.product({"DC1": UNITS}, price=PRICE, tax_class="exempt")
    cart = await app.cart({"sku": sku, "quantity": UNITS}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    path = f"/v1/fulfillments/{order['fulfillments'][0]['id']}"
    for step, body in (
        ("start", None),
        ("pick", {"lines": [{"sku": sku, "quantity": UNITS}]}),
        ("pack", None),
        ("ship", None),
    ):
        await warehouse.ok("POST", f"{path}/{step}", body)
    order_id = ids.parse("ord", order["id"])
    tills, few = await _tills(channels), asyncio.Semaphore(TILLS)

    async def carry_out() -> None:
        for _ in range(6):
            await payment_results.resolve_order(database, hub.processors, order_id=order_id, render=hub.render)

    answers, *_ = await asyncio.gather(
        at_once(_bring_back(tills[at % TILLS], order, few) for at in range(REQUESTS)), carry_out(), carry_out()
    )
    await carry_out()
    assert counted(answers) == {(201, None): UNITS, NOT_RETURNABLE: REQUESTS - UNITS}
    await _returned(channels, order, sku)
    (payment,) = await books.payments(database, [order_id])
    refunds = [each for each in payment["operations"] if each["kind"] == "refund"]
    assert [each["amount"] for each in refunds] == [PRICE] * UNITS
    assert {status for _, status in done(payment)} == {"succeeded"}
    await is_sound(database)
