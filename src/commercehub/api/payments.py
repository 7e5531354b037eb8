"""Payments: every tender of an order, and every operation tried for it."""

from datetime import datetime
from uuid import UUID

import msgspec

import payments
from commercehub import ids
from commercehub.api.call import Call
from commercehub.api.fields import Id, Page, Paging, cut
from commercehub.api.routing import route
from commercehub.auth import Permission
from payments.money import Money


class PaymentSearch(Paging, frozen=True, kw_only=True):
    """The order."""

    order_id: Id


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """Something tried, and what became of it."""

    kind: str
    state: str
    amount: Money
    at: datetime
    reference: str | None
    decline_code: str | None


class PaymentView(msgspec.Struct, frozen=True, kw_only=True):
    """One tender of an order."""

    id: str
    order_id: str
    tender: str
    processor: str | None
    amount: Money
    captured: Money
    refunded: Money
    state: str
    operations: list[OperationView]


@route(
    "GET",
    "/v1/payments",
    permission=Permission.PAYMENTS_READ,
    query=PaymentSearch,
    answer=Page[PaymentView],
    codes=("invalid_cursor",),
)
async def list_payments(call: Call) -> Page[PaymentView]:
    """The payments of an order; empty where there is no such order."""
    wanted = call.query(PaymentSearch)
    order_id = call.id("ord", wanted.order_id)
    async with call.database.connection() as db:
        intents = await payments.read_intents(db, references=[order_id])
        operations = await payments.read_operations(db, reference=order_id)
    of: dict[UUID, list[payments.Operation]] = {}
    for operation in operations:
        of.setdefault(operation.intent_id, []).append(operation)
    page, next_cursor = cut(intents, wanted, id_of=lambda intent: intent.id)
    return Page(data=[_view(intent, of.get(intent.id, [])) for intent in page], next_cursor=next_cursor)


def _view(intent: payments.Intent, operations: list[payments.Operation]) -> PaymentView:
    def money(amount: int) -> Money:
        return Money(amount, intent.currency)

    return PaymentView(
        id=ids.show("pay", intent.id),
        order_id=ids.show("ord", intent.reference),
        tender=intent.tender,
        processor=intent.processor,
        amount=money(intent.amount_minor),
        captured=money(intent.captured_minor),
        refunded=money(intent.refunded_minor),
        state=intent.state,
        operations=[
            OperationView(
                kind=each.kind,
                state=each.state,
                amount=money(each.amount_minor),
                at=each.at,
                reference=each.reference,
                decline_code=each.decline_code,
            )
            for each in operations
        ],
    )


ROUTES = (list_payments,)
