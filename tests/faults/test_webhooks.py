"""What a processor tells by itself finishes orders, in any order and any number of copies, and is never believed."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.workflows.parts import Hub
from payments import processors
from tests.client import Channel, Channels
from tests.faults.conftest import Age, Complete, Post
from tests.serving import Books, done, findings

LOST = {"type": "card", "payment_method": "pm_answer_lost"}
ASKS_PAYER = {"type": "card", "payment_method": "pm_requires_action"}


@pytest.fixture
async def cart(app: Channel, channels: Channels) -> Any:
    return await app.cart({"sku": await channels.product({"DC1": 5}, price=2_500)}, ship=True)


class Story:
    """An order whose payment hangs, and the payment as the processor has it."""

    def __init__(self, app: Channel, cart: Any, books: Books, database: Database) -> None:
        self.app, self.cart, self.books, self.database = app, cart, books, database
        self.order: Any = {}

    async def begin(self, card: dict[str, str]) -> dict[str, Any]:
        answer = await self.app.check_out(self.cart, card)
        assert answer.status_code == 202, answer.text
        self.order = answer.json()
        return await self.payment()

    async def payment(self) -> dict[str, Any]:
        (payment,) = await self.books.payments(self.database, [ids.parse("ord", self.order["id"])])
        return payment

    async def state(self) -> str:
        order = await self.app.ok("GET", f"/v1/orders/{self.order['id']}", token=self.cart["token"])
        return str(order["state"])

    async def told(self) -> list[str]:
        path = f"/v1/orders/{self.order['id']}/timeline"
        return [entry["type"] for entry in (await self.app.ok("GET", path, token=self.cart["token"]))["data"]]


@pytest.fixture
def story(app: Channel, cart: Any, books: Books, database: Database) -> Story:
    return Story(app, cart, books, database)


async def test_a_webhook_places_the_order_whose_answer_was_lost(story: Story, post: Post, database: Database) -> None:
    payment = await story.begin(LOST)
    assert await story.state() == "payment_unknown"
    assert await post.deliver(payment) == 1
    assert await story.state() == "payment_unknown"  # kept, and not applied by whoever takes it in
    assert await post.read(payment) == 0
    assert await story.state() == "placed"
    async with database.connection() as db:
        assert await findings(db) == []


async def test_an_event_that_comes_five_times_is_kept_once(story: Story, post: Post) -> None:
    payment = await story.begin(LOST)
    event_id = f"evt_{uuid.uuid4().hex}"
    assert [await post.deliver(payment, event_id=event_id) for _ in range(5)] == [1, 0, 0, 0, 0]
    assert await post.read(payment) == 0
    assert await post.deliver(payment, event_id=event_id) == 0


async def test_events_in_the_wrong_order_and_in_copies_come_to_one_order(story: Story, post: Post) -> None:
    before = await story.begin(ASKS_PAYER)
    await story.books.decide(story.order["next_action"]["url"], "approve")
    after = await story.payment()
    for payment, kind in ((after, "payment.authorized"), (before, "payment.requires_action"), (after, "payment.x")):
        assert await post.deliver(payment, kind) == 1
        assert await post.read(payment) == 0
    assert await story.told() == ["order.awaiting_payment", "order.placed"]
    assert done(await story.payment()) == [("authorize", "succeeded")]


async def test_an_event_that_says_more_than_is_true_is_not_believed(story: Story, post: Post) -> None:
    payment = await story.begin(ASKS_PAYER)
    lie = {**payment, "status": "authorized", "amount_authorized": payment["amount"]}
    await post.deliver(lie)
    assert await post.read(payment) == 0
    assert await story.state() == "awaiting_payment"


async def test_an_event_before_our_own_call_has_returned_is_left_to_that_call(
    app: Channel, cart: Any, story: Story, post: Post, database: Database, age: Age
) -> None:
    buying = asyncio.create_task(app.check_out(cart, LOST))
    payment = await _when_booked(story, cart, database)
    await post.deliver(payment)
    assert await post.read(payment) == 1
    assert await story.state() == "awaiting_payment"
    await age(story.order, seconds=10)  # and now it has been long enough
    assert await post.read(payment) == 0
    answer = await buying
    assert (answer.status_code, answer.json()["state"]) == (201, "placed")
    assert await story.told() == ["order.awaiting_payment", "order.placed"]


async def test_an_event_about_a_payment_of_somebody_else_changes_nothing(story: Story, post: Post) -> None:
    payment = await story.begin(LOST)
    for reference in (str(uuid.uuid4()), "an order of another shop"):
        stranger = {**payment, "reference": reference}
        assert await post.deliver(stranger) == 1
        assert await post.read(stranger) == 0
    assert await story.state() == "payment_unknown"


async def test_an_event_of_a_payment_that_the_processor_cannot_show_now_comes_up_again(
    story: Story, post: Post, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await story.begin(LOST)
    await post.deliver(payment)

    async def silent(_: str) -> processors.Unknown:
        return processors.Unknown(detail="it is down")

    with monkeypatch.context() as broken:
        broken.setattr(hub.processors["sandbox"], "retrieve", silent)
        assert await post.read(payment) == 1
    assert await story.state() == "payment_unknown"
    assert await post.read(payment) == 0
    assert await story.state() == "placed"


async def test_an_event_of_money_for_an_order_that_failed_lets_go_of_the_money(
    story: Story,
    post: Post,
    complete: Complete,
    age: Age,
    run_jobs: Callable[[], Awaitable[None]],
    hub: Hub,
    database: Database,
) -> None:
    answer = await story.app.check_out(story.cart, {"type": "card", "payment_method": "pm_error_before"})
    story.order = answer.json()
    await age(story.order, minutes=1)
    await complete()
    assert await story.state() == "failed"
    payment = await _charge_late(story, hub, database)
    for _ in range(3):
        await post.deliver(payment)
    assert await post.read(payment) == 0
    await run_jobs()
    assert done(await story.payment()) == [("authorize", "succeeded"), ("void", "succeeded")]
    assert await story.state() == "failed"
    assert (await story.told())[-2:] == ["payment.came_late", "payment.voided"]
    await post.deliver(await story.payment(), "payment.voided")
    assert await post.read(payment) == 0
    async with database.connection() as db:
        assert await findings(db) == []


async def _when_booked(story: Story, cart: Any, database: Database) -> dict[str, Any]:
    statement = "SELECT id FROM commercehub.orders WHERE cart_id = $1"
    while True:
        async with database.connection() as db:
            order_id = await db.fetchval(statement, ids.parse("cart", cart["id"]))
        if order_id is not None and (found := await story.books.payments(database, [order_id])):
            story.order = {"id": ids.show("ord", order_id)}
            return found[0]
        await asyncio.sleep(0.02)


async def _charge_late(story: Story, hub: Hub, database: Database) -> dict[str, Any]:
    """The first question arrives at last, long after everybody has given it up."""
    statement = """
        SELECT intent.id, operation.operation_id, intent.amount_minor FROM payments.intents AS intent
        JOIN payments.operations AS operation ON operation.intent_id = intent.id
        WHERE intent.reference = $1 LIMIT 1
    """
    async with database.connection() as db:
        row = await db.fetchrow(statement, ids.parse("ord", story.order["id"]))
    assert row is not None
    async with httpx.AsyncClient(base_url=hub.settings.sandbox_url or "", trust_env=False) as client:
        asked = {
            "amount": row["amount_minor"],
            "currency": "USD",
            "reference": str(row["id"]),
            "payment_method": "pm_error_before",
            "return_url": None,
            "capture": False,
        }
        headers = {
            "Authorization": f"Bearer {hub.settings.sandbox_key}",
            "Idempotency-Key": str(row["operation_id"]),
        }
        answer = await client.post("/v1/payments", json=asked, headers=headers)
        assert answer.status_code == 201, answer.text
    return await story.payment()
