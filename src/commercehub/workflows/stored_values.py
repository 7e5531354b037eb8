"""Gift cards and store credit as tenders: found by code or customer before a sale, promised with its stock."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import payments
from commercehub.sales.carts import Cart, Owner
from commercehub.workflows.refusals import CURRENCY, EXPIRED, UNKNOWN, StoredValueNotUsable
from commercehub.workflows.tenders import Tender

GIFT_CARD: Final = "gift_card"
STORE_CREDIT: Final = "store_credit"
KINDS: Final = frozenset({GIFT_CARD, STORE_CREDIT})


async def look_into(
    db: Connection,
    tenders: Sequence[Tender],
    *,
    customer_id: UUID | None,
    owner: Owner,
    currency: str,
    clock_offset: timedelta = timedelta(),
) -> tuple[Tender, ...]:
    """The tenders with what their gift cards and the customer's credit hold, before any of it is promised.

    ``StoredValueNotUsable`` for a code that nobody issued, one that has expired or is in another currency, and for the
    credit of a customer who has none, or whom ``owner`` does not speak for. The same card twice is one card: its second
    tender finds what the first leaves.
    """
    creditor_id = customer_id if speaks_for_customer(owner) else None
    taken: dict[UUID, int] = {}
    seen = []
    for position, tender in enumerate(tenders):
        if tender.type not in KINDS:
            seen.append(tender)
            continue
        found = await _find(db, tender, creditor_id, currency, clock_offset)
        if found is None:
            raise StoredValueNotUsable(position, tender.type, UNKNOWN)
        if found.currency != currency:
            raise StoredValueNotUsable(position, tender.type, CURRENCY)
        if found.is_expired:
            raise StoredValueNotUsable(position, tender.type, EXPIRED)
        available = found.available_minor - taken.get(found.id, 0)
        spoken_for = available if tender.amount is None else min(available, tender.amount.amount_minor)
        taken[found.id] = taken.get(found.id, 0) + spoken_for
        seen.append(msgspec.structs.replace(tender, stored_value_id=found.id, available=available))
    return tuple(seen)


def speaks_for_customer(owner: Owner) -> bool:
    """Whether what a customer has may be spent: by themselves, and by whoever helps customers.

    A token opens the cart that was handed off with it, and a look-up one order: neither says who holds it.
    """
    return owner.token_hash is None and owner.order_id is None


def with_cards_of(cart: Cart, tenders: Sequence[Tender], *, owner: Owner) -> tuple[Tender, ...]:
    """The tenders, with the cart's own gift cards in place of one that names none: each pays what it has.

    ``StoredValueNotUsable`` if the cart has none, or if they are a customer's whom ``owner`` does not speak for.
    """
    cards = cart.gift_cards if cart.customer_id is None or speaks_for_customer(owner) else ()
    given: list[Tender] = []
    for position, tender in enumerate(tenders):
        if tender.type != GIFT_CARD or tender.code_hash is not None:
            given.append(tender)
            continue
        if not cards:
            raise StoredValueNotUsable(position, tender.type, UNKNOWN)
        given.extend(Tender(type=GIFT_CARD, stored_value_id=card.id) for card in cards)
    return tuple(given)


async def _find(
    db: Connection, tender: Tender, customer_id: UUID | None, currency: str, clock_offset: timedelta
) -> payments.StoredValue | None:
    if tender.type == STORE_CREDIT:
        if customer_id is None:
            return None
        return await payments.find_store_credit(db, owner_id=customer_id, currency=currency, clock_offset=clock_offset)
    if tender.stored_value_id is not None:
        known = await payments.read_gift_cards(db, card_ids=[tender.stored_value_id], clock_offset=clock_offset)
        return known.get(tender.stored_value_id)
    try:
        return await payments.find_gift_card(db, code_hash=tender.code_hash or b"", clock_offset=clock_offset)
    except payments.StoredValueNotFound:
        return None


async def claim(db: Connection, intents: Sequence[payments.NewIntent], *, now: datetime) -> None:
    """Promise what the new intents take of gift cards and credit, or spend it where they settle at once.

    ``payments.StoredValueSpent`` if somebody was faster: nothing was taken, the caller rolls back and looks again.
    """
    await payments.claim_stored_value(
        db,
        [
            payments.Spending(
                stored_value_id=intent.stored_value_id, amount_minor=intent.amount_minor, settle=intent.settle
            )
            for intent in intents
            if intent.stored_value_id is not None
        ],
        now=now,
    )
