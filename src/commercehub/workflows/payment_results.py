"""What follows from what a processor said: one ``finalize`` for the browser, the webhook and the completer.

``inquiries`` talks to the processor and holds no transaction; everything that takes ``db`` talks to nobody.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from asyncpg import Connection
from msgspec.structs import replace

import fulfillment
import inventory
import payments
from commercehub import idempotency, ids
from commercehub.database import Database, Work
from commercehub.events import SYSTEM, Actor
from commercehub.idempotency import Stored
from commercehub.sales import open_carts, orders
from commercehub.sales.carts import Owner
from commercehub.sales.orders import Order, OrderState
from commercehub.workflows import dues, inquiries, order_payments, refunds
from commercehub.workflows.announcing import move_and_tell
from commercehub.workflows.dues import begin_captures
from commercehub.workflows.inquiries import Heard
from commercehub.workflows.rendering import Render
from payments.processors import Processor

CARRIED_OUT: Final = "carry_out"
PICKUP: Final = "pickup"
DUE_BATCH: Final = 50
DUE_AT_ONCE: Final = 16
"""Of a batch: one that waits for a processor must not keep the others."""
GIVEN_BACK: Final = frozenset({OrderState.CANCELLED, OrderState.FAILED})
FAILED_STATUS: Final = 402

log = structlog.get_logger()


async def ask_and_finalize(
    database: Database,
    processor: Processor,
    operation: payments.OpenOperation,
    *,
    order_id: UUID,
    render: Render,
) -> Stored:
    """Ask for an authorization that is written down, and do what follows; the answer for the payer."""
    heard = await inquiries.ask(processor, operation)

    async def work(db: Connection, now: datetime) -> Stored:
        return await finalize(db, heard, order_id=order_id, now=now, render=render)

    return await database.transaction(work)


async def answer_as_it_is(database: Database, *, order_id: UUID, render: Render) -> Stored:
    """The answer to a repeated checkout whose first attempt is still under way: 202 with the order as it is now."""
    async with database.connection() as db:
        order = await orders.read_order(db, order_id=order_id, owner=Owner())
        return await _as_it_is(db, order, render=render)


async def _as_it_is(db: Connection, order: Order, *, render: Render) -> Stored:
    if order.state in orders.UNPAID:
        urls = await payments.read_next_urls(db, references=[order.id])
        return Stored(202, render.order(order, (), urls.get(order.id)))
    if order.state is OrderState.FAILED:
        tried = await payments.read_operations(db, reference=order.id)
        codes = [each.decline_code for each in tried if each.kind is payments.Kind.AUTHORIZE]
        return Stored(FAILED_STATUS, render.declined(order, codes[0] if codes else None))
    work = await fulfillment.read_fulfillments_of(db, references=[order.id])
    return Stored(201, render.order(order, work, None))


async def finalize(db: Connection, heard: Heard, *, order_id: UUID, now: datetime, render: Render) -> Stored:
    """Post everything of an order whose payment succeeded, release everything of one that failed, or leave it waiting.

    Comes to the same whoever calls it first and however often: an order that does not wait any more is left alone.
    """
    order = await orders.lock_unpaid_order(db, order_id=order_id)
    if order is None:
        answer = await order_payments.finalize_payment(db, heard, order_id=order_id, now=now, render=render)
        if answer is not None:
            return answer
        order = await _hear_late(db, heard, order_id=order_id, now=now)
        return await _as_it_is(db, order, render=render)
    recorded = await payments.record(db, [heard.fact], now=now)
    if not recorded:
        return await _as_it_is(db, order, render=render)
    intent = recorded[0].intent
    match intent.state:
        case payments.IntentState.AUTHORIZED:
            return await _succeed(db, order, intent, now=now, render=render)
        case payments.IntentState.DECLINED | payments.IntentState.FAILED:
            return await _fail(db, order, heard.fact, now=now, render=render)
    if intent.state is payments.IntentState.UNKNOWN and order.state is not OrderState.PAYMENT_UNKNOWN:
        order = await move_and_tell(
            db,
            order,
            [("order.payment_unknown", {})],
            to=OrderState.PAYMENT_UNKNOWN,
            payment_state="unknown",
            fulfillment_state=order.fulfillment_state,
            actor=SYSTEM,
            now=now,
        )
    return Stored(202, render.order(order, (), heard.next_url))


async def _hear_late(db: Connection, heard: Heard, *, order_id: UUID, now: datetime) -> Order:
    """Book what is heard of an authorization once its order waits no more.

    Money that was promised after the payment, or the order, had been given up is booked with the void that lets go of
    it: nobody will take it, and nobody may forget it. Money for what was due later is booked as such.
    """
    order = await orders.lock_order(db, order_id=order_id)
    succeeded = heard.fact.state is payments.OperationState.SUCCEEDED
    recorded = await payments.record(db, [heard.fact], now=now)
    intent = recorded[0].intent if recorded else None
    unwanted = intent if intent is not None and order.state in GIVEN_BACK else None
    if succeeded and intent is None:
        late = replace(heard.fact, operation_id=ids.new())
        intent = unwanted = await payments.record_late(db, late, intent_id=heard.intent_id, now=now)
    if intent is None or heard.fact.state not in payments.FINAL:
        return order
    word = "payment.authorized" if succeeded else "payment.declined"
    if succeeded and unwanted is not None:
        void = (ids.new(), unwanted.id, payments.Kind.VOID, unwanted.authorized_minor)
        await payments.begin(db, [void], now=now)
        word = "payment.came_late"
        log.warning(word, order_id=ids.show("ord", order_id), intent_id=str(unwanted.id))
    told = [(word, {"amount": {"amount": intent.amount_minor, "currency": order.currency}})]
    return await move_and_tell(
        db,
        order,
        told,
        to=order.state,
        payment_state=dues.state_of(order, await dues.read_balances(db, order)),
        fulfillment_state=order.fulfillment_state,
        actor=SYSTEM,
        now=now,
    )


async def _succeed(db: Connection, order: Order, intent: payments.Intent, *, now: datetime, render: Render) -> Stored:
    holds = await inventory.read_holds(db, reference=order.id)
    carried = {each.id for each in order.deliveries if each.method == CARRIED_OUT}
    delivery_of = {line.id: line.delivery_id for line in order.lines}
    gone = [hold for hold in holds if delivery_of[hold.line_id] in carried]
    changes = await inventory.post(
        db,
        [(order.id, hold) for hold in gone],
        label=ids.show("ord", order.id),
        actor=order.placed_by,
        channel=order.channel,
        now=now,
    )
    # After the stock: the lock order is stock, then gift cards, then drawers.
    balances = [payments.Balance(intent=intent)]
    if intent.amount_minor != order.total:
        intents = await payments.read_intents(db, references=[order.id])
        local = [each for each in intents if each.processor is None]
        await payments.settle_local(db, [(each, ids.new()) for each in local], now=now)
        balances = await dues.read_balances(db, order)
    if gone:
        order = await fulfil_units(db, order, {hold.line_id: hold.quantity for hold in gone})
        await begin_captures(db, order, balances, now=now)
    sources = [
        fulfillment.Allocation(line_id=hold.line_id, sku=hold.sku, location_id=hold.location_id, quantity=hold.quantity)
        for hold in holds
        if hold not in gone
    ]
    work = work_for(order, sources, now=now)
    await fulfillment.create_fulfillments(db, work, now=now)
    order = await move_and_tell(
        db,
        order,
        [("order.placed", {"total": {"amount": order.total, "currency": order.currency}})],
        to=OrderState.PLACED if work else OrderState.COMPLETED,
        payment_state=dues.state_of(order, balances),
        fulfillment_state=orders.fulfillment_state(order.lines),
        # Whoever hears of it: it was placed by who checked out, where they did.
        actor=Actor(name=order.placed_by, channel=order.channel, location_id=order.location_id),
        changes=changes,
        now=now,
    )
    stored = Stored(201, render.order(order, work, None, due=dues.amount_due(order, balances)))
    await idempotency.settle(db, [(order.id, stored)])
    return stored


async def _fail(db: Connection, order: Order, fact: payments.Fact, *, now: datetime, render: Render) -> Stored:
    holds = await inventory.read_holds(db, reference=order.id)
    changes = await inventory.void(db, [(order.id, hold) for hold in holds], now=now)
    await payments.drop_local(db, reference=order.id)
    await open_carts.reopen_cart(db, cart_id=order.cart_id)
    order = await move_and_tell(
        db,
        order,
        [("order.payment_failed", {"decline_code": fact.decline_code})],
        to=OrderState.FAILED,
        payment_state="unpaid",
        fulfillment_state=order.fulfillment_state,
        actor=SYSTEM,
        changes=changes,
        now=now,
    )
    stored = Stored(FAILED_STATUS, render.declined(order, fact.decline_code))
    await idempotency.settle(db, [(order.id, stored)])
    return stored


def work_for(
    order: Order, sources: Sequence[fulfillment.Allocation], *, now: datetime
) -> list[fulfillment.Fulfillment]:
    """The work that an order gives: one fulfillment per method and location."""
    methods = {each.id: each.method for each in order.deliveries}
    method_of = {line.id: methods[line.delivery_id] for line in order.lines}
    groups: dict[tuple[str, UUID], list[fulfillment.Line]] = {}
    for source in sources:
        groups.setdefault((method_of[source.line_id], source.location_id), []).append(
            fulfillment.Line(line_id=source.line_id, sku=source.sku, quantity=source.quantity)
        )
    return [
        fulfillment.Fulfillment(
            id=ids.new(),
            reference=order.id,
            kind=fulfillment.Kind.PICKUP if method == PICKUP else fulfillment.Kind.SHIP,
            method=method,
            location_id=location_id,
            state=fulfillment.State.OPEN,
            version=1,
            created_at=now,
            lines=tuple(lines),
        )
        for (method, location_id), lines in groups.items()
    ]


async def fulfil_units(db: Connection, order: Order, units: Mapping[UUID, int]) -> Order:
    """Count units that have left towards the customer; returns the order with them counted."""
    await orders.count_units(db, order_id=order.id, fulfilled=units, cancelled={})
    return with_fulfilled(order, units)


def with_fulfilled(order: Order, units: Mapping[UUID, int]) -> Order:
    """The order as it is once these units have left, too. Pure."""
    lines = tuple(replace(line, fulfilled=line.fulfilled + units.get(line.id, 0)) for line in order.lines)
    return replace(order, lines=lines)


async def resolve(
    database: Database, processor_by_name: Mapping[str, Processor], operation: payments.OpenOperation, *, render: Render
) -> None:
    """Find out what became of an operation that nobody has heard of, and do what follows."""
    processor = processor_by_name[operation.processor]
    heard = await inquiries.find_out(processor, operation, now=await database.now())
    await follow(database, processor, operation, heard, render=render)


async def follow(
    database: Database,
    processor: Processor,
    operation: payments.OpenOperation,
    heard: Heard,
    *,
    render: Render,
) -> None:
    """Do what follows from what was heard of an operation; a payer who never acts is not waited for any longer.

    That the payment is given up is written down before the processor is asked to let go of it, so that a payer who
    acts in between is never told that the order is placed.
    """

    async def give_up(db: Connection, now: datetime) -> bool:
        waited = inquiries.waited_long_enough(operation, heard, now=now)
        return waited and await payments.give_up(db, operation_id=operation.operation_id, now=now)

    if not operation.given_up and heard.next_url is not None and await database.transaction(give_up):
        heard = await inquiries.let_go(processor, operation)

    async def work(db: Connection, now: datetime) -> None:
        if operation.kind is payments.Kind.AUTHORIZE:
            await finalize(db, heard, order_id=operation.reference, now=now, render=render)
        else:
            await book(db, heard.fact, order_id=operation.reference, now=now)

    await database.transaction(work)


async def resolve_order(
    database: Database, processor_by_name: Mapping[str, Processor], *, order_id: UUID, render: Render
) -> None:
    """Carry out every capture, void and refund that is written down for an order."""
    async with database.connection() as db:
        operation_ids = await payments.open_operation_ids(db, reference=order_id)
        waiting = await payments.read_open(db, operation_ids=operation_ids)
    for operation in waiting:
        if operation.kind is not payments.Kind.AUTHORIZE:
            await resolve(database, processor_by_name, operation, render=render)


async def resolve_due(database: Database, processor_by_name: Mapping[str, Processor], *, render: Render) -> int:
    """Take up the operations that have waited too long, whoever began them; returns how many."""

    async def take(db: Connection, now: datetime) -> list[payments.OpenOperation]:
        operation_ids = await payments.take_due(db, limit=DUE_BATCH, now=now)
        return await payments.read_open(db, operation_ids=operation_ids)

    due = await database.transaction(take)
    turns = asyncio.Semaphore(DUE_AT_ONCE)

    async def try_one(operation: payments.OpenOperation) -> None:
        async with turns:
            try:
                await resolve(database, processor_by_name, operation, render=render)
            except Exception:
                # One that cannot be asked about must not keep the others; it comes up again in its turn.
                log.exception("payment.not_resolved", operation_id=str(operation.operation_id))

    async with asyncio.TaskGroup() as group:
        for operation in due:
            group.create_task(try_one(operation))
    return len(due)


async def retry_refused(database: Database, processor_by_name: Mapping[str, Processor], *, render: Render) -> int:
    """Try captures, voids and refunds anew that were refused a while ago; returns how many were looked at.

    A refusal is final for its key, so each try is an operation of its own. What is earned by then is captured; an
    order that is cancelled or failed has its payment voided; a refund goes back over the same tender, unless somebody
    gave back over it since. After ``payments.unsettled.TRIES_MAX`` it is for a person.
    """

    async def find(db: Connection, now: datetime) -> list[payments.Refused]:
        return await payments.find_refused(db, limit=DUE_BATCH, now=now)

    refused = await database.transaction(find)
    for each in refused:
        try:
            await database.transaction(_trying_anew(each))
            await resolve_order(database, processor_by_name, order_id=each.reference, render=render)
        except Exception:
            # One that cannot be tried must not keep the others; it comes up again in its turn.
            log.exception("payment.not_tried_anew", intent_id=str(each.intent_id), kind=each.kind)
    return len(refused)


def _trying_anew(refused: payments.Refused) -> Work[None]:
    async def work(db: Connection, now: datetime) -> None:
        order = await orders.lock_order(db, order_id=refused.reference)
        if await payments.open_operation_ids(db, reference=order.id):
            return  # somebody else was faster
        if refused.refund_id is not None:
            await _give_back_anew(db, order, refused.refund_id, now=now)
        elif refused.kind == payments.Kind.CAPTURE:
            await begin_captures(db, order, await dues.read_balances(db, order), now=now)
        elif order.state in GIVEN_BACK:
            await payments.begin(db, [(ids.new(), refused.intent_id, payments.Kind.VOID, refused.left_minor)], now=now)

    return work


async def _give_back_anew(db: Connection, order: Order, refund_id: UUID, *, now: datetime) -> None:
    amount = await payments.begin_refund_anew(db, refund_id=refund_id, new_id=ids.new(), now=now)
    if not amount:
        return
    await move_and_tell(
        db,
        order,
        [("payment.refund_begun", {"amount": {"amount": amount, "currency": order.currency}})],
        to=order.state,
        payment_state=order.payment_state,
        fulfillment_state=order.fulfillment_state,
        actor=SYSTEM,
        now=now,
    )


async def book(db: Connection, fact: payments.Fact, *, order_id: UUID, now: datetime) -> None:
    """Book what became of a capture, a void or a refund. A capture that fails never undoes the parcel.

    Whatever is refused is told, logged as an error, and tried anew by ``retry_refused``.
    """
    order = await orders.lock_order(db, order_id=order_id)
    recorded = await payments.record(db, [fact], now=now)
    if not recorded or fact.state not in payments.FINAL:
        return
    result = recorded[0]
    succeeded = fact.state is payments.OperationState.SUCCEEDED
    changes = []
    if result.kind is payments.Kind.VOID and succeeded and order.state is OrderState.CANCELLED:
        holds = await inventory.read_holds(db, reference=order_id)
        changes = await inventory.void(db, [(order_id, hold) for hold in holds], now=now)
    word = {"capture": "captured", "void": "voided", "refund": "refunded"}[result.kind]
    what = f"payment.{word if succeeded else result.kind + '_failed'}"
    if not succeeded:
        log.error(what, order_id=ids.show("ord", order_id), decline_code=fact.decline_code)
    balances = await dues.read_balances(db, order)
    is_capture = result.kind is payments.Kind.CAPTURE
    is_let_go = is_capture and succeeded and await dues.let_go_of_rest(db, order, balances, now=now)
    await move_and_tell(
        db,
        order,
        [
            (what, {"amount": {"amount": result.amount_minor, "currency": order.currency}}),
            *(await refunds.begin_owed(db, order, now=now) if succeeded else ()),
            *([("payment.void_begun", {})] if is_let_go else ()),
        ],
        to=order.state,
        payment_state=dues.state_of(order, balances),
        fulfillment_state=order.fulfillment_state,
        actor=SYSTEM,
        changes=changes,
        now=now,
    )
