"""A wishlist as its customer sees it, or whoever has the link: what is on it, what it costs, and whether it is there."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from asyncpg import Connection

import inventory
from commercehub import ids
from commercehub.sales.lists import Item, Wishlist
from payments.money import Money


class WishlistItemView(msgspec.Struct, frozen=True, kw_only=True):
    """A variant on a list. ``location_id``: the store that it was scanned in, if the reader may know."""

    id: str
    sku: str
    title: str
    price: Money | None
    available_to_ship: int
    added_at: datetime
    location_id: str | None = None


class WishlistView(msgspec.Struct, frozen=True, kw_only=True):
    """A wishlist. By its link it is read without saying whose it is."""

    id: str
    name: str
    is_shared: bool
    version: int
    created_at: datetime
    items: list[WishlistItemView]
    customer_id: str | None = None


async def show_wishlists(
    db: Connection, lists: Sequence[Wishlist], *, currency: str, clock_offset: timedelta, to_owner: bool = True
) -> list[WishlistView]:
    """The pages of lists, with the stock of all items read once. ``to_owner=False``: nothing about the customer."""
    skus = sorted({item.sku for each in lists for item in each.items})
    levels = await inventory.read_levels(db, skus=skus, clock_offset=clock_offset) if skus else []
    available: dict[str, int] = {}
    for level in levels:
        if "ship" in level.capabilities:
            available[level.sku] = available.get(level.sku, 0) + level.available
    return [
        WishlistView(
            id=ids.show("list", each.id),
            name=each.name,
            is_shared=each.is_shared,
            version=each.version,
            created_at=each.created_at,
            items=[_item(item, currency, available.get(item.sku, 0), to_owner=to_owner) for item in each.items],
            customer_id=ids.show("cus", each.customer_id) if to_owner else None,
        )
        for each in lists
    ]


def _item(item: Item, currency: str, available: int, *, to_owner: bool) -> WishlistItemView:
    return WishlistItemView(
        id=ids.show("item", item.id),
        sku=item.sku,
        title=item.title,
        price=Money(item.unit_price, currency) if item.unit_price is not None else None,
        available_to_ship=available,
        added_at=item.added_at,
        location_id=ids.show("loc", item.location_id) if to_owner and item.location_id else None,
    )
