"""What a cart costs: a pure function from lines, prices and rates to every amount that a customer sees.

Amounts are minor units. Rounding is half away from zero, per line, after discounts.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from payments.money import AMOUNT_MINOR_MAX, divide, tax

METHODS_WITH_ADDRESS: Final = frozenset({"ship", "express"})


class CartLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line as stored, with what its variant costs now; no price is ``None``."""

    id: UUID
    variant_id: UUID
    sku: str
    title: str
    quantity: int
    quantity_scale: int
    delivery_id: UUID | None
    unit_price: int | None
    rate_ppm: int
    shippable: bool = True


class CartDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How lines reach the customer, and what that costs; ``rate`` ``None``: not offered in the currency."""

    id: UUID
    method: str
    location_id: UUID | None
    address_id: UUID | None
    rate: int | None


class PricedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line with its amounts. ``total`` is unit price times quantity less its discount."""

    line: CartLine
    unit_price: int
    discount: int
    tax: int
    total: int


class PricedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery with its lines and its price."""

    delivery: CartDelivery
    line_ids: tuple[UUID, ...]
    price: int


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Every amount of a cart.

    ``total = subtotal - discount_total + delivery_total``, plus ``tax_total`` unless tax is included.
    """

    lines: tuple[PricedLine, ...]
    deliveries: tuple[PricedDelivery, ...]
    subtotal: int
    discount_total: int
    delivery_total: int
    tax_total: int
    total: int


class Unpriceable(Exception):
    """The amounts exceed what a payment can carry."""


def price(lines: Sequence[CartLine], deliveries: Sequence[CartDelivery], *, tax_included: bool) -> Prices:
    """Price a cart. A line without a price counts as nothing; whoever sells it must look. ``Unpriceable`` if too big."""
    priced = tuple(_price_line(line, tax_included=tax_included) for line in lines)
    delivered = tuple(
        PricedDelivery(delivery=delivery, line_ids=line_ids, price=delivery.rate or 0)
        for delivery in deliveries
        if (line_ids := tuple(line.id for line in lines if line.delivery_id == delivery.id))
    )
    subtotal = sum(each.total + each.discount for each in priced)
    discount_total = sum(each.discount for each in priced)
    delivery_total = sum(each.price for each in delivered)
    tax_total = sum(each.tax for each in priced)
    total = subtotal - discount_total + delivery_total + (0 if tax_included else tax_total)
    if total > AMOUNT_MINOR_MAX:
        raise Unpriceable
    return Prices(
        lines=priced,
        deliveries=delivered,
        subtotal=subtotal,
        discount_total=discount_total,
        delivery_total=delivery_total,
        tax_total=tax_total,
        total=total,
    )


def _price_line(line: CartLine, *, tax_included: bool) -> PricedLine:
    unit_price = line.unit_price or 0
    total = divide(unit_price * line.quantity, 10**line.quantity_scale)
    return PricedLine(
        line=line,
        unit_price=unit_price,
        discount=0,
        tax=tax(total, line.rate_ppm, included=tax_included),
        total=total,
    )
