"""A caller who listens: one request that stays open, told apart into the events that have come so far."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

SOON_SECONDS_MAX = 3.0


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a stream; a comment has its words as ``data`` alone."""

    type: str
    id: str | None
    data: Any


class Stream:
    """An answer that is still being given. ASGI itself: ``httpx`` would wait for its end."""

    def __init__(self, status: int, headers: Mapping[str, str], chunks: "asyncio.Queue[bytes]") -> None:
        self.status, self.headers, self._chunks = status, headers, chunks
        self._rest = b""
        self.comments: list[str] = []

    async def next(self, seconds: float = SOON_SECONDS_MAX) -> Heard | None:
        """The next event, or ``None`` at the end."""
        async with asyncio.timeout(seconds):
            while True:
                while b"\n\n" in self._rest:
                    block, _, self._rest = self._rest.partition(b"\n\n")
                    if (heard := self._read(block.decode())) is not None:
                        return heard
                chunk = await self._chunks.get()
                if not chunk:
                    return None
                self._rest += chunk

    async def ended(self) -> None:
        """Read to the end, which has to come without another event."""
        heard = await self.next()
        assert heard is None, heard

    async def body(self) -> Any:
        """The whole of an answer that is no stream."""
        while chunk := await self._chunks.get():
            self._rest += chunk
        return json.loads(self._rest)

    def _read(self, block: str) -> Heard | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.strip()
            else:
                self.comments.append(value.strip())
        if "data" not in fields:
            return None
        return Heard(type=fields["event"], id=fields.get("id"), data=json.loads(fields["data"]))


@asynccontextmanager
async def listening(
    api: httpx.AsyncClient, path: str, *, key: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Ask, and go away at the end."""
    app: Any = api._transport.app  # type: ignore[attr-defined]
    address, _, query = path.partition("?")
    sent = {"authorization": f"Bearer {key}", **(headers or {})}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": address,
        "raw_path": address.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "server": ("hub.test", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
        "state": dict(app.state._state) if hasattr(app.state, "_state") else {},
    }
    begun: asyncio.Future[tuple[int, dict[str, str]]] = asyncio.get_running_loop().create_future()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    gone = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.decode(): value.decode() for name, value in message["headers"]}
            begun.set_result((message["status"], given))
        elif message.get("body"):
            chunks.put_nowait(message["body"])
        if message["type"] == "http.response.body" and not message.get("more_body"):
            chunks.put_nowait(b"")

    call = asyncio.create_task(app(scope, receive, send))
    try:
        async with asyncio.timeout(SOON_SECONDS_MAX):
            await asyncio.wait((begun, call), return_when=asyncio.FIRST_COMPLETED)
            stream = Stream(*await begun, chunks)
        yield stream
    finally:
        gone.set()
        async with asyncio.timeout(SOON_SECONDS_MAX):
            await call
