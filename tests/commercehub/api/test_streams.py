"""Whoever listens hears of every change within a second, comes again where they broke off, and costs nobody else."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from commercehub import events, ids
from commercehub.api import streams
from commercehub.database import Database
from commercehub.events import Position
from commercehub.workflows import tailing
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels, Statements
from tests.commercehub.api.listening import Stream, listening
from tests.transactions import until_settled

CARD = {"type": "card", "payment_method": "pm_ok"}


@pytest.fixture(autouse=True)
def long_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "OPEN_SECONDS_MAX", 60.0)


@pytest.fixture
def served(api: httpx.AsyncClient) -> Hub:
    """The hub that answers."""
    transport: Any = api._transport
    hub: Hub = transport.app.state.hub
    return hub


@pytest.fixture(autouse=True)
def nobody_is_left(served: Hub) -> Iterator[None]:
    yield
    assert served.tailer._listeners == set()
    assert (served.tailer._by_sku, served.tailer._by_order) == ({}, {})


@pytest.fixture
async def sku(channels: Channels, database: Database) -> str:
    sku = await channels.product({"DC1": 5})
    await until_settled(database)
    return sku


@pytest.fixture
def receive(admin: Channel, channels: Channels) -> Callable[[str, int], Awaitable[None]]:
    async def receive(sku: str, quantity: int = 1) -> None:
        lines = [{"sku": sku, "quantity": quantity}]
        await admin.ok("POST", "/v1/stock/receipts", {"location_id": await channels.location("DC1"), "lines": lines})

    return receive


Receive = Callable[..., Awaitable[None]]

# Stock.


async def test_a_change_of_stock_is_told_within_a_second(
    api: httpx.AsyncClient, app: Channel, channels: Channels, sku: str, receive: Receive
) -> None:
    async with listening(api, f"/v1/availability/stream?sku={sku}", key=app.key) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert stream.headers["cache-control"] == "no-store"
        await receive(sku)
        heard = await stream.next(1.0)
        assert heard is not None
        assert heard.type == "stock.changed"
        assert set(heard.data) == {"sku", "location_id", "available", "occurred_at"}
        assert (heard.data["sku"], heard.data["available"]) == (sku, 6)
        assert heard.data["location_id"] == await channels.location("DC1")


async def test_whoever_buys_is_heard_of_by_all_who_listen_to_that_sku_and_by_nobody_else(
    api: httpx.AsyncClient, app: Channel, till: Channel, channels: Channels, sku: str, receive: Receive
) -> None:
    other = await channels.product({"DC1": 5})
    path = "/v1/availability/stream?sku="
    async with (
        listening(api, path + sku, key=app.key) as first,
        listening(api, f"{path}{sku}&sku={other}", key=till.key) as second,
        listening(api, path + other, key=app.key) as third,
    ):
        answer = await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)
        assert answer.status_code == 201
        await receive(other)
        assert [await _available(stream) for stream in (first, second, second, third)] == [4, 4, 6, 6]


async def test_whoever_comes_again_hears_what_they_missed_and_nothing_twice(
    api: httpx.AsyncClient, app: Channel, sku: str, receive: Receive
) -> None:
    path = f"/v1/availability/stream?sku={sku}"
    async with listening(api, path, key=app.key) as stream:
        await receive(sku)
        heard = await stream.next()
        assert heard is not None
    for _ in range(3):
        await receive(sku)
    async with listening(api, path, key=app.key, headers={"Last-Event-ID": str(heard.id)}) as again:
        await receive(sku)
        assert [await _available(again) for _ in range(4)] == [7, 8, 9, 10]


async def test_a_change_between_the_answer_and_the_first_look_is_not_missed(
    served: Hub, sku: str, receive: Receive
) -> None:
    """A listener's place is taken before the answer begins."""
    tailer = served.tailer
    after = await tailer.position()
    await receive(sku)
    listener = tailing.Listener(caller="a test", skus=[sku], after=after)
    until = await tailer.join(listener)
    try:
        missed = await tailer.missed(listener, until=until)
        late = [] if missed else [await asyncio.wait_for(listener.queue.get(), 1)]
        assert [told.body["available"] for told in (*(missed or ()), *late) if told] == [6]
    finally:
        tailer.leave(listener)


@pytest.mark.parametrize("last_id", ["1-1", "nonsense", "9" * 19 + "-1", "9" * 40 + "-" + "9" * 40, "0-0"])
async def test_who_comes_with_a_place_that_is_not_kept_is_told_to_read_anew(
    last_id: str, api: httpx.AsyncClient, app: Channel, sku: str, receive: Receive
) -> None:
    path = f"/v1/availability/stream?sku={sku}"
    async with listening(api, path, key=app.key, headers={"Last-Event-ID": last_id}) as stream:
        heard = await stream.next()
        assert heard is not None
        assert (heard.type, heard.id) == ("reset", "")
        await receive(sku)
        assert await _available(stream) == 6


async def test_who_missed_too_much_is_told_to_read_anew(
    api: httpx.AsyncClient, app: Channel, sku: str, receive: Receive, monkeypatch: pytest.MonkeyPatch, served: Hub
) -> None:
    path = f"/v1/availability/stream?sku={sku}"
    async with listening(api, path, key=app.key) as stream:
        await receive(sku)
        heard = await stream.next()
        assert heard is not None
    while served.tailer._task is not None:
        await asyncio.sleep(0.02)
    for _ in range(2):
        await receive(sku)
    monkeypatch.setattr(tailing, "MISSED_PAGE", 1)
    monkeypatch.setattr(tailing, "MISSED_PAGES_MAX", 1)
    async with listening(api, path, key=app.key, headers={"Last-Event-ID": str(heard.id)}) as again:
        heard = await again.next()
        assert heard is not None
        assert heard.type == "reset"


@pytest.mark.parametrize("query", ["", "?sku=", "?sku=x&other=1", "?" + "&".join(["sku=x"] * 101)])
async def test_what_is_asked_for_has_to_be_named(query: str, app: Channel) -> None:
    answer = await app.get(f"/v1/availability/stream{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


# Orders.


async def test_an_order_is_followed_as_its_timeline_tells_it(
    api: httpx.AsyncClient, app: Channel, warehouse: Channel, sku: str
) -> None:
    cart = await app.cart({"sku": sku}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    token = {"X-Cart-Token": cart["token"]}
    path = f"/v1/orders/{order['id']}"
    async with listening(api, f"{path}/stream", key=app.key, headers=token) as stream:
        work = f"/v1/fulfillments/{order['fulfillments'][0]['id']}"
        await warehouse.ok("POST", f"{work}/start", {})
        first = await stream.next(1.0)
    await warehouse.ok("POST", f"{work}/pick", {"lines": [{"sku": sku, "quantity": 1}]})
    assert first is not None
    headers = token | {"Last-Event-ID": str(first.id)}
    async with listening(api, f"{path}/stream", key=app.key, headers=headers) as again:
        await warehouse.ok("POST", f"{work}/pack", {})
        rest = [await again.next(), await again.next()]
    timeline = (await app.ok("GET", f"{path}/timeline", token=cart["token"]))["data"]
    told = [heard for heard in (first, *rest) if heard is not None]
    assert [heard.data for heard in told] == timeline[-3:]
    assert [heard.type for heard in told] == [entry["type"] for entry in timeline[-3:]]


async def test_an_order_is_followed_by_whoever_may_read_it_and_by_nobody_else(
    api: httpx.AsyncClient, app: Channel, till: Channel, sku: str
) -> None:
    cart = await app.cart({"sku": sku}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    other = await app.cart()
    path = f"/v1/orders/{order['id']}/stream"
    for key, headers, status in (
        (till.key, {}, 200),
        (app.key, {"X-Cart-Token": cart["token"]}, 200),
        (app.key, {"X-Cart-Token": other["token"]}, 404),
        (app.key, {}, 404),
        ("", {}, 401),
    ):
        async with listening(api, path, key=key, headers=headers) as stream:
            assert stream.status == status
    async with listening(api, f"/v1/orders/{ids.show('ord', ids.new())}/stream", key=till.key) as stream:
        assert (stream.status, (await stream.body())["code"]) == (404, "not_found")


# What it costs.


async def test_nothing_is_read_while_nobody_listens_and_one_statement_is_enough_for_all(
    api: httpx.AsyncClient, app: Channel, sku: str, statements: Statements, served: Hub
) -> None:
    await asyncio.sleep(2 * tailing.POLL_SECONDS)
    async with statements.counted() as seen:
        await asyncio.sleep(2 * tailing.POLL_SECONDS)
    assert seen == []
    assert served.tailer._task is None
    path = f"/v1/availability/stream?sku={sku}"
    async with (
        listening(api, path, key=app.key),
        listening(api, path, key=app.key),
        listening(api, path, key=app.key),
    ):
        await asyncio.sleep(tailing.POLL_SECONDS)
        async with statements.counted() as seen:
            await asyncio.sleep(2 * tailing.POLL_SECONDS)
    assert 1 <= seen.count(events.READ_TOLD) == len(seen) <= 3


async def test_one_who_does_not_keep_up_is_let_go_of_and_the_others_hear_everything(
    served: Hub, sku: str, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = await served.tailer.position()
    with monkeypatch.context() as patched:
        patched.setattr(tailing, "BEHIND_MAX", 3)
        slow = tailing.Listener(caller="a test", skus=[sku], after=now)
    quick = tailing.Listener(caller="a test", skus=[sku], after=now)
    for listener in (slow, quick):
        await served.tailer.join(listener)
    taken: list[int] = []

    async def take() -> None:
        while len(taken) < 4:
            told = await quick.queue.get()
            assert told is not None
            taken.append(told.body["available"])

    taking = asyncio.create_task(take())
    for _ in range(4):
        await receive(sku)
    await asyncio.wait_for(taking, 2)
    assert taken == [6, 7, 8, 9]
    assert (slow.was_slow, quick.was_slow) == (True, False)
    told = [slow.queue.get_nowait() for _ in range(slow.queue.qsize())]
    assert [each.body["available"] if each else None for each in told] == [6, 7, None]
    assert slow not in served.tailer._listeners
    served.tailer.leave(quick)


async def test_a_stream_that_fell_behind_says_so_and_ends(
    api: httpx.AsyncClient, app: Channel, sku: str, served: Hub
) -> None:
    async with listening(api, f"/v1/availability/stream?sku={sku}", key=app.key) as stream:
        await _joined(served)
        (listener,) = served.tailer._listeners
        listener.was_slow = True
        listener.end()
        await stream.ended()
        assert stream.comments[-1] == "too slow, come again"


async def test_one_caller_and_one_process_take_a_bounded_number_of_streams(
    api: httpx.AsyncClient, app: Channel, till: Channel, sku: str, monkeypatch: pytest.MonkeyPatch, served: Hub
) -> None:
    monkeypatch.setattr(tailing, "LISTENERS_PER_CALLER_MAX", 1)
    monkeypatch.setattr(tailing, "LISTENERS_MAX", 2)
    path = f"/v1/availability/stream?sku={sku}"
    async with listening(api, path, key=app.key):
        await _joined(served)
        refused = await app.get(path)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        async with listening(api, path, key=till.key):
            await _joined(served, 2)
            refused = await app.get(path)
            assert (refused.status_code, refused.json()["code"]) == (503, "busy")
            assert int(refused.headers["retry-after"]) > 0


# Its end.


async def test_a_silent_stream_says_that_it_is_there(
    api: httpx.AsyncClient, app: Channel, sku: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(streams, "CHECK_SECONDS", 0.05)
    async with listening(api, f"/v1/availability/stream?sku={sku}", key=app.key) as stream:
        with pytest.raises(TimeoutError):
            await stream.next(0.4)
        assert stream.comments[0] == "open"
        assert stream.comments.count("still here") >= 2


async def test_a_key_that_is_revoked_hears_nothing_more_within_five_seconds(
    api: httpx.AsyncClient, admin: Channel, sku: str, monkeypatch: pytest.MonkeyPatch, served: Hub
) -> None:
    assert tailing.VERIFIED_SECONDS + streams.CHECK_SECONDS < 5
    monkeypatch.setattr(streams, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(served.tailer.keyring, "_verified_seconds", 0.1)
    key = await admin.ok("POST", "/v1/api-keys", {"channel": "app", "role": "storefront"})
    async with listening(api, f"/v1/availability/stream?sku={sku}", key=key["secret"]) as stream:
        await asyncio.sleep(0.3)
        await admin.ok("DELETE", f"/v1/api-keys/{key['id']}")
        await asyncio.wait_for(stream.ended(), 1)


async def test_streams_end_with_their_process(served: Hub, sku: str) -> None:
    tailer = tailing.Tailer(served.database)
    listener = tailing.Listener(caller="a test", skus=[sku])
    await tailer.join(listener)
    await tailer.aclose()
    assert await listener.queue.get() is None
    late = tailing.Listener(caller="a test", skus=[sku])
    await tailer.join(late)
    assert await late.queue.get() is None


async def test_a_database_that_was_restored_has_everybody_read_anew(served: Hub, sku: str) -> None:
    tailer = tailing.Tailer(served.database)
    listener = tailing.Listener(caller="a test", skus=[sku])
    await tailer.join(listener)
    tailer._position = Position(2**60, 1)
    await tailer._come_to()
    assert (listener.was_reset, await listener.queue.get()) == (True, None)
    assert tailer._position < Position(2**60, 1)
    await tailer.aclose()


async def _available(stream: Stream) -> int:
    heard = await stream.next()
    assert heard is not None
    assert heard.type == "stock.changed"
    return int(heard.data["available"])


async def _joined(served: Hub, count: int = 1) -> None:
    async with asyncio.timeout(1):
        while len(served.tailer._listeners) < count:
            await asyncio.sleep(0.01)


async def test_a_sku_is_listened_to_whatever_its_case(served: Hub, sku: str, receive: Receive) -> None:
    after = await served.tailer.position()
    listener = tailing.Listener(caller="a test", skus=[sku.lower()], after=after)
    joined_at = await served.tailer.join(listener)
    await receive(sku)
    told = await asyncio.wait_for(listener.queue.get(), 2)
    assert (told is not None and told.body["sku"]) == sku
    served.tailer.leave(listener)
    assert await served.tailer.missed(listener, until=joined_at) == []
