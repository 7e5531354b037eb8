"""What waits together is settled together; nobody waits for a timer, and nobody pays for another's mistake."""

import asyncio
from collections.abc import Sequence

import pytest

from commercehub.workflows.lane import Lane, LaneFull


class Counter:
    """Settles numbers by doubling them, and remembers the batches. It waits for ``go`` where there is one."""

    def __init__(self, *, poison: int | None = None, go: asyncio.Event | None = None) -> None:
        self.batches: list[list[int]] = []
        self._poison = poison
        self._go = go

    async def settle(self, batch: Sequence[int]) -> list[int]:
        """Double them all, or raise."""
        self.batches.append(list(batch))
        if self._go is not None:
            await self._go.wait()
        if self._poison in batch:
            raise ZeroDivisionError
        return [2 * number for number in batch]


async def test_one_who_waits_alone_is_settled_at_once() -> None:
    counter = Counter()
    assert await Lane(counter.settle).submit(21) == 42
    assert counter.batches == [[21]]


async def test_what_arrives_during_a_batch_is_the_next_one() -> None:
    go = asyncio.Event()
    counter = Counter(go=go)
    lane = Lane(counter.settle)
    first = asyncio.create_task(lane.submit(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(lane.submit(number)) for number in range(1, 6)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]
    assert counter.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_batch_has_a_size_at_most() -> None:
    counter = Counter()
    lane = Lane(counter.settle, batch_max=4)
    assert await asyncio.gather(*(lane.submit(number) for number in range(10))) == list(range(0, 20, 2))
    assert [len(batch) for batch in counter.batches] == [4, 4, 2]


async def test_one_that_cannot_be_settled_fails_alone() -> None:
    counter = Counter(poison=5)
    lane = Lane(counter.settle)
    found = await asyncio.gather(*(lane.submit(number) for number in range(8)), return_exceptions=True)
    assert [each for each in found if not isinstance(each, Exception)] == [0, 2, 4, 6, 8, 12, 14]
    assert isinstance(found[5], ZeroDivisionError)


async def test_a_full_lane_refuses_at_once() -> None:
    go = asyncio.Event()
    lane = Lane(Counter(go=go).settle, waiting_max=2)
    first = asyncio.create_task(lane.submit(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(lane.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(LaneFull):
        await lane.submit(3)
    go.set()
    assert await asyncio.gather(first, *waiting) == [0, 2, 4]


async def test_who_leaves_holds_nobody_up() -> None:
    go = asyncio.Event()
    counter = Counter(go=go)
    lane = Lane(counter.settle)
    leaving, staying = asyncio.create_task(lane.submit(1)), asyncio.create_task(lane.submit(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    go.set()
    assert await staying == 4
    assert counter.batches == [[1, 2]]


async def test_a_closed_lane_answers_everybody_who_waits_and_takes_nobody_in() -> None:
    go = asyncio.Event()
    lane = Lane(Counter(go=go).settle)
    waiting = [asyncio.create_task(lane.submit(number)) for number in range(3)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(lane.close())
    await asyncio.sleep(0)
    with pytest.raises(LaneFull):
        await lane.submit(9)
    go.set()
    await closing
    assert await asyncio.gather(*waiting) == [0, 2, 4]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_every_caller_gets_its_own_outcome(size: int) -> None:
    lane = Lane(Counter().settle, batch_max=16)
    assert await asyncio.gather(*(lane.submit(number) for number in range(size))) == [2 * n for n in range(size)]
