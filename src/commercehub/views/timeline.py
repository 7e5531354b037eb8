"""A customer's timeline: what happened in every channel, with the words of the notes in their places."""

from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import events, ids
from commercehub.events import Entry
from commercehub.sales import notes


async def read_customer_timeline(
    db: Connection, *, customer_id: UUID, after_id: int, limit: int, with_notes: bool
) -> list[Entry]:
    """What happened with a customer after an entry, in order. Notes are left out, or have their words as ``text``."""
    without = () if with_notes else (notes.NOTE_ADDED,)
    found = await events.read_customer_timeline(
        db, customer_id=customer_id, after_id=after_id, limit=limit, without=without
    )
    by_entry = {entry.id: _note_id(entry) for entry in found if entry.type == notes.NOTE_ADDED}
    written = await notes.read_notes(db, note_ids=list(by_entry.values()))
    return [_with_words(entry, written.get(by_entry[entry.id])) if entry.id in by_entry else entry for entry in found]


def _note_id(entry: Entry) -> UUID:
    return ids.parse("note", str(entry.changes["note_id"]))


def _with_words(entry: Entry, note: notes.Note | None) -> Entry:
    """An entry with the note's words; without, if they were erased."""
    words = {"text": note.words} if note is not None else {}
    return msgspec.structs.replace(entry, changes=entry.changes | words)
