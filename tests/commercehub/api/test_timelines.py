"""One list of what happened with a customer, whatever channel it came through, and notes that only staff reads."""

import uuid
from typing import Any

import pytest
from asyncpg import Connection

from commercehub import events, ids
from commercehub.database import Database
from commercehub.events import Actor, Event
from tests.client import Channel, Channels

CARD = {"type": "card", "payment_method": "pm_ok"}
PASSWORD = "a password of a test"

NOTES_ANYWHERE_ELSE = """
SELECT (SELECT count(*) FROM commercehub.timeline WHERE changes::text LIKE '%' || $1 || '%')
     + (SELECT count(*) FROM commercehub.events WHERE body::text LIKE '%' || $1 || '%')
     + (SELECT count(*) FROM commercehub.idempotency_keys WHERE body LIKE '%' || $1 || '%')
     + (SELECT count(*) FROM commercehub.audit WHERE changes::text LIKE '%' || $1 || '%')
"""


class Known(Channel):
    """A customer, signed in through the app."""

    id: str


@pytest.fixture
async def customer(app: Channel) -> Known:
    return await _sign_up(app)


async def _sign_up(app: Channel) -> Known:
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    made = await app.ok("POST", "/v1/customers", {"email": email, "password": PASSWORD})
    tokens = await app.ok("POST", "/v1/customers/sessions", {"email": email, "password": PASSWORD})
    known = Known(app.http, tokens["access_token"])
    known.id = made["id"]
    return known


async def _timeline(channel: Channel, customer: Known, query: str = "") -> list[dict[str, Any]]:
    page = await channel.ok("GET", f"/v1/customers/{customer.id}/timeline{query}")
    return list(page["data"])


async def test_what_happened_in_every_channel_stands_in_one_list(
    customer: Known, channels: Channels, database: Database
) -> None:
    sku = await channels.product({"DC1": 5})
    orders = []
    for name in ("customer", "call_center"):
        channel = customer if name == "customer" else channels[name]
        cart = await channel.ok("POST", "/v1/carts", {} if name == "customer" else {"customer_id": customer.id})
        await channel.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku})
        address = {"name": "Ada", "line1": "1 Main St", "city": "Austin", "postal_code": "78701", "country": "US"}
        await channel.ok("PUT", f"/v1/carts/{cart['id']}/delivery", {"method": "ship", "address": address})
        answer = await channel.check_out({"id": cart["id"]}, CARD)
        assert answer.status_code == 201, answer.text
        orders.append(answer.json()["id"])
    found = [entry for entry in await _timeline(customer, customer) if entry["type"] == "order.awaiting_payment"]
    assert [(entry["order_id"], entry["channel"]) for entry in found] == list(
        zip(orders, ("app", "call_center"), strict=True)
    )
    assert await _timeline(channels["call_center"], customer) == await _timeline(customer, customer)
    of_order = (await customer.ok("GET", f"/v1/orders/{orders[0]}/timeline"))["data"]
    of_customer = [entry for entry in await _timeline(customer, customer) if entry["order_id"] == orders[0]]
    assert of_customer == [entry | {"order_id": orders[0]} for entry in of_order]


async def test_what_belongs_to_no_order_stands_there_too(customer: Known, database: Database) -> None:
    customer_id = ids.parse("cus", customer.id)
    added = Event(
        type="wishlist.item_added",
        aggregate_id=ids.new(),
        sequence=1,
        body={"sku": "X"},
        actor=Actor(name=customer.id, channel="app"),
        customer_id=customer_id,
    )

    async def work(db: Connection, now: Any) -> None:
        await events.append(db, [added], now=now)

    await database.transaction(work)
    entry = (await _timeline(customer, customer))[-1]
    assert (entry["type"], entry["order_id"], entry["changes"]) == ("wishlist.item_added", None, {"sku": "X"})


async def test_a_note_is_read_by_whoever_helps_and_not_by_the_customer(customer: Known, channels: Channels) -> None:
    chat = channels["chat"]
    note = await chat.ok("POST", f"/v1/customers/{customer.id}/notes", {"text": "Prefers a call.\nAfter six."})
    assert (note["text"], note["customer_id"]) == ("Prefers a call.\nAfter six.", customer.id)
    (entry,) = [each for each in await _timeline(channels["store"], customer) if each["type"] == "note.added"]
    assert (entry["changes"], entry["actor"]) == ({"note_id": note["id"], "text": note["text"]}, note["actor"])
    assert entry["channel"] == "chat"
    assert "note.added" not in {each["type"] for each in await _timeline(customer, customer)}


async def test_the_words_of_a_note_have_one_home_and_a_repeated_answer_reads_them_there(
    customer: Known, admin: Channel, database: Database
) -> None:
    words = f"likes {uuid.uuid4().hex}"
    path = f"/v1/customers/{customer.id}/notes"
    first = await admin.post(path, {"text": words}, key=words)
    again = await admin.post(path, {"text": words}, key=words)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    async with database.connection() as db:
        assert await db.fetchval(NOTES_ANYWHERE_ELSE, words) == 0
    assert len(await _timeline(admin, customer)) == len(await _timeline(customer, customer)) + 1


async def test_a_timeline_goes_on_where_its_page_ended(customer: Known, admin: Channel) -> None:
    for number in range(5):
        await admin.ok("POST", f"/v1/customers/{customer.id}/notes", {"text": f"note {number}"})
    whole = await _timeline(admin, customer)
    found, query = [], "?limit=2"
    while True:
        page = await admin.ok("GET", f"/v1/customers/{customer.id}/timeline{query}")
        found += page["data"]
        if page["next_cursor"] is None:
            break
        await admin.ok("POST", f"/v1/customers/{customer.id}/notes", {"text": "meanwhile"}) if len(found) == 2 else None
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert found[: len(whole)] == whole
    assert found[len(whole) :][0]["changes"]["text"] == "meanwhile"


async def test_a_customer_knows_of_nobody_elses_timeline(customer: Known, app: Channel, admin: Channel) -> None:
    other = await _sign_up(app)
    for channel, customer_id, status in (
        (other, customer.id, 404),
        (admin, ids.show("cus", ids.new()), 404),
        (app, customer.id, 403),
    ):
        answer = await channel.get(f"/v1/customers/{customer_id}/timeline")
        assert answer.status_code == status
    nobody = ids.show("cus", ids.new())
    assert (await admin.post(f"/v1/customers/{nobody}/notes", {"text": "x"})).status_code == 404
    assert (await admin.post(f"/v1/customers/{nobody}/notes", {"text": ""})).status_code == 404
    assert (await customer.post(f"/v1/customers/{customer.id}/notes", {"text": "x"})).status_code == 403


@pytest.mark.parametrize("text", ["", " ", "\n\t", "x" * 4_001, 1, None])
async def test_a_note_has_words(text: Any, customer: Known, admin: Channel) -> None:
    answer = await admin.post(f"/v1/customers/{customer.id}/notes", {"text": text})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
