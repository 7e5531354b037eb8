"""The fulfillment floor: what is to be done at a location, and each step of it."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import fulfillment
from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem
from commercehub.api.fields import (
    BATCH_MAX,
    Barcode,
    Id,
    Page,
    Paging,
    Quantity,
    Sku,
    read_barcode,
    read_cursor,
    write_cursor,
)
from commercehub.api.orders import till_of
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import catalog
from commercehub.sales.orders import Order
from commercehub.workflows import cancellation, pickup, shipping
from commercehub.workflows.shipping import Step
from fulfillment import Fulfillment, State

PARCELS_MAX: Final = 50
STEP_CODES: Final = ("invalid_transition", "version_conflict")


class FulfillmentLineView(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one order line."""

    line_id: str
    sku: str
    quantity: int
    picked: int
    bin: str | None = None


class ParcelView(msgspec.Struct, frozen=True, kw_only=True):
    """A parcel, and how to follow it."""

    weight_grams: int | None
    carrier: str | None
    tracking_number: str | None


class FulfillmentView(msgspec.Struct, frozen=True, kw_only=True):
    """Work at one location for one order. What opens a pickup is nowhere in it: the customer has that."""

    id: str
    order_id: str
    kind: str
    method: str
    state: str
    location_id: str
    version: int
    created_at: datetime
    lines: list[FulfillmentLineView]
    parcels: list[ParcelView]
    collect_by: datetime | None


class FulfillmentSearch(Paging, frozen=True, kw_only=True):
    """What to look for; all that is given has to fit."""

    location_id: Id | None = None
    order_id: Id | None = None
    state: Annotated[str, Meta(max_length=20)] | None = None
    kind: Literal["ship", "pickup"] | None = None


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step that needs no words."""


class Counted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units off the shelf, by SKU or as scanned."""

    sku: Sku | None = None
    barcode: Barcode | None = None
    quantity: Quantity


class Picked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every unit of the list, off the shelf."""

    lines: Annotated[list[Counted], Meta(min_length=1, max_length=BATCH_MAX)]


class ParcelInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parcel."""

    weight_grams: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None


class Packed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parcels; one of unknown weight unless said otherwise."""

    parcels: Annotated[list[ParcelInput], Meta(min_length=1, max_length=PARCELS_MAX)] = msgspec.field(
        default_factory=lambda: [ParcelInput()]
    )


class Shipped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who carries the parcels."""

    carrier: Annotated[str, Meta(min_length=1, max_length=80)] | None = None
    tracking_number: Annotated[str, Meta(min_length=1, max_length=80)] | None = None


class HandedOver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the customer shows or says."""

    code: Annotated[
        str, Meta(min_length=1, max_length=40, description="as it is written; case and dashes do not matter")
    ]


class CalledOff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why nobody will get it."""

    reason: Literal["customer_request", "out_of_stock", "fraud", "other"]
    register_id: Id | None = None


Do = Callable[[Connection, Step, Order, Fulfillment, datetime], Awaitable[Fulfillment]]


@route(
    "GET",
    "/v1/fulfillments",
    permission=Permission.FULFILL,
    query=FulfillmentSearch,
    answer=Page[FulfillmentView],
    codes=("invalid_cursor",),
)
async def list_fulfillments(call: Call) -> Page[FulfillmentView]:
    """Work at the caller's location, or everywhere, newest first."""
    wanted = call.query(FulfillmentSearch)
    location_id = call.id("loc", wanted.location_id) if wanted.location_id else None
    bound = call.principal.location_id
    if bound is not None and location_id not in {None, bound}:
        return Page(data=[])
    async with call.database.connection() as db:
        found = await fulfillment.list_fulfillments(
            db,
            location_id=bound or location_id,
            reference=call.id("ord", wanted.order_id) if wanted.order_id else None,
            state=wanted.state,
            kind=wanted.kind,
            before_id=read_cursor(wanted.cursor, UUID),
            limit=wanted.limit + 1,
        )
        page = found[: wanted.limit]
        parcels = await fulfillment.read_parcels(db, fulfillment_ids=[each.id for each in page])
    return Page(
        data=[_view(each, parcels.get(each.id, [])) for each in page],
        next_cursor=write_cursor(page[-1].id) if len(found) > wanted.limit else None,
    )


@route("GET", "/v1/fulfillments/{fulfillment_id}", permission=Permission.FULFILL, answer=FulfillmentView)
async def get_fulfillment(call: Call, fulfillment_id: UUID) -> FulfillmentView:
    """One fulfillment."""
    async with call.database.connection() as db:
        found = await fulfillment.read_fulfillment(
            db, fulfillment_id=fulfillment_id, location_id=call.principal.location_id
        )
        parcels = await fulfillment.read_parcels(db, fulfillment_ids=[found.id])
    return _view(found, parcels.get(found.id, []))


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/start",
    permission=Permission.FULFILL,
    body=Nothing,
    answer=FulfillmentView,
    codes=STEP_CODES,
)
async def start(call: Call, fulfillment_id: UUID) -> Answer:
    """Begin to pick."""
    await _read(call, Nothing, fulfillment_id, State.PICKING)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        return await shipping.start(db, step, order, work, now=now)

    return await _step(call, fulfillment_id, State.PICKING, do)


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/pick",
    permission=Permission.FULFILL,
    body=Picked,
    answer=FulfillmentView,
    codes=("not_on_this_list", "unaccounted_units", "invalid_barcode", *STEP_CODES),
)
async def pick(call: Call, fulfillment_id: UUID) -> Answer:
    """Every unit is off the shelf: counted by SKU or scanned."""
    given = await _read(call, Picked, fulfillment_id, State.PICKED)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        counted = await _count(db, given.lines)
        return await shipping.pick(db, step, order, work, counted=counted, now=now)

    return await _step(call, fulfillment_id, State.PICKED, do)


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/pack",
    permission=Permission.FULFILL,
    body=Packed,
    answer=FulfillmentView,
    codes=STEP_CODES,
)
async def pack(call: Call, fulfillment_id: UUID) -> Answer:
    """The goods are in parcels."""
    given = await _read(call, Packed, fulfillment_id, State.PACKED)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        weights = [parcel.weight_grams for parcel in given.parcels]
        return await shipping.pack(db, step, order, work, weights_grams=weights, now=now)

    return await _step(call, fulfillment_id, State.PACKED, do)


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/ship",
    permission=Permission.FULFILL,
    body=Shipped,
    answer=FulfillmentView,
    codes=("payment_due", *STEP_CODES),
)
async def ship(call: Call, fulfillment_id: UUID) -> Answer:
    """The parcels have left, if they are paid for: stock falls, and what they cost is captured by a job."""
    given = await _read(call, Shipped, fulfillment_id, State.SHIPPED)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        return await shipping.ship(
            db, step, order, work, carrier=given.carrier, tracking_number=given.tracking_number, now=now
        )

    return await _step(call, fulfillment_id, State.SHIPPED, do)


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/deliver",
    permission=Permission.FULFILL,
    body=Nothing,
    answer=FulfillmentView,
    codes=STEP_CODES,
)
async def deliver(call: Call, fulfillment_id: UUID) -> Answer:
    """The customer has it."""
    await _read(call, Nothing, fulfillment_id, State.DELIVERED)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        return await shipping.deliver(db, step, order, work, now=now)

    return await _step(call, fulfillment_id, State.DELIVERED, do)


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/ready",
    permission=Permission.FULFILL,
    body=Nothing,
    answer=FulfillmentView,
    codes=STEP_CODES,
)
async def make_ready(call: Call, fulfillment_id: UUID) -> Answer:
    """The goods wait for the customer, who is told, with the code that opens them."""
    await _read(call, Nothing, fulfillment_id, State.READY)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        return await pickup.make_ready(db, step, order, work, secret=call.hub.settings.secret, now=now)

    return await _step(call, fulfillment_id, State.READY, do)


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/hand_over",
    permission=Permission.FULFILL,
    body=HandedOver,
    answer=FulfillmentView,
    codes=("wrong_pickup_code", "payment_due", *STEP_CODES),
)
async def hand_over(call: Call, fulfillment_id: UUID) -> Answer:
    """The customer has it, by the code: stock falls, and what it costs is captured by a job."""
    given = await _read(call, HandedOver, fulfillment_id, State.HANDED_OVER)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        secret = call.hub.settings.secret
        return await pickup.hand_over(db, step, order, work, code=given.code, secret=secret, now=now)

    async def note(db: Connection, now: datetime) -> None:
        await pickup.note_wrong_code(db, fulfillment_id=fulfillment_id, now=now)

    try:
        return await _step(call, fulfillment_id, State.HANDED_OVER, do)
    except fulfillment.WrongPickupCode:
        await call.database.transaction(note)
        raise


@route(
    "POST",
    "/v1/fulfillments/{fulfillment_id}/cancel",
    permission=Permission.FULFILL,
    body=CalledOff,
    answer=FulfillmentView,
    codes=("register_required", "no_open_session", *STEP_CODES),
)
async def cancel(call: Call, fulfillment_id: UUID) -> Answer:
    """Nobody will get it: its units are cancelled, its goods are on sale again, what was paid for it goes back."""
    given = await _read(call, CalledOff, fulfillment_id, State.CANCELLED)

    async def do(db: Connection, step: Step, order: Order, work: Fulfillment, now: datetime) -> Fulfillment:
        await cancellation.cancel_work(
            db, order, work, reason=given.reason, actor=step.actor, till=till_of(call, given.register_id), now=now
        )
        return await fulfillment.read_fulfillment(db, fulfillment_id=work.id, location_id=step.location_id)

    return await _step(call, fulfillment_id, State.CANCELLED, do)


def _plan(call: Call, fulfillment_id: UUID, to: State) -> Step:
    return Step(fulfillment_id=fulfillment_id, location_id=call.principal.location_id, to=to, actor=call.actor)


async def _read(call: Call, kind: type[Any], fulfillment_id: UUID, to: State) -> Any:
    """The body; but who asks for a step out of turn hears that, whatever the body holds."""

    async def in_turn(db: Connection) -> None:
        found = await fulfillment.read_fulfillment(
            db, fulfillment_id=fulfillment_id, location_id=call.principal.location_id
        )
        fulfillment.check_move(found, to)

    async with call.asking_first(in_turn):
        return await call.read(kind)


async def _step(call: Call, fulfillment_id: UUID, to: State, do: Do) -> Answer:
    step = _plan(call, fulfillment_id, to)

    async def work(db: Connection, now: datetime) -> FulfillmentView:
        order, found = await shipping.begin_step(db, step)
        call.check_version(found.version)
        moved = await do(db, step, order, found, now)
        parcels = await fulfillment.read_parcels(db, fulfillment_ids=[moved.id])
        return _view(moved, parcels.get(moved.id, []))

    return await call.once(work, subject=fulfillment_id)


async def _count(db: Connection, lines: list[Counted]) -> dict[str, int]:
    """Units by SKU, as it is kept; what the catalog does not know is not on the list either."""
    counted: dict[str, int] = {}
    gtins = {}
    for position, line in enumerate(lines):
        if (line.sku is None) == (line.barcode is None):
            where = FieldError(pointer=f"/lines/{position}/sku", detail="Give sku or barcode, one of the two.")
            raise Problem("invalid_request", where.detail, errors=[where])
        if line.barcode is not None:
            gtins[line.barcode] = read_barcode(line.barcode, f"/lines/{position}/barcode")
    skus = [line.sku for line in lines if line.sku is not None]
    known = await catalog.find_variants(db, skus=skus, gtin14s=list(gtins.values()))
    by_sku = {catalog.folded(variant.sku): variant.sku for variant in known}
    by_gtin = {variant.gtin14: variant.sku for variant in known}
    for line in lines:
        sku = by_sku.get(catalog.folded(line.sku)) if line.sku is not None else by_gtin.get(gtins[line.barcode or ""])
        if sku is None:
            raise fulfillment.NotOnThisList(line.sku or line.barcode or "")
        counted[sku] = counted.get(sku, 0) + line.quantity
    return counted


def _view(work: Fulfillment, parcels: list[fulfillment.Parcel]) -> FulfillmentView:
    return FulfillmentView(
        id=ids.show("ful", work.id),
        order_id=ids.show("ord", work.reference),
        kind=work.kind,
        method=work.method,
        state=work.state,
        location_id=ids.show("loc", work.location_id),
        version=work.version,
        created_at=work.created_at,
        lines=[
            FulfillmentLineView(
                line_id=ids.show("line", line.line_id), sku=line.sku, quantity=line.quantity, picked=line.picked
            )
            for line in work.lines
        ],
        parcels=[
            ParcelView(weight_grams=parcel.weight_grams, carrier=parcel.carrier, tracking_number=parcel.tracking_number)
            for parcel in parcels
        ],
        collect_by=work.collect_by,
    )


ROUTES = (list_fulfillments, get_fulfillment, start, pick, pack, ship, deliver, make_ready, hand_over, cancel)
