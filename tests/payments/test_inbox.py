"""The inbox: an event once, taken by one, brought up again until it is applied."""

import uuid
from datetime import datetime, timedelta

from asyncpg import Connection

from payments import inbox
from payments.inbox import Arrival


def _arrivals(many: int) -> list[Arrival]:
    return [
        Arrival(event_id=f"evt_{uuid.uuid4().hex}", type="payment.x", processor_reference="pay_1", reference="r")
        for _ in range(many)
    ]


async def test_an_event_is_kept_once_by_its_processor(db: Connection, now: datetime) -> None:
    first, second = _arrivals(2)
    assert await inbox.store(db, [first, first], processor_name="sandbox", now=now) == 1
    assert await inbox.store(db, [second, first], processor_name="sandbox", now=now) == 1
    assert await inbox.store(db, [first], processor_name="another", now=now) == 1


async def test_an_event_that_is_taken_is_left_to_whoever_took_it_for_a_while(db: Connection, now: datetime) -> None:
    past = now - timedelta(days=400)
    await inbox.store(db, _arrivals(3), processor_name="sandbox", now=past)
    taken = await inbox.take(db, limit=3, now=past)
    assert len(taken) == 3
    assert await inbox.take(db, limit=3, now=past) == []
    soon = past + inbox.LEASE + timedelta(seconds=1)
    assert {each.id for each in await inbox.take(db, limit=3, now=soon)} == {each.id for each in taken}


async def test_an_event_that_is_applied_or_put_off_does_not_come_up(db: Connection, now: datetime) -> None:
    past = now - timedelta(days=400)
    await inbox.store(db, _arrivals(2), processor_name="sandbox", now=past)
    applied, put_off = await inbox.take(db, limit=2, now=past)
    await inbox.mark_applied(db, letter_ids=[applied.id], now=past)
    await inbox.postpone(db, [(put_off.id, past + timedelta(seconds=6))])
    assert await inbox.take(db, limit=2, now=past + timedelta(seconds=5)) == []
    assert [each.id for each in await inbox.take(db, limit=2, now=past + timedelta(seconds=7))] == [put_off.id]


async def test_only_what_was_applied_is_forgotten(db: Connection, now: datetime) -> None:
    past = now - timedelta(days=400)
    await inbox.store(db, _arrivals(2), processor_name="sandbox", now=past)
    applied, waiting = await inbox.take(db, limit=2, now=past)
    await inbox.mark_applied(db, letter_ids=[applied.id], now=past)
    assert await inbox.forget(db, before=past + timedelta(days=1)) == 1
    later = past + timedelta(hours=1)
    assert [each.id for each in await inbox.take(db, limit=2, now=later)] == [waiting.id]
