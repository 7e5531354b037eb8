"""Paying what is left to pay of an order that is placed, from any channel."""

from typing import Annotated
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

from commercehub.api.call import REPLAYED, Answer, Call
from commercehub.api.checkout import TenderInput, read_tender
from commercehub.api.fields import Id
from commercehub.api.gift_cards import GIFT_CARD_CODES, counting_wrong_codes
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales.carts import Owner
from commercehub.views.order_page import OrderView
from commercehub.workflows import order_payments
from commercehub.workflows.order_payments import OrderPayment
from commercehub.workflows.tenders import TENDERS_MAX


class PaymentInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is paid with: all that is due, or a part of it where every tender says how much."""

    tenders: Annotated[list[TenderInput], Meta(min_length=1, max_length=TENDERS_MAX)]
    register_id: Id | None = None


@route(
    "POST",
    "/v1/orders/{order_id}/payments",
    permission=Permission.ORDERS_PAY,
    body=PaymentInput,
    answer=OrderView,
    status=201,
    needs_key=True,
    codes=(
        *("nothing_due", "payment_declined", "payment_not_completed", "payment_under_way", "tender_mismatch"),
        *("no_open_session", "register_required", "unknown_processor", "secret_in_request", *GIFT_CARD_CODES),
    ),
)
async def pay_order(call: Call, order_id: UUID) -> Answer:
    """Pay what is still due, or a part of it. 202 while the payment is not known or waits for the payer."""
    owner = call.owner if call.principal.is_public else Owner()

    async def is_payable(db: Connection) -> None:
        await order_payments.check_payable(db, order_id=order_id, owner=owner)

    async with call.asking_first(is_payable):
        given = await call.read(PaymentInput)
        wanted = OrderPayment(
            order_id=order_id,
            owner=owner,
            actor=call.actor,
            claim=await call.claim(subject=order_id),
            tenders=tuple(read_tender(call, tender) for tender in given.tenders),
            register_id=call.id("reg", given.register_id) if given.register_id else None,
            audited_as=call.audited_as,
        )
    codes = [tender.code for tender in given.tenders if tender.code]
    async with counting_wrong_codes(call, codes, paying_for=order_id):
        stored, is_replay = await order_payments.pay(call.database, call.hub.processors, wanted, render=call.hub.render)
    return Answer(body=stored.body.encode(), status=stored.status, headers=REPLAYED if is_replay else {})


ROUTES = (pay_order,)
