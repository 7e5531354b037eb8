"""Baskets that share two products, each in another order: they queue, and nobody hears of a deadlock."""

import asyncio

import asyncpg

from commercehub.database import Database
from tests.client import Channel, Channels
from tests.races.buyers import CARD, CASH, at_once, counted, fill_carts, is_sound

PAIRS = 30
STATISTICS_SECONDS = 1.1
TOUCH = "UPDATE inventory.positions SET version = version + 1 WHERE sku = $1"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


async def test_crossing_baskets_all_become_orders(app: Channel, channels: Channels, database: Database) -> None:
    a, b = sorted([await channels.product({"DC1": 100}), await channels.product({"DC1": 100})])
    carts = [*await fill_carts(app, PAIRS, a, b), *await fill_carts(app, PAIRS, b, a)]
    answers = await at_once(app.check_out(cart, CARD) for cart in carts)
    assert counted(answers) == {(201, None): 2 * PAIRS}
    assert await channels.level(a, "DC1") == await channels.level(b, "DC1") == (100, 2 * PAIRS)
    await is_sound(database)


async def test_crossing_baskets_at_till_and_app_all_become_orders(
    till: Channel, app: Channel, channels: Channels, database: Database
) -> None:
    register = await channels.drawer()
    a, b = sorted([await channels.product({"S1": 100}), await channels.product({"S1": 100})])
    baskets = [
        *((till, cart, CASH) for cart in await fill_carts(till, PAIRS, a, b, ship=False)),
        *((till, cart, CASH) for cart in await fill_carts(till, PAIRS, b, a, ship=False)),
        *((app, cart, CARD) for cart in await fill_carts(app, PAIRS // 3, b, a)),
    ]
    more = {"register_id": register}
    answers = await at_once(
        channel.check_out(cart, tender, **({"more": more} if channel is till else {}))
        for channel, cart, tender in baskets
    )
    assert counted(answers) == {(201, None): 2 * PAIRS + PAIRS // 3}
    assert await channels.level(a, "S1") == await channels.level(b, "S1") == (100 - 2 * PAIRS, PAIRS // 3)
    await is_sound(database)


async def test_postgresql_had_no_deadlock_to_resolve(app: Channel, database: Database) -> None:
    """A retry would hide one. A server process tells what it counted once a second, with its next transaction."""
    await asyncio.sleep(STATISTICS_SECONDS)
    await at_once(app.ok("GET", "/v1/availability?sku=TEE-S") for _ in range(100))
    assert await _deadlocks(database) == 0


async def test_control_two_transactions_that_lock_in_turn_are_counted_as_a_deadlock(
    database: Database, channels: Channels
) -> None:
    """Zero above is no blind counter."""
    a, b = await channels.product({"DC1": 1}), await channels.product({"DC1": 1})
    async with database.connection() as one, database.connection() as other:
        await one.execute("BEGIN; SET LOCAL deadlock_timeout = '50ms'")
        await other.execute("BEGIN; SET LOCAL deadlock_timeout = '50ms'")
        await one.execute(TOUCH, a)
        await other.execute(TOUCH, b)
        outcomes = await asyncio.gather(one.execute(TOUCH, b), other.execute(TOUCH, a), return_exceptions=True)
        await one.execute("ROLLBACK")
        await other.execute("ROLLBACK")
        for connection in (one, other):
            await connection.execute("SELECT pg_stat_force_next_flush()")
    assert [type(outcome) for outcome in outcomes].count(asyncpg.DeadlockDetectedError) == 1
    assert await _deadlocks(database) > 0


async def _deadlocks(database: Database) -> int:
    async with database.connection() as db:
        return int(await db.fetchval(DEADLOCKS))
