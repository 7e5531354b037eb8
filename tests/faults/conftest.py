"""A hub that gives its processor half a second, and a look into the processor's own books."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub.jobs import orders
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.serving import Books

PATIENCE_SECONDS = 0.5

MAKE_DUE = "UPDATE payments.open_operations SET next_try_at = now()"

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
