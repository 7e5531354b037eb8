"""Servers in processes of their own: granian with its workers, the sandbox, and what the sandbox's own books say."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import httpx
from asyncpg import Connection

from commercehub import settings
from commercehub.database import Database
from commercehub.demo import api_command
from commercehub.embedded.supervisor import _leash
from commercehub.sandbox.webhooks import signature
from commercehub.settings import Settings
from commercehub.workflows.verification import verify

READY_SECONDS_MAX = 20
WORKERS = 2

INTENTS_OF = "SELECT id FROM payments.intents WHERE reference = ANY ($1::uuid[])"


class serving:  # noqa: N801 - used like a function, in a with
    """A server in a process of its own, from its first answer until the with ends; some never answer."""

    def __init__(
        self, command: Collection[str], environ: Mapping[str, str], log: IO[bytes], health_url: str | None
    ) -> None:
        self._command, self._environ, self._log, self._health_url = command, environ, log, health_url

    def __enter__(self) -> "subprocess.Popen[bytes]":
        self.process = subprocess.Popen(
            list(self._command),
            env=self._environ,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=_leash(signal.SIGTERM),  # noqa: PLW1509 - a killed test run leaves nothing behind
        )
        if self._health_url is None:
            return self.process
        until = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self._health_url, timeout=1):
                    return self.process
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise AssertionError(f"{self._command} did not answer, see {getattr(self._log, 'name', '')}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)  # granian's workers outlive a parent that was killed
        self.process.wait(10)


def serving_hub(given: Settings, log: IO[bytes], *, factory: str | None = None, workers: int = WORKERS) -> serving:
    """The hub on granian as the demo runs it; ``factory`` makes another application than the hub's own."""
    command = api_command(given.base_url.rpartition(":")[2], workers=workers)
    environ = {**os.environ, **settings.environment(given)}
    return serving((*command[:-1], factory or command[-1]), environ, log, f"{given.base_url}/health/ready")


def serving_jobs(given: Settings, log: IO[bytes]) -> serving:
    """The process that works jobs off."""
    environ = {**os.environ, **settings.environment(given)}
    return serving((sys.executable, "-m", "commercehub.worker"), environ, log, None)


def workers_of(process: "subprocess.Popen[bytes]") -> list[int]:
    """The process ids of granian's workers: they are forked, or spawned beside a tracker of Python's own."""
    workers = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            with suppress(FileNotFoundError):
                if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    workers.append(int(pid))
    return sorted(workers)


class Wire(httpx.AsyncBaseTransport):
    """HTTP/1.1 over as many connections as there are requests at once.

    httpx's own pool looks through all of its connections for each request: two hundred buyers would stand in a queue
    before the hub, and not in it.
    """

    def __init__(self, base_url: str) -> None:
        self._port = int(base_url.rpartition(":")[2])
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        lines = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        body = await request.aread()
        try:
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise httpx.ReadError(str(error), request=request) from error
        whole = False
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2])]
            content = await reader.readexactly(int(dict(headers).get("content-length", "0")))
            whole = True
        except (OSError, EOFError) as error:
            raise httpx.ReadError(str(error), request=request) from error
        finally:
            if not whole:
                writer.transport.abort()
        self._idle.append((reader, writer))
        return httpx.Response(int(head[0].split()[1]), headers=headers, content=content, request=request)

    async def aclose(self) -> None:
        for _, writer in self._idle:
            writer.close()


class Books:
    """What the sandbox says that it really did."""

    def __init__(self, given: Settings) -> None:
        self._http = httpx.AsyncClient(
            base_url=given.sandbox_url or "", headers={"Authorization": f"Bearer {given.sandbox_key}"}, trust_env=False
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def payments(self, database: Database, order_ids: Collection[Any]) -> list[dict[str, Any]]:
        """Every payment of the orders, each with its operations."""
        async with database.connection() as db:
            references = {str(row["id"]) for row in await db.fetch(INTENTS_OF, list(order_ids))}
        return [payment for payment in await self.everything() if payment["reference"] in references]

    async def everything(self) -> list[dict[str, Any]]:
        """Every payment there is, each with its operations."""
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            answer = (await self._http.get("/v1/truth", params={"after": after})).json()
            found += answer["payments"]
            after = answer["next_after"]
        return found

    async def act(self, payment: Mapping[str, Any], verb: str) -> dict[str, Any]:
        """Do something to a payment behind the hub's back."""
        headers = {"Idempotency-Key": f"behind-our-back-{payment['id']}-{verb}", "Content-Type": "application/json"}
        answer = await self._http.post(f"/v1/payments/{payment['id']}/{verb}", content=b"{}", headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def decide(self, url: str, decision: str) -> None:
        """Answer as the payer does, on the payer's page."""
        assert (await self._http.get(url)).status_code == 200
        answer = await self._http.post(url, data={"decision": decision})
        assert answer.status_code == 303, answer.text


def event_of(payment: Mapping[str, Any], kind: str = "payment.authorized", *, event_id: str = "") -> bytes:
    """What the sandbox tells of a payment."""
    content = {
        "id": event_id or f"evt_{uuid.uuid4().hex}",
        "type": kind,
        "created_at": "2026-01-01T00:00:00Z",
        "payment": payment,
    }
    return json.dumps(content).encode()


def signed(body: bytes, secret: str, *, signed_at: int | None = None) -> dict[str, str]:
    """The headers that prove an event to be the sandbox's."""
    at = int(time.time()) if signed_at is None else signed_at
    return {"Content-Type": "application/json", "Sandbox-Signature": signature(body, signed_at=at, secrets=[secret])}


def done(payment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was done with a payment of the sandbox, in order."""
    return [(operation["kind"], operation["status"]) for operation in payment["operations"]]


async def findings(db: Connection) -> list[object]:
    """Everything that does not agree, in each room and over all of them."""
    return [*await verify(db)]
