"""The double-entry ledger: every change of money is a transaction whose entries add up to nothing.

A debit is positive. Accounts: ``orders`` (what customers owe us, so a payment credits it), ``drawer:<session>``,
``safe``, ``over_short``, ``processor:<name>``, ``gift_card:<id>`` and ``store_credit:<id>`` (what we owe on them), and
``issued`` (what was taken, or given away, for them).
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

ORDERS: Final = "orders"
SAFE: Final = "safe"
OVER_SHORT: Final = "over_short"
ISSUED: Final = "issued"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a transaction."""

    transaction_id: UUID
    account: str
    amount_minor: int
    currency: str
    reference: UUID | None = None


Columns = tuple[list[UUID], list[str], list[int], list[str], list[UUID | None]]


def drawer(session_id: UUID) -> str:
    """The account of the cash in one drawer session."""
    return f"drawer:{session_id}"


def stored_value(kind: str, stored_value_id: UUID) -> str:
    """The account of what we owe on a gift card or to a customer."""
    return f"{kind}:{stored_value_id}"


def processor(name: str) -> str:
    """The account of what a processor holds for us."""
    return f"processor:{name}"


def against_orders(
    transaction_id: UUID, account: str, amount_minor: int, currency: str, reference: UUID
) -> list[Entry]:
    """Both sides of a payment: what an account takes in, a customer owes us less."""
    return [
        Entry(
            transaction_id=transaction_id,
            account=name,
            amount_minor=amount,
            currency=currency,
            reference=reference,
        )
        for name, amount in ((account, amount_minor), (ORDERS, -amount_minor))
    ]


def columns(entries: Iterable[Entry]) -> Columns:
    """The entries as the five arrays that a statement unnests; those of no amount are left out."""
    kept = [entry for entry in entries if entry.amount_minor]
    return (
        [entry.transaction_id for entry in kept],
        [entry.account for entry in kept],
        [entry.amount_minor for entry in kept],
        [entry.currency for entry in kept],
        [entry.reference for entry in kept],
    )
