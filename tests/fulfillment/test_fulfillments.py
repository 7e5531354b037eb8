"""Work and the states it passes."""

import asyncio
from datetime import timedelta
from itertools import product

import asyncpg
import pytest
from sqlalchemy import CheckConstraint

import fulfillment
from commercehub import ids
from commercehub.database import Database
from fulfillment import Fulfillment, FulfillmentNotFound, InvalidTransition, Kind, Line, Parcel, State
from fulfillment.tables import metadata
from tests.fulfillment.floor import PUT, Floor, work
from tests.transactions import one_try, until_waiting

# The way of a parcel, that of goods which are picked up, and where each can be called off.
LEGAL = {
    Kind.SHIP: {
        ("open", "picking"),
        ("picking", "picked"),
        ("picked", "packed"),
        ("packed", "shipped"),
        ("shipped", "delivered"),
        ("open", "cancelled"),
        ("picking", "cancelled"),
        ("picked", "cancelled"),
        ("packed", "cancelled"),
    },
    Kind.PICKUP: {
        ("open", "picking"),
        ("picking", "picked"),
        ("picked", "ready"),
        ("ready", "handed_over"),
        ("open", "cancelled"),
        ("picking", "cancelled"),
        ("picked", "cancelled"),
        ("ready", "cancelled"),
    },
}
STATES = {kind: {state for move in moves for state in move} for kind, moves in LEGAL.items()}


async def test_work_is_read_back_as_it_was_given(floor: Floor) -> None:
    given = work(floor.now)
    await fulfillment.create_fulfillments(floor.db, [given], now=floor.now)
    assert await floor.read(given) == given


async def test_lines_stay_in_the_order_they_were_given_in(floor: Floor) -> None:
    lines = [Line(line_id=ids.new(), sku=sku, quantity=1) for sku in ("C", "A", "B")]
    assert [line.sku for line in (await floor.work(*lines)).lines] == ["C", "A", "B"]


async def test_work_for_several_orders_is_given_at_once(floor: Floor) -> None:
    given = [work(floor.now), work(floor.now)]
    await fulfillment.create_fulfillments(floor.db, given, now=floor.now)
    found = await fulfillment.read_fulfillments_of(floor.db, references=[each.reference for each in given])
    assert sorted(found, key=lambda each: each.id) == sorted(given, key=lambda each: each.id)


async def test_no_work_is_no_work(floor: Floor) -> None:
    await fulfillment.create_fulfillments(floor.db, [], now=floor.now)
    assert await fulfillment.read_fulfillments_of(floor.db, references=[]) == []
    assert await fulfillment.read_parcels(floor.db, fulfillment_ids=[]) == {}


async def test_work_whose_lines_are_gone_can_still_be_read(floor: Floor) -> None:
    given = await floor.work()
    await floor.db.execute("DELETE FROM fulfillment.lines WHERE fulfillment_id = $1", given.id)
    assert (await floor.read(given)).lines == ()


@pytest.mark.parametrize("read", [fulfillment.read_fulfillment, fulfillment.lock_fulfillment])
async def test_work_of_another_location_is_not_found(floor: Floor, read: object) -> None:
    given = await floor.work()
    for location_id in (None, floor.location_id):
        found = await read(floor.db, fulfillment_id=given.id, location_id=location_id)  # type: ignore[operator]
        assert found == given
    for wrong in ({"location_id": ids.new()}, {"fulfillment_id": ids.new()}):
        with pytest.raises(FulfillmentNotFound):
            await read(floor.db, **{"fulfillment_id": given.id, "location_id": floor.location_id} | wrong)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "state", "to"), [each for each in product(Kind, State, State) if each[1] in STATES[each[0]]]
)
async def test_work_moves_along_the_machine_of_its_kind_and_no_other_way(
    floor: Floor, kind: Kind, state: State, to: State
) -> None:
    given = await floor.work(state=state, kind=kind)
    if (state, to) in LEGAL[kind]:
        if to is State.READY:
            await fulfillment.keep_for_customer(
                floor.db, fulfillment_id=given.id, code_hash=b"x", collect_by=floor.now + timedelta(days=7)
            )
        await fulfillment.move(floor.db, given, to=to, now=floor.now)
        moved = await floor.read(given)
        assert (moved.state, moved.version) == (to, 2)
    else:
        with pytest.raises(InvalidTransition) as refused:
            await fulfillment.move(floor.db, given, to=to, now=floor.now)
        allowed = sorted(reached for leaving, reached in LEGAL[kind] if leaving == state)
        assert (refused.value.state, refused.value.wanted, refused.value.allowed) == (state, to, allowed)
        assert await floor.read(given) == given


def test_work_is_done_where_the_machine_ends() -> None:
    ends = {state for moves in fulfillment.MOVES.values() for state, reached in moves.items() if not reached}
    assert ends == fulfillment.DONE


async def test_a_move_from_where_the_work_no_longer_is_is_refused(floor: Floor) -> None:
    seen = await floor.work(state=State.PACKED)
    await floor.db.execute(PUT, seen.id, State.DELIVERED.value)
    with pytest.raises(InvalidTransition):
        await fulfillment.move(floor.db, seen, to=State.CANCELLED, now=floor.now)


async def test_fewer_units_are_asked_for_and_a_line_of_none_is_gone(floor: Floor) -> None:
    given, other = await floor.work(), await floor.work()
    cups, pots = given.lines
    units = {cups.line_id: 1, pots.line_id: 1}
    await fulfillment.drop_units(floor.db, fulfillment_id=given.id, units=units, now=floor.now)
    left = await floor.read(given)
    assert ([(line.line_id, line.quantity) for line in left.lines], left.version) == ([(cups.line_id, 1)], 2)
    assert await floor.read(other) == other


async def test_why_work_was_called_off_is_written_down(floor: Floor) -> None:
    given = await floor.work()
    await fulfillment.move(floor.db, given, to=State.CANCELLED, now=floor.now, cancel_reason="customer_request")
    statement = "SELECT cancel_reason FROM fulfillment.fulfillments WHERE id = $1"
    assert await floor.db.fetchval(statement, given.id) == "customer_request"


async def test_what_was_picked_is_noted_line_by_line(floor: Floor) -> None:
    given = await floor.work()
    cups, pots = given.lines
    await fulfillment.write_picked(floor.db, fulfillment_id=given.id, picked={cups.line_id: 2})
    assert [line.picked for line in (await floor.read(given)).lines] == [2, 0]
    await fulfillment.write_picked(floor.db, fulfillment_id=given.id, picked={})
    await fulfillment.write_picked(floor.db, fulfillment_id=given.id, picked={pots.line_id: 1})
    assert [line.picked for line in (await floor.read(given)).lines] == [2, 1]


async def test_the_same_line_in_two_places_is_picked_in_each_by_itself(floor: Floor) -> None:
    line = Line(line_id=ids.new(), sku="CUP", quantity=2)
    here, there = await floor.work(line), await floor.work(line, location_id=ids.new())
    await fulfillment.write_picked(floor.db, fulfillment_id=here.id, picked={line.line_id: 2})
    assert [(await floor.read(each)).lines[0].picked for each in (here, there)] == [2, 0]


async def test_goods_are_packed_into_parcels_in_order(floor: Floor) -> None:
    given, other = await floor.work(), await floor.work()
    await fulfillment.write_parcels(floor.db, fulfillment_id=given.id, weights_grams=[500, None, 20])
    parcels = await fulfillment.read_parcels(floor.db, fulfillment_ids=[given.id, other.id])
    assert parcels == {given.id: [Parcel(weight_grams=500), Parcel(), Parcel(weight_grams=20)]}


async def test_every_parcel_of_a_shipment_can_be_followed(floor: Floor) -> None:
    given, other = await floor.work(), await floor.work()
    for each in (given, other):
        await fulfillment.write_parcels(floor.db, fulfillment_id=each.id, weights_grams=[1, 2])
    await fulfillment.write_tracking(floor.db, fulfillment_id=given.id, carrier="DHL", tracking_number="JD1")
    parcels = await fulfillment.read_parcels(floor.db, fulfillment_ids=[given.id, other.id])
    assert {(each.carrier, each.tracking_number) for each in parcels[given.id]} == {("DHL", "JD1")}
    assert {(each.carrier, each.tracking_number) for each in parcels[other.id]} == {(None, None)}


async def test_work_is_listed_newest_first_in_pages(floor: Floor) -> None:
    given = sorted([(await floor.work()).id for _ in range(5)], reverse=True)
    pages, before_id = [], None
    while page := await floor.listed(before_id=before_id, limit=2):
        pages.append([each.id for each in page])
        before_id = page[-1].id
    assert pages == [given[:2], given[2:4], given[4:]]


async def test_work_is_listed_by_all_that_is_asked(floor: Floor) -> None:
    opened, picked = await floor.work(), await floor.work(state=State.PICKED)
    elsewhere = await floor.work(location_id=ids.new(), reference=opened.reference)

    async def found(**wanted: object) -> set[object]:
        return {each.id for each in await floor.listed(**wanted)}

    assert await found() == {opened.id, picked.id}
    assert await found(state="picked") == {picked.id}
    assert await found(reference=opened.reference) == {opened.id}
    assert await found(reference=opened.reference, location_id=None) == {opened.id, elsewhere.id}
    assert await found(kind="pickup") == set()
    assert await found(kind="ship", state="open") == {opened.id}


VIOLATIONS = [
    ("ck_fulfillments_kind", "UPDATE fulfillment.fulfillments SET kind = 'drone' WHERE id = $1"),
    (
        "ck_fulfillments_state_of_its_kind",
        "UPDATE fulfillment.fulfillments SET kind = 'pickup', state = 'packed' WHERE id = $1",
    ),
    ("ck_fulfillments_kept_for_a_code", "UPDATE fulfillment.fulfillments SET code_hash = '\\x01' WHERE id = $1"),
    (
        "ck_fulfillments_ready_has_a_code",
        "UPDATE fulfillment.fulfillments SET kind = 'pickup', state = 'ready' WHERE id = $1",
    ),
    ("ck_fulfillments_state", "UPDATE fulfillment.fulfillments SET state = 'lost' WHERE id = $1"),
    ("ck_lines_quantity", "UPDATE fulfillment.lines SET quantity = 0 WHERE fulfillment_id = $1"),
    ("ck_lines_quantity", "UPDATE fulfillment.lines SET picked = quantity + 1 WHERE fulfillment_id = $1"),
    ("ck_lines_quantity", "UPDATE fulfillment.lines SET picked = -1 WHERE fulfillment_id = $1"),
    ("ck_parcels_weight", "UPDATE fulfillment.parcels SET weight_grams = 0 WHERE fulfillment_id = $1"),
]


@pytest.mark.parametrize(("name", "statement"), VIOLATIONS)
async def test_the_tables_refuse_it_by_name(floor: Floor, name: str, statement: str) -> None:
    given = await floor.work()
    await fulfillment.write_parcels(floor.db, fulfillment_id=given.id, weights_grams=[1])
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await floor.db.execute(statement, given.id)
    assert refused.value.constraint_name == name


def test_every_check_of_the_room_is_tried() -> None:
    checks = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert {name for name, _ in VIOLATIONS} == checks


async def test_who_waited_for_the_lock_sees_what_was_picked_meanwhile(database: Database) -> None:
    async with one_try(database) as (db, now):
        given = await Floor(db, now).work(state=State.PICKING)

    async def lock() -> Fulfillment:
        async with one_try(database) as (db, _):
            return await fulfillment.lock_fulfillment(db, fulfillment_id=given.id, location_id=given.location_id)

    async with one_try(database) as (db, now):
        locked = await fulfillment.lock_fulfillment(db, fulfillment_id=given.id, location_id=None)
        waiting = asyncio.ensure_future(lock())
        await until_waiting(database)
        picked = {line.line_id: line.quantity for line in locked.lines}
        await fulfillment.write_picked(db, fulfillment_id=given.id, picked=picked)
        await fulfillment.move(db, locked, to=State.PICKED, now=now)
    seen = await waiting
    assert (seen.state, [line.picked for line in seen.lines]) == (State.PICKED, [2, 1])


async def test_work_moved_two_ways_at_once_goes_one_of_them(database: Database) -> None:
    async def move(given: Fulfillment, to: State) -> bool:
        try:
            async with one_try(database) as (db, now):
                locked = await fulfillment.lock_fulfillment(db, fulfillment_id=given.id, location_id=None)
                await fulfillment.move(db, locked, to=to, now=now)
        except InvalidTransition:
            return False
        return True

    for _ in range(10):
        async with one_try(database) as (db, now):
            given = await Floor(db, now).work(state=State.PACKED)
        moved = await asyncio.gather(move(given, State.SHIPPED), move(given, State.CANCELLED))
        assert sum(moved) == 1
