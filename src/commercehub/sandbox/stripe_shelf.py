"""What Stripe keeps beside the money: the metadata that came with each request, in the file that has the books.

It is written before the books are, under the request's key, and counts once the books have an operation with that key.
So a kill between the two leaves a note about nothing, and never a charge without its metadata.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

BUSY_SECONDS_MAX: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS stripe_notes (
    account TEXT NOT NULL, key TEXT NOT NULL, asked TEXT NOT NULL, note BLOB NOT NULL, PRIMARY KEY (account, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stripe_marks (
    payment_id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (payment_id, name)
) WITHOUT ROWID;
"""
_ADD_NOTE: Final = """
    INSERT INTO stripe_notes (account, key, asked, note) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_ADD_MARK: Final = """
    INSERT INTO stripe_marks (payment_id, name, value) VALUES (?, ?, ?)
    ON CONFLICT (payment_id, name) DO UPDATE SET value = excluded.value"""
_NEWEST: Final = "SELECT id FROM payments WHERE account = ? ORDER BY rowid DESC LIMIT ?"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What came with one request and is no business of the books'."""

    metadata: dict[str, str] = {}
    many_captures: bool = False


class Shelf:
    """The notes in the file at ``path``, opened when the first one is made or looked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def note(self, account: str, key: str, *, asked: str, note: Note) -> bool:
        """Keep what came with this key. False if the key came with something else before."""
        self._db.execute(_ADD_NOTE, (account, key, asked, msgspec.json.encode(note)))
        (before,) = self._db.execute(
            "SELECT asked FROM stripe_notes WHERE account = ? AND key = ?", (account, key)
        ).fetchone()
        return bool(before == asked)

    def forget(self, account: str, key: str) -> None:
        """The request was refused before anything was done, and its key is as good as new."""
        self._db.execute("DELETE FROM stripe_notes WHERE account = ? AND key = ?", (account, key))

    def read(self, account: str, key: str) -> Note | None:
        """What came with this key; None where it did not come through this face."""
        row = self._db.execute("SELECT note FROM stripe_notes WHERE account = ? AND key = ?", (account, key)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Note)

    def mark(self, payment_id: str, metadata: Mapping[str, str]) -> None:
        """Write metadata on a payment that is there; an empty value takes its name away."""
        for name, value in metadata.items():
            self._db.execute(_ADD_MARK, (payment_id, name, value))

    def marks(self, payment_id: str) -> dict[str, str]:
        """What was written on a payment after it was made."""
        return dict(self._db.execute("SELECT name, value FROM stripe_marks WHERE payment_id = ?", (payment_id,)))

    def account_of(self, payment_id: str) -> str | None:
        """Whose payment it is."""
        row = self._db.execute("SELECT account FROM payments WHERE id = ?", (payment_id,)).fetchone()
        return None if row is None else str(row[0])

    def newest(self, account: str, limit: int) -> list[str]:
        """The ids of an account's newest payments, newest first."""
        return [str(payment_id) for (payment_id,) in self._db.execute(_NEWEST, (account, limit))]

    @property
    def _db(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
            )
            self._opened.execute("PRAGMA synchronous = NORMAL")  # like the books
            self._opened.executescript(_SCHEMA)
        return self._opened
