"""What an order costs now, what of it is earned, what stands behind it, and what is left to pay. Pure.

Shares are of a line's whole amount and rounded once, so that the parts of an order add up to its total exactly.

Money that was given back is not there any more: not for what leaves next, and not for what is taken. Two kinds of
refunds are none of it: those for goods that came back, which were paid for and left, and those whose reason is
``payments.GOODWILL``, which are presents. Whoever gives back more of an order that goes on has it paid anew, or calls
goods off. Of an order that is completed nothing is asked for again: its refunds count as long as more than its price
was paid.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from commercehub.sales.orders import Order, OrderLine, OrderState
from payments.money import divide


class Balance(Protocol):
    """What stands behind an order by one tender, in minor units: see ``payments.Balance``."""

    @property
    def covered_minor(self) -> int:
        """What need not be asked of the payer."""

    @property
    def secured_minor(self) -> int:
        """What is in hand or can be relied upon."""

    @property
    def taken_minor(self) -> int:
        """What was captured or is being captured."""

    @property
    def capturing_minor(self) -> int:
        """What of it is being captured."""

    @property
    def taken_back_minor(self) -> int:
        """What was given back, is being given back or is owed, and counts."""

    @property
    def capture_refused(self) -> bool:
        """Whether the last capture that ended was refused."""


def worth(order: Order) -> int:
    """What the order costs without the units that were cancelled, in minor units."""
    return _cost(order, lambda line: line.ordered - line.cancelled)


def earned(order: Order) -> int:
    """What the units that have left cost, in minor units, each delivery with the first unit of its own."""
    return _cost(order, lambda line: line.fulfilled)


def amount_due(order: Order, balances: Sequence[Balance]) -> int:
    """What is left to pay, in minor units; nothing of an order that is off.

    What is promised or being asked for is not left to pay. What is being let go of, what was given back, and what a
    processor refused to capture is.
    """
    if order.state in {OrderState.CANCELLED, OrderState.FAILED}:
        return 0
    covered = sum(each.covered_minor for each in balances)
    return max(0, worth(order) - covered + _taken_back(order, balances))


def missing(order: Order, balances: Sequence[Balance]) -> int:
    """What of the price of all that has left is neither in hand nor promised, in minor units.

    What is being asked for is neither, nor what is being let go of, nor what was given back. A capture that was refused
    never undoes a parcel, but what is left of that promise is none any more, until a capture of it succeeds.
    """
    secured = sum(each.secured_minor for each in balances)
    return max(0, earned(order) - secured + _taken_back(order, balances))


def taken(order: Order, balances: Sequence[Balance]) -> int:
    """What was captured or is being captured, less what was given back, in minor units."""
    return max(0, sum(each.taken_minor for each in balances) - _taken_back(order, balances))


def is_capture_failed(order: Order, balances: Sequence[Balance]) -> bool:
    """Whether a capture was refused, none of that tender has succeeded since, and goods left that are not paid for.

    Whatever is heard of other tenders meanwhile, unless they pay for all that has left.
    """
    refused = [each for each in balances if each.capture_refused]
    trying = sum(each.capturing_minor for each in refused)
    return bool(refused) and taken(order, balances) - trying < earned(order)


def _taken_back(order: Order, balances: Sequence[Balance]) -> int:
    back = sum(each.taken_back_minor for each in balances)
    if order.state is not OrderState.COMPLETED:
        return back
    return min(back, max(0, sum(each.covered_minor for each in balances) - worth(order)))


def _cost(order: Order, units: Callable[[OrderLine], int]) -> int:
    shares = [
        divide((line.total + (0 if order.tax_included else line.tax)) * units(line), line.ordered)
        for line in order.lines
    ]
    moving = {line.delivery_id for line in order.lines if units(line)}
    return sum(shares) + sum(each.price for each in order.deliveries if each.id in moving)
