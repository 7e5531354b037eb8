"""Both granian workers are killed, one after the other, amid the checkouts of 64 buyers who ask again until they know."""

import asyncio
import os
import random
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from subprocess import Popen
from typing import Any

import httpx
from asyncpg import Record

from commercehub import ids
from commercehub.database import Database
from commercehub.jobs import orders
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.races.buyers import CARD, fill_cart, is_sound
from tests.serving import WORKERS, Books, done, workers_of

BUYERS = 64
IN_FLIGHT_MIN = 50
STOCK = 100_000
SECONDS_BETWEEN_KILLS = 3.0
RESPAWN_SECONDS_MAX = 10.0

ORDERS_OF_SKU = """
SELECT placed.id, placed.cart_id, placed.state FROM commercehub.orders AS placed
WHERE placed.id IN (SELECT order_id FROM commercehub.order_lines WHERE sku = $1)
ORDER BY placed.id
"""
MAKE_DUE = "UPDATE payments.open_operations SET next_try_at = now()"


class Crowd:
    """Buyers who make a cart, check it out, and repeat the very same request for as long as it is not answered."""

    def __init__(self, app: Channel, sku: str) -> None:
        self.app, self.sku = app, sku
        self.answers: dict[str, tuple[dict[str, Any], httpx.Response]] = {}  # by key: the cart, the last answer
        self.asked_again = 0
        self.in_flight = 0
        self.closing = False

    async def buy_until_closing(self) -> None:
        while not self.closing:
            try:
                cart = await self.count(fill_cart(self.app, self.sku))
            except httpx.ReadError:
                continue
            key = str(uuid.uuid4())
            self.answers[key] = (cart, await self.check_out(cart, key))

    async def check_out(self, cart: dict[str, Any], key: str) -> httpx.Response:
        while True:
            try:
                answer: httpx.Response = await self.count(self.app.check_out(cart, CARD, key=key))
            except httpx.ReadError:
                self.asked_again += 1
                continue
            if answer.status_code != 409:
                return answer
            assert answer.json()["code"] == "idempotency_in_progress"
            await asyncio.sleep(0.05)

    async def count(self, call: Awaitable[Any]) -> Any:
        self.in_flight += 1
        try:
            return await call
        finally:
            self.in_flight -= 1

    def answered(self, status: int) -> dict[str, tuple[dict[str, Any], httpx.Response]]:
        return {key: each for key, each in self.answers.items() if each[1].status_code == status}


async def test_no_answered_order_is_lost_or_doubled_by_kills_and_the_workers_come_back(
    app: Channel,
    channels: Channels,
    hub: Hub,
    books: Books,
    server: "Popen[bytes]",
    run_jobs: Callable[[], Awaitable[None]],
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it if this fails
    sku = await channels.product({"DC1": STOCK})
    crowd = Crowd(app, sku)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(BUYERS):
            group.create_task(crowd.buy_until_closing())
        await _kill_both(server, crowd, random.Random(seed))
        crowd.closing = True

    answers = {(answer.status_code, answer.json().get("code")) for _, answer in crowd.answers.values()}
    assert answers <= {(201, None), (202, None)}
    assert crowd.asked_again > 0, "no kill met a checkout"
    bought = {answer.json()["id"] for _, answer in crowd.answered(201).values()}
    assert len(bought) == len(crowd.answered(201)) > 0
    placed = {ids.show("ord", row["id"]) for row in await _orders(hub.database, sku) if row["state"] == "placed"}
    assert bought <= placed

    await _complete(hub)
    for key, (cart, _) in crowd.answered(202).items():
        crowd.answers[key] = (cart, await crowd.check_out(cart, key))
    assert {answer.status_code for _, answer in crowd.answers.values()} <= {201, 402}
    await _books_agree(hub.database, books, sku, len(crowd.answered(201)))
    assert await channels.level(sku, "DC1") == (STOCK, len(crowd.answered(201)))
    await is_sound(hub.database)
    await run_jobs()
    assert (await app.get("/health/ready")).status_code == 200


async def _kill_both(server: "Popen[bytes]", crowd: Crowd, chance: random.Random) -> None:
    for worker in workers_of(server):
        await asyncio.sleep(SECONDS_BETWEEN_KILLS * chance.uniform(0.5, 1))
        while crowd.in_flight < IN_FLIGHT_MIN:
            await asyncio.sleep(0.001)
        os.kill(worker, signal.SIGKILL)
        give_up_at = time.monotonic() + RESPAWN_SECONDS_MAX
        while worker in (alive := workers_of(server)) or len(alive) < WORKERS:
            assert time.monotonic() < give_up_at, "the worker was not replaced"
            await asyncio.sleep(0.05)
    await asyncio.sleep(SECONDS_BETWEEN_KILLS / 2)


async def _complete(hub: Hub) -> None:
    """What the completer does a while later, now."""
    async with hub.database.connection() as db:
        await db.execute(MAKE_DUE)
    while await _due(hub.database):
        await orders.resolve_payments(hub)


async def _due(database: Database) -> bool:
    async with database.connection() as db:
        return bool(
            await db.fetchval("SELECT EXISTS (SELECT FROM payments.open_operations WHERE next_try_at <= now())")
        )


async def _orders(database: Database, sku: str) -> list[Record]:
    async with database.connection() as db:
        return list(await db.fetch(ORDERS_OF_SKU, sku))


async def _books_agree(database: Database, books: Books, sku: str, sold: int) -> None:
    """One order per cart that bought, one authorization per order, and none for an attempt that failed."""
    orders_made = await _orders(database, sku)
    assert {row["state"] for row in orders_made} <= {"placed", "failed"}
    placed = [row for row in orders_made if row["state"] == "placed"]
    assert len(placed) == len({row["cart_id"] for row in placed}) == sold
    charged = await books.payments(database, [row["id"] for row in placed])
    assert [done(payment) for payment in charged] == [[("authorize", "succeeded")]] * sold
    assert await books.payments(database, [row["id"] for row in orders_made if row["state"] == "failed"]) == []
