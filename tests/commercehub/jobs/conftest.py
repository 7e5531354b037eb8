"""A Valkey of the test's own, to be killed, and one that was never there."""

import gc
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from commercehub.embedded import find_valkey
from commercehub.embedded.valkey import _answers

READY_SECONDS_MAX = 5


class Valkey:
    """Starts empty each time, and dies without a word."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._socket = folder / "s"
        self.url = f"unix://{self._socket}"
        self.start()

    def start(self) -> None:
        settings = ("--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen([str(self._program), *settings], stdout=subprocess.DEVNULL)
        give_up_at = time.monotonic() + READY_SECONDS_MAX
        while not _answers(self._socket):
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop_answering(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    found = find_valkey({})
    if found is None or found.program is None:
        pytest.skip("no Valkey on this machine")
    folder = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))  # the path of a socket is short
    valkey = Valkey(found.program, folder)
    try:
        yield valkey
    finally:
        with suppress(ProcessLookupError):
            valkey.kill()
        shutil.rmtree(folder)
        with warnings.catch_warnings():
            # What was cut off in mid-sentence goes now, and not in a test that has nothing to do with it.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
