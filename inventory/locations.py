"""Places where stock lies and work is done: warehouses and stores, told apart by what they can do."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection, Record

from inventory.errors import LocationCodeTaken, LocationNotFound

LOCATIONS_MAX: Final = 2_000
"""How many locations one read answers; distance is computed over all of them."""


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """A place. ``opening_hours`` maps ``mon`` … ``sun`` to pairs of local times."""

    id: UUID
    code: str
    name: str
    kind: str
    address: Mapping[str, object]
    latitude: float
    longitude: float
    timezone: str
    capabilities: tuple[str, ...]
    opening_hours: Mapping[str, object]
    holidays: Sequence[object]
    pickup_window_days: int


class Nearby(msgspec.Struct, frozen=True, kw_only=True):
    """A place, how far it is, and whether it holds all that is wanted at once."""

    location: Location
    distance_km: float | None
    can_fulfill: bool | None


_COLUMNS: Final = """id, code, name, kind, address, latitude, longitude, timezone, capabilities, opening_hours,
    holidays, pickup_window_days"""

CREATE = f"""
INSERT INTO inventory.locations ({_COLUMNS}, created_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $9::text[], $10::jsonb, $11::jsonb, $12, $13)
"""

CHANGE = """
UPDATE inventory.locations
SET name = $2, address = $3::jsonb, capabilities = $4::text[], opening_hours = $5::jsonb, holidays = $6::jsonb,
    pickup_window_days = $7
WHERE id = $1
"""

READ = f"SELECT {_COLUMNS} FROM inventory.locations WHERE id = $1"

READ_MANY = f"SELECT {_COLUMNS} FROM inventory.locations WHERE id = ANY ($1::uuid[])"

READ_BY_CODE = f"SELECT {_COLUMNS} FROM inventory.locations WHERE lower(code) = lower($1)"

# Distance by the haversine formula on a sphere of 6,371 km: no extension, and a shop has thousands of places at most.
SEARCH = f"""
SELECT {_COLUMNS}, distance_km,
       CASE WHEN cardinality($5::text[]) = 0 THEN NULL ELSE (
           SELECT bool_and(coalesce(position.on_hand - position.reserved + coalesce(expired.quantity, 0)
                                    - position.safety_stock + position.backorder_limit, 0) >= wanted.quantity)
           FROM (
               SELECT sku, sum(quantity) AS quantity FROM unnest($5::text[], $6::bigint[]) AS line (sku, quantity)
               GROUP BY sku
           ) AS wanted
           LEFT JOIN inventory.positions AS position
               ON position.sku = wanted.sku AND position.location_id = place.id
           LEFT JOIN LATERAL (
               SELECT sum(quantity)::bigint AS quantity FROM inventory.reservations
               WHERE sku = wanted.sku AND location_id = place.id AND state = 'open' AND expires_at <= now() + $7::interval
           ) AS expired ON true
       ) END AS can_fulfill
FROM (
    SELECT *, CASE WHEN $1::float8 IS NULL THEN NULL ELSE
        12742 * asin(least(1, sqrt(
            power(sin(radians(latitude - $1) / 2), 2)
            + cos(radians($1)) * cos(radians(latitude)) * power(sin(radians(longitude - $2) / 2), 2)
        ))) END AS distance_km
    FROM inventory.locations
) AS place
WHERE ($3::float8 IS NULL OR distance_km <= $3)
  AND ($4::text IS NULL OR $4 = ANY (capabilities))
ORDER BY distance_km NULLS FIRST, lower(code)
LIMIT $8
"""


def _location(row: Record) -> Location:
    return Location(
        id=row["id"],
        code=row["code"],
        name=row["name"],
        kind=row["kind"],
        address=msgspec.json.decode(row["address"]),
        latitude=row["latitude"],
        longitude=row["longitude"],
        timezone=row["timezone"],
        capabilities=tuple(row["capabilities"]),
        opening_hours=msgspec.json.decode(row["opening_hours"]),
        holidays=msgspec.json.decode(row["holidays"]),
        pickup_window_days=row["pickup_window_days"],
    )


async def create_location(db: Connection, location: Location, *, now: datetime) -> None:
    """Add a place, or raise ``LocationCodeTaken``. Codes are unique ignoring case."""
    try:
        await db.execute(
            CREATE,
            location.id,
            location.code,
            location.name,
            location.kind,
            msgspec.json.encode(location.address).decode(),
            location.latitude,
            location.longitude,
            location.timezone,
            list(location.capabilities),
            msgspec.json.encode(location.opening_hours).decode(),
            msgspec.json.encode(location.holidays).decode(),
            location.pickup_window_days,
            now,
        )
    except asyncpg.UniqueViolationError as error:
        raise LocationCodeTaken(location.code) from error


async def change_location(db: Connection, location: Location) -> None:
    """Change what may change of a place: all but its code, its kind, where it stands and its clock."""
    await db.execute(
        CHANGE,
        location.id,
        location.name,
        msgspec.json.encode(location.address).decode(),
        list(location.capabilities),
        msgspec.json.encode(location.opening_hours).decode(),
        msgspec.json.encode(location.holidays).decode(),
        location.pickup_window_days,
    )


async def read_location(db: Connection, *, location_id: UUID) -> Location:
    """One place by its id, or raise ``LocationNotFound``."""
    row = await db.fetchrow(READ, location_id)
    if row is None:
        raise LocationNotFound(location_id)
    return _location(row)


async def read_locations(db: Connection, *, location_ids: Sequence[UUID]) -> dict[UUID, Location]:
    """Those of the places that there are, by id."""
    return {row["id"]: _location(row) for row in await db.fetch(READ_MANY, list(location_ids))}


async def find_by_code(db: Connection, *, code: str) -> Location | None:
    """One place by the code that people use, ignoring case."""
    row = await db.fetchrow(READ_BY_CODE, code)
    return _location(row) if row else None


async def search_locations(
    db: Connection,
    *,
    near: tuple[float, float] | None,
    radius_km: float | None,
    capability: str | None,
    wanted: Sequence[tuple[str, int]],
    clock_offset: timedelta = timedelta(),
) -> list[Nearby]:
    """Places by distance, each with whether it holds all wanted (SKU, quantity) at once after its safety stock."""
    latitude, longitude = near or (None, None)
    rows = await db.fetch(
        SEARCH,
        latitude,
        longitude,
        radius_km,
        capability,
        [sku for sku, _ in wanted],
        [quantity for _, quantity in wanted],
        clock_offset,
        LOCATIONS_MAX,
    )
    return [
        Nearby(location=_location(row), distance_km=row["distance_km"], can_fulfill=row["can_fulfill"]) for row in rows
    ]
