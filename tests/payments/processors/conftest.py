import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from payments.processors.sandbox import Sandbox
from payments.processors.stripe import Stripe
from tests.payments.processors.bench import API_KEY, WEBHOOK_SECRETS, Bench, Inbox, Peer


@pytest.fixture(scope="session")
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    server = await asyncio.start_server(inbox.serve, "127.0.0.1", 0)
    inbox.port = server.sockets[0].getsockname()[1]
    async with server:
        yield inbox


@pytest.fixture(scope="session")
def peer(inbox: Inbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    peer = Peer(tmp_path_factory.mktemp("peer"), webhook_url=f"http://127.0.0.1:{inbox.port}/hooks")
    try:
        peer.start()
        yield peer
    finally:
        peer.end()


USUAL = {"api_key": API_KEY, "webhook_secrets": (WEBHOOK_SECRETS[0], "whsec_unused")}


def _sandbox(url: str, **facts: Any) -> Sandbox:
    return Sandbox(base_url=url, **{**USUAL, **facts})


def _stripe(url: str, **facts: Any) -> Stripe:
    """The real SDK, against the face of the sandbox that speaks as Stripe does."""
    usual = {"return_url": "https://shop.example/back", "many_captures": True}
    return Stripe(base_url=f"{url}/stripe", **{**USUAL, **usual, **facts})


@pytest.fixture(scope="session", params=["sandbox", "stripe"])
async def bench(request: pytest.FixtureRequest, peer: Peer, inbox: Inbox) -> AsyncIterator[Bench]:
    """Every adapter comes through here: it passes the suite or it is none."""
    adapter: Any = {"sandbox": _sandbox, "stripe": _stripe}[request.param]
    bench = Bench(
        processor=adapter(peer.url, call_seconds_max=15.0),  # a busy machine is no fault of theirs
        impatient=adapter(peer.url, call_seconds_max=0.5),
        make=adapter,
        signature_header={"sandbox": "Sandbox-Signature", "stripe": "Stripe-Signature"}[request.param],
        peer=peer,
        inbox=inbox,
    )
    try:
        yield bench
    finally:
        await bench.processor.aclose()
        await bench.impatient.aclose()
