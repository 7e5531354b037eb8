"""``hub up`` as an operator meets it: what it refuses, the first key, and a restart that nobody notices."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest

from commercehub import auth, serving
from commercehub.auth import Keyring
from commercehub.database import Database
from commercehub.embedded.supervisor import _leash
from commercehub.seed import planting
from commercehub.settings import Settings, environment
from commercehub.workflows import setting_up
from tests.conftest import SECRET

COMMAND = (sys.executable, "-m", "commercehub.cli")
READY_SECONDS_MAX = 30
LOOK_SECONDS = 0.05
DRAIN_SECONDS = 1.0
IS_WAITED_FOR = """
SELECT EXISTS (
    SELECT FROM pg_locks WHERE relation = 'commercehub.carts'::regclass AND NOT granted
)
"""
OTHER_SECRET = "another secret than that of the suite, and as long"


@pytest.fixture(scope="module")
def own_url(make_database: Callable[[str], str]) -> str:
    return make_database("serving")


@pytest.fixture
def given(settings: Settings, own_url: str) -> Settings:
    """The settings of a hub that is meant seriously."""
    return msgspec.structs.replace(
        settings, database_url=own_url, secret=OTHER_SECRET, demo=False, sandbox_url=None, sandbox_key=None
    )


async def reasons(given: Settings, *, demo_secret: str | None = None) -> list[str]:
    try:
        await serving.look_for_danger(given, demo_secret=demo_secret)
    except serving.Refused as error:
        return str(error).splitlines()
    return []


async def test_a_database_that_forgets_is_refused_by_each_setting_that_makes_it_forget(given: Settings) -> None:
    told = await reasons(given)
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert any(line.startswith(f"{name} is off") for line in told)


async def test_keys_and_staff_of_the_demo_are_refused_until_they_are_ended(given: Settings) -> None:
    told = "\n".join(await reasons(given))
    assert f"{len(planting.KEYS)} API keys of the demo" in told
    assert "staff of the demo: cashier, manager, picker, support" in told
    db = await asyncpg.connect(given.database_url)
    try:
        await db.execute("UPDATE commercehub.api_keys SET ends_at = now()")
        await db.execute("UPDATE commercehub.staff SET ended_at = now()")
    finally:
        await db.close()
    assert "demo" not in "\n".join(await reasons(given))


@pytest.mark.parametrize(
    ("changes", "demo_secret", "said"),
    [
        ({"secret": "x" * 40}, None, "HUB_SECRET can be guessed"),
        ({"secret_previous": "x" * 40}, None, "HUB_SECRET can be guessed"),
        ({"secret": OTHER_SECRET}, OTHER_SECRET, "HUB_SECRET is the demo's"),
        ({"sandbox_url": "http://127.0.0.1:1"}, None, "play money"),
        ({"database_url": "postgresql://127.0.0.1:1/hub"}, None, "cannot be reached"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_each_danger_has_a_line(
    changes: dict[str, str], demo_secret: str | None, said: str, given: Settings
) -> None:
    told = await reasons(msgspec.structs.replace(given, **changes), demo_secret=demo_secret)
    assert sum(said in line for line in told) == 1, told


async def test_a_demo_may_have_all_that_but_needs_its_tables(settings: Settings, server_url: str) -> None:
    assert await reasons(settings) == []
    told = await reasons(msgspec.structs.replace(settings, database_url=server_url))
    assert told == ["The database has no hub in it: hub migrate makes one."]


async def test_another_revision_is_refused_and_told_apart(given: Settings) -> None:
    db = await asyncpg.connect(given.database_url)
    try:
        await db.execute("UPDATE commercehub.alembic_version SET version_num = '9999'")
        assert any("9999, which this version of the hub does not know" in line for line in await reasons(given))
    finally:
        await db.execute("UPDATE commercehub.alembic_version SET version_num = $1", serving.REVISIONS[-1])
        await db.close()


def test_up_prints_a_line_for_each_reason_and_ends(given: Settings, tmp_path: Path) -> None:
    environ = {**os.environ, **environment(given), "HUB_HOME": str(tmp_path)}
    done = subprocess.run([*COMMAND, "up"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) >= 3
    assert all(line.startswith("hub: ") for line in done.stderr.splitlines())


async def test_a_key_made_at_the_command_line_opens_the_hub(database: Database) -> None:
    key = await database.transaction(
        lambda db, now: setting_up.create_key(
            db, role=auth.Role.ADMIN, channel="back_office", location_code=None, now=now
        )
    )
    principal = await Keyring(database).verify(key.secret)
    assert principal is not None
    assert principal.role is auth.Role.ADMIN


async def test_what_a_key_needs_is_there_or_named(db: asyncpg.Connection) -> None:
    now = await db.fetchval("SELECT now()")
    with pytest.raises(setting_up.LocationMissing):
        await setting_up.create_key(db, role=auth.Role.TILL, channel="store", location_code="MOON", now=now)
    wanted = {"kind": "web", "brand": "B", "currency": "EUR", "locale": "es-AR", "tax_country": "DE"}
    await setting_up.create_channel(db, name="Own", tax_included=True, now=now, **wanted)
    with pytest.raises(setting_up.ChannelTaken):
        async with db.transaction():
            await setting_up.create_channel(db, name="Own", tax_included=True, now=now, **wanted)
    await setting_up.set_tax_rate(db, country="DE", tax_class="standard", rate_ppm=190_000, now=now)
    await setting_up.set_tax_rate(db, country="DE", tax_class="standard", rate_ppm=160_000, now=now)
    await setting_up.set_delivery_rate(db, method="ship", currency="EUR", amount_minor=450, now=now)
    assert await db.fetchval("SELECT rate_ppm FROM commercehub.tax_rates WHERE country = 'DE'") == 160_000
    actions = [row["action"] for row in await db.fetch("SELECT action FROM commercehub.audit WHERE actor = 'cli'")]
    assert {"channel.created", "tax_rate.set", "delivery_rate.set"} <= set(actions)


@contextmanager
def up(given: Settings, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """``hub up --no-jobs`` as a process, from its line that it is ready on."""
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*COMMAND, "up", "--no-jobs"],
            env={**os.environ, **environment(given), "HUB_HOME": str(log.parent)},
            stderr=out,
            preexec_fn=_leash(signal.SIGTERM),  # noqa: PLW1509
        )
        try:
            until = time.monotonic() + READY_SECONDS_MAX
            while b"hub: ready at" not in log.read_bytes()[begin:]:
                assert time.monotonic() < until, log.read_text()
                assert process.poll() is None, log.read_text()
                time.sleep(LOOK_SECONDS)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(READY_SECONDS_MAX) == 0, log.read_text()


class Balancer:
    """What stands before two hubs: it looks at their readiness, and sends each request to one that is ready."""

    def __init__(self, urls: list[str]) -> None:
        self.clients = [httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) for url in urls]
        self.ready: list[httpx.AsyncClient] = []
        self.sent = 0
        self.failed: list[str] = []

    async def look(self) -> None:
        while True:
            ready = []
            for client in self.clients:
                try:
                    if (await client.get("/health/ready")).status_code == 200:
                        ready.append(client)
                except httpx.HTTPError:
                    pass
            self.ready = ready
            await asyncio.sleep(LOOK_SECONDS)

    async def buyer(self, key: str) -> None:
        while True:
            await asyncio.sleep(0.01)
            if not self.ready:
                self.failed.append("nobody is ready")
                continue
            self.sent += 1
            client = self.ready[self.sent % len(self.ready)]
            try:
                answer = await client.post("/v1/carts", json={}, headers={"Authorization": f"Bearer {key}"})
            except httpx.HTTPError as error:
                self.failed.append(repr(error))
                continue
            if answer.status_code != 201:
                self.failed.append(answer.text)

    async def aclose(self) -> None:
        for client in self.clients:
            await client.aclose()


async def test_two_hubs_are_restarted_one_after_the_other_without_a_failed_request(
    settings: Settings, free_port: Callable[[], int], tmp_path: Path
) -> None:
    ports = (free_port(), free_port())
    hubs = [
        msgspec.structs.replace(
            settings,
            port=port,
            base_url=f"http://127.0.0.1:{port}",
            workers=1,
            drain_seconds=DRAIN_SECONDS,
            pool_size=3,
            log_level="warning",
        )
        for port in ports
    ]
    balancer = Balancer([each.base_url for each in hubs])
    with ExitStack() as running:
        starting = [asyncio.to_thread(running.enter_context, up(each, tmp_path / f"{each.port}.log")) for each in hubs]
        started = await asyncio.gather(*starting)
        looking = asyncio.create_task(balancer.look())
        while len(balancer.ready) < 2:
            await asyncio.sleep(LOOK_SECONDS)
        buyers = [asyncio.create_task(balancer.buyer(planting.demo_secret(SECRET, "app"))) for _ in range(4)]
        started[0].send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(started[0].wait, READY_SECONDS_MAX) == 0
        again = await asyncio.to_thread(running.enter_context, up(hubs[0], tmp_path / f"{hubs[0].port}.log"))
        while len(balancer.ready) < 2:
            await asyncio.sleep(LOOK_SECONDS)
        started[1].send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(started[1].wait, READY_SECONDS_MAX) == 0
        for task in (*buyers, looking):
            task.cancel()
        await asyncio.gather(*buyers, looking, return_exceptions=True)
        await balancer.aclose()
        assert balancer.failed == []
        assert balancer.sent > 20
        assert await _answer_after_the_end_began(hubs[0], again) == 201


async def _answer_after_the_end_began(given: Settings, process: "subprocess.Popen[bytes]") -> int:
    """How a request is answered that the database keeps waiting until the hub has stopped to take new ones."""
    db = await asyncpg.connect(given.database_url)
    try:
        async with httpx.AsyncClient(base_url=given.base_url, trust_env=False, timeout=10) as client:
            async with db.transaction():
                await db.execute("LOCK TABLE commercehub.carts IN ACCESS EXCLUSIVE MODE")
                key = {"Authorization": f"Bearer {planting.demo_secret(SECRET, 'app')}"}
                asked = asyncio.create_task(client.post("/v1/carts", json={}, headers=key))
                while not await db.fetchval(IS_WAITED_FOR):
                    await asyncio.sleep(LOOK_SECONDS)
                process.send_signal(signal.SIGTERM)
                while await _takes_connections(given.port):
                    await asyncio.sleep(LOOK_SECONDS)
            return (await asked).status_code
    finally:
        await db.close()


async def _takes_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
