"""Codes with which somebody who reads a customer's mail sets a password: one use, half an hour, the last one counts.

They are for who forgot it, and for who never had one since a store or a call centre took them in. A code is derived
from the hub's secret and its end, so that the message can be written when it is read; only a hash is stored.
"""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

OPENS_FOR: Final = timedelta(minutes=30)
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: nothing in it is taken for something else when it is read out."""
CODE_CHARACTERS: Final = 8
_MISREAD: Final = str.maketrans("OIL", "011", " -")


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """A code that was sent to a customer."""

    customer_id: UUID
    email: str
    locale: str
    asked_at: datetime
    ends_at: datetime


OFFER = """
INSERT INTO commercehub.password_resets (customer_id, code_hash, asked_at, ends_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (customer_id) DO UPDATE SET code_hash = $2, asked_at = $3, ends_at = $4
"""

USE = """
DELETE FROM commercehub.password_resets WHERE customer_id = $1 AND code_hash = $2 AND ends_at > $3
RETURNING customer_id
"""

LIST = """
SELECT reset.customer_id, customer.email, customer.locale, reset.asked_at, reset.ends_at
FROM commercehub.password_resets AS reset
JOIN commercehub.customers AS customer ON customer.id = reset.customer_id
WHERE customer.email IS NOT NULL
ORDER BY reset.asked_at DESC
LIMIT $1
"""


def reset_code(secret: str, customer_id: UUID, ends_at: datetime) -> str:
    """What sets a password, as ``7KQ4-M2XD``."""
    content = b"password reset:" + customer_id.bytes + ends_at.isoformat().encode()
    number = int.from_bytes(hmac.digest(secret.encode(), content, "sha256")[:8])
    code = "".join(ALPHABET[number >> (5 * position) & 31] for position in range(CODE_CHARACTERS))
    return f"{code[:4]}-{code[4:]}"


def hash_of_code(secret: str, customer_id: UUID, code: str) -> bytes:
    """What is kept of a code, however it was written down; of no use to whoever has the table alone."""
    written = code.upper().translate(_MISREAD)
    return hmac.digest(secret.encode(), b"password code:" + customer_id.bytes + written.encode(), "sha256")


async def offer_reset(db: Connection, *, customer_id: UUID, secret: str, now: datetime) -> None:
    """From now on for ``OPENS_FOR`` a code sets the customer's password; an earlier one does no more."""
    ends_at = now + OPENS_FOR
    code = reset_code(secret, customer_id, ends_at)
    await db.execute(OFFER, customer_id, hash_of_code(secret, customer_id, code), now, ends_at)


async def use_reset(db: Connection, *, customer_id: UUID, code: str, secret: str, now: datetime) -> bool:
    """Use a code up; false if it is wrong, used or old."""
    return await db.fetchval(USE, customer_id, hash_of_code(secret, customer_id, code), now) is not None


async def list_resets(db: Connection, *, limit: int) -> Sequence[Reset]:
    """The newest codes that were sent and not used."""
    return [msgspec.convert(dict(row), Reset) for row in await db.fetch(LIST, limit)]
