"""Valkey as a child of ours. It holds nothing that cannot be lost: work queued, counters, caches."""

import os
import signal
import socket
from pathlib import Path

from commercehub.embedded.discovery import Found, bring_within_reach
from commercehub.embedded.home import Home
from commercehub.embedded.supervisor import Child, Supervisor

STOP_SECONDS_MAX = 5.0
PING_SECONDS_MAX = 1.0


def start_valkey(supervisor: Supervisor, home: Home, found: Found | None) -> str | None:
    """The address of a Valkey that answers, as redis-py and arq take it; None without one. Raises ``StartFailed``."""
    if found is None:
        return None
    if found.url:
        return found.url
    path = home.run / "valkey.sock"  # in a folder of mode 0700, so it needs no password
    settings = {"port": "0", "unixsocket": str(path), "unixsocketperm": "700", "save": "", "appendonly": "no"}
    supervisor.start(
        Child(
            name="valkey",
            argv=(str(bring_within_reach(found)), *(word for key in settings for word in (f"--{key}", settings[key]))),
            environ={"PATH": os.defpath, "LC_ALL": "C"},
            folder=home.run,
            account=home.account,
            ready=lambda _pid: _answers(path),
            stop_seconds_max=STOP_SECONDS_MAX,
            orphan_signal=signal.SIGKILL,
        )
    )
    return f"unix://{path}"


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PING_SECONDS_MAX)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
