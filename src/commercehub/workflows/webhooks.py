"""What processors tell by themselves: kept at once, and looked into afterwards.

An event says that something happened and is not believed: the payment is read again at its processor, and judged like
any answer. So events may come in any order, any number of times, before our own call has returned, or never.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from asyncpg import Connection
from msgspec.structs import replace

import payments
from commercehub.database import Database
from commercehub.workflows import inquiries, payment_results
from commercehub.workflows.rendering import Render
from payments import inbox
from payments.inbox import Letter
from payments.processors import Fact, Payment, Processor, Unknown

BATCH: Final = 100
PAYMENTS_AT_ONCE: Final = 8

log = structlog.get_logger()


async def take_in(db: Connection, facts: Sequence[Fact], *, processor_name: str, now: datetime) -> int:
    """Keep what a processor told, each event once; returns how many were new."""
    arrivals = [
        inbox.Arrival(
            event_id=fact.event_id,
            type=fact.type,
            processor_reference=fact.processor_reference,
            reference=fact.reference,
        )
        for fact in facts
    ]
    return await inbox.store(db, arrivals, processor_name=processor_name, now=now)


async def apply_due(database: Database, processor_by_name: Mapping[str, Processor], *, render: Render) -> int:
    """Look into the events that wait; returns how many were taken. What cannot be looked into now comes up again."""

    async def take(db: Connection, now: datetime) -> tuple[list[Letter], datetime]:
        return await inbox.take(db, limit=BATCH, now=now), now

    taken, now = await database.transaction(take)
    of_payment: dict[tuple[str, str], list[Letter]] = {}
    for letter in taken:
        of_payment.setdefault((letter.processor, letter.reference), []).append(letter)
    standing = await _read_standing(database, list(of_payment))
    turns = asyncio.Semaphore(PAYMENTS_AT_ONCE)
    applied: list[int] = []
    until: list[tuple[int, datetime]] = []

    async def look_into(payment: tuple[str, str], letters: Sequence[Letter]) -> None:
        found = standing.get(payment)
        letter_ids = [letter.id for letter in letters]
        later = _our_call_until(found)
        if later is not None and later > now:
            until.extend((letter_id, later) for letter_id in letter_ids)
            return
        async with turns:
            try:
                if found is None or await _apply(
                    database, processor_by_name[payment[0]], found, letters[-1], render=render
                ):
                    applied.extend(letter_ids)
            except Exception:
                # One that cannot be looked into must not keep the others; it comes up again in its turn.
                log.exception("webhook.not_applied", intent_id=payment[1])

    async with asyncio.TaskGroup() as group:
        for payment, letters in of_payment.items():
            group.create_task(look_into(payment, letters))

    async def end(db: Connection, now: datetime) -> None:
        await inbox.mark_applied(db, letter_ids=applied, now=now)
        await inbox.postpone(db, until)

    if taken:
        await database.transaction(end)
    return len(taken)


async def _read_standing(
    database: Database, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], payments.Standing]:
    """How the payments stand that were told of. What is not about a payment of ours is missing."""
    by_processor: dict[str, list[UUID]] = {}
    for processor_name, reference in wanted:
        intent_id = _intent_id(reference)
        if intent_id is not None:
            by_processor.setdefault(processor_name, []).append(intent_id)
    found = {}
    async with database.connection() as db:
        for name, intent_ids in by_processor.items():
            rows = await payments.read_standing(db, processor_name=name, intent_ids=intent_ids)
            found.update({(name, str(intent_id)): standing for intent_id, standing in rows.items()})
    return found


def _intent_id(reference: str) -> UUID | None:
    try:
        intent_id = UUID(reference)
    except ValueError:
        return None
    return intent_id if str(intent_id) == reference else None


def _our_call_until(standing: payments.Standing | None) -> datetime | None:
    """Until when the call that made the payment may itself bring the answer: it is left to do so."""
    if standing is None or not standing.operation_ids or standing.begun_at is None:
        return None
    is_asked = standing.state == payments.IntentState.PENDING and standing.processor_reference is None
    return standing.begun_at + inquiries.ANSWER_WITHIN if is_asked else None


async def _apply(
    database: Database,
    processor: Processor,
    standing: payments.Standing,
    letter: Letter,
    *,
    render: Render,
) -> bool:
    """Read the payment at its processor and do what follows. False if the processor does not say."""
    if not standing.operation_ids and standing.state not in payments.GIVEN_UP:
        return True  # whatever it was about is in our books already
    found = await processor.retrieve(letter.processor_reference)
    if isinstance(found, Unknown):
        return False
    if found is None:
        return True
    async with database.connection() as db:
        waiting = await payments.read_open(db, operation_ids=standing.operation_ids)
    for operation in waiting:
        if operation.given_up:
            heard = await inquiries.let_go(processor, operation)
        else:
            heard = inquiries.judge(operation, found)
        if heard.fact.state is not payments.OperationState.UNKNOWN:
            await payment_results.follow(database, processor, operation, heard, render=render)
    if not waiting and standing.state in payments.GIVEN_UP:
        await _look_for_late_money(database, standing, found, render=render)
    return True


async def _look_for_late_money(
    database: Database, standing: payments.Standing, found: Payment, *, render: Render
) -> None:
    """A payment that we gave up may be held at its processor nevertheless: then it is booked and let go of."""
    async with database.connection() as db:
        (intent,) = [
            each
            for each in await payments.read_intents(db, references=[standing.reference])
            if each.id == standing.intent_id
        ]
        operation_id = await payments.read_first_authorization(db, intent_id=intent.id)
    if operation_id is None or intent.processor is None:
        return
    operation = payments.OpenOperation(
        operation_id=operation_id,
        intent_id=intent.id,
        reference=intent.reference,
        kind=payments.Kind.AUTHORIZE,
        amount_minor=intent.amount_minor,
        currency=intent.currency,
        processor=intent.processor,
        processor_reference=None,
        payment_method=None,
        attempts=0,
    )
    heard = inquiries.judge(operation, found)
    if heard.fact.state is not payments.OperationState.SUCCEEDED:
        return

    async def work(db: Connection, now: datetime) -> None:
        fact = replace(heard, fact=replace(heard.fact, operation_id=operation_id))
        await payment_results.finalize(db, fact, order_id=intent.reference, now=now, render=render)

    await database.transaction(work)
