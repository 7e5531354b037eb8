"""What the hub believes about every processor. An adapter passes all of it, against a processor at the end of a wire."""

import asyncio
import hashlib
import hmac
import signal
import time
from collections import Counter
from typing import Any

import msgspec
import pytest

from payments.processors import (
    BadSignature,
    Declined,
    Operation,
    OperationKind,
    Payment,
    PaymentStatus,
    RequiresAction,
    Succeeded,
    Unknown,
    outcome_of,
)
from tests.payments.processors.bench import WEBHOOK_SECRETS, Bench, free_port

CHARGED_AND_NOT_TOLD = ("answer_lost", "error_after", "garbage", "wrong_amount", "reset")
TROUBLE = (*CHARGED_AND_NOT_TOLD, "error_before")


async def authorized(bench: Bench, method: str = "ok", **facts: Any) -> tuple[Operation, str]:
    operation = bench.operation(method, **facts)
    outcome = await bench.processor.authorize(operation)
    assert isinstance(outcome, Succeeded), outcome
    return operation, outcome.processor_reference


async def captured(bench: Bench, method: str = "ok") -> tuple[Operation, str]:
    operation, payment = await authorized(bench, method)
    outcome = await bench.processor.capture(bench.then(operation, payment, 1000))
    assert isinstance(outcome, Succeeded), outcome
    return operation, payment


async def retrieved(bench: Bench, processor_reference: str) -> Payment:
    payment = await bench.processor.retrieve(processor_reference)
    assert isinstance(payment, Payment), payment
    return payment


async def test_an_authorization_holds_the_amount_and_takes_nothing(bench: Bench) -> None:
    operation = bench.operation("ok", amount_minor=1999, currency="EUR")
    outcome = await bench.processor.authorize(operation)
    assert isinstance(outcome, Succeeded)
    assert (outcome.amount_minor, outcome.currency) == (1999, "EUR")
    payment = await retrieved(bench, outcome.processor_reference)
    assert payment.status is PaymentStatus.AUTHORIZED
    assert (payment.authorized_minor, payment.captured_minor, payment.refunded_minor) == (1999, 0, 0)
    assert (payment.reference, payment.currency) == (operation.reference, "EUR")


async def test_a_capture_takes_what_was_held(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    outcome = await bench.processor.capture(bench.then(operation, payment, 1000))
    assert outcome == Succeeded(processor_reference=payment, amount_minor=1000, currency="USD")
    assert (await retrieved(bench, payment)).status is PaymentStatus.CAPTURED


async def test_a_partial_capture_leaves_the_rest_for_another(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    assert isinstance(await bench.processor.capture(bench.then(operation, payment, 600)), Succeeded)
    assert (await retrieved(bench, payment)).status is PaymentStatus.PARTIALLY_CAPTURED
    assert isinstance(await bench.processor.capture(bench.then(operation, payment, 400)), Succeeded)
    after = await retrieved(bench, payment)
    assert (after.status, after.captured_minor) == (PaymentStatus.CAPTURED, 1000)


async def test_capturing_more_than_is_held_is_declined_and_takes_nothing(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    outcome = await bench.processor.capture(bench.then(operation, payment, 1001))
    assert isinstance(outcome, Declined)
    assert (await retrieved(bench, payment)).captured_minor == 0


async def test_a_void_lets_go_of_all_that_is_held(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    outcome = await bench.processor.void(bench.then(operation, payment, 1000))
    assert outcome == Succeeded(processor_reference=payment, amount_minor=1000, currency="USD")
    assert (await retrieved(bench, payment)).status is PaymentStatus.VOIDED


async def test_a_void_after_a_partial_capture_says_what_it_let_go(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    await bench.processor.capture(bench.then(operation, payment, 600))
    outcome = await bench.processor.void(bench.then(operation, payment, 1000))
    assert outcome == Succeeded(processor_reference=payment, amount_minor=400, currency="USD")
    assert (await retrieved(bench, payment)).captured_minor == 600


async def test_what_was_voided_cannot_be_captured(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    await bench.processor.void(bench.then(operation, payment, 1000))
    assert isinstance(await bench.processor.capture(bench.then(operation, payment, 1000)), Declined)


async def test_what_was_captured_cannot_be_voided(bench: Bench) -> None:
    operation, payment = await captured(bench)
    assert isinstance(await bench.processor.void(bench.then(operation, payment, 1000)), Declined)


async def test_refunds_come_in_parts_up_to_what_was_captured_and_no_further(bench: Bench) -> None:
    operation, payment = await captured(bench)
    for amount in (300, 700):
        assert isinstance(await bench.processor.refund(bench.then(operation, payment, amount)), Succeeded)
    assert isinstance(await bench.processor.refund(bench.then(operation, payment, 1)), Declined)
    assert (await retrieved(bench, payment)).refunded_minor == 1000


async def test_nothing_is_refunded_of_what_was_never_captured(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    assert isinstance(await bench.processor.refund(bench.then(operation, payment, 1)), Declined)


async def test_ten_refunds_at_once_give_back_no_more_than_was_captured(bench: Bench) -> None:
    operation, payment = await captured(bench)
    outcomes = await asyncio.gather(
        *(bench.processor.refund(bench.then(operation, payment, 300)) for _ in range(10)),
    )
    assert Counter(type(outcome) for outcome in outcomes) == {Succeeded: 3, Declined: 7}
    assert (await retrieved(bench, payment)).refunded_minor == 900


async def test_the_same_key_five_times_at_once_is_one_operation(bench: Bench) -> None:
    operation = bench.operation("ok")
    outcomes = await asyncio.gather(*(bench.processor.authorize(operation) for _ in range(5)))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert isinstance(outcomes[0], Succeeded)
    assert len(await bench.truth(operation.reference)) == 1


async def test_the_same_key_twice_captures_and_refunds_once(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    capture, refund = bench.then(operation, payment, 500), bench.then(operation, payment, 200)
    assert await bench.processor.capture(capture) == await bench.processor.capture(capture)
    assert await bench.processor.refund(refund) == await bench.processor.refund(refund)
    after = await retrieved(bench, payment)
    assert (after.captured_minor, after.refunded_minor) == (500, 200)


async def test_a_key_used_for_something_else_is_unknown_and_does_nothing(bench: Bench) -> None:
    operation, _ = await authorized(bench)
    other = msgspec.structs.replace(operation, amount_minor=5)
    assert isinstance(await bench.processor.authorize(other), Unknown)
    assert len(await bench.truth(operation.reference)) == 1


async def test_a_declined_card_leaves_nothing_held(bench: Bench) -> None:
    operation = bench.operation("declined")
    outcome = await bench.processor.authorize(operation)
    assert isinstance(outcome, Declined)
    assert outcome.decline_code == "card_declined"
    payment = await bench.processor.find_by_reference(operation.reference)
    assert isinstance(payment, Payment)
    assert (payment.status, payment.authorized_minor) == (PaymentStatus.DECLINED, 0)


async def test_each_decline_says_why(bench: Bench) -> None:
    outcome = await bench.processor.authorize(bench.operation("insufficient_funds"))
    assert isinstance(outcome, Declined)
    assert outcome.decline_code == "insufficient_funds"


async def test_a_payment_method_that_there_is_not_is_declined(bench: Bench) -> None:
    operation = bench.operation("nonsense")
    outcome = await bench.processor.authorize(operation)
    assert isinstance(outcome, Declined)
    assert outcome.decline_code == "invalid_payment_method"
    assert await bench.processor.find_by_reference(operation.reference) is None


async def test_a_capture_can_be_declined_and_leaves_the_money_held(bench: Bench) -> None:
    operation, payment = await authorized(bench, "capture_declined")
    outcome = await bench.processor.capture(bench.then(operation, payment, 1000))
    assert isinstance(outcome, Declined)
    after = await retrieved(bench, payment)
    assert (after.status, after.captured_minor) == (PaymentStatus.AUTHORIZED, 0)


async def test_the_payer_who_approves_comes_back_with_the_amount_held(bench: Bench) -> None:
    operation = bench.operation("requires_action", return_url="https://shop.example/back?order=1")
    outcome = await bench.processor.authorize(operation)
    assert isinstance(outcome, RequiresAction)
    assert (await retrieved(bench, outcome.processor_reference)).authorized_minor == 0
    redirect = await bench.decide(outcome.url, "approve")
    assert (redirect.status_code, redirect.headers["location"]) == (303, operation.return_url)
    payment = await retrieved(bench, outcome.processor_reference)
    assert isinstance(outcome_of(operation, OperationKind.AUTHORIZE, payment), Succeeded)
    assert payment.authorized_minor == 1000


async def test_the_payer_who_declines_is_a_decline(bench: Bench) -> None:
    operation = bench.operation("requires_action")
    outcome = await bench.processor.authorize(operation)
    assert isinstance(outcome, RequiresAction)
    await bench.decide(outcome.url, "decline")
    payment = await retrieved(bench, outcome.processor_reference)
    assert isinstance(outcome_of(operation, OperationKind.AUTHORIZE, payment), Declined)
    assert payment.status is PaymentStatus.DECLINED


async def test_a_payment_that_waits_for_its_payer_can_be_voided(bench: Bench) -> None:
    operation = bench.operation("requires_action")
    outcome = await bench.processor.authorize(operation)
    assert isinstance(outcome, RequiresAction)
    assert isinstance(
        await bench.processor.void(bench.then(operation, outcome.processor_reference, 1000)),
        Succeeded,
    )
    await bench.decide(outcome.url, "approve")
    assert (await retrieved(bench, outcome.processor_reference)).status is PaymentStatus.VOIDED


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_an_authorization_in_trouble_is_unknown(bench: Bench, trouble: str) -> None:
    assert isinstance(await bench.impatient.authorize(bench.operation(trouble)), Unknown)


@pytest.mark.parametrize("trouble", CHARGED_AND_NOT_TOLD)
async def test_what_was_charged_and_not_told_is_found_by_our_reference_and_our_key(bench: Bench, trouble: str) -> None:
    operation = bench.operation(trouble)
    assert isinstance(await bench.impatient.authorize(operation), Unknown)
    payment = await bench.processor.find_by_reference(operation.reference)
    assert isinstance(payment, Payment)
    assert isinstance(outcome_of(operation, OperationKind.AUTHORIZE, payment), Succeeded)


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_the_same_key_after_trouble_succeeds_and_charges_once(bench: Bench, trouble: str) -> None:
    operation = bench.operation(trouble)
    assert isinstance(await bench.impatient.authorize(operation), Unknown)
    assert isinstance(await bench.processor.authorize(operation), Succeeded)
    assert [payment["amount_authorized"] for payment in await bench.truth(operation.reference)] == [1000]


async def test_after_an_error_before_the_charge_the_processor_knows_of_none(bench: Bench) -> None:
    operation = bench.operation("error_before")
    assert isinstance(await bench.processor.authorize(operation), Unknown)
    assert await bench.processor.find_by_reference(operation.reference) is None


async def test_an_answer_for_another_amount_says_so(bench: Bench) -> None:
    outcome = await bench.processor.authorize(bench.operation("wrong_amount"))
    assert isinstance(outcome, Unknown)
    assert "1000" in outcome.detail
    assert "1001" in outcome.detail


@pytest.mark.parametrize("kind", [OperationKind.CAPTURE, OperationKind.REFUND, OperationKind.VOID])
@pytest.mark.parametrize("trouble", ["answer_lost", "error_before", "error_after", "garbage", "reset"])
async def test_later_operations_in_trouble_are_unknown_and_then_done_once_by_the_same_key(
    bench: Bench, kind: OperationKind, trouble: str
) -> None:
    make = captured if kind is OperationKind.REFUND else authorized
    operation, payment = await make(bench, f"{kind}_{trouble}")
    later = bench.then(operation, payment, 1000)
    assert isinstance(await getattr(bench.impatient, kind)(later), Unknown)
    assert await getattr(bench.processor, kind)(later) == Succeeded(
        processor_reference=payment, amount_minor=1000, currency="USD"
    )
    after = await retrieved(bench, payment)
    assert [one.kind for one in after.operations if one.key == later.key] == [kind]


async def test_too_many_requests_are_asked_again_within_one_call(bench: Bench) -> None:
    operation = bench.operation("rate_limited")
    assert isinstance(await bench.processor.authorize(operation), Succeeded)
    assert len(await bench.truth(operation.reference)) == 1


async def test_a_key_in_flight_is_waited_for(bench: Bench) -> None:
    operation = bench.operation("slow")
    first, second = await asyncio.gather(bench.processor.authorize(operation), bench.processor.authorize(operation))
    assert isinstance(first, Succeeded)
    assert first == second
    assert len(await bench.truth(operation.reference)) == 1


async def test_a_key_in_flight_for_longer_than_we_wait_is_unknown(bench: Bench) -> None:
    operation = bench.operation("slow")
    first = asyncio.create_task(bench.processor.authorize(operation))
    await asyncio.sleep(0.1)
    assert isinstance(await bench.impatient.authorize(operation), Unknown)
    assert isinstance(await first, Succeeded)


async def test_a_payment_that_there_is_not_is_none_and_nothing_can_be_done_with_it(bench: Bench) -> None:
    _, payment = await authorized(bench)
    nobodys = payment.partition("_")[0] + "_" + "0" * 32
    assert await bench.processor.retrieve(nobodys) is None
    operation = bench.then(bench.operation(), nobodys, 1000)
    assert isinstance(await bench.processor.capture(operation), Declined)


async def test_two_payments_under_one_reference_are_for_a_person_to_look_at(bench: Bench) -> None:
    operation, _ = await authorized(bench)
    await authorized(bench, reference=operation.reference)
    assert isinstance(await bench.processor.find_by_reference(operation.reference), Unknown)


async def test_a_processor_that_is_down_is_unknown_and_never_absence(bench: Bench) -> None:
    absent = bench.make(f"http://127.0.0.1:{free_port()}")
    try:
        later = bench.then(bench.operation(), "pay_1", 1000)
        outcomes = [
            await absent.authorize(bench.operation()),
            await absent.capture(later),
            await absent.void(later),
            await absent.refund(later),
            await absent.retrieve("pay_1"),
            await absent.find_by_reference("ref"),
        ]
        assert {type(outcome) for outcome in outcomes} == {Unknown}
    finally:
        await absent.aclose()


@pytest.mark.parametrize(
    "says",
    [
        b'200 OK|{"data": []}',
        b'200 OK|{"data": [], "object": "orders"}',
        b'404 Not Found|{"type": "about:blank", "code": "no_such_payment"}',
        b'402 Payment Required|{"type": "about:blank", "code": "payment_declined"}',
        b"302 Found|",
        b'200 OK|{"object": "list", "data": [], "more": "' + b"x" * 2 * 1024 * 1024 + b'"}',
        b'200 OK|{"deep": ' + b"[" * 100_000,
        b'200 OK|{"object": "\xff"}',
        b"nonsense",
    ],
    ids=["list", "other list", "not found", "pay first", "elsewhere", "endless", "deep", "no UTF-8", "no HTTP"],
)
async def test_a_server_that_is_no_processor_is_unknown_and_never_absence_or_a_decline(
    bench: Bench, says: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status, _, body = says.partition(b"|")
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nLocation: /\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        stranger = bench.make(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            assert isinstance(await stranger.authorize(bench.operation()), Unknown)
            assert isinstance(await stranger.capture(bench.then(bench.operation(), "pay_1", 1)), Unknown)
            assert isinstance(await stranger.retrieve("../pay_1"), Unknown)
            assert isinstance(await stranger.find_by_reference("ref"), Unknown)
        finally:
            await stranger.aclose()


async def test_a_wrong_api_key_is_unknown_and_never_a_decline(bench: Bench) -> None:
    stranger = bench.make(bench.peer.url, api_key="sk_wrong")
    try:
        assert isinstance(await stranger.authorize(bench.operation()), Unknown)
        assert isinstance(await stranger.find_by_reference("ref"), Unknown)
    finally:
        await stranger.aclose()


async def test_two_hundred_authorizations_at_once_all_succeed(bench: Bench) -> None:
    operations = [bench.operation("ok") for _ in range(200)]
    outcomes = await asyncio.gather(*(bench.processor.authorize(operation) for operation in operations))
    assert Counter(type(outcome) for outcome in outcomes) == {Succeeded: 200}
    assert len({outcome.processor_reference for outcome in outcomes if isinstance(outcome, Succeeded)}) == 200


async def test_everything_is_still_there_after_a_kill_and_the_same_key_is_still_one_charge(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    lost = bench.operation("answer_lost")
    assert isinstance(await bench.impatient.authorize(lost), Unknown)
    bench.peer.end(signal.SIGKILL)
    assert isinstance(await bench.processor.authorize(operation), Unknown)
    bench.peer.start()
    assert (await retrieved(bench, payment)).authorized_minor == 1000
    assert await bench.processor.authorize(operation) == Succeeded(
        processor_reference=payment, amount_minor=1000, currency="USD"
    )
    assert isinstance(await bench.processor.authorize(lost), Succeeded)
    assert len(await bench.truth(operation.reference)) == 1
    assert len(await bench.truth(lost.reference)) == 1


async def test_killed_with_forty_at_work_each_key_is_one_charge_in_the_end(bench: Bench) -> None:
    operations = [bench.operation("ok") for _ in range(40)]
    for pause_seconds in (0.01, 0.05):
        working = asyncio.gather(*(bench.processor.authorize(operation) for operation in operations))
        await asyncio.sleep(pause_seconds)
        bench.peer.end(signal.SIGKILL)
        assert {type(outcome) for outcome in await working} <= {Succeeded, Unknown}
        bench.peer.start()
    outcomes = await asyncio.gather(*(bench.processor.authorize(operation) for operation in operations))
    assert {type(outcome) for outcome in outcomes} == {Succeeded}
    for operation in operations:
        assert [payment["amount_authorized"] for payment in await bench.truth(operation.reference)] == [1000]


async def test_a_webhook_tells_which_payment_to_read_again(bench: Bench) -> None:
    operation, payment = await authorized(bench)
    hook = await bench.inbox.first(lambda hook: operation.reference.encode() in hook.raw)
    (fact,) = bench.processor.parse_webhook(hook.raw, hook.headers)
    assert (fact.processor_reference, fact.reference) == (payment, operation.reference)
    assert fact.event_id


async def test_a_webhook_that_was_refused_comes_again_as_the_same_event(bench: Bench) -> None:
    bench.inbox.refuse_next = 1
    operation, _ = await authorized(bench)
    hook = await bench.inbox.first(lambda hook: operation.reference.encode() in hook.raw)
    refused = next(one for one in bench.inbox.refused if operation.reference.encode() in one.raw)
    first, again = (bench.processor.parse_webhook(one.raw, one.headers) for one in (refused, hook))
    assert first == again


def signed(bench: Bench, raw: bytes, *, secret: str = WEBHOOK_SECRETS[0], at: float | None = None) -> dict[str, str]:
    signed_at = int(time.time() if at is None else at)
    proof = hmac.new(secret.encode(), f"{signed_at}.".encode() + raw, hashlib.sha256).hexdigest()
    return {bench.signature_header: f"t={signed_at},v1={proof}"}


@pytest.fixture
async def event(bench: Bench) -> bytes:
    operation, _ = await authorized(bench)
    hook = await bench.inbox.first(lambda hook: operation.reference.encode() in hook.raw)
    return hook.raw


async def test_either_of_two_live_secrets_opens_a_webhook(bench: Bench, event: bytes) -> None:
    for secret in (WEBHOOK_SECRETS[0], "whsec_unused"):
        assert len(bench.processor.parse_webhook(event, signed(bench, event, secret=secret))) == 1


async def test_a_webhook_signed_with_a_retired_secret_is_refused(bench: Bench, event: bytes) -> None:
    with pytest.raises(BadSignature):
        bench.processor.parse_webhook(event, signed(bench, event, secret=WEBHOOK_SECRETS[1]))


async def test_a_webhook_that_was_changed_after_signing_is_refused(bench: Bench, event: bytes) -> None:
    with pytest.raises(BadSignature):
        bench.processor.parse_webhook(event + b" ", signed(bench, event))


@pytest.mark.parametrize("seconds", [-301, 301])
async def test_a_webhook_out_of_time_is_refused(bench: Bench, event: bytes, seconds: int) -> None:
    with pytest.raises(BadSignature):
        bench.processor.parse_webhook(event, signed(bench, event, at=time.time() + seconds))


@pytest.mark.parametrize(
    "header", ["", "t=,v1=", "t=99999999999999999999,v1=0", "v1=" + "0" * 64, "t=1,v1=é", "t=NaN,v1=" + "f" * 64]
)
async def test_a_webhook_without_a_proper_signature_is_refused(bench: Bench, event: bytes, header: str) -> None:
    with pytest.raises(BadSignature):
        bench.processor.parse_webhook(event, {bench.signature_header.lower(): header})


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b"{}", b'{"id": "\\ud800"}', b'{"id": "\xff"}', b'{"x":' + b"[" * 10_000]
)
async def test_a_signed_webhook_that_is_no_event_is_refused(bench: Bench, raw: bytes) -> None:
    with pytest.raises(BadSignature):
        bench.processor.parse_webhook(raw, signed(bench, raw))


async def test_an_adapter_without_secrets_believes_no_webhook(bench: Bench, event: bytes) -> None:
    trusting = bench.make(bench.peer.url, webhook_secrets=())
    try:
        with pytest.raises(BadSignature):
            trusting.parse_webhook(event, signed(bench, event, secret=""))
    finally:
        await trusting.aclose()


async def test_asking_for_nothing_or_without_a_key_is_our_mistake_and_never_sent(bench: Bench) -> None:
    for facts in ({"amount_minor": 0}, {"amount_minor": -1}, {"amount_minor": 2**53}, {"key": ""}, {"key": "é"}):
        with pytest.raises(ValueError, match="operation"):
            bench.operation(**facts)
    with pytest.raises(ValueError, match="payment method"):
        await bench.processor.authorize(bench.operation(payment_method=None))
    with pytest.raises(ValueError, match="does not name the payment"):
        await bench.processor.capture(bench.operation())
