"""A backup, taken while the hub has something to do, restored elsewhere: the books are right, and work goes on there."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest

from commercehub import backup
from commercehub.app import create_app, open_hub
from commercehub.cli import main
from commercehub.embedded import Supervisor, find_postgres, start_postgres, temporary_home
from commercehub.jobs import relay
from commercehub.seed import planting
from commercehub.settings import Settings
from tests.client import Channel
from tests.conftest import SECRET, on_database, run_on
from tests.serving import findings

TRIES_MAX = 200
READ_XID = "SELECT pg_current_xact_id()::text::bigint"
COUNT_MESSAGES = "SELECT count(*) FROM commercehub.messages"


@pytest.fixture(scope="module")
def own_url(make_database: Callable[[str], str]) -> str:
    return make_database("backup")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Another cluster, whose transaction ids begin anew."""
    environ = {name: value for name, value in os.environ.items() if name != "HUB_DATABASE_URL"}
    with temporary_home() as home, Supervisor(home.logs) as supervisor:
        yield start_postgres(supervisor, home, find_postgres(environ), durable=False)


def call(monkeypatch: pytest.MonkeyPatch, url: str, *arguments: str) -> int:
    monkeypatch.setenv("HUB_DATABASE_URL", url)
    return main(arguments)


async def buy(settings: Settings) -> None:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url=settings.base_url) as client:
        shopper = Channel(client, planting.demo_secret(SECRET, "app"))
        cart = await shopper.cart({"sku": "TEE-S"}, ship=True)
        card = {"type": "card", "payment_method": "pm_ok"}
        answer = await shopper.check_out(cart, card)
        assert answer.status_code == 201, answer.text


async def work_off(settings: Settings, *, until: int) -> int:
    """Do what waits; returns how many messages customers have been sent."""
    count = 0
    async with open_hub(settings) as hub:
        for _ in range(TRIES_MAX):
            await relay.relay_once(hub, None)
            async with hub.database.connection() as db:
                count = await db.fetchval(COUNT_MESSAGES)
                if count == until:
                    assert await findings(db) == []
                    break
            await asyncio.sleep(0.02)
    return count


async def ask(url: str, question: str) -> int:
    db = await asyncpg.connect(url)
    try:
        answer: int = await db.fetchval(question)
        return answer
    finally:
        await db.close()


def test_a_backup_restored_elsewhere_has_right_books_and_works_on(
    own_url: str,
    elsewhere: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = msgspec.structs.replace(settings, database_url=own_url)
    there = msgspec.structs.replace(settings, database_url=elsewhere)
    asyncio.run(buy(here))
    file = tmp_path / "hub.dump"

    assert call(monkeypatch, own_url, "backup", str(file)) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "does not hold HUB_SECRET" in capsys.readouterr().out

    assert asyncio.run(ask(elsewhere, READ_XID)) < asyncio.run(ask(own_url, READ_XID))
    assert call(monkeypatch, elsewhere, "restore", str(file)) == 0
    assert "0 differences" in capsys.readouterr().out

    # What had happened and was told to nobody is told there, and what happens there too.
    assert asyncio.run(work_off(there, until=1)) == 1
    asyncio.run(buy(there))
    assert asyncio.run(work_off(there, until=2)) == 2

    assert call(monkeypatch, elsewhere, "restore", str(file)) == 1
    assert "The database is not empty" in capsys.readouterr().err


def test_a_file_that_is_there_is_not_written_over(
    own_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hub.dump"
    file.write_text("mine")
    assert call(monkeypatch, own_url, "backup", str(file)) == 1
    assert (file.read_text(), "is there already" in capsys.readouterr().err) == ("mine", True)


def test_a_file_that_is_no_backup_leaves_nothing_behind(
    server_url: str, worker_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"hub_{worker_id}_empty"
    asyncio.run(run_on(server_url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}"))
    url = on_database(server_url, name)
    (tmp_path / "hub.dump").write_text("not one")
    assert call(monkeypatch, url, "restore", str(tmp_path / "hub.dump")) == 1
    assert "does not appear to be a valid archive" in capsys.readouterr().err
    assert call(monkeypatch, url, "restore", str(tmp_path / "none.dump")) == 1
    asyncio.run(backup.look_at_target(url))


def test_a_password_is_not_among_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "pg_dump"
    tool.write_text('#!/bin/sh\necho "$PGPASSWORD | $*" >&2\nexit 1\n')
    tool.chmod(0o755)
    monkeypatch.setattr("commercehub.backup._find", lambda *_: tool)
    with pytest.raises(backup.BackupFailed) as failed:
        backup.back_up("postgresql://hub:s%2Fcret@host:5433/shop?sslmode=require", tmp_path / "x", os.environ)
    password, _, arguments = str(failed.value).partition(" | ")
    assert password == "s/cret"
    assert "cret" not in arguments
    assert arguments.endswith("postgresql://hub@host:5433/shop?sslmode=require")
    assert sorted(tmp_path.iterdir()) == [tool]
