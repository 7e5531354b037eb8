"""Wishlists, where more than the list changes: the customer's timeline, and their cart."""

from datetime import datetime
from uuid import UUID

from asyncpg import Connection

from commercehub import events, ids
from commercehub.auth import Principal
from commercehub.events import Actor, Event
from commercehub.sales import carts, lists
from commercehub.sales.carts import Cart, Edit, Owner
from commercehub.sales.errors import ItemNotFound
from commercehub.sales.lists import Reader
from commercehub.workflows import claiming


async def add_item(
    db: Connection,
    *,
    wishlist_id: UUID,
    customer_id: UUID | None,
    sku: str | None,
    gtin14: str | None,
    location_id: UUID | None,
    actor: Actor,
    now: datetime,
) -> None:
    """Put a variant on a list, and tell so on the customer's timeline; once is enough.

    ``ListNotFound``, ``VariantNotFound`` or ``ListFull``.
    """
    owner_id = await lists.lock_wishlist(db, wishlist_id=wishlist_id, customer_id=customer_id)
    added = await lists.add_item(
        db, wishlist_id=wishlist_id, item_id=ids.new(), sku=sku, gtin14=gtin14, location_id=location_id, now=now
    )
    if not added.is_news:
        return
    fact = Event(
        type="wishlist.item_added",
        aggregate_id=wishlist_id,
        sequence=added.version,
        body={
            "wishlist_id": ids.show("list", wishlist_id),
            "item_id": ids.show("item", added.item_id),
            **({"location_id": ids.show("loc", location_id)} if location_id else {}),
        },
        actor=actor,
        customer_id=owner_id,
    )
    await events.append(db, [fact], now=now)


async def remove_item(db: Connection, *, wishlist_id: UUID, customer_id: UUID | None, item_id: UUID) -> None:
    """Take a variant off a list. ``ListNotFound`` or ``ItemNotFound``."""
    await lists.lock_wishlist(db, wishlist_id=wishlist_id, customer_id=customer_id)
    await lists.remove_item(db, wishlist_id=wishlist_id, item_id=item_id)


async def move_to_cart(
    db: Connection, *, wishlist_id: UUID, reader: Reader, item_id: UUID, through: Principal, now: datetime
) -> Cart:
    """One unit of an item goes into the customer's open cart, which is begun if there is none; it leaves the list.

    ``ListNotFound``, ``ItemNotFound``, or why the cart does not take it: then it stays on the list.
    """
    wishlist = await lists.read_wishlist(db, wishlist_id=wishlist_id, reader=reader)
    sku = next((item.sku for item in wishlist.items if item.id == item_id), None)
    if sku is None:
        raise ItemNotFound
    cart_id = await claiming.open_cart_for(
        db, customer_id=wishlist.customer_id, through=through, currency=None, now=now
    )
    edit = Edit(cart_id=cart_id, owner=Owner(customer_id=wishlist.customer_id))
    cart = await carts.add_line(db, edit, line_id=ids.new(), sku=sku, gtin14=None, quantity=1, now=now)
    await remove_item(db, wishlist_id=wishlist_id, customer_id=reader.customer_id, item_id=item_id)
    return cart
