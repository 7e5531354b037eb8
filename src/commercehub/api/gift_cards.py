"""Gift cards, issued and looked up, and what the shop owes a customer."""

import hmac
from base64 import b32encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

import payments
from commercehub import auth, idempotency, ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import END
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import customers
from commercehub.workflows.refusals import UNKNOWN, StoredValueNotUsable
from payments.money import CURRENCIES, Money

GIFT_CARD_CODES: Final = ("gift_card_not_usable", "rate_limited")
"""What whoever takes a gift card may answer."""
ATTEMPTS: Final = "gift_card"
LASTS_MAX: Final = timedelta(days=365 * 50)
_LETTERS: Final = 16
_CROCKFORD: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
# What people read for another letter, and what they write between groups.
_MISREAD: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})

GiftCardCode = Annotated[
    str, Meta(min_length=1, max_length=40, pattern=r"^[0-9A-Za-z -]+" + END, description="as it is on the card")
]


class Balance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount in minor units that is not nothing, of money that there is."""

    amount: Annotated[int, Meta(ge=1, le=payments.BALANCE_MINOR_MAX)]
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}" + END, description="an active code of ISO 4217")]


class NewGiftCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is on a card, and until when: in the future, and within 50 years."""

    balance: Balance
    expires_at: datetime | None = None


class GiftCardLookup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The code on a card."""

    code: GiftCardCode


class GiftCardView(msgspec.Struct, frozen=True, kw_only=True):
    """A gift card. Its ``code`` is shown to whoever issues it."""

    id: str
    balance: Money
    state: str
    expires_at: datetime | None = None
    code: str | None = None


class BookingView(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a balance."""

    amount: Money
    at: datetime
    order_id: str | None


class StoreCreditView(msgspec.Struct, frozen=True, kw_only=True):
    """What the shop owes a customer, and how that came about, newest first."""

    balance: Money
    entries: list[BookingView]


def gift_card_code(secret: str, card_id: UUID) -> str:
    """What spends a card. Derived, so that it can be shown again and need not be kept."""
    mac = hmac.digest(secret.encode(), b"gift card:" + card_id.bytes, "sha256")
    letters = b32encode(mac[:10]).decode().translate(_CROCKFORD)[:_LETTERS]
    return "-".join(letters[at : at + 4] for at in range(0, _LETTERS, 4))


def hash_code(code: str) -> bytes:
    """What a card is found by, however its code was typed."""
    return auth.digest(code.upper().translate(_MISREAD))


@asynccontextmanager
async def counting_wrong_codes(
    call: Call, codes: Sequence[str], *, paying_for: UUID | None = None
) -> AsyncIterator[None]:
    """Count a code that nobody issued; ten in a quarter of an hour, and ``TooManyAttempts``.

    Where a cart or an order is paid for they are counted for it and the caller, so that nobody is kept from paying by
    what others behind the same key or address tried; a mere look-up is counted by caller and address. A request whose
    answer is known is let through to it: it tries no code that was not tried before.
    """
    subject = f"{call.principal.subject_id}:{paying_for}" if paying_for is not None else _subject(call)

    async def check(db: Connection, now: datetime) -> None:
        try:
            await auth.check_attempts(db, kind=ATTEMPTS, subject=subject, now=now)
        except auth.TooManyAttempts:
            if paying_for is None or call.key() is None:
                raise
            (known,) = await idempotency.look_up(db, [await call.claim(subject=paying_for)])
            if not isinstance(known, idempotency.Stored | idempotency.Underway):
                raise

    async def note(db: Connection, now: datetime) -> None:
        await auth.note_attempt(db, kind=ATTEMPTS, subject=subject, now=now)

    if codes:
        await call.database.transaction(check)
    try:
        yield
    except (StoredValueNotUsable, payments.StoredValueNotFound) as error:
        if codes and getattr(error, "reason", UNKNOWN) == UNKNOWN:
            await call.database.transaction(note)
        raise


def _subject(call: Call) -> str:
    """Every shopper sends the same publishable key: the address tells them apart."""
    client = call.request.client
    address = client.host if client and call.principal.is_public else ""
    return f"{call.principal.subject_id}:{address}"


@route(
    "POST",
    "/v1/gift-cards",
    permission=Permission.GIFT_CARDS_ISSUE,
    body=NewGiftCard,
    answer=GiftCardView,
    status=201,
    needs_key=True,
)
async def issue_gift_card(call: Call) -> Answer:
    """Issue a gift card. Its code is shown to whoever issues it, and again for the same Idempotency-Key."""
    given = await call.read(NewGiftCard)
    if given.balance.currency not in CURRENCIES:
        raise _refused("/balance/currency", f"{given.balance.currency} is no active currency of ISO 4217.")
    if given.expires_at is not None and given.expires_at.tzinfo is None:
        raise _refused("/expires_at", "A time has a zone: end it with Z.")
    card_id = ids.new()
    code = gift_card_code(call.hub.settings.secret, card_id)

    async def work(db: Connection, now: datetime) -> GiftCardView:
        if given.expires_at is not None and not now < given.expires_at <= now + LASTS_MAX:
            raise _refused("/expires_at", "It has to be in the future, and within 50 years.")
        card = await payments.issue_gift_card(
            db,
            card_id=card_id,
            code_hash=hash_code(code),
            currency=given.balance.currency,
            balance_minor=given.balance.amount,
            expires_at=given.expires_at,
            actor=call.actor.name,
            now=now,
        )
        return msgspec.structs.replace(_view(card), code=code)

    answer = await call.once(
        work, status=201, needs_key=True, conceal=lambda view: msgspec.structs.replace(view, code=None)
    )
    if answer.body is None:
        return answer
    document = msgspec.json.decode(answer.body)
    code = gift_card_code(call.hub.settings.secret, ids.parse("gift", document["id"]))
    return Answer(body=msgspec.json.encode(document | {"code": code}), status=answer.status, headers=answer.headers)


@route(
    "POST",
    "/v1/gift-cards/lookup",
    permission=Permission.GIFT_CARDS_READ,
    body=GiftCardLookup,
    answer=GiftCardView,
    codes=("not_found", "rate_limited"),
)
async def look_up_gift_card(call: Call) -> GiftCardView:
    """What is left on a card. Ten wrong codes within 15 minutes, and the caller has to wait."""
    given = await call.read(GiftCardLookup)
    async with counting_wrong_codes(call, [given.code]), call.database.connection() as db:
        card = await payments.find_gift_card(
            db, code_hash=hash_code(given.code), clock_offset=call.database.clock_offset
        )
    return _view(card)


@route(
    "GET",
    "/v1/customers/{customer_id}/store-credit",
    permission=Permission.ACCOUNT_READ,
    answer=StoreCreditView,
)
async def get_store_credit(call: Call, customer_id: UUID) -> StoreCreditView:
    """What the shop owes a customer in the currency of the caller's channel. A customer sees their own."""
    principal = call.principal
    if customer_id != principal.customer_id and not principal.may(Permission.CUSTOMERS_READ):
        raise not_found()
    currency = principal.sales_channel.currency
    async with call.database.connection() as db:
        await customers.read_customer(db, customer_id=customer_id)
        stored = await payments.find_store_credit(
            db, owner_id=customer_id, currency=currency, clock_offset=call.database.clock_offset
        )
        bookings = await payments.read_bookings(db, stored) if stored else []
    return StoreCreditView(
        balance=Money(stored.available_minor if stored else 0, currency),
        entries=[
            BookingView(
                amount=Money(each.amount_minor, currency),
                at=each.at,
                order_id=ids.show("ord", each.reference) if each.reference else None,
            )
            for each in bookings
        ],
    )


def _refused(pointer: str, detail: str) -> Problem:
    return Problem("invalid_request", detail, errors=[FieldError(pointer=pointer, detail=detail)])


def _view(card: payments.StoredValue) -> GiftCardView:
    state = "expired" if card.is_expired else "active" if card.balance_minor else "used_up"
    return GiftCardView(
        id=ids.show("gift", card.id),
        balance=Money(card.available_minor if not card.is_expired else card.balance_minor, card.currency),
        state=state,
        expires_at=card.expires_at,
    )


ROUTES = (issue_gift_card, look_up_gift_card, get_store_credit)
