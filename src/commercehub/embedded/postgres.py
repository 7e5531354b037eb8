"""PostgreSQL as a child of ours: made once, then started in a blink, reachable by nobody else."""

import os
import shutil
import signal
import time
from pathlib import Path

from commercehub.embedded.discovery import Found, bring_within_reach
from commercehub.embedded.home import Home, own_folder
from commercehub.embedded.supervisor import POLL_SECONDS, Child, Supervisor

PORT = 5432  # of a socket it is but a part of the name
CONNECTIONS_MAX = 200
SHARED_BUFFERS = "256MB"
START_SECONDS_MAX = 60.0  # recovery after a crash included
STOP_SECONDS_MAX = 15.0
MAKE_SECONDS_MAX = 120.0
ORPHAN_SECONDS_MAX = 10.0

STATUS_LINE = 7  # of postmaster.pid, where pg_ctl looks too

# None of ours: the account it runs as need not see our secrets. LC_ALL keeps macOS' postmaster single-threaded.
ENVIRON = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def postgres_url(home: Home) -> str:
    """Where the embedded server of this home answers, while it runs. Any user of asyncpg or libpq understands it."""
    return f"postgresql://hub@/hub?host={home.run}&port={PORT}"


def start_postgres(supervisor: Supervisor, home: Home, found: Found, *, durable: bool = True) -> str:
    """The address of a PostgreSQL that is ready and has a database ``hub``. Raises ``StartFailed``.

    Without ``durable`` a kill loses the last commits and a power cut everything, which most tests do not mind.
    """
    if found.url:
        return found.url
    program = bring_within_reach(found)
    if home.database.exists():
        _wait_for_orphan(supervisor, home)
    else:
        supervisor.say(f"making a database (PostgreSQL {found.version}), once …")
        _make(supervisor, home, program)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(home.run),
        "port": str(PORT),
        "max_connections": str(CONNECTIONS_MAX),
        "shared_buffers": SHARED_BUFFERS,
    }
    if not durable:
        settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    supervisor.start(
        Child(
            name="postgres",
            argv=(str(program), "-D", str(home.database), *_options(settings)),
            environ=ENVIRON,
            folder=home.database,
            account=home.account,
            ready=lambda pid: _is_ready(home.database, pid),
            ready_seconds_max=START_SECONDS_MAX,
            stop_signal=signal.SIGINT,  # "fast": does not wait for its clients to leave
            stop_seconds_max=STOP_SECONDS_MAX,
            orphan_signal=signal.SIGINT,
        )
    )
    return postgres_url(home)


def _make(supervisor: Supervisor, home: Home, program: Path) -> None:
    """Leave a cluster with a database ``hub`` at ``home.database``, or nothing."""
    half = home.database.with_name(f"{home.database.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    own_folder(half, mode=0o700, owner=home.account)

    def step(name: str, *argv: str, typed: str = "") -> None:
        child = Child(
            name=name,
            argv=argv,
            environ=ENVIRON,
            folder=half,
            account=home.account,
            ready_seconds_max=MAKE_SECONDS_MAX,
            orphan_signal=signal.SIGKILL,
        )
        supervisor.run_once(child, typed=typed)

    # Trust is safe here and a password would not be safer: there is no port, and the one door is a socket in a
    # folder of mode 0700, which only the server's own account (and root) can enter. It is whoever may read the
    # database files anyway.
    locale = ("--locale-provider=builtin", "--locale=C.UTF-8", "--encoding=UTF8")
    step("initdb", str(program.with_name("initdb")), "-D", str(half), *locale, "--username=hub", "-A", "trust")
    step(
        "createdb",
        *(str(program), "--single", "-D", str(half), *_options({"exit_on_error": "on"}), "postgres"),
        typed="CREATE DATABASE hub\n",
    )
    half.rename(home.database)


def _options(settings: dict[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _is_ready(database: Path, pid: int) -> bool:
    try:
        lines = (database / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > STATUS_LINE and lines[0] == str(pid) and lines[STATUS_LINE].strip() == "ready"


def _wait_for_orphan(supervisor: Supervisor, home: Home) -> None:
    """Let the server of a killed hub finish, which is already on its way out.

    PostgreSQL clears up after a server that is gone, but not if its process number was given to another process of
    the same account, as happens in every restarted container: then it believes that the server still runs. We hold
    the home's lock, so a process that does not live in the database folder is not a server of it.
    """
    give_up_at, told = time.monotonic() + ORPHAN_SECONDS_MAX, False
    for lock in (home.database / "postmaster.pid", home.run / f".s.PGSQL.{PORT}.lock"):
        while time.monotonic() < give_up_at:
            try:
                pid = int(lock.read_text().split()[0])
                folder = Path(f"/proc/{pid}/cwd").readlink()
            except (OSError, ValueError, IndexError):
                break  # gone, or no /proc: PostgreSQL will say what it thinks of it
            if folder != home.database:
                lock.unlink()
                break
            if not told:
                supervisor.say("waiting for the PostgreSQL of a killed hub to finish …")
                told = True
            time.sleep(POLL_SECONDS)
