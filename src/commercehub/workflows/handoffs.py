"""Carts handed from one channel to another by a code that somebody reads out, types in or scans."""

import hmac
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import auth
from commercehub.auth import Principal
from commercehub.events import Actor
from commercehub.sales import carts, handoffs
from commercehub.sales.carts import Cart, Owner
from commercehub.sales.errors import CartNotFound
from commercehub.workflows import claiming

LETTERS: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""None that is taken for another: 32 of them, five bits each."""
CODE_LENGTH: Final = 8


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """The cart as it goes on, and the token that opens it for who has no better right."""

    cart: Cart
    token: str | None
    merged: bool = False
    capped: tuple[UUID, ...] = ()


def cart_token(secret: str, cart_id: UUID, *, serial: int = 0) -> str:
    """What opens a guest's cart. Derived, so that it can be shown again and need not be kept.

    ``serial`` stands in it: which of a cart's tokens it was is no secret.
    """
    head = f"{serial}." if serial else ""
    return head + hmac.new(secret.encode(), b"cart:" + cart_id.bytes + head.encode(), "sha256").hexdigest()


def serial_of(token: str) -> int:
    """Which of a cart's tokens it is."""
    head, dot, _ = token.partition(".")
    return int(head) if dot else 0


def handoff_code(secret: str, cart_id: UUID, ends_at: datetime) -> str:
    """The code that hands the cart off until then: derived, so that it can be shown again. Shown as ``7KQ4-M2XD``."""
    content = f"handoff:{cart_id}:{ends_at.isoformat()}".encode()
    number = int.from_bytes(hmac.digest(secret.encode(), content, "sha256")[:5], "big")
    letters = "".join(LETTERS[number >> shift & 31] for shift in range(0, 5 * CODE_LENGTH, 5))
    return f"{letters[:4]}-{letters[4:]}"


def code_hash(code: str) -> bytes:
    """What is stored of a code, in whatever way it is written down."""
    return auth.digest("handoff:" + code.upper().replace("-", "").replace(" ", ""))


async def hand_off(
    db: Connection, *, cart_id: UUID, owner: Owner, secret: str, actor: Actor, now: datetime
) -> datetime:
    """From now on a code opens the cart in another channel, once; returns until when, which the code follows from.

    ``CartNotFound``, or ``CartClosed`` where there is nothing to go on with.
    """
    # Locked: whoever claims it meanwhile ends this code too.
    await carts.lock_carts(db, cart_ids=[cart_id])
    cart = await carts.read_cart(db, cart_id=cart_id, owner=owner)
    if cart.state != "open":
        raise await carts.find_order_of(db, cart_id=cart_id, owner=owner)
    ends_at = now + handoffs.OPENS_FOR
    hashed = code_hash(handoff_code(secret, cart_id, ends_at))
    await handoffs.offer_handoff(db, code_hash=hashed, cart_id=cart_id, ends_at=ends_at, now=now)
    await claiming.tell(
        db,
        "cart.handed_off",
        cart_id=cart_id,
        customer_id=cart.customer_id,
        version=cart.version,
        actor=actor,
        now=now,
    )
    return ends_at


async def resume(db: Connection, *, code: str, through: Principal, secret: str, now: datetime) -> Resumed:
    """Go on with the very same cart in the caller's channel. ``CartNotFound`` for a code that opens nothing.

    At a till it is the till's from now on; a customer makes a guest's cart theirs, which may merge it into the one they
    have open, and nobody else has it open by a token then; a publishable key gets a token.
    """
    hashed = code_hash(code)
    cart_id = await handoffs.find_handoff(db, code_hash=hashed, now=now)
    merged, capped = False, tuple[UUID, ...]()
    if through.customer_id is not None:
        claimed = await claiming.claim(
            db,
            cart_id=cart_id,
            customer_id=through.customer_id,
            right=Owner(),
            through=through,
            now=now,
            code_hash=hashed,
        )
        cart_id, merged, capped = claimed.cart_id, claimed.merged, claimed.capped
    else:
        locked = await carts.lock_carts(db, cart_ids=[cart_id])
        if locked[cart_id].state != "open":
            raise CartNotFound
        await handoffs.use_handoff(db, code_hash=hashed, now=now)
        await claiming.go_on_at(db, cart_id=cart_id, through=through, now=now)
    cart = await carts.read_cart(db, cart_id=cart_id, owner=Owner())
    if through.customer_id is None:
        await claiming.tell(
            db,
            "cart.resumed",
            cart_id=cart.id,
            customer_id=cart.customer_id,
            version=cart.version,
            actor=through.as_actor(),
            now=now,
        )
    token = None
    if through.is_publishable:
        token = cart_token(secret, cart.id, serial=cart.token_serial)
        await handoffs.let_in(db, cart_id=cart.id, token_hash=auth.digest(token))
    return Resumed(cart=cart, token=token, merged=merged, capped=capped)
