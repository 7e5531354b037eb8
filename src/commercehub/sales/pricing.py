"""What a cart costs: a pure function from lines, prices and rates to every amount that a customer sees.

Amounts are minor units. Rounding is half away from zero, per line, after discounts. Of several promotions the one that
takes most off counts, alone: its discount is rounded once, and split over the lines by largest remainder.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from payments.money import AMOUNT_MINOR_MAX, divide, split, tax

METHODS_WITH_ADDRESS: Final = frozenset({"ship", "express"})
PPM: Final = 1_000_000


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


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """A code that takes a part of the goods' price off; one that was ended takes nothing."""

    code: str
    percent_off_ppm: int
    is_ended: bool = False


class AppliedPromotion(msgspec.Struct, frozen=True, kw_only=True):
    """A code, and what it takes off."""

    code: str
    discount: int


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
    promotions: tuple[AppliedPromotion, ...]
    subtotal: int
    discount_total: int
    delivery_total: int
    tax_total: int
    total: int


class Unpriceable(Exception):
    """The amounts exceed what a payment can carry."""


def price(
    lines: Sequence[CartLine],
    deliveries: Sequence[CartDelivery],
    *,
    tax_included: bool,
    promotions: Sequence[Promotion] = (),
) -> Prices:
    """Price a cart. A line without a price counts as nothing; whoever sells it must look. ``Unpriceable`` if too big."""
    gross = [divide((line.unit_price or 0) * line.quantity, 10**line.quantity_scale) for line in lines]
    subtotal = sum(gross)
    best = _best(promotions)
    discount_total = divide(subtotal * best.percent_off_ppm, PPM) if best else 0
    discounts = split(discount_total, gross) if gross else []
    priced = tuple(
        _price_line(line, total, discount, tax_included=tax_included)
        for line, total, discount in zip(lines, gross, discounts, strict=True)
    )
    delivered = tuple(
        PricedDelivery(delivery=delivery, line_ids=line_ids, price=delivery.rate or 0)
        for delivery in deliveries
        if (line_ids := tuple(line.id for line in lines if line.delivery_id == delivery.id))
    )
    delivery_total = sum(each.price for each in delivered)
    tax_total = sum(each.tax for each in priced)
    total = subtotal - discount_total + delivery_total + (0 if tax_included else tax_total)
    # What is taken off does not make an amount fit that no payment carries: the subtotal is an amount of its own.
    if max(total, subtotal) > AMOUNT_MINOR_MAX:
        raise Unpriceable
    return Prices(
        lines=priced,
        deliveries=delivered,
        promotions=tuple(
            AppliedPromotion(code=each.code, discount=discount_total if each is best else 0) for each in promotions
        ),
        subtotal=subtotal,
        discount_total=discount_total,
        delivery_total=delivery_total,
        tax_total=tax_total,
        total=total,
    )


def _best(promotions: Sequence[Promotion]) -> Promotion | None:
    """The promotion that counts: they do not add up. Of equal ones the first."""
    return max((each for each in promotions if not each.is_ended), key=lambda each: each.percent_off_ppm, default=None)


def _price_line(line: CartLine, gross: int, discount: int, *, tax_included: bool) -> PricedLine:
    total = gross - discount
    return PricedLine(
        line=line,
        unit_price=line.unit_price or 0,
        discount=discount,
        tax=tax(total, line.rate_ppm, included=tax_included),
        total=total,
    )
