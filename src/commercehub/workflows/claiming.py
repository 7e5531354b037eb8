"""The customer's one open cart: begun in whatever channel, and made theirs when a guest turns out to be them."""

from datetime import datetime
from uuid import UUID

from asyncpg import Connection

from commercehub import events, ids
from commercehub.auth import Principal
from commercehub.events import Event
from commercehub.sales import carts, open_carts
from commercehub.sales.carts import Owner
from commercehub.sales.open_carts import Claimed


async def open_cart_for(
    db: Connection, *, customer_id: UUID, through: Principal, currency: str | None, now: datetime
) -> UUID:
    """The customer's open cart, begun if there is none; at a till it goes on there. ``CustomerNotFound``."""
    cart_id = await open_carts.lock_open_cart(db, customer_id=customer_id)
    if cart_id is not None:
        await go_on_at(db, cart_id=cart_id, through=through, now=now)
        return cart_id
    cart_id = ids.new()
    channel = through.sales_channel
    await carts.create_cart(
        db,
        cart_id=cart_id,
        sales_channel_id=channel.id,
        channel=channel.kind,
        location_id=through.location_id,
        token_hash=None,
        currency=currency or channel.currency,
        tax_included=channel.tax_included,
        delivery_id=ids.new(),
        now=now,
        customer_id=customer_id,
    )
    return cart_id


async def claim(
    db: Connection, *, cart_id: UUID, customer_id: UUID, right: Owner, through: Principal, now: datetime
) -> Claimed:
    """Make a cart the customer's, and tell so, once. ``CartNotFound``, ``CartClosed`` or ``CustomerNotFound``."""
    claimed = await open_carts.claim_cart(db, cart_id=cart_id, customer_id=customer_id, right=right, now=now)
    await go_on_at(db, cart_id=claimed.cart_id, through=through, now=now)
    if claimed.is_news:
        fact = Event(
            type="cart.claimed",
            aggregate_id=claimed.cart_id,
            sequence=claimed.version,
            body={
                "cart_id": ids.show("cart", claimed.cart_id),
                **({"merged": ids.show("cart", cart_id)} if claimed.merged else {}),
            },
            actor=through.as_actor(),
            customer_id=customer_id,
        )
        await events.append(db, [fact], now=now)
    return claimed


async def go_on_at(db: Connection, *, cart_id: UUID, through: Principal, now: datetime) -> None:
    """Whoever works at a location has the cart there from now on; for anybody else nothing changes."""
    if through.location_id is not None:
        await open_carts.take_to(db, cart_id=cart_id, location_id=through.location_id, delivery_id=ids.new(), now=now)
