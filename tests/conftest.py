"""The real parts that the suite runs on: PostgreSQL and Valkey embedded (or those of HUB_DATABASE_URL and
HUB_REDIS_URL), the real migrations, the seeded shop, and the sandbox processor in a process of its own.

They are started once. Each worker has a database made from a template, and each test its own products, so that
nothing is ever cleaned away.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from asyncpg import Connection
from hypothesis import settings as hypothesis_settings

from commercehub import migrations
from commercehub.app import create_app, open_hub
from commercehub.database import Database
from commercehub.embedded import Supervisor, find_postgres, find_valkey, start_postgres, start_valkey, temporary_home
from commercehub.jobs import relay
from commercehub.seed import planting
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels, Statements
from tests.serving import serving

TEMPLATE = "hub_template"
IS_BEHIND = """
SELECT EXISTS (
    SELECT FROM commercehub.events AS event, commercehub.event_cursors AS cursor
    WHERE cursor.reader = 'relay' AND (event.xid, event.id) > (cursor.xid, cursor.id)
)
"""
SECRET = "the suite's own secret, long enough to be one"

# A busy machine is no bug: properties are judged by what they find, not by how long one example took.
hypothesis_settings.register_profile("hub", deadline=None)
hypothesis_settings.load_profile("hub")

_parts = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Start the parts, once: pytest-xdist's workers find them in their environment."""
    if hasattr(config, "workerinput"):
        return
    home = _parts.enter_context(temporary_home())
    supervisor = _parts.enter_context(Supervisor(home.logs))
    server_url = start_postgres(supervisor, home, find_postgres(os.environ), durable=False)
    redis_url = start_valkey(supervisor, home, find_valkey(os.environ))
    asyncio.run(run_on(server_url, f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE}"))
    template_url = on_database(server_url, TEMPLATE)
    migrations.upgrade(template_url)
    asyncio.run(_plant(template_url))
    os.environ["HUB_TEST_SERVER_URL"] = server_url
    os.environ["HUB_TEST_REDIS_URL"] = redis_url or ""


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the parts."""
    if not hasattr(config, "workerinput"):
        _parts.close()


def on_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc or "hub@", path=f"/{name}"))


async def run_on(url: str, *statements: str) -> None:
    """Run statements on a connection of their own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _plant(url: str) -> None:
    database = await Database.connect(url, pool_size=2)
    try:
        await planting.plant(database, secret=SECRET)
    finally:
        await database.close()


@pytest.fixture(scope="session")
def server_url() -> str:
    """A database of the server under test, to make others from."""
    return os.environ["HUB_TEST_SERVER_URL"]


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Valkey, or a skip where there is none."""
    return os.environ["HUB_TEST_REDIS_URL"] or pytest.skip("no Valkey on this machine")


@pytest.fixture(scope="session")
def make_database(server_url: str, worker_id: str) -> Callable[[str], str]:
    """Make a database with the seeded shop in it; returns its URL."""

    def make(name: str) -> str:
        full = f"hub_{worker_id}_{name}"
        asyncio.run(
            run_on(
                server_url,
                f"DROP DATABASE IF EXISTS {full} WITH (FORCE)",
                f"CREATE DATABASE {full} TEMPLATE {TEMPLATE}",
            )
        )
        return on_database(server_url, full)

    return make


@pytest.fixture(scope="session")
def database_url(make_database: Callable[[str], str]) -> str:
    """This worker's database."""
    return make_database("suite")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port that nobody listens at."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture(scope="session")
def sandbox_url(free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sandbox processor: a real peer on the other end of a socket."""
    folder = tmp_path_factory.mktemp("sandbox")
    port = free_port()
    environ = {
        **os.environ,
        "HUB_SANDBOX_DATABASE": str(folder / "books.sqlite"),
        "HUB_SANDBOX_SECRET": "sandbox-key-of-the-suite",
    }
    command = [sys.executable, "-m", "commercehub.sandbox", "--port", str(port)]
    with (folder / "log").open("wb") as log, serving(command, environ, log, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def settings(database_url: str, sandbox_url: str) -> Settings:
    """The settings of the hub under test."""
    return Settings(
        database_url=database_url,
        secret=SECRET,
        sandbox_url=sandbox_url,
        sandbox_key="sandbox-key-of-the-suite",
        sandbox_webhook_secret="webhook-secret-of-the-suite",
        demo=True,
        rate_limit_per_second=100_000,
        rate_limit_burst=100_000,
        log_level="error",
        base_url="http://hub.test",
    )


@pytest.fixture(scope="session")
def statements() -> Statements:
    """Counts what reaches the database's driver."""
    return Statements()


@pytest.fixture(scope="session")
async def hub(settings: Settings, statements: Statements) -> AsyncIterator[Hub]:
    """The parts of the hub, for tests below HTTP."""
    async with open_hub(settings) as hub:
        yield hub


@pytest.fixture(scope="session")
async def database(hub: Hub) -> Database:
    """The hub's database."""
    return hub.database


@pytest.fixture
async def db(database: Database) -> AsyncIterator[Connection]:
    """A connection in a transaction that is rolled back at the end."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


@pytest.fixture(scope="session")
async def api(settings: Settings, statements: Statements) -> AsyncIterator[httpx.AsyncClient]:
    """The hub over ASGI, in this process."""
    app = create_app(settings, on_connect=statements.listen)
    started, ended = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # Litestar's lifespan has to end in the task that it began in, and fixtures end in another.
        async with app.lifespan():
            started.set()
            await ended.wait()

    lifespan = asyncio.create_task(live())
    await started.wait()
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),  # type: ignore[arg-type]
            base_url=settings.base_url,
        ) as client:
            yield client
    finally:
        ended.set()
        await lifespan


@pytest.fixture(scope="session")
def channels(api: httpx.AsyncClient) -> Channels:
    """A client for each key of the demo."""
    return Channels(api, {name: planting.demo_secret(SECRET, name) for name in planting.KEYS})


@pytest.fixture
def app(channels: Channels) -> Channel:
    """A shopper's app, by its publishable key."""
    return channels["app"]


@pytest.fixture
def till(channels: Channels) -> Channel:
    """A till at S1."""
    return channels["store"]


@pytest.fixture
async def drawer(channels: Channels) -> str:
    """A register of the test's own at S1, its drawer open and empty."""
    return await channels.drawer()


@pytest.fixture
def warehouse(channels: Channels) -> Channel:
    """Somebody on the floor of any location."""
    return channels["warehouse"]


@pytest.fixture
def admin(channels: Channels) -> Channel:
    """Who may do everything."""
    return channels["admin"]


@pytest.fixture
def run_jobs(hub: Hub) -> Callable[[], Awaitable[None]]:
    """Work off everything that has happened so far."""

    async def run() -> None:
        # An event is settled once no older transaction is open, in other tests' databases too: that may take a moment.
        for _ in range(500):
            if await relay.relay_once(hub, None) == 0:
                async with hub.database.connection() as db:
                    if not await db.fetchval(IS_BEHIND):
                        return
            await asyncio.sleep(0.02)

    return run


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]
