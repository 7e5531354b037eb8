"""``kill -9`` of the relays, the job workers and Valkey, and ``FLUSHALL``, while events are told: every event reaches its
job at least once, what was rolled back never does, and the effects happen once.

The short form is in the suite. The long one is a command, with progress and a verdict:

    .venv/bin/python -m tests.faults.relaying --minutes 2 --seed 7 [--driver in-process] [--control]
"""

import argparse
import asyncio
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import events, ids, migrations, settings
from commercehub.database import Database
from commercehub.embedded import Supervisor, find_postgres, find_valkey, start_postgres, temporary_home
from commercehub.events import Actor, Event
from commercehub.jobs import relay
from commercehub.settings import Settings
from tests.commercehub.jobs.conftest import Valkey
from tests.faults.relay_worker import TOLD

WORKERS = 2
TELLERS = 24
OPEN_SECONDS_MAX = 0.06
OUTSTANDING_MIN = 50
OUTSTANDING_MAX = 300
"""Less than a batch: the relay stands at the head of the events, where transactions are open, and not far behind it."""
WATCH_SECONDS = 0.05
DRAIN_SECONDS_MAX = 90.0
ACTOR = Actor(name="a proof", channel="back_office")

BY_ID = """
SELECT xid::text AS xid, id, type, aggregate_id FROM commercehub.events
WHERE $1::text IS NOT NULL AND id > $2::bigint ORDER BY id LIMIT $3
"""
"""The control: a look that goes by ids alone, and so past whatever commits late."""

PREPARE = """
TRUNCATE commercehub.events, commercehub.event_batches;
DROP SCHEMA IF EXISTS proof CASCADE;
CREATE SCHEMA proof;
CREATE TABLE proof.reached (aggregate_id uuid NOT NULL);
CREATE TABLE proof.effects (aggregate_id uuid PRIMARY KEY);
CREATE TABLE proof.counters (stripe int PRIMARY KEY, count bigint NOT NULL DEFAULT 0);
INSERT INTO proof.counters (stripe) SELECT generate_series(0, 15);
"""
FINDINGS = """
SELECT (SELECT count(*) FROM proof.reached) AS calls, (SELECT sum(count) FROM proof.counters)::bigint AS effects
"""
REACHED = "SELECT DISTINCT aggregate_id FROM proof.reached"
COUNT_EFFECTS = "SELECT count(*) FROM proof.effects"


class RolledBack(Exception):
    """On purpose."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    told: int
    rolled_back: int
    missing: int
    phantom: int
    effects: int
    calls: int
    faults: dict[str, int]
    outstanding_min: int

    @property
    def holds(self) -> bool:
        return self.told > 0 and self.missing == self.phantom == 0 and self.effects == self.told <= self.calls

    def __str__(self) -> str:
        faults = ", ".join(f"{count} x {name}" for name, count in sorted(self.faults.items())) or "none"
        return (
            f"{'HOLDS' if self.holds else 'BROKEN'}: {self.told} told, {self.rolled_back} rolled back; "
            f"{self.missing} missing, {self.phantom} never told, {self.effects} effects, {self.calls} calls. "
            f"Faults: {faults}; at least {self.outstanding_min} outstanding at each kill"
        )


class Proof:
    """Tellers, workers and faults on one database."""

    def __init__(
        self,
        given: Settings,
        *,
        seed: int,
        valkey: Valkey | None,
        log: Path,
        late_seconds: float | None = None,
        read: str | None = None,
        workers: int = WORKERS,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._given, self._valkey, self._log, self._say = given, valkey, log, say
        self._chance = random.Random(seed)
        self._told: set[UUID] = set()
        self._rolled_back: set[UUID] = set()
        self._closing = False
        self._faults: dict[str, int] = {}
        self._outstanding_min = sys.maxsize
        self._workers: list[subprocess.Popen[bytes]] = []
        self._count = workers
        self._environ = {**os.environ, **settings.environment(given)}
        if late_seconds is not None:
            self._environ["PROOF_LATE_SECONDS"] = str(late_seconds)
        if read is not None:
            self._environ["PROOF_READ"] = read

    async def run(self, *, faults: int, seconds: float, drain_seconds_max: float = DRAIN_SECONDS_MAX) -> Verdict:
        """Tell, break things ``faults`` times in about ``seconds``, let the work be finished, and see."""
        database = await Database.connect(self._given.database_url, pool_size=TELLERS + 2)
        try:
            async with database.connection() as db:
                await db.execute(PREPARE)
            self._workers = [self._start() for _ in range(self._count)]
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(database))
                tellers = [group.create_task(self._tell(database)) for _ in range(TELLERS)]
                await self._break(faults, seconds)
                self._closing = True
                await asyncio.wait(tellers)
                watching.cancel()
            await self._drain(database, drain_seconds_max)
            return await self._see(database)
        finally:
            for worker in self._workers:
                worker.kill()
                worker.wait()
            await database.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.relay_worker"]
            return subprocess.Popen(
                command,
                env=self._environ,
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _tell(self, database: Database) -> None:
        """Transactions that stay open for a while, so that they do not commit in the order of their events' ids."""
        while not self._closing:
            told = [ids.new() for _ in range(self._chance.randint(1, 4))]
            is_taken_back = self._chance.random() < 0.1

            async def work(db: Connection, now: object, told: list[UUID] = told, back: bool = is_taken_back) -> None:  # noqa: FBT001
                facts = [Event(type=TOLD, aggregate_id=each, sequence=1, body={}, actor=ACTOR) for each in told]
                await events.append(db, facts, now=now)  # type: ignore[arg-type]
                await asyncio.sleep(self._chance.random() * OPEN_SECONDS_MAX)
                if back:
                    raise RolledBack

            try:
                await database.transaction(work)
                self._told.update(told)
            except RolledBack:
                self._rolled_back.update(told)
            while not self._closing and len(self._told) - self._seen > OUTSTANDING_MAX:
                await asyncio.sleep(0.05)

    _seen = 0

    async def _outstanding(self, database: Database) -> int:
        async with database.connection() as db:
            self._seen = await db.fetchval(COUNT_EFFECTS)
        return len(self._told) - self._seen

    async def _watch(self, database: Database) -> None:
        while True:
            await self._outstanding(database)
            await asyncio.sleep(WATCH_SECONDS)

    async def _break(self, faults: int, seconds: float) -> None:
        kinds = ["a worker"] if self._valkey is None else ["a worker", "a worker", "Valkey", "FLUSHALL"]
        plan: list[str] = []
        while self._seen == 0:  # the workers are not up yet
            await asyncio.sleep(WATCH_SECONDS)
        for number in range(faults):
            plan = plan or self._chance.sample(kinds, len(kinds))
            await asyncio.sleep(seconds / faults * self._chance.uniform(0.5, 1.5))
            while (outstanding := len(self._told) - self._seen) < OUTSTANDING_MIN:
                await asyncio.sleep(0.005)
            self._outstanding_min = min(self._outstanding_min, outstanding)
            kind = plan.pop()
            self._faults[kind] = self._faults.get(kind, 0) + 1
            await self._do(kind)
            self._say(f"{number + 1:4} of {faults}: {kind}; {len(self._told)} told, {outstanding} outstanding")
        if not faults:
            await asyncio.sleep(seconds)

    async def _do(self, kind: str) -> None:
        if kind == "a worker":
            position = self._chance.randrange(self._count)
            self._workers[position].kill()
            self._workers[position].wait()
            self._workers[position] = self._start()
        elif kind == "Valkey" and self._valkey is not None:
            self._valkey.kill()
            await asyncio.sleep(self._chance.uniform(0, 0.5))
            self._valkey.start()
        else:
            queue = await relay.connect_queue(self._given.redis_url)
            if queue is not None:
                await queue.flushall()
                await queue.aclose()

    async def _drain(self, database: Database, seconds_max: float) -> None:
        give_up_at = time.monotonic() + seconds_max
        while await self._outstanding(database) > 0 and time.monotonic() < give_up_at:
            await asyncio.sleep(0.05)

    async def _see(self, database: Database) -> Verdict:
        async with database.connection() as db:
            reached = {UUID(str(row["aggregate_id"])) for row in await db.fetch(REACHED)}
            found = await db.fetchrow(FINDINGS)
        assert found is not None
        return Verdict(
            told=len(self._told),
            rolled_back=len(self._rolled_back),
            missing=len(self._told - reached),
            phantom=len(reached - self._told),
            effects=found["effects"],
            calls=found["calls"],
            faults=self._faults,
            outstanding_min=self._outstanding_min if self._faults else 0,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--driver", choices=["arq", "in-process"], default="arq")
    parser.add_argument("--control", action="store_true", help="read by ids alone: this has to come out BROKEN")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, driver {asked.driver}", flush=True)  # noqa: T201
    with ExitStack() as parts:
        home = parts.enter_context(temporary_home())
        supervisor = parts.enter_context(Supervisor(home.logs))
        url = start_postgres(supervisor, home, find_postgres(os.environ), durable=False)
        migrations.upgrade(url)
        valkey = None
        if asked.driver == "arq":
            found = find_valkey({})
            if found is None or found.program is None:
                print("no Valkey on this machine: try --driver in-process")  # noqa: T201
                return 2
            folder = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))
            parts.callback(shutil.rmtree, folder)
            valkey = Valkey(found.program, folder)
            parts.callback(valkey.kill)
        given = Settings(
            database_url=url,
            secret=secrets.token_urlsafe(32),
            redis_url=valkey.url if valkey else None,
            log_level="warning",
        )
        proof = Proof(
            given,
            seed=asked.seed,
            valkey=valkey,
            log=home.logs / "workers.log",
            read=BY_ID if asked.control else None,
            say=lambda line: print(line, flush=True),  # noqa: T201
        )
        seconds = asked.minutes * 60
        with suppress(KeyboardInterrupt):
            verdict = asyncio.run(proof.run(faults=int(seconds / 1.5), seconds=seconds))
            print(verdict)  # noqa: T201
            return 0 if verdict.holds != asked.control else 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
