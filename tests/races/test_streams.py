"""Live news across processes: whichever worker a listener sits on hears of what any other did, and a server that is told
to stop does not wait for those who listen."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from commercehub.database import Database
from commercehub.settings import Settings
from tests.client import Channel, Channels
from tests.serving import serving_hub
from tests.transactions import until_settled

TOLD_SECONDS_MAX = 1.0
STOP_SECONDS_MAX = 3.0
LISTENERS = 8

Lines = asyncio.StreamReader


@asynccontextmanager
async def _listening(base_url: str, path: str, key: str) -> AsyncIterator[Lines]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    try:
        await _until(reader, b": open")
        yield reader
    finally:
        writer.close()


async def _until(reader: Lines, wanted: bytes) -> bytes:
    async with asyncio.timeout(5):
        while True:
            line = await reader.readline()
            assert line, f"the stream ended before {wanted!r}"
            if line.startswith(wanted):
                return line


async def test_whichever_process_made_it_every_listener_hears_of_it_within_a_second(
    app: Channel, admin: Channel, channels: Channels, settings: Settings, database: Database
) -> None:
    sku = await channels.product({"DC1": 5})
    await until_settled(database)
    place = await channels.location("DC1")
    path = f"/v1/availability/stream?sku={sku}"
    async with asyncio.timeout(20):
        streams = [_listening(settings.base_url, path, app.key) for _ in range(LISTENERS)]
        readers = [await stream.__aenter__() for stream in streams]
        try:
            begun = time.monotonic()
            lines = [{"sku": sku, "quantity": 1}]
            await admin.ok("POST", "/v1/stock/receipts", {"location_id": place, "lines": lines})
            told = await asyncio.gather(*(_until(reader, b"data:") for reader in readers))
            took = time.monotonic() - begun
        finally:
            for stream in streams:
                await stream.__aexit__(None, None, None)
    assert {json.loads(line.removeprefix(b"data:"))["available"] for line in told} == {6}
    assert took < TOLD_SECONDS_MAX


async def test_a_server_that_is_told_to_stop_does_not_wait_for_those_who_listen(
    app: Channel, channels: Channels, settings: Settings, free_port: Callable[[], int], tmp_path: Path
) -> None:
    sku = await channels.product({"DC1": 5})
    given: Any = msgspec.structs.replace(settings, base_url=f"http://127.0.0.1:{free_port()}")
    with (tmp_path / "log").open("wb") as log, serving_hub(given, log, workers=1) as process:
        async with _listening(given.base_url, f"/v1/availability/stream?sku={sku}", app.key) as reader:
            begun = time.monotonic()
            process.terminate()
            async with asyncio.timeout(10):
                while await reader.readline():
                    pass
            await asyncio.to_thread(process.wait, 10)
            assert time.monotonic() - begun < STOP_SECONDS_MAX
