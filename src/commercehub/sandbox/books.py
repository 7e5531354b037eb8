"""The books: every payment and what was done with it, in one SQLite file that outlives the process and its kill.

Each change is one transaction that holds the effect, the stored answer and the event, so a caller who lost the answer
finds either nothing done, or the very same answer under the same key. There is one writer and no waiting inside a
transaction, which is why the server may call these functions from its event loop.
"""

import random
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from commercehub.sandbox.methods import METHODS, Kind, decline_code_of

OPERATIONS_MAX: Final = 100
"""On one payment; its answers carry them all."""
BUSY_SECONDS_MAX: Final = 5.0
EVENT_ATTEMPTS_MAX: Final = 8


class Status(StrEnum):
    """Where a payment stands."""

    REQUIRES_ACTION = "requires_action"
    AUTHORIZED = "authorized"
    PARTIALLY_CAPTURED = "partially_captured"
    CAPTURED = "captured"
    VOIDED = "voided"
    DECLINED = "declined"


HELD: Final = frozenset({Status.AUTHORIZED, Status.PARTIALLY_CAPTURED})
VOIDABLE: Final = HELD | {Status.REQUIRES_ACTION}
REFUNDABLE: Final = frozenset({Status.PARTIALLY_CAPTURED, Status.CAPTURED})


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One caller's right to one effect: the account, its idempotency key, and what was asked under that key."""

    account: str
    key: str
    fingerprint: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing done with a payment, or declined."""

    id: str
    kind: Kind
    key: str
    status: str
    amount: int
    decline_code: str | None
    created_at: datetime


class Payment(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="payment"):
    """A payment and all its operations, oldest first."""

    id: str
    reference: str
    payment_method: str
    status: Status
    amount: int
    currency: str
    amount_authorized: int
    amount_captured: int
    amount_refunded: int
    decline_code: str | None
    return_url: str | None
    created_at: datetime
    operations: tuple[Operation, ...]

    @property
    def amount_held(self) -> int:
        """What is promised and not taken: what a capture may still take, and a void lets go of."""
        return self.amount_authorized - self.amount_captured if self.status in HELD else 0


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="refusal"):
    """A final no, stored under its key like any other answer."""

    code: str
    detail: str
    payment_id: str
    decline_code: str | None = None


Outcome: TypeAlias = Payment | Refusal


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """The money of one currency, added up over the operations themselves and not over the payments' counters."""

    currency: str
    authorized: int
    captured: int
    voided: int
    refunded: int


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery that is due."""

    id: str
    body: bytes
    attempts: int


class KeyReused(Exception):
    """The key was used before to ask for something else."""


class NoSuchPayment(Exception):
    """This account has no such payment."""


_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payments (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, reference TEXT NOT NULL, payment_method TEXT NOT NULL,
    status TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL,
    amount_authorized INTEGER NOT NULL DEFAULT 0, amount_captured INTEGER NOT NULL DEFAULT 0,
    amount_refunded INTEGER NOT NULL DEFAULT 0, decline_code TEXT, return_url TEXT, created_at TEXT NOT NULL,
    CONSTRAINT no_more_than_there_is CHECK (0 <= amount_refunded AND amount_refunded <= amount_captured
        AND amount_captured <= amount_authorized AND amount_authorized <= amount AND amount > 0)
);
CREATE INDEX IF NOT EXISTS payments_by_reference ON payments (reference, account);
CREATE INDEX IF NOT EXISTS payments_by_account ON payments (account);
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY, payment_id TEXT NOT NULL REFERENCES payments (id), kind TEXT NOT NULL, key TEXT NOT NULL,
    status TEXT NOT NULL, amount INTEGER NOT NULL, decline_code TEXT, created_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS operations_by_payment ON operations (payment_id);
CREATE TABLE IF NOT EXISTS answers (
    account TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, outcome BLOB NOT NULL,
    PRIMARY KEY (account, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS faults (account TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (account, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS events_due ON events (due_at);
"""

_PAYMENT_ID: Final = re.compile(r"pay_[0-9a-f]{32}", re.ASCII)
_PAYMENT_COLUMNS: Final = """id, reference, payment_method, status, amount, currency, amount_authorized,
    amount_captured, amount_refunded, decline_code, return_url, created_at"""
_ADD_PAYMENT: Final = """
    INSERT INTO payments (id, account, reference, payment_method, status, amount, currency, amount_authorized,
        decline_code, return_url, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_OPERATION: Final = """
    INSERT INTO operations (id, payment_id, kind, key, status, amount, decline_code, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_MOVE_PAYMENT: Final = """
    UPDATE payments SET status = ?, amount_authorized = amount_authorized + ?, amount_captured = amount_captured + ?,
        amount_refunded = amount_refunded + ?, decline_code = ? WHERE id = ?"""
_SETTLE_AUTHORIZATION: Final = """
    UPDATE operations SET status = ?, decline_code = ?
    WHERE payment_id = ? AND kind = 'authorize' AND status = 'requires_action'"""
_READ_PAYMENT: Final = (
    f"SELECT {_PAYMENT_COLUMNS} FROM payments WHERE id = :id AND (:account IS NULL OR account = :account)"
)
_READ_OPERATIONS: Final = """
    SELECT id, kind, key, status, amount, decline_code, created_at FROM operations WHERE payment_id = ? ORDER BY rowid"""
_LIST_PAYMENTS: Final = f"""
    SELECT rowid, {_PAYMENT_COLUMNS} FROM payments WHERE rowid > :after {{where}} ORDER BY rowid LIMIT :limit"""
_LATEST_PAYMENTS: Final = f"SELECT {_PAYMENT_COLUMNS} FROM payments ORDER BY rowid DESC LIMIT ?"
_TOTALS: Final = """
    SELECT payment.currency,
        sum(CASE operation.kind WHEN 'authorize' THEN operation.amount ELSE 0 END) AS authorized,
        sum(CASE operation.kind WHEN 'capture' THEN operation.amount ELSE 0 END) AS captured,
        sum(CASE operation.kind WHEN 'void' THEN operation.amount ELSE 0 END) AS voided,
        sum(CASE operation.kind WHEN 'refund' THEN operation.amount ELSE 0 END) AS refunded
    FROM operations AS operation JOIN payments AS payment ON payment.id = operation.payment_id
    WHERE operation.status = 'succeeded' {where}
    GROUP BY payment.currency ORDER BY payment.currency"""
_DUE_EVENTS: Final = """
    SELECT id, body, attempts FROM events WHERE due_at <= ? AND attempts < ? ORDER BY due_at LIMIT ?"""


class Books:
    """The books in the file at ``path``, made where there is none.

    ``events`` are written only where somebody listens; each may be held back for a while, at random.
    """

    def __init__(self, path: Path, *, events: bool = False, event_delay_seconds_max: float = 0.0) -> None:
        self._events = events
        self._event_delay_seconds_max = event_delay_seconds_max
        self._db = sqlite3.connect(path, timeout=BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        # Survives the kill of this process, which is what we promise; only a power cut could take the last moments.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Leave one tidy file behind."""
        self._db.close()

    def authorize(
        self, claim: Claim, *, reference: str, amount: int, currency: str, payment_method: str, return_url: str | None
    ) -> Outcome:
        """Open a payment and promise its amount, ask the payer first, or decline. ``KeyReused``."""

        def act() -> Outcome:
            decline_code = decline_code_of(payment_method, Kind.AUTHORIZE)
            status = Status.AUTHORIZED if decline_code is None else Status.DECLINED
            if METHODS[payment_method].requires_action:
                status = Status.REQUIRES_ACTION
            payment_id, now = f"pay_{secrets.token_hex(16)}", datetime.now(UTC).isoformat()
            authorized = amount if status is Status.AUTHORIZED else 0
            row = (payment_id, claim.account, reference, payment_method, status, amount, currency, authorized)
            self._db.execute(_ADD_PAYMENT, (*row, decline_code, return_url, now))
            self._record(
                payment_id,
                Kind.AUTHORIZE,
                claim.key,
                amount=amount,
                decline_code=decline_code,
                status="requires_action" if status is Status.REQUIRES_ACTION else None,
            )
            self._tell(f"payment.{status}", payment_id)
            if decline_code is None:
                return self.payment(payment_id)
            return _declined(payment_id, decline_code)

        return self._once(claim, act)

    def capture(self, claim: Claim, payment_id: str, *, amount: int | None = None, final: bool = False) -> Outcome:
        """Take what was promised: the amount, or all of it; a final capture lets go of the rest.

        Raises ``KeyReused`` and ``NoSuchPayment``.
        """

        def act() -> Outcome:
            payment = self.payment(payment_id, account=claim.account)
            taken = payment.amount_held if amount is None else amount
            refusal = self._refusal(
                payment, Kind.CAPTURE, claim.key, allowed=HELD, amount=taken, amount_max=payment.amount_held
            )
            if refusal is not None:
                return refusal
            rest = payment.amount_held - taken
            status = Status.PARTIALLY_CAPTURED if rest and not final else Status.CAPTURED
            self._db.execute(_MOVE_PAYMENT, (status, 0, taken, 0, None, payment_id))
            self._record(payment_id, Kind.CAPTURE, claim.key, amount=taken)
            if rest and final:
                self._record(payment_id, Kind.VOID, claim.key, amount=rest)
            return self._told("payment.captured", payment_id)

        return self._once(claim, act)

    def void(self, claim: Claim, payment_id: str) -> Outcome:
        """Let go of all that is promised and not taken. ``KeyReused`` and ``NoSuchPayment``."""

        def act() -> Outcome:
            payment = self.payment(payment_id, account=claim.account)
            refusal = self._refusal(
                payment,
                Kind.VOID,
                claim.key,
                allowed=VOIDABLE,
                amount=payment.amount_held,
                amount_max=payment.amount_held,
            )
            if refusal is not None:
                return refusal
            status = Status.CAPTURED if payment.amount_captured else Status.VOIDED
            self._db.execute(_SETTLE_AUTHORIZATION, ("declined", "voided", payment_id))
            self._db.execute(_MOVE_PAYMENT, (status, 0, 0, 0, None, payment_id))
            self._record(payment_id, Kind.VOID, claim.key, amount=payment.amount_held)
            return self._told("payment.voided", payment_id)

        return self._once(claim, act)

    def refund(self, claim: Claim, payment_id: str, *, amount: int | None = None) -> Outcome:
        """Give back the amount, or all that was taken and not given back. ``KeyReused`` and ``NoSuchPayment``."""

        def act() -> Outcome:
            payment = self.payment(payment_id, account=claim.account)
            refundable = payment.amount_captured - payment.amount_refunded
            given = refundable if amount is None else amount
            refusal = self._refusal(
                payment, Kind.REFUND, claim.key, allowed=REFUNDABLE, amount=given, amount_max=refundable
            )
            if refusal is not None:
                return refusal
            self._db.execute(_MOVE_PAYMENT, (payment.status, 0, 0, given, None, payment_id))
            self._record(payment_id, Kind.REFUND, claim.key, amount=given)
            return self._told("payment.refunded", payment_id)

        return self._once(claim, act)

    def decide(self, payment_id: str, *, approve: bool) -> Payment:
        """The payer's answer, taken once: later ones change nothing. ``NoSuchPayment``."""
        with self._transaction():
            payment = self.payment(payment_id)
            if payment.status is not Status.REQUIRES_ACTION:
                return payment
            if approve:
                self._db.execute(_SETTLE_AUTHORIZATION, ("succeeded", None, payment_id))
                self._db.execute(_MOVE_PAYMENT, (Status.AUTHORIZED, payment.amount, 0, 0, None, payment_id))
                return self._told("payment.authorized", payment_id)
            code = "authentication_failed"
            self._db.execute(_SETTLE_AUTHORIZATION, ("declined", code, payment_id))
            self._db.execute(_MOVE_PAYMENT, (Status.DECLINED, 0, 0, 0, code, payment_id))
            return self._told("payment.declined", payment_id)

    def recall(self, claim: Claim) -> Outcome | None:
        """What was answered under this key, if anything was; ``KeyReused`` where something else was asked."""
        row = self._one("SELECT fingerprint, outcome FROM answers WHERE account = ? AND key = ?", _key(claim))
        if row is None:
            return None
        if row["fingerprint"] != claim.fingerprint:
            raise KeyReused(claim.key)
        outcome: Outcome = msgspec.json.decode(row["outcome"], type=Outcome)
        return outcome

    def fault_is_due(self, claim: Claim) -> bool:
        """Whether this key has yet to see the fault of its payment method; it is marked as seen."""
        marked = self._db.execute("INSERT OR IGNORE INTO faults (account, key) VALUES (?, ?)", _key(claim))
        return marked.rowcount == 1

    def payment(self, payment_id: str, *, account: str | None = None) -> Payment:
        """The payment of this account, or of any; ``NoSuchPayment``."""
        # Ids come out of addresses, where anything can stand, even text that SQLite cannot be asked about.
        bound = {"id": payment_id, "account": account}
        row = self._one(_READ_PAYMENT, bound) if _PAYMENT_ID.fullmatch(payment_id) else None
        if row is None:
            raise NoSuchPayment(payment_id)
        return self._full(row)

    def payments(
        self, *, account: str | None, reference: str | None = None, after: int = 0, limit: int
    ) -> tuple[list[Payment], int | None]:
        """Payments in the order they came, and after which row to go on where there are more."""
        bound = {"account": account, "reference": reference, "after": after, "limit": limit + 1}
        rows = self._db.execute(_LIST_PAYMENTS.format(where=_where(bound)), bound).fetchall()
        return [self._full(row) for row in rows[:limit]], rows[limit - 1]["rowid"] if len(rows) > limit else None

    def latest(self, limit: int) -> list[Payment]:
        """The newest payments of every account, newest first."""
        return [self._full(row) for row in self._db.execute(_LATEST_PAYMENTS, (limit,)).fetchall()]

    def totals(self, *, account: str | None, reference: str | None = None) -> list[Total]:
        """All the money there is, by currency."""
        bound = {"account": account, "reference": reference}
        rows = self._db.execute(_TOTALS.format(where=_where(bound)), bound).fetchall()
        return [Total(**dict(row)) for row in rows]

    def due_events(self, *, limit: int) -> list[Event]:
        """What has to be sent now, at most ``limit`` of it."""
        rows = self._db.execute(_DUE_EVENTS, (time.time(), EVENT_ATTEMPTS_MAX, limit)).fetchall()
        return [Event(**dict(row)) for row in rows]

    def event_delivered(self, event_id: str) -> None:
        """Nobody has to be told of this again."""
        self._db.execute("DELETE FROM events WHERE id = ?", (event_id,))

    def event_failed(self, event_id: str, *, pause_seconds: float) -> None:
        """It is tried again after the pause, until it was tried ``EVENT_ATTEMPTS_MAX`` times."""
        bound = (time.time() + pause_seconds, event_id)
        self._db.execute("UPDATE events SET attempts = attempts + 1, due_at = ? WHERE id = ?", bound)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise

    def _once(self, claim: Claim, act: Callable[[], Outcome]) -> Outcome:
        """The effect and the answer to its key, in one transaction; an answer that is there already stands."""
        with self._transaction():
            answered = self.recall(claim)
            if answered is not None:
                return answered
            outcome = act()
            bound = (*_key(claim), claim.fingerprint, msgspec.json.encode(outcome))
            self._db.execute("INSERT INTO answers (account, key, fingerprint, outcome) VALUES (?, ?, ?, ?)", bound)
            return outcome

    def _refusal(
        self, payment: Payment, kind: Kind, key: str, *, allowed: frozenset[Status], amount: int, amount_max: int
    ) -> Refusal | None:
        """Why this is not done; a decline is recorded, for a bank has seen it."""
        if payment.status not in allowed:
            detail = f"{kind} is not possible while the payment is {payment.status}"
            return Refusal(code="invalid_state", detail=detail, payment_id=payment.id)
        if len(payment.operations) >= OPERATIONS_MAX:
            detail = f"a payment has at most {OPERATIONS_MAX} operations"
            return Refusal(code="too_many_operations", detail=detail, payment_id=payment.id)
        if amount > amount_max or (amount == 0 and kind is not Kind.VOID):
            detail = f"{kind} of {amount} is not within the {amount_max} that are left"
            return Refusal(code="amount_too_large", detail=detail, payment_id=payment.id)
        declined = sum((one.kind, one.status) == (kind, "declined") for one in payment.operations)
        decline_code = decline_code_of(payment.payment_method, kind, declined=declined)
        if decline_code is None:
            return None
        self._record(payment.id, kind, key, amount=amount, decline_code=decline_code)
        return _declined(payment.id, decline_code)

    def _record(
        self,
        payment_id: str,
        kind: Kind,
        key: str,
        *,
        amount: int,
        decline_code: str | None = None,
        status: str | None = None,
    ) -> None:
        status = status or ("succeeded" if decline_code is None else "declined")
        operation_id, now = f"op_{secrets.token_hex(12)}", datetime.now(UTC).isoformat()
        self._db.execute(_ADD_OPERATION, (operation_id, payment_id, kind, key, status, amount, decline_code, now))

    def _told(self, event: str, payment_id: str) -> Payment:
        self._tell(event, payment_id)
        return self.payment(payment_id)

    def _tell(self, event: str, payment_id: str) -> None:
        if not self._events:
            return
        event_id, payment = f"evt_{secrets.token_hex(12)}", self.payment(payment_id)
        body = {"id": event_id, "type": event, "created_at": datetime.now(UTC), "payment": payment}
        due_at = time.time() + random.uniform(0, self._event_delay_seconds_max)  # noqa: S311 - an order, no secret
        bound = (event_id, msgspec.json.encode(body), due_at)
        self._db.execute("INSERT INTO events (id, body, due_at) VALUES (?, ?, ?)", bound)

    def _full(self, row: sqlite3.Row) -> Payment:
        operations = [dict(one) for one in self._db.execute(_READ_OPERATIONS, (row["id"],)).fetchall()]
        return msgspec.convert({**dict(row), "object": "payment", "operations": operations}, Payment)

    def _one(self, statement: str, bound: Sequence[str] | Mapping[str, str | None]) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(statement, bound).fetchone()
        return row


def _where(bound: Mapping[str, object]) -> str:
    """Conditions for what is asked, and none for what is not: an index is of no use to ``:x IS NULL OR …``."""
    return "".join(f"AND {column} = :{column} " for column in ("account", "reference") if bound[column] is not None)


def _key(claim: Claim) -> tuple[str, str]:
    return claim.account, claim.key


def _declined(payment_id: str, decline_code: str) -> Refusal:
    detail = "the payer's bank said no"
    return Refusal(code="payment_declined", detail=detail, payment_id=payment_id, decline_code=decline_code)
