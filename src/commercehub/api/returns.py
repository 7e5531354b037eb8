"""Returns in any channel: asked for, received at any place that takes them, settled, called off, and looked up."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import payments
from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import Email, Id, Page, Paging, Phone, Quantity, Sku, cut
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import orders, returns
from commercehub.sales.carts import Owner
from commercehub.sales.errors import OrderNotFound, ReturnNotFound
from commercehub.sales.orders import Order
from commercehub.sales.returns import Return, ReturnState
from commercehub.views.order_page import OrderView, read_pages
from commercehub.workflows import refunds
from commercehub.workflows import returns as workflow
from payments.money import Money

LINES_MAX: Final = 200
STEP_CODES: Final = ("invalid_transition", "version_conflict", "no_open_session", "register_required")
RECEIVE_CODES: Final = ("not_returnable", "returns_not_taken", *STEP_CODES)

Why = Literal["changed_mind", "too_big", "too_small", "damaged", "wrong_item", "not_as_described", "late", "other"]


class ReturnLineInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of an order's line that are to go back, and why."""

    line_id: Id
    quantity: Quantity
    reason: Why = "other"


class ExchangeLineInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wanted instead."""

    sku: Sku
    quantity: Quantity


class NewReturn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to go back, how, and what for. ``receive``: it lies on the counter already."""

    order_id: Id
    lines: Annotated[list[ReturnLineInput], Meta(min_length=1, max_length=LINES_MAX)]
    method: Literal["in_store", "courier_pickup", "mail"]
    location_id: Id | None = None
    resolution: Literal["refund", "store_credit", "exchange"] = "refund"
    exchange_lines: Annotated[list[ExchangeLineInput], Meta(max_length=LINES_MAX)] | None = None
    receive: bool = False
    register_id: Id | None = None


class ReceivedLineInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units that came back, and what is to become of them. A line may come in parts, one for each disposition."""

    line_id: Id
    quantity: Quantity
    disposition: Literal["restock", "damaged", "quarantine"] = "restock"


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came back, and where."""

    lines: Annotated[list[ReceivedLineInput], Meta(min_length=1, max_length=LINES_MAX)]
    location_id: Id | None = None
    register_id: Id | None = None


class Settlement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The register that cash is given back from: the only open one unless it is named; where no tills are, the safe."""

    register_id: Id | None = None


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step that needs no words."""


class ReturnSearch(Paging, frozen=True, kw_only=True):
    """The order."""

    order_id: Id


class Lookup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer at the counter has: one of these. ``receipt`` is the receipt's barcode."""

    receipt: Annotated[str, Meta(min_length=13, max_length=13)] | None = None
    number: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    email: Email | None = None
    phone: Phone | None = None


class ReturnLineView(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a line: asked back for, received, and what became of them. ``amount`` is what those received cost."""

    line_id: str
    sku: str
    quantity: int
    reason: str
    received: int
    restocked: int
    damaged: int
    quarantined: int
    amount: Money


class ReturnRefundView(msgspec.Struct, frozen=True, kw_only=True):
    """Money on its way back: ``owed`` until the payment was captured, else as its operation stands."""

    payment_id: str | None
    tender: str
    amount: Money
    state: str


class ReturnView(msgspec.Struct, frozen=True, kw_only=True):
    """A return. ``amount`` is what was given back for it, once it is settled."""

    id: str
    order_id: str
    state: str
    method: str
    resolution: str
    location_id: str | None
    channel: str
    lines: list[ReturnLineView]
    amount: Money | None
    refunds: list[ReturnRefundView]
    version: int
    created_at: datetime


class PreviewLineView(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of the return is worth."""

    line_id: str
    amount: Money


class PreviewView(msgspec.Struct, frozen=True, kw_only=True):
    """What would go where, to the cent. What delivery cost is not given back."""

    return_id: str
    resolution: str
    amount: Money
    lines: list[PreviewLineView]
    refunds: list[ReturnRefundView]


@route(
    "POST",
    "/v1/returns",
    permission=Permission.RETURNS,
    body=NewReturn,
    answer=ReturnView,
    status=201,
    needs_key=True,
    codes=("not_found", "return_window_closed", "resolution_not_offered", *RECEIVE_CODES),
)
async def create_return(call: Call) -> Answer:
    """Ask to bring or send goods back, whichever channel sold them; with ``receive``, at a counter, they are there."""
    given = await call.read(NewReturn)
    if given.receive and not call.principal.may(Permission.RETURNS_RECEIVE):
        raise Problem("forbidden", "Goods are received by whoever works at a place that takes returns.")
    place = _place(call, given.location_id, is_needed=given.receive)
    order_id = call.id("ord", given.order_id)
    register_id = call.id("reg", given.register_id) if given.register_id else None
    request = workflow.Request(
        order_id=order_id,
        owner=_owner(call),
        lines=tuple(
            workflow.Asked(line_id=call.id("line", line.line_id), quantity=line.quantity, reason=line.reason)
            for line in given.lines
        ),
        method=given.method,
        resolution=given.resolution,
        location_id=place,
        actor=call.actor,
    )

    async def work(db: Connection, now: datetime) -> ReturnView:
        order, back = await workflow.request_return(db, request, now=now)
        if given.receive and place is not None:
            order, back = await workflow.receive(
                db,
                order,
                back,
                [workflow.Received(line_id=line.line_id, quantity=line.quantity) for line in back.lines],
                _counter(call, place, register_id),
                settle_now=not call.hub.settings.returns_are_inspected,
                now=now,
            )
        return await _read_view(db, order, back)

    answer = await call.once(work, status=201, subject=order_id, needs_key=True)
    if answer.body is not None:
        # Every shopper sends the same publishable key: an earlier answer is for who may know of the order.
        async with call.database.connection() as db:
            await orders.read_order(db, order_id=order_id, owner=request.owner)
    return answer


@route(
    "GET",
    "/v1/returns",
    permission=Permission.RETURNS,
    query=ReturnSearch,
    answer=Page[ReturnView],
    codes=("invalid_cursor", "not_found"),
)
async def list_returns(call: Call) -> Page[ReturnView]:
    """The returns of an order, oldest first."""
    wanted = call.query(ReturnSearch)
    async with call.database.connection() as db:
        order = await orders.read_order(db, order_id=call.id("ord", wanted.order_id), owner=_owner(call))
        found = await returns.read_returns_of(db, order_id=order.id)
        page, next_cursor = cut(found, wanted, id_of=lambda back: back.id)
        given = await payments.read_refunds(db, causes=[back.id for back in page])
    return Page(
        data=[_view(order, back, [each for each in given if each.cause == back.id]) for back in page],
        next_cursor=next_cursor,
    )


@route("GET", "/v1/returns/{return_id}", permission=Permission.RETURNS, answer=ReturnView)
async def get_return(call: Call, return_id: UUID) -> ReturnView:
    """One return."""
    async with call.database.connection() as db:
        return await _read_view(db, *await _find(call, db, return_id))


@route("GET", "/v1/returns/{return_id}/preview", permission=Permission.RETURNS, answer=PreviewView)
async def preview_return(call: Call, return_id: UUID) -> PreviewView:
    """What would go where, to the cent, if all of it came; or what goes where for what has come."""
    async with call.database.connection() as db:
        order, back = await _find(call, db, return_id)
        found = await workflow.preview(db, order, back)
        given = await payments.read_refunds(db, causes=[back.id])

    def money(amount: int) -> Money:
        return Money(amount, order.currency)

    would = [
        ReturnRefundView(
            payment_id=ids.show("pay", part.intent.id),
            tender=part.intent.tender,
            amount=money(part.amount_minor),
            state="owed" if part.waits else "pending",
        )
        for part in found.parts
    ]
    if not would and not given and found.amount_minor:
        credit = money(found.amount_minor)
        would = [ReturnRefundView(payment_id=None, tender="store_credit", amount=credit, state="pending")]
    return PreviewView(
        return_id=ids.show("ret", back.id),
        resolution=back.resolution,
        amount=money(found.amount_minor),
        lines=[
            PreviewLineView(line_id=ids.show("line", line_id), amount=money(amount))
            for line_id, amount in found.amounts.items()
        ],
        refunds=[_refund(each) for each in given] or would,
    )


@route(
    "POST",
    "/v1/returns/{return_id}/receive",
    permission=Permission.RETURNS_RECEIVE,
    body=Receipt,
    answer=ReturnView,
    needs_key=True,
    codes=RECEIVE_CODES,
)
async def receive_return(call: Call, return_id: UUID) -> Answer:
    """The goods have come. They are in this place's stock, and what they cost is on its way back."""

    async def in_turn(db: Connection) -> None:
        _, back = await _find(call, db, return_id)
        returns.check_move(back, ReturnState.RECEIVED)

    async with call.asking_first(in_turn):
        given = await call.read(Receipt)
        place = _place(call, given.location_id, is_needed=True)
        register_id = call.id("reg", given.register_id) if given.register_id else None
        received = [
            workflow.Received(
                line_id=call.id("line", line.line_id), quantity=line.quantity, disposition=line.disposition
            )
            for line in given.lines
        ]

    async def work(db: Connection, now: datetime) -> ReturnView:
        order, back = await workflow.lock(db, return_id=return_id)
        call.check_version(back.version)
        counter = _counter(call, place or order.id, register_id)
        settle_now = not call.hub.settings.returns_are_inspected
        order, back = await workflow.receive(db, order, back, received, counter, settle_now=settle_now, now=now)
        return await _read_view(db, order, back)

    return await call.once(work, subject=return_id, needs_key=True)


@route(
    "POST",
    "/v1/returns/{return_id}/settle",
    permission=Permission.RETURNS_RECEIVE,
    body=Settlement,
    answer=ReturnView,
    needs_key=True,
    codes=("nothing_to_refund", *STEP_CODES),
)
async def settle_return(call: Call, return_id: UUID) -> Answer:
    """Give back what the goods cost, once they were looked at; or try a refund anew that a processor refused."""

    async def in_turn(db: Connection) -> None:
        _, back = await _find(call, db, return_id)
        if back.state is not ReturnState.REFUNDED:
            returns.check_move(back, ReturnState.REFUNDED)

    async with call.asking_first(in_turn):
        given = await call.read(Settlement)
        register_id = call.id("reg", given.register_id) if given.register_id else None

    async def work(db: Connection, now: datetime) -> ReturnView:
        order, back = await workflow.lock(db, return_id=return_id)
        call.check_version(back.version)
        place = call.principal.location_id or back.location_id or order.id
        counter = _counter(call, place, register_id)
        return await _read_view(db, *await workflow.settle(db, order, back, counter, now=now))

    return await call.once(work, subject=return_id, needs_key=True)


@route(
    "POST",
    "/v1/returns/{return_id}/cancel",
    permission=Permission.RETURNS,
    body=Nothing,
    answer=ReturnView,
    needs_key=True,
    codes=("invalid_transition", "version_conflict"),
)
async def cancel_return(call: Call, return_id: UUID) -> Answer:
    """The customer keeps the goods after all."""

    async def in_turn(db: Connection) -> None:
        _, back = await _find(call, db, return_id)
        returns.check_move(back, ReturnState.CANCELLED)

    async with call.asking_first(in_turn):
        await call.read(Nothing)

    async def work(db: Connection, now: datetime) -> ReturnView:
        await _find(call, db, return_id)
        order, back = await workflow.lock(db, return_id=return_id)
        call.check_version(back.version)
        return await _read_view(db, *await workflow.cancel(db, order, back, actor=call.actor, now=now))

    return await call.once(work, subject=return_id, needs_key=True)


@route(
    "POST",
    "/v1/returns/lookup",
    permission=Permission.ORDERS_SEARCH,
    body=Lookup,
    answer=Page[OrderView],
)
async def look_up_orders(call: Call) -> Page[OrderView]:
    """The orders that goods may belong to, newest first, whichever channel sold them."""
    given = await call.read(Lookup)
    told = [value for value in (given.receipt, given.number, given.email, given.phone) if value is not None]
    if len(told) != 1:
        where = FieldError(pointer="/receipt", detail="Give receipt, number, email or phone, one of them.")
        raise Problem("invalid_request", where.detail, errors=[where])
    number = returns.number_of(given.receipt) if given.receipt is not None else given.number
    async with call.database.connection() as db:
        found = await returns.find_orders(db, number=number, email=given.email, phone=given.phone)
        known = await orders.read_orders(db, order_ids=found)
        pages = await read_pages(db, [known[order_id] for order_id in found], base_url=call.hub.settings.base_url)
    return Page(data=pages)


def _owner(call: Call) -> Owner:
    """Any store takes back any order's goods, so a secret key's location does not narrow this."""
    return call.owner if call.principal.is_public else Owner()


def _place(call: Call, given: str | None, *, is_needed: bool) -> UUID | None:
    """Where goods come back: the caller's place, the one that is named, or none."""
    bound = call.principal.location_id
    location_id = call.id("loc", given) if given is not None else bound
    if bound is not None and location_id != bound and is_needed:
        raise not_found()
    if location_id is None and is_needed:
        where = FieldError(pointer="/location_id", detail="Say where the goods came back.")
        raise Problem("invalid_request", where.detail, errors=[where])
    return location_id


async def _find(call: Call, db: Connection, return_id: UUID) -> tuple[Order, Return]:
    """A return that the caller may know of, with its order."""
    back = await returns.read_return(db, return_id=return_id)
    try:
        return await orders.read_order(db, order_id=back.order_id, owner=_owner(call)), back
    except OrderNotFound as error:
        raise ReturnNotFound from error


def _counter(call: Call, location_id: UUID, register_id: UUID | None) -> workflow.Counter:
    """The caller's counter. Only who may open a drawer gives cash out of one; anybody else's comes from the safe."""
    till = None
    if call.principal.may(Permission.TILL):
        till = refunds.Counter(location_id=location_id, register_id=register_id)
    return workflow.Counter(location_id=location_id, actor=call.actor, till=till)


async def _read_view(db: Connection, order: Order, back: Return) -> ReturnView:
    return _view(order, back, await payments.read_refunds(db, causes=[back.id]))


def _view(order: Order, back: Return, given: Sequence[payments.Refund]) -> ReturnView:
    return ReturnView(
        id=ids.show("ret", back.id),
        order_id=ids.show("ord", back.order_id),
        state=back.state,
        method=back.method,
        resolution=back.resolution,
        location_id=ids.show("loc", back.location_id) if back.location_id else None,
        channel=back.channel,
        lines=[
            ReturnLineView(
                line_id=ids.show("line", line.line_id),
                sku=line.sku,
                quantity=line.quantity,
                reason=line.reason,
                received=line.received,
                restocked=line.restocked,
                damaged=line.damaged,
                quarantined=line.quarantined,
                amount=Money(line.amount_minor, order.currency),
            )
            for line in back.lines
        ],
        amount=Money(back.amount_minor, order.currency) if back.amount_minor is not None else None,
        refunds=[_refund(each) for each in given],
        version=back.version,
        created_at=back.created_at,
    )


def _refund(refund: payments.Refund) -> ReturnRefundView:
    return ReturnRefundView(
        payment_id=ids.show("pay", refund.intent_id) if refund.intent_id else None,
        tender=refund.tender,
        amount=Money(refund.amount_minor, refund.currency),
        state=refund.state,
    )


ROUTES: tuple[Any, ...] = (
    create_return,
    list_returns,
    get_return,
    preview_return,
    receive_return,
    settle_return,
    cancel_return,
    look_up_orders,
)
