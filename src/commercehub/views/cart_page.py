"""A cart as its shopper sees it: lines, deliveries, every amount, and what would stop it at checkout."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import inventory
import payments
from commercehub import ids
from commercehub.sales.cart_gift_cards import GIFT_CARDS_MAX
from commercehub.sales.carts import LINES_MAX, QUANTITY_MAX, Cart
from commercehub.sales.pricing import METHODS_WITH_ADDRESS, CartDelivery, CartLine
from payments.money import Money

CARRIED_OUT: Final = "carry_out"


class AddressView(msgspec.Struct, frozen=True, kw_only=True):
    """A postal address."""

    name: str
    line1: str
    city: str
    postal_code: str
    country: str
    line2: str | None = None
    region: str | None = None


class CartLineView(msgspec.Struct, frozen=True, kw_only=True):
    """A line with its amounts; tax is inside ``total`` or not as the cart's ``tax_included`` says."""

    id: str
    sku: str
    title: str
    quantity: int
    unit_price: Money
    discount: Money
    tax: Money
    total: Money


class CartDeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """How some lines reach the customer."""

    method: str
    location_id: str | None
    address: AddressView | None
    line_ids: list[str]
    price: Money


class PromotionView(msgspec.Struct, frozen=True, kw_only=True):
    """A promotion and what it takes off."""

    code: str
    discount: Money


class CartGiftCardView(msgspec.Struct, frozen=True, kw_only=True):
    """A gift card that was put into the cart: how its code ends, and what it has."""

    id: str
    last4: str
    balance: Money


class CartProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What would stop the cart at checkout by whoever reads this; ``line_id`` and ``sku`` if it is about one line."""

    code: str
    detail: str
    line_id: str | None = None
    sku: str | None = None


class CartView(msgspec.Struct, frozen=True, kw_only=True):
    """A cart. ``token`` opens it, and is there when a guest's cart is made or resumed.

    ``merged_into`` is the cart that all of it is in by now; in the answer to a claim it is the cart that is shown.
    """

    id: str
    channel: str
    currency: str
    tax_included: bool
    state: str
    version: int
    lines: list[CartLineView]
    deliveries: list[CartDeliveryView]
    promotions: list[PromotionView]
    subtotal: Money
    discount_total: Money
    delivery_total: Money
    tax_total: Money
    total: Money
    problems: list[CartProblem]
    location_id: str | None = None
    customer_id: str | None = None
    gift_cards: list[CartGiftCardView] = []
    merged_into: str | None = None
    token: str | None = None


async def show_cart(
    db: Connection,
    cart: Cart,
    *,
    clock_offset: timedelta,
    location_id: UUID | None,
    token: str | None = None,
    merged_into: UUID | None = None,
    capped: Collection[UUID] = (),
) -> CartView:
    """The page of a cart, with the stock of its lines read once.

    ``location_id``: where the reader works; what is carried out is carried out of there, or it is not checked out.
    ``capped``: lines that a merge left with fewer than both carts together had.
    """
    levels = await inventory.read_levels(db, skus=sorted({line.sku for line in cart.lines}), clock_offset=clock_offset)
    too_many = [
        CartProblem(
            code="quantity_too_large",
            detail=f"Both carts together had more than {QUANTITY_MAX:,}.",
            line_id=ids.show("line", line.id),
            sku=line.sku,
        )
        for line in cart.lines
        if line.id in capped
    ]
    page = _cart_view(cart, too_many + _problems(cart, levels, location_id), token)
    end = merged_into or cart.merged_into
    return msgspec.structs.replace(
        page,
        gift_cards=await _gift_cards(db, cart, clock_offset) if cart.gift_cards else [],
        merged_into=ids.show("cart", end) if end else None,
    )


async def _gift_cards(db: Connection, cart: Cart, clock_offset: timedelta) -> list[CartGiftCardView]:
    known = await payments.read_gift_cards(
        db, card_ids=[card.id for card in cart.gift_cards], clock_offset=clock_offset
    )
    return [
        CartGiftCardView(
            id=ids.show("gift", card.id),
            last4=card.last4,
            balance=Money(known[card.id].available_minor, known[card.id].currency),
        )
        for card in cart.gift_cards
        if card.id in known
    ]


def conceal(view: CartView) -> CartView:
    """The page without what a stored answer may not keep: the token, and where somebody lives."""
    return msgspec.structs.replace(
        view,
        token=None,
        deliveries=[msgspec.structs.replace(delivery, address=None) for delivery in view.deliveries],
    )


def reveal(page: bytes, *, addresses: Mapping[str, AddressView | None], **secrets: str | None) -> bytes:
    """A page as it was stored, with what ``conceal`` took out of it: addresses by their lines, and other secrets.

    It stays a document all the way: a page that was stored by an older release is none of this one's structs.
    """
    document = msgspec.json.decode(page)
    for delivery in document["deliveries"]:
        address = next((addresses.get(line_id) for line_id in delivery["line_ids"]), None)
        delivery["address"] = msgspec.to_builtins(address)
    return msgspec.json.encode(document | secrets)


def addresses_of(
    deliveries: Iterable[tuple[Iterable[str], AddressView | None]],
) -> dict[str, AddressView | None]:
    """Where each line goes."""
    return {line_id: address for line_ids, address in deliveries for line_id in line_ids}


def _cart_view(cart: Cart, problems: list[CartProblem], token: str | None) -> CartView:
    prices = cart.prices

    def money(amount: int) -> Money:
        return Money(amount, cart.currency)

    return CartView(
        id=ids.show("cart", cart.id),
        channel=cart.channel,
        location_id=ids.show("loc", cart.location_id) if cart.location_id else None,
        customer_id=ids.show("cus", cart.customer_id) if cart.customer_id else None,
        currency=cart.currency,
        tax_included=cart.tax_included,
        state=cart.state,
        version=cart.version,
        lines=[
            CartLineView(
                id=ids.show("line", priced.line.id),
                sku=priced.line.sku,
                title=priced.line.title,
                quantity=priced.line.quantity,
                unit_price=money(priced.unit_price),
                discount=money(priced.discount),
                tax=money(priced.tax),
                total=money(priced.total),
            )
            for priced in prices.lines
        ],
        deliveries=[
            CartDeliveryView(
                method=each.delivery.method,
                location_id=ids.show("loc", each.delivery.location_id) if each.delivery.location_id else None,
                address=msgspec.convert(cart.addresses[each.delivery.id], AddressView, from_attributes=True)
                if each.delivery.id in cart.addresses
                else None,
                line_ids=[ids.show("line", line_id) for line_id in each.line_ids],
                price=money(each.price),
            )
            for each in prices.deliveries
        ],
        promotions=[PromotionView(code=each.code, discount=money(each.discount)) for each in prices.promotions],
        subtotal=money(prices.subtotal),
        discount_total=money(prices.discount_total),
        delivery_total=money(prices.delivery_total),
        tax_total=money(prices.tax_total),
        total=money(prices.total),
        problems=problems,
        token=token,
    )


def _problems(cart: Cart, levels: Sequence[inventory.Level], location_id: UUID | None) -> list[CartProblem]:
    found = []
    # A cart that was given back may hold more: what the customer began meanwhile is in it too.
    if len(cart.lines) > LINES_MAX:
        found.append(CartProblem(code="too_many_lines", detail=f"A cart has {LINES_MAX} lines at most."))
    if len(cart.gift_cards) > GIFT_CARDS_MAX:
        detail = f"A cart takes {GIFT_CARDS_MAX} gift cards at most."
        found.append(CartProblem(code="too_many_gift_cards", detail=detail))
    for line in cart.lines:
        where = {"line_id": ids.show("line", line.id), "sku": line.sku}
        if line.unit_price is None:
            found.append(CartProblem(code="no_price", detail=f"No price in {cart.currency}.", **where))
        if line.delivery_id is None:
            found.append(CartProblem(code="delivery_required", detail="Not said how it is delivered.", **where))
            continue
        delivery = cart.deliveries[line.delivery_id]
        if delivery.rate is None and delivery.method in METHODS_WITH_ADDRESS:
            detail = f"{delivery.method!r} is not offered in {cart.currency}."
            found.append(CartProblem(code="delivery_not_offered", detail=detail, **where))
        if delivery.method == CARRIED_OUT and delivery.location_id != location_id:
            detail = "It is carried out of a store. Check out there, or choose another way."
            found.append(CartProblem(code="delivery_not_offered", detail=detail, **where))
        available = _available(line, delivery, levels)
        if available < line.quantity:
            found.append(CartProblem(code="out_of_stock", detail=f"{available} can be had.", **where))
    return found


def _available(line: CartLine, delivery: CartDelivery, levels: Sequence[inventory.Level]) -> int:
    """What this line could have: at a till what nobody was promised, else what may be collected there or sent."""
    mine = [level for level in levels if level.sku == line.sku]
    if delivery.method == "pickup":
        here = [each for each in mine if each.location_id == delivery.location_id]
        return sum(each.available for each in here if "pickup" in each.capabilities)
    if delivery.location_id is not None:
        return sum(max(0, each.on_hand - each.reserved) for each in mine if each.location_id == delivery.location_id)
    return sum(each.available for each in mine if "ship" in each.capabilities)
