"""Tills and their drawers."""

import pytest

import payments
from commercehub import ids
from payments import NoOpenSession, Register, RegisterNameTaken, RegisterNotFound, SessionAlreadyOpen, Taken
from payments.ledger import drawer
from tests.payments.desk import Desk


async def test_a_register_is_found_where_it_stands(desk: Desk) -> None:
    register = await desk.register()
    for location_id in (register.location_id, None):
        found = await payments.read_register(desk.db, register_id=register.id, location_id=location_id)
        assert found == register


async def test_a_register_of_another_location_is_not_found(desk: Desk) -> None:
    register = await desk.register()
    with pytest.raises(RegisterNotFound):
        await payments.read_register(desk.db, register_id=register.id, location_id=ids.new())


async def test_a_name_is_taken_once_at_a_location(desk: Desk) -> None:
    register = await desk.register()
    await desk.register()
    again = Register(id=ids.new(), location_id=register.location_id, name=register.name)
    with pytest.raises(RegisterNameTaken) as refused:
        await payments.create_register(desk.db, again, now=desk.now)
    assert refused.value.name == register.name


async def test_the_registers_of_a_location_are_listed_by_name(desk: Desk) -> None:
    location_id = ids.new()
    for name in ("B", "A"):
        register = Register(id=ids.new(), location_id=location_id, name=name)
        await payments.create_register(desk.db, register, now=desk.now)
    assert [found.name for found in await payments.list_registers(desk.db, location_id=location_id)] == ["A", "B"]
    assert len(await payments.list_registers(desk.db, location_id=None)) >= 2


async def test_a_drawer_opens_with_a_float_from_the_safe(desk: Desk) -> None:
    session = await desk.open_drawer(await desk.register(), 20_000)
    assert (session.opening_float_minor, session.opened_by, session.closed_at) == (20_000, "ada", None)
    assert await payments.read_drawer(desk.db, session_id=session.id) == 20_000
    assert await desk.balances(session.id) == {drawer(session.id): 20_000, "safe": -20_000}


async def test_a_drawer_may_open_empty(desk: Desk) -> None:
    session = await desk.open_drawer(await desk.register(), 0)
    assert await payments.read_drawer(desk.db, session_id=session.id) == 0


async def test_a_drawer_opens_once(desk: Desk) -> None:
    register = await desk.register()
    await desk.open_drawer(register)
    with pytest.raises(SessionAlreadyOpen) as refused:
        await desk.open_drawer(register)
    assert refused.value.register_id == register.id


async def test_a_drawer_opens_again_after_it_was_closed(desk: Desk) -> None:
    register = await desk.register()
    first = await desk.open_drawer(register)
    await desk.close_drawer(register, 0)
    second = await desk.open_drawer(register)
    assert second.id != first.id
    assert (await payments.read_open_session(desk.db, register_id=register.id)).id == second.id


async def test_without_an_open_drawer_there_is_none(desk: Desk) -> None:
    register = await desk.register()
    with pytest.raises(NoOpenSession):
        await payments.read_open_session(desk.db, register_id=register.id)
    with pytest.raises(NoOpenSession):
        await desk.close_drawer(register, 0)


async def test_a_drawer_closes_once(desk: Desk) -> None:
    register = await desk.register()
    await desk.open_drawer(register)
    await desk.close_drawer(register, 0)
    with pytest.raises(NoOpenSession):
        await desk.close_drawer(register, 0)


@pytest.mark.parametrize(("counted", "over_short"), [(21_999, 0), (22_010, -11), (21_000, 999), (0, 21_999)])
async def test_what_was_counted_goes_into_the_safe_and_the_difference_is_told(
    desk: Desk, counted: int, over_short: int
) -> None:
    register = await desk.register()
    session = await desk.open_drawer(register, 20_000)
    await desk.open(desk.cash(1999, session_id=session.id))
    closing_id = ids.new()
    closed = await desk.close_drawer(register, counted, closing_id)
    assert (closed.expected_minor, closed.counted_minor, closed.closed_by) == (21_999, counted, "bob")
    assert closed.closed_at == desk.now
    expected = {"orders": -1999, "safe": counted - 20_000, "over_short": over_short}
    assert await desk.balances(session.id, closing_id) == {name: each for name, each in expected.items() if each}
    assert await payments.read_drawer(desk.db, session_id=session.id) == 0


async def test_sessions_are_found_by_place_register_and_currency(desk: Desk) -> None:
    register = await desk.register()
    neighbour = Register(id=ids.new(), location_id=register.location_id, name="Till 2")
    await payments.create_register(desk.db, neighbour, now=desk.now)
    first, second = await desk.open_drawer(register), await desk.open_drawer(neighbour)

    async def found(register_id: object = None, currency: str = "USD") -> set[object]:
        place = register.location_id
        return set(
            await payments.find_sessions(
                desk.db,
                register_id=register_id,  # type: ignore[arg-type]
                location_id=place,
                currency=currency,
            )
        )

    assert await found() == {first.id, second.id}
    assert await found(register.id) == {first.id}
    assert await found(currency="EUR") == set()
    await desk.close_drawer(register, 0)
    assert await found() == {second.id}


async def test_a_session_is_shared_while_it_is_open(desk: Desk) -> None:
    register = await desk.register()
    session = await desk.open_drawer(register)
    assert await payments.share_sessions(desk.db, session_ids=[ids.new(), session.id]) == [session.id]
    await desk.close_drawer(register, 0)
    assert await payments.share_sessions(desk.db, session_ids=[session.id]) == []


async def test_shared_sessions_come_lowest_id_first(desk: Desk) -> None:
    sessions = sorted([(await desk.open_drawer(await desk.register())).id for _ in range(5)])
    assert await payments.share_sessions(desk.db, session_ids=sessions[::-1]) == sessions


async def test_what_a_session_took_is_told_by_tender(desk: Desk) -> None:
    session = await desk.open_drawer(await desk.register())
    await desk.open(
        desk.cash(500, session_id=session.id),
        desk.cash(700, session_id=session.id),
        desk.card(900, session_id=session.id),
    )
    assert await payments.read_taken(desk.db, session_id=session.id) == [
        Taken(tender="card", taken_minor=0, refunded_minor=0),
        Taken(tender="cash", taken_minor=1200, refunded_minor=0),
    ]
