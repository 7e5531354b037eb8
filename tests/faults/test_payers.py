"""A payer who was sent to the processor's page and never acts: the goods are free once the processor let go."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from commercehub import ids
from commercehub.app import open_hub
from commercehub.database import Database
from commercehub.jobs import orders
from commercehub.settings import Settings
from commercehub.workflows import inquiries
from commercehub.workflows.parts import Hub
from payments import processors
from tests.client import Channel, Channels
from tests.faults.conftest import Complete
from tests.serving import Books, done, findings

CARD = {"type": "card", "payment_method": "pm_requires_action"}
UNITS = 5


@pytest.fixture
async def sku(channels: Channels) -> str:
    return await channels.product({"DC1": UNITS}, price=2_500)


@pytest.fixture
async def cart(app: Channel, sku: str) -> Any:
    return await app.cart({"sku": sku}, ship=True)


@pytest.fixture
async def later(settings: Settings) -> AsyncIterator[Hub]:
    """The same hub half an hour later."""
    seconds = int(inquiries.PAYER_ACTS_WITHIN.total_seconds()) + 60
    async with open_hub(msgspec.structs.replace(settings, clock_offset_seconds=seconds, pool_size=2)) as hub:
        yield hub


async def test_where_the_payer_has_to_go_is_said_again_by_the_same_key_and_by_the_order(
    app: Channel, cart: Any, books: Books
) -> None:
    first = await app.check_out(cart, CARD, key="where")
    action = first.json()["next_action"]
    assert action["type"] == "redirect"
    again = await app.check_out(cart, CARD, key="where")
    assert (again.status_code, again.json()["next_action"]) == (202, action)
    order = await app.ok("GET", f"/v1/orders/{first.json()['id']}", token=cart["token"])
    assert order["next_action"] == action
    await books.decide(action["url"], "approve")


async def test_nobody_is_sent_anywhere_once_the_payment_has_ended(
    app: Channel, cart: Any, books: Books, complete: Complete
) -> None:
    first = (await app.check_out(cart, CARD, key="ended")).json()
    await books.decide(first["next_action"]["url"], "approve")
    await complete()
    order = await app.ok("GET", f"/v1/orders/{first['id']}", token=cart["token"])
    assert (order["state"], order["next_action"]) == ("placed", None)
    final = await app.check_out(cart, CARD, key="ended")
    assert (final.status_code, final.json().get("next_action")) == (201, None)


async def test_a_payer_who_never_acts_is_not_waited_for_longer_than_half_an_hour(
    app: Channel, channels: Channels, cart: Any, sku: str, books: Books, database: Database, later: Hub
) -> None:
    first = (await app.check_out(cart, CARD, key="never")).json()
    assert await channels.level(sku, "DC1") == (UNITS, 1)
    await orders.resolve_payments(later)
    final = await app.check_out(cart, CARD, key="never")
    assert (final.status_code, final.json()["code"]) == (402, "payment_not_completed")
    assert await channels.level(sku, "DC1") == (UNITS, 0)
    (payment,) = await books.payments(database, [ids.parse("ord", first["id"])])
    assert payment["status"] == "voided"
    async with database.connection() as db:
        assert await findings(db) == []
    bought = await app.check_out(cart, {"type": "card", "payment_method": "pm_ok"})
    assert (bought.status_code, bought.json()["state"]) == (201, "placed")


async def test_the_goods_stay_held_until_the_processor_has_let_go(
    app: Channel,
    channels: Channels,
    cart: Any,
    sku: str,
    books: Books,
    later: Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = (await app.check_out(cart, CARD, key="held")).json()

    async def silent(_: processors.Operation) -> processors.Unknown:
        return processors.Unknown(detail="it is down")

    with monkeypatch.context() as broken:
        broken.setattr(later.processors["sandbox"], "void", silent)
        await orders.resolve_payments(later)
    held = await app.check_out(cart, CARD, key="held")
    assert (held.status_code, held.json()["state"], held.json()["next_action"]) == (202, "awaiting_payment", None)
    assert await channels.level(sku, "DC1") == (UNITS, 1)
    # The payer acts now that it is too late: that is not an order any more.
    await books.decide(first["next_action"]["url"], "approve")
    await _make_due(later)
    await orders.resolve_payments(later)
    final = await app.check_out(cart, CARD, key="held")
    assert (final.status_code, final.json()["code"]) == (402, "payment_not_completed")
    (payment,) = await books.payments(later.database, [ids.parse("ord", first["id"])])
    assert done(payment) == [("authorize", "succeeded"), ("void", "succeeded")]
    assert await channels.level(sku, "DC1") == (UNITS, 0)


async def test_a_payer_who_acts_at_the_last_moment_has_bought(
    app: Channel, cart: Any, books: Books, later: Hub
) -> None:
    first = (await app.check_out(cart, CARD, key="last moment")).json()
    await books.decide(first["next_action"]["url"], "approve")
    await orders.resolve_payments(later)
    final = await app.check_out(cart, CARD, key="last moment")
    assert (final.status_code, final.json()["state"]) == (201, "placed")


async def _make_due(hub: Hub) -> None:
    async with hub.database.connection() as db:
        await db.execute("UPDATE payments.open_operations SET next_try_at = now()")
