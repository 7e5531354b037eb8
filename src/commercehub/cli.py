"""The command line: ``./hub COMMAND``, or ``commercehub COMMAND`` where it is installed."""

import argparse
import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from commercehub import settings
from commercehub.embedded import EmbeddedError, find_postgres, find_valkey, home_folder, open_home, postgres_url
from commercehub.sales.csv_records import UnreadableFile

if TYPE_CHECKING:
    from commercehub.workflows.importing import Progress

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = ("inventory", "payments", "fulfillment")
CURRENCY_LETTERS: Final = 3

IS_MADE = "SELECT to_regclass('commercehub.alembic_version') IS NOT NULL"
# A process more than there are cores, since some tests only wait; each file in one of them, its fixtures made once.
SUITE: Final = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile")


class UserError(Exception):
    """Something for the person at the keyboard to mend; the message says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not given:
        parser.print_help(sys.stderr)
        return 2
    try:
        if given[0] == "test":  # what follows is pytest's, -h too
            return _test(given[1:])
        options = parser.parse_args(given)
        return int(options.run(options) or 0)
    except (UserError, EmbeddedError, settings.InvalidSettings, UnreadableFile) as error:
        print(f"hub: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hub", description="One cart, one stock, one order book for every channel.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    command = commands.add_parser("demo", help="start everything here, with a shop in it")
    command.add_argument("--reset", action="store_true", help="throw the demo's data away first")
    command.add_argument("--port", type=int, help="the port of the API (HUB_PORT; 0: any free one)")
    command.set_defaults(run=_demo)

    commands.add_parser("test", help="run the whole suite; arguments go to pytest")

    command = commands.add_parser("doctor", help="tell what was found and what would be used")
    command.set_defaults(run=_doctor)

    command = commands.add_parser("check", help="see that this installation is whole")
    command.set_defaults(run=_check)

    command = commands.add_parser("import", help="bring a product file in")
    command.add_argument("format", choices=["shopify"])
    command.add_argument("file", type=Path)
    command.add_argument("--location", required=True, help="the code of the location that the quantities lie at")
    command.add_argument("--currency", required=True, type=_currency, help="of the prices: USD, EUR …")
    command.set_defaults(run=_import)

    command = commands.add_parser("migrate", help="bring the database at HUB_DATABASE_URL up to date")
    command.set_defaults(run=_migrate)

    command = commands.add_parser("work", help="work jobs off, for the hub at HUB_DATABASE_URL")
    command.set_defaults(run=_work)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from commercehub import demo

    if os.environ.get("HUB_DATABASE_URL"):
        _database_url(made=False)
    demo.run(os.environ, ROOT, fresh=options.reset, port=options.port, say=_say, show=_show)


def _test(arguments: Sequence[str]) -> int:
    if importlib.util.find_spec("pytest") is None or not (ROOT / "tests").is_dir():
        raise UserError("The tests run from a checkout, by ./hub test, which installs what they need.")
    command = [sys.executable, "-m", "pytest", *(arguments or SUITE)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - our own interpreter


def _doctor(_: argparse.Namespace) -> int:
    print(f"Python       {sys.version.split()[0]} at {sys.executable}")
    print(f"project      {ROOT}")
    print(f"data         {home_folder(os.environ, ROOT)}")
    whole = True
    try:
        found = find_postgres(os.environ)
        print(f"PostgreSQL   {found.version} from {found.origin}: {found.why}")
    except EmbeddedError as error:
        whole = False
        print(f"PostgreSQL   none\n{error}")
    valkey = find_valkey(os.environ)
    print(
        f"Valkey       {valkey.version} from {valkey.origin}: {valkey.why}"
        if valkey
        else "Valkey       none: the hub runs its jobs without"
    )
    for complaint in _foreign_rooms():
        whole = False
        print(complaint)
    return 0 if whole else 1


def _check(_: argparse.Namespace) -> int:
    complaints = _foreign_rooms()
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        return 1
    from commercehub import app

    app.create_app(settings.Settings(database_url="postgresql://", secret="-" * 32))
    print("The packages are ours, and every route declares its permission.")
    return 0


def _foreign_rooms() -> list[str]:
    """Other distributions bring a ``payments`` or an ``inventory`` too: ours lie together, or something is wrong."""
    ours = {ROOT, Path(__file__).resolve().parents[1]}
    found = {name: importlib.util.find_spec(name) for name in ROOMS}
    places = {name: Path(spec.origin).resolve() if spec and spec.origin else None for name, spec in found.items()}
    return [
        f"The package {name} is not ours but {place}. Install the hub in an environment of its own."
        for name, place in places.items()
        if place is None or place.parents[1] not in ours
    ]


def _migrate(_: argparse.Namespace) -> None:
    from commercehub import migrations

    migrations.upgrade(_database_url(made=False))
    print("The database is up to date.")


def _work(_: argparse.Namespace) -> None:
    from commercehub import worker

    given = settings.read(os.environ)
    _database_url(made=True)
    asyncio.run(worker.run_jobs(given))


def _import(options: argparse.Namespace) -> int:
    with _opening(options.file) as source:
        url = _database_url(made=True)
        progress = asyncio.run(_import_file(url, source, options.location, options.currency))
    for refusal in progress.refused:
        print(f"{options.file}:{refusal.line}: {refusal.reason}", file=sys.stderr)
    if progress.refused_count > len(progress.refused):
        print(f"… and {progress.refused_count - len(progress.refused)} more.", file=sys.stderr)
    print(
        f"{progress.read} rows read, {progress.created} created, {progress.changed} changed,"
        f" {progress.refused_count} refused."
    )
    return 0


async def _import_file(url: str, source: IO[bytes], location_code: str, currency: str) -> "Progress":
    import inventory
    from commercehub.database import Database
    from commercehub.events import Actor
    from commercehub.workflows.importing import Import, import_products, tell_people

    database = await Database.connect(url, pool_size=2)
    try:
        async with database.connection() as db:
            location = await inventory.find_by_code(db, code=location_code)
            if location is None:
                places = await inventory.search_locations(db, near=None, radius_km=None, capability=None, wanted=[])
                known = ", ".join(place.location.code for place in places) or "none yet"
                raise UserError(f"There is no location {location_code!r}. The hub knows: {known}.")
        wanted = Import(currency=currency, location_id=location.id, actor=Actor(name="cli", channel="back_office"))
        return await import_products(database, source, wanted, on_progress=tell_people(_say))
    finally:
        await database.close()


def _currency(text: str) -> str:
    code = text.upper()
    if len(code) != CURRENCY_LETTERS or not (code.isascii() and code.isalpha()):
        raise argparse.ArgumentTypeError(f"{text!r} is no currency: USD, EUR, JPY …")
    return code


def _opening(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error


def _database_url(*, made: bool) -> str:
    """The database that is set, else that of the demo in this folder: one that answers and, if it has to, holds a hub."""
    url, origin, advice = os.environ.get("HUB_DATABASE_URL"), "HUB_DATABASE_URL", ""
    if not url:
        folder = home_folder(os.environ, ROOT)
        url, origin = postgres_url(open_home(folder)), f"the demo in {folder}"
        advice = " Start it with ./hub demo, or set HUB_DATABASE_URL to another."
    reason = asyncio.run(_knock(url, made=made))
    if reason:
        raise UserError(f"The database of {origin} {reason}.{advice}")
    return url


async def _knock(url: str, *, made: bool) -> str:
    """What is wrong with the database, if anything is."""
    import asyncpg

    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return f"cannot be reached: {reason}"
    try:
        return "has no hub in it; hub migrate makes one" if made and not await connection.fetchval(IS_MADE) else ""
    finally:
        await connection.close()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
