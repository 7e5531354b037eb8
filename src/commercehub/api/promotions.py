"""Promotion codes of a cart."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

from commercehub.api.call import Answer, Call
from commercehub.api.carts import CART_CODES, edit_of, is_open, reveal_addresses, show
from commercehub.api.fields import END
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import promotions
from commercehub.sales.errors import PromotionNotFound
from commercehub.sales.promotions import CODE_CHARACTERS_MAX
from commercehub.views.cart_page import CartView, conceal


class PromotionCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A code; its case does not matter."""

    code: Annotated[str, Meta(min_length=1, max_length=CODE_CHARACTERS_MAX, pattern=r"^[\x21-\x7e]+" + END)]


@route(
    "POST",
    "/v1/carts/{cart_id}/promotions",
    permission=Permission.CARTS,
    body=PromotionCode,
    answer=CartView,
    codes=("unknown_promotion", "too_many_promotions", *CART_CODES),
)
async def enter_promotion(call: Call, cart_id: UUID) -> Answer:
    """Enter a code. Of several the one that takes most off counts, alone."""
    async with call.asking_first(is_open(call, cart_id)):
        given = await call.read(PromotionCode)
    edit = edit_of(call, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        return await show(call, db, await promotions.enter_promotion(db, edit, code=given.code, now=now))

    return await reveal_addresses(call, await call.once(work, subject=cart_id, conceal=conceal))


@route(
    "DELETE",
    "/v1/carts/{cart_id}/promotions/{code}",
    permission=Permission.CARTS,
    answer=CartView,
    codes=CART_CODES,
)
async def take_promotion_out(call: Call, cart_id: UUID, code: str) -> CartView:
    """Take a code out."""
    if not code.isascii() or not code.isprintable():
        raise PromotionNotFound
    edit = edit_of(call, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        return await show(call, db, await promotions.take_promotion_out(db, edit, code=code, now=now))

    return await call.database.transaction(work)


ROUTES = (enter_promotion, take_promotion_out)
