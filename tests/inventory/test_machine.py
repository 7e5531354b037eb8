"""Any sequence of what can happen to stock, against a model of three dictionaries; S1 and S2 after each step."""

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import inventory
from inventory import Claim, Hold, ReservationSettled, StockTooLow, Want
from tests.inventory.shelf import Shelf, build_location, new_sku

T = TypeVar("T")
Key = tuple[str, UUID]

keys = st.integers(0, 2)
quantities = st.integers(1, 4)
wants = st.lists(st.tuples(keys, quantities, st.booleans()), min_size=1, max_size=3)
claims = st.lists(st.tuples(wants, st.none() | st.integers(1, 5)), min_size=1, max_size=3)


class Promise(msgspec.Struct):
    """What the model knows of a claim that was granted: one hold for each line, at most once ended."""

    reference: UUID
    holds: list[tuple[Key, Hold]]
    expires_at: datetime | None
    is_open: bool = True


class Stock(RuleBasedStateMachine):
    """Two SKUs at one location and one of them at another, in a transaction that is rolled back."""

    loop: asyncio.AbstractEventLoop
    db: Any

    def __init__(self) -> None:
        super().__init__()
        self.transaction = self.db.transaction()
        self.run(self.transaction.start())
        self.start: datetime = self.run(self.db.fetchval("SELECT now()"))
        self.now = self.start
        self.on_hand: dict[Key, int] = {}
        self.safety: dict[Key, int] = {}
        self.promises: list[Promise] = []

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.transaction.rollback())

    def shelf(self, location_id: UUID) -> Shelf:
        return Shelf(self.db, location_id, self.now)

    @initialize(stocks=st.lists(st.integers(0, 8), min_size=3, max_size=3))
    def open_the_shop(self, stocks: list[int]) -> None:
        here, there = (self.run(build_location(self.db, now=self.now)) for _ in range(2))
        cup, pot = new_sku("CUP"), new_sku("POT")
        self.keys = [(cup, here), (pot, here), (cup, there)]
        self.on_hand = dict(zip(self.keys, stocks, strict=True))
        self.safety = dict.fromkeys(self.keys, 0)
        openings = [
            inventory.Opening(sku=sku, location_id=place, quantity=quantity)
            for (sku, place), quantity in self.on_hand.items()
        ]
        self.run(inventory.open_stock(self.db, openings, actor="model", channel="store", now=self.now))

    def reserved(self, key: Key) -> int:
        """What is promised of a position and has not expired."""
        return sum(
            hold.quantity
            for promise in self.promises
            if promise.is_open and (promise.expires_at is None or promise.expires_at > self.now)
            for held, hold in promise.holds
            if held == key
        )

    def fold(self, touched: set[Key]) -> None:
        """What expired and was touched is nobody's any more."""
        for promise in self.promises:
            if promise.is_open and promise.expires_at is not None and promise.expires_at <= self.now:
                promise.holds = [(key, hold) for key, hold in promise.holds if key not in touched]
                promise.is_open = bool(promise.holds)

    @rule(moves=st.lists(st.tuples(keys, st.integers(-4, 6)), max_size=4))
    def correct(self, moves: list[tuple[int, int]]) -> None:
        """Receipts and corrections, all or nothing."""
        sums: dict[Key, int] = {}
        for position, delta in moves:
            sums[self.keys[position]] = sums.get(self.keys[position], 0) + delta
        given = [self.shelf(self.keys[i][1]).move(self.keys[i][0], delta) for i, delta in moves]
        fits = all(self.on_hand[key] + delta >= self.reserved(key) for key, delta in sums.items() if delta < 0)
        try:
            self.run(inventory.move_stock(self.db, given, now=self.now))
        except StockTooLow:
            assert not fits
        else:
            assert fits
            for key, delta in sums.items():
                self.on_hand[key] += delta
        self.fold({key for key, delta in sums.items() if delta < 0})

    @rule(position=keys, safety=st.integers(0, 3))
    def keep_back(self, position: int, safety: int) -> None:
        """Set a safety stock."""
        sku, place = self.keys[position]
        self.safety[sku, place] = safety
        statement = "UPDATE inventory.positions SET safety_stock = $3 WHERE sku = $1 AND location_id = $2"
        self.run(self.db.execute(statement, sku, place, safety))

    @rule(batch=claims)
    def claim(self, batch: list[tuple[list[tuple[int, int, bool]], int | None]]) -> None:
        """A batch of claims, in order of arrival."""
        given = [self._claim(lines, expires) for lines, expires in batch]
        claimed = self.run(inventory.claim_stock(self.db, given, now=self.now))
        taken = dict.fromkeys(self.keys, 0)
        promised = dict.fromkeys(self.keys, 0)
        before = {key: self.on_hand[key] - self.reserved(key) for key in self.keys}
        touched: set[Key] = set()
        for claim, short in zip(given, claimed.shortages, strict=True):
            after = {key: before[key] - taken[key] - promised[key] for key in self.keys}
            fits = True
            for want in claim.wants:
                key = (want.sku, want.location_id)
                fits &= want.quantity <= after[key] - (0 if want.take else self.safety[key])
                after[key] -= want.quantity
            assert fits == (short == ())
            if fits:
                for want in claim.wants:
                    (taken if want.take else promised)[want.sku, want.location_id] += want.quantity
                    touched.add((want.sku, want.location_id))
        self.fold(touched)
        for key in self.keys:
            self.on_hand[key] -= taken[key]
        for claim, short in zip(given, claimed.shortages, strict=True):
            held = [
                (
                    (want.sku, want.location_id),
                    Hold(line_id=want.line_id, sku=want.sku, location_id=want.location_id, quantity=want.quantity),
                )
                for want in claim.wants
                if not want.take
            ]
            if not short and held:
                self.promises.append(Promise(claim.reference, held, claim.expires_at))

    def _claim(self, lines: list[tuple[int, int, bool]], expires: int | None) -> Claim:
        shelves = {place: self.shelf(place) for _, place in self.keys}
        given: list[Want] = []
        for position, quantity, take in lines:
            sku, place = self.keys[position]
            given.append(shelves[place].want(sku, quantity, take=take))
        return self.shelf(self.keys[0][1]).claim(
            *given, expires_in=timedelta(minutes=expires) if expires is not None else None
        )

    @rule(which=st.integers(0, 9), way=st.sampled_from(["post", "void"]))
    def end(self, which: int, way: str) -> None:
        """The goods of a promise leave, or it is let go of; once."""
        if not self.promises:
            return
        promise = self.promises[which % len(self.promises)]
        shelf = self.shelf(self.keys[0][1])
        try:
            self.run(getattr(shelf, way)([(promise.reference, hold) for _, hold in promise.holds]))
        except ReservationSettled:
            assert not promise.is_open
            return
        assert promise.is_open or not promise.holds
        if promise.is_open and way == "post":
            for key, hold in promise.holds:
                self.on_hand[key] -= hold.quantity
        promise.is_open = False

    @rule(minutes=st.integers(1, 4))
    def wait(self, minutes: int) -> None:
        """Time passes."""
        self.now += timedelta(minutes=minutes)

    @invariant()
    def the_books_agree(self) -> None:
        """S1 and S2."""
        assert self.run(inventory.verify(self.db)) == []

    @invariant()
    def a_reader_sees_what_the_model_knows(self) -> None:
        levels = self.run(
            inventory.read_levels(
                self.db, skus=sorted({sku for sku, _ in self.keys}), clock_offset=self.now - self.start
            )
        )
        seen = {(level.sku, level.location_id): (level.on_hand, level.reserved) for level in levels}
        assert seen == {key: (self.on_hand[key], self.reserved(key)) for key in self.keys}
        assert all(on_hand >= reserved for on_hand, reserved in seen.values())


def test_stock_agrees_with_its_model_whatever_happens(database_url: str) -> None:
    loop = asyncio.new_event_loop()
    db = loop.run_until_complete(asyncpg.connect(database_url))
    machine = type("StockHere", (Stock,), {"loop": loop, "db": db})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=30,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    finally:
        loop.run_until_complete(db.close())
        loop.close()
