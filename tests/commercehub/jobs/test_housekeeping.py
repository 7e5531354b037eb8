"""What nobody waits for."""

import uuid
from datetime import timedelta
from typing import Any

from commercehub import idempotency
from commercehub.database import Database
from commercehub.idempotency import Claim, Stored
from commercehub.jobs import housekeeping
from commercehub.workflows.parts import Hub

KEPT = timedelta(days=idempotency.KEPT_DAYS)
ANSWER = Stored(201, "{}")

KEYS_OF = "SELECT key FROM commercehub.idempotency_keys WHERE scope = $1 ORDER BY key"


async def test_answers_are_forgotten_after_seven_days_and_not_before(hub: Hub) -> None:
    scope = str(uuid.uuid4())
    await _keep(hub.database, scope, {"old": KEPT + timedelta(minutes=1), "young": KEPT - timedelta(minutes=1)})
    await housekeeping.forget_answers(hub)
    assert await _keys(hub.database, scope) == ["young"]


async def test_a_key_whose_work_is_still_under_way_is_not_forgotten(hub: Hub) -> None:
    scope = str(uuid.uuid4())
    await _keep(hub.database, scope, {"under way": KEPT * 2}, answer=None)
    await housekeeping.forget_answers(hub)
    assert await _keys(hub.database, scope) == ["under way"]
    # It is of nothing: nobody who verifies the books shall come across it.
    async with hub.database.connection() as db:
        await db.execute("DELETE FROM commercehub.idempotency_keys WHERE scope = $1", scope)


async def test_more_answers_than_a_batch_are_all_forgotten(hub: Hub) -> None:
    scope = str(uuid.uuid4())
    await _keep(hub.database, scope, {f"{i:05}": KEPT * 2 for i in range(idempotency.PURGE_BATCH + 1)})
    await housekeeping.forget_answers(hub)
    assert await _keys(hub.database, scope) == []


async def _keep(database: Database, scope: str, ages: dict[str, timedelta], *, answer: Stored | None = ANSWER) -> None:
    async def keep(db: Any, now: Any) -> None:
        for age in set(ages.values()):
            claims = [Claim(scope=scope, key=key, request_hash=b"") for key in ages if ages[key] == age]
            answers = [(claim, answer, None if answer else uuid.uuid4()) for claim in claims]
            await idempotency.keep(db, answers, now=now - age)

    await database.transaction(keep)


async def _keys(database: Database, scope: str) -> list[str]:
    async with database.connection() as db:
        return [row["key"] for row in await db.fetch(KEYS_OF, scope)]
