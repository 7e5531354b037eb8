"""The processor says no, says nothing, or says something else: no charge without an order, no order without a charge."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from asyncpg import Connection

import payments
from commercehub import events, ids
from commercehub.database import Database
from commercehub.workflows import inquiries
from tests.client import Channel, Channels
from tests.faults.conftest import Age, Complete
from tests.serving import Books, done, findings

AUTHORIZED = [("authorize", "succeeded")]
UNITS = 5

READ_ORDER = "SELECT id, state, payment_state FROM commercehub.orders WHERE cart_id = $1 ORDER BY id"
READ_CART = "SELECT state FROM commercehub.carts WHERE id = $1"
COUNT_TRACES = """
SELECT (SELECT count(*) FROM payments.entries WHERE reference = $1) AS entries,
       (SELECT count(*) FROM payments.open_operations AS operation
        JOIN payments.intents AS intent ON intent.id = operation.intent_id WHERE intent.reference = $1) AS waiting,
       (SELECT count(*) FROM inventory.reservations WHERE reference = $1 AND state = 'open') AS held,
       (SELECT count(*) FROM fulfillment.fulfillments WHERE reference = $1) AS work,
       (SELECT coalesce(sum(authorized_minor), 0)::bigint FROM payments.intents WHERE reference = $1) AS authorized
"""


@pytest.fixture
async def sku(channels: Channels) -> str:
    return await channels.product({"DC1": UNITS}, price=2_500)


@pytest.fixture
async def cart(app: Channel, sku: str) -> Any:
    return await app.cart({"sku": sku, "quantity": 2}, ship=True)


async def test_a_declined_card_leaves_nothing_behind(
    app: Channel, channels: Channels, database: Database, sku: str, cart: Any
) -> None:
    answer = await app.check_out(cart, _card("pm_declined"))
    assert (answer.status_code, answer.json()["code"]) == (402, "payment_declined")
    assert answer.json()["decline_code"] == "card_declined"
    async with database.connection() as db:
        (order,) = await db.fetch(READ_ORDER, _cart_id(cart))
        assert (order["state"], order["payment_state"]) == ("failed", "unpaid")
        assert await _traces(db, order["id"]) == {0}
        assert await db.fetchval(READ_CART, _cart_id(cart)) == "open"
        assert await findings(db) == []
    assert await channels.level(sku, "DC1") == (UNITS, 0)


async def test_another_card_buys_the_cart_that_a_declined_one_left(
    app: Channel, channels: Channels, database: Database, books: Books, sku: str, cart: Any
) -> None:
    declined = await app.check_out(cart, _card("pm_insufficient_funds"), key="first card")
    bought = await app.check_out(cart, _card("pm_ok"), key="second card")
    assert (bought.status_code, bought.json()["state"]) == (201, "placed")
    again = await app.check_out(cart, _card("pm_insufficient_funds"), key="first card")
    assert (again.status_code, again.content) == (402, declined.content)
    async with database.connection() as db:
        orders = await db.fetch(READ_ORDER, _cart_id(cart))
    assert [order["state"] for order in orders] == ["failed", "placed"]
    assert [done(each) for each in await books.payments(database, [orders[1]["id"]])] == [AUTHORIZED]
    assert await channels.level(sku, "DC1") == (UNITS, 2)


async def test_a_lost_answer_holds_the_stock_and_says_so_to_every_key(
    app: Channel, channels: Channels, sku: str, cart: Any
) -> None:
    first = await app.check_out(cart, _card("pm_answer_lost"), key="lost")
    assert (first.status_code, first.json()["state"]) == (202, "payment_unknown")
    assert first.json()["payment_state"] == "unknown"
    assert await channels.level(sku, "DC1") == (UNITS, 2)
    same = await app.check_out(cart, _card("pm_answer_lost"), key="lost")
    assert (same.status_code, same.json()["id"], same.json()["state"]) == (202, first.json()["id"], "payment_unknown")
    other = await app.check_out(cart, _card("pm_ok"))
    assert (other.status_code, other.json()["code"]) == (409, "cart_already_checked_out")
    assert (other.json()["order_id"], other.json()["state"]) == (first.json()["id"], "payment_unknown")


@pytest.mark.parametrize("fault", ["answer_lost", "error_after", "garbage", "reset", "wrong_amount", "slow"])
async def test_what_was_charged_without_a_word_becomes_the_order_with_one_authorization(
    fault: str,
    app: Channel,
    channels: Channels,
    database: Database,
    books: Books,
    complete: Complete,
    sku: str,
    cart: Any,
) -> None:
    first = await app.check_out(cart, _card(f"pm_{fault}"), key=fault)
    assert (first.status_code, first.json()["state"]) == (202, "payment_unknown")
    await _until_charged(books, database, first)
    await complete()
    final = await app.check_out(cart, _card(f"pm_{fault}"), key=fault)
    assert (final.status_code, final.json()["state"], final.json()["payment_state"]) == (201, "placed", "authorized")
    assert final.json()["id"] == first.json()["id"]
    assert [done(each) for each in await books.payments(database, [_order_id(first)])] == [AUTHORIZED]
    assert await channels.level(sku, "DC1") == (UNITS, 2)


async def test_what_was_never_charged_is_asked_for_again_by_its_own_key(
    app: Channel, database: Database, books: Books, complete: Complete, cart: Any
) -> None:
    first = await app.check_out(cart, _card("pm_error_before"), key="again")
    assert (first.status_code, first.json()["state"]) == (202, "payment_unknown")
    await complete()
    final = await app.check_out(cart, _card("pm_error_before"), key="again")
    assert (final.status_code, final.json()["state"]) == (201, "placed")
    assert [done(each) for each in await books.payments(database, [_order_id(first)])] == [AUTHORIZED]


async def test_that_there_is_no_such_payment_is_not_believed_before_the_last_question_has_arrived(
    app: Channel, books: Books, database: Database, complete: Complete, age: Age, cart: Any
) -> None:
    first = await app.check_out(cart, _card("pm_error_before"), key="soon")
    await age(first.json(), seconds=inquiries.ASK_AGAIN_FOR.total_seconds())
    await complete()
    waiting = await app.check_out(cart, _card("pm_error_before"), key="soon")
    assert (waiting.status_code, waiting.json()["state"]) == (202, "payment_unknown")
    assert await books.payments(database, [_order_id(first)]) == []


async def test_what_was_never_charged_fails_and_leaves_the_cart_to_another_card(
    app: Channel,
    channels: Channels,
    database: Database,
    books: Books,
    complete: Complete,
    age: Age,
    sku: str,
    cart: Any,
) -> None:
    first = await app.check_out(cart, _card("pm_error_before"), key="error")
    assert (first.status_code, first.json()["state"]) == (202, "payment_unknown")
    await age(first.json(), minutes=1)
    await complete()
    final = await app.check_out(cart, _card("pm_error_before"), key="error")
    assert (final.status_code, final.json()["code"]) == (402, "payment_not_completed")
    assert await books.payments(database, [_order_id(first)]) == []
    assert await channels.level(sku, "DC1") == (UNITS, 0)
    async with database.connection() as db:
        assert await _traces(db, _order_id(first)) == {0}
    assert (await app.check_out(cart, _card("pm_ok"))).status_code == 201


async def test_a_processor_that_is_busy_for_a_moment_is_asked_again_at_once(
    app: Channel, database: Database, books: Books, cart: Any
) -> None:
    answer = await app.check_out(cart, _card("pm_rate_limited"))
    assert (answer.status_code, answer.json()["state"]) == (201, "placed")
    assert [done(each) for each in await books.payments(database, [_order_id(answer)])] == [AUTHORIZED]


async def test_an_unknown_payment_is_told_of_once_whoever_finds_out_first(
    app: Channel,
    database: Database,
    complete: Complete,
    run_jobs: Callable[[], Awaitable[None]],
    cart: Any,
) -> None:
    first = await app.check_out(cart, _card("pm_answer_lost"), key="five")
    await asyncio.gather(*(complete() for _ in range(5)))
    await run_jobs()
    timeline = await app.ok("GET", f"/v1/orders/{first.json()['id']}/timeline", token=cart["token"])
    assert [entry["type"] for entry in timeline["data"]] == [
        "order.awaiting_payment",
        "order.payment_unknown",
        "order.placed",
    ]
    async with database.connection() as db:
        assert await findings(db) == []


async def test_a_payer_who_has_to_act_is_sent_there_and_the_approval_ends_the_wait(
    app: Channel,
    channels: Channels,
    database: Database,
    books: Books,
    complete: Complete,
    sku: str,
    cart: Any,
) -> None:
    first = await app.check_out(cart, _card("pm_requires_action"), key="3ds")
    assert (first.status_code, first.json()["state"]) == (202, "awaiting_payment")
    assert first.json()["next_action"]["type"] == "redirect"
    await complete()
    waiting = await app.check_out(cart, _card("pm_requires_action"), key="3ds")
    assert (waiting.status_code, waiting.json()["state"]) == (202, "awaiting_payment")
    assert await channels.level(sku, "DC1") == (UNITS, 2)
    await books.decide(first.json()["next_action"]["url"], "approve")
    await complete()
    final = await app.check_out(cart, _card("pm_requires_action"), key="3ds")
    assert (final.status_code, final.json()["state"]) == (201, "placed")
    assert [done(each) for each in await books.payments(database, [_order_id(first)])] == [AUTHORIZED]


async def test_a_payer_who_declines_leaves_the_cart_open(
    app: Channel, channels: Channels, books: Books, complete: Complete, sku: str, cart: Any
) -> None:
    first = await app.check_out(cart, _card("pm_requires_action"), key="no")
    await books.decide(first.json()["next_action"]["url"], "decline")
    await complete()
    final = await app.check_out(cart, _card("pm_requires_action"), key="no")
    assert (final.status_code, final.json()["code"]) == (402, "payment_declined")
    assert await channels.level(sku, "DC1") == (UNITS, 0)
    assert (await app.check_out(cart, _card("pm_ok"))).status_code == 201


def _card(payment_method: str) -> dict[str, str]:
    return {"type": "card", "payment_method": payment_method}


def _cart_id(cart: Any) -> Any:
    return ids.parse("cart", cart["id"])


def _order_id(answer: httpx.Response) -> Any:
    return ids.parse("ord", answer.json()["id"])


async def _traces(db: Connection, order_id: Any) -> set[int]:
    row = await db.fetchrow(COUNT_TRACES, order_id)
    assert row is not None
    return set(row.values())


async def _until_charged(books: Books, database: Database, answer: httpx.Response) -> None:
    while not await books.payments(database, [_order_id(answer)]):  # a slow one charges after we stopped waiting
        await asyncio.sleep(0.1)


async def test_money_promised_after_the_order_was_given_up_is_booked_and_let_go_of(
    app: Channel,
    channels: Channels,
    api: httpx.AsyncClient,
    database: Database,
    books: Books,
    sku: str,
    cart: Any,
    complete: Complete,
    age: Age,
    run_jobs: Callable[[], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: Any = api._transport
    monkeypatch.setattr(served.app.state.hub.processors["sandbox"], "_call_seconds_max", 5.0)
    buying = asyncio.create_task(app.check_out(cart, _card("pm_slow"), key="late"))
    await asyncio.sleep(0.3)
    async with database.connection() as db:
        (order,) = await db.fetch(READ_ORDER, _cart_id(cart))
    await age({"id": ids.show("ord", order["id"])}, minutes=1)
    await complete()
    answer = await buying
    assert (answer.status_code, answer.json()["code"]) == (402, "payment_not_completed")
    await run_jobs()
    (payment,) = await books.payments(database, [order["id"]])
    assert done(payment) == [("authorize", "succeeded"), ("void", "succeeded")]
    async with database.connection() as db:
        (intent,) = await payments.read_intents(db, references=[order["id"]])
        assert (intent.state, intent.authorized_minor, intent.voided_minor) == (
            "voided",
            payment["amount"],
            payment["amount"],
        )
        told = [entry.type for entry in await events.read_timeline(db, order_id=order["id"], limit=9)]
        assert told == ["order.awaiting_payment", "order.payment_failed", "payment.came_late", "payment.voided"]
        assert await findings(db) == []
    assert await channels.level(sku, "DC1") == (UNITS, 0)
    again = await app.check_out(cart, _card("pm_slow"), key="late")
    assert (again.status_code, again.content) == (402, answer.content)
