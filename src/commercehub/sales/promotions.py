"""Promotions: codes that take a part of the price off. What they come to is said by ``pricing``."""

from datetime import datetime
from typing import Final

from asyncpg import Connection

from commercehub.sales.carts import EDIT, Cart, Edit, edit_values, read_cart, refusal
from commercehub.sales.errors import PromotionNotFound, TooManyPromotions, UnknownPromotion

CODE_CHARACTERS_MAX: Final = 40
PROMOTIONS_MAX: Final = 5
"""How many codes a cart takes. One of them counts: see ``pricing``."""

CREATE = """
INSERT INTO commercehub.promotions (code, percent_off_ppm, created_at) VALUES ($1, $2, $3)
ON CONFLICT (code) DO NOTHING
"""

ENTER = f"""
WITH cart AS ({EDIT}
),
promotion AS (
    SELECT code FROM commercehub.promotions WHERE code = $7 AND ended_at IS NULL
),
entered AS (
    INSERT INTO commercehub.cart_promotions (cart_id, code) SELECT cart.id, promotion.code FROM cart, promotion
    ON CONFLICT (cart_id, code) DO NOTHING
)
SELECT (SELECT id FROM cart) AS cart_id, (SELECT code FROM promotion) AS code
"""

TAKE_OUT = f"""
WITH cart AS ({EDIT}
),
gone AS (
    DELETE FROM commercehub.cart_promotions AS entered USING cart
    WHERE entered.cart_id = cart.id AND entered.code = $7
    RETURNING entered.code
)
SELECT (SELECT id FROM cart) AS cart_id, (SELECT code FROM gone) AS code
"""


async def create_promotion(db: Connection, *, code: str, percent_off_ppm: int, now: datetime) -> None:
    """Begin a promotion; one that there is already stays as it is."""
    await db.execute(CREATE, code.upper(), percent_off_ppm, now)


async def enter_promotion(db: Connection, edit: Edit, *, code: str, now: datetime) -> Cart:
    """Enter a code, whatever its case; once is enough.

    ``UnknownPromotion``, ``TooManyPromotions``, or why the cart takes no edit.
    """
    row = await db.fetchrow(ENTER, *edit_values(edit, now), code.upper())
    if row is None or row["cart_id"] is None:
        raise await refusal(db, edit)
    if row["code"] is None:
        raise UnknownPromotion(code)
    cart = await read_cart(db, cart_id=edit.cart_id, owner=edit.owner)
    if len(cart.prices.promotions) > PROMOTIONS_MAX:
        raise TooManyPromotions
    return cart


async def take_promotion_out(db: Connection, edit: Edit, *, code: str, now: datetime) -> Cart:
    """Take a code out. ``PromotionNotFound``, or why the cart takes no edit."""
    row = await db.fetchrow(TAKE_OUT, *edit_values(edit, now), code.upper())
    if row is None or row["cart_id"] is None:
        raise await refusal(db, edit)
    if row["code"] is None:
        raise PromotionNotFound
    return await read_cart(db, cart_id=edit.cart_id, owner=edit.owner)
