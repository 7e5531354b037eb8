"""Devices: a till or a scanner that was paired with a place by a code, and works there until it is retired."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import auth, ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import Problem, not_found
from commercehub.api.fields import Id, Name, Page, Paging, cut
from commercehub.api.routing import route
from commercehub.auth import Device, Permission
from commercehub.workflows import signing_in

DeviceRole = Literal["till", "fulfillment"]


class NewDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device that is to be paired."""

    name: Name
    location_id: Id
    role: DeviceRole = "till"


class Pairing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The code that the device was given."""

    code: Annotated[str, Meta(min_length=1, max_length=20)]


class DeviceSearch(Paging, frozen=True, kw_only=True):
    """The part of the list that is wanted."""


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """A device. ``pairing_code`` is shown once, when it is made."""

    id: str
    name: str
    role: DeviceRole
    location_id: str
    ended_at: datetime | None = None
    pairing_code: str | None = None
    pairing_expires_at: datetime | None = None


class PairedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that was just paired; its token is shown this once."""

    access_token: str
    expires_at: datetime
    device: DeviceView
    token_type: str = "Bearer"  # noqa: S105 - the word of RFC 6750


@route(
    "GET",
    "/v1/devices",
    permission=Permission.STAFF,
    query=DeviceSearch,
    answer=Page[DeviceView],
    codes=("invalid_cursor",),
)
async def list_devices(call: Call) -> Page[DeviceView]:
    """The devices of the caller's place, or of all."""
    wanted = call.query(DeviceSearch)
    async with call.database.connection() as db:
        found = await auth.list_devices(db, location_id=call.principal.location_id)
    page, next_cursor = cut(found, wanted, id_of=lambda device: device.id)
    return Page(data=[_view(each) for each in page], next_cursor=next_cursor)


@route(
    "POST",
    "/v1/devices",
    permission=Permission.STAFF,
    body=NewDevice,
    answer=DeviceView,
    status=201,
    codes=("secret_already_shown", "not_found"),
)
async def create_device(call: Call) -> Answer:
    """Make a code that a device pairs itself with, within a quarter of an hour."""
    given = await call.read(NewDevice)
    device = Device(id=ids.new(), name=given.name, role=given.role, location_id=call.id("loc", given.location_id))
    if call.principal.location_id not in {None, device.location_id}:
        raise not_found()

    async def work(db: Connection, now: datetime) -> DeviceView:
        await inventory.read_location(db, location_id=device.location_id)
        code, ends_at = await auth.offer_pairing(db, device=device, now=now)
        call.audited(ids.show("dev", device.id), role=device.role, location_id=given.location_id)
        return msgspec.structs.replace(_view(device), pairing_code=code, pairing_expires_at=ends_at)

    answer = await call.once(work, status=201, conceal=lambda made: msgspec.structs.replace(made, pairing_code=None))
    if answer.body is not None:
        detail = "A pairing code is shown once. Retire the device and make another with a new Idempotency-Key."
        raise Problem("secret_already_shown", detail, facts={"id": msgspec.json.decode(answer.body)["id"]})
    return answer


@route(
    "POST",
    "/v1/devices/pair",
    permission=Permission.PUBLIC,
    body=Pairing,
    answer=PairedDevice,
    status=201,
    codes=("not_found", "rate_limited"),
)
async def pair_device(call: Call) -> PairedDevice:
    """Exchange a pairing code for the device's token. A code works once."""
    given = await call.read(Pairing)
    client = call.request.client
    paired = await signing_in.pair_device(call.database, code=given.code, address=client.host if client else "")
    if paired is None:
        raise not_found()
    device, tokens = paired
    return PairedDevice(access_token=tokens.access_token, expires_at=tokens.access_ends_at, device=_view(device))


@route("DELETE", "/v1/devices/{device_id}", permission=Permission.STAFF, answer=DeviceView)
async def end_device(call: Call, device_id: UUID) -> DeviceView:
    """Retire a device, or report it lost: its token is out within five seconds."""

    async def work(db: Connection, now: datetime) -> DeviceView:
        device = await auth.read_device(db, device_id=device_id)
        if device is None or call.principal.location_id not in {None, device.location_id}:
            raise not_found()
        if not await auth.end_device(db, device_id=device_id, now=now):
            raise not_found()
        await auth.end_sessions_of(db, subject_id=device_id, now=now)
        call.audited(ids.show("dev", device_id), ended=True)
        return _view(msgspec.structs.replace(device, ended_at=now))

    return await call.transact(work)


def _view(device: Device) -> DeviceView:
    return DeviceView(
        id=ids.show("dev", device.id),
        name=device.name,
        role=msgspec.convert(device.role, DeviceRole),
        location_id=ids.show("loc", device.location_id),
        ended_at=device.ended_at,
    )


ROUTES = (list_devices, create_device, pair_device, end_device)
