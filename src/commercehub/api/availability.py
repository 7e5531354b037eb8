"""What can be had where: one read for any number of SKUs."""

from collections.abc import Collection, Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import ids
from commercehub.api.call import Call
from commercehub.api.fields import BATCH_MAX, Id, Page, Sku
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import catalog


class AvailabilitySearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SKUs, each as often as wanted, at all locations or at one."""

    sku: Annotated[list[Sku], Meta(min_length=1, max_length=100)]
    location_id: Id | None = None


class AvailabilityQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SKUs, at all locations or at some."""

    skus: Annotated[list[Sku], Meta(min_length=1, max_length=BATCH_MAX)]
    location_ids: Annotated[list[Id], Meta(min_length=1, max_length=BATCH_MAX)] | None = None


class LocationAvailability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a location has. ``on_hand`` and ``reserved`` are for secret keys."""

    location_id: str
    available: int
    on_hand: int | None = None
    reserved: int | None = None


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """What can be had of a SKU, after safety stock: sent, fetched, and where it lies. ``sku`` is as the catalog has it."""

    sku: str
    available_to_ship: int
    available_for_pickup: int
    locations: list[LocationAvailability]


@route(
    "GET",
    "/v1/availability",
    permission=Permission.AVAILABILITY_READ,
    query=AvailabilitySearch,
    answer=Page[Availability],
)
async def get_availability(call: Call) -> Page[Availability]:
    """Some SKUs, whatever their case, as they are in this moment."""
    wanted = call.query(AvailabilitySearch)
    location_ids = [call.id("loc", wanted.location_id)] if wanted.location_id else None
    return await _read(call, wanted.sku, location_ids)


@route(
    "POST",
    "/v1/availability/query",
    permission=Permission.AVAILABILITY_READ,
    body=AvailabilityQuery,
    answer=Page[Availability],
)
async def query_availability(call: Call) -> Page[Availability]:
    """Hundreds of SKUs at once."""
    wanted = await call.read(AvailabilityQuery)
    location_ids = None if wanted.location_ids is None else [call.id("loc", each) for each in wanted.location_ids]
    return await _read(call, wanted.skus, location_ids)


async def _read(call: Call, skus: Sequence[str], location_ids: Sequence[UUID] | None) -> Page[Availability]:
    async with call.database.connection() as db:
        levels = await inventory.read_levels(
            db, skus=skus, location_ids=location_ids, clock_offset=call.database.clock_offset
        )
        unknown = set(skus) - {level.sku for level in levels}
        if unknown:
            # Stock is kept under the SKU as the catalog spells it. Only where it is not found the catalog is asked.
            spelled = await spell(db, unknown)
            skus = [spelled.get(sku, sku) for sku in skus]
            if spelled:
                levels = await inventory.read_levels(
                    db, skus=skus, location_ids=location_ids, clock_offset=call.database.clock_offset
                )
    by_sku: dict[str, list[inventory.Level]] = {sku: [] for sku in skus}
    for level in levels:
        by_sku[level.sku].append(level)
    shows_all = call.principal.may(Permission.STOCK_READ)
    return Page(data=[_view(sku, found, shows_all=shows_all) for sku, found in by_sku.items()])


async def spell(db: Connection, skus: Collection[str]) -> dict[str, str]:
    """How the catalog spells the SKUs of these that it spells in another way."""
    known = await catalog.find_skus(db, skus=sorted(skus))
    found = {sku: known[catalog.folded(sku)].sku for sku in skus if catalog.folded(sku) in known}
    return {sku: spelling for sku, spelling in found.items() if spelling != sku}


def _view(sku: str, levels: Sequence[inventory.Level], *, shows_all: bool) -> Availability:
    return Availability(
        sku=sku,
        available_to_ship=sum(level.available for level in levels if "ship" in level.capabilities),
        available_for_pickup=sum(level.available for level in levels if "pickup" in level.capabilities),
        locations=[
            LocationAvailability(
                location_id=ids.show("loc", level.location_id),
                available=level.available,
                on_hand=level.on_hand if shows_all else None,
                reserved=level.reserved if shows_all else None,
            )
            for level in levels
        ],
    )


ROUTES = (get_availability, query_availability)
