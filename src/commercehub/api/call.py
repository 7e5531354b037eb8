"""What a handler gets: the caller, the hub's parts, and the request, read when the handler wants it read.

The body is decoded by the handler, not before it: who may not know of an object hears so whatever the body holds.
"""

import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection
from litestar import Request

from commercehub import auth, idempotency, ids
from commercehub.api import card_numbers
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.auth import Kind, Permission, Principal, Role
from commercehub.database import Database
from commercehub.events import Actor
from commercehub.idempotency import Claim, Stored, Underway
from commercehub.sales.carts import Owner
from commercehub.sales.errors import VersionConflict
from commercehub.workflows.parts import Hub

T = TypeVar("T")

KEY_CHARACTERS_MAX: Final = 255
BODY_BYTES_MAX: Final = 1_048_576
NUL: Final = "\x00"
REPLAYED: Final[Mapping[str, str]] = {"Idempotent-Replayed": "true"}

_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_JSON: Final = re.compile(r"application/(?:[\w.+-]+\+)?json")
# No version is negative: an If-Match that is no ETag of ours is out of date, whatever the version is.
_NO_VERSION: Final = -1


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with more to say than its content: another status, headers, or a body that is written already.

    ``stream``: what is said bit by bit, for as long as the caller listens.
    """

    content: object = None
    body: bytes | None = None
    stream: AsyncIterator[bytes] | None = None
    status: int | None = None
    headers: Mapping[str, str] = {}


class Call:
    """One request by one caller."""

    def __init__(
        self,
        hub: Hub,
        request: Request[Any, Any, Any],
        principal: Principal | None,
        *,
        action: str = "",
        permission: Permission = Permission.PUBLIC,
    ) -> None:
        self.hub = hub
        self.request = request
        self._principal = principal
        self._action = action
        self._permission = permission
        self._reason: str | None = None
        self._subject: str | None = None
        self._changes: dict[str, object] = {}

    @property
    def database(self) -> Database:
        """The hub's database."""
        return self.hub.database

    @property
    def principal(self) -> Principal:
        """The caller; routes that are public must not ask."""
        if self._principal is None:
            raise Problem("unauthenticated", "Send your key as Authorization: Bearer <key>.")
        return self._principal

    @property
    def actor(self) -> Actor:
        """The caller as it stands in timelines."""
        return self.principal.as_actor()

    @property
    def owner(self) -> Owner:
        """By what right the caller opens carts and orders. A publishable key opens what it has a token for, only.

        A customer opens their own, a guest the one order that was looked up.
        """
        principal = self.principal
        if principal.order_id is not None:
            return Owner(order_id=principal.order_id)
        if principal.customer_id is not None:
            return Owner(customer_id=principal.customer_id)
        if principal.is_publishable:
            token = self.request.headers.get("x-cart-token")
            if not token:
                raise not_found()
            return Owner(token_hash=auth.digest(token))
        return Owner(location_id=principal.location_id)

    @asynccontextmanager
    async def asking_first(self, question: Callable[[Connection], Awaitable[object]]) -> AsyncIterator[None]:
        """Before what is wrong with a body is spoken of, ask a question; what it raises counts.

        It raises if the caller may not know of the object, or if the step is out of turn. A good body costs no such
        question: the work itself will ask it.
        """
        try:
            yield
        except Exception:
            async with self.database.connection() as db:
                await question(db)
            raise

    async def read(self, kind: type[T]) -> T:
        """The body as a ``kind``, or a ``Problem`` that names what is wrong with it. No body counts as ``{}``."""
        raw = await self.request.body()
        if raw and not _JSON.fullmatch(
            self.request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
        ):
            raise Problem("unsupported_media_type", "Send JSON, as Content-Type: application/json.")
        try:
            content = msgspec.json.decode(raw or b"{}")
            if b"\\u0000" in raw:
                _refuse_nul(content)
            if card_numbers.may_hold_one(raw):
                _refuse_card_numbers(content)
            given = convert(content, kind)
        except RecursionError as error:
            raise Problem("invalid_request", "The body is nested too deeply.") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem("invalid_request", f"The body is not JSON: {error}") from error
        reason = getattr(given, "reason", None)
        self._reason = reason if isinstance(reason, str) else None
        return given

    def query(self, kind: type[T]) -> T:
        """The query parameters as a ``kind``; a list takes a parameter as often as it comes."""
        given: dict[str, list[str]] = {}
        for name, value in self.request.query_params.multi_items():
            if NUL in value:
                raise _invalid([FieldError(pointer=f"?{name}", detail="NUL is not a character that we take")])
            given.setdefault(name, []).append(str(value))
        lists = {field.encode_name for field in msgspec.structs.fields(kind) if _is_list(field.type)}  # type: ignore[arg-type]
        content = {name: values if name in lists else values[-1] for name, values in given.items()}
        return convert(content, kind, strict=False, prefix="?")

    def if_match(self) -> int | None:
        """The version that the caller insists on."""
        header = self.request.headers.get("if-match")
        if header is None or header.strip() == "*":
            return None
        text = header.strip().removeprefix("W/").strip('"')
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else _NO_VERSION

    def check_version(self, current: int) -> None:
        """Raise ``VersionConflict`` if the caller insists on another version than the one that was just locked."""
        if self.if_match() not in {None, current}:
            raise VersionConflict(current)

    def id(self, prefix: str, text: str) -> UUID:
        """An id from a body or a query, or a ``Problem``: what cannot be an id names nothing."""
        try:
            return ids.parse(prefix, text)
        except ids.InvalidId as error:
            raise not_found() from error

    def key(self) -> str | None:
        """The Idempotency-Key, if there is one."""
        key = self.request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise Problem("invalid_request", "Idempotency-Key is 1 to 255 printable ASCII characters.")
        return key

    async def claim(self, *, subject: UUID | None = None) -> Claim:
        """What identifies this attempt; ``Problem`` without a key. ``subject``: the cart or customer acted for."""
        key = self.key()
        if key is None:
            raise Problem("idempotency_key_required", "Send an Idempotency-Key, the same at each retry.")
        return await self._claim(key, subject)

    async def _claim(self, key: str, subject: UUID | None) -> Claim:
        raw = await self.request.body()
        try:
            # The same content in another order of fields or with other spaces is the same request.
            canonical = msgspec.json.encode(msgspec.json.decode(raw or b"{}"), order="sorted")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            canonical = raw
        return Claim(
            scope=f"{self.principal.subject_id}:{subject or ''}",
            key=key,
            # Keyed: a body may hold a password or a gift card's code, and nobody shall try them out on the hash.
            request_hash=hmac.digest(
                self.hub.settings.secret.encode(),
                f"{self.request.method} {self.request.url.path}\n".encode()
                + self.request.scope["query_string"]
                + b"\n"
                + canonical,
                "sha256",
            ),
        )

    async def once(
        self,
        work: Callable[[Connection, datetime], Awaitable[object]],
        *,
        status: int = 200,
        subject: UUID | None = None,
        needs_key: bool = False,
        conceal: Callable[[Any], object] = lambda content: content,
        settled_later: UUID | None = None,
    ) -> Answer:
        """Run ``work`` in a transaction and answer what it returns; with a key, at most once, however often it is sent.

        The key is stored at the end, by the transaction itself: should it be there already, all is rolled back and the
        stored answer given. ``conceal`` takes out of the stored answer what may not be kept. ``settled_later`` names
        the subject of work that is finished, and its answer stored by ``settle``, after the transaction.
        """
        if self.key() is None and not needs_key:
            return Answer(content=await self.transact(work), status=status)
        claim = await self.claim(subject=subject)

        async def keep(db: Connection, now: datetime) -> object:
            content = await work(db, now)
            await self._audit(db, content, now)
            stored = Stored(status, msgspec.json.encode(conceal(content)).decode()) if settled_later is None else None
            await idempotency.keep(db, [(claim, stored, settled_later)], now=now)
            return content

        try:
            return Answer(content=await self.database.transaction(keep, retry_raced=False), status=status)
        except Exception as error:
            known = await self._stored(claim)
            if known is not None:
                return known
            if isinstance(error, asyncpg.LockNotAvailableError):
                raise idempotency.InProgress(claim.key) from error
            raise

    async def transact(self, work: Callable[[Connection, datetime], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction; what staff changes is written into the audit log by the same one."""

        async def audited(db: Connection, now: datetime) -> T:
            content = await work(db, now)
            await self._audit(db, content, now)
            return content

        return await self.database.transaction(audited)

    def audited(self, subject: str, **changes: object) -> None:
        """What the audit log says of this request, beside who, when, what and why: ids and words, nothing personal."""
        self._subject = subject
        self._changes = changes

    @property
    def audited_as(self) -> str | None:
        """What the audit log calls this request, if its caller leaves rows there: staff, devices, administrators."""
        principal = self._principal
        if principal is None:
            return None
        is_audited = principal.kind in {Kind.STAFF, Kind.DEVICE} or principal.role is Role.ADMIN
        return self._action if is_audited else None

    async def _audit(self, db: Connection, content: object, now: datetime) -> None:
        """Staff, devices and administrators leave a row with every change. What is in a cart is no change yet."""
        if self._permission is Permission.CARTS or self.audited_as is None:
            return
        subject = (
            self._subject
            or getattr(content, "id", None)
            or next((str(each) for each in reversed(self.request.path_params.values())), "")
        )
        await auth.write_audit(
            db,
            actor=self.actor,
            action=self._action,
            subject=str(subject),
            reason=self._reason,
            changes=self._changes,
            now=now,
        )

    async def settle(self, subject_id: UUID, content: object, *, status: int = 200) -> None:
        """Store the answer of ``settled_later``, which holds nothing that may not be kept."""
        if self.key() is None:
            return

        async def work(db: Connection, _: datetime) -> None:
            await idempotency.settle(db, [(subject_id, Stored(status, msgspec.json.encode(content).decode()))])

        await self.database.transaction(work)

    async def _stored(self, claim: Claim) -> Answer | None:
        async def find(db: Connection, _: datetime) -> idempotency.Found:
            return (await idempotency.look_up(db, [claim]))[0]

        match await self.database.transaction(find):
            case Stored(status, body):
                return Answer(body=body.encode(), status=status, headers=REPLAYED)
            case Underway():
                return Answer(headers=REPLAYED)
            case Exception() as refusal:
                raise refusal
        return None


def convert(content: object, kind: type[T], *, strict: bool = True, prefix: str = "") -> T:
    """Decoded JSON as a ``kind``, or a ``Problem`` with a pointer to the field at fault."""
    try:
        return msgspec.convert(content, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _invalid([_field_error(str(error), prefix)]) from error


def _invalid(errors: list[FieldError]) -> Problem:
    return Problem("invalid_request", errors[0].detail, errors=errors)


def _field_error(message: str, prefix: str) -> FieldError:
    """Where it says so: msgspec by ``$.lines[0].quantity``; a pointer says ``/lines/0/quantity``."""
    detail, _, path = message.partition(" - at `$")
    pointer = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path.rstrip("`"))
    named = re.search(r"(?:missing required|unknown) field `([^`]*)`", detail)
    parts = [part for part in pointer.split(".") if part] + ([named[1]] if named else [])
    return FieldError(
        pointer=prefix + (parts[-1] if prefix and parts else "".join(f"/{part}" for part in parts)), detail=detail
    )


def _is_list(kind: object) -> bool:
    return getattr(kind, "__origin__", None) in {list, tuple} or any(
        getattr(part, "__origin__", None) in {list, tuple} for part in getattr(kind, "__args__", ())
    )


def _refuse_nul(content: object) -> None:
    for where, _, text in card_numbers.strings(content):
        if NUL in text:
            raise _invalid([FieldError(pointer=where.replace(NUL, ""), detail="NUL is not a character that we take")])


def _refuse_card_numbers(content: object) -> None:
    where = card_numbers.find(content)
    if where is not None:
        detail = "This looks like a card number. Send the token that the processor gave for it."
        raise Problem("secret_in_request", detail, errors=[FieldError(pointer=card_numbers.mask(where), detail=detail)])
