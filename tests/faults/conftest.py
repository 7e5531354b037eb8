"""A hub that gives its processor half a second, and a look into the processor's own books."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.jobs import orders
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.serving import Books, event_of, signed

PATIENCE_SECONDS = 0.5

MAKE_DUE = "UPDATE payments.open_operations SET next_try_at = now()"
MAKE_OLD = """
UPDATE payments.open_operations SET begun_at = begun_at - $2::interval
WHERE intent_id IN (SELECT id FROM payments.intents WHERE reference = $1)
"""
LETTERS_DUE = "UPDATE payments.inbox SET next_try_at = now() WHERE applied_at IS NULL"
LETTERS_LEFT = "SELECT count(*) FROM payments.inbox WHERE applied_at IS NULL AND reference = $1"

Complete = Callable[[], Awaitable[None]]


@pytest.fixture(scope="package")
async def books(settings: Settings) -> AsyncIterator[Books]:
    books = Books(settings)
    yield books
    await books.aclose()


@pytest.fixture(autouse=True)
def impatient(api: httpx.AsyncClient, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served: Any = api._transport
    for each in (hub, served.app.state.hub):
        monkeypatch.setattr(each.processors["sandbox"], "_call_seconds_max", PATIENCE_SECONDS)


@pytest.fixture
def complete(hub: Hub) -> Complete:
    """What the completer does a while later, now."""

    async def complete() -> None:
        async with hub.database.connection() as db:
            await db.execute(MAKE_DUE)
        await orders.resolve_payments(hub)

    return complete


class Age:
    """Makes what waits for a processor older than it is."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def __call__(self, order: Mapping[str, Any], **by: float) -> None:
        async with self._hub.database.connection() as db:
            await db.execute(MAKE_OLD, ids.parse("ord", order["id"]), timedelta(**by))


@pytest.fixture
def age(hub: Hub) -> Age:
    return Age(hub)


class Post:
    """Brings webhooks, and says how many of a payment are not applied yet."""

    def __init__(self, http: httpx.AsyncClient, hub: Hub) -> None:
        self._http, self._hub = http, hub

    async def deliver(self, payment: Mapping[str, Any], kind: str = "payment.authorized", *, event_id: str = "") -> int:
        body = event_of(payment, kind, event_id=event_id)
        headers = signed(body, self._hub.settings.sandbox_webhook_secret or "")
        answer = await self._http.post("/v1/webhooks/sandbox", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["new"])

    async def read(self, payment: Mapping[str, Any]) -> int:
        """Work off what came, whatever was put off; returns how many events of this payment are left."""
        async with self._hub.database.connection() as db:
            await db.execute(LETTERS_DUE)
            await orders.apply_webhooks(self._hub)
            return int(await db.fetchval(LETTERS_LEFT, payment["reference"]))


@pytest.fixture
def post(api: httpx.AsyncClient, hub: Hub) -> Post:
    return Post(api, hub)
