"""How what is due is shared out over the tenders that a payer offers. Pure."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from commercehub.workflows.refusals import BALANCE, StoredValueNotUsable, TenderMismatch
from payments.money import Money

TENDERS_MAX: Final = 10
PAY_AT_PICKUP: Final = "pay_at_pickup"


class Tender(msgspec.Struct, frozen=True, kw_only=True):
    """A way to pay. Without ``amount`` the last tender pays the rest; ``tendered`` is the cash handed over.

    A gift card is named by the hash of its code. What may be spent of a gift card or of store credit is ``available``,
    once somebody has looked: one that comes without ``amount`` pays what it has, up to what is due.
    """

    type: str
    amount: Money | None = None
    tendered: Money | None = None
    processor: str | None = None
    payment_method: str | None = None
    code_hash: bytes | None = None
    stored_value_id: UUID | None = None
    available: int | None = None

    @property
    def is_remote(self) -> bool:
        """Whether a processor is asked; the money of other tenders is in our own hands."""
        return self.processor is not None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one tender pays, and for cash the change that is given back."""

    tender: Tender
    amount: int
    change: int = 0


def share_out(tenders: Sequence[Tender], total: int, currency: str) -> tuple[Share, ...]:
    """The part of ``total`` that each tender pays; together they pay all of it, or ``TenderMismatch`` is raised."""
    left = total
    shares = []
    for position, tender in enumerate(tenders):
        is_last = position == len(tenders) - 1
        if tender.amount is None and tender.available is None and not is_last:
            raise TenderMismatch(position, "Only the last tender may come without an amount.")
        for given in (tender.amount, tender.tendered):
            if given is not None and given.currency != currency:
                raise TenderMismatch(position, f"The cart is in {currency}.")
        amount = left if tender.amount is None else tender.amount.amount_minor
        if tender.amount is None and tender.available is not None and not is_last:
            amount = min(left, tender.available)
        if tender.available is not None and amount > tender.available:
            raise StoredValueNotUsable(position, tender.type, BALANCE)
        if amount > left:
            raise TenderMismatch(
                position, f"The tenders exceed what is due by {amount - left} ({currency} minor units)."
            )
        shares.append(Share(tender=tender, amount=amount, change=_change(position, tender, amount)))
        left -= amount
    if left:
        raise TenderMismatch(max(0, len(tenders) - 1), f"{left} ({currency} minor units) are left to pay.")
    if sum(share.tender.is_remote for share in shares) > 1:
        raise TenderMismatch(len(tenders) - 1, "One tender at most may be paid through a processor.")
    # A tender that has nothing left to pay is not booked.
    return tuple(share for share in shares if share.amount > 0)


def _change(position: int, tender: Tender, amount: int) -> int:
    if tender.type != "cash" or tender.tendered is None:
        return 0
    change = tender.tendered.amount_minor - amount
    if change < 0:
        raise TenderMismatch(position, f"{-change} minor units too little were handed over.")
    return change
