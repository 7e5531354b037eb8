"""Goods kept for a customer who comes for them: a code that opens them, and a day until which they are kept."""

import hmac
from datetime import UTC, datetime, time, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import segno
from asyncpg import Connection

from fulfillment.errors import WrongPickupCode

REMIND_BEFORE: Final = timedelta(days=2)
END_OF_DAY: Final = time(23, 59, 59)
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: nothing in it is taken for something else when it is read out."""
CODE_CHARACTERS: Final = 8
_MISREAD: Final = str.maketrans("OIL", "011", " -")

KEEP = """
UPDATE fulfillment.fulfillments SET code_hash = $2, collect_by = $3 WHERE id = $1
"""

HOLDS_CODE = "SELECT code_hash = $2 FROM fulfillment.fulfillments WHERE id = $1"

# What became ready when the moment to remind had passed was told of just now.
LIST_TO_REMIND = """
SELECT id FROM fulfillment.fulfillments
WHERE state = 'ready' AND collect_by <= $1::timestamptz + $2::interval AND collect_by >= $1::timestamptz
  AND reminded_at IS NULL AND changed_at <= collect_by - $2::interval AND ($3::uuid IS NULL OR id > $3)
ORDER BY id
LIMIT $4
"""

LIST_UNCOLLECTED = """
SELECT id FROM fulfillment.fulfillments
WHERE state = 'ready' AND collect_by < $1 AND ($2::uuid IS NULL OR id > $2)
ORDER BY id
LIMIT $3
"""

NOTE_REMINDED = """
UPDATE fulfillment.fulfillments SET reminded_at = $2
WHERE id = $1 AND state = 'ready' AND collect_by >= $2 AND reminded_at IS NULL
RETURNING id
"""


def pickup_code(secret: str, fulfillment_id: UUID) -> str:
    """What opens a pickup, as ``7KQ4-M2XD``. Derived, so that it can be shown again and need not be kept."""
    number = int.from_bytes(hmac.digest(secret.encode(), b"pickup:" + fulfillment_id.bytes, "sha256")[:8])
    code = "".join(ALPHABET[number >> (5 * position) & 31] for position in range(CODE_CHARACTERS))
    return f"{code[:4]}-{code[4:]}"


def hash_of_code(secret: str, fulfillment_id: UUID, code: str) -> bytes:
    """What is kept of a code, however it was written down; of no use to whoever has the table alone."""
    written = code.upper().translate(_MISREAD)
    return hmac.digest(secret.encode(), b"pickup code:" + fulfillment_id.bytes + written.encode(), "sha256")


def qr_of(code: str) -> str:
    """A code as a picture to be scanned: the address of an SVG that stands in the address itself."""
    return str(segno.make(code, error="m", micro=False).svg_data_uri(scale=4))


def last_moment(now: datetime, *, timezone: str, window_days: int) -> datetime:
    """The end of the last day on which a customer may come, as the clocks at the location have it."""
    day = now.astimezone(ZoneInfo(timezone)).date() + timedelta(days=window_days)
    return datetime.combine(day, END_OF_DAY, ZoneInfo(timezone)).astimezone(UTC)


async def keep_for_customer(db: Connection, *, fulfillment_id: UUID, code_hash: bytes, collect_by: datetime) -> None:
    """The goods wait for whoever has the code, until a moment. The work is locked."""
    await db.execute(KEEP, fulfillment_id, code_hash, collect_by)


async def check_code(db: Connection, *, fulfillment_id: UUID, code_hash: bytes) -> None:
    """Raise ``WrongPickupCode`` unless the code is that of this work."""
    if not await db.fetchval(HOLDS_CODE, fulfillment_id, code_hash):
        raise WrongPickupCode(fulfillment_id)


async def list_to_remind(db: Connection, *, now: datetime, after_id: UUID | None, limit: int) -> list[UUID]:
    """What is ready, has ``REMIND_BEFORE`` left at most, and whose customer was not reminded; by id."""
    return [row["id"] for row in await db.fetch(LIST_TO_REMIND, now, REMIND_BEFORE, after_id, limit)]


async def list_uncollected(db: Connection, *, now: datetime, after_id: UUID | None, limit: int) -> list[UUID]:
    """What is ready and was not collected in time; by id."""
    return [row["id"] for row in await db.fetch(LIST_UNCOLLECTED, now, after_id, limit)]


async def note_reminded(db: Connection, *, fulfillment_id: UUID, now: datetime) -> bool:
    """The customer is reminded, once; False if somebody did so, or came, meanwhile."""
    return await db.fetchval(NOTE_REMINDED, fulfillment_id, now) is not None
