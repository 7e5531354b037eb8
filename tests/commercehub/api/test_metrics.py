"""The page that Prometheus reads, as Prometheus reads it."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from asyncpg import Connection
from prometheus_client.parser import text_string_to_metric_families

from commercehub import metrics
from commercehub.app import create_app
from commercehub.settings import Settings
from commercehub.views.vital_signs import read_signs
from tests.client import Channel

TOKEN = "the token of whoever watches"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def serving_here(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A hub with these settings, in this process."""
    app = create_app(settings)
    started, ended = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await ended.wait()

    lifespan = asyncio.create_task(live())
    await started.wait()
    try:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=settings.base_url) as client:
            yield client
    finally:
        ended.set()
        await lifespan


@pytest.fixture(scope="module")
async def measured(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving_here(msgspec.structs.replace(settings, metrics_token=TOKEN)) as client:
        yield client


async def read(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Every number, by its name and the values of its labels."""
    answer = await client.get("/metrics", headers=BEARER)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_without_a_token_in_the_settings_there_is_no_page(api: httpx.AsyncClient) -> None:
    assert (await api.get("/metrics", headers=BEARER)).status_code == 404


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer another"}, {"Authorization": "Bearer "}], ids=str)
async def test_it_opens_for_the_token_alone(header: dict[str, str], measured: httpx.AsyncClient) -> None:
    answer = await measured.get("/metrics", headers=header)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_requests_are_counted_by_route_and_status_and_never_by_path(
    measured: httpx.AsyncClient, app: Channel
) -> None:
    before = await read(measured)
    for _ in range(3):
        assert (await measured.get("/v1/carts/cart_00000000000000000000000000")).status_code == 401
    assert (await measured.get(f"/{uuid.uuid4()}")).status_code == 404
    after = await read(measured)

    def grown(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert grown("hub_requests_total", "GET", "/v1/carts/{cart_id}", "401") == 3
    assert grown("hub_requests_total", "GET", "none", "404") == 1
    assert grown("hub_request_seconds_count", "GET", "/v1/carts/{cart_id}") == 3
    assert not any("cart_0000" in part for key in after for part in key)
    assert after["hub_requests_under_way",] == 1  # the one that asks


async def test_the_signs_of_a_healthy_hub(measured: httpx.AsyncClient) -> None:
    told = await read(measured)
    assert told["hub_database_up",] == 1
    assert told["hub_oversold_positions",] == 0
    assert told["hub_event_lag_seconds",] >= 0
    assert told["hub_payments_unknown",] >= 0
    assert ("hub_event_batches", "late") in told
    assert ("hub_webhooks", "failing") in told
    assert ("hub_payment_operations", "late") in told
    assert told["hub_database_connections", "active"] >= 1
    assert told["hub_database_durable",] == 0  # the suite's own server is not


async def test_what_must_never_be_is_seen_where_it_is(db: Connection) -> None:
    await db.execute("ALTER TABLE inventory.positions DROP CONSTRAINT ck_positions_never_oversold")
    await db.execute("UPDATE inventory.positions SET reserved = on_hand + 1 WHERE sku = 'TEE-S'")
    signs = {sign.name: sign for sign in await read_signs(db)}
    assert signs["hub_oversold_positions"].value > 0


async def test_a_database_that_is_gone_is_a_number_and_no_error(
    measured: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Connection) -> list[metrics.Sign]:
        raise TimeoutError

    monkeypatch.setattr("commercehub.views.vital_signs.read_signs", fail)
    told = await read(measured)
    assert told["hub_database_up",] == 0
    assert told["hub_requests_under_way",] == 1


def test_failed_jobs_and_warnings_are_counted_by_their_names() -> None:
    before = metrics.render().decode()
    event = {"event": "job.failed", "job": "a_job_of_this_test"}
    assert metrics.count_logged(None, "exception", event) is event
    metrics.count_logged(None, "info", {"event": "request"})
    after = metrics.render().decode()
    assert 'hub_job_failures_total{job="a_job_of_this_test"} 1.0' in after
    assert 'job="a_job_of_this_test"' not in before
    assert 'hub_log_events_total{event="job.failed",level="error"}' in after
    assert 'event="request"' not in after


def test_several_processes_count_together_and_the_dead_have_nothing_under_way(tmp_path: Path) -> None:
    code = (
        "from commercehub import metrics; metrics.begin_request(); metrics.begin_request();"
        "metrics.end_request(method='GET', route='/here', status=200, seconds=0.01)"
    )
    environ = {**os.environ, metrics.FOLDER_VARIABLE: str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=environ, check=True)
    show = "import sys; from commercehub import metrics; sys.stdout.buffer.write(metrics.render())"
    page = subprocess.run([sys.executable, "-c", show], env=environ, check=True, capture_output=True, text=True).stdout
    assert 'hub_requests_total{method="GET",route="/here",status="200"} 2.0' in page
    assert "hub_requests_under_way 2" not in page


async def test_a_process_that_drains_is_unready_and_sheds_its_callers(settings: Settings, tmp_path: Path) -> None:
    given = msgspec.structs.replace(settings, run_folder=str(tmp_path))
    async with serving_here(given) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.headers.get("connection")) == (200, None)
        assert given.drain_flag is not None
        given.drain_flag.touch()
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["code"], answer.headers["connection"]) == (503, "busy", "close")
        answer = await client.get("/health/live")  # what is asked is answered still
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_behind_a_trusted_proxy_each_caller_has_a_limit_of_his_own(settings: Settings) -> None:
    given = msgspec.structs.replace(
        settings, trusted_proxies="127.0.0.0/8", rate_limit_per_second=1, rate_limit_burst=1
    )

    async def statuses(client: httpx.AsyncClient, *addresses: str) -> list[int]:
        sent = [{"X-Forwarded-For": address} for address in addresses]
        return [(await client.get("/v1/products", headers=header)).status_code for header in sent]

    async with serving_here(given) as client:
        assert await statuses(client, "203.0.113.1", "203.0.113.2", "203.0.113.1") == [401, 401, 429]
    async with serving_here(msgspec.structs.replace(given, trusted_proxies="10.0.0.0/8")) as client:
        assert await statuses(client, "203.0.113.1", "203.0.113.2") == [401, 429]
