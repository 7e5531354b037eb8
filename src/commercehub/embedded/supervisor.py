"""Starts the processes of a hub in order, keeps them alive, and stops them in the reverse order.

Nothing is left behind, and so there is nothing to clean up: on Linux the kernel itself ends each child when the
supervisor is killed, and PostgreSQL's children end with their postmaster.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import msgspec

from commercehub.embedded.errors import StartFailed
from commercehub.embedded.home import Account, lock_folder

POLL_SECONDS = 0.02
WATCH_SECONDS = 0.1
SLOW_SECONDS = 2.0  # whatever takes longer says what it is doing
RESTART_DELAY_SECONDS_MIN = 0.1
RESTART_DELAY_SECONDS_MAX = 5.0
STEADY_SECONDS = 30.0  # who lived that long is restarted at once again
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES = 8192

PR_SET_PDEATHSIG = 1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _at_once(_pid: int) -> bool:
    return True


def _silent(_text: str) -> None:
    pass


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A program to keep running in the foreground. Its output goes to ``<name>.log``, never into a pipe."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] | None = None  # None: ours
    folder: Path | None = None
    account: Account | None = None  # None: as we do
    ready: Callable[[int], bool] = _at_once  # is asked with the process id, until it says yes
    ready_seconds_max: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds_max: float = 10.0
    orphan_signal: signal.Signals = signal.SIGTERM  # what the kernel sends it when the supervisor was killed


class _Held(msgspec.Struct, kw_only=True):
    """A child and the process that it is just now."""

    child: Child
    process: subprocess.Popen[bytes]
    started_at: float
    ready: bool = False
    delay_seconds: float = 0.0
    restart_at: float | None = None  # set while it is down


class Supervisor:
    """Holds the children of one hub, and their log folder: a second one there raises ``AlreadyRunning``.

    SIGINT, SIGTERM and SIGHUP raise ``KeyboardInterrupt``, so that the ``with`` block unwinds. For the main thread
    only: signals arrive there, and the kernel takes the end of the thread that started a child for the parent's.
    """

    def __init__(self, log_folder: Path, *, say: Callable[[str], None] = _silent) -> None:
        self._say = say
        self._log_folder = log_folder
        self._held: list[_Held] = []
        self._busy = False  # a signal just now would lose sight of a child
        self._asked_to_stop = False
        self._lock = -1
        self._handlers: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        self._lock = lock_folder(self._log_folder)
        for number in STOP_SIGNALS:
            # nohup ignores SIGHUP on our behalf. A script's shell ignores SIGINT for what it puts in the background,
            # and there `kill -INT` must work all the same.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._busy = True  # a second Ctrl-C must not leave a child behind; the wait for each is bounded
        while self._held:
            self._stop(self._held[-1])
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._lock)

    def say(self, text: str) -> None:
        """Tell the person at the terminal, if the terminal is still there: its end must not end an orderly stop."""
        with suppress(OSError):
            self._say(text)

    def start(self, *children: Child) -> None:
        """Start all at once, and return when every one is ready.

        Raises ``StartFailed`` if one ends before, or takes too long.
        """
        born = []
        for child in children:
            log = self._log(child)
            if log.exists():
                log.replace(log.with_suffix(".previous.log"))
            born.append(self._hold(child))
        for held in born:
            self._await(held)

    def _await(self, held: _Held) -> None:
        child, process, told = held.child, held.process, False
        while not child.ready(process.pid) or process.poll() is not None:
            waited_seconds = time.monotonic() - held.started_at
            if process.poll() is not None:
                raise self._failed(held, _end_of(process))
            if waited_seconds > child.ready_seconds_max:
                raise self._failed(held, f"was not ready within {child.ready_seconds_max:.0f} s")
            if waited_seconds > SLOW_SECONDS and not told:
                self.say(f"waiting for {child.name} …")
                told = True
            time.sleep(POLL_SECONDS)
        held.ready = True

    def run_once(self, child: Child, *, typed: str = "") -> None:
        """Run ``child`` to its good end with ``typed`` as its input, or raise ``StartFailed``."""
        held = self._hold(child, typed)
        try:
            status = held.process.wait(child.ready_seconds_max)
        except subprocess.TimeoutExpired:
            raise self._failed(held, f"did not end within {child.ready_seconds_max:.0f} s") from None
        if status != 0:
            raise self._failed(held, _end_of(held.process))
        self._held.remove(held)

    def watch(self, *, on_restart: Callable[[Child], None] | None = None) -> None:
        """Return at SIGINT, SIGTERM or SIGHUP. Until then, whatever dies is started again.

        ``on_restart`` is told the child once it is ready again; that it died is said by ``say``.
        """
        try:
            while not self._asked_to_stop:
                for held in self._held:
                    self._look_after(held, on_restart)
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            return

    def _look_after(self, held: _Held, on_restart: Callable[[Child], None] | None) -> None:
        # No step waits: a child that cannot come back must not keep the others down.
        now, child = time.monotonic(), held.child
        if held.restart_at is not None:
            if now < held.restart_at:
                return
            held.restart_at = now + RESTART_DELAY_SECONDS_MAX
            with suppress(StartFailed), self._undisturbed():
                held.process, held.started_at, held.restart_at = self._spawn(child), now, None
        elif held.process.poll() is not None:
            self.say(f"{child.name} {_end_of(held.process)}, and is started again")
            _end_group(held.process)
            steady = held.ready and now - held.started_at >= STEADY_SECONDS
            delay_seconds = 0.0 if steady else 2 * held.delay_seconds
            held.delay_seconds = min(max(delay_seconds, RESTART_DELAY_SECONDS_MIN), RESTART_DELAY_SECONDS_MAX)
            held.ready, held.restart_at = False, now + held.delay_seconds
        elif not held.ready:
            held.ready = child.ready(held.process.pid)
            if held.ready and on_restart:
                on_restart(child)
            elif not held.ready and now - held.started_at > child.ready_seconds_max:
                held.process.kill()

    def _hold(self, child: Child, typed: str = "") -> _Held:
        with self._undisturbed():
            held = _Held(child=child, process=self._spawn(child, typed), started_at=time.monotonic())
            self._held.append(held)
        return held

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Put a signal off until the child that is being born is one that we would stop."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._asked_to_stop:
            raise KeyboardInterrupt

    def _spawn(self, child: Child, typed: str = "") -> subprocess.Popen[bytes]:
        account = child.account
        log = os.open(self._log(child), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            with tempfile.TemporaryFile() as keyboard:
                keyboard.write(typed.encode())
                keyboard.seek(0)
                return subprocess.Popen(  # noqa: S603 - programs that we found or are
                    child.argv,
                    cwd=child.folder,
                    env=child.environ,
                    stdin=keyboard,
                    stdout=log,
                    stderr=log,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                    # Each in a group of its own: a Ctrl-C at the terminal reaches the supervisor alone, who stops
                    # them in order, and what a killed child leaves of its own workers can be ended as a group.
                    process_group=0,
                    preexec_fn=_leash(child.orphan_signal),  # noqa: PLW1509 - it imports and locks nothing
                )
        except OSError as error:
            raise StartFailed(child.name, f"cannot be run: {error}", self._log(child)) from error
        finally:
            os.close(log)

    def _stop(self, held: _Held) -> None:
        child, process = held.child, held.process
        if process.poll() is None:
            process.send_signal(child.stop_signal)
        quick_seconds = min(SLOW_SECONDS, child.stop_seconds_max)
        if not _ends(process, quick_seconds):
            self.say(f"waiting for {child.name} to stop …")
            if not _ends(process, child.stop_seconds_max - quick_seconds):
                self.say(f"{child.name} did not stop within {child.stop_seconds_max:.0f} s, and is killed")
                process.kill()
                process.wait()
        _end_group(process)
        self._held.remove(held)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_stop = True
        if not self._busy:
            raise KeyboardInterrupt

    def _log(self, child: Child) -> Path:
        return self._log_folder / f"{child.name}.log"

    def _failed(self, held: _Held, reason: str) -> StartFailed:
        self._stop(held)
        log = self._log(held.child)
        tail = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return StartFailed(held.child.name, reason, log, tail)


def _leash(number: signal.Signals) -> Callable[[], None] | None:
    """What a new process does, after it changed its account, so that it will not outlive us."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return tie


def _ends(process: subprocess.Popen[bytes], seconds_max: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds_max)
    return process.returncode is not None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS says it the second way
        os.killpg(process.pid, signal.SIGKILL)


def _end_of(process: subprocess.Popen[bytes]) -> str:
    status = process.returncode
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
