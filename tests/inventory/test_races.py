"""Many at once over the same stock, in real transactions that commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from asyncpg import Connection

import inventory
from commercehub.database import Database, Raced
from inventory import ClaimRaced, Hold, Opening, ReservationSettled, StockTooLow
from tests.inventory.shelf import Shelf, build_location, new_sku
from tests.transactions import one_try, until_waiting

GONE_BY = timedelta(seconds=-1)


class Floor:
    """A location that everybody sees, and one transaction at a time of everybody who works there."""

    def __init__(self, database: Database, location_id: UUID) -> None:
        self.database, self.location_id = database, location_id

    def do(self, work: Callable[[Shelf], Awaitable[bool]]) -> Awaitable[bool]:
        """Do it as the hub does: started again after a deadlock or a race."""

        async def attempt(db: Connection, now: datetime) -> bool:
            try:
                return await work(Shelf(db, self.location_id, now))
            except ClaimRaced as error:
                raise Raced from error

        return self.database.transaction(attempt)

    @asynccontextmanager
    async def one_try(self) -> AsyncIterator[Shelf]:
        """A transaction that is not started again and commits when the block ends."""
        async with one_try(self.database) as (db, now):
            yield Shelf(db, self.location_id, now)

    async def stock(self, on_hand: int, *, safety_stock: int = 0) -> str:
        async with self.one_try() as shelf:
            return await shelf.stock(on_hand, safety_stock=safety_stock)

    async def reserve(self, sku: str, quantity: int, *, expires_in: timedelta | None = None) -> list[tuple[UUID, Hold]]:
        async with self.one_try() as shelf:
            return await shelf.reserve(sku, quantity, expires_in=expires_in)

    async def numbers(self, sku: str) -> tuple[int, int, int]:
        async with self.one_try() as shelf:
            return await shelf.numbers(sku)


@pytest.fixture(scope="module")
async def floor(database: Database) -> Floor:
    async with one_try(database) as (db, now):
        location_id = await build_location(db, now=now, latitude=-89.0, longitude=0.0, capabilities=())
    return Floor(database, location_id)


@pytest.fixture(autouse=True)
async def sound(floor: Floor) -> AsyncIterator[None]:
    """Whatever happened, the books agree afterwards."""
    yield
    async with one_try(floor.database) as (db, _):
        assert await inventory.verify(db) == []


def claiming(*skus: str, quantity: int = 1, take: bool = False) -> Callable[[Shelf], Awaitable[bool]]:
    async def claim(shelf: Shelf) -> bool:
        wants = [shelf.want(sku, quantity, take=take) for sku in skus]
        return (await shelf.claimed(shelf.claim(*wants))).shortages == [()]

    return claim


@pytest.mark.parametrize("take", [True, False])
async def test_sixty_claims_of_twenty_units_are_granted_twenty_times(floor: Floor, take: bool) -> None:  # noqa: FBT001
    sku = await floor.stock(20)
    granted = await asyncio.gather(*(floor.do(claiming(sku, take=take)) for _ in range(60)))
    assert sum(granted) == 20
    assert await floor.numbers(sku) == ((0, 0, 0) if take else (20, 20, 0))


async def test_baskets_that_cross_queue_and_do_not_deadlock(floor: Floor) -> None:
    a, b = await floor.stock(1000), await floor.stock(1000)

    async def buy(*skus: str) -> None:
        async with floor.one_try() as shelf:
            claim = shelf.claim(*(shelf.want(sku, 1) for sku in skus))
            assert (await shelf.claimed(claim)).shortages == [()]
        async with floor.one_try() as shelf:
            await shelf.post(await shelf.holds(claim.reference))

    await asyncio.gather(*(buy(*pair) for _ in range(50) for pair in ((a, b), (b, a))))
    assert await floor.numbers(a) == await floor.numbers(b) == (900, 0, 900)


async def test_receipts_corrections_and_claims_that_cross_do_not_deadlock(floor: Floor) -> None:
    a, b = await floor.stock(100), await floor.stock(100)

    async def move(*skus: str) -> None:
        async with floor.one_try() as shelf:
            moves = [shelf.move(sku, delta) for sku, delta in zip(skus, (1, -1), strict=True)]
            await inventory.move_stock(shelf.db, moves, now=shelf.now)

    async def take(*skus: str) -> None:
        async with floor.one_try() as shelf:
            assert await claiming(*skus, take=True)(shelf)

    await asyncio.gather(*(do(*pair) for _ in range(25) for pair in ((a, b), (b, a)) for do in (move, take)))
    assert await floor.numbers(a) == await floor.numbers(b) == (50, 0, 50)


async def test_new_skus_that_cross_do_not_deadlock(floor: Floor) -> None:
    skus = [new_sku() for _ in range(20)]

    async def receive(order: list[str]) -> None:
        async with floor.one_try() as shelf:
            await inventory.move_stock(shelf.db, [shelf.move(sku, 1) for sku in order], now=shelf.now)

    await asyncio.gather(*(receive(order) for _ in range(4) for order in (skus, skus[::-1])))
    assert {await floor.numbers(sku) for sku in skus} == {(8, 0, 8)}


async def test_a_claim_that_waits_for_a_void_gets_its_units(floor: Floor) -> None:
    sku = await floor.stock(1)
    holds = await floor.reserve(sku, 1)
    async with floor.one_try() as shelf:
        await shelf.void(holds)
        claim = asyncio.ensure_future(floor.do(claiming(sku)))
        await until_waiting(floor.database)
    assert await claim
    assert await floor.numbers(sku) == (1, 1, 0)


async def test_a_claim_against_a_void_is_granted_or_refused_and_the_books_agree(floor: Floor) -> None:
    skus = [await floor.stock(1) for _ in range(20)]
    held = [await floor.reserve(sku, 1) for sku in skus]

    async def void(shelf: Shelf, holds: list[tuple[UUID, Hold]]) -> bool:
        return bool(await shelf.void(holds))

    outcomes = await asyncio.gather(
        *(
            floor.do(work)
            for sku, holds in zip(skus, held, strict=True)
            for work in (lambda shelf, holds=holds: void(shelf, holds), claiming(sku))
        )
    )
    for sku, granted in zip(skus, outcomes[1::2], strict=True):
        assert await floor.numbers(sku) == (1, int(granted), 1 - int(granted))


async def test_an_expired_hold_claimed_by_two_at_once_goes_to_one(floor: Floor) -> None:
    for _ in range(10):
        sku = await floor.stock(1)
        await floor.reserve(sku, 1, expires_in=GONE_BY)
        granted = await asyncio.gather(floor.do(claiming(sku)), floor.do(claiming(sku)))
        assert sorted(granted) == [False, True]
        assert await floor.numbers(sku) == (1, 1, 0)


async def test_an_expired_hold_wanted_by_its_owner_and_by_another_goes_to_one(floor: Floor) -> None:
    skus = [await floor.stock(1) for _ in range(20)]
    held = [await floor.reserve(sku, 1, expires_in=GONE_BY) for sku in skus]

    async def end(holds: list[tuple[UUID, Hold]]) -> bool:
        try:
            async with floor.one_try() as shelf:
                return bool(await shelf.post(holds))
        except ReservationSettled:
            return False

    async def claim(sku: str) -> bool:
        try:
            async with floor.one_try() as shelf:
                return await claiming(sku, take=True)(shelf)
        except ClaimRaced:
            return False

    won = await asyncio.gather(
        *(attempt for sku, holds in zip(skus, held, strict=True) for attempt in (end(holds), claim(sku)))
    )
    assert [sum(pair) for pair in zip(won[::2], won[1::2], strict=True)] == [1] * 20
    assert {await floor.numbers(sku) for sku in skus} == {(0, 0, 0)}


async def test_large_orders_that_leave_while_others_come_do_not_deadlock(floor: Floor) -> None:
    skus = [await floor.stock(40) for _ in range(12)]

    async def reserve() -> UUID:
        async with floor.one_try() as shelf:
            claim = shelf.claim(*(shelf.want(sku, 1) for sku in skus))
            assert (await shelf.claimed(claim)).shortages == [()]
        return claim.reference

    async def leave(reference: UUID) -> None:
        async with floor.one_try() as shelf:
            await shelf.post(await shelf.holds(reference))

    references = [await reserve() for _ in range(20)]
    await asyncio.gather(*(do for reference in references for do in (leave(reference), reserve())))
    assert {await floor.numbers(sku) for sku in skus} == {(20, 20, 0)}


async def test_a_claim_that_saw_an_expired_hold_go_says_that_it_raced(floor: Floor) -> None:
    sku = await floor.stock(1)
    await floor.reserve(sku, 1, expires_in=GONE_BY)

    async def claim() -> bool:
        async with floor.one_try() as shelf:
            return await claiming(sku)(shelf)

    async with floor.one_try() as first:
        assert await claiming(sku)(first)
        second = asyncio.ensure_future(claim())
        await until_waiting(floor.database)
    with pytest.raises(ClaimRaced):
        await second


async def test_units_that_an_expired_hold_kept_are_not_counted_twice_against_safety_stock(floor: Floor) -> None:
    sku = await floor.stock(10, safety_stock=5)
    await floor.reserve(sku, 4, expires_in=GONE_BY)

    async def take_and_reserve(shelf: Shelf) -> bool:
        claims = [shelf.claim(shelf.want(sku, 4, take=True)), shelf.claim(shelf.want(sku, 4))]
        return (await shelf.claimed(*claims)).shortages == [(), ()]

    async with floor.one_try() as first:
        assert await claiming(sku, take=True)(first)
        second = asyncio.ensure_future(floor.do(take_and_reserve))
        await until_waiting(floor.database)
    assert not await second
    assert await floor.numbers(sku) == (5, 0, 0)


async def test_a_hold_that_two_want_to_end_ends_once(floor: Floor) -> None:
    sku = await floor.stock(1)
    holds = await floor.reserve(sku, 1)

    async def end(shelf: Shelf) -> bool:
        try:
            await shelf.post(holds)
        except ReservationSettled:
            return False
        return True

    assert sorted(await asyncio.gather(*(floor.do(end) for _ in range(4)))) == [False, False, False, True]
    assert await floor.numbers(sku) == (0, 0, 0)


async def test_a_correction_against_a_claim_never_oversells(floor: Floor) -> None:
    async def correct(shelf: Shelf, sku: str) -> bool:
        try:
            await inventory.move_stock(shelf.db, [shelf.move(sku, -1)], now=shelf.now)
        except StockTooLow:
            return False
        return True

    for _ in range(10):
        sku = await floor.stock(1)
        works = (claiming(sku), lambda shelf, sku=sku: correct(shelf, sku))
        assert sum(await asyncio.gather(*(floor.do(work) for work in works))) == 1


async def test_two_imports_at_once_receive_the_opening_once(floor: Floor) -> None:
    sku = new_sku()

    async def open_it(shelf: Shelf) -> bool:
        opening = Opening(sku=sku, location_id=shelf.location_id, quantity=8)
        opened = await inventory.open_stock(shelf.db, [opening], actor="importer", channel="store", now=shelf.now)
        return opened == {sku}

    assert sorted(await asyncio.gather(*(floor.do(open_it) for _ in range(4)))) == [False, False, False, True]
    assert await floor.numbers(sku) == (8, 0, 8)


async def test_a_code_asked_for_by_two_at_once_goes_to_one(database: Database) -> None:
    code = new_sku("code")

    async def create() -> bool:
        try:
            async with one_try(database) as (db, now):
                await build_location(db, now=now, code=code, latitude=-89.0, longitude=0.0, capabilities=())
        except inventory.LocationCodeTaken:
            return False
        return True

    assert sorted(await asyncio.gather(create(), create())) == [False, True]
