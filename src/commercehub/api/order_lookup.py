"""An order for a guest: who knows its number and how they are reached gets a token that opens it for an hour."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

from commercehub import auth
from commercehub.api.call import Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import Email, Phone
from commercehub.api.routing import route
from commercehub.auth import Kind, Permission
from commercehub.sales import orders
from commercehub.sales.carts import Owner
from commercehub.sales.errors import OrderNotFound
from commercehub.views.order_page import OrderView, read_pages


class Lookup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The number on the confirmation, and one way to reach whom the order is for."""

    number: Annotated[str, Meta(min_length=1, max_length=40)]
    email: Email | None = None
    phone: Phone | None = None


class FoundOrder(OrderView, frozen=True, kw_only=True):
    """The order, and the token that opens it: ``Authorization: Bearer``."""

    access_token: str
    expires_at: datetime
    token_type: str = "Bearer"  # noqa: S105 - the word of RFC 6750


@route(
    "POST",
    "/v1/orders/lookup",
    permission=Permission.ORDERS_LOOK_UP,
    body=Lookup,
    answer=FoundOrder,
    codes=("not_found", "rate_limited"),
)
async def look_up_order(call: Call) -> FoundOrder:
    """Open an order without an account. Ten wrong pairs for a number or an address within 15 minutes, and no more.

    Ignores Idempotency-Key: each look-up has a token of its own.
    """
    given = await call.read(Lookup)
    if (given.email is None) == (given.phone is None):
        where = FieldError(pointer="/email", detail="Give email or phone, one of the two.")
        raise Problem("invalid_request", where.detail, errors=[where])
    # Neither many addresses for one number nor many numbers for one address can be tried out.
    digits = "".join(each for each in given.phone or "" if each in "0123456789")
    subjects = (given.number, given.email or digits)

    async def work(db: Connection, now: datetime) -> tuple[UUID, auth.Tokens] | None:
        for subject in subjects:
            await auth.check_attempts(db, kind="lookup", subject=subject, now=now)
        try:
            order_id = await orders.find_for_guest(db, number=given.number, email=given.email, phone=given.phone)
        except OrderNotFound:
            # The count has to last, so this transaction is not to be rolled back.
            for subject in subjects:
                await auth.note_attempt(db, kind="lookup", subject=subject, now=now)
            return None
        tokens = await auth.open_session(
            db, kind=Kind.ORDER, subject_id=order_id, through=call.principal, location_id=None, now=now
        )
        return order_id, tokens

    found = await call.database.transaction(work)
    if found is None:
        raise not_found()
    order_id, tokens = found
    async with call.database.connection() as db:
        order = await orders.read_order(db, order_id=order_id, owner=Owner(order_id=order_id))
        page = (await read_pages(db, [order], base_url=call.hub.settings.base_url))[0]
    shown = {name: getattr(page, name) for name in OrderView.__struct_fields__}
    return FoundOrder(**shown, access_token=tokens.access_token, expires_at=tokens.access_ends_at)


ROUTES = (look_up_order,)
