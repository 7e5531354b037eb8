"""Wishlists: a customer's own, in every channel, filled by scans in a store too, and shown to others by a link."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import auth, ids
from commercehub.api.call import Answer, Call
from commercehub.api.carts import reveal_addresses, show
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import Barcode, Id, Name, Page, Paging, Sku, cut, read_barcode
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import lists
from commercehub.sales.carts import Owner
from commercehub.sales.lists import Reader, Wishlist
from commercehub.views.cart_page import CartView, conceal
from commercehub.views.wishlist_page import WishlistView, show_wishlists
from commercehub.workflows import wishing

NAME_DEFAULT: Final = "Wishlist"


class NewWishlist(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a list is called; whoever helps customers names whose it is."""

    name: Name = NAME_DEFAULT
    customer_id: Id | None = None


class NewItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A variant, named by its SKU or scanned by its barcode; ``location_id`` is the store of the shelf."""

    sku: Sku | None = None
    barcode: Barcode | None = None
    location_id: Id | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a shared list is opened with."""

    token: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class WishlistSearch(Paging, frozen=True, kw_only=True):
    """Whose lists are wanted, if not the caller's own."""

    customer_id: Id | None = None


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """A link to the list, and the token in it. Whoever has it needs no sign-in, but a key, as for all of the API."""

    url: Annotated[
        str,
        Meta(
            description="where the list is read, with any publishable key as the bearer: a shop's page asks it, a browser"
            " alone is answered 401"
        ),
    ]
    token: Annotated[str, Meta(description="what a page of the shop passes on as `?token=`")]


class _Serial(msgspec.Struct, frozen=True, kw_only=True):
    serial: int


@route(
    "POST",
    "/v1/wishlists",
    permission=Permission.WISHLISTS,
    body=NewWishlist,
    answer=WishlistView,
    status=201,
    codes=("not_found", "list_full"),
)
async def create_wishlist(call: Call) -> Answer:
    """Begin a list."""
    _refuse_guests(call)
    given = await call.read(NewWishlist)
    customer_id = _whose(call, given.customer_id, "/customer_id")
    wishlist_id = ids.new()

    async def work(db: Connection, now: datetime) -> WishlistView:
        await lists.create_wishlist(db, wishlist_id=wishlist_id, customer_id=customer_id, name=given.name, now=now)
        return await _read(call, db, wishlist_id)

    return await call.once(work, status=201, subject=customer_id)


@route(
    "GET",
    "/v1/wishlists",
    permission=Permission.WISHLISTS,
    query=WishlistSearch,
    answer=Page[WishlistView],
    codes=("not_found", "invalid_cursor"),
)
async def list_wishlists(call: Call) -> Page[WishlistView]:
    """The customer's lists, oldest first."""
    _refuse_guests(call)
    wanted = call.query(WishlistSearch)
    customer_id = _whose(call, wanted.customer_id, "?customer_id")
    async with call.database.connection() as db:
        found = await lists.list_wishlists(db, customer_id=customer_id, reader=_reader(call))
        page, next_cursor = cut(found, wanted, id_of=lambda each: each.id)
        return Page(data=await _show(call, db, page), next_cursor=next_cursor)


@route(
    "GET",
    "/v1/wishlists/{list_id}",
    permission=Permission.WISHLISTS,
    query=Link,
    answer=WishlistView,
)
async def get_wishlist(call: Call, list_id: UUID) -> WishlistView:
    """A list: one's own, or one whose link one has."""
    async with call.database.connection() as db:
        token = call.request.query_params.get("token")
        if token is not None:
            found = await lists.read_shared_wishlist(
                db, wishlist_id=list_id, share_hash=auth.digest(token), reader=_reader(call)
            )
            call.query(Link)
            return (await _show(call, db, [found], to_owner=False))[0]
        _open_to_customers(call)
        found = await lists.read_wishlist(db, wishlist_id=list_id, reader=_reader(call))
        call.query(Link)
        return (await _show(call, db, [found]))[0]


@route(
    "POST",
    "/v1/wishlists/{list_id}/items",
    permission=Permission.WISHLISTS,
    body=NewItem,
    answer=WishlistView,
    codes=("unknown_variant", "invalid_barcode", "list_full"),
)
async def add_item(call: Call, list_id: UUID) -> Answer:
    """Put a variant on a list, once. What is scanned in a store keeps the store."""
    _open_to_customers(call)
    async with call.asking_first(_is_there(call, list_id)):
        given = await call.read(NewItem)
        if (given.sku is None) == (given.barcode is None):
            where = FieldError(pointer="/sku", detail="Give sku or barcode, one of the two.")
            raise Problem("invalid_request", where.detail, errors=[where])
        gtin14 = read_barcode(given.barcode, "/barcode") if given.barcode is not None else None
        named = call.id("loc", given.location_id) if given.location_id else None

    async def work(db: Connection, now: datetime) -> WishlistView:
        await wishing.add_item(
            db,
            wishlist_id=list_id,
            customer_id=_reader(call).customer_id,
            sku=given.sku,
            gtin14=gtin14,
            location_id=(await inventory.read_location(db, location_id=named)).id
            if named
            else call.principal.location_id,
            actor=call.actor,
            now=now,
        )
        return await _read(call, db, list_id)

    return await call.once(work, subject=list_id)


@route(
    "DELETE",
    "/v1/wishlists/{list_id}/items/{item_id}",
    permission=Permission.WISHLISTS,
    answer=WishlistView,
)
async def remove_item(call: Call, list_id: UUID, item_id: UUID) -> WishlistView:
    """Take an item off."""
    _open_to_customers(call)

    async def work(db: Connection, _: datetime) -> WishlistView:
        customer_id = _reader(call).customer_id
        await wishing.remove_item(db, wishlist_id=list_id, customer_id=customer_id, item_id=item_id)
        return await _read(call, db, list_id)

    return await call.transact(work)


@route(
    "POST",
    "/v1/wishlists/{list_id}/items/{item_id}/move-to-cart",
    permission=Permission.WISHLISTS,
    answer=CartView,
    codes=("no_price", "unknown_variant", "too_many_lines", "quantity_too_large", "total_too_large"),
)
async def move_to_cart(call: Call, list_id: UUID, item_id: UUID) -> Answer:
    """One unit goes into the customer's open cart, begun if there is none, and the item leaves the list."""
    _open_to_customers(call)

    async def work(db: Connection, now: datetime) -> CartView:
        cart = await wishing.move_to_cart(
            db, wishlist_id=list_id, reader=_reader(call), item_id=item_id, through=call.principal, now=now
        )
        return await show(call, db, cart)

    answer = await call.once(work, subject=list_id, conceal=conceal)
    return await reveal_addresses(call, answer, owner=Owner(customer_id=call.principal.customer_id))


@route(
    "POST",
    "/v1/wishlists/{list_id}/share",
    permission=Permission.WISHLISTS,
    answer=Shared,
    status=201,
)
async def share_wishlist(call: Call, list_id: UUID) -> Answer:
    """A link by which any publishable key reads the list, until it is taken back. Again: the same link.

    The link is of the API: a shop puts the token into a link to a page of its own, which sends its key along.
    """
    _open_to_customers(call)

    async def work(db: Connection, _: datetime) -> Shared:
        reader = _reader(call)
        await lists.lock_wishlist(db, wishlist_id=list_id, customer_id=reader.customer_id)
        found = await lists.read_wishlist(db, wishlist_id=list_id, reader=reader)
        shared = _link(call, list_id, found.share_serial)
        if not found.is_shared:
            await lists.share_wishlist(db, wishlist_id=list_id, share_hash=auth.digest(shared.token))
        return shared

    answer = await call.once(work, status=201, subject=list_id, conceal=lambda made: _Serial(serial=_serial(made)))
    if answer.body is not None:
        serial = msgspec.json.decode(answer.body, type=_Serial).serial
        return Answer(content=_link(call, list_id, serial), status=answer.status, headers=answer.headers)
    return answer


@route("DELETE", "/v1/wishlists/{list_id}/share", permission=Permission.WISHLISTS, answer=WishlistView)
async def unshare_wishlist(call: Call, list_id: UUID) -> WishlistView:
    """The link opens nothing any more, nor ever again."""
    _open_to_customers(call)

    async def work(db: Connection, _: datetime) -> WishlistView:
        await lists.lock_wishlist(db, wishlist_id=list_id, customer_id=_reader(call).customer_id)
        await lists.unshare_wishlist(db, wishlist_id=list_id)
        return await _read(call, db, list_id)

    return await call.transact(work)


def _reader(call: Call) -> Reader:
    channel = call.principal.sales_channel
    return Reader(customer_id=call.principal.customer_id, price_list=channel.price_list, currency=channel.currency)


def _refuse_guests(call: Call) -> None:
    if call.principal.customer_id is None and not call.principal.may(Permission.CUSTOMERS_READ):
        raise Problem("forbidden", "A list belongs to somebody who is signed in.")


def _open_to_customers(call: Call) -> None:
    """A list is its customer's, and of whoever may know every customer; to anybody else it is not there."""
    if call.principal.customer_id is None and not call.principal.may(Permission.CUSTOMERS_READ):
        raise not_found()


def _whose(call: Call, named: str | None, pointer: str) -> UUID:
    own = call.principal.customer_id
    if named is None and own is None:
        where = FieldError(pointer=pointer, detail="Say whose lists.")
        raise Problem("invalid_request", where.detail, errors=[where])
    customer_id = call.id("cus", named) if named is not None else own
    if customer_id is None or own not in {None, customer_id}:
        raise not_found()
    return customer_id


def _link(call: Call, list_id: UUID, serial: int) -> Shared:
    """The link of a list; the next one after it was taken back is another. Which one it is stands in it."""
    content = f"wishlist:{list_id}:{serial}".encode()
    mark = hmac.new(call.hub.settings.secret.encode(), content, "sha256").hexdigest()
    token = f"{serial}.{mark[:40]}"
    return Shared(
        url=f"{call.hub.settings.base_url}/v1/wishlists/{ids.show('list', list_id)}?token={token}", token=token
    )


def _serial(shared: Shared) -> int:
    return int(shared.token.partition(".")[0])


def _is_there(call: Call, list_id: UUID) -> Callable[[Connection], Awaitable[Wishlist]]:
    return lambda db: lists.read_wishlist(db, wishlist_id=list_id, reader=_reader(call))


async def _read(call: Call, db: Connection, list_id: UUID) -> WishlistView:
    found = await lists.read_wishlist(db, wishlist_id=list_id, reader=_reader(call))
    return (await _show(call, db, [found]))[0]


async def _show(call: Call, db: Connection, found: Sequence[Wishlist], *, to_owner: bool = True) -> list[WishlistView]:
    return await show_wishlists(
        db,
        found,
        currency=call.principal.sales_channel.currency,
        clock_offset=call.database.clock_offset,
        to_owner=to_owner,
    )


ROUTES = (
    create_wishlist,
    list_wishlists,
    get_wishlist,
    add_item,
    remove_item,
    move_to_cart,
    share_wishlist,
    unshare_wishlist,
)
