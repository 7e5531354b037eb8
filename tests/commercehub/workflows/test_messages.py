"""What customers are sent: once, to whom it concerns, in their language, and with nothing personal kept beside it."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.jobs import orders
from commercehub.workflows.parts import Hub
from tests.client import SHIP_TO, Channel, Channels

CARD = {"type": "card", "payment_method": "pm_ok"}

MAKE_DUE = "UPDATE payments.open_operations SET next_try_at = now()"
SPEAK_SPANISH = "UPDATE commercehub.orders SET locale = 'es-AR' WHERE id = $1"
ROWS_OF = "SELECT to_jsonb(message)::text FROM commercehub.messages AS message WHERE order_id = $1"
FORGET = "UPDATE commercehub.order_contacts SET email = NULL, phone = NULL WHERE id = (SELECT contact_id FROM commercehub.orders WHERE id = $1)"

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture
async def sku(channels: Channels) -> str:
    return await channels.product({"DC1": 9, "S1": 9}, price=1_799, tax_class="exempt")


async def test_a_placed_order_is_confirmed_with_its_lines_and_total(
    app: Channel, sku: str, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    answer = await app.check_out(await app.cart({"sku": sku, "quantity": 2}, ship=True), CARD)
    await run_jobs()
    (mail,) = await _mails(api, answer.json()["id"])
    assert mail["to"] == "ada@example.com"
    assert mail["subject"] == f"Your order {answer.json()['number']}"
    assert f"2 x Thing {sku}" in mail["text"]
    assert "Total: 40.97 USD" in mail["text"]


async def test_who_gave_a_phone_number_is_reached_there(
    app: Channel, sku: str, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    cart = await app.cart({"sku": sku}, ship=True)
    answer = await app.check_out(cart, CARD, more={"email": None, "phone": "+15125550100"})
    await run_jobs()
    assert [mail["to"] for mail in await _mails(api, answer.json()["id"])] == ["+15125550100"]


async def test_a_customer_at_the_till_has_a_receipt_and_gets_no_mail(
    till: Channel, sku: str, drawer: str, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    more = {"email": None, "register_id": drawer}
    answer = await till.check_out(await till.cart({"sku": sku}), {"type": "cash"}, more=more)
    assert answer.status_code == 201, answer.text
    await run_jobs()
    assert await _mails(api, answer.json()["id"]) == []


async def test_who_was_declined_on_the_spot_gets_no_mail(
    app: Channel, sku: str, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    before = await _mails(api)
    await app.check_out(await app.cart({"sku": sku}, ship=True), {**CARD, "payment_method": "pm_declined"})
    await run_jobs()
    assert await _mails(api) == before


@pytest.mark.parametrize(
    ("payment_method", "subjects"),
    [
        ("pm_error_after", ["Your order {}"]),
        ("pm_error_before", ["The payment for {} did not come about"]),
    ],
)
async def test_who_was_left_in_doubt_is_told_of_either_outcome(
    payment_method: str,
    subjects: list[str],
    app: Channel,
    sku: str,
    api: httpx.AsyncClient,
    hub: Hub,
    run_jobs: RunJobs,
) -> None:
    cart = await app.cart({"sku": sku}, ship=True)
    answer = await app.check_out(cart, {**CARD, "payment_method": payment_method})
    assert (answer.status_code, answer.json()["state"]) == (202, "payment_unknown")
    await run_jobs()
    assert await _mails(api, answer.json()["id"]) == []
    async with hub.database.connection() as db:
        await db.execute(MAKE_DUE)
    await orders.resolve_payments(hub)
    await run_jobs()
    mails = await _mails(api, answer.json()["id"])
    assert [mail["subject"] for mail in mails] == [subject.format(answer.json()["number"]) for subject in subjects]


async def test_a_message_is_written_in_the_language_of_the_order(
    app: Channel, sku: str, api: httpx.AsyncClient, database: Database, run_jobs: RunJobs
) -> None:
    answer = await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)
    async with database.connection() as db:
        await db.execute(SPEAK_SPANISH, ids.parse("ord", answer.json()["id"]))
    await run_jobs()
    (mail,) = await _mails(api, answer.json()["id"])
    assert mail["subject"] == f"Tu pedido {answer.json()['number']}"


async def test_the_table_of_messages_holds_nobodys_name_or_address(
    app: Channel, sku: str, api: httpx.AsyncClient, database: Database, run_jobs: RunJobs
) -> None:
    answer = await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)
    await run_jobs()
    order_id = ids.parse("ord", answer.json()["id"])
    async with database.connection() as db:
        kept = await db.fetchval(ROWS_OF, order_id)
        assert not any(word in kept for word in ("ada@example.com", SHIP_TO["name"], SHIP_TO["line1"], SHIP_TO["city"]))
        await db.execute(FORGET, order_id)
    assert await _mails(api, answer.json()["id"]) == []


async def test_the_newest_message_comes_first(
    app: Channel, sku: str, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    placed = []
    for _ in range(2):
        placed.append((await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)).json()["id"])
        await run_jobs()
    assert [mail["order_id"] for mail in (await _mails(api))[:2]] == placed[::-1]


async def test_the_mail_box_can_be_looked_at_by_people(
    app: Channel, sku: str, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    answer = await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)
    await run_jobs()
    page = await api.get("/demo/mailbox")
    assert page.headers["content-type"].startswith("text/html")
    assert f"Your order {answer.json()['number']}" in page.text


async def _mails(api: httpx.AsyncClient, order_id: str | None = None) -> list[dict[str, Any]]:
    mails = (await api.get("/demo/mailbox", headers={"Accept": "application/json"})).json()["data"]
    return [mail for mail in mails if order_id in {None, mail["order_id"]}]
