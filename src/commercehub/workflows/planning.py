"""What a checkout is about, read and planned before anything is locked: prices, checks, tenders, and where goods come from."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import fulfillment
import inventory
import payments
from commercehub import ids
from commercehub.database import Database
from commercehub.events import Actor
from commercehub.idempotency import Claim
from commercehub.sales import carts, customers
from commercehub.sales.cart_gift_cards import GIFT_CARDS_MAX
from commercehub.sales.carts import LINES_MAX, Cart, Owner
from commercehub.sales.errors import CartNotFound, NoPrice, TooManyGiftCards, TooManyLines, VersionConflict
from commercehub.sales.pricing import METHODS_WITH_ADDRESS
from commercehub.workflows import stored_values
from commercehub.workflows.drawers import find_drawer
from commercehub.workflows.refusals import (
    REFUSALS,
    ContactRequired,
    DeliveryNotOffered,
    DeliveryRequired,
    EmptyCart,
    OutOfStock,
    TenderMismatch,
    TotalChanged,
)
from commercehub.workflows.tenders import PAY_AT_PICKUP, Share, Tender, share_out

CARRIED_OUT: Final = "carry_out"


PICKUP: Final = "pickup"


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for. ``audited_as``: what the audit log calls it, if the caller leaves a row there."""

    cart_id: UUID
    owner: Owner
    actor: Actor
    claim: Claim
    tenders: tuple[Tender, ...]
    register_id: UUID | None = None
    email: str | None = None
    phone: str | None = None
    expected_total: payments.Money | None = None
    version: int | None = None
    audited_as: str | None = None


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """A checkout with the cart as it was read, and where its goods are to come from.

    ``refusal``: why it cannot be placed; it still goes through ``place``, since its key may know an answer.
    """

    checkout: Checkout
    order_id: UUID
    cart: Cart | None = None
    sources: tuple[fulfillment.Allocation, ...] = ()
    shares: tuple[Share, ...] = ()
    session_id: UUID | None = None
    refusal: Exception | None = None


async def prepare(db: Connection, checkout: Checkout, *, database: Database) -> Placing:
    """Read what the checkout is about and plan it, outside any transaction and without a lock."""
    order_id = ids.new()
    try:
        cart = await carts.read_cart(db, cart_id=checkout.cart_id, owner=checkout.owner)
    except CartNotFound as error:
        return Placing(checkout=checkout, order_id=order_id, refusal=error)
    if cart.state != "open":
        closed = await carts.find_order_of(db, cart_id=cart.id, owner=checkout.owner)
        return Placing(checkout=checkout, order_id=order_id, refusal=closed)
    cart = _with_order_ids(cart)
    checkout = await _reach(db, checkout, cart)
    try:
        _check(cart, checkout)
        tenders = await stored_values.look_into(
            db,
            stored_values.with_cards_of(cart, checkout.tenders, owner=checkout.owner),
            customer_id=cart.customer_id,
            owner=checkout.owner,
            currency=cart.currency,
            clock_offset=database.clock_offset,
        )
        shares = share_out(tenders, cart.prices.total, cart.currency)
        session_id = await _find_drawer(db, checkout, cart, shares)
        sources = await _source(db, cart, database)
    except REFUSALS as error:
        return Placing(checkout=checkout, order_id=order_id, refusal=error)
    return Placing(
        checkout=checkout, order_id=order_id, cart=cart, sources=sources, shares=shares, session_id=session_id
    )


async def _reach(db: Connection, checkout: Checkout, cart: Cart) -> Checkout:
    """A customer need not say again how they are reached."""
    if cart.customer_id is None or checkout.email or checkout.phone:
        return checkout
    customer = await customers.read_customer(db, customer_id=cart.customer_id)
    return msgspec.structs.replace(checkout, email=customer.email, phone=customer.phone)


def _with_order_ids(cart: Cart) -> Cart:
    """The cart with the ids that its order's lines and deliveries will have: a cart may be tried more than once."""
    new = {each.delivery.id: ids.new() for each in cart.prices.deliveries}
    lines = tuple(
        msgspec.structs.replace(
            priced,
            line=msgspec.structs.replace(
                priced.line,
                id=ids.new(),
                delivery_id=new[priced.line.delivery_id] if priced.line.delivery_id else None,
            ),
        )
        for priced in cart.prices.lines
    )
    deliveries = tuple(
        msgspec.structs.replace(each, delivery=msgspec.structs.replace(each.delivery, id=new[each.delivery.id]))
        for each in cart.prices.deliveries
    )
    return msgspec.structs.replace(
        cart, prices=msgspec.structs.replace(cart.prices, lines=lines, deliveries=deliveries)
    )


async def _find_drawer(db: Connection, checkout: Checkout, cart: Cart, shares: Sequence[Share]) -> UUID | None:
    """The open drawer session that a sale at this location belongs to; cash needs exactly one."""
    return await find_drawer(
        db,
        actor=checkout.actor,
        register_id=checkout.register_id,
        currency=cart.currency,
        for_cash=any(share.tender.type == "cash" for share in shares),
    )


def _check(cart: Cart, checkout: Checkout) -> None:
    if checkout.version not in {None, cart.version}:
        raise VersionConflict(cart.version)
    _check_lines(cart, checkout.actor)
    if checkout.actor.channel != "store" and not (checkout.email or checkout.phone):
        raise ContactRequired
    if any(tender.type == PAY_AT_PICKUP for tender in checkout.tenders):
        _check_pay_at_pickup(cart, checkout.tenders)
    total = payments.Money(cart.prices.total, cart.currency)
    if checkout.expected_total not in {None, total}:
        raise TotalChanged(total)


def _check_lines(cart: Cart, actor: Actor) -> None:
    """What is sold has a price and a way to the customer; what is carried out is paid where it is carried out."""
    if not cart.lines:
        raise EmptyCart
    # A cart that was given back may hold more: what the customer began meanwhile is in it too.
    if len(cart.lines) > LINES_MAX:
        raise TooManyLines
    if len(cart.gift_cards) > GIFT_CARDS_MAX:
        raise TooManyGiftCards
    for line in cart.lines:
        if line.unit_price is None:
            raise NoPrice(line.sku, cart.currency)
        if line.delivery_id is None:
            raise DeliveryRequired
        delivery = cart.deliveries[line.delivery_id]
        if delivery.rate is None and delivery.method in METHODS_WITH_ADDRESS:
            raise DeliveryNotOffered(delivery.method)
        if delivery.method == CARRIED_OUT and delivery.location_id != actor.location_id:
            raise DeliveryNotOffered(CARRIED_OUT)


def _check_pay_at_pickup(cart: Cart, tenders: Sequence[Tender]) -> None:
    """Money that is to come later comes once, and where the goods are: nothing of it leaves before."""
    position = next(at for at, tender in enumerate(tenders) if tender.type == PAY_AT_PICKUP)
    if any(delivery.method != PICKUP for delivery in cart.deliveries.values()):
        raise TenderMismatch(position, "Only what is all picked up is paid at pickup.")
    if position != len(tenders) - 1:
        raise TenderMismatch(position, "What is paid at pickup comes last.")


async def _source(db: Connection, cart: Cart, database: Database) -> tuple[fulfillment.Allocation, ...]:
    """Where the lines come from that are not carried out; ``OutOfStock`` if they cannot be had."""
    methods = {line.id: cart.deliveries[line.delivery_id].method for line in cart.lines if line.delivery_id}
    travelling = [line for line in cart.lines if methods.get(line.id, CARRIED_OUT) != CARRIED_OUT]
    if not travelling:
        return ()
    levels = await inventory.read_levels(
        db, skus=sorted({line.sku for line in travelling}), clock_offset=database.clock_offset
    )
    kept = _keep(cart, levels)
    needs = [
        fulfillment.Need(line_id=line.id, sku=line.sku, quantity=line.quantity)
        for line in travelling
        if methods[line.id] != PICKUP
    ]
    shippable = [level for level in levels if "ship" in level.capabilities]
    available: dict[UUID, dict[str, int]] = {}
    for level in shippable:
        available.setdefault(level.location_id, {})[level.sku] = level.available
    plans = fulfillment.plan(
        needs, [fulfillment.Candidate(location_id=place, available=stock) for place, stock in available.items()]
    )
    if not plans:
        raise OutOfStock(_missing(needs, shippable))
    return (*kept, *plans[0])


def _keep(cart: Cart, levels: Sequence[inventory.Level]) -> list[fulfillment.Allocation]:
    """The lines that are picked up, each from the place that the customer chose; ``OutOfStock`` if it has not enough."""
    at = {(level.sku, level.location_id): level for level in levels}
    kept, short = [], []
    for line in cart.lines:
        delivery = cart.deliveries[line.delivery_id] if line.delivery_id else None
        if delivery is None or delivery.method != PICKUP or delivery.location_id is None:
            continue
        level = at.get((line.sku, delivery.location_id))
        if level is not None and PICKUP not in level.capabilities:
            raise DeliveryNotOffered(PICKUP)
        available = level.available if level is not None else 0
        if available < line.quantity:
            short.append(
                inventory.Shortage(
                    sku=line.sku, location_id=delivery.location_id, requested=line.quantity, available=available
                )
            )
        kept.append(
            fulfillment.Allocation(
                line_id=line.id, sku=line.sku, location_id=delivery.location_id, quantity=line.quantity
            )
        )
    if short:
        raise OutOfStock(short)
    return kept


def _missing(needs: Sequence[fulfillment.Need], levels: Sequence[inventory.Level]) -> tuple[inventory.Shortage, ...]:
    """What of the needs is more than all locations together have."""
    nowhere = UUID(int=0)
    short = []
    for need in needs:
        available = sum(level.available for level in levels if level.sku == need.sku)
        if available < need.quantity:
            short.append(
                inventory.Shortage(sku=need.sku, location_id=nowhere, requested=need.quantity, available=available)
            )
    return tuple(short)
