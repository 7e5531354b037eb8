"""The payer is sent to the bank, or the line breaks: the buyer is told where it stands, and it ends by itself."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.jobs import orders
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.serving import Books, done, event_of, findings, signed

RunJobs = Callable[[], Awaitable[None]]


@pytest.fixture
async def books(settings: Settings) -> Any:
    books = Books(settings)
    yield books
    await books.aclose()


async def test_the_payer_proves_who_they_are_and_the_webhook_places_the_order(
    app: Channel, channels: Channels, api: httpx.AsyncClient, hub: Hub, books: Books, run_jobs: RunJobs
) -> None:
    sku = await channels.product({"DC1": 3})
    cart = await app.cart({"sku": sku}, ship=True)
    card = {"type": "card", "payment_method": "pm_requires_action"}
    begun = await app.check_out(cart, card, key=f"buy {cart['id']}")
    order = begun.json()
    assert (begun.status_code, order["state"], order["payment_state"]) == (202, "awaiting_payment", "pending")
    url = order["next_action"]["url"]
    assert (await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"]))["next_action"]["url"] == url
    await books.decide(url, "approve")

    await _webhook(api, hub, books, order)
    await orders.apply_webhooks(hub)
    placed = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    assert (placed["state"], placed["payment_state"], placed["next_action"]) == ("placed", "authorized", None)
    final = await app.check_out(cart, card, key=f"buy {cart['id']}")
    assert (final.status_code, final.json()["id"], final.headers["idempotent-replayed"]) == (201, order["id"], "true")
    await run_jobs()
    mail = (await api.get("/demo/mailbox", headers={"Accept": "application/json"})).json()["data"]
    assert any(each["order_id"] == order["id"] for each in mail)


async def test_was_i_charged_is_answered_by_asking_again(
    app: Channel,
    channels: Channels,
    api: httpx.AsyncClient,
    hub: Hub,
    books: Books,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: Any = api._transport
    monkeypatch.setattr(served.app.state.hub.processors["sandbox"], "_call_seconds_max", 0.5)
    sku = await channels.product({"DC1": 3})
    cart = await app.cart({"sku": sku}, ship=True)
    lost = {"type": "card", "payment_method": "pm_answer_lost"}
    first = await app.check_out(cart, lost, key=f"lost {cart['id']}")
    assert (first.status_code, first.json()["state"]) == (202, "payment_unknown")
    assert await channels.level(sku, "DC1") == (3, 1)
    again = await app.check_out(cart, lost, key=f"lost {cart['id']}")
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (
        202,
        first.json()["id"],
        "payment_unknown",
    )

    await _webhook(api, hub, books, first.json())
    await orders.apply_webhooks(hub)
    final = await app.check_out(cart, lost, key=f"lost {cart['id']}")
    assert (final.status_code, final.json()["state"], final.json()["id"]) == (201, "placed", first.json()["id"])
    (payment,) = await books.payments(database, [ids.parse("ord", first.json()["id"])])
    assert done(payment) == [("authorize", "succeeded")]
    async with database.connection() as db:
        assert await findings(db) == []


async def _webhook(api: httpx.AsyncClient, hub: Hub, books: Books, order: Any) -> None:
    """The suite's sandbox has nowhere to send them to: bring one as it would."""
    (payment,) = await books.payments(hub.database, [ids.parse("ord", order["id"])])
    body = event_of(payment)
    headers = signed(body, hub.settings.sandbox_webhook_secret or "")
    assert (await api.post("/v1/webhooks/sandbox", content=body, headers=headers)).status_code == 200
