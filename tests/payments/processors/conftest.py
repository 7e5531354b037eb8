import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from payments.processors.sandbox import Sandbox
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


def _sandbox(url: str, call_seconds_max: float = 5.0) -> Sandbox:
    return Sandbox(
        base_url=url,
        api_key=API_KEY,
        webhook_secrets=(WEBHOOK_SECRETS[0], "whsec_unused"),
        call_seconds_max=call_seconds_max,
    )


@pytest.fixture(scope="session", params=["sandbox"])
async def bench(request: pytest.FixtureRequest, peer: Peer, inbox: Inbox) -> AsyncIterator[Bench]:
    """Every adapter comes through here: it passes the suite or it is none."""
    adapter = {"sandbox": _sandbox}[request.param]
    bench = Bench(
        processor=adapter(peer.url),
        impatient=adapter(peer.url, 0.5),
        make=adapter,
        peer=peer,
        inbox=inbox,
    )
    try:
        yield bench
    finally:
        await bench.processor.aclose()
        await bench.impatient.aclose()
