"""The customer's one open cart: begun in whatever channel, and made theirs when a guest turns out to be them."""

from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Connection

from commercehub import events, ids
from commercehub.auth import Principal
from commercehub.events import Actor, Event
from commercehub.sales import carts, handoffs, open_carts
from commercehub.sales.carts import Owner
from commercehub.sales.open_carts import Claimed

FIRST_VERSION: Final = 1


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
    await tell(
        db,
        "cart.begun",
        cart_id=cart_id,
        customer_id=customer_id,
        version=FIRST_VERSION,
        actor=through.as_actor(),
        now=now,
    )
    return cart_id


async def claim(
    db: Connection,
    *,
    cart_id: UUID,
    customer_id: UUID,
    right: Owner,
    through: Principal,
    now: datetime,
    code_hash: bytes | None = None,
) -> Claimed:
    """Make a cart the customer's, and tell so, once. Neither a token nor a code from before opens it any more.

    ``code_hash``: the code that it is claimed by, which is used up. ``CartNotFound``, ``CartClosed``,
    ``CustomerNotFound``, or too much is in both carts: see ``open_carts.claim_cart``.
    """
    claimed = await open_carts.claim_cart(db, cart_id=cart_id, customer_id=customer_id, right=right, now=now)
    # A code of a cart that was merged is gone with it.
    if code_hash is not None and not claimed.merged:
        await handoffs.use_handoff(db, code_hash=code_hash, now=now)
    await handoffs.end_handoffs(db, cart_id=claimed.cart_id)
    if claimed.is_news or code_hash is not None:
        await tell(
            db,
            "cart.claimed" if claimed.is_news else "cart.resumed",
            cart_id=claimed.cart_id,
            customer_id=customer_id,
            version=claimed.version,
            actor=through.as_actor(),
            now=now,
            merged=ids.show("cart", cart_id) if claimed.merged else None,
        )
    await go_on_at(db, cart_id=claimed.cart_id, through=through, now=now)
    return claimed


async def go_on_at(db: Connection, *, cart_id: UUID, through: Principal, now: datetime) -> None:
    """Whoever works at a location has the cart there from now on; for anybody else nothing changes."""
    place = through.location_id
    if place is None:
        return
    taken = await open_carts.take_to(db, cart_id=cart_id, location_id=place, delivery_id=ids.new(), now=now)
    if taken is not None:
        await tell(
            db,
            "cart.taken_to_till",
            cart_id=cart_id,
            customer_id=taken.customer_id,
            version=taken.version,
            actor=through.as_actor(),
            now=now,
            location_id=ids.show("loc", place),
        )


async def tell(
    db: Connection,
    kind: str,
    *,
    cart_id: UUID,
    customer_id: UUID | None,
    version: int,
    actor: Actor,
    now: datetime,
    **more: str | None,
) -> None:
    """Put what became of a cart on its customer's timeline; of a guest's cart nothing is told."""
    if customer_id is None:
        return
    facts = {"cart_id": ids.show("cart", cart_id)} | {name: told for name, told in more.items() if told is not None}
    fact = Event(type=kind, aggregate_id=cart_id, sequence=version, body=facts, actor=actor, customer_id=customer_id)
    await events.append(db, [fact], now=now)
