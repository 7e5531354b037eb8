"""What a handler gets: the caller, the hub's parts, and the request, read when the handler wants it read.

The body is decoded by the handler, not before it: who may not know of an object hears so whatever the body holds.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection
from litestar import Request

from commercehub import auth, idempotency, ids
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.auth import Principal
from commercehub.database import Database, Raced
from commercehub.events import Actor
from commercehub.idempotency import Claim, Stored
from commercehub.sales.carts import Owner
from commercehub.workflows.parts import Hub

T = TypeVar("T")

KEY_CHARACTERS_MAX: Final = 255
BODY_BYTES_MAX: Final = 1_048_576
NUL: Final = "\x00"

_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_LONG_NUMBER: Final = re.compile(rb"(?:\d[ -]?){13,19}")
_NUMBER: Final = re.compile(r"(?:\d[ -]?){13,19}")
# Where long numbers have their place: these are never taken for a card's.
_NUMBERED_FIELDS: Final = frozenset({"sku", "skus", "barcode", "phone", "tracking_number", "reference", "handle"})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with more to say than its content: another status, headers, or a body that is written already."""

    content: object = None
    body: bytes | None = None
    status: int | None = None
    headers: Mapping[str, str] = {}


class Call:
    """One request by one caller."""

    def __init__(self, hub: Hub, request: Request[Any, Any, Any], principal: Principal | None) -> None:
        self.hub = hub
        self.request = request
        self._principal = principal

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
        """By what right the caller opens carts and orders. A publishable key opens what it has a token for, only."""
        if self.principal.is_publishable:
            token = self.request.headers.get("x-cart-token")
            if not token:
                raise not_found()
            return Owner(token_hash=auth.digest(token))
        return Owner(location_id=self.principal.location_id)

    async def read(self, kind: type[T], *, first: Callable[[Connection], Awaitable[object]] | None = None) -> T:
        """The body as a ``kind``, or a ``Problem`` that names what is wrong with it. No body counts as ``{}``.

        ``first`` is asked before a bad body is spoken of: it raises if the caller may not know of the object, or if
        the step is out of turn. A good body costs no such question; the work itself will ask it.
        """
        try:
            return await self._read(kind)
        except Problem:
            if first is not None:
                async with self.database.connection() as db:
                    await first(db)
            raise

    async def _read(self, kind: type[T]) -> T:
        raw = await self.request.body()
        if len(raw) > BODY_BYTES_MAX:
            raise Problem("request_too_large", f"A body has {BODY_BYTES_MAX} bytes at most.")
        try:
            content = msgspec.json.decode(raw or b"{}")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Problem("invalid_request", f"The body is not JSON: {error}") from error
        if b"\\u0000" in raw:
            _refuse_nul(content)
        if _LONG_NUMBER.search(raw):
            _refuse_card_numbers(content)
        return convert(content, kind)

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
        if header is None or header == "*":
            return None
        text = header.strip().removeprefix("W/").strip('"')
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise Problem("version_conflict", "If-Match is not an ETag of ours.")
        return int(text)

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
            scope=f"{self.principal.key_id}:{subject or ''}",
            key=key,
            request_hash=sha256(f"{self.request.method} {self.request.url.path}\n".encode() + canonical).digest(),
        )

    async def once(
        self,
        work: Callable[[Connection, datetime], Awaitable[object]],
        *,
        status: int = 200,
        subject: UUID | None = None,
        needs_key: bool = False,
        conceal: Callable[[Any], object] = lambda content: content,
    ) -> Answer:
        """Run ``work`` in a transaction and answer what it returns; with a key, at most once, however often it is sent.

        The key is stored at the end, by the transaction itself: should it be there already, all is rolled back and the
        stored answer given. ``conceal`` takes out of the stored answer what may not be kept.
        """
        if self.key() is None and not needs_key:
            return Answer(content=await self.database.transaction(work), status=status)
        claim = await self.claim(subject=subject)

        async def keep(db: Connection, now: datetime) -> object:
            content = await work(db, now)
            stored = Stored(status, msgspec.json.encode(conceal(content)).decode())
            await idempotency.keep(db, [(claim, stored, None)], now=now)
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

    async def _stored(self, claim: Claim) -> Answer | None:
        async def find(db: Connection, _: datetime) -> idempotency.Found:
            return (await idempotency.look_up(db, [claim]))[0]

        match await self.database.transaction(find):
            case Stored(status, body):
                return Answer(body=body.encode(), status=status, headers={"Idempotent-Replayed": "true"})
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
    """msgspec says where by ``$.lines[0].quantity``; a pointer says ``/lines/0/quantity``."""
    detail, _, path = message.partition(" - at `$")
    pointer = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path.rstrip("`"))
    named = re.search(r"(?:missing required|unknown) field `([^`]*)`", detail)
    parts = [part for part in pointer.split(".") if part] + ([named[1]] if named else [])
    return FieldError(pointer=prefix + (parts[-1] if prefix and parts else "".join(f"/{part}" for part in parts)), detail=detail)


def _is_list(kind: object) -> bool:
    return getattr(kind, "__origin__", None) in {list, tuple} or any(
        getattr(part, "__origin__", None) in {list, tuple} for part in getattr(kind, "__args__", ())
    )


def _refuse_nul(content: object, pointer: str = "") -> None:
    for where, text, _ in _strings(content, pointer):
        if NUL in text:
            raise _invalid([FieldError(pointer=where, detail="NUL is not a character that we take")])


def _refuse_card_numbers(content: object) -> None:
    """Card numbers never reach us: a processor's own page takes them and gives the client a token."""
    for where, text, field in _strings(content, ""):
        if field in _NUMBERED_FIELDS:
            continue
        for found in _NUMBER.finditer(text):
            if _passes_luhn([int(digit) for digit in found[0] if digit.isdigit()]):
                detail = "This looks like a card number. Send the token that the processor gave for it."
                raise Problem("secret_in_request", detail, errors=[FieldError(pointer=where, detail=detail)])


def _strings(content: object, pointer: str, field: str = "") -> list[tuple[str, str, str]]:
    if isinstance(content, str):
        return [(pointer, content, field)]
    if isinstance(content, list):
        return [each for i, part in enumerate(content) for each in _strings(part, f"{pointer}/{i}", field)]
    if isinstance(content, dict):
        return [
            each
            for name, part in content.items()
            for each in [(f"{pointer}/{name}", name, ""), *_strings(part, f"{pointer}/{name}", name)]
        ]
    return []


def _passes_luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0
