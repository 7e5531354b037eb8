"""The command line: ``./hub COMMAND``, or ``commercehub COMMAND`` where it is installed."""

import argparse
import asyncio
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from commercehub import settings
from commercehub.embedded import EmbeddedError, find_postgres, find_valkey, home_folder, open_home, postgres_url
from commercehub.sales.csv_records import UnreadableFile

if TYPE_CHECKING:
    from commercehub.workflows.importing import Progress

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = ("inventory", "payments", "fulfillment")
CURRENCY_LETTERS: Final = 3
COUNTRY_LETTERS: Final = 2
SECRET_FILE: Final = "secret"  # noqa: S105 - the name of a file
CHANNELS: Final = ("web", "app", "store", "call_center", "chat", "agent", "back_office")
ROLES: Final = ("storefront", "till", "service", "fulfillment", "admin")
METHODS: Final = ("ship", "express", "pickup", "carry_out", "digital")
PERCENT_MAX: Final = 100
PPM: Final = 10_000

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
    except (UserError, settings.InvalidSettings) as error:  # a reason a line
        for line in str(error).splitlines():
            print(f"hub: {line}", file=sys.stderr)
        return 1
    except (EmbeddedError, UnreadableFile) as error:
        print(f"hub: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hub", description="One cart, one stock, one order book for every channel.")
    parser.add_argument("--version", action="version", version=importlib.metadata.version("commercehub"))
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

    command = commands.add_parser("up", help="serve, against HUB_DATABASE_URL and HUB_REDIS_URL")
    command.add_argument("--no-jobs", action="store_true", help="the API alone; hub work runs elsewhere")
    command.set_defaults(run=_up)

    command = commands.add_parser("work", help="work jobs off, for the hub at HUB_DATABASE_URL")
    command.set_defaults(run=_work)

    _add_first_steps(commands)
    command = commands.add_parser("backup", help="write the whole database into a file")
    command.add_argument("file", type=Path)
    command.set_defaults(run=_backup)

    command = commands.add_parser("restore", help="bring a backup into an empty database, and verify its books")
    command.add_argument("file", type=Path)
    command.set_defaults(run=_restore)

    command = commands.add_parser("verify", help="see that everything in the books agrees; changes nothing")
    command.set_defaults(run=_verify)

    command = commands.add_parser("configuration", help="print what can be set, as docs/configuration.md")
    command.set_defaults(run=_configuration)
    return parser


def _add_first_steps(commands: Any) -> None:
    """What an empty hub needs before its first key can do the rest over HTTP."""
    command = commands.add_parser("create-channel", help="open a sales channel")
    command.add_argument("kind", choices=CHANNELS)
    command.add_argument("--name", required=True)
    command.add_argument("--currency", required=True, type=_currency)
    command.add_argument("--country", required=True, type=_country, help="where taxes are due unless goods are sent")
    command.add_argument("--brand", help="what customers are told is selling (the name, unless given)")
    command.add_argument("--locale", default="en-US", help="of messages to customers: en-US, es-AR …")
    command.add_argument("--tax-included", action="store_true", help="prices include their tax")
    command.set_defaults(run=_create_channel)

    command = commands.add_parser("create-key", help="make an API key, and print its secret this once")
    command.add_argument("--role", required=True, choices=ROLES)
    command.add_argument("--channel", default="back_office", choices=CHANNELS)
    command.add_argument("--location", help="the code of the location that it is bound to; a till needs one")
    command.set_defaults(run=_create_key)

    command = commands.add_parser("set-tax-rate", help="say how goods of a class are taxed in a country")
    command.add_argument("country", type=_country)
    command.add_argument("tax_class", help="standard, or what products name")
    command.add_argument("percent", type=_percent, help="8.25")
    command.set_defaults(run=_set_tax_rate)

    command = commands.add_parser("set-delivery-rate", help="offer a way of delivery in a currency")
    command.add_argument("method", choices=METHODS)
    command.add_argument("currency", type=_currency)
    command.add_argument("amount", type=_amount, help="in the currency's minor unit: 499 is 4.99 USD")
    command.set_defaults(run=_set_delivery_rate)


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


def _up(options: argparse.Namespace) -> None:
    from commercehub import serving

    given = settings.read(os.environ)
    secret = home_folder(os.environ, ROOT) / SECRET_FILE
    demo_secret = secret.read_text().strip() if secret.is_file() else None
    try:
        asyncio.run(serving.look_for_danger(given, demo_secret=demo_secret))
        serving.Served(given, os.environ, jobs=not options.no_jobs, say=lambda text: _say(f"hub: {text}")).run()
    except serving.Refused as error:
        raise UserError(str(error)) from error


def _create_channel(options: argparse.Namespace) -> None:
    from commercehub.workflows import setting_up

    async def work(db: Any, now: datetime) -> None:
        await setting_up.create_channel(
            db,
            kind=options.kind,
            name=options.name,
            brand=options.brand or options.name,
            currency=options.currency,
            locale=options.locale,
            tax_included=options.tax_included,
            tax_country=options.country,
            now=now,
        )

    try:
        _change(work)
    except setting_up.ChannelTaken as error:
        raise UserError(f"There is a sales channel called {options.name!r} already.") from error
    print(f"The sales channel {options.name!r} is open.")


def _create_key(options: argparse.Namespace) -> None:
    from commercehub.auth import Role
    from commercehub.workflows import setting_up

    if (options.role == "till") != (options.channel == "store"):
        raise UserError("A till is of the channel store, and stands at a location: --channel store --location CODE.")
    if options.role == "till" and not options.location:
        raise UserError("A till stands at a location: --location CODE.")
    if options.role == "storefront" and (options.location or options.channel not in {"web", "app", "agent"}):
        raise UserError("A storefront's key is public: it is of the channel web, app or agent, and stands nowhere.")

    async def work(db: Any, now: datetime) -> str:
        key = await setting_up.create_key(
            db, role=Role(options.role), channel=options.channel, location_code=options.location, now=now
        )
        return key.secret

    try:
        secret = _change(work)
    except setting_up.ChannelMissing as error:
        raise UserError(
            f"There is no sales channel {options.channel} yet: hub create-channel {options.channel} …"
        ) from error
    except setting_up.LocationMissing as error:
        raise UserError(f"There is no location {options.location!r}.") from error
    _say("This is the only time that it is shown:")
    print(secret)


def _set_tax_rate(options: argparse.Namespace) -> None:
    from commercehub.workflows import setting_up

    async def work(db: Any, now: datetime) -> None:
        wanted = {"country": options.country, "tax_class": options.tax_class, "rate_ppm": options.percent}
        await setting_up.set_tax_rate(db, **wanted, now=now)

    _change(work)
    print(f"In {options.country}, {options.tax_class} is taxed at {Decimal(options.percent) / PPM:f} %.")


def _set_delivery_rate(options: argparse.Namespace) -> None:
    from commercehub.workflows import setting_up

    async def work(db: Any, now: datetime) -> None:
        wanted = {"method": options.method, "currency": options.currency, "amount_minor": options.amount}
        await setting_up.set_delivery_rate(db, **wanted, now=now)

    _change(work)
    print(f"{options.method} is offered in {options.currency}.")


def _change(work: Callable[[Any, datetime], Awaitable[Any]]) -> Any:
    """Run ``work`` in a transaction on the database that is set."""
    from commercehub.database import Database

    url = _database_url(made=True)

    async def run() -> Any:
        database = await Database.connect(url, pool_size=1)
        try:
            return await database.transaction(work)
        finally:
            await database.close()

    return asyncio.run(run())


def _backup(options: argparse.Namespace) -> None:
    from commercehub import backup

    url = _database_url(made=True)
    try:
        backup.back_up(url, options.file, os.environ)
    except backup.BackupFailed as error:
        raise UserError(str(error)) from error
    print(f"{options.file} holds the database. It does not hold HUB_SECRET: keep that too, elsewhere.")


def _restore(options: argparse.Namespace) -> int:
    from commercehub import backup

    url = _database_url(made=False)
    try:
        asyncio.run(backup.look_at_target(url))
        backup.restore(url, options.file, os.environ)
    except backup.BackupFailed as error:
        raise UserError(str(error)) from error
    differences = asyncio.run(backup.settle_in(url))
    for difference in differences:
        print(difference, file=sys.stderr)
    print(f"{options.file} is restored, with {len(differences)} differences in its books.")
    return 1 if differences else 0


def _verify(_: argparse.Namespace) -> int:
    from commercehub.database import snapshot
    from commercehub.workflows import overdue, verification

    url = _database_url(made=True)

    async def look() -> list[verification.Finding]:
        async with snapshot(url) as db:
            found = await verification.verify(db, say=lambda text: _say(f"hub: {text}"))
            return found + await overdue.look(db)

    found = asyncio.run(look())
    for finding in found:
        print(finding)
    names = {finding.invariant for finding in found}
    print(f"{len(found)} differences, of {len(names)} kinds." if found else "Everything agrees.")
    return 1 if found else 0


def _configuration(_: argparse.Namespace) -> None:
    print(settings.describe())


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


def _country(text: str) -> str:
    code = text.upper()
    if len(code) != COUNTRY_LETTERS or not (code.isascii() and code.isalpha()):
        raise argparse.ArgumentTypeError(f"{text!r} is no country: US, AR, DE …")
    return code


def _percent(text: str) -> int:
    """In parts per million."""
    try:
        ppm = Decimal(text) * PPM
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: 8.25") from error
    if not ppm.is_finite() or not 0 <= ppm <= PERCENT_MAX * PPM or ppm != ppm.to_integral_value():
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100 with four decimals at most")
    return int(ppm)


def _amount(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**53:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount in a minor unit: 499 is 4.99 USD")
    return int(text)


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
