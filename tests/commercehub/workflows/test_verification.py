"""The proof of the proof: a shop's whole life verifies clean, and each balance that is corrupted by SQL is named."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest
from asyncpg import Connection

from commercehub.database import snapshot
from commercehub.settings import Settings
from commercehub.workflows import overdue, verification
from tests.commercehub.workflows.corruptions import CORRUPTIONS, Corruption
from tests.commercehub.workflows.shop_life import living

CHECKING = (
    *("inventory/verification.py", "payments/verification.py", "fulfillment/verification.py"),
    *("src/commercehub/sales/verification.py", "src/commercehub/workflows/verification.py"),
    *("src/commercehub/workflows/order_books.py", "src/commercehub/workflows/order_checks.py"),
)
INVARIANT = re.compile(r'"([MSORIEW]\d [a-z][^"]*)"')
LOOKS = 8
COMMAND = (sys.executable, "-m", "commercehub.cli", "verify")

# What has waited is made by moving the clock of the books, not the hub's.
AN_HOUR_AGO = "now() - interval '61 minutes'"
LATE = {
    "E2 an event is handed on within the hour": (
        f"UPDATE commercehub.events SET occurred_at = {AN_HOUR_AGO}",
        "UPDATE commercehub.event_cursors SET xid = '0', id = 0",
    ),
    "E2 a batch of events is worked off within the hour": (
        f"INSERT INTO commercehub.event_batches (events, created_at, try_after) VALUES ('[]', {AN_HOUR_AGO}, now())",
    ),
    "E2 whoever can be reached is told of an order within the hour": (
        f"UPDATE commercehub.orders SET created_at = {AN_HOUR_AGO} WHERE state = 'placed'",
        "DELETE FROM commercehub.messages",
    ),
    "E4 a processor's event is applied within the hour": (
        f"""INSERT INTO payments.inbox
                (processor, event_id, type, processor_reference, reference, received_at, next_try_at)
            VALUES ('sandbox', 'evt_1', '', '', '', {AN_HOUR_AGO}, now())""",
    ),
    "O2 an order is paid, or given up, within the hour": (
        f"UPDATE commercehub.orders SET created_at = {AN_HOUR_AGO} WHERE state = 'awaiting_payment'",
    ),
    "O5 what nobody came for is given up": (
        f"UPDATE fulfillment.fulfillments SET collect_by = {AN_HOUR_AGO} WHERE state = 'ready'",
    ),
    "M3 an operation has an outcome within the hour": (
        f"UPDATE payments.open_operations SET begun_at = {AN_HOUR_AGO}",
    ),
    "M4 a refund that was refused is tried again": (
        """UPDATE payments.operations SET state = 'declined' WHERE kind = 'refund' AND state = 'succeeded' AND id = (
               SELECT max(id) FROM payments.operations WHERE kind = 'refund' AND state = 'succeeded')""",
    ),
    overdue.REFUSED_FOR_GOOD: (
        """INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
           SELECT gen_random_uuid(), id, 'capture', 'declined', 1, now() FROM generate_series(1, 8), (
               SELECT id FROM payments.intents WHERE state = 'authorized' ORDER BY id LIMIT 1) AS intent""",
    ),
}


@pytest.fixture(scope="module")
async def own_url(make_database: Callable[[str], str], settings: Settings) -> str:
    url = await asyncio.to_thread(make_database, "verification")
    async with living(settings, url) as life:
        await life.all_of_it()
    return url


@pytest.fixture(scope="module")
async def connection(own_url: str) -> AsyncIterator[Connection]:
    """One for all, which knows every statement after the first look."""
    db = await asyncpg.connect(own_url)
    yield db
    await db.close()


@pytest.fixture
async def books(connection: Connection) -> AsyncIterator[Connection]:
    """A transaction in which anything may be done to the books, and is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SET LOCAL session_replication_role = replica")
        yield connection
    finally:
        await transaction.rollback()


async def test_a_shops_life_verifies_clean(own_url: str) -> None:
    told: list[str] = []
    async with snapshot(own_url) as db:
        assert "\n".join(map(str, await verification.verify(db, say=told.append))) == ""
        assert await overdue.look(db) == []
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await db.execute("DELETE FROM commercehub.messages")
    assert told[0] == "looking into stock"
    assert told[-1].startswith("looking into orders: 0 of ")


@pytest.mark.parametrize("corruption", CORRUPTIONS.values(), ids=CORRUPTIONS)
async def test_what_is_corrupted_is_named(corruption: Corruption, books: Connection) -> None:
    for statement in corruption.statements:
        assert (await books.execute(statement)).rpartition(" ")[2] != "0", statement
    assert {finding.invariant for finding in await verification.verify(books)} == corruption.named


def test_each_invariant_is_seen_to_be_broken(repository: Path) -> None:
    checked = {name for file in CHECKING for name in INVARIANT.findall((repository / file).read_text())}
    assert checked == frozenset().union(*(corruption.named for corruption in CORRUPTIONS.values()))


@pytest.mark.parametrize("invariant", LATE)
async def test_what_has_waited_too_long_is_named(invariant: str, books: Connection) -> None:
    for statement in LATE[invariant]:
        await books.execute(statement)
    assert {finding.invariant for finding in await overdue.look(books)} == {invariant}


async def test_no_more_of_a_kind_is_told_than_helps(books: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "FINDINGS_MAX", 3)
    await books.execute("UPDATE commercehub.orders SET version = version + 1")
    found = await verification.verify(books)
    assert len(found) == 3 * len({finding.invariant for finding in found}) == 6


def test_the_command_prints_each_offending_id_and_ends_with_1(own_url: str, repository: Path) -> None:
    def run() -> "subprocess.CompletedProcess[str]":
        environ = {"HUB_DATABASE_URL": own_url, "PATH": "/usr/bin:/bin"}
        return subprocess.run(COMMAND, env=environ, cwd=repository, capture_output=True, text=True, check=False)

    clean = run()
    assert (clean.returncode, clean.stdout) == (0, "Everything agrees.\n")
    assert "hub: looking into orders: 0 of " in clean.stderr

    async def change(statement: str) -> str:
        db = await asyncpg.connect(own_url)
        try:
            return str(await db.fetchval(statement))
        finally:
            await db.close()

    set_balance = """
        UPDATE payments.stored_values SET balance_minor = balance_minor {} 7
        WHERE id = (SELECT id FROM payments.stored_values ORDER BY id LIMIT 1) RETURNING id
    """
    card_id = asyncio.run(change(set_balance.format("+")))
    try:
        wrong = run()
    finally:
        asyncio.run(change(set_balance.format("-")))
    line, summary = wrong.stdout.splitlines()
    assert (wrong.returncode, summary) == (1, "1 differences, of 1 kinds.")
    assert line.startswith("M8 a stored value's balance is its account")
    assert card_id in line
    assert line.endswith("expected 0, found 7")


async def test_a_busy_hub_gives_no_false_alarm(own_url: str, settings: Settings) -> None:
    async with living(settings, own_url) as life:
        sku = await life.channels.product({"DC1": 500, "S1": 500})
        register = await life.channels.drawer()
        closing = asyncio.Event()

        async def buy() -> None:
            while not closing.is_set():
                cart = await life.app.cart({"sku": sku}, ship=True)
                assert (await life.app.check_out(cart, {"type": "card", "payment_method": "pm_ok"})).status_code == 201
                cart = await life.till.cart({"sku": sku})
                sold = await life.till.check_out(cart, {"type": "cash"}, more={"register_id": register})
                await life.bring_back(life.till, sold.json(), units=1, register_id=register)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(buy())
            before = 0
            for _ in range(LOOKS):
                async with snapshot(own_url) as db:
                    assert "\n".join(map(str, await verification.verify(db))) == ""
                    count = await db.fetchval("SELECT count(*) FROM commercehub.orders")
                assert count > before
                before = count
            closing.set()
