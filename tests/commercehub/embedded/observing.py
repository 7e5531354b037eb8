"""What the tests of this folder look at: a hub in a process of its own, and the processes of this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

GONE_SECONDS_MAX = 10.0


class Stage:
    """A hub of its own process, which a test may kill: ``stage.py`` with PostgreSQL and Valkey."""

    def __init__(self, folder: Path, *arguments: str, uid: int | None = None) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stage.py")), str(folder), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            cwd="/",
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        status = self.process.wait(GONE_SECONDS_MAX)
        assert self.process.stdout
        self.process.stdout.close()
        return status


def processes_in(folder: Path) -> list[int]:
    """Every process that lives in this folder; PostgreSQL's children too, whose command lines do not name it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()  # a zombie waits for the machine's init, not for us
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], object], seconds_max: float = GONE_SECONDS_MAX) -> None:
    give_up_at = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come to pass"
        time.sleep(0.02)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed parent")
