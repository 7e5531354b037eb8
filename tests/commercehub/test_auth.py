"""Keys are taken from their hash, remembered for five seconds at most, and ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from asyncpg import Connection

from commercehub import auth, ids
from commercehub.auth import VERIFIED_SECONDS, Keyring, NewKey, Role
from commercehub.auth import keyring as keyring_module
from commercehub.database import Database
from tests.client import Channels

SHORT = 0.05


async def _make(database: Database, role: Role = Role.SERVICE, channel: str = "chat", **more: Any) -> NewKey:
    async def work(db: Connection, now: datetime) -> NewKey:
        found = await auth.find_channel(db, kind=channel)
        assert found is not None
        return await auth.create_key(
            db, sales_channel_id=found.id, role=role, location_id=None, created_by="test", now=now, **more
        )

    return await database.transaction(work)


async def _revoke(database: Database, key: NewKey) -> bool:
    async def work(db: Connection, now: datetime) -> bool:
        return await auth.revoke_key(db, key_id=key.id, now=now)

    return await database.transaction(work)


async def test_a_key_stands_for_its_role_and_channel(database: Database) -> None:
    key = await _make(database, Role.STOREFRONT, "app", allowed_origins=frozenset({"https://b", "https://a"}))
    principal = await Keyring(database).verify(key.secret)
    assert principal is not None
    assert (principal.subject_id, principal.role, principal.location_id) == (key.id, Role.STOREFRONT, None)
    assert (principal.sales_channel.kind, principal.sales_channel.currency) == ("app", "USD")
    assert (principal.is_publishable, principal.allowed_origins) == (True, frozenset({"https://a", "https://b"}))
    assert (principal.as_actor().name, principal.as_actor().channel) == (ids.show("key", key.id), "app")


@pytest.mark.parametrize("role", [Role.TILL, Role.SERVICE, Role.FULFILLMENT, Role.ADMIN])
def test_a_key_of_any_other_role_is_secret(role: Role) -> None:
    channel = auth.SalesChannel(
        id=ids.new(),
        kind="store",
        name="x",
        currency="USD",
        locale="en",
        price_list="default",
        tax_included=False,
        tax_country="US",
    )
    principal = auth.Principal(
        subject_id=ids.new(), role=role, location_id=None, sales_channel=channel, allowed_origins=frozenset()
    )
    assert not principal.is_publishable
    assert principal.may(auth.Permission.PUBLIC)


async def test_a_till_without_a_place_is_refused_by_the_database(database: Database) -> None:
    with pytest.raises(Exception, match="a_till_stands_somewhere"):
        await _make(database, Role.TILL, "store")


async def test_what_is_no_key_stands_for_nobody(database: Database, channels: Channels) -> None:
    keyring = Keyring(database)
    for secret in ("", "nothing", "hub_pk_", channels["app"].key + "x", channels["app"].key[:-1], "é", "\x00"):
        assert await keyring.verify(secret) is None


async def test_two_keys_have_nothing_in_common(database: Database) -> None:
    first, second = await _make(database), await _make(database)
    assert len(first.secret) >= len("hub_sk_") + 43
    assert first.secret[7:15] != second.secret[7:15]


def test_no_key_is_remembered_for_longer_than_was_promised() -> None:
    assert VERIFIED_SECONDS <= 5


async def test_a_verified_key_is_not_asked_about_again_for_a_while(database: Database) -> None:
    asked, key = Slow(database, 0), await _make(database)
    keyring = Keyring(asked)  # type: ignore[arg-type]
    assert len({await keyring.verify(key.secret) for _ in range(3)}) == 1
    assert asked.asked == 1


async def test_a_revoked_key_is_out_when_its_memory_ends(database: Database) -> None:
    keyring, key = Keyring(database, verified_seconds=SHORT), await _make(database)
    assert await keyring.verify(key.secret) is not None
    assert await _revoke(database, key)
    await asyncio.sleep(SHORT)
    assert await keyring.verify(key.secret) is None
    assert not await _revoke(database, key)


async def test_what_was_no_key_is_asked_about_again(database: Database) -> None:
    keyring = Keyring(database, verified_seconds=SHORT)
    assert await keyring.verify("a key of tomorrow") is None
    await _make(database, secret="a key of tomorrow")
    await asyncio.sleep(SHORT)
    assert await keyring.verify("a key of tomorrow") is not None


class Slow:
    """A database that takes its time to lend a connection, and counts how often it was asked."""

    clock_offset = timedelta()

    def __init__(self, database: Database, seconds: float) -> None:
        self._database, self._seconds, self.asked = database, seconds, 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        self.asked += 1
        await asyncio.sleep(self._seconds)
        async with self._database.connection() as db:
            yield db


async def test_a_key_is_remembered_from_when_it_was_asked_about(database: Database) -> None:
    slow, key = Slow(database, SHORT), await _make(database)
    keyring = Keyring(slow, verified_seconds=SHORT)  # type: ignore[arg-type]
    for _ in range(2):
        assert await keyring.verify(key.secret) is not None
    assert slow.asked == 2


async def test_a_shifted_clock_ends_keys_by_the_shifted_time(database: Database, database_url: str) -> None:
    shifted = await Database.connect(database_url, pool_size=1, clock_offset_seconds=86_400)
    try:
        key = await _make(shifted)
        assert await Keyring(shifted).verify(key.secret) is not None
        assert await _revoke(shifted, key)
        assert await Keyring(shifted).verify(key.secret) is None
    finally:
        await shifted.close()


async def test_no_more_keys_are_remembered_than_there_is_room_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring_module, "VERIFIED_MAX", 3)
    keyring = Keyring(database)
    for guess in range(6):
        await keyring.verify(f"guess {guess}")
    assert len(keyring._verified) == 3


async def test_a_channel_is_found_by_its_kind(db: Connection) -> None:
    found = await auth.find_channel(db, kind="store")
    assert found is not None
    assert (found.kind, found.name) == ("store", "Stores")
    assert await auth.find_channel(db, kind="pigeon") is None
