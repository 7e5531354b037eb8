"""What is written down about customers. The words are personal: they stand in their own table and nowhere else."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import events, ids
from commercehub.events import Actor, Event

NOTE_ADDED: Final = "note.added"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One note about a customer."""

    id: UUID
    customer_id: UUID
    words: str
    written_by: str
    written_at: datetime


WRITE = """
INSERT INTO commercehub.customer_notes (id, customer_id, words, written_by, written_at) VALUES ($1, $2, $3, $4, $5)
"""

READ = """
SELECT id, customer_id, words, written_by, written_at FROM commercehub.customer_notes WHERE id = ANY ($1::uuid[])
"""


async def add_note(db: Connection, note: Note, *, actor: Actor, now: datetime) -> None:
    """Keep a note; the customer's timeline has its id."""
    await db.execute(WRITE, note.id, note.customer_id, note.words, note.written_by, note.written_at)
    added = Event(
        type=NOTE_ADDED,
        aggregate_id=note.id,
        sequence=1,
        body={"note_id": ids.show("note", note.id)},
        actor=actor,
        customer_id=note.customer_id,
    )
    await events.append(db, [added], now=now)


async def read_notes(db: Connection, *, note_ids: Sequence[UUID]) -> dict[UUID, Note]:
    """The notes by their ids."""
    if not note_ids:
        return {}
    rows = await db.fetch(READ, list(note_ids))
    return {row["id"]: msgspec.convert(dict(row), Note) for row in rows}
