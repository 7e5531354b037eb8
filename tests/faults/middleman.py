"""Stands on the wire between the hub and its processor, both ways, and so knows the moments that a log never shows."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self

BEFORE_IT_BOOKS: Final = "before the processor books"
BOOKED: Final = "booked, and not yet answered"
ANSWERED: Final = "answered"
WEBHOOK_COMES: Final = "before the webhook arrives"
WEBHOOK_TAKEN: Final = "webhook taken, and not yet confirmed"
POINTS: Final = (BEFORE_IT_BOOKS, BOOKED, ANSWERED, WEBHOOK_COMES, WEBHOOK_TAKEN)

WORK_SECONDS_MAX: Final = 0.5
"""For the other side to do what it was asked, after whoever asked has gone."""


class Middleman:
    """Passes requests on, one at a time per connection, and calls ``reach`` at every named point."""

    def __init__(self, *, reach: Callable[[str], None], sandbox_port: int, hub_port: int) -> None:
        self._reach = reach
        self._sandbox_port, self._hub_port = sandbox_port, hub_port
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None]] = set()
        self.processor_port = self.webhook_port = 0

    async def __aenter__(self) -> Self:
        to_processor = await asyncio.start_server(self._to_processor, "127.0.0.1", 0, backlog=1024)
        to_hub = await asyncio.start_server(self._to_hub, "127.0.0.1", 0, backlog=1024)
        self._servers = [to_processor, to_hub]
        self.processor_port, self.webhook_port = (each.sockets[0].getsockname()[1] for each in self._servers)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _to_processor(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        points = (BEFORE_IT_BOOKS, BOOKED, ANSWERED)
        await self._serve(reader, writer, self._sandbox_port, b"POST /v1/payments ", points)

    async def _to_hub(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, self._hub_port, b"POST ", (WEBHOOK_COMES, WEBHOOK_TAKEN, ""))

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        port: int,
        watched: bytes,
        points: Sequence[str],
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        other: asyncio.StreamWriter | None = None
        try:
            other_reader, other = await asyncio.open_connection("127.0.0.1", port)
            while True:
                request = await _message(reader)
                is_watched = request.startswith(watched)
                if is_watched:
                    self._reach(points[0])
                other.write(request)
                answer = await _answer(other_reader, reader)
                if answer is None:
                    return
                if is_watched:
                    self._reach(points[1])
                writer.write(answer)
                await writer.drain()
                if is_watched:
                    self._reach(points[2])
        except (OSError, EOFError, asyncio.CancelledError):
            return
        finally:
            self._serving.discard(task)
            for each in (writer, other):
                if each is not None:
                    each.transport.abort()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A request or an answer with its body; what breaks off is passed on as far as it came, and then ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [
        int(value) for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")) if _is_length(name)
    ]
    try:
        return head + await reader.readexactly(sum(lengths))
    except asyncio.IncompleteReadError as error:
        return head + error.partial


def _is_length(name: bytes) -> bool:
    return name.strip().lower() == b"content-length"


async def _answer(other: asyncio.StreamReader, asker: asyncio.StreamReader) -> bytes | None:
    """The other side's answer, or ``None`` if whoever asked has gone; what was asked is done nevertheless."""
    answering = asyncio.create_task(_message(other))
    leaving = asyncio.create_task(asker.read(1))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            await asyncio.wait({answering}, timeout=WORK_SECONDS_MAX)
            return None
        return answering.result()
    finally:
        for task in (answering, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, OSError, EOFError):
                await task
