"""What goes wrong on the wire after the books are right: answers lost, broken off, or turned into something else."""

import asyncio
from typing import Any, Final

from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from commercehub.sandbox.methods import Fault

HOLD_SECONDS_MAX: Final = 60.0
"""Far longer than any client of ours waits."""
SLOW_SECONDS: Final = 1.0
GARBAGE: Final = b'<!doctype html><title>502</title>{"id": "pay_'


def falsified(document: dict[str, Any]) -> dict[str, Any]:
    """The same payment, with one minor unit more in whatever was done last."""
    *before, last = document["operations"]
    return {
        **document,
        "amount": document["amount"] + 1,
        "operations": [*before, {**last, "amount": last["amount"] + 1}],
    }


def spoiled(answer: ASGIResponse, fault: Fault | None, *, closing: asyncio.Event) -> ASGIApp:
    """What the caller gets in place of the answer; a server that is closing holds nobody."""
    match fault:
        case Fault.ANSWER_LOST:
            return _lost(closing)
        case Fault.RESET:
            return _broken_off(answer)
        case Fault.GARBAGE:
            return ASGIResponse(body=GARBAGE, status_code=answer.status_code)
        case _:
            return answer


def _lost(closing: asyncio.Event) -> ASGIApp:
    async def hold(_scope: Scope, receive: Receive, send: Send) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        waits = {asyncio.create_task(gone()), asyncio.create_task(closing.wait())}
        await asyncio.wait(waits, timeout=HOLD_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await _break_off(send, 200, b"")

    return hold


def _broken_off(answer: ASGIResponse) -> ASGIApp:
    async def cut(_scope: Scope, _receive: Receive, send: Send) -> None:
        await _break_off(send, answer.status_code, answer.body[: len(answer.body) // 2])

    return cut


async def _break_off(send: Send, status: int, body: bytes) -> None:
    """Promise more than is sent, so that the server has to break the connection."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(2 * len(body) + 1).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
