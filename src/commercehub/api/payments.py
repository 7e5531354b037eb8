"""Payments: every tender of an order, every operation tried for it, and what staff may ask of one."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import msgspec
from asyncpg import Connection

import payments
from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.fields import Id, Name, Page, Paging, PositiveMoney, cut, in_currency
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import orders
from commercehub.sales.orders import Order
from commercehub.workflows import refunds
from payments import Kind
from payments.money import Money


class PaymentSearch(Paging, frozen=True, kw_only=True):
    """The order."""

    order_id: Id


class PaymentStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much, all that can be unless it is said, and why."""

    reason: Name
    amount: PositiveMoney | None = None


class PaymentRefund(PaymentStep, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is given back, and why; cash from the register's drawer, at a store the only open one unless it is named."""

    register_id: Id | None = None


StepT = TypeVar("StepT", bound=PaymentStep)


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


@route(
    "POST",
    "/v1/payments/{payment_id}/capture",
    permission=Permission.PAYMENTS_WRITE,
    body=PaymentStep,
    answer=PaymentView,
    needs_key=True,
    codes=("invalid_transition",),
)
async def capture_payment(call: Call, payment_id: UUID) -> Answer:
    """Take what is held, before anything leaves. A job asks the processor."""
    return await _begin(call, payment_id, Kind.CAPTURE)


@route(
    "POST",
    "/v1/payments/{payment_id}/void",
    permission=Permission.PAYMENTS_WRITE,
    body=PaymentStep,
    answer=PaymentView,
    needs_key=True,
    codes=("invalid_transition", "partial_void"),
)
async def void_payment(call: Call, payment_id: UUID) -> Answer:
    """Let go of all that is held: no processor lets go of a part. A job asks it."""
    return await _begin(call, payment_id, Kind.VOID)


@route(
    "POST",
    "/v1/payments/{payment_id}/refund",
    permission=Permission.PAYMENTS_WRITE,
    body=PaymentRefund,
    answer=PaymentView,
    needs_key=True,
    codes=("nothing_to_refund", "refund_too_large", "no_open_session", "register_required"),
)
async def refund_payment(call: Call, payment_id: UUID) -> Answer:
    """Give back what was taken: gift cards, credit and cash at once, a card by a job.

    Cash comes out of a drawer where the caller works at a store with tills, or names a register; else from the safe.
    """

    async def do(db: Connection, given: PaymentRefund, amount: int | None, now: datetime) -> Order:
        register_id = call.id("reg", given.register_id) if given.register_id else None
        counter = None
        if call.principal.may(Permission.TILL):
            counter = refunds.Counter(location_id=call.principal.location_id, register_id=register_id)
        return await refunds.refund_payment(
            db,
            intent_id=payment_id,
            amount_minor=amount,
            reason=given.reason,
            actor=call.actor,
            counter=counter,
            now=now,
        )

    return await _step(call, payment_id, PaymentRefund, do)


async def _begin(call: Call, payment_id: UUID, kind: Kind) -> Answer:
    async def do(db: Connection, _: PaymentStep, amount: int | None, now: datetime) -> Order:
        return await refunds.begin_operation(
            db, kind, intent_id=payment_id, amount_minor=amount, actor=call.actor, now=now
        )

    return await _step(call, payment_id, PaymentStep, do)


async def _step(
    call: Call,
    payment_id: UUID,
    kind: type[StepT],
    do: Callable[[Connection, StepT, int | None, datetime], Awaitable[Order]],
) -> Answer:
    async with call.asking_first(lambda db: payments.read_reference(db, intent_id=payment_id)):
        given = await call.read(kind)

    async def work(db: Connection, now: datetime) -> PaymentView:
        order_id = await payments.read_reference(db, intent_id=payment_id)
        order = await orders.lock_order(db, order_id=order_id)
        amount = in_currency(given.amount, order.currency, "/amount") if given.amount else None
        await do(db, given, amount, now)
        intents = await payments.read_intents(db, references=[order_id])
        operations = await payments.read_operations(db, reference=order_id)
        (intent,) = [each for each in intents if each.id == payment_id]
        return _view(intent, [each for each in operations if each.intent_id == payment_id])

    return await call.once(work, subject=payment_id, needs_key=True)


ROUTES = (list_payments, capture_payment, void_payment, refund_payment)
