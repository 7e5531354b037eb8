"""Catalogs by the file: sent at once, brought in by a job, asked after by its operation."""

import asyncio
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import Problem, not_found
from commercehub.api.fields import Currency, Id
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import shopify
from commercehub.sales.csv_records import UnreadableFile
from commercehub.workflows import importing
from commercehub.workflows.importing import Import, Operation

FILE_BYTES_MAX: Final = 32 * 1024 * 1024


class ImportOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file is, its currency, and where the quantities lie."""

    currency: Currency
    location_id: Id
    format: Literal["shopify"] = "shopify"


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of variants and refused rows."""

    read: int
    created: int
    changed: int


class RefusedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was not taken, by the line it begins at."""

    line: int
    reason: str


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """Something long that was begun."""

    id: str
    state: Literal["running", "succeeded", "failed"]
    rows: Rows
    refused: Annotated[list[RefusedRow], Meta(description="the first thousand")]
    error: str | None = None


@route(
    "POST",
    "/v1/imports/products",
    permission=Permission.CATALOG_WRITE,
    query=ImportOptions,
    answer=OperationView,
    status=202,
    codes=("unreadable_file",),
    body_bytes_max=FILE_BYTES_MAX,
)
async def import_products(call: Call) -> Answer:
    """Bring in a product file, which is the body. Sent again, nothing changes."""
    wanted = call.query(ImportOptions)
    location_id = call.id("loc", wanted.location_id)
    async with call.asking_first(lambda db: inventory.read_location(db, location_id=location_id)):
        payload = await call.request.body()
        try:
            await asyncio.to_thread(shopify.read, payload, currency=wanted.currency)
        except UnreadableFile as error:
            raise Problem("unreadable_file", str(error)) from error
    request = Import(currency=wanted.currency, location_id=location_id, actor=call.actor)

    async def work(db: Connection, now: datetime) -> OperationView:
        await inventory.read_location(db, location_id=location_id)
        operation_id = await importing.open_import(db, request, payload, now=now)
        return OperationView(
            id=ids.show("op", operation_id),
            state="running",
            rows=Rows(read=0, created=0, changed=0),
            refused=[],
        )

    return await call.once(work, status=202)


@route("GET", "/v1/operations/{operation_id}", permission=Permission.CATALOG_WRITE, answer=OperationView)
async def get_operation(call: Call, operation_id: UUID) -> OperationView:
    """How far it is."""
    async with call.database.connection() as db:
        found = await importing.read_operation(db, operation_id=operation_id)
    if found is None:
        raise not_found()
    return _view(found)


def _view(found: Operation) -> OperationView:
    return OperationView(
        id=ids.show("op", found.id),
        state=msgspec.convert(found.state, Literal["running", "succeeded", "failed"]),
        rows=Rows(read=found.rows_read, created=found.rows_created, changed=found.rows_changed),
        refused=[RefusedRow(line=each.line, reason=each.reason) for each in found.refused],
        error=found.error,
    )


ROUTES = (import_products, get_operation)
