"""Everything that happened to an order, or with a customer, in one list whatever channel it came through."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

from commercehub import events, ids
from commercehub.api.call import Answer, Call
from commercehub.api.customers import see_customer
from commercehub.api.fields import PAGE_MAX, Limit, Page, Paging, read_cursor, write_cursor
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.events import Entry
from commercehub.sales import customers, notes, orders
from commercehub.sales.carts import Owner
from commercehub.sales.notes import Note
from commercehub.views import timeline

NOTE_CHARACTERS_MAX = 4_000


class TimelineSearch(Paging, frozen=True, kw_only=True):
    """The part of the timeline that is wanted."""

    limit: Limit = PAGE_MAX


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened: when, where, by whom, and what changed."""

    at: datetime
    type: str
    channel: str
    actor: str
    location_id: str | None
    changes: dict[str, Any]


class CustomerTimelineEntry(TimelineEntry, frozen=True, kw_only=True):
    """One thing that happened with a customer, and to which order, if to one."""

    order_id: str | None


class NewNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What whoever helps a customer next should know."""

    text: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=NOTE_CHARACTERS_MAX,
            pattern=r"[^\s\x00-\x1f\x7f]",
            description="not blank; the customer does not see it",
        ),
    ]


class NoteView(msgspec.Struct, frozen=True, kw_only=True):
    """A note."""

    id: str
    customer_id: str
    text: str
    actor: str
    at: datetime


def reader(call: Call) -> Owner:
    """By what right the caller reads an order: any store may read any, so the place of a key does not narrow this."""
    return call.owner if call.principal.is_public else Owner()


def show_entry(entry: Entry) -> TimelineEntry:
    """An entry as an order's timeline has it, and the order's stream."""
    return TimelineEntry(
        at=entry.at,
        type=entry.type,
        channel=entry.channel,
        actor=entry.actor,
        location_id=ids.show("loc", entry.location_id) if entry.location_id else None,
        changes=entry.changes,
    )


@route(
    "GET",
    "/v1/orders/{order_id}/timeline",
    permission=Permission.ORDERS_READ,
    query=TimelineSearch,
    answer=Page[TimelineEntry],
    codes=("invalid_cursor",),
)
async def get_timeline(call: Call, order_id: UUID) -> Page[TimelineEntry]:
    """Everything that happened to an order, in order."""
    owner = reader(call)
    async with call.asking_first(lambda db: orders.read_order(db, order_id=order_id, owner=owner)):
        wanted = call.query(TimelineSearch)
        after_id = read_cursor(wanted.cursor, int) or 0
    async with call.database.connection() as db:
        await orders.read_order(db, order_id=order_id, owner=owner)
        found = await events.read_timeline(db, order_id=order_id, after_id=after_id, limit=wanted.limit + 1)
    return Page(data=[show_entry(entry) for entry in found[: wanted.limit]], next_cursor=_cursor(found, wanted))


@route(
    "GET",
    "/v1/customers/{customer_id}/timeline",
    permission=Permission.ACCOUNT_READ,
    query=TimelineSearch,
    answer=Page[CustomerTimelineEntry],
    codes=("invalid_cursor",),
)
async def get_customer_timeline(call: Call, customer_id: UUID) -> Page[CustomerTimelineEntry]:
    """Everything that happened with a customer, in order. Notes are for whoever helps them, not for themselves."""
    see_customer(call, customer_id)
    async with call.asking_first(lambda db: customers.read_customer(db, customer_id=customer_id)):
        wanted = call.query(TimelineSearch)
        after_id = read_cursor(wanted.cursor, int) or 0
    async with call.database.connection() as db:
        await customers.read_customer(db, customer_id=customer_id)
        found = await timeline.read_customer_timeline(
            db,
            customer_id=customer_id,
            after_id=after_id,
            limit=wanted.limit + 1,
            with_notes=call.principal.may(Permission.CUSTOMERS_READ),
        )
    return Page(data=[_show_for_customer(entry) for entry in found[: wanted.limit]], next_cursor=_cursor(found, wanted))


@route(
    "POST",
    "/v1/customers/{customer_id}/notes",
    permission=Permission.NOTES_WRITE,
    body=NewNote,
    answer=NoteView,
    status=201,
)
async def add_note(call: Call, customer_id: UUID) -> Answer:
    """Write something down about a customer, for whoever helps them next."""
    async with call.asking_first(lambda db: customers.read_customer(db, customer_id=customer_id)):
        given = await call.read(NewNote)
    note_id = ids.new()

    async def work(db: Connection, now: datetime) -> NoteView:
        await customers.read_customer(db, customer_id=customer_id)
        note = Note(id=note_id, customer_id=customer_id, words=given.text, written_by=call.actor.name, written_at=now)
        await notes.add_note(db, note, actor=call.actor, now=now)
        return _show_note(note)

    # A stored answer keeps nothing personal: where it is said again, that is read from its one home.
    answer = await call.once(work, status=201, subject=customer_id, conceal=lambda made: {"id": made.id})
    if answer.body is None:
        return answer
    made_id = ids.parse("note", msgspec.json.decode(answer.body)["id"])
    async with call.database.connection() as db:
        found = await notes.read_notes(db, note_ids=[made_id])
    return Answer(content=_show_note(found[made_id]), status=answer.status, headers=answer.headers)


def _cursor(found: list[Entry], wanted: Paging) -> str | None:
    # Nothing is ever put in between: the last entry that was seen is a place that stays.
    return write_cursor(found[wanted.limit - 1].id) if len(found) > wanted.limit else None


def _show_for_customer(entry: Entry) -> CustomerTimelineEntry:
    shown = show_entry(entry)
    return CustomerTimelineEntry(
        **msgspec.structs.asdict(shown), order_id=ids.show("ord", entry.order_id) if entry.order_id else None
    )


def _show_note(note: Note) -> NoteView:
    return NoteView(
        id=ids.show("note", note.id),
        customer_id=ids.show("cus", note.customer_id),
        text=note.words,
        actor=note.written_by,
        at=note.written_at,
    )


ROUTES = (get_timeline, get_customer_timeline, add_note)
