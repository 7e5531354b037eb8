"""The payment methods: strings that say what will happen. Each fault happens once for each idempotency key."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec


class Kind(StrEnum):
    """What can be done with a payment."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class Fault(StrEnum):
    """What goes wrong between the books and the caller."""

    ANSWER_LOST = "answer_lost"
    """Done, and never answered: the connection stays open far longer than anybody waits."""
    ERROR_BEFORE = "error_before"
    """A 500, and nothing done."""
    ERROR_AFTER = "error_after"
    """A 500, and yet done."""
    GARBAGE = "garbage"
    """Done, and answered with something that is no answer."""
    WRONG_AMOUNT = "wrong_amount"
    """Done for the right amount, and answered with another."""
    RATE_LIMITED = "rate_limited"
    """A 429, and nothing done."""
    RESET = "reset"
    """Done, and the connection breaks inside the answer."""
    SLOW = "slow"
    """Done and answered, but only after a while; until then the key is in flight."""


BEFORE: Final = frozenset({Fault.ERROR_BEFORE, Fault.RATE_LIMITED})
"""The faults after which nothing has been done."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment method does, and to which kind of operation; all other kinds go well."""

    kind: Kind = Kind.AUTHORIZE
    decline_code: str | None = None
    declines_once: bool = False
    """Only the first operation of its kind on a payment is declined."""
    requires_action: bool = False
    fault: Fault | None = None


METHODS: Final[Mapping[str, Behaviour]] = MappingProxyType(
    {
        "pm_ok": Behaviour(),
        "pm_declined": Behaviour(decline_code="card_declined"),
        "pm_insufficient_funds": Behaviour(decline_code="insufficient_funds"),
        "pm_requires_action": Behaviour(requires_action=True),
        "pm_capture_declined": Behaviour(kind=Kind.CAPTURE, decline_code="capture_declined"),
        "pm_void_declined": Behaviour(kind=Kind.VOID, decline_code="void_declined"),
        "pm_refund_declined": Behaviour(kind=Kind.REFUND, decline_code="refund_declined"),
        # pm_capture_declined_once and its like go well when they are tried anew.
        **{
            f"pm_{kind}_declined_once": Behaviour(kind=kind, decline_code=f"{kind}_declined", declines_once=True)
            for kind in (Kind.CAPTURE, Kind.VOID, Kind.REFUND)
        },
        # pm_answer_lost and its like; pm_capture_answer_lost and its like authorize well and fail later.
        **{f"pm_{fault}": Behaviour(fault=fault) for fault in Fault},
        **{
            f"pm_{kind}_{fault}": Behaviour(kind=kind, fault=fault)
            for kind in (Kind.CAPTURE, Kind.VOID, Kind.REFUND)
            for fault in Fault
        },
    }
)


def fault_of(payment_method: str, kind: Kind) -> Fault | None:
    """What is to go wrong with this kind of operation on a payment made with this method."""
    behaviour = METHODS[payment_method]
    return behaviour.fault if behaviour.kind is kind else None


def decline_code_of(payment_method: str, kind: Kind, *, declined: int = 0) -> str | None:
    """Why this kind of operation on a payment made with this method is declined; None where it is not.

    ``declined``: how many of its kind were declined on this payment before.
    """
    behaviour = METHODS[payment_method]
    if behaviour.kind is not kind or (behaviour.declines_once and declined):
        return None
    return behaviour.decline_code
