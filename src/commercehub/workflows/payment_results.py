"""What follows from what a processor said: one ``finalize`` for the browser, the webhook and the completer.

``ask`` talks to the processor and holds no transaction; everything that takes ``db`` talks to nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
import structlog
from asyncpg import Connection
from msgspec.structs import replace

import fulfillment
import inventory
import payments
from commercehub import idempotency, ids
from commercehub.database import Database
from commercehub.events import SYSTEM
from commercehub.idempotency import Stored
from commercehub.sales import carts, orders
from commercehub.sales.carts import Owner
from commercehub.sales.orders import Order, OrderState
from commercehub.workflows.announcing import move_and_tell
from payments import processors
from payments.processors import Processor

CARRIED_OUT: Final = "carry_out"
DUE_BATCH: Final = 50
FAILED_STATUS: Final = 402

log = structlog.get_logger()


class Render(msgspec.Struct, frozen=True, kw_only=True):
    """How the edge writes its answers: what is stored for a key is what the caller got.

    ``order`` takes the order, its work, and the address that the payer has to go to, if any.
    """

    order: Callable[[Order, Sequence[fulfillment.Fulfillment], str | None], str]
    declined: Callable[[Order, str | None], str]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor said of an operation, and where the payer has to go, if anywhere."""

    fact: payments.Fact
    next_url: str | None = None


async def ask(processor: Processor, operation: payments.OpenOperation) -> Heard:
    """Ask a processor for what was written down, by the key that was written down: repeating it is safe."""
    request = _request(operation)
    match operation.kind:
        case payments.Kind.AUTHORIZE:
            outcome = await processor.authorize(request)
        case payments.Kind.CAPTURE:
            outcome = await processor.capture(request)
        case payments.Kind.VOID:
            outcome = await processor.void(request)
        case payments.Kind.REFUND:
            outcome = await processor.refund(request)
    return _heard(operation, outcome)


async def look_up(processor: Processor, operation: payments.OpenOperation) -> Heard:
    """Find out what became of an authorization whose answer was lost, without asking for it again.

    No such payment, long after it was asked, means that the money was never promised.
    """
    found = await processor.find_by_reference(str(operation.intent_id))
    if found is None:
        return Heard(
            fact=payments.Fact(
                operation_id=operation.operation_id,
                state=payments.OperationState.FAILED,
                detail="the processor knows of no such payment",
            )
        )
    if isinstance(found, processors.Unknown):
        return _heard(operation, found)
    outcome = processors.outcome_of(_request(operation), processors.OperationKind.AUTHORIZE, found)
    return _heard(operation, outcome or processors.Unknown(detail="the payment has no operation of ours"))


def _request(operation: payments.OpenOperation) -> processors.Operation:
    return processors.Operation(
        id=operation.operation_id,
        key=str(operation.operation_id),
        reference=str(operation.intent_id),
        amount_minor=operation.amount_minor,
        currency=operation.currency,
        payment_method=operation.payment_method,
        processor_reference=operation.processor_reference,
    )


def _heard(operation: payments.OpenOperation, outcome: processors.Outcome) -> Heard:
    fact = payments.Fact(operation_id=operation.operation_id, state=payments.OperationState.PENDING)
    match outcome:
        case processors.Succeeded():
            fact = replace(
                fact, state=payments.OperationState.SUCCEEDED, processor_reference=outcome.processor_reference
            )
        case processors.Declined():
            fact = replace(
                fact,
                state=payments.OperationState.DECLINED,
                processor_reference=outcome.processor_reference,
                decline_code=outcome.decline_code,
            )
        case processors.RequiresAction():
            return Heard(fact=replace(fact, processor_reference=outcome.processor_reference), next_url=outcome.url)
        case processors.Pending():
            fact = replace(fact, processor_reference=outcome.processor_reference)
        case processors.Unknown():
            log.warning("payment.unknown", operation_id=str(operation.operation_id), detail=outcome.detail)
            fact = replace(fact, state=payments.OperationState.UNKNOWN, detail=outcome.detail)
    return Heard(fact=fact)


async def ask_and_finalize(
    database: Database,
    processor: Processor,
    operation: payments.OpenOperation,
    *,
    order_id: UUID,
    render: Render,
) -> Stored:
    """Ask for an authorization that is written down, and do what follows; the answer for the payer."""
    heard = await ask(processor, operation)

    async def work(db: Connection, now: datetime) -> Stored:
        return await finalize(db, heard, order_id=order_id, now=now, render=render)

    answer = await database.transaction(work)
    if answer.status == FAILED_STATUS and heard.fact.state is payments.OperationState.SUCCEEDED:
        await _let_go_of_late_success(processor, operation, heard.fact)
    return answer


async def _let_go_of_late_success(processor: Processor, operation: payments.OpenOperation, fact: payments.Fact) -> None:
    """The processor promised the money after the completer had given the order up: nobody will take it, so void it."""
    request = replace(
        _request(operation), key=f"{operation.operation_id}:late", processor_reference=fact.processor_reference
    )
    outcome = await processor.void(request)
    tell = log.warning if isinstance(outcome, processors.Succeeded) else log.error
    tell("payment.late_success_voided", intent_id=str(operation.intent_id), outcome=type(outcome).__name__)


async def answer_as_it_is(database: Database, *, order_id: UUID, render: Render) -> Stored:
    """The answer to a repeated checkout whose first attempt is still under way: 202 with the order as it is now."""
    async with database.connection() as db:
        order = await orders.read_order(db, order_id=order_id, owner=Owner())
        work = await fulfillment.read_fulfillments_of(db, references=[order_id])
    status = 202 if order.state in orders.UNPAID else 201
    return Stored(status, render.order(order, work, None))


async def finalize(db: Connection, heard: Heard, *, order_id: UUID, now: datetime, render: Render) -> Stored:
    """Post everything of an order whose payment succeeded, release everything of one that failed, or leave it waiting.

    Comes to the same whoever calls it first and however often: an order that does not wait any more is left alone.
    """
    order = await orders.lock_unpaid_order(db, order_id=order_id)
    if order is None:
        order = await orders.read_order(db, order_id=order_id, owner=Owner())
        work = await fulfillment.read_fulfillments_of(db, references=[order_id])
        if order.state is OrderState.FAILED:
            return Stored(FAILED_STATUS, render.declined(order, heard.fact.decline_code))
        return Stored(201, render.order(order, work, None))
    recorded = await payments.record(db, [heard.fact], now=now)
    if not recorded:
        return Stored(202, render.order(order, (), None))
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


async def _succeed(db: Connection, order: Order, intent: payments.Intent, *, now: datetime, render: Render) -> Stored:
    intents = [intent]
    if intent.amount_minor != order.total:
        intents = await payments.read_intents(db, references=[order.id])
        local = [each for each in intents if each.processor is None]
        await payments.settle_local(db, [(each, ids.new()) for each in local], now=now)
        intents = await payments.read_intents(db, references=[order.id])
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
    if gone:
        order = await fulfil_units(db, order, {hold.line_id: hold.quantity for hold in gone})
        await begin_captures(db, order, intents, now=now)
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
        payment_state=payments.payment_state(intents, due_minor=order.total),
        fulfillment_state=orders.fulfillment_state(order.lines),
        actor=SYSTEM,
        changes=changes,
        now=now,
    )
    stored = Stored(201, render.order(order, work, None))
    await idempotency.settle(db, [(order.id, stored)])
    return stored


async def _fail(db: Connection, order: Order, fact: payments.Fact, *, now: datetime, render: Render) -> Stored:
    holds = await inventory.read_holds(db, reference=order.id)
    changes = await inventory.void(db, [(order.id, hold) for hold in holds], now=now)
    await payments.drop_local(db, reference=order.id)
    await carts.reopen_cart(db, cart_id=order.cart_id)
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
            kind="ship",
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
    lines = tuple(replace(line, fulfilled=line.fulfilled + units.get(line.id, 0)) for line in order.lines)
    return replace(order, lines=lines)


def earned(order: Order) -> int:
    """What the units that have left cost, in minor units, the deliveries with the first of them.

    Shares are of the running total and rounded once, so that the parts of an order add up to its total exactly.
    """
    shares = [
        payments.money.divide((line.total + (0 if order.tax_included else line.tax)) * line.fulfilled, line.ordered)
        for line in order.lines
    ]
    return sum(shares) + (order.delivery_total if any(line.fulfilled for line in order.lines) else 0)


async def begin_captures(db: Connection, order: Order, intents: Sequence[payments.Intent], *, now: datetime) -> int:
    """Write down the captures that take what has been earned by now; returns how much, in minor units."""
    under_way = await payments.read_under_way(db, intent_ids=[intent.id for intent in intents])
    due = earned(order) - sum(
        intent.captured_minor + under_way.get((intent.id, payments.Kind.CAPTURE), 0) for intent in intents
    )
    wanted = []
    for intent in intents:
        held = intent.authorized_minor - intent.captured_minor - intent.voided_minor
        held -= under_way.get((intent.id, payments.Kind.CAPTURE), 0) + under_way.get((intent.id, payments.Kind.VOID), 0)
        amount = min(held, due)
        if intent.processor is not None and amount > 0:
            wanted.append((ids.new(), intent.id, payments.Kind.CAPTURE, amount))
            due -= amount
    if wanted:
        await payments.begin(db, wanted, now=now)
    return sum(amount for _, _, _, amount in wanted)


async def resolve(
    database: Database, processor_by_name: Mapping[str, Processor], operation: payments.OpenOperation, *, render: Render
) -> None:
    """Find out what became of an operation that nobody has heard of, and do what follows."""
    processor = processor_by_name[operation.processor]
    is_authorization = operation.kind is payments.Kind.AUTHORIZE
    heard = await (look_up if is_authorization else ask)(processor, operation)

    async def work(db: Connection, now: datetime) -> None:
        if is_authorization:
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
    for operation in due:
        try:
            await resolve(database, processor_by_name, operation, render=render)
        except Exception:
            # One that cannot be asked about must not keep the others; it comes up again in its turn.
            log.exception("payment.not_resolved", operation_id=str(operation.operation_id))
    return len(due)


async def book(db: Connection, fact: payments.Fact, *, order_id: UUID, now: datetime) -> None:
    """Book what became of a capture, a void or a refund. A capture that fails never undoes the parcel."""
    order = await orders.lock_order(db, order_id=order_id)
    recorded = await payments.record(db, [fact], now=now)
    if not recorded or fact.state not in payments.FINAL:
        return
    result = recorded[0]
    intents = await payments.read_intents(db, references=[order_id])
    succeeded = fact.state is payments.OperationState.SUCCEEDED
    changes = []
    if result.kind is payments.Kind.VOID and succeeded and order.state is OrderState.CANCELLED:
        holds = await inventory.read_holds(db, reference=order_id)
        changes = await inventory.void(db, [(order_id, hold) for hold in holds], now=now)
    state = payments.payment_state(intents, due_minor=order.total)
    if result.kind is payments.Kind.CAPTURE and not succeeded:
        state = "capture_failed"
        log.error("payment.capture_failed", order_id=ids.show("ord", order_id), decline_code=fact.decline_code)
    word = {"capture": "captured", "void": "voided", "refund": "refunded"}[result.kind]
    await move_and_tell(
        db,
        order,
        [
            (
                f"payment.{word if succeeded else result.kind + '_failed'}",
                {"amount": {"amount": result.amount_minor, "currency": order.currency}},
            )
        ],
        to=order.state,
        payment_state=state,
        fulfillment_state=order.fulfillment_state,
        actor=SYSTEM,
        changes=changes,
        now=now,
    )
