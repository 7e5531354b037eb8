"""Paying what is still due of an order that is placed: at pickup, by a link, after it was changed.

``pay`` is the flow; ``finalize_payment`` is what follows from what its processor said, whoever hears it first.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import fulfillment
import payments
from commercehub import auth, idempotency, ids
from commercehub.database import Database, Raced, Work
from commercehub.events import SYSTEM, Actor
from commercehub.idempotency import Claim, Stored, Underway
from commercehub.sales import orders
from commercehub.sales.carts import Owner
from commercehub.sales.dues import worth
from commercehub.sales.orders import Order, OrderState
from commercehub.workflows import dues, inquiries, refunds, stored_values
from commercehub.workflows.announcing import move_and_tell
from commercehub.workflows.drawers import find_drawer
from commercehub.workflows.inquiries import Heard
from commercehub.workflows.refusals import NothingDue, PaymentUnderWay, TenderMismatch
from commercehub.workflows.rendering import Render
from commercehub.workflows.tenders import PAY_AT_PICKUP, Share, Tender, share_out
from payments import IntentState
from payments.processors import Processor

PAYABLE: Final = frozenset({OrderState.PLACED, OrderState.IN_FULFILLMENT, OrderState.COMPLETED})
NEVER_PLACED: Final = frozenset({OrderState.AWAITING_PAYMENT, OrderState.PAYMENT_UNKNOWN, OrderState.FAILED})
FAILED_STATUS: Final = 402
PAID_TOO_MUCH: Final = "paid_too_much"
WAITING: Final = frozenset({IntentState.PENDING, IntentState.UNKNOWN})
ROUNDS_MAX: Final = 4
"""How often a payment is tried anew because a gift card was spent, or a drawer closed, under it."""

Facts = list[tuple[str, dict[str, object]]]


class OrderPayment(msgspec.Struct, frozen=True, kw_only=True):
    """What a payer offers for an order. ``audited_as``: what the audit log calls it, if it leaves a row there."""

    order_id: UUID
    owner: Owner
    actor: Actor
    claim: Claim
    tenders: tuple[Tender, ...]
    register_id: UUID | None = None
    audited_as: str | None = None


class Replayed(msgspec.Struct, frozen=True):
    """The answer that this key got before."""

    stored: Stored


class Waiting(msgspec.Struct, frozen=True):
    """The payment is written down, and its processor is to be asked for this."""

    operation: payments.OpenOperation


Outcome = Replayed | Underway | Waiting | Stored


async def check_payable(db: Connection, *, order_id: UUID, owner: Owner) -> tuple[Order, int]:
    """The order and what is left to pay; ``OrderNotFound``, or ``NothingDue``."""
    order = await orders.read_order(db, order_id=order_id, owner=owner)
    return order, await _due(db, order)


async def _due(db: Connection, order: Order) -> int:
    due = dues.amount_due(order, await dues.read_balances(db, order))
    if order.state not in PAYABLE or due == 0:
        raise NothingDue
    return due


async def pay(
    database: Database, processors: Mapping[str, Processor], wanted: OrderPayment, *, render: Render
) -> tuple[Stored, bool]:
    """Pay what is due of an order, or a part of it: the answer, and whether it is an earlier one again.

    Never more than is due, however many pay at once. Declined, the order is as it was. Safe to repeat with the same
    key. Raises ``OrderNotFound``, ``NothingDue``, ``PaymentUnderWay``, ``TenderMismatch``, ``StoredValueNotUsable``,
    or what a drawer refuses.
    """

    async def work(db: Connection, now: datetime) -> Outcome:
        return await _begin(db, wanted, clock_offset=database.clock_offset, now=now, render=render)

    outcome = await _try(database, work)
    match outcome:
        case Replayed(stored):
            return stored, True
        case Underway():
            return await _as_it_is(database, wanted.order_id, render=render), True
        case Stored():
            return outcome, False
        case Waiting(operation):
            heard = await inquiries.ask(processors[operation.processor], operation)

            async def end(db: Connection, now: datetime) -> Stored | None:
                return await finalize_payment(db, heard, order_id=wanted.order_id, now=now, render=render)

            answer = await database.transaction(end)
            return answer or await _as_it_is(database, wanted.order_id, render=render), False


async def _try(database: Database, work: Work[Outcome]) -> Outcome:
    for _ in range(ROUNDS_MAX):
        try:
            return await database.transaction(work)
        except payments.StoredValueSpent:
            continue
    raise Raced


async def _as_it_is(database: Database, order_id: UUID, *, render: Render) -> Stored:
    """The answer to a repeated payment whose first attempt is still under way: 202 with the order as it is now."""
    async with database.connection() as db:
        order = await orders.read_order(db, order_id=order_id, owner=Owner())
        urls = await payments.read_next_urls(db, references=[order_id])
        return Stored(202, await _page(db, order, render=render, next_url=urls.get(order_id)))


async def _page(
    db: Connection, order: Order, *, render: Render, next_url: str | None = None, change: int | None = None
) -> str:
    work = await fulfillment.read_fulfillments_of(db, references=[order.id])
    balances = await dues.read_balances(db, order)
    shown = order if change is None else msgspec.structs.replace(order, change=change)
    return render.order(shown, work, next_url, due=dues.amount_due(order, balances))


async def _begin(
    db: Connection, wanted: OrderPayment, *, clock_offset: timedelta, now: datetime, render: Render
) -> Outcome:
    """Write the payment down: final where all of it is in our own hands, else with what its processor is to be asked."""
    # Who may not know of the order hears so, whatever was answered to this key before.
    await orders.read_order(db, order_id=wanted.order_id, owner=wanted.owner)
    match (await idempotency.look_up(db, [wanted.claim]))[0]:
        case Stored() as stored:
            return Replayed(stored)
        case Underway() as under_way:
            return under_way
        case Exception() as refusal:
            raise refusal
    order = await orders.lock_order(db, order_id=wanted.order_id)
    shares = await _share(db, wanted, order, clock_offset=clock_offset)
    intents = await _open(db, wanted, order, shares, now=now)
    remote = next((intent for intent in intents if intent.processor is not None), None)
    facts: Facts = [("payment.captured", {"amount": _money(each, order), "tender": each.tender}) for each in intents]
    if remote is not None:
        facts = [("payment.begun", {"amount": _money(remote, order), "tender": remote.tender})]
    order = await _tell(db, order, facts, actor=wanted.actor, now=now)
    await _audit(db, wanted, shares, order, now=now)
    if remote is None or remote.processor is None:
        cash = [share.change for share in shares if share.tender.type == "cash"]
        stored = Stored(201, await _page(db, order, render=render, change=sum(cash) if cash else None))
        await idempotency.keep(db, [(wanted.claim, stored, None)], now=now)
        return stored
    await idempotency.keep(db, [(wanted.claim, None, remote.id)], now=now)
    (operation,) = await payments.read_open(db, operation_ids=[remote.operation_id])
    return Waiting(operation)


async def _audit(db: Connection, wanted: OrderPayment, shares: Sequence[Share], order: Order, *, now: datetime) -> None:
    if wanted.audited_as is not None:
        await auth.write_audit(
            db,
            actor=wanted.actor,
            action=wanted.audited_as,
            subject=ids.show("ord", order.id),
            changes={
                "currency": order.currency,
                "tenders": [{"type": share.tender.type, "amount": share.amount} for share in shares],
            },
            now=now,
        )


async def _share(db: Connection, wanted: OrderPayment, order: Order, *, clock_offset: timedelta) -> tuple[Share, ...]:
    """What each tender pays of what is due; less than all of it where every tender says how much."""
    due = await _due(db, order)
    for position, tender in enumerate(wanted.tenders):
        if tender.type == PAY_AT_PICKUP:
            raise TenderMismatch(position, "It is to be paid now.")
    tenders = await stored_values.look_into(
        db,
        wanted.tenders,
        customer_id=order.customer_id,
        owner=wanted.owner,
        currency=order.currency,
        clock_offset=clock_offset,
    )
    if all(tender.amount is not None for tender in tenders):
        due = min(due, sum(tender.amount.amount_minor for tender in tenders if tender.amount))
    return share_out(tenders, due, order.currency)


async def _open(
    db: Connection, wanted: OrderPayment, order: Order, shares: Sequence[Share], *, now: datetime
) -> list[payments.NewIntent]:
    is_remote = any(share.tender.is_remote for share in shares)
    await _check_none_is_crossed(db, order, is_remote=is_remote, is_mixed=is_remote and len(shares) > 1)
    session_id = await find_drawer(
        db,
        actor=wanted.actor,
        register_id=wanted.register_id,
        currency=order.currency,
        for_cash=any(share.tender.type == "cash" for share in shares),
    )
    intents = [
        payments.NewIntent(
            id=ids.new(),
            operation_id=ids.new(),
            reference=order.id,
            tender=share.tender.type,
            currency=order.currency,
            amount_minor=share.amount,
            tendered_minor=share.amount + share.change if share.tender.type == "cash" else None,
            session_id=session_id,
            stored_value_id=share.tender.stored_value_id,
            processor=share.tender.processor,
            payment_method=share.tender.payment_method,
            settle=not is_remote,
        )
        for share in shares
    ]
    await stored_values.claim(db, intents, now=now)
    if session_id is not None and not await payments.share_sessions(db, session_ids=[session_id]):
        raise payments.NoOpenSession
    await payments.open_intents(db, intents, now=now)
    return intents


async def finalize_payment(
    db: Connection, heard: Heard, *, order_id: UUID, now: datetime, render: Render
) -> Stored | None:
    """Post a payment of an order that is placed, or drop it and leave the order as it was, or leave it waiting.

    ``None``: what was heard is of no such payment, or was heard before.
    """
    order = await orders.lock_order(db, order_id=order_id)
    if order.state in NEVER_PLACED or not await payments.read_open(db, operation_ids=[heard.fact.operation_id]):
        return None
    recorded = await payments.record(db, [heard.fact], now=now)
    if not recorded:
        return None
    intent = recorded[0].intent
    match intent.state:
        case IntentState.AUTHORIZED:
            order = await _take(db, order, intent, now=now)
            stored = Stored(201, await _page(db, order, render=render))
        case IntentState.DECLINED | IntentState.FAILED:
            await payments.drop_local(db, reference=order.id)
            fact: dict[str, object] = {"amount": _money(intent, order), "decline_code": heard.fact.decline_code}
            order = await _tell(db, order, [("payment.declined", fact)], actor=SYSTEM, now=now)
            stored = Stored(FAILED_STATUS, render.refused(order, heard.fact.decline_code))
        case _:
            if intent.state is IntentState.UNKNOWN and order.payment_state != "unknown":
                order = await _tell(db, order, [("payment.unknown", {})], actor=SYSTEM, now=now)
            return Stored(202, await _page(db, order, render=render, next_url=heard.next_url))
    await idempotency.settle(db, [(intent.id, stored)])
    return stored


async def _take(db: Connection, order: Order, intent: payments.Intent, *, now: datetime) -> Order:
    """The money is promised: what waited with it is ours, and what is earned already is captured.

    Of an order that was called off meanwhile all is let go of again, or given back.
    """
    local = await _pending_local(db, order.id)
    facts: Facts = [("payment.authorized", {"amount": _money(intent, order)})]
    if order.state is OrderState.CANCELLED:
        await payments.drop_local(db, reference=order.id)
    elif local:
        await payments.settle_local(db, [(each, ids.new()) for each in local], now=now)
        facts += [("payment.captured", {"amount": _money(each, order), "tender": each.tender}) for each in local]
    balances = await dues.read_balances(db, order)
    if await dues.begin_captures(db, order, balances, now=now):
        facts.append(("payment.capture_begun", {}))
        balances = await dues.read_balances(db, order)
    if await dues.let_go_of_rest(db, order, balances, now=now):
        facts.append(("payment.void_begun", {}))
    order = await _tell(db, order, facts, actor=SYSTEM, now=now)
    if order.state is OrderState.CANCELLED or not local:
        return order
    return await _give_surplus_back(db, order, balances, local, now=now)


async def _give_surplus_back(
    db: Connection,
    order: Order,
    balances: Sequence[payments.Balance],
    local: Sequence[payments.Intent],
    *,
    now: datetime,
) -> Order:
    """Give back what was settled beyond what the order costs by now: some of it was called off meanwhile.

    Cash from the drawer that it lies in, or from the safe once that is counted.
    """
    surplus = dues.taken(order, balances) - worth(order)
    if surplus <= 0:
        return order
    drawers = [each.session_id for each in local if each.session_id is not None]
    still_open = await payments.share_sessions(db, session_ids=drawers[:1]) if drawers else []
    return await refunds.give_back(
        db,
        order,
        amount_minor=surplus,
        reason=PAID_TOO_MUCH,
        actor=SYSTEM,
        now=now,
        session_id=still_open[0] if still_open else None,
    )


async def _check_none_is_crossed(db: Connection, order: Order, *, is_remote: bool, is_mixed: bool) -> None:
    """Raise ``PaymentUnderWay`` where a payment could settle, or drop, what waits with another.

    What waits with a processor's answer is told from the rest of the order by there being no other to wait for: while a
    mix of tenders waits nothing else may begin to, and a mix has to wait until nothing does.
    """
    intents = await payments.read_intents(db, references=[order.id])
    waiting = [each for each in intents if each.state in WAITING]
    if (is_mixed and waiting) or (is_remote and any(each.processor is None for each in waiting)):
        raise PaymentUnderWay


async def _pending_local(db: Connection, order_id: UUID) -> list[payments.Intent]:
    intents = await payments.read_intents(db, references=[order_id])
    return [each for each in intents if each.processor is None and each.state is IntentState.PENDING]


def _money(intent: payments.Intent | payments.NewIntent, order: Order) -> dict[str, object]:
    return {"amount": intent.amount_minor, "currency": order.currency}


async def _tell(db: Connection, order: Order, facts: Facts, *, actor: Actor, now: datetime) -> Order:
    return await move_and_tell(
        db,
        order,
        facts,
        to=order.state,
        payment_state=dues.state_of(order, await dues.read_balances(db, order)),
        fulfillment_state=order.fulfillment_state,
        actor=actor,
        now=now,
    )
