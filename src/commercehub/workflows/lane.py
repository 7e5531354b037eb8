"""A lane: requests that wait together are settled together, in one transaction, and each is answered by itself.

There is no timer. Whatever arrives while the last batch is being committed is the next batch, so an idle system pays
nothing and a busy one pays one commit for many.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import structlog

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")

WAITING_MAX: Final = 2_048
BATCH_MAX: Final = 256

log = structlog.get_logger()


class LaneFull(Exception):
    """As many wait as may wait, or the hub is about to stop. Nothing was done; try again."""


class Lane(Generic[Request, Outcome]):
    """Settles requests in batches of whatever waits, one batch at a time, in order of arrival.

    ``settle`` takes a batch and returns one outcome per request, in order; it is run again with halves of a batch
    that it raised for, so that a request which cannot be settled fails alone.
    """

    def __init__(
        self,
        settle: Callable[[Sequence[Request]], Awaitable[Sequence[Outcome]]],
        *,
        waiting_max: int = WAITING_MAX,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self._settle = settle
        self._waiting_max = waiting_max
        self._batch_max = batch_max
        self._waiting: deque[tuple[Request, asyncio.Future[Outcome]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many requests wait; those of the batch that is being settled are not among them."""
        return len(self._waiting)

    async def submit(self, request: Request) -> Outcome:
        """Wait in the lane and return the outcome, or raise what ``settle`` raised for this request alone.

        ``LaneFull`` at once where there is no room. A caller who leaves holds nobody up: the request is settled
        nevertheless, and its outcome thrown away.
        """
        if self._closed or len(self._waiting) >= self._waiting_max:
            raise LaneFull
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, outcome))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await outcome

    async def close(self) -> None:
        """Take nothing more, and return when everything that waited is answered."""
        self._closed = True
        if self._runner is not None:
            await self._runner

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_max))]
            await self._answer(batch)

    async def _answer(self, batch: Sequence[tuple[Request, "asyncio.Future[Outcome]"]]) -> None:
        """Settle a batch; where that fails, each half by itself, down to the one request that it fails for."""
        try:
            outcomes = await self._settle([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the one caller's who caused it
            if len(batch) == 1:
                _give(batch[0][1], error)
                return
            log.warning("lane.halved", size=len(batch), error=repr(error))
            middle = len(batch) // 2
            await self._answer(batch[:middle])
            await self._answer(batch[middle:])
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)


def _give(future: "asyncio.Future[Outcome]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
