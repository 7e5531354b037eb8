"""Tills: registers, and their drawers from the float to the count."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Connection

import inventory
import payments
from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.fields import Id, Name, Page, Paging, PositiveMoney, cut, in_currency
from commercehub.api.routing import route
from commercehub.auth import Permission
from payments.money import Money


class RegisterView(msgspec.Struct, frozen=True, kw_only=True):
    """A till."""

    id: str
    location_id: str
    name: str


class RegisterSearch(Paging, frozen=True, kw_only=True):
    """The part of the list that is wanted."""


class NewRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A till to set up."""

    location_id: Id
    name: Name


class RegisterChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A till's new name."""

    name: Name


class Opening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is put into the drawer."""

    opening_float: PositiveMoney


class Closing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was counted in the drawer."""

    counted: PositiveMoney


class TenderReport(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of tender: what there should be, and for cash what was counted."""

    type: str
    expected: Money
    counted: Money | None = None
    over_short: Money | None = None


class SessionReport(msgspec.Struct, frozen=True, kw_only=True):
    """The X report of an open drawer, the Z report of a closed one."""

    id: str
    register_id: str
    state: str
    opened_at: datetime
    opened_by: str
    opening_float: Money
    tenders: list[TenderReport]
    sales: Money
    sales_count: int
    returns: Money
    cash_in: Money
    cash_out: Money
    closed_at: datetime | None = None
    closed_by: str | None = None


@route(
    "GET",
    "/v1/registers",
    permission=Permission.TILL,
    query=RegisterSearch,
    answer=Page[RegisterView],
    codes=("invalid_cursor",),
)
async def list_registers(call: Call) -> Page[RegisterView]:
    """The tills of the caller's location, or of all."""
    wanted = call.query(RegisterSearch)
    async with call.database.connection() as db:
        found = await payments.list_registers(db, location_id=call.principal.location_id)
    page, next_cursor = cut(found, wanted, id_of=lambda register: register.id)
    return Page(data=[_register(each) for each in page], next_cursor=next_cursor)


@route(
    "POST",
    "/v1/registers",
    permission=Permission.LOCATIONS_WRITE,
    body=NewRegister,
    answer=RegisterView,
    status=201,
    codes=("name_taken",),
)
async def create_register(call: Call) -> Answer:
    """Set up a till."""
    given = await call.read(NewRegister)
    register = payments.Register(id=ids.new(), location_id=call.id("loc", given.location_id), name=given.name)

    async def work(db: Connection, now: datetime) -> RegisterView:
        await inventory.read_location(db, location_id=register.location_id)
        await payments.create_register(db, register, now=now)
        return _register(register)

    return await call.once(work, status=201)


@route(
    "PATCH",
    "/v1/registers/{register_id}",
    permission=Permission.LOCATIONS_WRITE,
    body=RegisterChange,
    answer=RegisterView,
    codes=("name_taken",),
)
async def rename_register(call: Call, register_id: UUID) -> RegisterView:
    """Give a till another name."""
    async with call.asking_first(lambda db: _register_here(call, db, register_id)):
        given = await call.read(RegisterChange)

    async def work(db: Connection, _: datetime) -> RegisterView:
        register = await payments.rename_register(db, register_id=register_id, name=given.name)
        call.audited(ids.show("reg", register_id), fields=["name"])
        return _register(register)

    return await call.transact(work)


@route(
    "POST",
    "/v1/registers/{register_id}/sessions",
    permission=Permission.TILL,
    body=Opening,
    answer=SessionReport,
    status=201,
    needs_key=True,
    codes=("session_already_open",),
)
async def open_session(call: Call, register_id: UUID) -> Answer:
    """Open the drawer with a float."""
    currency = call.principal.sales_channel.currency

    async def is_closed(db: Connection) -> None:
        await _register_here(call, db, register_id)
        with suppress(payments.NoOpenSession):
            await payments.read_open_session(db, register_id=register_id)
            raise payments.SessionAlreadyOpen(register_id)

    async with call.asking_first(is_closed):
        given = await call.read(Opening)
        amount = in_currency(given.opening_float, currency, "/opening_float")

    async def work(db: Connection, now: datetime) -> SessionReport:
        await _register_here(call, db, register_id)
        session = await payments.open_session(
            db,
            session_id=ids.new(),
            register_id=register_id,
            opening_float_minor=amount,
            currency=currency,
            actor=call.actor.name,
            now=now,
        )
        return _report(session, amount, [], sales=0)

    return await call.once(work, status=201, subject=register_id, needs_key=True)


@route(
    "GET",
    "/v1/registers/{register_id}/sessions/current",
    permission=Permission.TILL,
    answer=SessionReport,
    codes=("no_open_session",),
)
async def get_session(call: Call, register_id: UUID) -> SessionReport:
    """The X report: what the drawer should hold now."""
    async with call.database.connection() as db:
        await _register_here(call, db, register_id)
        session = await payments.read_open_session(db, register_id=register_id)
        expected = await payments.read_drawer(db, session_id=session.id)
        taken = await payments.read_taken(db, session_id=session.id)
        return _report(session, expected, taken, sales=await payments.count_sales(db, session_id=session.id))


@route(
    "POST",
    "/v1/registers/{register_id}/sessions/current/close",
    permission=Permission.TILL,
    body=Closing,
    answer=SessionReport,
    needs_key=True,
    codes=("no_open_session",),
)
async def close_session(call: Call, register_id: UUID) -> Answer:
    """The Z report: the drawer is counted, emptied into the safe, and closed."""

    async def find_open(db: Connection) -> payments.Session:
        await _register_here(call, db, register_id)
        return await payments.read_open_session(db, register_id=register_id)

    async with call.asking_first(find_open):
        given = await call.read(Closing)

    async def work(db: Connection, now: datetime) -> SessionReport:
        opened = await find_open(db)
        session = await payments.close_session(
            db,
            register_id=register_id,
            closing_id=ids.new(),
            counted_minor=in_currency(given.counted, opened.currency, "/counted"),
            actor=call.actor.name,
            now=now,
        )
        taken = await payments.read_taken(db, session_id=session.id)
        sales = await payments.count_sales(db, session_id=session.id)
        return _report(session, session.expected_minor or 0, taken, sales=sales)

    return await call.once(work, subject=register_id, needs_key=True)


async def _register_here(call: Call, db: Connection, register_id: UUID) -> None:
    await payments.read_register(db, register_id=register_id, location_id=call.principal.location_id)


def _register(register: payments.Register) -> RegisterView:
    return RegisterView(
        id=ids.show("reg", register.id), location_id=ids.show("loc", register.location_id), name=register.name
    )


def _report(session: payments.Session, in_drawer: int, taken: Sequence[payments.Taken], *, sales: int) -> SessionReport:
    def money(amount: int) -> Money:
        return Money(amount, session.currency)

    counted = session.counted_minor
    cash = TenderReport(
        type="cash",
        expected=money(in_drawer),
        counted=None if counted is None else money(counted),
        over_short=None if counted is None else money(counted - in_drawer),
    )
    others = [
        TenderReport(type=each.tender, expected=money(each.taken_minor - each.refunded_minor))
        for each in taken
        if each.tender != "cash"
    ]
    return SessionReport(
        id=ids.show("ses", session.id),
        register_id=ids.show("reg", session.register_id),
        state="open" if session.closed_at is None else "closed",
        opened_at=session.opened_at,
        opened_by=session.opened_by,
        opening_float=money(session.opening_float_minor),
        tenders=[cash, *others],
        sales=money(sum(each.taken_minor for each in taken)),
        sales_count=sales,
        returns=money(sum(each.refunded_minor for each in taken)),
        cash_in=money(0),
        cash_out=money(0),
        closed_at=session.closed_at,
        closed_by=session.closed_by,
    )


ROUTES = (list_registers, create_register, rename_register, open_session, get_session, close_session)
