"""Goods kept for a customer: until when, for which code, and who is looked for when nobody came."""

from datetime import UTC, datetime, timedelta

import pytest

import fulfillment
from commercehub import ids
from fulfillment import Fulfillment, Kind, State, WrongPickupCode
from tests.fulfillment.floor import Floor

SECRET = "a secret of this test"
AUSTIN = "America/Chicago"
CREATE_ANCIENT = "UPDATE fulfillment.fulfillments SET changed_at = $2, collect_by = $3 WHERE id = $1"


async def _ready(floor: Floor, *, collect_by: datetime, since: datetime | None = None) -> Fulfillment:
    given = await floor.work(kind=Kind.PICKUP, state=State.READY)
    await floor.db.execute(CREATE_ANCIENT, given.id, since or collect_by - timedelta(days=7), collect_by)
    return given


def test_a_code_is_the_same_each_time_and_of_one_pickup_alone() -> None:
    one, other = ids.new(), ids.new()
    codes = [fulfillment.pickup_code(SECRET, each) for each in (one, one, other)]
    assert codes[0] == codes[1] != codes[2]
    assert fulfillment.pickup_code("another secret", one) != codes[0]
    assert [len(part) for part in codes[0].split("-")] == [4, 4]


def test_a_code_may_be_written_down_as_people_do() -> None:
    work_id = ids.new()
    kept = fulfillment.hash_of_code(SECRET, work_id, "7K01-M2XD")
    assert {fulfillment.hash_of_code(SECRET, work_id, each) for each in ("7k0i m2xd", "7KOLM2XD", "7K01M2XD")} == {kept}
    assert fulfillment.hash_of_code(SECRET, work_id, "7K01-M2XE") != kept
    assert fulfillment.hash_of_code(SECRET, ids.new(), "7K01-M2XD") != kept


def test_a_code_comes_as_a_picture_too() -> None:
    assert fulfillment.qr_of("7K01-M2XD").startswith("data:image/svg+xml")


@pytest.mark.parametrize(
    ("now", "days", "last"),
    [
        # Late in the evening in London is the same day in Texas, and the small hours are the day before.
        (datetime(2026, 6, 1, 20, tzinfo=UTC), 7, datetime(2026, 6, 9, 4, 59, 59, tzinfo=UTC)),
        (datetime(2026, 6, 1, 3, tzinfo=UTC), 7, datetime(2026, 6, 8, 4, 59, 59, tzinfo=UTC)),
        # The clocks go back in between: the day ends when the clock there says so.
        (datetime(2026, 10, 30, 18, tzinfo=UTC), 3, datetime(2026, 11, 3, 5, 59, 59, tzinfo=UTC)),
    ],
)
def test_goods_are_kept_until_the_end_of_a_day_where_they_are(now: datetime, days: int, last: datetime) -> None:
    assert fulfillment.last_moment(now, timezone=AUSTIN, window_days=days) == last


async def test_only_its_own_code_opens_a_pickup(floor: Floor) -> None:
    one, other = [await floor.work(kind=Kind.PICKUP, state=State.PICKED) for _ in range(2)]
    for work, code_hash in ((one, b"one"), (other, b"other")):
        await fulfillment.keep_for_customer(
            floor.db, fulfillment_id=work.id, code_hash=code_hash, collect_by=floor.now + timedelta(days=7)
        )
    await fulfillment.check_code(floor.db, fulfillment_id=one.id, code_hash=b"one")
    for work_id, code_hash in ((one.id, b"other"), (one.id, b""), (ids.new(), b"one")):
        with pytest.raises(WrongPickupCode):
            await fulfillment.check_code(floor.db, fulfillment_id=work_id, code_hash=code_hash)


async def test_who_has_two_days_left_is_reminded_once(floor: Floor) -> None:
    soon = await _ready(floor, collect_by=floor.now + timedelta(days=1, hours=23))
    await _ready(floor, collect_by=floor.now + timedelta(days=2, hours=1))
    await _ready(floor, collect_by=floor.now - timedelta(hours=1))
    # Told that it is ready an hour ago: there is nothing to remind of.
    await _ready(floor, collect_by=floor.now + timedelta(days=1), since=floor.now - timedelta(hours=1))
    listed = await fulfillment.list_to_remind(floor.db, now=floor.now, after_id=None, limit=1_000)
    assert soon.id in listed
    assert await fulfillment.note_reminded(floor.db, fulfillment_id=soon.id, now=floor.now)
    assert not await fulfillment.note_reminded(floor.db, fulfillment_id=soon.id, now=floor.now)
    assert soon.id not in await fulfillment.list_to_remind(floor.db, now=floor.now, after_id=None, limit=1_000)


async def test_what_nobody_came_for_is_found_page_by_page(floor: Floor) -> None:
    late = sorted([(await _ready(floor, collect_by=floor.now - timedelta(seconds=1))).id for _ in range(3)])
    kept = await _ready(floor, collect_by=floor.now + timedelta(seconds=1))
    found, after_id = [], None
    while page := await fulfillment.list_uncollected(floor.db, now=floor.now, after_id=after_id, limit=2):
        found += page
        after_id = page[-1]
    assert [each for each in found if each in late] == late
    assert kept.id not in found
