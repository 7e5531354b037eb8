"""Staff: taken on with a role at some places, at work by password or PIN, and gone within five seconds."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import auth, ids
from commercehub.api.call import Answer, Call
from commercehub.api.customers import Password, SignedOut, end_own_session
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import END, Id, Name, Page, Paging, cut
from commercehub.api.routing import route
from commercehub.auth import Permission, Person, Role
from commercehub.workflows import signing_in

LOCATIONS_MAX: Final = 100
WORKS_EVERYWHERE: Final = frozenset({Role.SUPPORT, Role.ADMIN})
BELOW_A_MANAGER: Final = frozenset({Role.CASHIER, Role.PICKER})

Login = Annotated[str, Meta(min_length=2, max_length=100, pattern=r"^[\x21-\x7e]+" + END)]
Pin = Annotated[str, Meta(pattern="^[0-9]{4,8}" + END, description="4 to 8 digits, for a till or a scanner only")]
RoleName = Literal["cashier", "picker", "manager", "support", "admin"]
Places = Annotated[list[Id], Meta(max_length=LOCATIONS_MAX)]


class NewPerson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody to take on. All but ``support`` and ``admin`` work at named places."""

    login: Login
    name: Name
    role: RoleName
    password: Password
    pin: Pin | None = None
    location_ids: Places = []


class PersonChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; a new password or PIN ends the shifts that are on."""

    name: Name | None = None
    role: RoleName | None = None
    password: Password | None = None
    pin: Pin | None = None
    location_ids: Places | None = None


class ShiftStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sign-in: by password, or at a till or a scanner by PIN."""

    login: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(min_length=1, max_length=auth.PASSWORD_CHARACTERS_MAX)] | None = None
    pin: Annotated[str, Meta(min_length=1, max_length=8)] | None = None
    location_id: Id | None = None


class StaffSearch(Paging, frozen=True, kw_only=True):
    """The part of the list that is wanted."""


class PersonView(msgspec.Struct, frozen=True, kw_only=True):
    """A member of staff."""

    id: str
    login: str
    name: str
    role: RoleName
    location_ids: list[str]
    has_pin: bool
    ended_at: datetime | None


class ShiftView(msgspec.Struct, frozen=True, kw_only=True):
    """A shift. Its token ends by itself after twelve hours."""

    access_token: str
    expires_at: datetime
    staff: PersonView
    location_id: str | None
    token_type: str = "Bearer"  # noqa: S105 - the word of RFC 6750


@route(
    "POST",
    "/v1/staff/sessions",
    permission=Permission.STAFF_SIGN_IN,
    body=ShiftStart,
    answer=ShiftView,
    status=201,
    codes=("invalid_credentials", "wrong_location", "not_found", "rate_limited", "busy"),
)
async def start_shift(call: Call) -> ShiftView:
    """Begin a shift on a till, a scanner or in an office. Ignores Idempotency-Key."""
    given = await call.read(ShiftStart)
    if (given.password is None) == (given.pin is None):
        raise _wrong("/password", "Give password or pin, one of the two.")
    if given.pin is not None and call.principal.location_id is None:
        raise _wrong("/pin", "A PIN is for a till or a scanner, which stands at a place. Give the password.")
    shift = await signing_in.sign_staff_in(
        call.database,
        login=given.login,
        password=given.password,
        pin=given.pin,
        location_id=call.id("loc", given.location_id) if given.location_id else None,
        through=call.principal,
    )
    return ShiftView(
        access_token=shift.tokens.access_token,
        expires_at=shift.tokens.access_ends_at,
        staff=_view(shift.person),
        location_id=ids.show("loc", shift.location_id) if shift.location_id else None,
    )


@route(
    "DELETE",
    "/v1/staff/sessions/current",
    permission=Permission.SIGN_OUT,
    answer=SignedOut,
    codes=("not_found",),
)
async def end_shift(call: Call) -> SignedOut:
    """End the shift."""
    return await end_own_session(call)


@route(
    "GET",
    "/v1/staff",
    permission=Permission.STAFF,
    query=StaffSearch,
    answer=Page[PersonView],
    codes=("invalid_cursor",),
)
async def list_staff(call: Call) -> Page[PersonView]:
    """Everybody who works or worked here; for a manager, at their own place."""
    wanted = call.query(StaffSearch)
    async with call.database.connection() as db:
        found = [each for each in await auth.list_people(db) if _is_seen(call, each)]
    page, next_cursor = cut(found, wanted, id_of=lambda person: person.id)
    return Page(data=[_view(each) for each in page], next_cursor=next_cursor)


@route("GET", "/v1/staff/{staff_id}", permission=Permission.STAFF, answer=PersonView)
async def get_person(call: Call, staff_id: UUID) -> PersonView:
    """One member of staff."""
    async with call.database.connection() as db:
        return _view(await _see(call, db, staff_id))


@route(
    "POST",
    "/v1/staff",
    permission=Permission.STAFF,
    body=NewPerson,
    answer=PersonView,
    status=201,
    codes=("login_taken", "not_found", "busy"),
)
async def create_person(call: Call) -> Answer:
    """Take somebody on. A manager takes on cashiers and pickers for the manager's own place."""
    given = await call.read(NewPerson)
    person = Person(
        id=ids.new(),
        login=given.login,
        name=given.name,
        role=given.role,
        location_ids=_places(call, given.location_ids),
        password_hash=await auth.hash_password(given.password),
        pin_hash=await auth.hash_password(given.pin) if given.pin is not None else None,
        ended_at=None,
    )
    _check(call, person)

    async def work(db: Connection, now: datetime) -> PersonView:
        await _places_exist(db, person)
        await auth.create_person(db, person, now=now)
        call.audited(ids.show("staff", person.id), role=given.role, location_ids=given.location_ids)
        return _view(person)

    return await call.once(work, status=201)


@route(
    "PATCH",
    "/v1/staff/{staff_id}",
    permission=Permission.STAFF,
    body=PersonChange,
    answer=PersonView,
    codes=("busy",),
)
async def change_person(call: Call, staff_id: UUID) -> PersonView:
    """Change role, places, name or secrets. What was taken away is gone within five seconds."""
    async with call.asking_first(lambda db: _see(call, db, staff_id)):
        given = await call.read(PersonChange)
    # Hashed before anything is locked; what a person is, is read where it is written.
    secrets = {
        name: await auth.hash_password(secret)
        for name, secret in (("password_hash", given.password), ("pin_hash", given.pin))
        if secret is not None
    }

    async def work(db: Connection, now: datetime) -> PersonView:
        known = await _lock(call, db, staff_id)
        person = msgspec.structs.replace(
            known,
            name=given.name or known.name,
            role=given.role or known.role,
            location_ids=known.location_ids if given.location_ids is None else _places(call, given.location_ids),
            **secrets,
        )
        _check(call, person)
        await _places_exist(db, person)
        await auth.update_person(db, person)
        if secrets:
            await auth.end_sessions_of(db, subject_id=staff_id, now=now)
        call.audited(
            ids.show("staff", staff_id),
            fields=sorted(field for field, value in msgspec.structs.asdict(given).items() if value is not None),
            role=given.role,
            location_ids=given.location_ids,
        )
        return _view(person)

    return await call.transact(work)


@route("DELETE", "/v1/staff/{staff_id}", permission=Permission.STAFF, answer=PersonView)
async def end_person(call: Call, staff_id: UUID) -> PersonView:
    """Somebody leaves: every shift of theirs is over within five seconds."""

    async def work(db: Connection, now: datetime) -> PersonView:
        person = await _lock(call, db, staff_id)
        await auth.end_person(db, staff_id=staff_id, now=now)
        await auth.end_sessions_of(db, subject_id=staff_id, now=now)
        call.audited(ids.show("staff", staff_id), ended=True)
        return _view(msgspec.structs.replace(person, ended_at=now))

    return await call.transact(work)


async def _see(call: Call, db: Connection, staff_id: UUID) -> Person:
    person = await auth.read_person(db, staff_id=staff_id)
    if person is None or not _is_seen(call, person):
        raise not_found()
    return person


async def _lock(call: Call, db: Connection, staff_id: UUID) -> Person:
    """Somebody whom the caller has a say over, as they are until this transaction ends."""
    person = await auth.lock_person(db, staff_id=staff_id)
    if person is None or not _is_seen(call, person):
        raise not_found()
    _check(call, person)
    return person


def _is_seen(call: Call, person: Person) -> bool:
    place = call.principal.location_id
    return place is None or place in person.location_ids


def _check(call: Call, person: Person) -> None:
    """Nobody gives away more than they have themselves, and everybody works somewhere."""
    for pointer, code, detail in _faults(call, person):
        if code == "forbidden":
            raise Problem(code, detail)
        raise _wrong(pointer, detail)


def _faults(call: Call, person: Person) -> Iterator[tuple[str, str, str]]:
    role = Role(person.role)
    if call.principal.role is Role.MANAGER:
        if role not in BELOW_A_MANAGER:
            yield "/role", "forbidden", "A manager has a say over cashiers and pickers."
        if set(person.location_ids) != {call.principal.location_id}:
            yield (
                "/location_ids",
                "forbidden",
                "A manager has a say over those who work at the manager's own place alone.",
            )
    if role is Role.ADMIN and person.location_ids:
        yield "/location_ids", "invalid_request", "An admin works everywhere."
    if role not in WORKS_EVERYWHERE and not person.location_ids:
        yield "/location_ids", "invalid_request", f"Name the places that a {role.value} works at."


def _places(call: Call, given: list[str]) -> tuple[UUID, ...]:
    return tuple(dict.fromkeys(call.id("loc", each) for each in given))


async def _places_exist(db: Connection, person: Person) -> None:
    for location_id in person.location_ids:
        await inventory.read_location(db, location_id=location_id)


def _wrong(pointer: str, detail: str) -> Problem:
    return Problem("invalid_request", detail, errors=[FieldError(pointer=pointer, detail=detail)])


def _view(person: Person) -> PersonView:
    return PersonView(
        id=ids.show("staff", person.id),
        login=person.login,
        name=person.name,
        role=msgspec.convert(person.role, RoleName),
        location_ids=[ids.show("loc", each) for each in person.location_ids],
        has_pin=person.pin_hash is not None,
        ended_at=person.ended_at,
    )


ROUTES = (start_shift, end_shift, list_staff, get_person, create_person, change_person, end_person)
