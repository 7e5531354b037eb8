"""From a cart to an order: ``buy`` is the flow, ``place`` the one transaction that every checkout goes through.

``place`` takes many checkouts and runs one set of statements for all of them. It decides nothing about prices or
places: those come with the request, read just before, and count only while the cart's version is still that one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import fulfillment
import inventory
import payments
from commercehub import auth, events, idempotency, ids
from commercehub.database import Database, Raced
from commercehub.idempotency import Stored, Underway
from commercehub.sales import carts, orders
from commercehub.sales.carts import Cart
from commercehub.sales.errors import CartNotFound
from commercehub.sales.orders import Contact, Order, OrderDelivery, OrderLine, OrderPromotion, OrderState
from commercehub.workflows import payment_results, stored_values
from commercehub.workflows.announcing import order_event, stock_events
from commercehub.workflows.planning import CARRIED_OUT, Checkout, Placing, prepare
from commercehub.workflows.refusals import OutOfStock
from commercehub.workflows.rendering import Render
from commercehub.workflows.tenders import PAY_AT_PICKUP, Share
from payments.processors import Processor

ROUNDS_MAX: Final = 4
"""How often a checkout is planned anew because stock or cart changed under it, before it is told so."""


class Replayed(msgspec.Struct, frozen=True):
    """The answer that this key got before."""

    stored: Stored


class Refused(msgspec.Struct, frozen=True):
    """Nothing was changed, and why."""

    reason: Exception


class Stale(msgspec.Struct, frozen=True):
    """Cart or stock changed since they were read; nothing was taken. ``shortages``: what was missing, if anything."""

    shortages: tuple[inventory.Shortage, ...]


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The order is written. It is final, or waits for ``waiting``, the operation that its processor is to be asked."""

    order: Order
    stored: Stored | None
    waiting: payments.OpenOperation | None


Outcome = Replayed | Underway | Refused | Stale | Placed


class DrawerClosed(Exception):
    """The drawer that was to take the cash closed between the look and the claim; nothing was taken."""


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An order about to be written."""

    placing: Placing
    order: Order
    contact: Contact | None
    claim: inventory.Claim


async def buy(
    database: Database, processors: Mapping[str, Processor], checkout: Checkout, *, render: Render
) -> tuple[Stored, bool]:
    """Check a cart out: the answer, and whether it is an earlier one again. Safe to repeat with the same key.

    Raises what ``place`` refuses for: a ``SalesError``, a ``PaymentError`` or one of ``refusals``.
    """
    outcome: Outcome = Stale(())
    for _ in range(ROUNDS_MAX):
        async with database.connection() as db:
            placing = await prepare(db, checkout, database=database)
        outcome = await _place_one(database, placing, render)
        if not isinstance(outcome, Stale):
            break
    match outcome:
        case Replayed(stored):
            return stored, True
        case Underway(order_id):
            return await payment_results.answer_as_it_is(database, order_id=order_id, render=render), True
        case Refused(reason):
            raise reason
        case Stale(shortages):
            raise OutOfStock(shortages) if shortages else Raced
        case Placed(stored=None, waiting=payments.OpenOperation() as waiting, order=order):
            answer = await payment_results.ask_and_finalize(
                database, processors[waiting.processor], waiting, order_id=order.id, render=render
            )
            return answer, False
        case Placed(stored=Stored() as stored):
            return stored, False
    raise AssertionError(outcome)


async def _place_one(database: Database, placing: Placing, render: Render) -> Outcome:
    async def work(db: Connection, now: datetime) -> Outcome:
        return (await place(db, [placing], now=now, render=render))[0]

    try:
        return await database.transaction(work)
    except (DrawerClosed, payments.StoredValueSpent):
        return Stale(())


async def place(db: Connection, requests: Sequence[Placing], *, now: datetime, render: Render) -> list[Outcome]:
    """Write the orders that can be placed, in order of arrival; one outcome per request, in order.

    Those of local tenders are final afterwards, with their answer stored; those with a remote one hold their stock
    and wait. A request that is refused, stale or known changes nothing.
    """
    outcomes: dict[int, Outcome] = {}
    known = await idempotency.look_up(db, [request.checkout.claim for request in requests])
    for position, (request, found) in enumerate(zip(requests, known, strict=True)):
        outcome = _known(request, found)
        if outcome is not None:
            outcomes[position] = outcome
    fresh = [position for position in range(len(requests)) if position not in outcomes]
    if fresh:
        outcomes |= dict(
            zip(fresh, await _place_fresh(db, [requests[i] for i in fresh], now=now, render=render), strict=True)
        )
    return [outcomes[position] for position in range(len(requests))]


def _known(request: Placing, found: idempotency.Found) -> Outcome | None:
    # Who may not know of the cart hears so, whatever was answered to this key before.
    if isinstance(request.refusal, CartNotFound):
        return Refused(request.refusal)
    match found:
        case Stored():
            return Replayed(found)
        case Underway():
            return found
        case idempotency.KeyReused() | idempotency.InProgress():
            return Refused(found)
    return Refused(request.refusal) if request.refusal is not None else None


async def _place_fresh(db: Connection, requests: Sequence[Placing], *, now: datetime, render: Render) -> list[Outcome]:
    locked = await carts.lock_carts(db, cart_ids=[request.checkout.cart_id for request in requests])
    outdated: list[Outcome | None] = []
    seen: set[UUID] = set()
    for request in requests:
        # Of two for one cart the second is prepared anew, and then meets what the first has done.
        outdated.append(Stale(()) if request.checkout.cart_id in seen else _outdated(request, locked))
        seen.add(request.checkout.cart_id)
    drafts = [_draft(r, now) for r, outcome in zip(requests, outdated, strict=True) if outcome is None]
    try:
        claimed = await inventory.claim_stock(db, [draft.claim for draft in drafts], now=now)
    except inventory.ClaimRaced as error:
        raise Raced from error
    granted = [draft for draft, short in zip(drafts, claimed.shortages, strict=True) if not short]
    placed = iter(await _write(db, granted, claimed.changes, now=now, render=render) if granted else [])
    await _audit(db, granted, now=now)
    results = iter([Stale(short) if short else next(placed) for short in claimed.shortages])
    return [outcome if outcome is not None else next(results) for outcome in outdated]


def _outdated(request: Placing, locked: Mapping[UUID, carts.Locked]) -> Outcome | None:
    found = locked.get(request.checkout.cart_id)
    if found is None or request.cart is None:
        return Refused(CartNotFound())
    return None if found.state == "open" and found.version == request.cart.version else Stale(())


def _draft(request: Placing, now: datetime) -> _Draft:
    cart, checkout = request.cart, request.checkout
    if cart is None:
        raise AssertionError(request)
    contact = (
        Contact(id=ids.new(), email=checkout.email, phone=checkout.phone) if checkout.email or checkout.phone else None
    )
    remote = any(share.tender.is_remote for share in request.shares)
    return _Draft(
        placing=request,
        order=_order(request, cart, contact, remote=remote, now=now),
        contact=contact,
        claim=_claim(request, cart, remote=remote, now=now),
    )


def _order(request: Placing, cart: Cart, contact: Contact | None, *, remote: bool, now: datetime) -> Order:
    actor, prices = request.checkout.actor, cart.prices
    carried = {} if remote else {each.id for each in cart.deliveries.values() if each.method == CARRIED_OUT}
    lines = _lines(cart, gone=frozenset(carried))
    is_over = not remote and all(line.delivery_id in carried for line in lines)
    cash = [share.change for share in request.shares if share.tender.type == "cash"]
    return Order(
        id=request.order_id,
        number="",
        cart_id=cart.id,
        sales_channel_id=cart.sales_channel_id,
        channel=actor.channel,
        locale=cart.locale,
        location_id=actor.location_id,
        customer_id=cart.customer_id,
        contact_id=contact.id if contact else None,
        currency=cart.currency,
        tax_included=cart.tax_included,
        subtotal=prices.subtotal,
        discount_total=prices.discount_total,
        delivery_total=prices.delivery_total,
        tax_total=prices.tax_total,
        total=prices.total,
        change=sum(cash) if cash else None,
        state=OrderState.AWAITING_PAYMENT if remote else OrderState.COMPLETED if is_over else OrderState.PLACED,
        payment_state="pending" if remote else _paid(request.shares),
        fulfillment_state=orders.fulfillment_state(lines),
        on_hold=False,
        version=1,
        placed_by=actor.name,
        created_at=now,
        lines=lines,
        deliveries=tuple(
            OrderDelivery(
                id=each.delivery.id,
                method=each.delivery.method,
                location_id=each.delivery.location_id,
                address_id=each.delivery.address_id,
                price=each.price,
            )
            for each in prices.deliveries
        ),
        promotions=tuple(OrderPromotion(code=each.code, discount=each.discount) for each in prices.promotions),
    )


def _paid(shares: Sequence[Share]) -> str:
    """The payment state of an order whose tenders are all in our hands, but for what is paid at pickup."""
    later = [share for share in shares if share.tender.type == PAY_AT_PICKUP]
    if not later:
        return "paid"
    return "partially_captured" if len(later) < len(shares) else "unpaid"


def _lines(cart: Cart, *, gone: frozenset[UUID]) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(
            id=priced.line.id,
            delivery_id=priced.line.delivery_id or cart.id,
            variant_id=priced.line.variant_id,
            sku=priced.line.sku,
            title=priced.line.title,
            quantity_scale=priced.line.quantity_scale,
            ordered=priced.line.quantity,
            unit_price=priced.unit_price,
            discount=priced.discount,
            tax=priced.tax,
            tax_rate_ppm=priced.line.rate_ppm,
            total=priced.total,
            fulfilled=priced.line.quantity if priced.line.delivery_id in gone else 0,
        )
        for priced in cart.prices.lines
    )


def _claim(request: Placing, cart: Cart, *, remote: bool, now: datetime) -> inventory.Claim:
    """What the order needs of each place: taken at once by whoever pays and walks out, else reserved."""
    carried = [
        inventory.Want(
            line_id=line.id, sku=line.sku, location_id=delivery.location_id, quantity=line.quantity, take=not remote
        )
        for line in cart.lines
        if line.delivery_id is not None
        and (delivery := cart.deliveries[line.delivery_id]).method == CARRIED_OUT
        and delivery.location_id is not None
    ]
    sent = [
        inventory.Want(line_id=each.line_id, sku=each.sku, location_id=each.location_id, quantity=each.quantity)
        for each in request.sources
    ]
    return inventory.Claim(
        reference=request.order_id,
        label=ids.show("ord", request.order_id),
        wants=(*carried, *sent),
        actor=request.checkout.actor.name,
        channel=request.checkout.actor.channel,
        occurred_at=now,
    )


async def _write(
    db: Connection,
    drafts: Sequence[_Draft],
    changes: Sequence[inventory.Change],
    *,
    now: datetime,
    render: Render,
) -> list[Outcome]:
    """Write everything of the orders whose stock is claimed, a room at a time."""
    opened = [_intents(draft) for draft in drafts]
    await stored_values.claim(db, [intent for intents in opened for intent in intents], now=now)
    sessions = sorted({draft.placing.session_id for draft in drafts if draft.placing.session_id})
    if sessions and await payments.share_sessions(db, session_ids=sessions) != sessions:
        raise DrawerClosed
    numbers = await orders.create_orders(
        db,
        [draft.order for draft in drafts],
        contacts=[draft.contact for draft in drafts if draft.contact],
        now=now,
    )
    await payments.open_intents(db, [intent for intents in opened for intent in intents], now=now)
    written = [msgspec.structs.replace(draft.order, number=numbers[draft.order.id]) for draft in drafts]
    work = [
        payment_results.work_for(order, draft.placing.sources, now=now) if order.state is OrderState.PLACED else []
        for draft, order in zip(drafts, written, strict=True)
    ]
    await fulfillment.create_fulfillments(db, [each for group in work for each in group], now=now)
    by_order = {draft.order.id: draft.placing.checkout.actor for draft in drafts}
    await events.append(
        db,
        [
            order_event(
                order,
                "order.placed" if order.state is not OrderState.AWAITING_PAYMENT else "order.awaiting_payment",
                by_order[order.id],
                sequence=1,
                state=order.state.value,
                payment_state=order.payment_state,
                fulfillment_state=order.fulfillment_state,
                total={"amount": order.total, "currency": order.currency},
            )
            for order in written
        ]
        + stock_events(changes, drafts[0].placing.checkout.actor),
        now=now,
    )
    outcomes = [
        _placed(order, intents, render.order(order, group, None, due=_due(draft.placing.shares)))
        for draft, order, intents, group in zip(drafts, written, opened, work, strict=True)
    ]
    await idempotency.keep(
        db,
        [
            (draft.placing.checkout.claim, outcome.stored, None if outcome.stored else draft.order.id)
            for draft, outcome in zip(drafts, outcomes, strict=True)
        ],
        now=now,
    )
    return list(outcomes)


async def _audit(db: Connection, drafts: Sequence[_Draft], *, now: datetime) -> None:
    """Staff, devices and administrators leave a row; for anybody else this asks the database nothing."""
    for draft in drafts:
        checkout = draft.placing.checkout
        if checkout.audited_as is not None:
            await auth.write_audit(
                db,
                actor=checkout.actor,
                action=checkout.audited_as,
                subject=ids.show("ord", draft.order.id),
                changes={
                    "total": {"amount": draft.order.total, "currency": draft.order.currency},
                    "tenders": [{"type": share.tender.type, "amount": share.amount} for share in draft.placing.shares],
                },
                now=now,
            )


def _due(shares: Sequence[Share]) -> int:
    return sum(share.amount for share in shares if share.tender.type == PAY_AT_PICKUP)


def _intents(draft: _Draft) -> list[payments.NewIntent]:
    remote = any(share.tender.is_remote for share in draft.placing.shares)
    return [
        payments.NewIntent(
            id=ids.new(),
            operation_id=ids.new(),
            reference=draft.order.id,
            tender=share.tender.type,
            currency=draft.order.currency,
            amount_minor=share.amount,
            tendered_minor=share.amount + share.change if share.tender.type == "cash" else None,
            session_id=draft.placing.session_id,
            stored_value_id=share.tender.stored_value_id,
            processor=share.tender.processor,
            payment_method=share.tender.payment_method,
            settle=not remote,
        )
        for share in draft.placing.shares
        if share.tender.type != PAY_AT_PICKUP
    ]


def _placed(order: Order, intents: Sequence[payments.NewIntent], body: str) -> Placed:
    waiting = next((intent for intent in intents if intent.processor is not None), None)
    if waiting is None or waiting.processor is None:
        return Placed(order=order, stored=Stored(201, body), waiting=None)
    return Placed(
        order=order,
        stored=None,
        waiting=payments.OpenOperation(
            operation_id=waiting.operation_id,
            intent_id=waiting.id,
            reference=order.id,
            kind=payments.Kind.AUTHORIZE,
            amount_minor=waiting.amount_minor,
            currency=waiting.currency,
            processor=waiting.processor,
            processor_reference=None,
            payment_method=waiting.payment_method,
            attempts=0,
        ),
    )
