"""Orders, followed from anywhere: one by one, as a list, and called off."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

from commercehub.api.call import Answer, Call
from commercehub.api.fields import Email, Id, Page, Paging, Quantity, read_cursor, write_cursor
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import orders
from commercehub.sales.carts import LINES_MAX, Owner
from commercehub.sales.errors import NotCancellable
from commercehub.sales.orders import OrderState
from commercehub.views.cart_page import addresses_of, reveal
from commercehub.views.order_page import OrderView, conceal, read_pages
from commercehub.workflows import cancellation, payment_results, refunds


class OrderSearch(Paging, frozen=True, kw_only=True):
    """What to look for; all that is given has to fit."""

    number: Annotated[str, Meta(max_length=40)] | None = None
    email: Email | None = None
    customer_id: Id | None = None
    channel: Annotated[str, Meta(max_length=20)] | None = None
    state: Annotated[str, Meta(max_length=20)] | None = None


class CancelledLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of a line that are called off."""

    line_id: Id
    quantity: Quantity


class Cancellation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is called off, the whole order unless lines are named, and why. Cash is given back out of a register."""

    lines: Annotated[list[CancelledLine], Meta(min_length=1, max_length=LINES_MAX)] | None = None
    reason: Literal["customer_request", "out_of_stock", "fraud", "other"] = "customer_request"
    register_id: Id | None = None


def till_of(call: Call, register_id: str | None) -> refunds.Counter | None:
    """Where cash is given back, for who may open a drawer; nobody else gives cash out of one."""
    if not call.principal.may(Permission.TILL):
        return None
    named = call.id("reg", register_id) if register_id is not None else None
    return refunds.Counter(location_id=call.principal.location_id, register_id=named)


def _owner(call: Call) -> Owner:
    """Any store may read any order that it looks up, so a secret key's location does not narrow this."""
    return call.owner if call.principal.is_public else Owner()


@route("GET", "/v1/orders/{order_id}", permission=Permission.ORDERS_READ, answer=OrderView)
async def get_order(call: Call, order_id: UUID) -> OrderView:
    """One order. A guest's cart token opens the order that the cart became."""
    return await _page(call, order_id, _owner(call))


@route(
    "GET",
    "/v1/orders",
    permission=Permission.ORDERS_SEARCH,
    query=OrderSearch,
    answer=Page[OrderView],
    codes=("invalid_cursor",),
)
async def list_orders(call: Call) -> Page[OrderView]:
    """Orders of every channel, newest first."""
    wanted = call.query(OrderSearch)
    async with call.database.connection() as db:
        found = await orders.list_orders(
            db,
            number=wanted.number,
            email=wanted.email,
            customer_id=call.id("cus", wanted.customer_id) if wanted.customer_id else None,
            channel=wanted.channel,
            state=wanted.state,
            before_id=read_cursor(wanted.cursor, UUID),
            limit=wanted.limit + 1,
        )
        page = found[: wanted.limit]
        return Page(
            data=await read_pages(db, page, base_url=call.hub.settings.base_url),
            next_cursor=write_cursor(page[-1].id) if len(found) > wanted.limit else None,
        )


@route(
    "POST",
    "/v1/orders/{order_id}/cancel",
    permission=Permission.ORDERS_CANCEL,
    body=Cancellation,
    answer=OrderView,
    codes=("not_cancellable", "version_conflict", "register_required", "no_open_session"),
)
async def cancel_order(call: Call, order_id: UUID) -> Answer:
    """Call off what was not picked of an order: stock is free again, what was paid for it is let go of or given back."""
    owner = _owner(call)

    async def may_be_cancelled(db: Connection) -> None:
        order = await orders.read_order(db, order_id=order_id, owner=owner)
        if OrderState.CANCELLED not in orders.MOVES[order.state]:
            raise NotCancellable(order.state)

    async with call.asking_first(may_be_cancelled):
        given = await call.read(Cancellation)
        lines = _units(call, given.lines) if given.lines is not None else None
        till = till_of(call, given.register_id)

    async def work(db: Connection, now: datetime) -> None:
        if call.if_match() is not None:
            await orders.read_order(db, order_id=order_id, owner=owner)
            call.check_version((await orders.lock_order(db, order_id=order_id)).version)
        await cancellation.cancel_order(
            db, order_id=order_id, owner=owner, reason=given.reason, actor=call.actor, now=now, lines=lines, till=till
        )

    answer = await call.once(work, subject=order_id, settled_later=order_id)
    if answer.body is not None:
        return await _reveal(call, order_id, answer)
    await payment_results.resolve_order(call.database, call.hub.processors, order_id=order_id, render=call.hub.render)
    page = await _page(call, order_id, Owner())
    await call.settle(order_id, conceal(page))
    return Answer(content=page, headers=answer.headers)


async def _page(call: Call, order_id: UUID, owner: Owner) -> OrderView:
    async with call.database.connection() as db:
        order = await orders.read_order(db, order_id=order_id, owner=owner)
        # Whom an order is for sees what opens a pickup; who hands it over must not.
        secret = call.hub.settings.secret if call.principal.is_public else None
        return (await read_pages(db, [order], base_url=call.hub.settings.base_url, secret=secret))[0]


def _units(call: Call, given: list[CancelledLine]) -> dict[UUID, int]:
    units: dict[UUID, int] = {}
    for line in given:
        line_id = call.id("line", line.line_id)
        units[line_id] = units.get(line_id, 0) + line.quantity
    return units


async def _reveal(call: Call, order_id: UUID, answer: Answer) -> Answer:
    """A stored answer keeps nothing personal: where it is said again, that is read from its one home."""
    now = await _page(call, order_id, Owner())
    addresses = addresses_of((each.line_ids, each.address) for each in now.deliveries)
    body = reveal(answer.body or b"", addresses=addresses, email=now.email, phone=now.phone)
    return Answer(body=body, headers=answer.headers)


ROUTES = (get_order, list_orders, cancel_order)
