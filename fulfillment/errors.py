"""What this room refuses."""

from collections.abc import Iterable
from uuid import UUID


class FulfillmentError(Exception):
    """Base of every refusal of this room."""


class FulfillmentNotFound(FulfillmentError):
    """No fulfillment has this id at the caller's location."""

    def __init__(self, fulfillment_id: UUID) -> None:
        super().__init__(str(fulfillment_id))
        self.fulfillment_id = fulfillment_id


class InvalidTransition(FulfillmentError):
    """A step out of turn."""

    def __init__(self, state: str, wanted: str, allowed: Iterable[str]) -> None:
        super().__init__(f"{state} does not lead to {wanted}")
        self.state = state
        self.wanted = wanted
        self.allowed = sorted(allowed)


class NotOnThisList(FulfillmentError):
    """What was scanned is not part of this fulfillment."""

    def __init__(self, sku: str) -> None:
        super().__init__(sku)
        self.sku = sku


class WrongPickupCode(FulfillmentError):
    """The code belongs to something else, or to nothing."""

    def __init__(self, fulfillment_id: UUID) -> None:
        super().__init__(str(fulfillment_id))
        self.fulfillment_id = fulfillment_id


class UnaccountedUnits(FulfillmentError):
    """Picked units do not add up to what the fulfillment asks for."""

    def __init__(self, sku: str, expected: int, counted: int) -> None:
        super().__init__(f"{sku}: {counted} of {expected}")
        self.sku = sku
        self.expected = expected
        self.counted = counted
