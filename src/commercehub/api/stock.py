"""Stock: what came in, what was corrected, and the ledger of it all."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import events, ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import (
    BATCH_MAX,
    Delta,
    Id,
    Page,
    Paging,
    Quantity,
    Sku,
    read_cursor,
    write_cursor,
)
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import catalog
from commercehub.workflows.announcing import stock_events


class ReceivedLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of a SKU that came in."""

    sku: Sku
    quantity: Quantity


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Goods that came in at a location. ``reference``: the delivery note, say."""

    location_id: Id
    lines: Annotated[list[ReceivedLine], Meta(min_length=1, max_length=BATCH_MAX)]
    reference: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class AdjustedLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A correction of what is on hand, and why."""

    sku: Sku
    delta: Delta
    reason: Literal["correction", "damaged", "lost", "found", "expired", "other"]


class Adjustment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Corrections at a location."""

    location_id: Id
    lines: Annotated[list[AdjustedLine], Meta(min_length=1, max_length=BATCH_MAX)]
    reference: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    """A position after a change."""

    sku: str
    location_id: str
    on_hand: int
    reserved: int
    available: int
    version: int


class MovementSearch(Paging, frozen=True, kw_only=True):
    """What to look for; all that is given has to fit."""

    sku: Sku | None = None
    location_id: Id | None = None


class MovementView(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the stock ledger: ``balance`` is what the bucket held after it."""

    id: int
    sku: str
    location_id: str
    delta: int
    bucket: str
    kind: str
    reason: str | None
    reference: str | None
    actor: str
    channel: str
    balance: int
    occurred_at: datetime
    recorded_at: datetime


@route(
    "POST",
    "/v1/stock/receipts",
    permission=Permission.STOCK_WRITE,
    body=Receipt,
    answer=Page[PositionView],
    status=201,
    needs_key=True,
    codes=("unknown_variant",),
)
async def receive(call: Call) -> Answer:
    """Goods came in: they are on hand, with a movement for each line."""
    given = await call.read(Receipt)
    location_id = _location(call, given.location_id)
    lines = [(line.sku, line.quantity, "receipt", None) for line in given.lines]
    return await _move(call, location_id, lines, given.reference)


@route(
    "POST",
    "/v1/stock/adjustments",
    permission=Permission.STOCK_WRITE,
    body=Adjustment,
    answer=Page[PositionView],
    status=201,
    needs_key=True,
    codes=("unknown_variant", "insufficient_stock"),
)
async def adjust(call: Call) -> Answer:
    """What is on hand was wrong: all corrections are made or none."""
    given = await call.read(Adjustment)
    location_id = _location(call, given.location_id)
    for position, line in enumerate(given.lines):
        if line.delta == 0:
            where = FieldError(pointer=f"/lines/{position}/delta", detail="A correction changes something.")
            raise Problem("invalid_request", where.detail, errors=[where])
    lines = [(line.sku, line.delta, "adjustment", line.reason) for line in given.lines]
    return await _move(call, location_id, lines, given.reference)


@route(
    "GET",
    "/v1/stock/movements",
    permission=Permission.STOCK_READ,
    query=MovementSearch,
    answer=Page[MovementView],
    codes=("invalid_cursor",),
)
async def list_movements(call: Call) -> Page[MovementView]:
    """The stock ledger, newest first."""
    wanted = call.query(MovementSearch)
    async with call.database.connection() as db:
        found = await inventory.list_movements(
            db,
            sku=wanted.sku,
            location_id=call.id("loc", wanted.location_id) if wanted.location_id else None,
            before_id=read_cursor(wanted.cursor, int),
            limit=wanted.limit + 1,
        )
    page = found[: wanted.limit]
    return Page(
        data=[
            MovementView(
                id=each.id,
                sku=each.sku,
                location_id=ids.show("loc", each.location_id),
                delta=each.delta,
                bucket=each.bucket,
                kind=each.kind,
                reason=each.reason,
                reference=each.reference,
                actor=each.actor,
                channel=each.channel,
                balance=each.balance,
                occurred_at=each.occurred_at,
                recorded_at=each.recorded_at,
            )
            for each in page
        ],
        next_cursor=write_cursor(page[-1].id) if len(found) > wanted.limit else None,
    )


def _location(call: Call, text: str) -> UUID:
    """The location to work at; one that the caller is not bound to is not known to it."""
    location_id = call.id("loc", text)
    if call.principal.location_id not in {None, location_id}:
        raise not_found()
    return location_id


async def _move(
    call: Call, location_id: UUID, lines: Sequence[tuple[str, int, str, str | None]], reference: str | None
) -> Answer:
    actor = call.actor

    async def work(db: Connection, now: datetime) -> Page[PositionView]:
        await inventory.read_location(db, location_id=location_id)
        known = await catalog.find_skus(db, skus=[sku for sku, _, _, _ in lines])
        moves = []
        for position, (sku, delta, kind, reason) in enumerate(lines):
            found = known.get(catalog.folded(sku))
            if found is None:
                where = FieldError(pointer=f"/lines/{position}/sku", detail="No variant has this SKU.")
                raise Problem("unknown_variant", f"No variant has {sku!r}.", errors=[where])
            moves.append(
                inventory.Move(
                    sku=found.sku,
                    location_id=location_id,
                    delta=delta,
                    kind=kind,
                    reason=reason,
                    reference=reference,
                    actor=actor.name,
                    channel=actor.channel,
                )
            )
        changes = await inventory.move_stock(db, moves, now=now)
        await events.append(db, stock_events(changes, actor), now=now)
        return Page(
            data=[
                PositionView(
                    sku=change.sku,
                    location_id=ids.show("loc", change.location_id),
                    on_hand=change.on_hand,
                    reserved=change.reserved,
                    available=change.available,
                    version=change.version,
                )
                for change in changes
            ]
        )

    return await call.once(work, status=201, needs_key=True)


ROUTES = (receive, adjust, list_movements)
