"""Codes that open a cart in another channel: one cart, one use, a quarter of an hour. Only a hash is stored."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Connection

from commercehub.database import Raced
from commercehub.sales.errors import CartNotFound

OPENS_FOR: Final = timedelta(minutes=15)
KEPT_FOR: Final = timedelta(days=7)
PURGE_BATCH: Final = 1_000

# Two carts may come to the same code, months apart: what opens nothing any more makes room.
OFFER = """
INSERT INTO commercehub.handoffs AS known (code_hash, cart_id, ends_at) VALUES ($1, $2, $3)
ON CONFLICT (code_hash) DO UPDATE SET cart_id = $2, ends_at = $3, used_at = NULL
WHERE known.ends_at <= $4 OR (known.cart_id = $2 AND known.used_at IS NULL)
RETURNING cart_id
"""

FIND = """
SELECT handoff.cart_id FROM commercehub.handoffs AS handoff
JOIN commercehub.carts AS cart ON cart.id = handoff.cart_id AND cart.state = 'open'
WHERE handoff.code_hash = $1 AND handoff.used_at IS NULL AND handoff.ends_at > $2
"""

USE = """
UPDATE commercehub.handoffs SET used_at = $2
WHERE code_hash = $1 AND used_at IS NULL AND ends_at > $2
RETURNING cart_id
"""

# A guest's token stays good where there is one; where there is none the cart gets its next one. That of a customer's
# cart is kept under the hash of its hash, by which no order is found: see ``carts.READ``.
LET_IN = """
UPDATE commercehub.carts SET token_hash = CASE WHEN customer_id IS NULL THEN $2::bytea ELSE sha256($2::bytea) END
WHERE id = $1 AND state = 'open' AND token_hash IS NULL
"""

END = "DELETE FROM commercehub.handoffs WHERE cart_id = $1"

PURGE = """
DELETE FROM commercehub.handoffs
WHERE code_hash IN (SELECT code_hash FROM commercehub.handoffs WHERE ends_at < $1 ORDER BY ends_at LIMIT $2)
"""


async def offer_handoff(db: Connection, *, code_hash: bytes, cart_id: UUID, ends_at: datetime, now: datetime) -> None:
    """From now until ``ends_at`` a code opens the cart, once. ``Raced`` if it opens another one right now."""
    if await db.fetchval(OFFER, code_hash, cart_id, ends_at, now) is None:
        raise Raced


async def find_handoff(db: Connection, *, code_hash: bytes, now: datetime) -> UUID:
    """The open cart that a code opens, or raise ``CartNotFound`` if it opens none: wrong, used or too old."""
    cart_id: UUID | None = await db.fetchval(FIND, code_hash, now)
    if cart_id is None:
        raise CartNotFound
    return cart_id


async def use_handoff(db: Connection, *, code_hash: bytes, now: datetime) -> None:
    """The code opens nothing any more, or raise ``CartNotFound`` if somebody else was faster. The cart is locked."""
    if await db.fetchval(USE, code_hash, now) is None:
        raise CartNotFound


async def let_in(db: Connection, *, cart_id: UUID, token_hash: bytes) -> None:
    """A token opens the cart; one that does so already stays. Of a customer's cart it opens no order."""
    await db.execute(LET_IN, cart_id, token_hash)


async def end_handoffs(db: Connection, *, cart_id: UUID) -> None:
    """No code that was given out opens the cart any more."""
    await db.execute(END, cart_id)


async def purge_handoffs(db: Connection, *, now: datetime) -> int:
    """Forget the codes that ended more than ``KEPT_FOR`` ago, a batch at a time; returns how many went."""
    tag = await db.execute(PURGE, now - KEPT_FOR, PURGE_BATCH)
    return int(tag.rpartition(" ")[2])
