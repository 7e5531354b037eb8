"""What the contract suite needs of the other side: the real peer in its own process, and a place for its webhooks."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from payments.processors import Operation, Processor

API_KEY = "sk_contract"
WEBHOOK_SECRETS = ("whsec_new", "whsec_old")
START_SECONDS_MAX = 20.0
HOOK_SECONDS_MAX = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Peer:
    """The sandbox as a stranger meets it: a process, a port, a file with its books."""

    def __init__(self, folder: Path, *, webhook_url: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "peer.log"
        self._environment = {
            **os.environ,
            "HUB_SANDBOX_DATABASE": str(folder / "books.sqlite"),
            "HUB_SANDBOX_SECRET": f"{API_KEY},sk_other",
            "HUB_SANDBOX_WEBHOOK_URL": webhook_url,
            "HUB_SANDBOX_STRIPE_WEBHOOK_URL": webhook_url,
            "HUB_SANDBOX_WEBHOOK_SECRET": ",".join(WEBHOOK_SECRETS),
        }
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "commercehub.sandbox", "--port", str(self.port)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self._child.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False, timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
        raise RuntimeError(f"the peer did not start: {self.log.read_text()}")

    def end(self, number: int = signal.SIGKILL) -> int:
        """Kill it, or ask it to stop, and say how it went."""
        if self._child is None:
            return 0
        self._child.send_signal(number)
        self._child.wait(timeout=START_SECONDS_MAX)
        code, self._child = self._child.returncode, None
        return code


@dataclass
class Hook:
    """One webhook as it arrived."""

    raw: bytes
    headers: dict[str, str]


@dataclass
class Inbox:
    """Listens for webhooks on a socket of its own; ``refuse_next`` says 500 to as many of them."""

    hooks: list[Hook] = field(default_factory=list)
    refused: list[Hook] = field(default_factory=list)
    refuse_next: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One delivery; a peer that is killed meanwhile delivers again."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._take(reader, writer)
        finally:
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        length = next(int(value) for name, value in headers.items() if name.lower() == "content-length")
        hook = Hook(raw=await reader.readexactly(length), headers=headers)
        refuse, self.refuse_next = self.refuse_next > 0, max(self.refuse_next - 1, 0)
        (self.refused if refuse else self.hooks).append(hook)
        status = b"500 No" if refuse else b"204 Yes"
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def first(self, wanted: Callable[[Hook], bool]) -> Hook:
        """The first webhook that is wanted, which may have yet to come."""
        async with asyncio.timeout(HOOK_SECONDS_MAX):
            while True:
                for hook in self.hooks:
                    if wanted(hook):
                        return hook
                await asyncio.sleep(0.01)


@dataclass
class Bench:
    """One adapter under test, and what its processor really did."""

    processor: Processor
    impatient: Processor
    """The same, with a time limit that a test can wait for."""
    make: Callable[..., Processor]
    """The same, looking for its processor at another address, or with another ``api_key`` or ``webhook_secrets``."""
    signature_header: str
    """What its processor proves a webhook with."""
    peer: Peer
    inbox: Inbox

    def operation(self, method: str = "ok", **facts: Any) -> Operation:
        """To authorize 10.00 USD by a method of the processor; ``facts`` replace what is usual."""
        usual = {
            "id": uuid4(),
            "key": f"key-{uuid4()}",
            "reference": f"ref-{uuid4()}",
            "amount_minor": 1000,
            "currency": "USD",
            "payment_method": f"pm_{method}",
        }
        return Operation(**{**usual, **facts})

    def then(self, before: Operation, processor_reference: str, amount_minor: int, **facts: Any) -> Operation:
        """To do something with the payment that was made before."""
        usual = {
            "reference": before.reference,
            "processor_reference": processor_reference,
            "amount_minor": amount_minor,
            "payment_method": None,
        }
        return self.operation(**{**usual, **facts})

    async def truth(self, reference: str) -> list[dict[str, Any]]:
        """What the processor's own books hold under our reference."""
        async with httpx.AsyncClient(base_url=self.peer.url, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {API_KEY}"}
            answer = await client.get("/v1/truth", params={"reference": reference}, headers=headers)
            payments: list[dict[str, Any]] = answer.json()["payments"]
            return payments

    async def decide(self, url: str, decision: str) -> httpx.Response:
        """What the payer does on the page that the processor shows."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(url, data={"decision": decision})
