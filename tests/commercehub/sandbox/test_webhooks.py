"""Events on purpose in copies and out of order, for whoever listens to prove that neither matters."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from commercehub.sandbox.app import Settings
from commercehub.sandbox.books import Books, Claim
from commercehub.sandbox.webhooks import Sender
from tests.payments.processors.bench import Inbox

NEEDED = {"HUB_SANDBOX_DATABASE": "x", "HUB_SANDBOX_SECRET": "y"}


def _pay(books: Books, key: str) -> None:
    claim = Claim(account="me", key=key, fingerprint=key)
    books.authorize(claim, reference=key, amount=100, currency="USD", payment_method="pm_ok", return_url=None)


async def _received(books: Books, inbox: Inbox, wanted: int, *, copies: int) -> list[str]:
    async with await asyncio.start_server(inbox.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sending = asyncio.create_task(
            Sender(books, url=f"http://127.0.0.1:{port}/", secrets=["s"], copies=copies).run()
        )
        async with asyncio.timeout(10):
            while len(inbox.hooks) < wanted:
                await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.wait({sending})
    return [msgspec.json.decode(hook.raw)["payment"]["reference"] for hook in inbox.hooks]


async def test_an_event_comes_in_as_many_copies_as_are_wanted_and_again_if_one_is_refused(tmp_path: Path) -> None:
    books, inbox = Books(tmp_path / "books.sqlite", events=True), Inbox(refuse_next=1)
    _pay(books, "one")
    assert await _received(books, inbox, 5, copies=3) == ["one"] * 5
    assert len({msgspec.json.decode(hook.raw)["id"] for hook in inbox.hooks}) == 1
    books.close()


async def test_events_that_are_held_back_come_in_another_order(tmp_path: Path) -> None:
    books, inbox = Books(tmp_path / "books.sqlite", events=True, event_delay_seconds_max=0.5), Inbox()
    keys = [str(number) for number in range(20)]
    for key in keys:
        _pay(books, key)
    received = await _received(books, inbox, len(keys), copies=1)
    assert sorted(received, key=int) == keys != received
    books.close()


@pytest.mark.parametrize(
    "wrong", [{"HUB_SANDBOX_WEBHOOK_COPIES": "many"}, {"HUB_SANDBOX_WEBHOOK_SHUFFLE_SECONDS": "long"}]
)
def test_what_is_no_number_is_refused_at_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"many|long"):
        Settings.read({**NEEDED, **wrong})
