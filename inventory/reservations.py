"""Promises of stock: reserve, post, void, expire. The claim is the check, and it is one conditional UPDATE.

Every function here locks the positions it touches first, lowest (SKU, location) first, so that two baskets
that share two products queue and do not deadlock.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from inventory.errors import ClaimRaced, ReservationSettled
from inventory.positions import Change, Key, read_change


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One line's need at one location. ``take``: the goods leave now (a till), else they are reserved.

    What is in the hand is not bound by safety stock; what others were promised binds everybody.
    """

    line_id: UUID
    sku: str
    location_id: UUID
    quantity: int
    take: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """All that one reference needs: granted as a whole or not at all."""

    reference: UUID
    label: str
    wants: tuple[Want, ...]
    actor: str
    channel: str
    occurred_at: datetime
    expires_at: datetime | None = None


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """What was missing: ``available`` is what the claim could have had."""

    sku: str
    location_id: UUID
    requested: int
    available: int


class Claimed(msgspec.Struct, frozen=True):
    """One entry per claim, in order: ``()`` if granted, else what was short. And the positions that changed."""

    shortages: list[tuple[Shortage, ...]]
    changes: list[Change]


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """An open reservation."""

    line_id: UUID
    sku: str
    location_id: UUID
    quantity: int


# Whoever waits here sees the position as it is when the lock comes, and the holds as they were before: CLAIM
# answers what it folded back, and the two are compared.
LOCK = """
SELECT position.sku, position.location_id,
       position.on_hand - position.reserved + position.backorder_limit + position.shortfall AS unpromised,
       coalesce((
           SELECT sum(quantity)::bigint FROM inventory.reservations AS hold
           WHERE hold.sku = position.sku AND hold.location_id = position.location_id
             AND hold.state = 'open' AND hold.expires_at <= $3
       ), 0) AS expired,
       position.safety_stock + position.shortfall AS kept_back
FROM inventory.positions AS position
JOIN unnest($1::text[], $2::uuid[]) AS wanted (sku, location_id) USING (sku, location_id)
ORDER BY position.sku, position.location_id
FOR UPDATE OF position
"""

# $1-$4 one row per position, $5-$9 one row per reservation, $10-$17 one row per movement.
CLAIM = """
WITH claimed AS (
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[]) AS key (sku, location_id, reserve, take)
),
expired AS (
    UPDATE inventory.reservations AS hold
    SET state = 'expired', ended_at = $18
    FROM claimed
    WHERE hold.sku = claimed.sku AND hold.location_id = claimed.location_id
      AND hold.state = 'open' AND hold.expires_at <= $18
    RETURNING hold.sku, hold.location_id, hold.quantity
),
folded AS (
    SELECT claimed.*, coalesce((
        SELECT sum(quantity)::bigint FROM expired
        WHERE expired.sku = claimed.sku AND expired.location_id = claimed.location_id
    ), 0) AS freed
    FROM claimed
),
moved AS (
    UPDATE inventory.positions AS position
    SET reserved = position.reserved - folded.freed + folded.reserve,
        on_hand = position.on_hand - folded.take,
        version = position.version + 1
    FROM folded
    WHERE position.sku = folded.sku AND position.location_id = folded.location_id
      AND position.on_hand - position.reserved + folded.freed + position.backorder_limit + position.shortfall
          >= folded.reserve + folded.take
      AND (folded.reserve = 0
           OR position.on_hand - position.reserved + folded.freed + position.backorder_limit
              >= folded.reserve + position.safety_stock)
    RETURNING position.sku, position.location_id, position.on_hand, position.reserved, position.safety_stock,
              position.backorder_limit, position.version, folded.freed
),
held AS (
    INSERT INTO inventory.reservations
        (reference, line_id, sku, location_id, quantity, state, created_at, expires_at)
    SELECT reference, line_id, sku, location_id, quantity, 'open', $18, expires_at
    FROM unnest($5::uuid[], $6::uuid[], $7::text[], $8::uuid[], $9::bigint[], $19::timestamptz[])
        AS hold (reference, line_id, sku, location_id, quantity, expires_at)
),
told AS (
    INSERT INTO inventory.movements
        (sku, location_id, bucket, delta, balance, kind, reference, actor, channel, occurred_at, recorded_at)
    SELECT sku, location_id, 'on_hand', -quantity,
           moved.on_hand + sum(quantity) OVER (PARTITION BY sku, location_id)
                         - sum(quantity) OVER (PARTITION BY sku, location_id ORDER BY position),
           'sale', reference, actor, channel, occurred_at, $18
    FROM unnest($10::text[], $11::uuid[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::timestamptz[],
                $17::int[])
        AS sale (sku, location_id, quantity, reference, actor, channel, occurred_at, position)
    JOIN moved USING (sku, location_id)
    ORDER BY position
)
SELECT * FROM moved ORDER BY sku, location_id
"""

# For those who hold the lock on the positions.
FOLD = """
WITH expired AS (
    UPDATE inventory.reservations AS hold
    SET state = 'expired', ended_at = $3
    FROM unnest($1::text[], $2::uuid[]) AS key (sku, location_id)
    WHERE hold.sku = key.sku AND hold.location_id = key.location_id
      AND hold.state = 'open' AND hold.expires_at <= $3
    RETURNING hold.sku, hold.location_id, hold.quantity
)
UPDATE inventory.positions AS position
SET reserved = position.reserved - freed.quantity, version = position.version + 1
FROM (SELECT sku, location_id, sum(quantity)::bigint AS quantity FROM expired GROUP BY sku, location_id) AS freed
WHERE position.sku = freed.sku AND position.location_id = freed.location_id
"""

LOCK_HELD = """
SELECT position.sku, position.location_id
FROM inventory.positions AS position
WHERE (position.sku, position.location_id) IN (
    SELECT hold.sku, hold.location_id
    FROM inventory.reservations AS hold
    JOIN unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) AS ending (reference, line_id, sku, location_id)
        USING (reference, line_id, sku, location_id)
)
ORDER BY position.sku, position.location_id
FOR UPDATE
"""

END = """
WITH ended AS (
    UPDATE inventory.reservations AS hold
    SET state = $6, ended_at = $7
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::bigint[])
        AS ending (reference, line_id, sku, location_id, quantity)
    WHERE hold.reference = ending.reference AND hold.line_id = ending.line_id AND hold.sku = ending.sku
      AND hold.location_id = ending.location_id AND hold.quantity = ending.quantity AND hold.state = 'open'
    RETURNING hold.id, hold.sku, hold.location_id, hold.quantity
),
summed AS (
    SELECT sku, location_id, sum(quantity)::bigint AS quantity FROM ended GROUP BY sku, location_id
),
moved AS (
    UPDATE inventory.positions AS position
    SET reserved = position.reserved - summed.quantity,
        on_hand = position.on_hand - CASE WHEN $6 = 'posted' THEN summed.quantity ELSE 0 END,
        version = position.version + 1
    FROM summed
    WHERE position.sku = summed.sku AND position.location_id = summed.location_id
    RETURNING position.sku, position.location_id, position.on_hand, position.reserved, position.safety_stock,
              position.backorder_limit, position.version
),
told AS (
    INSERT INTO inventory.movements
        (sku, location_id, bucket, delta, balance, kind, reference, actor, channel, occurred_at, recorded_at)
    SELECT sku, location_id, 'on_hand', -quantity,
           moved.on_hand + sum(quantity) OVER (PARTITION BY sku, location_id)
                         - sum(quantity) OVER (PARTITION BY sku, location_id ORDER BY ended.id),
           'sale', $8, $9, $10, $7, $7
    FROM ended JOIN moved USING (sku, location_id)
    WHERE $6 = 'posted'
    ORDER BY ended.id
)
SELECT moved.*, (SELECT count(*) FROM ended) AS ended FROM moved ORDER BY sku, location_id
"""

# For those who hold the lock on the positions.
SHRINK = """
WITH shrunk AS (
    UPDATE inventory.reservations AS hold
    SET quantity = hold.quantity - given.quantity, picked = least(hold.picked, hold.quantity - given.quantity)
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::bigint[])
        AS given (reference, line_id, sku, location_id, quantity)
    WHERE hold.reference = given.reference AND hold.line_id = given.line_id AND hold.sku = given.sku
      AND hold.location_id = given.location_id AND hold.quantity > given.quantity AND hold.state = 'open'
    RETURNING hold.sku, hold.location_id, given.quantity
),
summed AS (
    SELECT sku, location_id, sum(quantity)::bigint AS quantity FROM shrunk GROUP BY sku, location_id
),
moved AS (
    UPDATE inventory.positions AS position
    SET reserved = position.reserved - summed.quantity, version = position.version + 1
    FROM summed
    WHERE position.sku = summed.sku AND position.location_id = summed.location_id
    RETURNING position.sku, position.location_id, position.on_hand, position.reserved, position.safety_stock,
              position.backorder_limit, position.version
)
SELECT moved.*, (SELECT count(*) FROM shrunk) AS shrunk FROM moved ORDER BY sku, location_id
"""

READ_OPEN = """
SELECT line_id, sku, location_id, quantity
FROM inventory.reservations
WHERE reference = $1 AND state = 'open'
ORDER BY id
"""

PICKED = """
UPDATE inventory.reservations SET picked = quantity
WHERE reference = $1 AND location_id = $2 AND line_id = ANY ($3::uuid[]) AND state = 'open'
"""

VOIDED: Final = "voided"
POSTED: Final = "posted"


async def claim_stock(db: Connection, claims: Sequence[Claim], *, now: datetime) -> Claimed:
    """Grant the claims that fit, in order of arrival, each whole or not at all.

    Afterwards the granted units are reserved (or gone, where taken), with a movement for each unit gone.
    ``ClaimRaced`` if an expired hold was ended by somebody else in between.
    """
    keys = sorted({(want.sku, want.location_id) for claim in claims for want in claim.wants})
    if not keys:
        return Claimed([() for _ in claims], [])
    rows = await db.fetch(LOCK, [sku for sku, _ in keys], [location for _, location in keys], now)
    expired = {(row["sku"], row["location_id"]): row["expired"] for row in rows}
    left = {(row["sku"], row["location_id"]): (row["unpromised"] + row["expired"], row["kept_back"]) for row in rows}
    shortages = [_decide(claim, left) for claim in claims]
    granted = [claim for claim, short in zip(claims, shortages, strict=True) if not short]
    changes = await _write_claims(db, granted, expired, now=now) if granted else []
    return Claimed(shortages, changes)


async def fold_expired(db: Connection, *, keys: Sequence[Key], now: datetime) -> None:
    """Give back what expired holds of these positions keep; the caller has locked them."""
    await db.execute(FOLD, [sku for sku, _ in keys], [location_id for _, location_id in keys], now)


def _decide(claim: Claim, left: dict[Key, tuple[int, int]]) -> tuple[Shortage, ...]:
    """Take the claim out of what is left, or say what is short and leave everything as it is."""
    after: dict[Key, tuple[int, int]] = {}
    short = []
    for want in claim.wants:
        key = (want.sku, want.location_id)
        unpromised, kept_back = after.get(key) or left.get(key, (0, 0))
        free = unpromised if want.take else unpromised - kept_back
        if free < want.quantity:
            short.append(
                Shortage(sku=want.sku, location_id=want.location_id, requested=want.quantity, available=max(0, free))
            )
        after[key] = (unpromised - want.quantity, kept_back)
    if not short:
        left.update(after)
    return tuple(short)


async def _write_claims(
    db: Connection, claims: Sequence[Claim], expired: Mapping[Key, int], *, now: datetime
) -> list[Change]:
    reserve: dict[Key, int] = defaultdict(int)
    take: dict[Key, int] = defaultdict(int)
    held: list[tuple[Claim, Want]] = []
    taken: list[tuple[Claim, Want]] = []
    for claim in claims:
        for want in claim.wants:
            (take if want.take else reserve)[want.sku, want.location_id] += want.quantity
            (taken if want.take else held).append((claim, want))
    keys = sorted(reserve.keys() | take.keys())
    rows = await db.fetch(
        CLAIM,
        [sku for sku, _ in keys],
        [location_id for _, location_id in keys],
        [reserve.get(key, 0) for key in keys],
        [take.get(key, 0) for key in keys],
        [claim.reference for claim, _ in held],
        [want.line_id for _, want in held],
        [want.sku for _, want in held],
        [want.location_id for _, want in held],
        [want.quantity for _, want in held],
        [want.sku for _, want in taken],
        [want.location_id for _, want in taken],
        [want.quantity for _, want in taken],
        [claim.label for claim, _ in taken],
        [claim.actor for claim, _ in taken],
        [claim.channel for claim, _ in taken],
        [claim.occurred_at for claim, _ in taken],
        list(range(len(taken))),
        now,
        [claim.expires_at for claim, _ in held],
    )
    if len(rows) != len(keys) or any(row["freed"] != expired[row["sku"], row["location_id"]] for row in rows):
        raise ClaimRaced
    return [read_change(row) for row in rows]


async def post(
    db: Connection, holds: Iterable[tuple[UUID, Hold]], *, label: str, actor: str, channel: str, now: datetime
) -> list[Change]:
    """The reserved goods have left: ``on_hand`` and ``reserved`` fall together, a movement for each hold.

    ``ReservationSettled`` if one of the (reference, hold) pairs was not open any more.
    """
    return await _end(db, holds, POSTED, label=label, actor=actor, channel=channel, now=now)


async def void(db: Connection, holds: Iterable[tuple[UUID, Hold]], *, now: datetime) -> list[Change]:
    """Let go of what was promised: ``reserved`` falls. ``ReservationSettled`` as for ``post``."""
    return await _end(db, holds, VOIDED, label="", actor="", channel="", now=now)


async def void_units(db: Connection, units: Iterable[tuple[UUID, Hold]]) -> list[Change]:
    """Let go of some units of holds: each ``Hold`` says how many, fewer than are held; ``void`` is for all of them.

    ``ReservationSettled`` if one of them was not open any more, or held no more than that.
    """
    given = list(units)
    if not given:
        return []
    holds_of = (
        [reference for reference, _ in given],
        [hold.line_id for _, hold in given],
        [hold.sku for _, hold in given],
        [hold.location_id for _, hold in given],
    )
    await db.fetch(LOCK_HELD, *holds_of)
    rows = await db.fetch(SHRINK, *holds_of, [hold.quantity for _, hold in given])
    if not rows or rows[0]["shrunk"] != len(given):
        raise ReservationSettled(given[0][0])
    return [read_change(row) for row in rows]


async def _end(
    db: Connection,
    holds: Iterable[tuple[UUID, Hold]],
    state: str,
    *,
    label: str,
    actor: str,
    channel: str,
    now: datetime,
) -> list[Change]:
    ending = list(holds)
    if not ending:
        return []
    holds_of = (
        [reference for reference, _ in ending],
        [hold.line_id for _, hold in ending],
        [hold.sku for _, hold in ending],
        [hold.location_id for _, hold in ending],
    )
    await db.fetch(LOCK_HELD, *holds_of)
    quantities = [hold.quantity for _, hold in ending]
    rows = await db.fetch(END, *holds_of, quantities, state, now, label, actor, channel)
    if not rows or rows[0]["ended"] != len(ending):
        raise ReservationSettled(ending[0][0])
    return [read_change(row) for row in rows]


async def read_holds(db: Connection, *, reference: UUID) -> list[Hold]:
    """The open reservations of a reference."""
    rows = await db.fetch(READ_OPEN, reference)
    return [
        Hold(line_id=r["line_id"], sku=r["sku"], location_id=r["location_id"], quantity=r["quantity"]) for r in rows
    ]


async def note_picked(db: Connection, *, reference: UUID, location_id: UUID, line_ids: Sequence[UUID]) -> None:
    """The goods are off the shelf and not yet gone: a count of the shelf is compared without them."""
    await db.execute(PICKED, reference, location_id, list(line_ids))
