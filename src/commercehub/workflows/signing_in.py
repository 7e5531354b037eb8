"""Signing in. A password is checked outside any transaction, in threads; what came of it is written down after.

Wrong ones count per login, known or not, and a login that was tried too often is not looked at: see ``auth.attempts``.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import auth
from commercehub.auth import Kind, Person, Principal, Role, Tokens
from commercehub.database import Database
from commercehub.sales import customers, password_resets

Rehash = Callable[[Connection, str], Awaitable[None]]


class WrongCredentials(Exception):
    """Login and secret do not belong together. Which of the two is wrong is told nobody."""


class NotHere(Exception):
    """Somebody works here, but not at this place."""


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """Who signed in, and their tokens."""

    tokens: Tokens
    subject_id: UUID


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """A member of staff at work, at one place or everywhere."""

    tokens: Tokens
    person: Person
    location_id: UUID | None


async def sign_customer_in(database: Database, *, email: str, password: str, through: Principal) -> SignedIn:
    """Open a session for a customer. ``WrongCredentials``, ``TooManyAttempts`` or ``PasswordsBusy`` otherwise."""
    await _check_attempts(database, "customer", email)
    async with database.connection() as db:
        account = await customers.find_account(db, email=email)
    stored = account.password_hash if account else None
    if not await auth.verify_password(password, stored) or account is None or stored is None:
        await _note_attempt(database, "customer", email)
        raise WrongCredentials
    new_hash = await auth.hash_password(password) if auth.needs_rehash(stored) else None

    async def work(db: Connection, now: datetime) -> Tokens:
        await auth.check_attempts(db, kind="customer", subject=email, now=now)
        await auth.forget_attempts(db, kind="customer", subject=email)
        if not await customers.hold_password(db, customer_id=account.customer_id, old_hash=stored):
            raise WrongCredentials
        if new_hash is not None:
            await customers.rehash_password(db, customer_id=account.customer_id, old_hash=stored, new_hash=new_hash)
        return await auth.open_session(
            db, kind=Kind.CUSTOMER, subject_id=account.customer_id, through=through, location_id=None, now=now
        )

    return SignedIn(tokens=await database.transaction(work), subject_id=account.customer_id)


async def sign_staff_in(
    database: Database,
    *,
    login: str,
    password: str | None,
    pin: str | None,
    location_id: UUID | None,
    through: Principal,
) -> Shift:
    """Open a shift by password, or by PIN where the device stands at a place.

    The place is the device's, else the one named, else the only one that the person works at. ``NotHere`` if they do
    not work there; ``WrongCredentials``, ``TooManyAttempts`` or ``PasswordsBusy`` otherwise.
    """
    await _check_attempts(database, "staff", login)
    async with database.connection() as db:
        person = await auth.find_person(db, login=login)
    stored = (person.password_hash if pin is None else person.pin_hash) if person else None
    is_right = await auth.verify_password(password if pin is None else pin, stored)  # type: ignore[arg-type]
    if not is_right or person is None or stored is None:
        await _note_attempt(database, "staff", login)
        raise WrongCredentials
    place = _place(person, location_id, through)
    new_hash = (
        await auth.hash_password(password)
        if password is not None and pin is None and auth.needs_rehash(stored)
        else None
    )

    async def work(db: Connection, now: datetime) -> Tokens:
        await auth.check_attempts(db, kind="staff", subject=login, now=now)
        await auth.forget_attempts(db, kind="staff", subject=login)
        known = await auth.lock_person(db, staff_id=person.id)
        if known is None or stored != (known.password_hash if pin is None else known.pin_hash):
            raise WrongCredentials
        if new_hash is not None:
            await auth.rehash_password(db, staff_id=person.id, old_hash=stored, new_hash=new_hash)
        return await auth.open_session(
            db, kind=Kind.STAFF, subject_id=person.id, through=through, location_id=place, now=now
        )

    return Shift(tokens=await database.transaction(work), person=person, location_id=place)


def _place(person: Person, named: UUID | None, through: Principal) -> UUID | None:
    here = through.location_id or named
    if through.location_id is not None and named not in {None, through.location_id}:
        raise NotHere
    if not person.location_ids:
        return here
    if here is None and len(person.location_ids) == 1:
        return person.location_ids[0]
    if here not in person.location_ids:
        raise NotHere
    return here


async def change_password(
    database: Database, *, customer_id: UUID, current: str | None, new: str, session_id: UUID | None
) -> None:
    """Give a customer another password and end every session but the one it was changed in.

    ``WrongCredentials`` if the current one is not right.
    """
    async with database.connection() as db:
        account = await customers.read_account(db, customer_id=customer_id)
    await _check_attempts(database, "password", str(customer_id))
    stored = account.password_hash
    if not await auth.verify_password(current or "", stored) or stored is None:
        await _note_attempt(database, "password", str(customer_id))
        raise WrongCredentials
    password_hash = await auth.hash_password(new)

    async def work(db: Connection, now: datetime) -> None:
        replaced = await customers.replace_password(
            db, customer_id=customer_id, old_hash=stored, new_hash=password_hash
        )
        if not replaced:
            raise WrongCredentials
        await auth.end_sessions_of(db, subject_id=customer_id, but=session_id, now=now)

    await database.transaction(work)


async def offer_reset(database: Database, *, email: str, secret: str) -> None:
    """Send a code to a customer with which they set a password. Nobody is told whether there is such a customer.

    ``TooManyAttempts`` if it was asked for too often.
    """

    async def work(db: Connection, now: datetime) -> None:
        await auth.note_attempt(db, kind="reset asked", subject=email, now=now)
        account = await customers.find_account(db, email=email)
        if account is not None:
            await password_resets.offer_reset(db, customer_id=account.customer_id, secret=secret, now=now)

    await database.transaction(work)


async def reset_password(
    database: Database, *, email: str, code: str, new: str, secret: str, through: Principal
) -> SignedIn:
    """Set a customer's password by the code that they were sent, end every session, and sign them in.

    ``WrongCredentials``, ``TooManyAttempts`` or ``PasswordsBusy`` otherwise.
    """
    await _check_attempts(database, "reset", email)
    new_hash = await auth.hash_password(new)

    async def work(db: Connection, now: datetime) -> SignedIn | None:
        await auth.check_attempts(db, kind="reset", subject=email, now=now)
        account = await customers.find_account(db, email=email)
        used = account is not None and await password_resets.use_reset(
            db, customer_id=account.customer_id, code=code, secret=secret, now=now
        )
        if account is None or not used:
            # The count has to last, so this transaction is not to be rolled back.
            await auth.note_attempt(db, kind="reset", subject=email, now=now)
            return None
        await customers.set_password(db, customer_id=account.customer_id, new_hash=new_hash)
        await auth.end_sessions_of(db, subject_id=account.customer_id, now=now)
        for kind in ("reset", "reset asked", "customer"):
            await auth.forget_attempts(db, kind=kind, subject=email)
        tokens = await auth.open_session(
            db, kind=Kind.CUSTOMER, subject_id=account.customer_id, through=through, location_id=None, now=now
        )
        return SignedIn(tokens=tokens, subject_id=account.customer_id)

    done = await database.transaction(work)
    if done is None:
        raise WrongCredentials
    return done


async def refresh(database: Database, *, refresh_token: str) -> Tokens:
    """New tokens for a refresh token, which is used up. ``auth.SessionOver`` if it is not one that lives."""

    async def work(db: Connection, now: datetime) -> Tokens | None:
        return await auth.refresh_session(db, refresh_token=refresh_token, now=now)

    tokens = await database.transaction(work)
    if tokens is None:
        # It came a second time: the transaction has ended its session, and is not to be rolled back.
        raise auth.SessionOver
    return tokens


async def pair_device(database: Database, *, code: str, address: str) -> tuple[auth.Device, Tokens] | None:
    """Exchange a pairing code for a device's token; ``None`` if it is wrong, used or old. ``TooManyAttempts`` likewise."""
    await _check_attempts(database, "pairing", address)

    async def work(db: Connection, now: datetime) -> tuple[auth.Device, Tokens] | None:
        device = await auth.pair(db, code=code, now=now)
        if device is None:
            await auth.note_attempt(db, kind="pairing", subject=address, now=now)
            return None
        channel = await auth.find_channel(db, kind="store" if device.role == Role.TILL else "back_office")
        if channel is None:
            return None
        itself = Principal(
            kind=Kind.DEVICE,
            subject_id=device.id,
            role=Role(device.role),
            location_id=device.location_id,
            sales_channel=channel,
            allowed_origins=frozenset(),
        )
        tokens = await auth.open_session(
            db, kind=Kind.DEVICE, subject_id=device.id, through=itself, location_id=device.location_id, now=now
        )
        return device, tokens

    return await database.transaction(work)


async def _check_attempts(database: Database, kind: str, subject: str) -> None:
    async def work(db: Connection, now: datetime) -> None:
        await auth.check_attempts(db, kind=kind, subject=subject, now=now)

    await database.transaction(work)


async def _note_attempt(database: Database, kind: str, subject: str) -> None:
    async def work(db: Connection, now: datetime) -> None:
        await auth.note_attempt(db, kind=kind, subject=subject, now=now)

    await database.transaction(work)
