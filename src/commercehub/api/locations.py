"""Places: listed by distance with what they can do, and set up."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import ids
from commercehub.api.availability import spell
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem
from commercehub.api.fields import END, PAGE_MAX, Country, Latitude, Limit, Longitude, Name, Page, Paging, cut
from commercehub.api.routing import route
from commercehub.auth import Permission

SKUS_MAX: Final = 20

Hours = Annotated[
    list[
        Annotated[
            list[Annotated[str, Meta(pattern="^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)" + END)]],
            Meta(min_length=2, max_length=2),
        ]
    ],
    Meta(max_length=6),
]
Capability = Literal["ship", "pickup", "returns", "till", "receive"]


class LocationAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the place is."""

    line1: Name
    city: Name
    country: Country
    line2: Name | None = None
    region: Name | None = None
    postal_code: Annotated[str, Meta(max_length=20)] | None = None
    name: Name | None = None


class OpeningHours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Local times for each day of the week; a day left out is closed."""

    mon: Hours = []
    tue: Hours = []
    wed: Hours = []
    thu: Hours = []
    fri: Hours = []
    sat: Hours = []
    sun: Hours = []


class Holiday(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A day with other hours; none is closed."""

    date: date
    hours: Hours = []


class NewLocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place to set up."""

    code: Annotated[str, Meta(min_length=1, max_length=20, pattern="^[A-Za-z0-9_.-]+" + END)]
    name: Name
    kind: Literal["warehouse", "store"]
    address: LocationAddress
    latitude: Latitude
    longitude: Longitude
    timezone: Annotated[str, Meta(max_length=60)]
    capabilities: Annotated[list[Capability], Meta(max_length=5)]
    opening_hours: OpeningHours = OpeningHours()
    holidays: Annotated[list[Holiday], Meta(max_length=400)] = []
    pickup_window_days: Annotated[int, Meta(ge=1, le=90)] = 7


class LocationChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different at a place; the rest stays."""

    name: Name | None = None
    address: LocationAddress | None = None
    capabilities: Annotated[list[Capability], Meta(max_length=5)] | None = None
    opening_hours: OpeningHours | None = None
    holidays: Annotated[list[Holiday], Meta(max_length=400)] | None = None
    pickup_window_days: Annotated[int, Meta(ge=1, le=90)] | None = None


class LocationView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A place. ``distance_km`` and ``can_fulfill`` answer what was asked for."""

    id: str
    code: str
    name: str
    kind: str
    address: dict[str, Any]
    latitude: float
    longitude: float
    timezone: str
    capabilities: list[str]
    opening_hours: dict[str, Any]
    holidays: list[Any]
    pickup_window_days: int
    distance_km: float | None = None
    can_fulfill: bool | None = None


class LocationSearch(Paging, frozen=True, kw_only=True):
    """``near`` is ``latitude,longitude``; ``sku`` is ``SKU`` or ``SKU:quantity``, as often as wanted."""

    limit: Limit = PAGE_MAX
    near: Annotated[str, Meta(max_length=60)] | None = None
    radius_km: Annotated[float, Meta(gt=0, le=20_100)] | None = None
    sku: Annotated[list[Annotated[str, Meta(min_length=1, max_length=80)]], Meta(max_length=SKUS_MAX)] = msgspec.field(
        default_factory=list
    )
    capability: Capability | None = None


@route(
    "GET",
    "/v1/locations",
    permission=Permission.CATALOG_READ,
    query=LocationSearch,
    answer=Page[LocationView],
    codes=("invalid_cursor",),
)
async def list_locations(call: Call) -> Page[LocationView]:
    """Places, the nearest first, each with whether it holds all of the wanted SKUs at once."""
    wanted = call.query(LocationSearch)
    near = _point(wanted.near)
    if wanted.radius_km is not None and near is None:
        raise _wrong("?radius_km", "A radius needs a point: give near.")
    lines = [_wanted(text) for text in wanted.sku]
    async with call.database.connection() as db:
        spelled = await spell(db, {sku for sku, _ in lines}) if lines else {}
        found = await inventory.search_locations(
            db,
            near=near,
            radius_km=wanted.radius_km,
            capability=wanted.capability,
            wanted=[(spelled.get(sku, sku), quantity) for sku, quantity in lines],
            clock_offset=call.database.clock_offset,
        )
    page, next_cursor = cut(found, wanted, id_of=lambda each: each.location.id)
    return Page(
        data=[_view(each.location, each.distance_km, each.can_fulfill) for each in page], next_cursor=next_cursor
    )


@route("GET", "/v1/locations/{location_id}", permission=Permission.CATALOG_READ, answer=LocationView)
async def get_location(call: Call, location_id: UUID) -> LocationView:
    """One place."""
    async with call.database.connection() as db:
        return _view(await inventory.read_location(db, location_id=location_id))


@route(
    "POST",
    "/v1/locations",
    permission=Permission.LOCATIONS_WRITE,
    body=NewLocation,
    answer=LocationView,
    status=201,
    codes=("code_taken",),
)
async def create_location(call: Call) -> Answer:
    """Set up a place."""
    given = await call.read(NewLocation)
    try:
        ZoneInfo(given.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _wrong("/timezone", "Use a name from the IANA time zone database.") from error
    location = inventory.Location(
        id=ids.new(),
        code=given.code,
        name=given.name,
        kind=given.kind,
        address=msgspec.to_builtins(given.address),
        latitude=given.latitude,
        longitude=given.longitude,
        timezone=given.timezone,
        capabilities=tuple(dict.fromkeys(given.capabilities)),
        opening_hours=msgspec.to_builtins(given.opening_hours),
        holidays=msgspec.to_builtins(given.holidays),
        pickup_window_days=given.pickup_window_days,
    )

    async def work(db: Connection, now: datetime) -> LocationView:
        await inventory.create_location(db, location, now=now)
        return _view(location)

    return await call.once(work, status=201)


@route(
    "PATCH",
    "/v1/locations/{location_id}",
    permission=Permission.LOCATIONS_WRITE,
    body=LocationChange,
    answer=LocationView,
)
async def change_location(call: Call, location_id: UUID) -> LocationView:
    """Change hours, holidays, capabilities, address, name, or for how long goods are kept for pickup."""
    async with call.asking_first(lambda db: inventory.read_location(db, location_id=location_id)):
        given = await call.read(LocationChange)
    changes: dict[str, Any] = {
        name: msgspec.to_builtins(value) for name, value in msgspec.structs.asdict(given).items() if value is not None
    }
    if given.capabilities is not None:
        changes["capabilities"] = tuple(dict.fromkeys(given.capabilities))

    async def work(db: Connection, _: datetime) -> LocationView:
        place = await inventory.read_location(db, location_id=location_id)
        changed = msgspec.structs.replace(place, **changes)
        await inventory.change_location(db, changed)
        call.audited(ids.show("loc", location_id), fields=sorted(changes))
        return _view(changed)

    return await call.transact(work)


def _point(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError as error:
        raise _wrong("?near", "Give latitude,longitude in degrees.") from error
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise _wrong("?near", "There is no such place on earth.")
    return latitude, longitude


def _wanted(text: str) -> tuple[str, int]:
    """The last colon splits where digits follow, so that a SKU may have colons itself."""
    sku, colon, digits = text.rpartition(":")
    if not colon or not (digits.isascii() and digits.isdecimal()):
        return text, 1
    if not sku or len(digits) > 7 or int(digits) < 1:
        raise _wrong("?sku", "Give SKU:quantity.")
    return sku, int(digits)


def _wrong(pointer: str, detail: str) -> Problem:
    return Problem("invalid_request", detail, errors=[FieldError(pointer=pointer, detail=detail)])


def _view(
    place: inventory.Location,
    distance_km: float | None = None,
    can_fulfill: bool | None = None,  # noqa: FBT001
) -> LocationView:
    holidays: Sequence[object] = place.holidays
    return LocationView(
        id=ids.show("loc", place.id),
        code=place.code,
        name=place.name,
        kind=place.kind,
        address=dict(place.address),
        latitude=place.latitude,
        longitude=place.longitude,
        timezone=place.timezone,
        capabilities=list(place.capabilities),
        opening_hours=dict(place.opening_hours),
        holidays=list(holidays),
        pickup_window_days=place.pickup_window_days,
        distance_km=None if distance_km is None else round(distance_km, 2),
        can_fulfill=can_fulfill,
    )


ROUTES = (list_locations, get_location, create_location, change_location)
