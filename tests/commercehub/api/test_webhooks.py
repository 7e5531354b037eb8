"""What a processor sends: signed by it, kept once, answered at once."""

import time

import httpx
import pytest

from commercehub.api.webhooks import WEBHOOK_BYTES_MAX
from commercehub.database import Database
from commercehub.settings import Settings
from tests.serving import event_of, signed

PATH = "/v1/webhooks/sandbox"
PAYMENT = {
    "object": "payment",
    "id": "pay_0123456789abcdef0123456789abcdef",
    "reference": "an order of another shop",
    "status": "authorized",
    "currency": "USD",
    "amount_authorized": 100,
    "amount_captured": 0,
    "amount_refunded": 0,
    "operations": [],
}

COUNT = "SELECT count(*) FROM payments.inbox WHERE processor = 'sandbox' AND event_id = $1"


@pytest.fixture
def secret(settings: Settings) -> str:
    return settings.sandbox_webhook_secret or ""


async def test_a_signed_event_is_kept_once_however_often_it_comes(
    api: httpx.AsyncClient, secret: str, database: Database
) -> None:
    body = event_of(PAYMENT, event_id="evt_kept_once")
    answers = [await api.post(PATH, content=body, headers=signed(body, secret)) for _ in range(3)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"new": 1}),
        (200, {"new": 0}),
        (200, {"new": 0}),
    ]
    async with database.connection() as db:
        assert await db.fetchval(COUNT, "evt_kept_once") == 1


@pytest.mark.parametrize("what", ["no signature", "another secret", "another body", "long ago", "no event"])
async def test_what_is_not_signed_by_the_processor_is_refused_and_not_kept(
    what: str, api: httpx.AsyncClient, secret: str, database: Database
) -> None:
    event_id = f"evt_{what.replace(' ', '_')}"
    body = event_of(PAYMENT, event_id=event_id)
    headers = signed(body, secret)
    match what:
        case "no signature":
            headers = {"Content-Type": "application/json"}
        case "another secret":
            headers = signed(body, "a secret that we do not share")
        case "another body":
            body += b" "
        case "long ago":
            headers = signed(body, secret, signed_at=int(time.time()) - 3_600)
        case "no event":
            body = b'{"id": "evt_no_event"}'
            headers = signed(body, secret)
    answer = await api.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_signature")
    async with database.connection() as db:
        assert await db.fetchval(COUNT, event_id) == 0


async def test_a_processor_that_we_do_not_have_is_not_found(api: httpx.AsyncClient, secret: str) -> None:
    body = event_of(PAYMENT)
    answer = await api.post("/v1/webhooks/paypal", content=body, headers=signed(body, secret))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_no_more_is_read_than_an_event_can_have(api: httpx.AsyncClient, secret: str) -> None:
    body = b" " * (WEBHOOK_BYTES_MAX + 1)
    answer = await api.post(PATH, content=body, headers=signed(body, secret))
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
