"""The connection pool, and the one place where transactions begin and end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, cast

import asyncpg
from asyncpg import Connection

T = TypeVar("T")
Work = Callable[[Connection, datetime], Awaitable[T]]

ATTEMPTS_MAX: Final = 4
"""One try and three retries for what PostgreSQL calls a serialization failure or a deadlock."""
ACQUIRE_SECONDS_MAX: Final = 20.0
"""How long a request waits for a connection before it is told that the hub is busy."""
CLOSE_SECONDS_MAX: Final = 5.0
COMMAND_SECONDS_MAX: Final = 10.0

SESSION: Final = {
    "application_name": "commercehub",
    "timezone": "UTC",
    "jit": "off",
    "lock_timeout": "3s",
    "statement_timeout": "5s",
    # A long transaction keeps every dead row of a hot stock position alive: none may last.
    "transaction_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
}

# Who looks at all there is sorts and sums whole tables, and plans for all of it.
LOOKING: Final = {
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "work_mem": "128MB",
}

READ_NOW = "SELECT now()"

LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)
"""What PostgreSQL or the driver says when there is no connection any more, or none to have."""


class DatabaseUnavailable(Exception):
    """PostgreSQL did not take or lost the connection; nothing was promised, the caller may try again."""


class Raced(Exception):
    """Another transaction was faster and left what ours needs to see: start it again."""


class Database:
    """A pool of connections to the hub's database. Made by ``connect``."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, clock_offset_seconds: int = 0) -> None:
        self._pool = pool
        self.clock_offset = timedelta(seconds=clock_offset_seconds)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        pool_size: int,
        clock_offset_seconds: int = 0,
        on_connect: Callable[[Any], Coroutine[Any, Any, None]] | None = None,
        session: dict[str, str] | None = None,
    ) -> "Database":
        """Open the pool. ``session`` overrides settings of the connections: a migration may take longer, say."""
        pool = asyncpg.create_pool(
            url,
            min_size=1,
            max_size=pool_size,
            reset=_reset_nothing,
            init=on_connect,
            statement_cache_size=500,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=0,
            command_timeout=COMMAND_SECONDS_MAX,
            server_settings=SESSION | (session or {}),
        )
        await pool
        return cls(pool, clock_offset_seconds=clock_offset_seconds)

    async def close(self) -> None:
        """Wait for the connections in use, then close them all."""
        try:
            await asyncio.wait_for(self._pool.close(), CLOSE_SECONDS_MAX)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for reads, each statement by itself. ``DatabaseUnavailable`` if there is none to have."""
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX)
        except (OSError, *LOST) as error:
            raise DatabaseUnavailable(str(error)) from error
        try:
            # The pool's proxy has every method of the connection that it stands for.
            yield cast("Connection", connection)
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, *LOST) as error:
            if isinstance(error, asyncpg.InterfaceError) and not _is_gone(connection):
                raise
            raise DatabaseUnavailable(str(error)) from error
        finally:
            await self._pool.release(connection)

    async def transaction(self, work: Work[T], *, retry_raced: bool = True) -> T:
        """Run ``work(db, now)`` in one transaction and commit it, or roll it back if it raises.

        ``now`` is the database's clock, read once. Serialization failures, deadlocks and ``Raced`` start it again,
        three times at most, so ``work`` may run more than once and must not touch anything but ``db``.
        ``retry_raced=False``: the caller wants to see for itself what the faster transaction left.
        """
        attempt = 1
        while True:
            try:
                async with self.connection() as db, db.transaction():
                    now: datetime = await db.fetchval(READ_NOW)
                    return await work(db, now + self.clock_offset)
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, Raced) as error:
                if attempt == ATTEMPTS_MAX or (isinstance(error, Raced) and not retry_raced):
                    raise
            attempt += 1

    async def now(self) -> datetime:
        """The database's clock, for reads that have no transaction."""
        async with self.connection() as db:
            now: datetime = await db.fetchval(READ_NOW)
            return now + self.clock_offset


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Connection]:
    """Lend a connection of its own that sees one moment of the database, changes nothing, and may take its time.

    Meanwhile no dead row can go that was alive at that moment: it is for a nightly look, or for a standby.
    """
    db = await asyncpg.connect(url, server_settings=SESSION | LOOKING)
    try:
        async with db.transaction(isolation="repeatable_read", readonly=True):
            yield db
    finally:
        await db.close()


def _is_gone(connection: Any) -> bool:
    """Whether the connection was lost: the pool takes its proxy away then, which answers nothing any more."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


async def _reset_nothing(_: Any) -> None:
    """Keep what a connection has prepared: the default reset costs a round trip on each release."""


def violated(error: asyncpg.PostgresError) -> str:
    """The name of the constraint that refused a row, or ''."""
    return getattr(error, "constraint_name", None) or ""
