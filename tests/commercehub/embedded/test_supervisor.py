import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commercehub.embedded import AlreadyRunning, Child, StartFailed, Supervisor
from tests.commercehub.embedded.observing import is_alive, needs_linux, wait_until

NOTES_ITS_END = """
import signal, sys, time
def end(number, frame):
    with open("ends", "a") as ends:
        ends.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + ".up", "w").close()
while True:
    time.sleep(1)
"""
IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("deaf.up", "w").close()
while True:
    time.sleep(1)
"""


def python(
    name: str,
    code: str,
    folder: Path,
    *,
    ready: Callable[[int], bool] | None = None,
    ready_seconds_max: float = 5.0,
    stop_seconds_max: float = 5.0,
) -> Child:
    return Child(
        name=name,
        argv=(sys.executable, "-I", "-S", "-c", code, name),
        folder=folder,
        ready=ready or (lambda _pid: (folder / f"{name}.up").exists()),
        ready_seconds_max=ready_seconds_max,
        stop_seconds_max=stop_seconds_max,
    )


def signal_soon(number: signal.Signals, after_seconds: float = 0.2) -> None:
    threading.Timer(after_seconds, os.kill, (os.getpid(), number)).start()


def test_children_stop_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as hub:
        for name in ("first", "second", "third"):
            hub.start(python(name, NOTES_ITS_END, tmp_path))
    assert (tmp_path / "ends").read_text().split() == ["third", "second", "first"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_watch_and_the_handlers_of_before_return(tmp_path: Path, number: signal.Signals) -> None:
    # A suite run under nohup ignores SIGHUP, which the supervisor would respect: here the terminal is there.
    outer = signal.signal(number, signal.default_int_handler)
    try:
        with Supervisor(tmp_path) as hub:
            hub.start(python("only", NOTES_ITS_END, tmp_path))
            signal_soon(number)
            hub.watch()
        assert (tmp_path / "ends").read_text().split() == ["only"]
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, outer)


def test_a_signal_during_a_start_stops_what_was_started(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as hub:
        hub.start(python("first", NOTES_ITS_END, tmp_path))
        signal_soon(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            hub.start(python("second", NOTES_ITS_END, tmp_path, ready=lambda _pid: False))
    assert (tmp_path / "ends").read_text().split() == ["second", "first"]


def test_a_child_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = "print('all is well'); raise SystemExit('no such shop')"
    with Supervisor(tmp_path) as hub, pytest.raises(StartFailed, match="no such shop") as failed:
        hub.start(python("brief", code, tmp_path))
    assert "ended with exit status 1" in str(failed.value)
    assert failed.value.log == tmp_path / "brief.log"


@needs_linux
def test_a_child_that_is_not_ready_in_time_is_stopped_and_not_watched(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as hub:
        pids: list[int] = []

        def never(pid: int) -> bool:
            pids.append(pid)
            return False

        with pytest.raises(StartFailed, match="was not ready within 0 s"):
            hub.start(python("slow", NOTES_ITS_END, tmp_path, ready=never, ready_seconds_max=0.3))
        assert not is_alive(pids[0])
        signal_soon(signal.SIGINT, 0.4)
        hub.watch()
    assert (tmp_path / "slow.log").exists()


def test_a_program_that_is_not_there_is_a_failed_start(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as hub, pytest.raises(StartFailed, match="cannot be run"):
        hub.start(Child(name="ghost", argv=(str(tmp_path / "ghost"),)))


def test_a_child_that_ignores_its_stop_signal_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(tmp_path, say=said.append) as hub:
        hub.start(python("deaf", IGNORES_SIGTERM, tmp_path, stop_seconds_max=0.2))
        started_at = time.monotonic()
    assert time.monotonic() - started_at < 2
    assert said[-1] == "deaf did not stop within 0 s, and is killed"


@needs_linux
def test_a_killed_child_comes_back_and_its_own_workers_do_not_stay(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys, time
worker = subprocess.Popen(["sleep", "60"])
open("pids", "a").write(f"{os.getpid()} {worker.pid}\\n")
time.sleep(60)
"""
    said: list[str] = []
    back: list[str] = []

    def pids() -> list[int]:
        return [int(word) for word in (tmp_path / "pids").read_text().split()] if (tmp_path / "pids").exists() else []

    with Supervisor(tmp_path, say=said.append) as hub:
        hub.start(python("granian", code, tmp_path, ready=lambda pid: pid in pids()))
        parent, worker = pids()
        os.kill(parent, signal.SIGKILL)

        def note(child: Child) -> None:
            back.append(child.name)
            os.kill(os.getpid(), signal.SIGINT)

        hub.watch(on_restart=note)
        wait_until(lambda: not is_alive(worker))
        assert len(pids()) == 4
    assert back == ["granian"]
    assert said == ["granian was ended by SIGKILL, and is started again"]
    wait_until(lambda: not any(is_alive(pid) for pid in pids()))


def test_a_child_that_cannot_come_back_is_tried_ever_more_slowly(tmp_path: Path) -> None:
    once = "import os\nif os.path.exists('once'): raise SystemExit(3)\nopen('once', 'w')\nopen('hasty.up', 'w')"
    said: list[str] = []
    with Supervisor(tmp_path, say=said.append) as hub:
        hub.start(python("hasty", once + "\nimport time; time.sleep(0.1)", tmp_path))
        signal_soon(signal.SIGINT, 1.5)
        hub.watch()
    assert 3 <= len(said) <= 5  # after 0.1, 0.2, 0.4, 0.8 s


def test_two_supervisors_do_not_share_a_home(tmp_path: Path) -> None:
    with Supervisor(tmp_path), pytest.raises(AlreadyRunning, match="already running"), Supervisor(tmp_path):
        pass
    with Supervisor(tmp_path):
        pass
