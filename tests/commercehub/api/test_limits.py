"""How much one caller may ask, and what it is told when that was too much."""

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from commercehub.api import limits
from commercehub.api.limits import Limiter
from commercehub.settings import Settings
from tests.client import Channels
from tests.commercehub.api.conftest import serving

BURST = 5


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A hub that takes five requests from a caller, and then one a second."""
    narrowed = msgspec.structs.replace(settings, rate_limit_per_second=1, rate_limit_burst=BURST, pool_size=2)
    async with serving(narrowed) as client:
        yield client


def _as(channels: Channels, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {channels[name].key}"}


async def test_over_the_limit_a_caller_is_told_when_to_come_back(narrow: httpx.AsyncClient, channels: Channels) -> None:
    for left in range(BURST - 1, -1, -1):
        answer = await narrow.get("/v1/locations", headers=_as(channels, "admin"))
        assert (answer.status_code, answer.headers["ratelimit"].startswith(f'"default";r={left};')) == (200, True)
    assert answer.headers["ratelimit-policy"] == '"default";q=5;w=5'
    refused = await narrow.get("/v1/locations", headers=_as(channels, "admin"))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert refused.headers["ratelimit"].startswith('"default";r=0;t=')


async def test_a_caller_does_not_use_up_anothers_share(narrow: httpx.AsyncClient, channels: Channels) -> None:
    for _ in range(BURST + 1):
        await narrow.get("/v1/locations", headers=_as(channels, "admin"))
    for name in ("warehouse", "app", "web"):
        assert (await narrow.get("/v1/locations", headers=_as(channels, name))).status_code == 200


async def test_shoppers_with_the_same_publishable_key_are_told_apart_by_their_address(
    narrow: httpx.AsyncClient, channels: Channels
) -> None:
    for _ in range(BURST + 1):
        await narrow.get("/v1/locations", headers=_as(channels, "app"))
    app = narrow._transport.app  # type: ignore[attr-defined]
    elsewhere = httpx.ASGITransport(app=app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://hub.test") as other:
        assert (await other.get("/v1/locations", headers=_as(channels, "app"))).status_code == 200


async def test_guessing_keys_is_limited_too(narrow: httpx.AsyncClient) -> None:
    statuses = [
        (await narrow.get("/v1/locations", headers={"Authorization": f"Bearer {guess}"})).status_code
        for guess in range(BURST + 2)
    ]
    assert statuses == [401] * BURST + [429] * 2


async def test_what_is_public_is_limited_by_address(narrow: httpx.AsyncClient) -> None:
    statuses = [(await narrow.get("/health/live")).status_code for _ in range(BURST + 1)]
    assert statuses == [200] * BURST + [429]


def test_a_bucket_refills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("commercehub.api.limits.time.monotonic", lambda: now[0])
    limiter = Limiter(per_second=2, burst=2)
    assert [limiter.take("a").granted for _ in range(3)] == [True, True, False]
    now[0] += 0.5
    assert [limiter.take("a").granted for _ in range(2)] == [True, False]
    now[0] += 3_600
    assert [limiter.take("a").granted for _ in range(3)] == [True, True, False]


def test_callers_who_went_away_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUCKETS_MAX", 3)
    limiter = Limiter(per_second=1, burst=1)
    for caller in "abcd":
        limiter.take(caller)
    assert len(limiter._buckets) == 3
    assert limiter.take("d").granted is False
