"""Gift cards that somebody put into a cart to pay with. Which card it is is kept, and how its code ends; not the code."""

from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Connection

from commercehub.sales.carts import EDIT, Cart, Edit, edit_values, read_cart, refusal
from commercehub.sales.errors import GiftCardNotFound, TooManyGiftCards

GIFT_CARDS_MAX: Final = 5

PUT_IN = f"""
WITH cart AS ({EDIT}
),
card AS (
    INSERT INTO commercehub.cart_gift_cards (cart_id, gift_card_id, last4, added_at) SELECT id, $7, $8, $2 FROM cart
    ON CONFLICT (cart_id, gift_card_id) DO NOTHING
)
SELECT id AS cart_id FROM cart
"""

TAKE_OUT = f"""
WITH cart AS ({EDIT}
),
gone AS (
    DELETE FROM commercehub.cart_gift_cards AS card USING cart
    WHERE card.cart_id = cart.id AND card.gift_card_id = $7
    RETURNING card.gift_card_id
)
SELECT (SELECT id FROM cart) AS cart_id, (SELECT gift_card_id FROM gone) AS gift_card_id
"""


async def put_gift_card_in(db: Connection, edit: Edit, *, gift_card_id: UUID, last4: str, now: datetime) -> Cart:
    """The cart remembers a gift card; once is enough. ``TooManyGiftCards``, or why the cart takes no edit."""
    if await db.fetchval(PUT_IN, *edit_values(edit, now), gift_card_id, last4) is None:
        raise await refusal(db, edit)
    cart = await read_cart(db, cart_id=edit.cart_id, owner=edit.owner)
    if len(cart.gift_cards) > GIFT_CARDS_MAX:
        raise TooManyGiftCards
    return cart


async def take_gift_card_out(db: Connection, edit: Edit, *, gift_card_id: UUID, now: datetime) -> Cart:
    """The cart forgets a gift card. ``GiftCardNotFound``, or why the cart takes no edit."""
    row = await db.fetchrow(TAKE_OUT, *edit_values(edit, now), gift_card_id)
    if row is None or row["cart_id"] is None:
        raise await refusal(db, edit)
    if row["gift_card_id"] is None:
        raise GiftCardNotFound
    return await read_cart(db, cart_id=edit.cart_id, owner=edit.owner)
