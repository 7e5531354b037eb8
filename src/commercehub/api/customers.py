"""Customers: signed up, signed in from any channel, and known to whoever helps them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import Meta

from commercehub import auth, events, ids
from commercehub.api.call import Answer, Call
from commercehub.api.errors import FieldError, Problem, not_found
from commercehub.api.fields import END, Email, Name, Page, Paging, Phone, cut
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.events import Event
from commercehub.sales import customers
from commercehub.sales.customers import Customer
from commercehub.workflows import signing_in

Password = Annotated[
    str,
    Meta(
        min_length=auth.PASSWORD_CHARACTERS_MIN,
        max_length=auth.PASSWORD_CHARACTERS_MAX,
        description="8 characters or more; kept as an argon2id hash",
    ),
]
Token = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+" + END)]
Locale = Annotated[str, Meta(max_length=20, pattern=r"^[a-z]{2}(-[A-Z]{2})?" + END, description="BCP 47: en, es-MX")]


class NewCustomer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who somebody is. Without a password nobody can sign in: somebody in a store or on the phone, say."""

    email: Email
    password: Password | None = None
    name: Name | None = None
    phone: Phone | None = None
    locale: Locale | None = None


class CustomerChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different. A new password needs the current one."""

    name: Name | None = None
    phone: Phone | None = None
    locale: Locale | None = None
    password: Password | None = None
    current_password: Annotated[str, Meta(max_length=auth.PASSWORD_CHARACTERS_MAX)] | None = None


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sign-in."""

    email: Email
    password: Annotated[str, Meta(min_length=1, max_length=auth.PASSWORD_CHARACTERS_MAX)]


class Refresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refresh token, used up by this."""

    refresh_token: Token


class ResetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who wants to set a password."""

    email: Email


class NewPassword(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The code from the message, and the password from now on."""

    email: Email
    code: Annotated[str, Meta(min_length=1, max_length=20)]
    password: Password


class ResetSent(msgspec.Struct, frozen=True, kw_only=True):
    """A code is on its way, if there is such a customer."""

    sent: bool = True


class CustomerSearch(Paging, frozen=True, kw_only=True):
    """Whom to look for: one of the two, or both."""

    email: Email | None = None
    phone: Phone | None = None


class CustomerView(msgspec.Struct, frozen=True, kw_only=True):
    """A customer."""

    id: str
    email: str | None
    phone: str | None
    name: str | None
    locale: str
    created_at: datetime


class CustomerSession(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, shown once: the access token is sent as ``Authorization: Bearer``, the refresh token gets the next two."""

    access_token: str
    refresh_token: str
    expires_at: datetime
    customer_id: str | None = None
    token_type: str = "Bearer"  # noqa: S105 - the word of RFC 6750


class SignedOut(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that is over, from within five seconds in every process."""

    signed_out: bool = True


@route(
    "POST",
    "/v1/customers",
    permission=Permission.ACCOUNT,
    body=NewCustomer,
    answer=CustomerView,
    status=201,
    codes=("email_taken", "busy"),
)
async def create_customer(call: Call) -> Answer:
    """Sign somebody up."""
    given = await call.read(NewCustomer)
    password_hash = await auth.hash_password(given.password) if given.password is not None else None
    customer_id = ids.new()

    async def work(db: Connection, now: datetime) -> CustomerView:
        customer = Customer(
            id=customer_id,
            email=given.email,
            phone=given.phone,
            name=given.name,
            locale=given.locale or call.principal.sales_channel.locale,
            created_at=now,
        )
        await customers.create_customer(db, customer, password_hash=password_hash)
        signed_up = Event(
            type="customer.signed_up",
            aggregate_id=customer_id,
            sequence=1,
            body={"customer_id": ids.show("cus", customer_id)},
            actor=call.actor,
            customer_id=customer_id,
        )
        await events.append(db, [signed_up], now=now)
        return view(customer)

    # A stored answer keeps nothing personal: where it is said again, that is read from its one home.
    answer = await call.once(work, status=201, conceal=lambda made: {"id": made.id})
    if answer.body is not None:
        made_id = ids.parse("cus", msgspec.json.decode(answer.body)["id"])
        return Answer(content=await _read(call, made_id), status=answer.status, headers=answer.headers)
    return answer


@route(
    "POST",
    "/v1/customers/sessions",
    permission=Permission.ACCOUNT,
    body=SignIn,
    answer=CustomerSession,
    status=201,
    codes=("invalid_credentials", "rate_limited", "busy"),
)
async def sign_in(call: Call) -> CustomerSession:
    """Sign a customer in. Ignores Idempotency-Key: each sign-in has tokens of its own."""
    given = await call.read(SignIn)
    done = await signing_in.sign_customer_in(
        call.database, email=given.email, password=given.password, through=call.principal
    )
    return _session(done.tokens, ids.show("cus", done.subject_id))


@route(
    "POST",
    "/v1/customers/sessions/refresh",
    permission=Permission.ACCOUNT,
    body=Refresh,
    answer=CustomerSession,
    codes=("invalid_credentials",),
)
async def refresh_session(call: Call) -> CustomerSession:
    """Exchange a refresh token for the next two. One that comes twice was copied: its session ends."""
    given = await call.read(Refresh)
    return _session(await signing_in.refresh(call.database, refresh_token=given.refresh_token), None)


@route(
    "POST",
    "/v1/customers/password-resets",
    permission=Permission.ACCOUNT,
    body=ResetRequest,
    answer=ResetSent,
    status=202,
    codes=("rate_limited",),
)
async def ask_for_reset(call: Call) -> ResetSent:
    """Send a code to who forgot their password, or never had one. Nobody is told whether there is such a customer."""
    given = await call.read(ResetRequest)
    await signing_in.offer_reset(call.database, email=given.email, secret=call.hub.settings.secret)
    return ResetSent()


@route(
    "POST",
    "/v1/customers/password-resets/confirm",
    permission=Permission.ACCOUNT,
    body=NewPassword,
    answer=CustomerSession,
    status=201,
    codes=("invalid_credentials", "rate_limited", "busy"),
)
async def reset_password(call: Call) -> CustomerSession:
    """Set a password by the code, once; every other sign-in is over."""
    given = await call.read(NewPassword)
    done = await signing_in.reset_password(
        call.database,
        email=given.email,
        code=given.code,
        new=given.password,
        secret=call.hub.settings.secret,
        through=call.principal,
    )
    return _session(done.tokens, ids.show("cus", done.subject_id))


@route(
    "DELETE",
    "/v1/customers/sessions/current",
    permission=Permission.SIGN_OUT,
    answer=SignedOut,
    codes=("not_found",),
)
async def sign_out(call: Call) -> SignedOut:
    """Sign out."""
    return await end_own_session(call)


@route("GET", "/v1/customers/me", permission=Permission.ACCOUNT_READ, answer=CustomerView, codes=("not_found",))
async def get_me(call: Call) -> CustomerView:
    """Who is signed in."""
    return await _read(call, _me(call))


@route(
    "PATCH",
    "/v1/customers/me",
    permission=Permission.ACCOUNT_READ,
    body=CustomerChange,
    answer=CustomerView,
    codes=("invalid_credentials", "not_found", "rate_limited", "busy"),
)
async def change_me(call: Call) -> CustomerView:
    """Change what is known of who is signed in. A new password ends every other session."""
    me = _me(call)
    given = await call.read(CustomerChange)
    if given.password is not None:
        await signing_in.change_password(
            call.database,
            customer_id=me,
            current=given.current_password,
            new=given.password,
            session_id=call.principal.session_id,
        )

    async def work(db: Connection, _: datetime) -> Customer:
        return await customers.change_customer(
            db, customer_id=me, name=given.name, phone=given.phone, locale=given.locale
        )

    return view(await call.transact(work))


@route(
    "GET",
    "/v1/customers",
    permission=Permission.CUSTOMERS_READ,
    query=CustomerSearch,
    answer=Page[CustomerView],
    codes=("invalid_cursor",),
)
async def list_customers(call: Call) -> Page[CustomerView]:
    """The customers with an e-mail address or a phone number: nobody gets the list of all."""
    wanted = call.query(CustomerSearch)
    if wanted.email is None and wanted.phone is None:
        where = FieldError(pointer="?email", detail="Give email or phone.")
        raise Problem("invalid_request", where.detail, errors=[where])
    async with call.database.connection() as db:
        found = await customers.find_customers(db, email=wanted.email, phone=wanted.phone)
    page, next_cursor = cut(found, wanted, id_of=lambda customer: customer.id)
    return Page(data=[view(each) for each in page], next_cursor=next_cursor)


@route("GET", "/v1/customers/{customer_id}", permission=Permission.ACCOUNT_READ, answer=CustomerView)
async def get_customer(call: Call, customer_id: UUID) -> CustomerView:
    """One customer: themselves, or for whoever helps them."""
    see_customer(call, customer_id)
    return await _read(call, customer_id)


def see_customer(call: Call, customer_id: UUID) -> None:
    """Raise ``Problem`` unless the caller is the customer, or may know every customer."""
    if customer_id != call.principal.customer_id and not call.principal.may(Permission.CUSTOMERS_READ):
        raise not_found()


async def end_own_session(call: Call) -> SignedOut:
    """End the sign-in that the caller's token belongs to; a key is no sign-in."""
    session_id = call.principal.session_id
    if session_id is None:
        raise not_found()

    async def work(db: Connection, now: datetime) -> None:
        await auth.end_session(db, session_id=session_id, now=now)

    await call.database.transaction(work)
    return SignedOut()


def view(customer: Customer) -> CustomerView:
    """A customer as they see themselves."""
    return CustomerView(
        id=ids.show("cus", customer.id),
        email=customer.email,
        phone=customer.phone,
        name=customer.name,
        locale=customer.locale,
        created_at=customer.created_at,
    )


def _me(call: Call) -> UUID:
    if call.principal.customer_id is None:
        raise not_found()
    return call.principal.customer_id


async def _read(call: Call, customer_id: UUID) -> CustomerView:
    async with call.database.connection() as db:
        return view(await customers.read_customer(db, customer_id=customer_id))


def _session(tokens: Any, customer_id: str | None) -> CustomerSession:
    return CustomerSession(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_at=tokens.access_ends_at,
        customer_id=customer_id,
    )


ROUTES = (
    create_customer,
    sign_in,
    refresh_session,
    ask_for_reset,
    reset_password,
    sign_out,
    get_me,
    change_me,
    list_customers,
    get_customer,
)
