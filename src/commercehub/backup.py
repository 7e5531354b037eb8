"""``hub backup`` and ``hub restore``: PostgreSQL's own tools, told where, and a look into the books afterwards.

A backup is one consistent moment of the database, while the hub runs. It does not hold ``HUB_SECRET``, from which codes
that customers have are derived: keep that by itself.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
from asyncpg import Connection

from commercehub import events, migrations
from commercehub.database import Database, snapshot
from commercehub.embedded import EmbeddedError, find_postgres
from commercehub.workflows import verification

PATIENCE: Final = {"statement_timeout": "0", "transaction_timeout": "0", "idle_in_transaction_session_timeout": "0"}
TOLD_LINES_MAX: Final = 5

READ_SCHEMAS = """
SELECT nspname FROM pg_namespace
WHERE nspname IN ('commercehub', 'inventory', 'payments', 'fulfillment')
ORDER BY nspname
"""


class BackupFailed(Exception):
    """Nothing was written, or nothing was restored; the message says why."""


def back_up(url: str, file: Path, environ: Mapping[str, str]) -> None:
    """Write the whole database into a file that is not there yet, for the owner's eyes alone."""
    if file.exists():
        raise BackupFailed(f"{file} is there already.")
    half = file.with_name(f"{file.name}.half")
    half.unlink(missing_ok=True)
    try:
        half.touch(mode=0o600)
    except OSError as error:
        raise BackupFailed(f"{file} cannot be written: {error.strerror}.") from error
    try:
        _run("pg_dump", url, environ, "--format=custom", "--no-owner", "--no-privileges", f"--file={half}")
        half.rename(file)
    finally:
        half.unlink(missing_ok=True)


async def look_at_target(url: str) -> None:
    """Raise ``BackupFailed`` unless the database has room for a hub: a restore overwrites nothing."""
    connection = await asyncpg.connect(url)
    try:
        found = [row["nspname"] for row in await connection.fetch(READ_SCHEMAS)]
    finally:
        await connection.close()
    if found:
        raise BackupFailed(f"The database is not empty, it has {', '.join(found)}. Restore into a new one.")


def restore(url: str, file: Path, environ: Mapping[str, str]) -> None:
    """Bring the file back, all of it or nothing, and to the newest revision."""
    if not file.is_file():
        raise BackupFailed(f"{file} is no file.")
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    _run("pg_restore", url, environ, *options, f"--dbname={_without_password(url)}", str(file))
    migrations.upgrade(url)


async def settle_in(url: str) -> Sequence[object]:
    """Make a restored hub fit to work where it is now; returns every difference in its books, which should be none.

    Transaction ids begin anew in another cluster: the events get ones of this database, so that none is missed.
    """
    database = await Database.connect(url, pool_size=2, session=PATIENCE)

    async def renumber(db: Connection, _: datetime) -> int | None:
        return await events.renumber_restored(db)

    try:
        while await database.transaction(renumber):
            pass
    finally:
        await database.close()
    async with snapshot(url) as db:
        return await verification.verify(db)


def _run(tool: str, url: str, environ: Mapping[str, str], *options: str) -> None:
    program = _find(tool, environ)
    where = (_without_password(url),) if tool == "pg_dump" else ()
    done = subprocess.run(  # noqa: S603 - a program that we found
        [str(program), "--no-password", *options, *where],
        # Not among the arguments, which everybody on the machine may read.
        env={**environ, **_password_of(url)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or [f"{program} ended with status {done.returncode}"]
        raise BackupFailed("\n".join(told[:TOLD_LINES_MAX]))


def _find(tool: str, environ: Mapping[str, str]) -> Path:
    """The tool of the PostgreSQL that the hub would bring along, else the one on the path."""
    elsewhere = {name: value for name, value in environ.items() if name != "HUB_DATABASE_URL"}
    try:
        found = find_postgres(elsewhere).program
    except EmbeddedError:
        found = None
    beside = found.with_name(tool) if found else None
    if beside is not None and os.access(beside, os.X_OK):
        return beside
    on_path = shutil.which(tool)
    if on_path is None:
        raise BackupFailed(f"{tool} was not found. It comes with PostgreSQL's client programs, version 18 or newer.")
    return Path(on_path)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}"))


def _password_of(url: str) -> dict[str, str]:
    password = urlsplit(url).password
    return {"PGPASSWORD": unquote(password)} if password else {}
