"""What workflows refuse: reasons that belong to no single room."""

from collections.abc import Sequence
from typing import Final

import inventory
import payments
from commercehub.sales.errors import SalesError

UNKNOWN: Final = "unknown"
EXPIRED: Final = "expired"
CURRENCY: Final = "currency"
BALANCE: Final = "balance"


class RefusalError(Exception):
    """Base of every refusal of a workflow."""


class EmptyCart(RefusalError):
    """There is nothing to check out."""


class DeliveryRequired(RefusalError):
    """Nobody has said how the goods reach the customer."""


class DeliveryNotOffered(RefusalError):
    """The method cannot be had: in this currency, from this channel, or for these goods."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method


class ContactRequired(RefusalError):
    """A guest gives an e-mail address or a phone number."""


class RegisterRequired(RefusalError):
    """Several drawers are open at the location, and the caller did not say which."""


class TotalChanged(RefusalError):
    """The cart does not cost any more what the caller expected."""

    def __init__(self, total: payments.Money) -> None:
        super().__init__(str(total))
        self.total = total


class PaymentDue(RefusalError):
    """The goods are not paid for."""

    def __init__(self, amount_minor: int, currency: str) -> None:
        super().__init__(f"{amount_minor} {currency}")
        self.amount = payments.Money(amount_minor, currency)


class NothingDue(RefusalError):
    """The order is paid, or is none that can be paid."""


class PaymentUnderWay(RefusalError):
    """A payment of several tenders waits for its processor; another of that kind has to wait for it."""


class TenderMismatch(RefusalError):
    """The tenders do not add up to what is due; ``position`` is the tender to mend."""

    def __init__(self, position: int, detail: str) -> None:
        super().__init__(detail)
        self.position = position
        self.detail = detail


class StoredValueNotUsable(RefusalError):
    """A gift card or store credit cannot be spent here: ``reason`` is one of the words below."""

    def __init__(self, position: int, tender: str, reason: str) -> None:
        super().__init__(f"{tender}: {reason}")
        self.position = position
        self.tender = tender
        self.reason = reason


class ResolutionNotOffered(RefusalError):
    """A return cannot be settled in the way that was asked for."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ReturnsNotTaken(RefusalError):
    """The place does not take returns."""


class UnknownProcessor(RefusalError):
    """The hub has no processor of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class OutOfStock(RefusalError):
    """Some lines cannot be had; no tender was touched."""

    def __init__(self, shortages: Sequence[inventory.Shortage]) -> None:
        super().__init__(", ".join(short.sku for short in shortages))
        self.shortages = shortages


REFUSALS: Final = (RefusalError, SalesError, payments.PaymentError)
"""Everything that a checkout may be refused for before it is placed."""
