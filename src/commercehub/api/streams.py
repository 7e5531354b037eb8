"""Live news as server-sent events: of the stock of some SKUs, and of one order.

https://html.spec.whatwg.org/multipage/server-sent-events.html. A stream says a word every few seconds, ends when its
credential does, and is taken up where it broke off by whoever comes with ``Last-Event-ID``.
"""

import asyncio
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from types import FrameType
from typing import Annotated, Final
from uuid import UUID

import msgspec
import structlog
from msgspec import Meta

from commercehub import events
from commercehub.api.call import Answer, Call
from commercehub.api.fields import BIGINT_MAX, Sku
from commercehub.api.routing import route
from commercehub.api.timelines import TimelineEntry, reader, show_entry
from commercehub.auth import Permission
from commercehub.events import Position, Told
from commercehub.sales import orders
from commercehub.workflows.tailing import Listener, Tailer, TooManyListeners

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_SECONDS: Final = 15.0
CHECK_SECONDS: Final = 1.0
"""How often a stream looks whether its credential still works."""
OPEN_SECONDS_MAX = 3_600.0
"""How long a stream lasts; whoever listens comes again."""
COME_AGAIN_MS: Final = 2_000
ENTRIES_PAGE: Final = 200

# A proxy on the way must not wait for more.
HEADERS: Final = {"X-Accel-Buffering": "no"}
RESET: Final = b"id\nevent: reset\ndata: {}\n\n"
"""What was missed cannot be told: read anew. It leaves whoever listens without a last id."""
_STOCK_ID: Final = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")

Say = Callable[[Told], AsyncIterator[bytes]]

log = structlog.get_logger()


class StockSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SKUs, each as often as wanted."""

    sku: Annotated[list[Sku], Meta(min_length=1, max_length=100)]


class StockChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What can be had of a SKU at a location since a moment; the ``data`` of an event ``stock.changed``."""

    sku: str
    location_id: str
    available: int
    occurred_at: datetime


@route(
    "GET",
    "/v1/availability/stream",
    permission=Permission.AVAILABILITY_READ,
    query=StockSearch,
    answer=StockChanged,
    media_type=MEDIA_TYPE,
)
async def stream_availability(call: Call) -> Answer:
    """Each change of what can be had of some SKUs, as it happens.

    After ``Last-Event-ID`` what was missed comes first; an event ``reset`` says that this cannot be told any more.
    """
    wanted = call.query(StockSearch)
    call.hub.tailer.check(_caller(call))
    after, is_lost = await _place(call)
    listener = Listener(caller=_caller(call), skus=wanted.sku, after=after)
    return Answer(stream=_speak_of_stock(call, listener, is_lost=is_lost), headers=HEADERS)


@route(
    "GET",
    "/v1/orders/{order_id}/stream",
    permission=Permission.ORDERS_READ,
    answer=TimelineEntry,
    media_type=MEDIA_TYPE,
)
async def stream_order(call: Call, order_id: UUID) -> Answer:
    """Whatever happens to an order, as its timeline has it. After ``Last-Event-ID`` what was missed comes first."""
    listener = Listener(caller=_caller(call), order_id=order_id)
    async with call.database.connection() as db:
        await orders.read_order(db, order_id=order_id, owner=reader(call))
        end = await events.read_timeline_end(db, order_id=order_id)
    call.hub.tailer.check(listener.caller)
    given = call.request.headers.get("last-event-id", "")
    last_id = int(given) if given.isascii() and given.isdecimal() and len(given) <= 18 else end
    return Answer(stream=_speak_of_order(call, listener, min(last_id, end)), headers=HEADERS)


def _caller(call: Call) -> str:
    """Whose streams are counted together: every shopper sends the same publishable key."""
    principal, client = call.principal, call.request.client
    return f"{principal.subject_id}:{client.host if client and principal.is_publishable else ''}"


async def _place(call: Call) -> tuple[Position, bool]:
    """Where to begin, and whether something was missed that cannot be told."""
    tailer = call.hub.tailer
    given = call.request.headers.get("last-event-id", "")
    if not given:
        return await tailer.position(), False
    found = _STOCK_ID.fullmatch(given)
    last = Position(int(found[1]), int(found[2])) if found else None
    if last is not None and max(last) <= BIGINT_MAX and await tailer.is_kept(last):
        return last, False
    return await tailer.position(), True


async def _speak_of_stock(call: Call, listener: Listener, *, is_lost: bool) -> AsyncIterator[bytes]:
    async def say(told: Told) -> AsyncIterator[bytes]:
        body = told.body
        content = StockChanged(
            sku=body["sku"], location_id=body["location_id"], available=body["available"], occurred_at=told.occurred_at
        )
        yield _event("stock.changed", f"{told.position.xid}-{told.position.id}", content)

    async def begin(until: Position) -> AsyncIterator[bytes]:
        missed = None if is_lost else await call.hub.tailer.missed(listener, until=until)
        if missed is None:
            yield RESET
        for told in missed or ():
            async for chunk in say(told):
                yield chunk

    async for chunk in _speak(call, listener, begin, say):
        yield chunk


async def _speak_of_order(call: Call, listener: Listener, last_id: int) -> AsyncIterator[bytes]:
    order_id = listener.order_id
    if order_id is None:
        return

    async def catch_up(_: object) -> AsyncIterator[bytes]:
        # An order's facts are told under its lock, so they are numbered in the order in which they are committed.
        nonlocal last_id
        while True:
            async with call.database.connection() as db:
                found = await events.read_timeline(db, order_id=order_id, after_id=last_id, limit=ENTRIES_PAGE)
            for entry in found:
                last_id = entry.id
                yield _event(entry.type, str(entry.id), show_entry(entry))
            if len(found) < ENTRIES_PAGE:
                return

    async for chunk in _speak(call, listener, catch_up, catch_up):
        yield chunk


async def _speak(
    call: Call, listener: Listener, begin: Callable[[Position], AsyncIterator[bytes]], say: Say
) -> AsyncIterator[bytes]:
    """Everything that a listener is told, until the end. What fails ends it: whoever listens comes again."""
    tailer = call.hub.tailer
    try:
        joined_at = await tailer.join(listener)
        yield f"retry: {COME_AGAIN_MS}\n: open\n\n".encode()
        async for chunk in begin(joined_at):
            yield chunk
        async for told in _take(call, listener):
            if told is None:
                yield b": still here\n\n"
                continue
            async for chunk in say(told):
                yield chunk
        if listener.was_reset:
            yield RESET
        yield b": too slow, come again\n\n" if listener.was_slow else b": the end, come again\n\n"
    except TooManyListeners:
        yield b": too many listen\n\n"
    except Exception:
        log.exception("stream.failed")
    finally:
        tailer.leave(listener)


async def _take(call: Call, listener: Listener) -> AsyncIterator[Told | None]:
    """What a listener is told, and ``None`` when nothing was for a while; until the credential ends, or the time."""
    begun = spoke = checked = time.monotonic()
    secret = call.request.headers.get("authorization", "").partition(" ")[2].strip()
    while (now := time.monotonic()) < begun + OPEN_SECONDS_MAX:
        if now >= checked + CHECK_SECONDS:
            checked = now
            if not await call.hub.tailer.still_works(secret):
                return
        if now >= spoke + HEARTBEAT_SECONDS:
            spoke = now
            yield None
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                told = await listener.queue.get()
        except TimeoutError:
            continue
        if told is None:
            return
        spoke = time.monotonic()
        yield told


def _event(kind: str, event_id: str, content: object) -> bytes:
    """One event. JSON has no line feed in it, and neither have our types."""
    return f"event: {kind}\nid: {event_id}\ndata: ".encode() + msgspec.json.encode(content) + b"\n\n"


@contextmanager
def ending_when_told(tailer: Tailer) -> Iterator[None]:
    """Let those who listen go as soon as the process is told to stop.

    A server waits for the answers that are being given before it ends the application, and a stream has no end of its
    own. The server's own handlers are called all the same: ours stand before them, or the loop hears of the signal too.
    """
    loop, before = asyncio.get_running_loop(), {}
    for number in (signal.SIGTERM, signal.SIGINT):
        known = signal.getsignal(number)
        if callable(known) and threading.current_thread() is threading.main_thread():

            def tell(given: int, frame: FrameType | None, known: Callable[..., object] = known) -> None:
                with suppress(RuntimeError):  # the loop is over already
                    loop.call_soon_threadsafe(tailer.end)
                known(given, frame)

            before[number] = signal.signal(number, tell)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)


ROUTES = (stream_availability, stream_order)
