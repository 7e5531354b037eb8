"""Kill the API's worker amid checkouts, again and again, and see whether a charge or an answer was lost or doubled.

``python -m tests.faults.killing --kills 50 --seed 7`` starts everything on parts of its own: PostgreSQL with durable
settings, the sandbox, granian with a worker, the process that works jobs off. A middleman on the wire knows the named
moments. ``--naive`` does the same to a shop that charges and then writes, which has to fail.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import httpx

from commercehub import ids, migrations
from commercehub.database import Database
from commercehub.embedded import Supervisor, find_postgres, start_postgres, temporary_home
from commercehub.seed import planting
from commercehub.settings import Settings
from tests.client import Channel, Channels
from tests.faults import middleman, naive
from tests.faults.middleman import Middleman
from tests.faults.verdict import Given, Made, Tried, judge
from tests.races.buyers import fill_cart
from tests.serving import Books, Wire, findings, serving, serving_hub, serving_jobs, workers_of

BUYERS: Final = 112
IN_FLIGHT_MIN: Final = 50
IN_FLIGHT_ENOUGH: Final = 80
STOCK: Final = 1_000_000
REACH_SECONDS_MAX: Final = 15.0
RESPAWN_SECONDS_MAX: Final = 30.0
SETTLE_SECONDS_MAX: Final = 75.0
FILL_SECONDS: Final = 1.5
"""For the crowd to come back before the next kill may be."""
GRANIAN_SECONDS: Final = 5.6
"""Granian gives up a worker that dies sooner after it was replaced: it takes that for a fault of its own."""
CALL_SECONDS_MAX: Final = 30.0
LOG: Final = "processes.log"
AT_RANDOM: Final = "at random"
SECRET: Final = "a secret of the kills' own, long enough to be one"
METHODS: Final = {
    "pm_ok": 8,
    "pm_slow": 4,
    "pm_answer_lost": 4,
    "pm_declined": 2,
    "pm_error_before": 1,
    "pm_error_after": 1,
}
"""How often buyers come with each; a slow one is held before it is booked, a lost one after it."""
EASY_METHODS: Final = {"pm_ok": 8, "pm_slow": 10, "pm_declined": 2}
"""For the naive shop, which would lose each answer anew for ever."""

ORDERS: Final = """
SELECT placed.id, placed.cart_id, placed.state, placed.total_minor AS total,
       extract(epoch FROM CASE WHEN placed.state IN ('placed', 'failed') THEN placed.changed_at ELSE now() END
               - placed.created_at)::float AS seconds,
       array(SELECT intent.id::text FROM payments.intents AS intent WHERE intent.reference = placed.id) AS refs
FROM commercehub.orders AS placed
"""
NAIVE_ORDERS: Final = (
    "SELECT id, cart_id, 'placed' AS state, total, 0::float AS seconds, array[id::text] AS refs FROM naive_orders"
)
WAITING: Final = """
SELECT (SELECT count(*) FROM commercehub.orders WHERE state IN ('awaiting_payment', 'payment_unknown'))
     + (SELECT count(*) FROM payments.open_operations)
     + (SELECT count(*) FROM payments.inbox WHERE applied_at IS NULL)
"""

Say = Callable[[str], None]


class Crowd:
    """Buyers who repeat the very same request for as long as it is not answered."""

    def __init__(self, app: Channel, sku: str, chance: random.Random, *, methods: Mapping[str, int]) -> None:
        self._app, self._sku, self._chance, self._methods = app, sku, chance, methods
        self.tried: list[Tried] = []
        self.in_flight = 0
        self.is_open = True
        self.closing = False
        self.asked_again = 0
        self.odd: Counter[str] = Counter()

    async def buy_until_closing(self) -> None:
        while not self.closing:
            if self.in_flight >= IN_FLIGHT_ENOUGH or not self.is_open:
                await asyncio.sleep(0.05)
                continue
            try:
                cart = await fill_cart(self._app, self._sku)
            except (httpx.ReadError, AssertionError):  # no checkout: a cart that nobody has is no loss
                await asyncio.sleep(0.1)
                continue
            (method,) = self._chance.choices(list(self._methods), weights=list(self._methods.values()))
            attempt = Tried(key=str(uuid.uuid4()), cart=cart, payment_method=method, answers=[])
            self.tried.append(attempt)
            await self.check_out(attempt)

    async def check_out(self, attempt: Tried) -> None:
        """Ask until there is an answer of any kind, and note it."""
        card = {"type": "card", "payment_method": attempt.payment_method}
        while True:
            self.in_flight += 1
            try:
                async with asyncio.timeout(CALL_SECONDS_MAX):
                    answer = await self._app.check_out(attempt.cart, card, key=attempt.key)
            except (httpx.ReadError, TimeoutError):
                self.asked_again += 1
                await asyncio.sleep(self._chance.uniform(0.2, 0.6))
                continue
            finally:
                self.in_flight -= 1
            content = answer.json()
            if content.get("code") in {"idempotency_in_progress", "busy"}:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code not in {201, 202, 402}:
                self.odd[f"{answer.status_code} {answer.text[:200]}"] += 1
            attempt.answers.append(
                Given(status=answer.status_code, order_id=content.get("id"), code=content.get("code"))
            )
            return


class Killer:
    """Kills the worker at a named point, or at a random moment, with enough checkouts in flight.

    There is one, so that every checkout in flight is in it, and a call at a named point is its own.
    """

    def __init__(self, server: "Popen[bytes]", chance: random.Random) -> None:
        self._server, self._chance = server, chance
        self.crowd: Crowd | None = None
        self._armed: str | None = None
        self._fired = asyncio.Event()
        self._killed: list[int] = []
        self._killed_at = self._back_at = 0.0
        self.in_flight: list[int] = []

    def reach(self, point: str) -> None:
        """The middleman is at this point."""
        if point and point == self._armed and self._is_crowded():
            self._kill()

    def _is_crowded(self) -> bool:
        return self.crowd is not None and self.crowd.in_flight >= IN_FLIGHT_MIN

    def _kill(self) -> None:
        self._armed = None
        self.in_flight.append(self.crowd.in_flight if self.crowd else 0)
        self._killed = workers_of(self._server)
        self._killed_at = time.monotonic()
        for worker in self._killed:
            os.kill(worker, signal.SIGKILL)
        self._fired.set()

    async def kill_at(self, point: str) -> str:
        """Kill at this point, and wait until the workers are back; returns the point that it was in the end."""
        self._fired.clear()
        await self._rest(self._back_at + GRANIAN_SECONDS - FILL_SECONDS - time.monotonic())
        if point != AT_RANDOM:
            self._armed = point
            try:
                async with asyncio.timeout(REACH_SECONDS_MAX):
                    await self._fired.wait()
            except TimeoutError:
                self._armed, point = None, AT_RANDOM
        if point == AT_RANDOM:
            await asyncio.sleep(self._chance.uniform(0, 0.5))
            while not self._is_crowded():
                await asyncio.sleep(0.001)
            self._kill()
        return point

    async def _rest(self, seconds: float) -> None:
        """Nobody begins anything new meanwhile: what was interrupted has the machine to itself."""
        if self.crowd is not None and seconds > 0:
            self.crowd.is_open = False
            await asyncio.sleep(seconds)
            self.crowd.is_open = True
        await asyncio.sleep(min(FILL_SECONDS, max(0.0, FILL_SECONDS + seconds)))

    async def until_back(self, http: httpx.AsyncClient) -> None:
        """Wait until the worker is replaced, and answers."""
        give_up_at = time.monotonic() + RESPAWN_SECONDS_MAX
        while True:
            alive = workers_of(self._server)
            if alive and not set(alive) & set(self._killed):
                self._back_at = self._back_at if self._back_at > self._killed_at else time.monotonic()
                try:
                    async with asyncio.timeout(2):
                        if (await http.get("/health/ready")).status_code == 200:
                            return
                except (httpx.ReadError, TimeoutError):
                    pass
            assert time.monotonic() < give_up_at, "the worker was not replaced"
            await asyncio.sleep(0.05)


def points(kills: int, chance: random.Random) -> list[str]:
    """Where to kill: every named point as often as the next, as many times again at random, in no order."""
    named = list(itertools.islice(itertools.cycle(middleman.POINTS), kills - kills // 3))
    wanted = [*named, *[AT_RANDOM] * (kills // 3)]
    chance.shuffle(wanted)
    return wanted


async def run(database_url: str, folder: Path, *, kills: int, seed: int, is_naive: bool = False, say: Say) -> list[str]:
    """Everything that is wrong after so many kills. The database has the seeded shop in it."""
    chance = random.Random(seed)
    hub_port, sandbox_port = _free_port(), _free_port()
    killers: list[Killer] = []
    with ExitStack() as parts:
        async with Middleman(
            reach=lambda point: killers[0].reach(point) if killers else None,
            sandbox_port=sandbox_port,
            hub_port=hub_port,
        ) as between:
            given = _settings(database_url, hub_port, between.processor_port)
            direct = _settings(database_url, hub_port, sandbox_port)
            log = parts.enter_context((folder / LOG).open("ab"))
            parts.enter_context(_serving_sandbox(given, folder, sandbox_port, between.webhook_port, log))
            factory = "tests.faults.naive:create_app" if is_naive else None
            server = parts.enter_context(serving_hub(given, log, factory=factory, workers=1))
            if not is_naive:
                parts.enter_context(serving_jobs(given, log))
            killer = Killer(server, chance)
            killers.append(killer)
            database = await Database.connect(database_url, pool_size=4)
            books = Books(direct)
            try:
                async with httpx.AsyncClient(base_url=given.base_url, transport=Wire(given.base_url)) as http:
                    return await _story(
                        http, database, books, killer, points(kills, chance), chance, is_naive=is_naive, say=say
                    )
            finally:
                await books.aclose()
                await database.close()


async def _story(
    http: httpx.AsyncClient,
    database: Database,
    books: Books,
    killer: Killer,
    wanted: Sequence[str],
    chance: random.Random,
    *,
    is_naive: bool,
    say: Say,
) -> list[str]:
    channels = Channels(http, {name: planting.demo_secret(SECRET, name) for name in planting.KEYS})
    sku = await channels.product({"DC1": STOCK})
    killer.crowd = crowd = Crowd(channels["app"], sku, chance, methods=EASY_METHODS if is_naive else METHODS)
    async with asyncio.TaskGroup() as group:
        for _ in range(BUYERS):
            group.create_task(crowd.buy_until_closing())
        for number, point in enumerate(wanted, 1):
            reached = await killer.kill_at(point)
            await killer.until_back(http)
            say(f"kill {number}/{len(wanted)} {reached}: {killer.in_flight[-1]} in flight, {len(crowd.tried)} tried")
        crowd.closing = True
    if not is_naive:
        await _until_settled(database)
    for attempt in crowd.tried:
        if not is_naive or attempt.answers[-1].status not in {201, 402}:
            await crowd.check_out(attempt)
    made = await _made(database, NAIVE_ORDERS if is_naive else ORDERS)
    charged = await books.everything()
    wrong = [*judge(crowd.tried, made, charged), *(f"{many} times {what}" for what, many in crowd.odd.items())]
    if not is_naive:
        async with database.connection() as db:
            wrong += [str(finding) for finding in await findings(db)]
        placed = sum(order.state == "placed" for order in made)
        if await channels.level(sku, "DC1") != (STOCK, placed):
            wrong.append(f"{placed} orders are placed, and stock says {await channels.level(sku, 'DC1')}")
    if not crowd.asked_again:
        wrong.append("no kill met a checkout")
    _summarize(crowd, killer, made, charged, say)
    return wrong


def _summarize(crowd: Crowd, killer: Killer, made: Sequence[Made], charged: Sequence[dict[str, Any]], say: Say) -> None:
    states = Counter(order.state for order in made)
    say(
        f"{len(killer.in_flight)} kills with {min(killer.in_flight)} to {max(killer.in_flight)} checkouts in flight;"
        f" {len(crowd.tried)} carts, {crowd.asked_again} requests asked again;"
        f" orders {dict(states)}, the slowest settled after {max((o.seconds for o in made), default=0):.1f} s;"
        f" the processor has {dict(Counter(payment['status'] for payment in charged))}"
    )


async def _until_settled(database: Database) -> None:
    """Nobody helps: what was interrupted ends by itself, or the verdict will say that it did not."""
    give_up_at = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < give_up_at:
        async with database.connection() as db:
            if not await db.fetchval(WAITING):
                return
        await asyncio.sleep(0.25)


async def _made(database: Database, statement: str) -> list[Made]:
    async with database.connection() as db:
        rows = await db.fetch(statement)
    return [
        Made(
            id=ids.show("ord", row["id"]),
            cart_id=ids.show("cart", row["cart_id"]),
            state=row["state"],
            total=row["total"],
            references=tuple(row["refs"]),
            seconds=row["seconds"],
        )
        for row in rows
    ]


def _settings(database_url: str, hub_port: int, processor_port: int) -> Settings:
    return Settings(
        database_url=database_url,
        secret=SECRET,
        sandbox_url=f"http://127.0.0.1:{processor_port}",
        sandbox_key="sandbox-key-of-the-kills",
        sandbox_webhook_secret="webhook-secret-of-the-kills",
        demo=True,
        rate_limit_per_second=100_000,
        rate_limit_burst=100_000,
        log_level="error",
        base_url=f"http://127.0.0.1:{hub_port}",
        pool_size=12,
    )


def _serving_sandbox(given: Settings, folder: Path, port: int, webhook_port: int, log: Any) -> serving:
    environ = {
        **os.environ,
        "HUB_SANDBOX_DATABASE": str(folder / "books.sqlite"),
        "HUB_SANDBOX_SECRET": given.sandbox_key or "",
        "HUB_SANDBOX_WEBHOOK_URL": f"http://127.0.0.1:{webhook_port}/v1/webhooks/sandbox",
        "HUB_SANDBOX_WEBHOOK_SECRET": given.sandbox_webhook_secret or "",
        "HUB_SANDBOX_WEBHOOK_COPIES": "2",
        "HUB_SANDBOX_WEBHOOK_SHUFFLE_SECONDS": "1",
    }
    command = [sys.executable, "-m", "commercehub.sandbox", "--port", str(port)]
    return serving(command, environ, log, f"http://127.0.0.1:{port}/health")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def plant(database_url: str, *, is_naive: bool) -> None:
    """The seeded shop under the secret of the kills, and a table for the naive one."""
    database = await Database.connect(database_url, pool_size=2)
    try:
        await planting.plant(database, secret=SECRET)
        if is_naive:
            async with database.connection() as db:
                await db.execute(naive.MAKE_TABLE)
    finally:
        await database.close()


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a command


def main(arguments: Sequence[str]) -> int:
    """Run as a command: 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.killing", description="Kill workers amid checkouts.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--naive", action="store_true", help="a shop that charges and then writes: it has to fail")
    options = parser.parse_args(arguments)
    _print(f"seed {options.seed}")
    with temporary_home() as home, Supervisor(home.logs) as supervisor:
        database_url = start_postgres(supervisor, home, find_postgres(os.environ))
        migrations.upgrade(database_url)
        asyncio.run(plant(database_url, is_naive=options.naive))
        with tempfile.TemporaryDirectory() as folder:
            wrong = asyncio.run(
                run(
                    database_url,
                    Path(folder),
                    kills=options.kills,
                    seed=options.seed,
                    is_naive=options.naive,
                    say=_print,
                )
            )
            if wrong:
                errors = [line for line in (Path(folder) / LOG).read_text().splitlines() if '"error"' in line]
                _print("\n".join(errors[:3]))
    for finding in wrong[:20]:
        _print(f"  wrong: {finding}")
    _print(f"seed {options.seed}: {f'FAILED, {len(wrong)} findings' if wrong else 'passed'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
