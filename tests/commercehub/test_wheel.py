"""The built wheel in an environment of its own: nothing that it needs is left behind in the checkout."""

import asyncio
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import on_database, run_on

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a fresh environment, in which the wheel was installed without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=repository)
    (wheel,) = folder.glob("commercehub-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel))
    # What it depends on comes from here: as a plain entry of the path, so that our editable self does not.
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "commercehub"


def run(*argv: str, cwd: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "PYTHON"))}
    return subprocess.run(argv, cwd=cwd, env={**environ, **variables}, check=True, capture_output=True, text=True)


def test_the_wheel_works_in_an_environment_of_its_own(
    installed: Path, server_url: str, worker_id: str, tmp_path: Path
) -> None:
    where = run(str(installed.with_name("python")), "-c", "import payments; print(payments.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.parents[1])
    assert run(str(installed), "--version", cwd=tmp_path).stdout.strip().count(".") == 2
    assert "every route declares its permission" in run(str(installed), "check", cwd=tmp_path).stdout

    name = f"hub_{worker_id}_wheel"
    asyncio.run(run_on(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}"))
    own = {"HUB_DATABASE_URL": on_database(server_url, name)}
    assert run(str(installed), "migrate", cwd=tmp_path, **own).stdout == "The database is up to date.\n"
    channel = ("create-channel", "back_office", "--name", "Office", "--currency", "USD", "--country", "US")
    assert "is open" in run(str(installed), *channel, cwd=tmp_path, **own).stdout
    assert run(str(installed), "create-key", "--role", "admin", cwd=tmp_path, **own).stdout.startswith("hub_sk_")
