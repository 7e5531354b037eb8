"""What an order costs now, what of it is earned, and what is left to pay. Pure.

Shares are of a line's whole amount and rounded once, so that the parts of an order add up to its total exactly.
"""

from collections.abc import Callable

from commercehub.sales.orders import Order, OrderLine, OrderState
from payments.money import divide


def worth(order: Order) -> int:
    """What the order costs without the units that were cancelled, in minor units."""
    return _cost(order, lambda line: line.ordered - line.cancelled)


def earned(order: Order) -> int:
    """What the units that have left cost, in minor units, each delivery with the first unit of its own."""
    return _cost(order, lambda line: line.fulfilled)


def amount_due(order: Order, *, covered_minor: int) -> int:
    """What is left to pay where so much is paid, promised or being asked for; nothing of an order that is off."""
    return 0 if order.state in {OrderState.CANCELLED, OrderState.FAILED} else max(0, worth(order) - covered_minor)


def _cost(order: Order, units: Callable[[OrderLine], int]) -> int:
    shares = [
        divide((line.total + (0 if order.tax_included else line.tax)) * units(line), line.ordered)
        for line in order.lines
    ]
    moving = {line.delivery_id for line in order.lines if units(line)}
    return sum(shares) + sum(each.price for each in order.deliveries if each.id in moving)
