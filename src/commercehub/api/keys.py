"""API keys: made, shown once, and ended."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import inventory
from commercehub import auth, ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import END, Id, Page, Paging, cut
from commercehub.api.routing import route
from commercehub.auth import Permission, Role

ORIGINS_MAX: Final = 50
OVERLAP_SECONDS_MAX: Final = 30 * 86_400
PUBLISHABLE_CHANNELS: Final = ("web", "app", "agent")

Origin = Annotated[str, Meta(max_length=260, pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?" + END)]
Channel = Literal["web", "app", "store", "call_center", "chat", "agent", "back_office"]
RoleName = Literal["storefront", "till", "service", "fulfillment", "admin"]


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is for. A ``till`` stands at a location; a ``storefront`` may be bound to the pages that use it."""

    channel: Channel
    role: RoleName
    location_id: Id | None = None
    allowed_origins: Annotated[list[Origin], Meta(max_length=ORIGINS_MAX)] = []


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key just made; its ``secret`` is shown this once."""

    id: str
    channel: Channel
    role: RoleName
    location_id: str | None
    secret: str | None


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long the old key still works beside the new one."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_SECONDS_MAX)] = 0


class RotatedKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key that takes another's place; its ``secret`` is shown this once."""

    id: str
    secret: str | None
    replaces: str
    old_ends_at: datetime


class KeySearch(Paging, frozen=True, kw_only=True):
    """The part of the list that is wanted."""


class ListedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed."""

    id: str
    channel: str
    role: str
    location_id: str | None
    allowed_origins: list[str]
    created_at: datetime
    ends_at: datetime | None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A key that works no more, from within five seconds in every process."""

    id: str


@route(
    "POST",
    "/v1/api-keys",
    permission=Permission.KEYS,
    body=NewKey,
    answer=KeyView,
    status=201,
    codes=("secret_already_shown",),
)
async def create_key(call: Call) -> Answer:
    """Make a key. Its secret is in this answer and nowhere else."""
    given = await call.read(NewKey)
    location_id = call.id("loc", given.location_id) if given.location_id else None
    for pointer, detail in _faults(given):
        raise Problem("invalid_request", detail, errors=[FieldError(pointer=pointer, detail=detail)])

    async def work(db: Connection, now: datetime) -> KeyView:
        if location_id is not None:
            await inventory.read_location(db, location_id=location_id)
        channel = await auth.find_channel(db, kind=given.channel)
        if channel is None:
            detail = "The shop has no sales channel of this kind."
            raise Problem("invalid_request", detail, errors=[FieldError(pointer="/channel", detail=detail)])
        key = await auth.create_key(
            db,
            sales_channel_id=channel.id,
            role=Role(given.role),
            location_id=location_id,
            allowed_origins=frozenset(given.allowed_origins),
            created_by=call.actor.name,
            now=now,
        )
        call.audited(ids.show("key", key.id), channel=given.channel, role=given.role, location_id=given.location_id)
        return KeyView(
            id=ids.show("key", key.id),
            channel=given.channel,
            role=given.role,
            location_id=given.location_id,
            secret=key.secret,
        )

    answer = await call.once(work, status=201, conceal=lambda key: msgspec.structs.replace(key, secret=None))
    return _shown_once(answer)


def _faults(given: NewKey) -> Iterator[tuple[str, str]]:
    """What does not go together in a key, with a pointer to it."""
    role = Role(given.role)
    is_publishable = role is Role.STOREFRONT
    if is_publishable and given.channel not in PUBLISHABLE_CHANNELS:
        yield "/channel", f"A storefront's key is public: it belongs to {', '.join(PUBLISHABLE_CHANNELS)}."
    if (role is Role.TILL) != (given.channel == "store"):
        yield "/channel", "The channel store goes with the role till."
    if role is Role.TILL and given.location_id is None:
        yield "/location_id", "A till stands at a location."
    if is_publishable and given.location_id is not None:
        yield "/location_id", "A storefront's key is public: it stands nowhere."
    if given.allowed_origins and not is_publishable:
        yield "/allowed_origins", "A secret key has no place in a page."


@route("DELETE", "/v1/api-keys/{key_id}", permission=Permission.KEYS, answer=Ended)
async def revoke_key(call: Call, key_id: UUID) -> Ended:
    """End a key."""

    async def work(db: Connection, now: datetime) -> Ended:
        if not await auth.revoke_key(db, key_id=key_id, now=now):
            raise not_found()
        return Ended(id=ids.show("key", key_id))

    return await call.transact(work)


@route(
    "POST",
    "/v1/api-keys/{key_id}/rotate",
    permission=Permission.KEYS,
    body=Rotation,
    answer=RotatedKey,
    status=201,
    codes=("secret_already_shown",),
)
async def rotate_key(call: Call, key_id: UUID) -> Answer:
    """Make a key that takes another's place: same channel, role and location. The other ends after the overlap."""

    async def is_alive(db: Connection) -> None:
        if all(each.id != key_id or each.ends_at is not None for each in await auth.list_keys(db)):
            raise not_found()

    async with call.asking_first(is_alive):
        given = await call.read(Rotation)

    async def work(db: Connection, now: datetime) -> RotatedKey:
        overlap = timedelta(seconds=given.overlap_seconds)
        key = await auth.rotate_key(db, key_id=key_id, overlap=overlap, rotated_by=call.actor.name, now=now)
        call.audited(ids.show("key", key_id), replaced_by=ids.show("key", key.id))
        return RotatedKey(
            id=ids.show("key", key.id), secret=key.secret, replaces=ids.show("key", key_id), old_ends_at=now + overlap
        )

    answer = await call.once(
        work, status=201, subject=key_id, conceal=lambda key: msgspec.structs.replace(key, secret=None)
    )
    return _shown_once(answer)


@route(
    "GET",
    "/v1/api-keys",
    permission=Permission.KEYS,
    query=KeySearch,
    answer=Page[ListedKey],
    codes=("invalid_cursor",),
)
async def list_keys(call: Call) -> Page[ListedKey]:
    """All keys, without their secrets; ended ones too."""
    wanted = call.query(KeySearch)
    async with call.database.connection() as db:
        found = await auth.list_keys(db)
    page, next_cursor = cut(found, wanted, id_of=lambda key: key.id)
    return Page(
        data=[
            ListedKey(
                id=ids.show("key", each.id),
                channel=each.channel,
                role=each.role.value,
                location_id=ids.show("loc", each.location_id) if each.location_id else None,
                allowed_origins=each.allowed_origins,
                created_at=each.created_at,
                ends_at=each.ends_at,
            )
            for each in page
        ],
        next_cursor=next_cursor,
    )


def _shown_once(answer: Answer) -> Answer:
    if answer.body is not None:
        key_id = msgspec.json.decode(answer.body)["id"]
        detail = "A secret is shown once. Revoke the key and make another with a new Idempotency-Key."
        raise Problem("secret_already_shown", detail, facts={"id": key_id})
    return answer


ROUTES = (create_key, list_keys, revoke_key, rotate_key)
