"""What this room refuses."""

from uuid import UUID


class PaymentError(Exception):
    """Base of every refusal of this room."""


class NoOpenSession(PaymentError):
    """Cash needs an open drawer, and there is none in this currency."""


class StoredValueNotFound(PaymentError):
    """There is no such gift card."""


class StoredValueSpent(PaymentError):
    """The gift card or the credit has not enough left, or has ended, since it was looked at."""


class PaymentNotFound(PaymentError):
    """There is no such payment."""


class NothingToRefund(PaymentError):
    """All that was paid was given back already, or nothing was paid."""


class RefundTooLarge(PaymentError):
    """More than what was paid and not yet given back."""

    def __init__(self, left_minor: int) -> None:
        super().__init__(str(left_minor))
        self.left_minor = left_minor


class PartialVoid(PaymentError):
    """A void lets go of all that a processor holds; no part of it can be let go of."""

    def __init__(self, held_minor: int) -> None:
        super().__init__(str(held_minor))
        self.held_minor = held_minor


class RegisterNotFound(PaymentError):
    """No register has this id at the caller's location."""

    def __init__(self, register_id: UUID) -> None:
        super().__init__(str(register_id))
        self.register_id = register_id


class SessionAlreadyOpen(PaymentError):
    """The register's drawer is open already."""

    def __init__(self, register_id: UUID) -> None:
        super().__init__(str(register_id))
        self.register_id = register_id


class RegisterNameTaken(PaymentError):
    """The location has a register of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class IntentSettled(PaymentError):
    """The intent is not in a state in which this can be asked of it."""

    def __init__(self, intent_id: UUID, state: str) -> None:
        super().__init__(f"{intent_id} is {state}")
        self.intent_id = intent_id
        self.state = state
