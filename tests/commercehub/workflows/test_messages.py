"""What customers are sent: once, to whom it concerns, in their language, and with nothing personal kept beside it."""

import html
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.jobs import orders
from commercehub.workflows import wording
from commercehub.workflows.parts import Hub
from tests.client import SHIP_TO, Channel, Channels, Statements

CARD = {"type": "card", "payment_method": "pm_ok"}

# So long after it was asked, the hub asks no more but looks for what became of it.
MAKE_DUE = "UPDATE payments.open_operations SET next_try_at = now(), begun_at = begun_at - interval '1 hour'"
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
        ("pm_error_after", ["Your order {}", "The payment for {} went through"]),
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
    (mail,) = await _mails(api, answer.json()["id"])
    assert mail["subject"] == f"We are checking the payment for {answer.json()['number']}"
    async with hub.database.connection() as db:
        await db.execute(MAKE_DUE)
    await orders.resolve_payments(hub)
    await run_jobs()
    mails = await _mails(api, answer.json()["id"])
    told = [*subjects, "We are checking the payment for {}"]
    assert [mail["subject"] for mail in mails] == [subject.format(answer.json()["number"]) for subject in told]


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


async def test_who_waits_for_a_parcel_is_told_how_to_follow_it(
    app: Channel, sku: str, warehouse: Channel, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    order = (await app.check_out(await app.cart({"sku": sku, "quantity": 2}, ship=True), CARD)).json()
    work = f"/v1/fulfillments/{order['fulfillments'][0]['id']}"
    for step, body in (
        ("start", {}),
        ("pick", {"lines": [{"sku": sku, "quantity": 2}]}),
        ("pack", {}),
        ("ship", {"carrier": "UPS", "tracking_number": "1Z999"}),
    ):
        await warehouse.ok("POST", f"{work}/{step}", body)
    await run_jobs()
    await warehouse.ok("POST", f"{work}/deliver")
    await run_jobs()
    mail, _ = await _mails(api, order["id"])
    assert mail["subject"] == f"Your order {order['number']} is on its way"
    assert all(words in mail["text"] for words in ("UPS", "1Z999", f"2 x Thing {sku}"))


async def test_whose_order_is_called_off_is_told_once(
    app: Channel, sku: str, admin: Channel, api: httpx.AsyncClient, run_jobs: RunJobs
) -> None:
    order = (await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)).json()
    await admin.ok("POST", f"/v1/orders/{order['id']}/cancel", {"reason": "out_of_stock"})
    await run_jobs()
    subjects = [mail["subject"] for mail in await _mails(api, order["id"])]
    assert subjects == [f"Your order {order['number']} is cancelled", f"Your order {order['number']}"]


async def test_a_customer_is_written_to_in_their_language_and_finds_it_on_their_timeline(
    sku: str, channels: Channels, api: httpx.AsyncClient, till: Channel, run_jobs: RunJobs
) -> None:
    customer, me = await channels.customer("app", locale="es-MX")
    cart = await customer.ok("POST", "/v1/carts", {})
    await customer.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku})
    place = await channels.location("S1")
    await customer.pick_up(cart, place)
    order = await customer.ok("POST", f"/v1/carts/{cart['id']}/checkout", {"tenders": [CARD]})
    work = f"/v1/fulfillments/{order['fulfillments'][0]['id']}"
    for step, body in (("start", {}), ("pick", {"lines": [{"sku": sku, "quantity": 1}]}), ("ready", {})):
        await till.ok("POST", f"{work}/{step}", body)
    await run_jobs()
    ready, placed = await _mails(api, order["id"])
    assert (placed["subject"], placed["qr"]) == (f"Tu pedido {order['number']}", None)
    assert ready["subject"] == f"Tu pedido {order['number']} está listo para recoger"
    assert ready["qr"].startswith("data:image/svg+xml")
    assert ready["to"] == me["email"]
    page = await api.get("/demo/mailbox")
    assert f'<img src="{ready["qr"]}"' in html.unescape(page.text)
    timeline = await customer.ok("GET", f"/v1/customers/{me['id']}/timeline")
    sent = [entry["changes"]["kind"] for entry in timeline["data"] if entry["type"] == "message.sent"]
    assert sent == ["order_placed", "ready"]


async def test_every_message_has_words_in_both_languages() -> None:
    for kind in wording.Kind:
        english, spanish = wording.words(kind, "en-US"), wording.words(kind, "es-AR")
        assert english != spanish
        assert wording.words(kind, "fr-FR") == english


async def test_the_mail_box_takes_the_same_few_reads_however_much_is_in_it(
    app: Channel, sku: str, api: httpx.AsyncClient, run_jobs: RunJobs, statements: Statements
) -> None:
    await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)
    await run_jobs()
    await _mails(api)
    async with statements.counted() as seen:
        assert len(await _mails(api)) > 1
    assert len(seen) <= 8


async def _mails(api: httpx.AsyncClient, order_id: str | None = None) -> list[dict[str, Any]]:
    mails = (await api.get("/demo/mailbox", headers={"Accept": "application/json"})).json()["data"]
    return [mail for mail in mails if order_id in {None, mail["order_id"]}]
