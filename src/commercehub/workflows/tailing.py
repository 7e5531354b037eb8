"""Live news: one reader of the events for each process, and everybody who listens to it.

The events are read while somebody listens, one statement for all, and handed to each listener who waits for them. A
listener who does not keep up is let go of, so that it costs nobody else anything: it comes again with its last place.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeVar
from uuid import UUID

import structlog

from commercehub import events
from commercehub.auth import Keyring
from commercehub.database import Database, DatabaseUnavailable
from commercehub.events import Position, Told
from commercehub.sales.catalog import folded

T = TypeVar("T")

POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 1.0
BATCH: Final = 500
BEHIND_MAX: Final = 1_024
"""News that a listener has not taken yet; more than one look finds, so that nobody is slow who is not."""
MISSED_PAGE: Final = 2_000
MISSED_PAGES_MAX: Final = 50
"""How far back somebody who comes again may be taken; further back they had better read everything anew."""
LISTENERS_MAX: Final = 1_000
LISTENERS_PER_CALLER_MAX: Final = 100
VERIFIED_SECONDS: Final = 3.0

log = structlog.get_logger()


class TooManyListeners(Exception):
    """This caller listens often enough already; ``is_full``: so many do that the process takes nobody more."""

    def __init__(self, *, is_full: bool) -> None:
        super().__init__()
        self.is_full = is_full


class Listener:
    """Somebody who waits for news: of some SKUs' stock, whatever their case, or of an order; ``after`` a position.

    ``queue`` holds what has been told and not been taken; ``None`` in it is the end. ``was_slow``, ``was_reset``: why.
    """

    def __init__(
        self,
        *,
        caller: str,
        skus: Iterable[str] = (),
        order_id: UUID | None = None,
        after: Position = events.BEGINNING,
    ) -> None:
        self.caller = caller
        self.skus = frozenset(folded(sku) for sku in skus)
        self.order_id = order_id
        self.after = after
        self.queue: asyncio.Queue[Told | None] = asyncio.Queue(BEHIND_MAX)
        self.was_slow = False
        self.was_reset = False

    def wants(self, told: Told) -> bool:
        """Whether a piece of news is for this listener."""
        if self.order_id is not None:
            return told.order_id == self.order_id
        return bool(told.body) and folded(told.body["sku"]) in self.skus

    def tell(self, told: Told) -> None:
        """Hand on a piece of news."""
        if told.position <= self.after:
            return
        # One place is kept for the end.
        if self.queue.qsize() >= self.queue.maxsize - 1:
            self.was_slow = True
            self.end()
        else:
            self.queue.put_nowait(told)

    def end(self) -> None:
        """Nothing more comes."""
        with suppress(asyncio.QueueFull):
            self.queue.put_nowait(None)


class Tailer:
    """Reads the events of this process's listeners. It costs nothing while there are none."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[Listener] = set()
        self._by_sku: dict[str, set[Listener]] = {}
        self._by_order: dict[UUID, set[Listener]] = {}
        self._position: Position | None = None
        self._task: asyncio.Task[None] | None = None
        # Shorter than elsewhere: a stream looks itself whether its credential still works, and five seconds are promised.
        self.keyring = Keyring(database, verified_seconds=VERIFIED_SECONDS)
        self.is_closed = False

    def check(self, caller: str) -> None:
        """Raise ``TooManyListeners`` if nobody more, or nobody more of this caller's, may listen."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise TooManyListeners(is_full=True)
        if sum(each.caller == caller for each in self._listeners) >= LISTENERS_PER_CALLER_MAX:
            raise TooManyListeners(is_full=False)

    async def position(self) -> Position:
        """A place behind which lies whatever is told from now on."""
        async with self._database.connection() as db:
            return await events.read_position(db)

    async def join(self, listener: Listener) -> Position:
        """Hand this listener whatever is told behind the position that is returned, until ``leave``.

        ``TooManyListeners`` if there are too many.
        """
        position = await self.position()
        # Nothing is awaited from here on: whoever reads first counts, and nobody else comes in between.
        self.check(listener.caller)
        position = self._position = self._position or position
        self._listeners.add(listener)
        for sku in listener.skus:
            self._by_sku.setdefault(sku, set()).add(listener)
        if listener.order_id is not None:
            self._by_order.setdefault(listener.order_id, set()).add(listener)
        if self.is_closed:
            listener.end()
        elif self._task is None:
            self._task = asyncio.create_task(self._tail())
        return position

    def leave(self, listener: Listener) -> None:
        """Tell this listener nothing more."""
        self._listeners.discard(listener)
        for sku in listener.skus:
            _remove(self._by_sku, sku, listener)
        if listener.order_id is not None:
            _remove(self._by_order, listener.order_id, listener)

    async def missed(self, listener: Listener, *, until: Position) -> Sequence[Told] | None:
        """What a listener missed up to the position at which it joined; ``None`` if it is too much to be told."""
        after = listener.after
        if after >= until:
            return []
        found: list[Told] = []
        async with self._database.connection() as db:
            for _ in range(MISSED_PAGES_MAX):
                page = await events.read_missed(db, after=after, until=until, limit=MISSED_PAGE)
                found += [told for told in page if listener.wants(told)]
                if len(page) < MISSED_PAGE:
                    return found
                after = page[-1].position
        return None

    async def is_kept(self, position: Position) -> bool:
        """Whether everything that came after a position can still be told."""
        async with self._database.connection() as db:
            return await events.is_kept(db, position=position)

    def end(self) -> None:
        """Let everybody go, and whoever comes from now on at once."""
        self.is_closed = True
        for listener in self._listeners:
            listener.end()

    async def aclose(self) -> None:
        """Let everybody go, and read no more."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tail(self) -> None:
        """Read and hand on for as long as somebody listens."""
        try:
            while self._listeners:
                try:
                    count = await self._look()
                except Exception as error:  # noqa: BLE001 - whatever ails the database, it is asked again
                    log.warning("tail.failed", error=repr(error))
                    await asyncio.sleep(RETRY_SECONDS)
                    with suppress(Exception):
                        await self._come_to()
                    continue
                if count < BATCH:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._position = self._task = None

    async def _look(self) -> int:
        after = self._position
        if after is None:
            return 0
        async with self._database.connection() as db:
            told = await events.read_told(db, after=after, limit=BATCH)
        if told:
            self._position = told[-1].position
        for each in told:
            for listener in self._whom(each):
                listener.tell(each)
                if listener.was_slow:
                    self.leave(listener)
        return len(told)

    def _whom(self, told: Told) -> list[Listener]:
        if told.body:
            return list(self._by_sku.get(folded(told.body["sku"]), ()))
        return list(self._by_order.get(told.order_id, ())) if told.order_id is not None else []

    async def _come_to(self) -> None:
        """After a failure: a database that was restored counts anew, and what was missed there nobody can say."""
        async with self._database.connection() as db:
            position = await events.read_position(db)
        if self._position is not None and position < self._position:
            self._position = position
            for listener in list(self._listeners):
                listener.was_reset = True
                listener.end()
                self.leave(listener)

    async def still_works(self, secret: str) -> bool:
        """Whether a credential does; while nobody can say, it does: nothing is told then either."""
        try:
            return await self.keyring.verify(secret) is not None
        except DatabaseUnavailable:
            return True


def _remove(index: dict[T, set[Listener]], key: T, listener: Listener) -> None:
    found = index.get(key, set())
    found.discard(listener)
    if not found:
        index.pop(key, None)
