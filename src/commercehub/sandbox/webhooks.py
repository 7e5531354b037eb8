"""Sending events: signed, at least once, in no order that anyone may rely on."""

import asyncio
import hashlib
import hmac
import logging
import sqlite3
import time
from collections.abc import Sequence
from typing import Final

import httpx

from commercehub.sandbox.books import Books, Event

log = logging.getLogger(__name__)

SEND_SECONDS_MAX: Final = 5.0
BATCH_EVENTS_MAX: Final = 16
PAUSE_SECONDS_MIN: Final = 0.25
PAUSE_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.5
"""For what is due again; news wake the sender at once."""


def signature(body: bytes, *, signed_at: int, secrets: Sequence[str]) -> str:
    """The header that proves an event is ours: one ``v1`` for each secret in force, over the time and the raw body."""
    message = str(signed_at).encode() + b"." + body
    proofs = [hmac.new(secret.encode(), message, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={signed_at}", *(f"v1={proof}" for proof in proofs)])


class Sender:
    """Sends what is due in the books to one address until it is cancelled."""

    def __init__(self, books: Books, *, url: str, secrets: Sequence[str], copies: int = 1) -> None:
        self._books = books
        self._url = url
        self._secrets = secrets
        self._copies = copies
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Something may be due now."""
        self._news.set()

    def letter(self, event: Event) -> tuple[str, bytes, str]:
        """Where an event goes, in which words, and the name of the header that proves it."""
        return self._url, event.body, "Sandbox-Signature"

    async def run(self) -> None:
        """Never returns. What a kill leaves unsent is still in the books when the next process starts."""
        async with httpx.AsyncClient(timeout=SEND_SECONDS_MAX, trust_env=False) as client:
            while True:
                self._news.clear()
                try:
                    due = self._books.due_events(limit=BATCH_EVENTS_MAX)
                    await asyncio.gather(*(self._send(client, event) for event in due))
                except sqlite3.Error:
                    due = []
                    log.exception("the books could not be read, so no event was sent")
                if not due:
                    await self._news_or_poll()

    async def _news_or_poll(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return

    async def _send(self, client: httpx.AsyncClient, event: Event) -> None:
        url, body, header = self.letter(event)
        proof = signature(body, signed_at=int(time.time()), secrets=self._secrets)
        headers = {"Content-Type": "application/json", header: proof}
        answers = await asyncio.gather(
            *(client.post(url, content=body, headers=headers) for _ in range(self._copies)),
            return_exceptions=True,
        )
        if all(isinstance(answer, httpx.Response) and answer.is_success for answer in answers):
            self._books.event_delivered(event.id)
        else:
            pause_seconds = min(PAUSE_SECONDS_MIN * 2**event.attempts, PAUSE_SECONDS_MAX)
            self._books.event_failed(event.id, pause_seconds=pause_seconds)
