"""``hub demo``: everything on this machine, with a shop in it, until Ctrl-C."""

import asyncio
import errno
import json
import os
import secrets
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

import inventory
import payments
from commercehub import ids, serving, settings
from commercehub.database import Database
from commercehub.embedded import (
    Child,
    EmbeddedError,
    Home,
    Supervisor,
    find_postgres,
    find_valkey,
    home_folder,
    open_home,
    reset,
    start_postgres,
    start_valkey,
)
from commercehub.seed import planting, shop
from commercehub.settings import Settings
from commercehub.workflows import importing
from payments.money import Money

WORKERS: Final = 2
PORT_DEFAULT: Final = 8000
PORT_MAX: Final = 65_535
MINE_MIN: Final = 1_024
"""The first port that is not kept for root."""
HOST: Final = "127.0.0.1"
READY_SECONDS_MAX: Final = 30
STOP_SECONDS_MAX: Final = 6
"""For requests under way: a processor has five seconds to answer."""
POOL_SIZE: Final = 12
# Wide: a test may send hundreds of requests a second.
RATE_LIMIT_PER_SECOND: Final = 20_000
SECRET_FILE: Final = "secret"  # noqa: S105 - the name of a file
DEMO_FILE: Final = "demo.json"
PAYMENT_METHODS: Final = {
    "ok": "pm_ok",
    "declined": "pm_declined",
    "requires_action": "pm_requires_action",
    "answer_lost": "pm_answer_lost",
}

SHIP_TO: Final = {"name": "Ada", "line1": "1 Main St", "city": "Austin", "postal_code": "78701", "country": "US"}

REVISIONS: Final = sorted(
    file.name.partition("_")[0] for file in Path(__file__).parent.glob("migrations/versions/[0-9]*_*.py")
)
IS_MADE = "SELECT to_regclass('commercehub.alembic_version') IS NOT NULL"
READ_REVISION = "SELECT version_num FROM commercehub.alembic_version"

Say = Callable[[str], None]


class PortTaken(EmbeddedError):
    """The port that was asked for cannot be had: something else listens there, or we may not."""


class AnotherVersion(EmbeddedError):
    """The database was made by a version of the hub whose history is not ours."""


def run(environ: Mapping[str, str], root: Path, *, fresh: bool, port: int | None, say: Say, show: Say) -> None:
    """Start everything, ``show`` how to use it, and watch over it until a signal ends it; ``say`` tells how it goes."""
    wanted = port if port is not None else _number(environ, "HUB_PORT", PORT_DEFAULT)
    offset = _number(environ, "HUB_CLOCK_OFFSET_SECONDS", 0)
    home = open_home(home_folder(environ, root))
    with Supervisor(home.logs):  # who runs from here already is named first
        _free_port(wanted)  # no data is thrown away for a start that cannot be
    if fresh:
        home = _reset(home, environ, say)
    with Supervisor(home.logs, say=say) as hub:
        (home.folder / DEMO_FILE).unlink(missing_ok=True)  # it is there while the hub is ready
        database_url = start_postgres(hub, home, find_postgres(environ))
        redis_url = start_valkey(hub, home, find_valkey(environ))
        asyncio.run(_migrate(database_url))
        configured = _settings(
            environ, home, database_url, redis_url, port=_free_port(wanted), clock_offset_seconds=offset
        )
        planted = asyncio.run(_prepare(configured, say))
        hub.start(*_children(home, configured))
        document = {"base_url": configured.base_url, **planted}
        _write_private(home.folder / DEMO_FILE, json.dumps(document, indent=1))
        try:
            with suppress(OSError):  # whoever reads it may have gone
                show(_welcome(home, document))
            hub.watch(on_restart=lambda child: say(f"{child.name} is running again"))
        finally:
            (home.folder / DEMO_FILE).unlink(missing_ok=True)


def _reset(home: Home, environ: Mapping[str, str], say: Say) -> Home:
    if environ.get("HUB_DATABASE_URL"):
        say("--reset leaves the database of HUB_DATABASE_URL as it is; it is yours.")
    reset(home.folder)
    return open_home(home.folder)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    try:
        return int(text)
    except ValueError as error:
        raise settings.InvalidSettings(f"{name} is a whole number, and not {text!r}.") from error


def _settings(
    environ: Mapping[str, str],
    home: Home,
    database_url: str,
    redis_url: str | None,
    *,
    port: int,
    clock_offset_seconds: int,
) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        secret=_secret(home.folder / SECRET_FILE),
        sandbox_url=f"http://{HOST}:{_free_port(0)}",
        sandbox_key=_secret(home.folder / "sandbox-key"),
        sandbox_webhook_secret=_secret(home.folder / "sandbox-webhook-secret"),
        base_url=f"http://{HOST}:{port}",
        demo=True,
        clock_offset_seconds=clock_offset_seconds,
        pool_size=POOL_SIZE,
        rate_limit_per_second=RATE_LIMIT_PER_SECOND,
        rate_limit_burst=2 * RATE_LIMIT_PER_SECOND,
        log_level=settings.level(environ),
    )


async def _migrate(database_url: str) -> None:
    """Bring the database up to date. One that is needs no Alembic, which takes longer to load than all the rest."""
    connection = await asyncpg.connect(database_url)
    try:
        revision = await connection.fetchval(READ_REVISION) if await connection.fetchval(IS_MADE) else None
    finally:
        await connection.close()
    if revision == REVISIONS[-1]:
        return
    if revision is not None and revision not in REVISIONS:
        raise AnotherVersion(f"The demo's data is of another version ({revision}). Start afresh: ./hub demo --reset")
    from commercehub import migrations  # noqa: PLC0415

    await asyncio.to_thread(migrations.upgrade, database_url)


async def _prepare(configured: Settings, say: Say) -> dict[str, Any]:
    """Plant the shop if there is none, and list what a newcomer needs of it."""
    database = await Database.connect(configured.database_url, pool_size=2)
    try:
        tell = importing.tell_people(lambda text: say(f"seeding the shop: {text}"))
        await planting.plant(database, secret=configured.secret, on_progress=tell)
        async with database.connection() as db:
            places = await inventory.search_locations(db, near=None, radius_km=None, capability=None, wanted=[])
            registers = await payments.list_registers(db, location_id=None)
            variants = await planting.list_variants(db)
    finally:
        await database.close()
    return {
        "keys": {name: planting.demo_secret(configured.secret, name) for name in planting.KEYS},
        "staff": {each.role: planting.demo_login(configured.secret, each.role) for each in shop.STAFF},
        "locations": [
            {"id": ids.show("loc", each.location.id), "code": each.location.code, "kind": each.location.kind}
            for each in places
        ],
        "registers": [
            {"id": ids.show("reg", each.id), "location_id": ids.show("loc", each.location_id)} for each in registers
        ],
        "variants": [
            {
                "sku": variant.sku,
                "barcode": variant.barcode,
                "price": msgspec.to_builtins(Money(price.amount_minor, price.currency)),
            }
            for variant in variants
            for price in variant.prices
            if price.currency == shop.CURRENCY
        ],
        "payment_methods": PAYMENT_METHODS,
        "mailbox_url": f"{configured.base_url}/demo/mailbox",
    }


def _children(home: Home, configured: Settings) -> list[Child]:
    environ = {**os.environ, **settings.environment(configured), "PYTHONUNBUFFERED": "1"}
    sandbox_environ = {
        **os.environ,
        "HUB_SANDBOX_DATABASE": str(home.folder / "sandbox.sqlite"),
        "HUB_SANDBOX_SECRET": configured.sandbox_key or "",
        "HUB_SANDBOX_WEBHOOK_URL": f"{configured.base_url}/v1/webhooks/sandbox",
        "HUB_SANDBOX_WEBHOOK_SECRET": configured.sandbox_webhook_secret or "",
    }
    sandbox_url = configured.sandbox_url or ""
    return [
        Child(
            name="sandbox",
            argv=(
                sys.executable,
                "-m",
                "commercehub.sandbox",
                "--host",
                HOST,
                "--port",
                sandbox_url.rpartition(":")[2],
            ),
            environ=sandbox_environ,
            ready=lambda _: _answers(f"{sandbox_url}/health"),
            ready_seconds_max=READY_SECONDS_MAX,
        ),
        Child(
            name="api",
            argv=api_command(configured.base_url.rpartition(":")[2], workers=WORKERS),
            environ=environ,
            ready=lambda _: _answers(f"{configured.base_url}/health/ready"),
            ready_seconds_max=READY_SECONDS_MAX,
        ),
        Child(
            name="jobs",
            argv=(sys.executable, "-m", "commercehub.worker"),
            environ=environ,
            # Jobs are taken up again wherever they were cut off, so an orphan need not end them well.
            orphan_signal=signal.SIGKILL,
            ready=lambda _: True,
            ready_seconds_max=READY_SECONDS_MAX,
        ),
    ]


def api_command(port: str | int, *, workers: int) -> tuple[str, ...]:
    """How the API is served."""
    return serving.api_command(HOST, port, workers=workers, stop_seconds_max=STOP_SECONDS_MAX)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - an address of our own
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, TimeoutError):
        return False


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except (OSError, OverflowError) as error:
            why = "is taken" if isinstance(error, OSError) and error.errno == errno.EADDRINUSE else "cannot be had"
            another = wanted + 1 if MINE_MIN <= wanted < PORT_MAX else PORT_DEFAULT
            raise PortTaken(
                f"Port {wanted} {why}. Choose another: HUB_PORT={another} ./hub demo (0: any free one)."
            ) from error
        port: int = probe.getsockname()[1]
        return port


def _secret(file: Path) -> str:
    """What the file holds, made at the first start."""
    if not file.exists():
        _write_private(file, secrets.token_urlsafe(48))
    return file.read_text().strip()


def _write_private(file: Path, text: str) -> None:
    half = file.with_suffix(".half")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    half.replace(file)


def _welcome(home: Home, document: Mapping[str, Any]) -> str:
    keys, base_url = document["keys"], document["base_url"]
    register = document["registers"][0]["id"]
    key_lines = "\n".join(f"  {name:<12} {secret}" for name, secret in keys.items())
    return f"""
The hub is running.

  API            {base_url}/v1
  OpenAPI        {base_url}/openapi.json
  health         {base_url}/health/ready
  mail box       {base_url}/demo/mailbox
  data, logs     {home.folder} (all of this is in {DEMO_FILE} there)

Keys
{key_lines}

Buy something as a shopper with the app (paste this into a shell):

  HUB={base_url} KEY={keys["app"]} TOKEN=
  hub() {{ curl -s -H "Authorization: Bearer $KEY" -H "X-Cart-Token: $TOKEN" -H "Content-Type: application/json" "$@"; echo; }}
  CART=$(hub -X POST $HUB/v1/carts)
  ID=$(expr "$CART" : '.*"id":"\\(cart_[^"]*\\)"') TOKEN=$(expr "$CART" : '.*"token":"\\([^"]*\\)"')
  hub -d '{{"sku": "TEE-S", "quantity": 2}}' $HUB/v1/carts/$ID/lines
  hub -X PUT -d '{{"method": "ship", "address": {json.dumps(SHIP_TO)}}}' $HUB/v1/carts/$ID/delivery
  hub -H "Idempotency-Key: $ID" -d '{{"email": "ada@example.com", "tenders": [{{"type": "card", "payment_method": "{PAYMENT_METHODS["ok"]}"}}]}}' $HUB/v1/carts/$ID/checkout

The confirmation arrives in the mail box. A till sells with the store key; its first register is {register}.
Ctrl-C stops everything; ./hub demo --reset starts afresh.
"""
