"""Carts: made, filled, told how to be delivered, and seen, each time priced anew."""

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import auth, ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import Barcode, Country, Currency, Id, Name, Quantity, Sku, read_barcode
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import carts, open_carts
from commercehub.sales.carts import Address, Cart, Edit
from commercehub.sales.errors import LineNotFound
from commercehub.sales.pricing import METHODS_WITH_ADDRESS
from commercehub.views.cart_page import CartView, addresses_of, conceal, reveal, show_cart
from commercehub.workflows import claiming
from commercehub.workflows.handoffs import cart_token
from commercehub.workflows.refusals import DeliveryNotOffered

CART_CODES: Final = ("cart_already_checked_out", "cart_merged", "version_conflict", "total_too_large")
PICKUP: Final = "pickup"


class NewCart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a cart begins with. Its channel, and the currency unless named, are those of the key.

    A customer has one open cart: where there is one already, it is that one. Whoever helps customers names them.
    """

    currency: Currency | None = None
    customer_id: Id | None = None


class NewLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of one variant, named by its SKU or scanned by its barcode."""

    sku: Sku | None = None
    barcode: Barcode | None = None
    quantity: Quantity = 1


class LineChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line's new quantity."""

    quantity: Quantity


class AddressInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to send it."""

    name: Name
    line1: Name
    city: Name
    postal_code: Annotated[str, Meta(min_length=1, max_length=20)]
    country: Country
    line2: Name | None = None
    region: Name | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the lines reach the customer: all of them, or those in ``line_ids``."""

    method: Literal["ship", "express", "pickup", "carry_out", "digital"]
    address: AddressInput | None = None
    location_id: Id | None = None
    line_ids: Annotated[list[Id], Meta(min_length=1, max_length=carts.LINES_MAX)] | None = None


async def see_open_cart(db: Connection, *, cart_id: UUID, owner: carts.Owner) -> Cart:
    """The cart, if the caller may change it; ``CartNotFound`` or ``CartClosed`` otherwise."""
    cart = await carts.read_cart(db, cart_id=cart_id, owner=owner)
    if cart.state != "open":
        raise await carts.find_order_of(db, cart_id=cart_id, owner=owner)
    return cart


@route(
    "POST",
    "/v1/carts",
    permission=Permission.CARTS,
    body=NewCart,
    answer=CartView,
    status=201,
    also={200: "The cart that the customer has open already."},
    codes=("not_found",),
)
async def create_cart(call: Call) -> Answer:
    """Open a cart. A guest's cart comes with the token that opens it; a customer has one open cart in every channel."""
    given = await call.read(NewCart)
    customer_id = customer_of(call, given.customer_id)
    if customer_id is not None:
        return await _open_for(call, customer_id, given)
    channel, location_id = call.principal.sales_channel, call.principal.location_id
    cart_id = ids.new()
    token = cart_token(call.hub.settings.secret, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        await carts.create_cart(
            db,
            cart_id=cart_id,
            sales_channel_id=channel.id,
            channel=channel.kind,
            location_id=location_id,
            token_hash=auth.digest(token),
            currency=given.currency or channel.currency,
            tax_included=channel.tax_included,
            delivery_id=ids.new(),
            now=now,
        )
        cart = await carts.read_cart(db, cart_id=cart_id, owner=carts.Owner())
        return await show(call, db, cart, token=token)

    answer = await call.once(work, status=201, conceal=conceal)
    if answer.body is not None:
        # The stored answer holds no token: it is derived again for whoever sent the same request again.
        made_id = ids.parse("cart", msgspec.json.decode(answer.body)["id"])
        body = reveal(answer.body, addresses={}, token=cart_token(call.hub.settings.secret, made_id))
        return Answer(body=body, status=answer.status, headers=answer.headers)
    return answer


async def _open_for(call: Call, customer_id: UUID, given: NewCart) -> Answer:
    """The customer's open cart: 201 if it is new, else 200."""
    async with call.database.connection() as db:
        is_there = await open_carts.find_open_cart(db, customer_id=customer_id) is not None

    async def work(db: Connection, now: datetime) -> CartView:
        cart_id = await claiming.open_cart_for(
            db, customer_id=customer_id, through=call.principal, currency=given.currency, now=now
        )
        return await show(call, db, await carts.read_cart(db, cart_id=cart_id, owner=carts.Owner()))

    answer = await call.once(work, status=200 if is_there else 201, subject=customer_id, conceal=conceal)
    return await reveal_addresses(call, answer)


@route("GET", "/v1/carts/{cart_id}", permission=Permission.CARTS, answer=CartView)
async def get_cart(call: Call, cart_id: UUID) -> CartView:
    """The cart as it is now."""
    async with call.database.connection() as db:
        cart = await carts.read_cart(db, cart_id=cart_id, owner=call.owner)
        return await show(call, db, cart)


@route(
    "POST",
    "/v1/carts/{cart_id}/lines",
    permission=Permission.CARTS,
    body=NewLine,
    answer=CartView,
    codes=("unknown_variant", "invalid_barcode", "no_price", "too_many_lines", "quantity_too_large", *CART_CODES),
)
async def add_line(call: Call, cart_id: UUID) -> Answer:
    """Add units of a variant; a SKU that is in the cart gets more of it."""
    async with call.asking_first(is_open(call, cart_id)):
        given = await call.read(NewLine)
        if (given.sku is None) == (given.barcode is None):
            where = FieldError(pointer="/sku", detail="Give sku or barcode, one of the two.")
            raise Problem("invalid_request", where.detail, errors=[where])
        gtin = read_barcode(given.barcode, "/barcode") if given.barcode is not None else None
    edit = edit_of(call, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        cart = await carts.add_line(
            db, edit, line_id=ids.new(), sku=given.sku, gtin14=gtin, quantity=given.quantity, now=now
        )
        return await show(call, db, cart)

    return await reveal_addresses(call, await call.once(work, subject=cart_id, conceal=conceal))


@route(
    "PATCH",
    "/v1/carts/{cart_id}/lines/{line_id}",
    permission=Permission.CARTS,
    body=LineChange,
    answer=CartView,
    codes=CART_CODES,
)
async def change_line(call: Call, cart_id: UUID, line_id: UUID) -> CartView:
    """Set a line's quantity."""
    owner = call.owner

    async def has_line(db: Connection) -> None:
        cart = await see_open_cart(db, cart_id=cart_id, owner=owner)
        if all(line.id != line_id for line in cart.lines):
            raise LineNotFound

    async with call.asking_first(has_line):
        given = await call.read(LineChange)
    edit = edit_of(call, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        cart = await carts.change_line(db, edit, line_id=line_id, quantity=given.quantity, now=now)
        return await show(call, db, cart)

    return await call.database.transaction(work)


@route(
    "DELETE",
    "/v1/carts/{cart_id}/lines/{line_id}",
    permission=Permission.CARTS,
    answer=CartView,
    codes=CART_CODES,
)
async def remove_line(call: Call, cart_id: UUID, line_id: UUID) -> CartView:
    """Take a line out."""
    edit = edit_of(call, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        cart = await carts.remove_line(db, edit, line_id=line_id, now=now)
        return await show(call, db, cart)

    return await call.database.transaction(work)


@route(
    "PUT",
    "/v1/carts/{cart_id}/delivery",
    permission=Permission.CARTS,
    body=Delivery,
    answer=CartView,
    codes=("delivery_not_offered", *CART_CODES),
)
async def set_delivery(call: Call, cart_id: UUID) -> CartView:
    """Say how all lines, or some, reach the customer."""
    async with call.asking_first(is_open(call, cart_id)):
        given = await call.read(Delivery)
        address, location_id = _where(call, given)
        line_ids = None if given.line_ids is None else [call.id("line", line_id) for line_id in given.line_ids]
    edit = edit_of(call, cart_id)
    delivery_id = ids.new()

    async def work(db: Connection, now: datetime) -> CartView:
        cart = await carts.set_delivery(
            db,
            edit,
            delivery_id=delivery_id,
            method=given.method,
            location_id=location_id,
            address_id=ids.new() if address else None,
            address=address,
            line_ids=line_ids,
            now=now,
        )
        if given.method == PICKUP and location_id is not None:
            place = await inventory.read_location(db, location_id=location_id)
            if PICKUP not in place.capabilities:
                raise DeliveryNotOffered(PICKUP)
        chosen = cart.deliveries.get(delivery_id)
        if chosen is not None and chosen.rate is None and given.method in METHODS_WITH_ADDRESS:
            raise DeliveryNotOffered(given.method)
        return await show(call, db, cart)

    return await call.database.transaction(work)


def _where(call: Call, given: Delivery) -> tuple[Address | None, UUID | None]:
    """The address or the location that the method needs; what it does not need is refused."""
    if given.method in METHODS_WITH_ADDRESS:
        if given.address is None or given.location_id is not None:
            where = FieldError(pointer="/address", detail=f"{given.method} needs an address, and no location_id.")
            raise Problem("invalid_request", where.detail, errors=[where])
        return msgspec.convert(given.address, Address, from_attributes=True), None
    if given.method == PICKUP:
        if given.location_id is None or given.address is not None:
            where = FieldError(
                pointer="/location_id", detail="pickup needs the location_id of a store, and no address."
            )
            raise Problem("invalid_request", where.detail, errors=[where])
        return None, call.id("loc", given.location_id)
    if given.method != "carry_out" or call.principal.location_id is None:
        raise DeliveryNotOffered(given.method)
    if given.address is not None or given.location_id not in {None, ids.show("loc", call.principal.location_id)}:
        where = FieldError(pointer="/location_id", detail="Goods are carried out of the till's own location.")
        raise Problem("invalid_request", where.detail, errors=[where])
    return None, call.principal.location_id


def is_open(call: Call, cart_id: UUID) -> Callable[[Connection], Awaitable[Cart]]:
    """The question to ask before a body is spoken of: whether the caller may change the cart."""
    owner = call.owner
    return lambda db: see_open_cart(db, cart_id=cart_id, owner=owner)


def edit_of(call: Call, cart_id: UUID) -> Edit:
    """The caller's edit of a cart, of the version that they insist on."""
    return Edit(cart_id=cart_id, owner=call.owner, version=call.if_match())


async def show(
    call: Call,
    db: Connection,
    cart: Cart,
    *,
    token: str | None = None,
    merged_into: UUID | None = None,
    capped: Collection[UUID] = (),
) -> CartView:
    """The page of a cart, at the hub's clock and as it looks from where the caller is."""
    return await show_cart(
        db,
        cart,
        clock_offset=call.database.clock_offset,
        location_id=call.principal.location_id,
        token=token,
        merged_into=merged_into,
        capped=capped,
    )


async def reveal_addresses(
    call: Call, answer: Answer, *, owner: carts.Owner | None = None, **secrets: str | None
) -> Answer:
    """A stored answer keeps no address: where it is said again, it is read from its one home, as of now.

    Every shopper's key is the same one, so it is read by the ``owner``'s right, unless that is another: the caller's.
    """
    if answer.body is None:
        return answer
    cart_id = ids.parse("cart", msgspec.json.decode(answer.body)["id"])
    async with call.database.connection() as db:
        cart = await carts.read_cart(db, cart_id=cart_id, owner=owner or call.owner)
        now = await show(call, db, cart)
    addresses = addresses_of((each.line_ids, each.address) for each in now.deliveries)
    return Answer(
        body=reveal(answer.body, addresses=addresses, **secrets), status=answer.status, headers=answer.headers
    )


def customer_of(call: Call, named: str | None) -> UUID | None:
    """Whose cart it is to be: the customer's own, or that of the customer whom whoever helps them names."""
    own = call.principal.customer_id
    if named is None:
        return own
    if own is None and not call.principal.may(Permission.CUSTOMERS_READ):
        raise Problem("forbidden", "Whoever helps customers may name them.")
    customer_id = call.id("cus", named)
    if own not in {None, customer_id}:
        raise not_found()
    return customer_id


ROUTES = (create_cart, get_cart, add_line, change_line, remove_line, set_delivery)
