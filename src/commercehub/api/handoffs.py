"""Carts across channels: the customer's one open cart, a guest's cart that becomes it, and codes that hand a cart off."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
import segno
from asyncpg import Connection
from msgspec import Meta

from commercehub import auth, ids
from commercehub.api.call import Answer, Call
from commercehub.api.carts import customer_of, reveal_addresses, see_open_cart, show
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import END, Id
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import carts, open_carts
from commercehub.sales.carts import Owner
from commercehub.sales.errors import CartNotFound
from commercehub.views.cart_page import CartView, conceal
from commercehub.workflows import claiming, handoffs

ATTEMPT: Final = "handoff"
QR_SCALE: Final = 4
FULL_CODES: Final = ("too_many_lines", "too_many_gift_cards", "too_many_promotions")
"""What one cart does not take of two; both stay as they are."""
NO_TOKEN: Final = b""
"""The hash of none: it opens no cart."""


class CurrentCart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose cart is wanted, if not the caller's own."""

    customer_id: Id | None = None


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose the cart is to be: the caller's own, who sends the guest's ``X-Cart-Token``, or named by a secret key."""

    customer_id: Id | None = None


class Code(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A code as it was read out, typed in or scanned; case and dashes do not matter."""

    code: Annotated[str, Meta(min_length=1, max_length=20, pattern=r"^[0-9A-Za-z -]+" + END)]


class Handoff(msgspec.Struct, frozen=True, kw_only=True):
    """A code that opens the cart in another channel, once; ``qr`` shows it to a scanner."""

    code: str
    qr: str
    expires_at: datetime


class _Offered(msgspec.Struct, frozen=True, kw_only=True):
    expires_at: datetime


@route(
    "GET",
    "/v1/carts/current",
    permission=Permission.CARTS_CURRENT,
    query=CurrentCart,
    answer=CartView,
)
async def get_current_cart(call: Call) -> CartView:
    """The customer's open cart, the same one in every channel."""
    customer_id = customer_of(call, call.query(CurrentCart).customer_id)
    if customer_id is None:
        where = FieldError(pointer="?customer_id", detail="Say whose cart.")
        raise Problem("invalid_request", where.detail, errors=[where])
    async with call.database.connection() as db:
        cart_id = await open_carts.find_open_cart(db, customer_id=customer_id)
        if cart_id is None:
            raise CartNotFound
        cart = await carts.read_cart(db, cart_id=cart_id, owner=Owner(customer_id=customer_id))
        return await show(call, db, cart)


@route(
    "POST",
    "/v1/carts/{cart_id}/claim",
    permission=Permission.CARTS_CLAIM,
    body=Claim,
    answer=CartView,
    codes=("cart_already_checked_out", "cart_merged", "total_too_large", *FULL_CODES),
)
async def claim_cart(call: Call, cart_id: UUID) -> Answer:
    """Make a guest's cart the customer's, or merge it into the one they have open; no line is lost.

    No token and no code from before opens it any more, neither a guest's nor one that was handed off; a customer who
    claims what is theirs already ends those too. Of what is in both the quantities add up; what is more than one cart
    takes is refused, and both stay as they are.
    """
    right = _right(call)
    async with call.asking_first(lambda db: _see_claimable(call, db, cart_id, right)):
        given = await call.read(Claim)
        customer_id = customer_of(call, given.customer_id)
        if customer_id is None:
            where = FieldError(pointer="/customer_id", detail="Say whose cart it is.")
            raise Problem("invalid_request", where.detail, errors=[where])

    async def work(db: Connection, now: datetime) -> CartView:
        claimed = await claiming.claim(
            db, cart_id=cart_id, customer_id=customer_id, right=right, through=call.principal, now=now
        )
        cart = await carts.read_cart(db, cart_id=claimed.cart_id, owner=Owner())
        merged_into = claimed.cart_id if claimed.merged else None
        return await show(call, db, cart, merged_into=merged_into, capped=claimed.capped)

    answer = await call.once(work, subject=cart_id, conceal=conceal)
    return await reveal_addresses(call, answer, owner=Owner(customer_id=customer_id))


@route(
    "POST",
    "/v1/carts/{cart_id}/handoff",
    permission=Permission.CARTS,
    answer=Handoff,
    status=201,
    codes=("cart_already_checked_out", "cart_merged"),
)
async def hand_off_cart(call: Call, cart_id: UUID) -> Answer:
    """A code that opens this very cart in another channel: once, and for a quarter of an hour."""
    owner, secret = call.owner, call.hub.settings.secret

    async def work(db: Connection, now: datetime) -> Handoff:
        ends_at = await handoffs.hand_off(db, cart_id=cart_id, owner=owner, secret=secret, actor=call.actor, now=now)
        return _handoff(secret, cart_id, ends_at)

    answer = await call.once(
        work, status=201, subject=cart_id, conceal=lambda made: _Offered(expires_at=made.expires_at)
    )
    if answer.body is not None:
        async with call.database.connection() as db:
            await carts.read_cart(db, cart_id=cart_id, owner=owner)
        ends_at = msgspec.json.decode(answer.body, type=_Offered).expires_at
        return Answer(content=_handoff(secret, cart_id, ends_at), status=answer.status, headers=answer.headers)
    return answer


@route(
    "POST",
    "/v1/carts/resume",
    permission=Permission.CARTS,
    body=Code,
    answer=CartView,
    codes=("not_found", "rate_limited", "total_too_large", *FULL_CODES),
)
async def resume_cart(call: Call) -> Answer:
    """Go on with the very same cart here. Ten wrong codes in 15 minutes, and no more.

    At a till it is the till's from now on. A customer makes a guest's cart theirs. A publishable key gets a token. That of
    a customer's cart opens the cart and not the order that it becomes, and spends no store credit and none of the gift
    cards in it: for these the customer signs in.
    """
    given = await call.read(Code)
    secret, principal = call.hub.settings.secret, call.principal
    address = call.request.client.host if call.request.client else ""
    subject = f"{principal.name} {address}"

    async def work(db: Connection, now: datetime) -> CartView:
        await auth.check_attempts(db, kind=ATTEMPT, subject=subject, now=now)
        resumed = await handoffs.resume(db, code=given.code, through=principal, secret=secret, now=now)
        merged_into = resumed.cart.id if resumed.merged else None
        return await show(call, db, resumed.cart, token=resumed.token, merged_into=merged_into, capped=resumed.capped)

    async def note(db: Connection, now: datetime) -> None:
        await auth.note_attempt(db, kind=ATTEMPT, subject=subject, now=now)

    try:
        answer = await call.once(work, conceal=_conceal_resumed)
    except CartNotFound as error:
        # The count has to last, whatever became of the transaction that looked.
        await call.database.transaction(note)
        raise not_found() from error
    if answer.body is None:
        return answer
    made = msgspec.json.decode(answer.body)
    serial = handoffs.serial_of(made["token"] or "")
    token = handoffs.cart_token(secret, ids.parse("cart", made["id"]), serial=serial)
    return await reveal_addresses(call, answer, owner=Owner(), token=token if principal.is_publishable else None)


def _conceal_resumed(view: CartView) -> CartView:
    """Of the token only which one it was, so that the same one is shown again and not a later one."""
    serial = handoffs.serial_of(view.token or "")
    return msgspec.structs.replace(conceal(view), token=f"{serial}." if serial else None)


def _handoff(secret: str, cart_id: UUID, ends_at: datetime) -> Handoff:
    code = handoffs.handoff_code(secret, cart_id, ends_at)
    return Handoff(code=code, qr=segno.make_qr(code).svg_data_uri(scale=QR_SCALE), expires_at=ends_at)


def _right(call: Call) -> Owner:
    """What opens a guest's cart for whoever claims it: the guest's own token, or what a secret key opens anyway."""
    if call.principal.customer_id is None:
        return call.owner
    token = call.request.headers.get("x-cart-token")
    return Owner(token_hash=auth.digest(token) if token else NO_TOKEN)


async def _see_claimable(call: Call, db: Connection, cart_id: UUID, right: Owner) -> None:
    """Raise what is wrong with the cart for this caller, whatever the body holds."""
    try:
        await see_open_cart(db, cart_id=cart_id, owner=right)
    except CartNotFound:
        if call.principal.customer_id is None:
            raise
        await carts.read_cart(db, cart_id=cart_id, owner=call.owner)


ROUTES = (get_current_cart, claim_cart, hand_off_cart, resume_cart)
