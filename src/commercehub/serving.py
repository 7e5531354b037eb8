"""``hub up``: the API and the jobs against servers of the operator's own, made to be restarted without a failed request.

It refuses to start where money or stock would be at risk. Told to stop, it is unready first and serves on until whoever
sends it requests has noticed; then it takes no more, finishes what runs, and ends.
"""

import hmac
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

import asyncpg
import msgspec
from asyncpg import Connection

from commercehub import auth, metrics, settings
from commercehub.embedded import Child
from commercehub.embedded.supervisor import _leash
from commercehub.seed import planting, shop
from commercehub.settings import Settings

POLL_SECONDS: Final = 0.1
STOP_SECONDS_MAX: Final = 20
"""For requests under way and batches of jobs, once nothing new is taken."""
RESTART_SECONDS: Final = 1.0
READY_SECONDS_MAX: Final = 1.0
DIFFERENT_CHARACTERS_MIN: Final = 10
REVISIONS: Final = sorted(
    file.name.partition("_")[0] for file in Path(__file__).parent.glob("migrations/versions/[0-9]*_*.py")
)
POSTGRES_MAJOR_MIN: Final = 18
ON_DISK: Final = ("fsync", "full_page_writes", "synchronous_commit")

READ_MAJOR = "SELECT current_setting('server_version_num')::int / 10000"

IS_MADE = "SELECT to_regclass('commercehub.alembic_version') IS NOT NULL"

READ_REVISION = "SELECT version_num FROM commercehub.alembic_version"

READ_OFF = "SELECT name FROM pg_settings WHERE name = ANY ($1::text[]) AND setting = 'off' ORDER BY name"

COUNT_DEMO_KEYS = """
SELECT count(*) FROM commercehub.api_keys
WHERE (ends_at IS NULL OR ends_at > now()) AND (created_by = $1 OR secret_hash = ANY ($2::bytea[]))
"""

# What the seed made, as the seed made it: a login that was renamed or ended is the operator's own.
LIST_DEMO_STAFF = """
SELECT person.login FROM commercehub.staff AS person
JOIN unnest($1::text[], $2::text[]) AS seeded (login, name) USING (login, name)
WHERE person.ended_at IS NULL
ORDER BY person.login
"""

Say = Callable[[str], None]


class Refused(Exception):
    """It must not serve; the message has a line for each reason."""


def api_command(host: str, port: str | int, *, workers: int, stop_seconds_max: int) -> tuple[str, ...]:
    """How the API is served; a worker that dies is replaced after 0.2 s."""
    return (
        *(sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--no-ws", "--http", "1"),
        *("--host", host, "--port", str(port), "--workers", str(workers), "--backlog", "4096"),
        *("--respawn-failed-workers", "--respawn-interval", "0.2", "--log-level", "warning"),
        # A worker that is told to stop before it has quite started would never hear of it.
        *("--workers-kill-timeout", str(stop_seconds_max)),
        "commercehub.app:create_app",
    )


async def look_for_danger(given: Settings, *, demo_secret: str | None = None) -> None:
    """Raise ``Refused`` with every reason not to serve; ``demo_secret`` is the one of a demo on this machine.

    ``HUB_DEMO`` allows what only costs when money and goods are real.
    """
    reasons = [] if given.demo else list(_dangers_in(given, demo_secret))
    try:
        db = await asyncpg.connect(given.database_url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        reasons.append(f"The database of HUB_DATABASE_URL cannot be reached: {error or type(error).__name__}.")
        raise Refused("\n".join(reasons)) from error
    try:
        major = await db.fetchval(READ_MAJOR)
        if major < POSTGRES_MAJOR_MIN:
            reasons.append(f"The database server is PostgreSQL {major}. The hub needs {POSTGRES_MAJOR_MIN} or newer.")
        missing = await _what_is_missing(db)
        if missing:
            reasons.append(missing)
        if not given.demo:
            reasons += [
                f"{name} is off on the database server: it forgets what it acknowledged." for name in await _off(db)
            ]
            if not missing:
                reasons += await _demo_credentials(db, given)
    finally:
        await db.close()
    if reasons:
        raise Refused("\n".join(reasons))


def _dangers_in(given: Settings, demo_secret: str | None) -> Iterator[str]:
    for secret in given.secrets:
        if len(set(secret)) < DIFFERENT_CHARACTERS_MIN:
            yield "HUB_SECRET can be guessed. Make one with: openssl rand -base64 48"
        if demo_secret is not None and hmac.compare_digest(secret.encode(), demo_secret.encode()):
            yield "HUB_SECRET is the demo's. Make one with: openssl rand -base64 48"
    if given.sandbox_url or given.sandbox_key:
        yield "HUB_SANDBOX_URL takes play money for real goods. Unset it, or set HUB_DEMO=true."


async def _what_is_missing(db: Connection) -> str | None:
    revision = await db.fetchval(READ_REVISION) if await db.fetchval(IS_MADE) else None
    if revision == REVISIONS[-1]:
        return None
    if revision is None:
        return "The database has no hub in it: hub migrate makes one."
    if revision in REVISIONS:
        return f"The database is at revision {revision} and not at {REVISIONS[-1]}: hub migrate brings it there."
    return (
        f"The database is at revision {revision}, which this version of the hub does not know. Install the newer one."
    )


async def _off(db: Connection) -> list[str]:
    return [row["name"] for row in await db.fetch(READ_OFF, list(ON_DISK))]


async def _demo_credentials(db: Connection, given: Settings) -> list[str]:
    hashes = [auth.digest(planting.demo_secret(secret, name)) for secret in given.secrets for name in planting.KEYS]
    count = await db.fetchval(COUNT_DEMO_KEYS, planting.ACTOR.name, hashes)
    staff = await db.fetch(LIST_DEMO_STAFF, [each.role for each in shop.STAFF], [each.name for each in shop.STAFF])
    reasons = []
    if count:
        reasons.append(
            f"The database has {count} API keys of the demo. Revoke them, or start with a database of its own."
        )
    if staff:
        logins = ", ".join(row["login"] for row in staff)
        reasons.append(f"The database has staff of the demo: {logins}. End them, or start with a database of its own.")
    return reasons


class _Kept(msgspec.Struct, kw_only=True):
    child: Child
    process: "subprocess.Popen[bytes]"
    restart_at: float | None = None


class Served:
    """The processes of one ``hub up``, which write where it writes."""

    def __init__(self, given: Settings, environ: Mapping[str, str], *, jobs: bool, say: Say) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hub-"))
        self._given = msgspec.structs.replace(given, run_folder=str(self._folder))
        self._say = say
        self._asked_to_stop = 0
        self._kept: list[_Kept] = []
        counted = {}
        if given.metrics_token is not None and self._given.metrics_folder is not None:
            self._given.metrics_folder.mkdir()
            counted = {metrics.FOLDER_VARIABLE: str(self._given.metrics_folder)}
        own = {**environ, **settings.environment(self._given), **counted, "PYTHONUNBUFFERED": "1"}
        api = api_command(given.host, given.port, workers=given.workers, stop_seconds_max=STOP_SECONDS_MAX)
        self._children = [Child(name="api", argv=api, environ=own)]
        if jobs:
            self._children.append(Child(name="jobs", argv=(sys.executable, "-m", "commercehub.worker"), environ=own))

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP, then drain and end. A second signal cuts the draining short."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._kept = [_Kept(child=child, process=_spawn(child)) for child in self._children]
            self._await()
            while not self._asked_to_stop:
                self._look_after()
                time.sleep(POLL_SECONDS)
            self._drain()
        finally:
            self._stop()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _await(self) -> None:
        """Return when it is ready; ``Refused`` if a part of it ends before, as where the port is taken."""
        while not self._asked_to_stop and not self._is_ready():
            for kept in self._kept:
                if kept.process.poll() is not None:
                    raise Refused(f"{kept.child.name} ended with status {kept.process.returncode} before it was ready.")
            time.sleep(POLL_SECONDS)
        if not self._asked_to_stop:
            self._say(f"ready at {self._given.base_url} (port {self._given.port})")

    def _look_after(self) -> None:
        for kept in self._kept:
            if kept.restart_at is not None:
                if time.monotonic() >= kept.restart_at:
                    kept.process, kept.restart_at = _spawn(kept.child), None
            elif kept.process.poll() is not None:
                self._say(f"{kept.child.name} ended with status {kept.process.returncode}, and is started again")
                kept.restart_at = time.monotonic() + RESTART_SECONDS

    def _is_ready(self) -> bool:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._given.host, self._given.host)  # noqa: S104 - not bound
        url = f"http://{host}:{self._given.port}/health/ready"
        try:
            with urllib.request.urlopen(url, timeout=READY_SECONDS_MAX) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, TimeoutError):
            return False

    def _drain(self) -> None:
        if self._given.drain_flag is not None:
            self._given.drain_flag.touch()
        self._say(f"unready, and stops in {self._given.drain_seconds:g} s")
        until = time.monotonic() + self._given.drain_seconds
        while time.monotonic() < until and self._asked_to_stop == 1:
            time.sleep(min(POLL_SECONDS, self._given.drain_seconds))

    def _stop(self) -> None:
        until = time.monotonic() + STOP_SECONDS_MAX + 1
        for kept in self._kept:
            if kept.process.poll() is None:
                kept.process.send_signal(signal.SIGTERM)
        for kept in self._kept:
            with suppress(subprocess.TimeoutExpired):
                kept.process.wait(max(0.1, until - time.monotonic()))
            with suppress(ProcessLookupError):  # a worker that outlived its parent, or the process itself
                os.killpg(kept.process.pid, signal.SIGKILL)
            kept.process.wait()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_stop += 1


def _spawn(child: Child) -> "subprocess.Popen[bytes]":
    """In a group of its own: a Ctrl-C at the terminal reaches us alone, who stop it when it has drained."""
    return subprocess.Popen(  # noqa: S603 - programs that we are
        child.argv,
        env=child.environ,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_leash(child.orphan_signal),  # noqa: PLW1509 - it imports and locks nothing
    )
