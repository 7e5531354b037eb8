"""What only Stripe's adapter has to get right: every way in which Stripe says no, and what it forgets after a day."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import msgspec
import pytest
import stripe
from stripe.params import PaymentIntentCaptureParams, PaymentIntentCreateParams, RefundCreateParams

from payments.processors import (
    Declined,
    Operation,
    OperationKind,
    Outcome,
    Payment,
    PaymentStatus,
    RecordedStatus,
    RequiresAction,
    Succeeded,
    Unknown,
)
from payments.processors.stripe import API_VERSION, Stripe
from payments.processors.stripe_records import Intent, Refund, capture_mark, translate, void_mark
from tests.payments.processors.bench import API_KEY, Peer

SECRET = "whsec_of_the_test"


def operation(**facts: Any) -> Operation:
    usual = {"key": "key-1", "reference": "ref-1", "amount_minor": 1000, "currency": "USD", "payment_method": "pm_ok"}
    return Operation(**{"id": uuid4(), **usual, **facts})


def later(**facts: Any) -> Operation:
    return operation(**{"key": "key-2", "processor_reference": "pi_1", "payment_method": None, **facts})


def intent(**facts: Any) -> dict[str, Any]:
    usual = {
        "object": "payment_intent",
        "id": "pi_1",
        "status": "requires_capture",
        "amount": 1000,
        "amount_received": 0,
        "currency": "usd",
        "metadata": {"hub_reference": "ref-1", "hub_key": "key-1"},
    }
    return {**usual, **facts}


def marked(*marks: dict[str, str], **facts: Any) -> dict[str, Any]:
    metadata = {"hub_reference": "ref-1", "hub_key": "key-1"}
    for mark in marks:
        metadata.update(mark)
    return intent(metadata=metadata, **facts)


def refund(**facts: Any) -> dict[str, Any]:
    usual = {
        "object": "refund",
        "id": "re_1",
        "amount": 300,
        "currency": "usd",
        "status": "succeeded",
        "payment_intent": "pi_1",
        "balance_transaction": "txn_1",
        "metadata": {"hub_reference": "ref-1", "hub_key": "key-2"},
    }
    return {**usual, **facts}


def rows(*data: dict[str, Any], kind: str = "list") -> dict[str, Any]:
    return {"object": kind, "data": list(data), "has_more": False, "url": "/v1/x"}


def error(**facts: Any) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "message": "no", **facts}}


@dataclass
class Script:
    """A server that says what it is told to, by method and path, and keeps what it was asked."""

    says: Callable[[str, str], tuple[int, Any]]
    asked: list[tuple[str, str, dict[str, str], dict[str, list[str]]]] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
        self.asked.append((method, path, headers, parse_qs(body)))
        status, said = self.says(method, path.partition("?")[0])
        content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        writer.write(content)
        writer.close()

    @property
    def writes(self) -> list[str]:
        return [path for method, path, _, _ in self.asked if method == "POST"]


@asynccontextmanager
async def talking_to(says: Callable[[str, str], tuple[int, Any]], **facts: Any) -> AsyncIterator[tuple[Stripe, Script]]:
    script = Script(says)
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        usual = {"api_key": "sk_secret", "base_url": url, "return_url": "https://shop.example/back"}
        adapter = Stripe(**{**usual, "webhook_secrets": (SECRET,), **facts})
        try:
            yield adapter, script
        finally:
            await adapter.aclose()


async def authorized_against(status: int, said: Any) -> Outcome:
    async with talking_to(lambda *_: (status, said), call_seconds_max=0.5) as (adapter, _):
        return await adapter.authorize(operation())


async def test_a_decline_has_the_banks_own_word_and_the_payment_it_is_about() -> None:
    said = error(
        type="card_error", code="card_declined", decline_code="insufficient_funds", payment_intent={"id": "pi_9"}
    )
    outcome = await authorized_against(402, said)
    assert outcome == Declined(decline_code="insufficient_funds", processor_reference="pi_9")


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (402, error(type="card_error", code="card_declined", decline_code="generic_decline"), "card_declined"),
        (402, error(type="card_error", code="expired_card"), "expired_card"),
        (400, error(code="amount_too_small", param="amount"), "amount_too_small"),
        (400, error(param="currency"), "invalid_request"),
        (400, error(code="resource_missing", param="payment_method"), "invalid_payment_method"),
    ],
)
async def test_what_stripe_refuses_is_declined(status: int, said: Any, code: str) -> None:
    outcome = await authorized_against(status, said)
    assert isinstance(outcome, Declined)
    assert outcome.decline_code == code


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, error(type="idempotency_error")),
        (400, error(code="rate_limit")),
        (400, error(code="resource_missing", message="No such thing; a similar object exists in live mode")),
        (400, {"error": "invalid_grant"}),
        (400, {"error": {"type": "invalid_request_error", "payment_intent": 7}}),
        (401, error(message="Invalid API Key provided: sk_secret")),
        (402, error(type="api_error")),
        (403, error(code="more_permissions_required")),
        (409, error(type="idempotency_error", code="idempotency_key_in_use")),
        (409, error(code="lock_timeout")),
        (429, error(code="rate_limit")),
        (500, error(type="api_error")),
        (502, "<html>bad gateway</html>"),
        (200, "null"),
        (200, "[]"),
        (200, intent(id=None)),
        (200, intent(amount=-1)),
        (200, intent(status="brand_new")),
        (200, intent(metadata={})),
        (200, intent(amount=1001)),
        (200, intent(currency="eur")),
    ],
)
async def test_whatever_may_have_been_done_is_unknown_and_tells_no_secret(status: int, said: Any) -> None:
    outcome = await authorized_against(status, said)
    assert isinstance(outcome, Unknown)
    assert "sk_secret" not in outcome.detail


async def test_a_key_of_the_other_mode_proves_no_absence() -> None:
    said = error(code="resource_missing", param="intent", message="a similar object exists in test mode")
    async with talking_to(lambda *_: (404, said)) as (adapter, _):
        assert isinstance(await adapter.retrieve("pi_1"), Unknown)
        assert isinstance(await adapter.capture(later()), Unknown)


async def test_a_request_carries_our_key_and_the_version_we_were_written_for() -> None:
    async with talking_to(lambda *_: (200, intent()), many_captures=True) as (adapter, script):
        await adapter.authorize(operation())
        await adapter.authorize(operation())
    _, path, headers, form = script.asked[1]
    assert (path, headers["idempotency-key"]) == ("/v1/payment_intents", "key-1")
    assert headers["stripe-version"] == API_VERSION == stripe.api_version
    assert "x-stripe-client-telemetry" not in headers
    assert (form["capture_method"], form["confirm"], form["amount"]) == (["manual"], ["true"], ["1000"])
    assert form["return_url"] == ["https://shop.example/back"]
    assert form["metadata[hub_reference]"] == ["ref-1"]
    assert {name.partition("[")[0] for name in form} <= PaymentIntentCreateParams.__annotations__.keys() | {
        "payment_method",
        "confirm",
        "currency",
        "amount",
    }


async def test_an_amount_goes_in_the_units_that_stripe_counts_in() -> None:
    async with talking_to(lambda *_: (200, intent(amount=50_000, currency="isk"))) as (adapter, script):
        outcome = await adapter.authorize(operation(amount_minor=500, currency="ISK"))
        assert outcome == Succeeded(processor_reference="pi_1", amount_minor=500, currency="ISK")
        assert script.asked[0][3]["amount"] == ["50000"]
        assert await adapter.authorize(operation(currency="MGA")) == Declined(decline_code="currency_not_supported")
        assert len(script.asked) == 1


async def test_a_capture_that_was_done_is_found_and_not_asked_for_again() -> None:
    done = marked(capture_mark(later()), status="succeeded", amount_received=1000)
    async with talking_to(lambda *_: (200, done)) as (adapter, script):
        outcome = await adapter.capture(later())
        assert outcome == Succeeded(processor_reference="pi_1", amount_minor=1000, currency="USD")
        assert isinstance(await adapter.capture(later(amount_minor=500)), Unknown)
    assert script.writes == []


async def test_a_capture_that_shows_more_than_we_know_of_is_unknown() -> None:
    answers = {"GET": intent(), "POST": marked(capture_mark(later()), status="succeeded", amount_received=1001)}
    async with talking_to(lambda method, _: (200, answers[method])) as (adapter, script):
        assert isinstance(await adapter.capture(later()), Unknown)
    (form,) = [form for method, _, _, form in script.asked if method == "POST"]
    assert {name.partition("[")[0] for name in form} <= PaymentIntentCaptureParams.__annotations__.keys()


async def test_a_refund_that_was_given_is_found_and_not_given_again() -> None:
    async with talking_to(lambda *_: (200, rows(refund(id="re_2", metadata=None), refund()))) as (adapter, script):
        outcome = await adapter.refund(later(amount_minor=300))
        assert outcome == Succeeded(processor_reference="pi_1", amount_minor=300, currency="USD")
    assert script.writes == []


async def test_a_refund_that_is_not_through_yet_is_pending_and_one_that_failed_is_declined() -> None:
    for status, facts in (("pending", "Pending"), ("requires_action", "Pending"), ("failed", "Declined")):
        given = refund(status=status, failure_reason="lost_or_stolen_card" if status == "failed" else None)
        answers = {"GET": rows(), "POST": given}

        def says(method: str, _: str, answers: dict[str, Any] = answers) -> tuple[int, Any]:
            return 200, answers[method]

        async with talking_to(says) as (adapter, script):
            outcome = await adapter.refund(later(amount_minor=300))
        assert type(outcome).__name__ == facts
        assert {name.partition("[")[0] for name in script.asked[-1][3]} <= RefundCreateParams.__annotations__.keys()


async def test_a_void_is_marked_before_it_is_asked_for() -> None:
    answers = {"GET": intent(), "POST": intent()}

    def says(method: str, path: str) -> tuple[int, Any]:
        if path.endswith("/cancel"):
            charge = {"object": "charge", "status": "succeeded"}
            return 200, marked(void_mark(later()), status="canceled", latest_charge=charge)
        return 200, answers[method]

    async with talking_to(says) as (adapter, script):
        outcome = await adapter.void(later())
    assert outcome == Succeeded(processor_reference="pi_1", amount_minor=1000, currency="USD")
    assert script.writes == ["/v1/payment_intents/pi_1", "/v1/payment_intents/pi_1/cancel"]
    keys = [headers["idempotency-key"] for method, _, headers, _ in script.asked if method == "POST"]
    assert keys[1] == "key-2"
    assert keys[0] != keys[1]


async def test_what_is_in_the_search_or_in_the_newest_page_is_found() -> None:
    for places in (("search",), ("list",), ("search", "list")):

        def says(method: str, path: str, places: tuple[str, ...] = places) -> tuple[int, Any]:
            match path.removeprefix("/v1/payment_intents"):
                case "/search":
                    return 200, rows(*[intent()] * ("search" in places), kind="search_result")
                case "":
                    return 200, rows(intent(id="pi_0", metadata={}), *[intent()] * ("list" in places))
                case _:
                    return 200, intent()

        async with talking_to(says) as (adapter, _):
            found = await adapter.find_by_reference("ref-1")
        assert isinstance(found, Payment)
        assert found.processor_reference == "pi_1"


def read(document: dict[str, Any], *refunds: dict[str, Any]) -> Payment | Unknown:
    return translate(msgspec.convert(document, Intent), [msgspec.convert(one, Refund) for one in refunds])


def test_what_was_taken_beside_our_captures_has_no_key_of_ours() -> None:
    payment = read(marked(capture_mark(later(amount_minor=400)), status="succeeded", amount_received=1000))
    assert isinstance(payment, Payment)
    captures = [(one.key, one.amount_minor) for one in payment.operations if one.kind is OperationKind.CAPTURE]
    assert captures == [("key-2", 400), (None, 600)]


def test_marks_that_say_more_than_was_taken_are_for_a_person_to_look_at() -> None:
    assert isinstance(read(marked(capture_mark(later()), amount_received=400)), Unknown)


def test_the_rest_that_a_capture_let_go_of_is_no_refund() -> None:
    released = refund(id="re_0", amount=700, balance_transaction=None, metadata={})
    by_hand = refund(id="re_9", amount=100, metadata={})
    payment = read(intent(status="succeeded", amount_received=300), released, by_hand)
    assert isinstance(payment, Payment)
    assert (payment.status, payment.captured_minor, payment.refunded_minor) == (PaymentStatus.CAPTURED, 300, 100)


def test_a_void_mark_means_nothing_while_money_is_held() -> None:
    held = read(marked(void_mark(later())))
    assert isinstance(held, Payment)
    assert [one.kind for one in held.operations] == [OperationKind.AUTHORIZE]


@pytest.mark.parametrize(
    ("facts", "status", "recorded"),
    [
        ({"status": "processing"}, PaymentStatus.PENDING, RecordedStatus.PENDING),
        ({"status": "requires_action"}, PaymentStatus.REQUIRES_ACTION, RecordedStatus.REQUIRES_ACTION),
        ({"status": "requires_payment_method"}, PaymentStatus.DECLINED, RecordedStatus.DECLINED),
        ({"amount_received": 1}, PaymentStatus.PARTIALLY_CAPTURED, RecordedStatus.SUCCEEDED),
        ({"status": "canceled"}, PaymentStatus.VOIDED, RecordedStatus.DECLINED),
        (
            {"status": "canceled", "latest_charge": {"object": "charge", "status": "succeeded"}},
            PaymentStatus.VOIDED,
            RecordedStatus.SUCCEEDED,
        ),
        ({"status": "canceled", "amount_received": 1}, PaymentStatus.CAPTURED, RecordedStatus.SUCCEEDED),
    ],
)
def test_each_status_has_its_place(facts: Any, status: PaymentStatus, recorded: RecordedStatus) -> None:
    payment = read(intent(**facts))
    assert isinstance(payment, Payment)
    assert (payment.status, payment.operations[0].status) == (status, recorded)


def signed(raw: bytes, at: float | None = None) -> dict[str, str]:
    stamp = int(time.time() if at is None else at)
    return {"stripe-signature": stripe.WebhookSignature.generate_signature_header(raw.decode(), SECRET, stamp)}


@pytest.mark.parametrize(
    ("happened", "facts"),
    [
        (intent(), 1),
        ({"object": "charge", "payment_intent": "pi_1", "metadata": {"hub_reference": "ref-1"}}, 1),
        (refund(), 1),
        ({"object": "invoice", "id": "in_1"}, 0),
        (intent(metadata={}), 0),
        ({"object": "charge", "payment_intent": None, "metadata": {"hub_reference": "ref-1"}}, 0),
        ({"object": "payment_intent", "id": 7, "metadata": []}, 0),
    ],
)
async def test_an_event_leads_to_a_payment_of_ours_or_to_none(happened: Any, facts: int) -> None:
    raw = json.dumps({"object": "event", "id": "evt_1", "type": "x.y", "data": {"object": happened}}).encode()
    async with talking_to(lambda *_: (500, "")) as (adapter, _):
        found = adapter.parse_webhook(raw, signed(raw))
    told = [(fact.event_id, fact.processor_reference, fact.reference) for fact in found]
    assert told == [("evt_1", "pi_1", "ref-1")] * facts


@pytest.fixture
async def single(peer: Peer) -> AsyncIterator[Stripe]:
    """An account that may capture once, as most may."""
    adapter = Stripe(api_key=API_KEY, base_url=f"{peer.url}/stripe", return_url="https://shop.example/back")
    yield adapter
    await adapter.aclose()


async def test_where_one_capture_is_all_it_lets_go_of_the_rest(single: Stripe) -> None:
    asked = operation(key=f"key-{uuid4()}", reference=f"ref-{uuid4()}")
    outcome = await single.authorize(asked)
    assert isinstance(outcome, Succeeded)
    assert not single.capabilities.many_captures
    facts = {"reference": asked.reference, "processor_reference": outcome.processor_reference}
    assert isinstance(await single.capture(later(key=f"key-{uuid4()}", amount_minor=600, **facts)), Succeeded)
    payment = await single.retrieve(outcome.processor_reference)
    assert isinstance(payment, Payment)
    assert (payment.status, payment.captured_minor) == (PaymentStatus.CAPTURED, 600)
    assert isinstance(await single.capture(later(key=f"key-{uuid4()}", amount_minor=400, **facts)), Declined)


async def test_a_payer_who_has_to_act_is_sent_to_a_page_even_if_nobody_said_where_to_come_back(single: Stripe) -> None:
    asked = operation(key=f"key-{uuid4()}", reference=f"ref-{uuid4()}", payment_method="pm_requires_action")
    outcome = await single.authorize(asked)
    assert isinstance(outcome, RequiresAction)
    assert outcome.url.startswith("http://")
