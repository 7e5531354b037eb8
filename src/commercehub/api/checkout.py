"""Checkout: one call that makes an order of a cart, safe to repeat with the same key."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from commercehub import ids
from commercehub.api.call import REPLAYED, Answer, Call
from commercehub.api.carts import see_open_cart
from commercehub.api.errors import Problem
from commercehub.api.fields import END, Email, Id, Phone, PositiveMoney
from commercehub.api.gift_cards import GIFT_CARD_CODES, GiftCardCode, counting_wrong_codes, hash_code
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales.orders import Order
from commercehub.views.order_page import OrderView, show_order
from commercehub.workflows import checkout
from commercehub.workflows.planning import Checkout
from commercehub.workflows.refusals import UnknownProcessor
from commercehub.workflows.rendering import Render
from commercehub.workflows.stored_values import GIFT_CARD, STORE_CREDIT
from commercehub.workflows.tenders import PAY_AT_PICKUP, TENDERS_MAX, Tender
from fulfillment import Fulfillment
from payments.money import Money

PROCESSOR_DEFAULT: Final = "sandbox"


class TenderInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way to pay. The last one without ``amount`` pays the rest.

    A gift card or store credit that is not the last pays, without ``amount``, what it has, up to what is due. A gift
    card without ``code`` stands for those that were put into the cart. ``store_credit``, and the gift cards in a
    customer's cart, are spent by the customer and by whoever helps customers: a cart token alone does not.
    """

    type: Literal["card", "cash", "gift_card", "store_credit", "pay_at_pickup"]
    amount: PositiveMoney | None = None
    tendered: PositiveMoney | None = None
    processor: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    payment_method: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+" + END)] | None = None
    code: GiftCardCode | None = None


class CheckoutInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a cart is paid with, and whom the order is for."""

    tenders: Annotated[list[TenderInput], Meta(max_length=TENDERS_MAX)] = []
    email: Email | None = None
    phone: Phone | None = None
    expected_total: PositiveMoney | None = None
    register_id: Id | None = None


def renderer(base_url: str) -> Render:
    """How answers about orders are written, for whoever finishes them."""

    def declined(order: Order, decline_code: str | None) -> str:
        path = f"/v1/carts/{ids.show('cart', order.cart_id)}/checkout"
        if decline_code is None:
            problem = Problem("payment_not_completed", "The processor knows of no charge. The cart is open again.")
        else:
            detail = "Nothing is held and nothing was charged. The cart is open again."
            problem = Problem("payment_declined", detail, facts={"decline_code": decline_code})
        return problem.body(instance=path, base_url=base_url).decode()

    def refused(order: Order, decline_code: str | None) -> str:
        path = f"/v1/orders/{ids.show('ord', order.id)}/payments"
        if decline_code is None:
            problem = Problem("payment_not_completed", "The processor knows of no charge. The order is as it was.")
        else:
            detail = "Nothing was charged. The order is as it was."
            problem = Problem("payment_declined", detail, facts={"decline_code": decline_code})
        return problem.body(instance=path, base_url=base_url).decode()

    def show(order: Order, work: Sequence[Fulfillment], next_url: str | None, /, *, due: int = 0) -> str:
        view = show_order(order, work, base_url=base_url, next_url=next_url, due=due)
        return msgspec.json.encode(view).decode()

    return Render(order=show, declined=declined, refused=refused)


@route(
    "POST",
    "/v1/carts/{cart_id}/checkout",
    permission=Permission.CARTS,
    body=CheckoutInput,
    answer=OrderView,
    status=201,
    needs_key=True,
    codes=(
        *("payment_declined", "payment_not_completed", "out_of_stock", "total_changed", "no_open_session"),
        *(
            "cart_already_checked_out",
            "cart_merged",
            "version_conflict",
            "delivery_not_offered",
            "empty_cart",
            "delivery_required",
            "contact_required",
            "tender_mismatch",
            "too_many_lines",
            "too_many_gift_cards",
        ),
        *("register_required", "no_price", "unknown_processor", "secret_in_request", *GIFT_CARD_CODES),
    ),
)
async def check_out(call: Call, cart_id: UUID) -> Answer:
    """Make an order of a cart. 201 with the order; 202 while its payment is not known or waits for the payer."""
    owner = call.owner
    async with call.asking_first(lambda db: see_open_cart(db, cart_id=cart_id, owner=owner)):
        given = await call.read(CheckoutInput)
        request = Checkout(
            cart_id=cart_id,
            owner=owner,
            actor=call.actor,
            claim=await call.claim(subject=cart_id),
            tenders=tuple(read_tender(call, tender) for tender in given.tenders),
            register_id=call.id("reg", given.register_id) if given.register_id else None,
            email=given.email,
            phone=given.phone,
            expected_total=_money(given.expected_total),
            version=call.if_match(),
            audited_as=call.audited_as,
        )
    codes = [tender.code for tender in given.tenders if tender.code]
    async with counting_wrong_codes(call, codes, paying_for=cart_id):
        stored, is_replay = await checkout.buy(call.database, call.hub.processors, request, render=call.hub.render)
    return Answer(body=stored.body.encode(), status=stored.status, headers=REPLAYED if is_replay else {})


def read_tender(call: Call, given: TenderInput) -> Tender:
    """A tender as the workflows take it, or a ``Problem``: what does not belong to its type is refused."""
    amount, tendered = _money(given.amount), _money(given.tendered)
    if given.code is not None and given.type != GIFT_CARD:
        raise Problem("tender_mismatch", "A gift card has a code, and nothing else.")
    if given.type == GIFT_CARD and given.code is None and given.amount is not None:
        raise Problem("tender_mismatch", "The cart's own gift cards pay what they have: give no amount.")
    if given.type in {GIFT_CARD, STORE_CREDIT, PAY_AT_PICKUP}:
        if given.payment_method is not None or given.processor is not None or tendered is not None:
            raise Problem("tender_mismatch", f"{given.type} has no payment_method, and nothing is tendered.")
        return Tender(type=given.type, amount=amount, code_hash=hash_code(given.code) if given.code else None)
    if given.type == "cash":
        if not call.principal.may(Permission.TILL):
            raise Problem("forbidden", "Cash is taken at a till.")
        if given.payment_method is not None or given.processor is not None:
            raise Problem("tender_mismatch", "Cash has no payment_method and no processor.")
        return Tender(type="cash", amount=amount, tendered=tendered)
    if given.payment_method is None or given.tendered is not None:
        raise Problem("tender_mismatch", "A card needs its payment_method, and nothing is tendered.")
    processor = given.processor or PROCESSOR_DEFAULT
    if processor not in call.hub.processors:
        raise UnknownProcessor(processor)
    return Tender(type="card", amount=amount, processor=processor, payment_method=given.payment_method)


def _money(given: PositiveMoney | None) -> Money | None:
    return Money(given.amount, given.currency) if given else None


ROUTES = (check_out,)
