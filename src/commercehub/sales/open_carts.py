"""The customer's open cart: one, the same in every channel. Whatever else they had open is merged into it.

Who makes a customer's cart the open one locks the customer first, then the carts, lowest id first.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub.sales.cart_gift_cards import GIFT_CARDS_MAX
from commercehub.sales.carts import LINES_MAX, QUANTITY_MAX, Owner, find_order_of
from commercehub.sales.errors import (
    CartNotFound,
    CustomerNotFound,
    TooManyGiftCards,
    TooManyLines,
    TooManyPromotions,
)
from commercehub.sales.promotions import PROMOTIONS_MAX

MERGES_MAX: Final = 20
"""How many merges a cart is followed through."""

# Two claims for one customer queue here; nothing else about the customer is kept waiting.
LOCK_CUSTOMER = "SELECT id FROM commercehub.customers WHERE id = $1 FOR NO KEY UPDATE"

FIND_OPEN = "SELECT id FROM commercehub.carts WHERE customer_id = $1 AND state = 'open'"

# One that is checked out while we wait for it is not open any more, and not found.
LOCK_OPEN = "SELECT id FROM commercehub.carts WHERE customer_id = $1 AND state = 'open' FOR UPDATE"

LOCK = """
SELECT cart.id, cart.state, cart.customer_id, cart.token_hash, cart.location_id, cart.merged_into, cart.version
FROM commercehub.carts AS cart
WHERE cart.id = ANY ($1::uuid[])
ORDER BY cart.id
FOR UPDATE
"""

FOLLOW = "SELECT cart.id, cart.merged_into, cart.version FROM commercehub.carts AS cart WHERE cart.id = $1"

# Its guest's token opens it no more: what the customer adds from now on is nobody else's.
GIVE_TO_CUSTOMER = """
UPDATE commercehub.carts
SET customer_id = $2, token_hash = NULL, token_serial = token_serial + 1, version = version + 1, changed_at = $3
WHERE id = $1 AND state = 'open'
RETURNING version
"""

# The customer goes on with it themselves: whoever has a token from a hand-off does not.
REVOKE = """
UPDATE commercehub.carts SET token_hash = NULL, token_serial = token_serial + 1, version = version + 1
WHERE id = $1 AND token_hash IS NOT NULL
RETURNING version
"""

# Lines keep their ids; of what is in both carts the quantities add up, and it goes the way that was chosen in the cart
# that stays. Codes that would have opened the other cart open nothing, and a token of the one that stays no more: there
# is in it now what its bearer was not given. What is limited is counted as it was before.
MOVE_CONTENT = """
WITH shared AS (
    SELECT kept.id AS kept_id, gone.id AS gone_id, gone.delivery_id, kept.quantity + gone.quantity AS wanted
    FROM commercehub.cart_lines AS gone
    JOIN commercehub.cart_lines AS kept ON kept.cart_id = $2 AND kept.variant_id = gone.variant_id
    WHERE gone.cart_id = $1
),
raised AS (
    UPDATE commercehub.cart_lines AS line
    SET quantity = least(shared.wanted, $3), delivery_id = coalesce(line.delivery_id, shared.delivery_id)
    FROM shared WHERE line.id = shared.kept_id
),
dropped AS (
    DELETE FROM commercehub.cart_lines AS line USING shared WHERE line.id = shared.gone_id
),
moved AS (
    UPDATE commercehub.cart_lines AS line SET cart_id = $2
    WHERE line.cart_id = $1 AND NOT EXISTS (SELECT FROM shared WHERE shared.gone_id = line.id)
),
delivered AS (
    UPDATE commercehub.cart_deliveries SET cart_id = $2 WHERE cart_id = $1
),
promoted AS (
    INSERT INTO commercehub.cart_promotions (cart_id, code)
    SELECT $2, code FROM commercehub.cart_promotions WHERE cart_id = $1
    ON CONFLICT (cart_id, code) DO NOTHING
),
paid AS (
    INSERT INTO commercehub.cart_gift_cards (cart_id, gift_card_id, last4, added_at)
    SELECT $2, gift_card_id, last4, added_at FROM commercehub.cart_gift_cards WHERE cart_id = $1
    ON CONFLICT (cart_id, gift_card_id) DO NOTHING
),
ended AS (
    DELETE FROM commercehub.handoffs WHERE cart_id = $1
),
closed AS (
    UPDATE commercehub.carts
    SET state = 'merged', merged_into = $2, customer_id = $4, token_hash = NULL, version = version + 1
    WHERE id = $1
),
grown AS (
    UPDATE commercehub.carts
    SET version = version + 1, token_hash = NULL, token_serial = token_serial + (token_hash IS NOT NULL)::int
    WHERE id = $2 RETURNING version
)
SELECT (SELECT version FROM grown) AS version,
       coalesce((SELECT array_agg(kept_id) FROM shared WHERE wanted > $3), '{}'::uuid[]) AS capped,
       (SELECT count(DISTINCT variant_id) FROM commercehub.cart_lines WHERE cart_id IN ($1, $2)) AS lines,
       (SELECT count(DISTINCT gift_card_id) FROM commercehub.cart_gift_cards WHERE cart_id IN ($1, $2)) AS gift_cards,
       (SELECT count(DISTINCT code) FROM commercehub.cart_promotions WHERE cart_id IN ($1, $2)) AS promotions
"""

# What has another way to the customer keeps it; what was to be carried out of another place, or had none, is in the
# hand here.
TAKE_TO = """
WITH cart AS (
    UPDATE commercehub.carts SET location_id = $2, version = version + 1, changed_at = $4
    WHERE id = $1 AND state = 'open' AND location_id IS DISTINCT FROM $2
    RETURNING id, version, customer_id
),
delivery AS (
    INSERT INTO commercehub.cart_deliveries (id, cart_id, method, location_id)
    SELECT $3, id, 'carry_out', $2 FROM cart
    RETURNING id
),
line AS (
    UPDATE commercehub.cart_lines AS line SET delivery_id = delivery.id
    FROM cart, delivery
    WHERE line.cart_id = cart.id
      AND (line.delivery_id IS NULL OR EXISTS (
          SELECT FROM commercehub.cart_deliveries AS chosen
          WHERE chosen.id = line.delivery_id AND chosen.method = 'carry_out' AND chosen.location_id <> $2))
)
SELECT version, customer_id FROM cart
"""

REOPEN_GUESTS = """
UPDATE commercehub.carts SET state = 'open', version = version + 1
WHERE id = $1 AND state = 'checked_out' AND customer_id IS NULL
RETURNING id
"""

READ_CUSTOMER = "SELECT customer_id FROM commercehub.carts WHERE id = $1 AND state = 'checked_out'"

REOPEN = "UPDATE commercehub.carts SET state = 'open', version = version + 1 WHERE id = $1 AND state = 'checked_out'"


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """The cart that a customer has by now. ``is_news``: this claim made it so; ``merged``: it is another one.

    ``capped``: lines that hold fewer than both carts together had, since no line holds more.
    """

    cart_id: UUID
    version: int
    is_news: bool
    merged: bool
    capped: tuple[UUID, ...] = ()


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A cart that goes on at another place from now on, and whose it is."""

    version: int
    customer_id: UUID | None


class _Merged(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a cart that took another one in."""

    version: int
    capped: tuple[UUID, ...]
    lines: int
    gift_cards: int
    promotions: int


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    state: str
    customer_id: UUID | None
    token_hash: bytes | None
    location_id: UUID | None
    merged_into: UUID | None
    version: int


async def lock_customer(db: Connection, *, customer_id: UUID) -> None:
    """Nobody else makes a cart the customer's open one until this transaction ends. ``CustomerNotFound``."""
    if await db.fetchval(LOCK_CUSTOMER, customer_id) is None:
        raise CustomerNotFound


async def find_open_cart(db: Connection, *, customer_id: UUID) -> UUID | None:
    """The customer's open cart."""
    cart_id: UUID | None = await db.fetchval(FIND_OPEN, customer_id)
    return cart_id


async def lock_open_cart(db: Connection, *, customer_id: UUID) -> UUID | None:
    """The customer's open cart, which stays open until this transaction ends. ``CustomerNotFound``."""
    await lock_customer(db, customer_id=customer_id)
    cart_id: UUID | None = await db.fetchval(LOCK_OPEN, customer_id)
    return cart_id


async def claim_cart(db: Connection, *, cart_id: UUID, customer_id: UUID, right: Owner, now: datetime) -> Claimed:
    """Make a cart the customer's, merged into the one they have open if there is one. No token opens it any more.

    Again: nothing happens but that. ``right`` is what opens a guest's cart for the caller. ``CartNotFound`` if it does
    not, or if the cart is somebody else's; ``CartClosed`` if it made an order; ``CustomerNotFound``; ``TooManyLines``,
    ``TooManyGiftCards`` or ``TooManyPromotions`` if one cart does not take what is in both: the caller rolls back.
    """
    await lock_customer(db, customer_id=customer_id)
    open_id = await find_open_cart(db, customer_id=customer_id)
    found = await _lock(db, [cart_id] if open_id is None else [cart_id, open_id])
    cart = found.get(cart_id)
    if cart is None or (cart.customer_id is None and not _opens(right, cart)):
        raise CartNotFound
    if cart.customer_id == customer_id:
        end_id, version = await _follow(db, cart)
        version = await db.fetchval(REVOKE, end_id) or version
        return Claimed(cart_id=end_id, version=version, is_news=False, merged=end_id != cart_id)
    if cart.customer_id is not None:
        raise CartNotFound
    if cart.state != "open":
        raise await find_order_of(db, cart_id=cart_id, owner=Owner())
    current = found.get(open_id) if open_id is not None else None
    # The one that was open may have been checked out while we waited for it.
    if current is None or current.state != "open":
        version = await db.fetchval(GIVE_TO_CUSTOMER, cart_id, customer_id, now)
        return Claimed(cart_id=cart_id, version=version, is_news=True, merged=False)
    both = await _merge(db, gone_id=cart_id, kept_id=current.id, customer_id=customer_id)
    _check_limits(both)
    return Claimed(cart_id=current.id, version=both.version, is_news=True, merged=True, capped=both.capped)


async def take_to(
    db: Connection, *, cart_id: UUID, location_id: UUID, delivery_id: UUID, now: datetime
) -> Taken | None:
    """The cart goes on at a till: the location opens it, and what had no way to the customer is carried out there.

    ``None`` if it is there already.
    """
    row = await db.fetchrow(TAKE_TO, cart_id, location_id, delivery_id, now)
    return Taken(version=row["version"], customer_id=row["customer_id"]) if row else None


async def reopen_cart(db: Connection, *, cart_id: UUID) -> None:
    """Give a cart back after a failed attempt to pay it, with all of what the customer began meanwhile.

    Nobody is there to hear that it is too much: nothing is lost, and the cart says so and is not checked out like that.
    """
    if await db.fetchval(REOPEN_GUESTS, cart_id) is not None:
        return
    customer_id = await db.fetchval(READ_CUSTOMER, cart_id)
    if customer_id is None:
        return
    await lock_customer(db, customer_id=customer_id)
    open_id = await find_open_cart(db, customer_id=customer_id)
    if open_id is not None:
        found = await _lock(db, [cart_id, open_id])
        if found[open_id].state == "open":
            await _merge(db, gone_id=open_id, kept_id=cart_id, customer_id=customer_id)
    await db.execute(REOPEN, cart_id)


def _opens(right: Owner, cart: _Found) -> bool:
    by_token = right.token_hash is None or right.token_hash == cart.token_hash
    return by_token and right.location_id in {None, cart.location_id}


async def _lock(db: Connection, cart_ids: Sequence[UUID]) -> dict[UUID, _Found]:
    return {row["id"]: msgspec.convert(dict(row), _Found) for row in await db.fetch(LOCK, sorted(cart_ids))}


async def _follow(db: Connection, cart: _Found) -> tuple[UUID, int]:
    cart_id, merged_into, version = cart.id, cart.merged_into, cart.version
    for _ in range(MERGES_MAX):
        if merged_into is None:
            break
        row = await db.fetchrow(FOLLOW, merged_into)
        if row is None:
            break  # no cart is ever deleted
        cart_id, merged_into, version = row["id"], row["merged_into"], row["version"]
    return cart_id, version


async def _merge(db: Connection, *, gone_id: UUID, kept_id: UUID, customer_id: UUID) -> _Merged:
    row = await db.fetchrow(MOVE_CONTENT, gone_id, kept_id, QUANTITY_MAX, customer_id)
    if row is None:
        raise AssertionError(gone_id)
    return msgspec.convert(dict(row), _Merged)


def _check_limits(both: _Merged) -> None:
    if both.lines > LINES_MAX:
        raise TooManyLines
    if both.gift_cards > GIFT_CARDS_MAX:
        raise TooManyGiftCards
    if both.promotions > PROMOTIONS_MAX:
        raise TooManyPromotions
