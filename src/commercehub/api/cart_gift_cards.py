"""Gift cards of a cart: entered wherever somebody has the card at hand, and spent at checkout in whatever channel."""

from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Connection

import payments
from commercehub.api.call import Answer, Call
from commercehub.api.carts import CART_CODES, edit_of, is_open, reveal_addresses, show
from commercehub.api.errors import FieldError, Problem
from commercehub.api.gift_cards import GIFT_CARD_CODES, GiftCardCode, counting_wrong_codes, hash_code
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import cart_gift_cards
from commercehub.views.cart_page import CartView, conceal
from commercehub.workflows import claiming
from commercehub.workflows.refusals import CURRENCY, EXPIRED, UNKNOWN, StoredValueNotUsable
from commercehub.workflows.stored_values import GIFT_CARD


class CartGiftCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The code on a card. It is looked up and kept nowhere."""

    code: GiftCardCode


@route(
    "POST",
    "/v1/carts/{cart_id}/gift-cards",
    permission=Permission.CARTS,
    body=CartGiftCard,
    answer=CartView,
    codes=("too_many_gift_cards", *GIFT_CARD_CODES, *CART_CODES),
)
async def put_gift_card_in(call: Call, cart_id: UUID) -> Answer:
    """The cart remembers a gift card: a tender `gift_card` without a code pays with those of the cart."""
    async with call.asking_first(is_open(call, cart_id)):
        given = await call.read(CartGiftCard)
        if not call.principal.may(Permission.GIFT_CARDS_READ):
            raise Problem("forbidden", "This credential takes no gift cards.")
    edit = edit_of(call, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        # Who insists on another version hears of that first, and uses up no try.
        call.check_version((await is_open(call, cart_id)(db)).version)
        card = await _find(call, db, given.code)
        last4 = "".join(letter for letter in given.code if letter.isalnum())[-4:].upper()
        cart = await cart_gift_cards.put_gift_card_in(db, edit, gift_card_id=card.id, last4=last4, now=now)
        if card.currency != cart.currency:
            raise StoredValueNotUsable(0, GIFT_CARD, CURRENCY)
        await claiming.tell(
            db,
            "cart.gift_card_put_in",
            cart_id=cart.id,
            customer_id=cart.customer_id,
            version=cart.version,
            actor=call.actor,
            now=now,
        )
        return await show(call, db, cart)

    try:
        async with counting_wrong_codes(call, [given.code], paying_for=cart_id):
            return await reveal_addresses(call, await call.once(work, subject=cart_id, conceal=conceal))
    except StoredValueNotUsable as error:
        where = FieldError(pointer="/code", detail="It cannot be spent in this cart.")
        facts = {"reason": error.reason}
        raise Problem("gift_card_not_usable", where.detail, errors=[where], facts=facts) from error


@route(
    "DELETE",
    "/v1/carts/{cart_id}/gift-cards/{gift_card_id}",
    permission=Permission.CARTS,
    answer=CartView,
    codes=CART_CODES,
)
async def take_gift_card_out(call: Call, cart_id: UUID, gift_card_id: UUID) -> CartView:
    """The cart forgets a gift card."""
    edit = edit_of(call, cart_id)

    async def work(db: Connection, now: datetime) -> CartView:
        cart = await cart_gift_cards.take_gift_card_out(db, edit, gift_card_id=gift_card_id, now=now)
        return await show(call, db, cart)

    return await call.database.transaction(work)


async def _find(call: Call, db: Connection, code: str) -> payments.StoredValue:
    try:
        card = await payments.find_gift_card(db, code_hash=hash_code(code), clock_offset=call.database.clock_offset)
    except payments.StoredValueNotFound as error:
        raise StoredValueNotUsable(0, GIFT_CARD, UNKNOWN) from error
    if card.is_expired:
        raise StoredValueNotUsable(0, GIFT_CARD, EXPIRED)
    return card


ROUTES = (put_gift_card_in, take_gift_card_out)
