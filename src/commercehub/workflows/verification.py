"""Proof of the whole house: each room by itself, then every order, return, key and event over all rooms.

It reads one snapshot, so that a busy hub gives no false alarm, and changes nothing. The invariants are named as in the
list that the house was designed by: M is money, S stock, O orders, R returns, I keys, E events, W carts.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from asyncpg import Connection

import fulfillment
import inventory
import payments
from commercehub import ids
from commercehub.sales import verification as sales_books
from commercehub.sales.verification import Back
from commercehub.workflows.order_books import FIRST, LAST, STRETCH, read_stretch
from commercehub.workflows.order_checks import Finding, check_order
from inventory import verification as stock_books
from inventory.verification import Moved
from payments import verification as money_books
from payments.verification import GivenBack

__all__ = ["FINDINGS_MAX", "Finding", "Say", "verify"]

Say = Callable[[str], None]

FINDINGS_MAX: Final = 1_000
"""Of each invariant: where more is wrong than that, it is not the ids that help."""
TOLD_EVERY: Final = 20 * STRETCH

# A sequence is an order's version: what is kept of an order has no gap, and its last event is the newest version.
GAPS = """
SELECT 'event ' || aggregate_id AS subject, high - low + 1 AS expected, count AS found
FROM (
    SELECT aggregate_id, count(*) AS count, min(sequence) AS low, max(sequence) AS high, sum(sequence::int) AS total
    FROM commercehub.events
    WHERE order_id IS NOT NULL
    GROUP BY aggregate_id
) AS told
WHERE count <> high - low + 1 OR 2 * total <> (low + high) * count
ORDER BY aggregate_id
LIMIT $1
"""

# What changed since the oldest event that is kept was told of; in whose first days partitions may be going.
UNTOLD = """
SELECT placed.id AS order_id, placed.version AS expected, coalesce(told.high, 0) AS found
FROM commercehub.orders AS placed
FULL JOIN (
    SELECT aggregate_id, max(sequence) AS high FROM commercehub.events WHERE order_id IS NOT NULL GROUP BY aggregate_id
) AS told ON told.aggregate_id = placed.id
WHERE placed.version IS DISTINCT FROM told.high
  AND (told.high IS NOT NULL OR placed.changed_at >= greatest(
      (SELECT min(occurred_at) FROM commercehub.events), now() - interval '29 days'))
ORDER BY placed.id
LIMIT $1
"""

ANSWERS = """
SELECT placed.id AS order_id, known.status AS expected, placed.state AS found
FROM commercehub.idempotency_keys AS known
JOIN commercehub.orders AS placed ON placed.id = known.subject_id
WHERE known.status IS NOT NULL
  AND (known.status = 402) <> (placed.state = 'failed')
ORDER BY placed.id
LIMIT $1
"""

KEYS_UNDER_WAY = "SELECT DISTINCT subject_id FROM commercehub.idempotency_keys WHERE status IS NULL"

UNPAID_ORDERS = "SELECT id FROM commercehub.orders WHERE state IN ('awaiting_payment', 'payment_unknown')"

MESSAGES = """
SELECT order_id::text || ' ' || kind || ' ' || subject_id AS subject, 1::bigint AS expected, count(*) AS found
FROM commercehub.messages
GROUP BY order_id, kind, subject_id
HAVING count(*) > 1
ORDER BY 1
LIMIT $1
"""

STRAY_MESSAGES = """
SELECT told.order_id::text || ' ' || told.kind AS subject, 1::bigint AS expected, 0::bigint AS found
FROM commercehub.messages AS told
LEFT JOIN commercehub.orders AS placed ON placed.id = told.order_id
WHERE placed.id IS NULL
ORDER BY 1
LIMIT $1
"""


class _Found(Protocol):
    """A finding of a room's own."""

    @property
    def invariant(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def expected(self) -> int: ...
    @property
    def found(self) -> int: ...


async def verify(db: Connection, *, say: Say = lambda _: None) -> list[Finding]:
    """Everything that does not agree, ``FINDINGS_MAX`` of each invariant at most; empty is good.

    ``db`` is in a transaction of its own, ``database.snapshot``; ``say`` hears how far it has got.
    """
    findings: list[Finding] = []
    for what, look in (
        ("stock", inventory.verify),
        ("money", payments.verify),
        ("fulfillment", fulfillment.verify),
        ("carts and returns", sales_books.verify),
    ):
        say(f"looking into {what}")
        findings += _own(await look(db))
    say("looking into events, keys and messages")
    findings += await _look_into_events(db)
    findings += await _look_into_keys(db)
    findings += await _look_into_returns(db)
    findings += await _look_into_orders(db, say=say)
    return _at_most(findings)


async def _look_into_events(db: Connection) -> list[Finding]:
    found = []
    for invariant, statement in (
        ("E1 an order's events have no gap", GAPS),
        ("E2 a customer is told once about each thing", MESSAGES),
        ("E2 a message is about an order", STRAY_MESSAGES),
    ):
        found += _read(invariant, await db.fetch(statement, FINDINGS_MAX))
    for row in await db.fetch(UNTOLD, FINDINGS_MAX):
        found.append(
            Finding(
                invariant="E1 an order's last event is of its version",
                subject=ids.show("ord", row["order_id"]) if row["order_id"] else "no order",
                expected=row["expected"] or 0,
                found=row["found"],
            )
        )
    return found


async def _look_into_keys(db: Connection) -> list[Finding]:
    """A key without an answer is of something under way, and what is under way has its key."""
    keys = {row["subject_id"] for row in await db.fetch(KEYS_UNDER_WAY)}
    unpaid = {row["id"] for row in await db.fetch(UNPAID_ORDERS)}
    waiting = await money_books.read_waiting(db)
    under_way = unpaid | {intent_id for intent_id, reference in waiting.items() if reference not in unpaid}
    found = [
        Finding(invariant="I1 a key under way is of something under way", subject=str(subject), expected=0, found=1)
        for subject in sorted(keys - under_way)
    ]
    found += [
        Finding(invariant="I1 what is under way has its key", subject=str(subject), expected=1, found=0)
        for subject in sorted(under_way - keys)
    ]
    found += [
        Finding(
            invariant="I2 an answer that was given still holds",
            subject=ids.show("ord", row["order_id"]),
            expected=row["expected"],
            found=row["found"],
        )
        for row in await db.fetch(ANSWERS, FINDINGS_MAX)
    ]
    return found


async def _look_into_returns(db: Connection) -> list[Finding]:
    found: list[Finding] = []
    after = FIRST
    while after != LAST:
        batch = await sales_books.read_returns_after(db, after=after, limit=STRETCH)
        until = batch[-1].id if len(batch) == STRETCH else LAST
        refunds = await money_books.read_given_back_for(db, after=after, until=until)
        moved = await stock_books.read_moved(db, after=ids.show("ret", after), until=ids.show("ret", until))
        known = {back.id for back in batch}
        for back in batch:
            found += _check_return(back, refunds.get(back.id, []), moved.get(ids.show("ret", back.id), []))
        strangers = [ids.show("ret", cause) for cause in refunds if cause not in known]
        strangers += [label for label in moved if label.startswith("ret_") and ids.parse("ret", label) not in known]
        found += _strangers("R3 what comes back has its return", strangers)
        after = until
    return found


def _check_return(back: Back, refunds: Sequence[GivenBack], moved: Iterable[Moved]) -> Iterator[Finding]:
    """Its goods lie where it says, and what it gave back is what was written for it."""
    wanted: Counter[tuple[str, UUID | None, str]] = Counter()
    for line in back.lines:
        for bucket, units in (("on_hand", line.on_hand), ("damaged", line.damaged), ("quarantine", line.quarantine)):
            wanted[line.sku, back.location_id, bucket] += units
    lies: Counter[tuple[str, UUID | None, str]] = Counter()
    for move in moved:
        lies[move.sku, move.location_id, move.bucket] += move.delta
    for key in wanted.keys() | lies.keys():
        if wanted[key] != lies[key]:
            yield Finding(
                invariant="R1 what came back lies where it was received",
                subject=f"{ids.show('ret', back.id)} {key[0]} at {key[1]}, {key[2]}",
                expected=wanted[key],
                found=lies[key],
            )
    amount = back.amount_minor or 0
    given = sum(refund.amount_minor for refund in refunds if not refund.is_refused)
    tried = sum(refund.amount_minor for refund in refunds)
    # What a processor refused is for a person to try again: until then less was given than was to be.
    if not given <= amount <= tried:
        yield Finding(
            invariant="R3 a return gave back what its refunds say",
            subject=ids.show("ret", back.id),
            expected=amount,
            found=given,
        )
    for refund in refunds:
        if refund.reference != back.order_id:
            yield Finding(
                invariant="R2 a return's money goes back to its own order",
                subject=f"{ids.show('ret', back.id)} refund {refund.id}",
                expected=ids.show("ord", back.order_id),
                found=ids.show("ord", refund.reference),
            )


async def _look_into_orders(db: Connection, *, say: Say) -> list[Finding]:
    found: list[Finding] = []
    count, looked_at, after = await sales_books.count_orders(db), 0, FIRST
    while after != LAST:
        if looked_at % TOLD_EVERY == 0:
            say(f"looking into orders: {looked_at:,} of {count:,}")
        stretch = await read_stretch(db, after=after)
        for books in stretch.books:
            found += check_order(books)
        for invariant, strangers in stretch.strangers.items():
            found += _strangers(invariant, strangers)
        looked_at += len(stretch.books)
        after = stretch.until
        if len(found) > 2 * FINDINGS_MAX * 20:
            found = _at_most(found)
    return found


def _strangers(invariant: str, subjects: Iterable[str]) -> list[Finding]:
    return [Finding(invariant=invariant, subject=subject, expected=0, found=1) for subject in subjects]


def _read(invariant: str, rows: Iterable[Any]) -> list[Finding]:
    return [
        Finding(invariant=invariant, subject=row["subject"], expected=row["expected"], found=row["found"])
        for row in rows
    ]


def _own(found: Iterable[_Found]) -> list[Finding]:
    return [
        Finding(invariant=each.invariant, subject=each.subject, expected=each.expected, found=each.found)
        for each in found
    ]


def _at_most(findings: Iterable[Finding]) -> list[Finding]:
    counts: Counter[str] = Counter()
    kept = []
    for finding in findings:
        counts[finding.invariant] += 1
        if counts[finding.invariant] <= FINDINGS_MAX:
            kept.append(finding)
    return kept
