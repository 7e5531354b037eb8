import asyncio
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from commercehub.embedded import Child, Found, Home, StartFailed, Supervisor, postgres_url, start_postgres
from tests.commercehub.embedded.observing import Stage, needs_linux, processes_in, wait_until


def run_sql(url: str, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def postmaster_pid(home: Home) -> int:
    return int((home.database / "postmaster.pid").read_text().split()[0])


def test_a_database_is_made_once_and_its_data_is_there_at_the_next_start(home: Home, postgres: Found) -> None:
    said: list[str] = []
    with Supervisor(home.logs, say=said.append) as hub:
        url = start_postgres(hub, home, postgres, durable=False)
        run_sql(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert said == ["making a database (PostgreSQL 18.4), once …"]
    started_at = time.monotonic()
    with Supervisor(home.logs, say=said.append) as hub:
        url = start_postgres(hub, home, postgres)
        assert time.monotonic() - started_at < 2
        assert run_sql(url, "SELECT answer FROM kept") == 42
        assert run_sql(url, "SELECT current_setting('fsync')") == "on"
        assert run_sql(url, "SELECT lower('ÑANDÚ')") == "ñandú"
    assert len(said) == 1
    assert processes_in(home.state) == []


def test_it_is_reached_by_its_own_account_alone(home: Home, postgres: Found) -> None:
    with Supervisor(home.logs) as hub:
        url = start_postgres(hub, home, postgres, durable=False)
        assert run_sql(url, "SELECT current_setting('listen_addresses')") == ""
        assert stat.S_IMODE(home.run.stat().st_mode) == 0o700
        assert run_sql(url, "SELECT current_setting('fsync')") == "off"


def test_a_killed_server_comes_back_with_its_data(home: Home, postgres: Found) -> None:
    with Supervisor(home.logs) as hub:
        url = start_postgres(hub, home, postgres)
        run_sql(url, "CREATE TABLE survivors AS SELECT 7 AS count")
        killed = postmaster_pid(home)
        os.kill(killed, signal.SIGKILL)
        hub.watch(on_restart=lambda _child: os.kill(os.getpid(), signal.SIGINT))
        assert postmaster_pid(home) != killed
        assert run_sql(url, "SELECT count FROM survivors") == 7


@needs_linux
def test_a_killed_parent_leaves_no_process_and_no_obstacle(home: Home, stage: Callable[..., Stage]) -> None:
    for _ in range(2):
        hub = stage(home.folder)
        assert hub.line() == "ready"
        run_sql(postgres_url(home), "CREATE TABLE IF NOT EXISTS orphans (id int)")
        assert len(processes_in(home.state)) > 5
        os.kill(hub.process.pid, signal.SIGKILL)
    wait_until(lambda: processes_in(home.state) == [])


def test_sigterm_stops_everything(home: Home, stage: Callable[..., Stage]) -> None:
    hub = stage(home.folder)
    assert hub.line() == "ready"
    hub.process.terminate()
    assert hub.line() in {"stopped", "interrupted"}  # the second if it came before the watch
    assert hub.end() == 0
    assert processes_in(home.state) == []
    assert not (home.database / "postmaster.pid").exists()
    assert "database system is shut down" in (home.logs / "postgres.log").read_text()


def test_sigint_during_a_start_stops_everything(home: Home, stage: Callable[..., Stage]) -> None:
    hub = stage(home.folder, "/bin/sleep", "60")
    assert hub.line() == "ready"
    hub.process.send_signal(signal.SIGINT)
    assert hub.line() == "interrupted"
    assert hub.end() == 0
    assert processes_in(home.state) == []


@needs_linux
def test_a_process_number_given_to_another_process_does_not_stop_a_start(home: Home, postgres: Found) -> None:
    with Supervisor(home.logs) as hub:
        hub.start(Child(name="bystander", argv=("/bin/sleep", "60"), account=home.account, folder=Path("/")))
        bystander = hub._held[0].process.pid
        pid_file = home.database / "postmaster.pid"
        pid_file.write_text(f"{bystander}\n{home.database}\n1\n5432\n{home.run}\n\n\nready\n")
        (home.run / ".s.PGSQL.5432.lock").write_text(f"{bystander}\n")
        assert run_sql(start_postgres(hub, home, postgres), "SELECT 1") == 1


def test_a_making_cut_short_is_not_taken_for_a_database(
    another_home: Home, postgres: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def cut_short(self: Supervisor, child: Child, **_: object) -> None:
        started.append(child.name)
        (another_home.database.with_name("postgres.half") / "PG_VERSION").write_text("18\n")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Supervisor, "run_once", cut_short)
        try:
            with Supervisor(another_home.logs) as hub:
                start_postgres(hub, another_home, postgres)
        except KeyboardInterrupt:
            assert started == ["initdb"]
    with Supervisor(another_home.logs) as hub:
        assert run_sql(start_postgres(hub, another_home, postgres, durable=False), "SELECT 1") == 1


def test_a_broken_database_is_reported_in_postgresql_s_words(another_home: Home, postgres: Found) -> None:
    another_home.database.mkdir(mode=0o700)
    if another_home.account:
        os.chown(another_home.database, another_home.account.uid, another_home.account.gid)
    try:
        with Supervisor(another_home.logs) as hub:
            start_postgres(hub, another_home, postgres)
    except StartFailed as failed:
        assert "postgresql.conf" in str(failed)  # noqa: PT017 - the log's words matter
    else:
        raise AssertionError


def test_a_server_of_yours_is_used_as_it_is(another_home: Home) -> None:
    yours = Found(origin="environment", why="HUB_DATABASE_URL is set", url="postgresql://db.example/shop")
    with Supervisor(another_home.logs) as hub:
        assert start_postgres(hub, another_home, yours) == "postgresql://db.example/shop"
    assert not another_home.database.exists()
