"""The hub as it is deployed: two granian workers, on a database that only the races write to."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from subprocess import Popen

import httpx
import msgspec
import pytest

from commercehub.app import open_hub
from commercehub.database import Database
from commercehub.seed import planting
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from tests.client import Channels
from tests.conftest import SECRET
from tests.serving import Books, Wire, serving_hub

POOL_SIZE = 12


# Every fixture of the suite that stands on the settings is made anew here, or it would stand on the suite's own.
@pytest.fixture(scope="package")
def settings(make_database: Callable[[str], str], sandbox_url: str, free_port: Callable[[], int]) -> Settings:
    return Settings(
        database_url=make_database("races"),
        secret=SECRET,
        sandbox_url=sandbox_url,
        sandbox_key="sandbox-key-of-the-suite",
        demo=True,
        rate_limit_per_second=100_000,
        rate_limit_burst=100_000,
        log_level="error",
        base_url=f"http://127.0.0.1:{free_port()}",
        pool_size=POOL_SIZE,
    )


@pytest.fixture(scope="package")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("races") / "granian.log"


@pytest.fixture(scope="package")
def server(settings: Settings, log: Path) -> Iterator["Popen[bytes]"]:
    with log.open("wb") as out, serving_hub(settings, out) as process:
        yield process


@pytest.fixture(scope="package")
async def hub(settings: Settings) -> AsyncIterator[Hub]:
    async with open_hub(msgspec.structs.replace(settings, pool_size=4)) as hub:
        yield hub


@pytest.fixture(scope="package")
async def database(hub: Hub) -> Database:
    return hub.database


@pytest.fixture(scope="package")
async def books(settings: Settings) -> AsyncIterator[Books]:
    books = Books(settings)
    yield books
    await books.aclose()


@pytest.fixture(scope="package")
async def api(settings: Settings, server: "Popen[bytes]") -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=settings.base_url, transport=Wire(settings.base_url)) as client:
        yield client


@pytest.fixture(scope="package")
def channels(api: httpx.AsyncClient) -> Channels:
    return Channels(api, {name: planting.demo_secret(SECRET, name) for name in planting.KEYS})
