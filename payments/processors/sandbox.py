"""The adapter for the sandbox, a processor that anyone can run: its JSON API over one pooled HTTP client."""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from payments.processors import (
    BadSignature,
    Capabilities,
    Declined,
    Fact,
    Operation,
    OperationKind,
    Outcome,
    Payment,
    PaymentStatus,
    RecordedOperation,
    RecordedStatus,
    Unknown,
    outcome_of,
)

CALL_SECONDS_MAX: Final = 5.0
"""For one call with all its retries: after it the outcome is unknown, and the caller has other work to do."""
CONNECT_SECONDS_MAX: Final = 2.0
CONNECTIONS_MAX: Final = 100
ANSWER_BYTES_MAX: Final = 1024 * 1024
RETRY_PAUSES_SECONDS: Final = (0.2, 0.4, 0.8)
"""Before asking again what the processor refused to look at yet: too many requests, or our own first try running."""
SIGNATURE_SECONDS_MAX: Final = 300
SIGNATURES_MAX: Final = 4
DETAIL_CHARACTERS_MAX: Final = 300

NO_SUCH_PAYMENT: Final = "no_such_payment"

_Amount = Annotated[int, msgspec.Meta(ge=0)]
_Read = TypeVar("_Read")

# Its ways to say that nothing was done and never will be. Whatever is not in here may have been done.
_REFUSALS: Final = frozenset(
    {
        "amount_too_large",
        "card_number_refused",
        "invalid_payment_method",
        "invalid_request",
        "invalid_state",
        NO_SUCH_PAYMENT,
        "too_many_operations",
    }
)
# What msgspec raises for JSON of any kind: bad UTF-8 and brackets without end are no DecodeError.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SIGNED_AT: Final = re.compile(r"t=(\d{1,12})", re.ASCII)
_SIGNED: Final = re.compile(r"v1=([0-9a-f]{64})", re.ASCII)


# The processor's own documents, to which it may add whatever it likes. Each says what it is, because a wrong address
# has its own 404s and empty lists, and "no such payment" out of the wrong mouth would give goods back that were paid.
class _Operation(msgspec.Struct, frozen=True, kw_only=True):
    kind: OperationKind
    status: RecordedStatus
    amount: _Amount
    key: str | None = None
    decline_code: str | None = None


class _NextAction(msgspec.Struct, frozen=True, kw_only=True):
    url: str


class _Payment(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["payment"]
    id: str
    reference: str
    status: PaymentStatus
    currency: str
    amount_authorized: _Amount
    amount_captured: _Amount
    amount_refunded: _Amount
    operations: list[_Operation]
    next_action: _NextAction | None = None


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"]
    data: list[_Payment]


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    type: Annotated[str, msgspec.Meta(pattern="^urn:sandbox:problem:")]
    code: str
    decline_code: str | None = None
    payment_id: str | None = None


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: str
    payment: _Payment


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    body: bytes


class Sandbox:
    """A ``Processor`` at ``base_url``. ``webhook_secrets`` are those in force: two of them while one is replaced."""

    name: Final = "sandbox"
    capabilities: Final = Capabilities(
        partial_capture=True,
        many_captures=True,
        partial_refund=True,
        key_seconds_max=365 * 24 * 3600,  # it forgets a key only with its whole database
        absence_seconds_min=0,  # its look-up reads the very rows that a charge writes
    )

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        webhook_secrets: Sequence[str] = (),
        call_seconds_max: float = CALL_SECONDS_MAX,
    ) -> None:
        self._call_seconds_max = call_seconds_max
        self._webhook_secrets = tuple(secret.encode() for secret in webhook_secrets)
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(call_seconds_max, connect=min(CONNECT_SECONDS_MAX, call_seconds_max)),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            trust_env=False,  # money goes where it is told to, not through whatever proxy the shell has
        )

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def authorize(self, operation: Operation) -> Outcome:
        """Promise the amount to us without taking it."""
        if operation.payment_method is None:
            raise ValueError(f"operation {operation.id} has no payment method to authorize on")
        return await self._ask(
            OperationKind.AUTHORIZE,
            operation,
            "/v1/payments",
            {
                "amount": operation.amount_minor,
                "currency": operation.currency,
                "reference": operation.reference,
                "payment_method": operation.payment_method,
                "return_url": operation.return_url,
                "capture": False,
            },
        )

    async def capture(self, operation: Operation) -> Outcome:
        """Take the amount, or a part of it, that was promised; the rest stays promised."""
        ask = {"amount": operation.amount_minor}
        return await self._ask(OperationKind.CAPTURE, operation, _path(operation, "capture"), ask)

    async def void(self, operation: Operation) -> Outcome:
        """Let go of all that is promised and not taken."""
        return await self._ask(OperationKind.VOID, operation, _path(operation, "void"), {})

    async def refund(self, operation: Operation) -> Outcome:
        """Give back some of what was taken."""
        ask = {"amount": operation.amount_minor}
        return await self._ask(OperationKind.REFUND, operation, _path(operation, "refund"), ask)

    async def retrieve(self, processor_reference: str) -> Payment | Unknown | None:
        """The payment as the processor has it; None where the processor says that it has none."""
        answer = await self._exchange("GET", f"/v1/payments/{quote(processor_reference, safe='')}")
        if isinstance(answer, Unknown):
            return answer
        if answer.status == 404 and _problem_code(answer) == NO_SUCH_PAYMENT:
            return None
        payment = _payment(answer)
        if isinstance(payment, Payment) and payment.processor_reference != processor_reference:
            return Unknown(detail=f"asked about {processor_reference}, told about {payment.processor_reference}")
        return payment

    async def find_by_reference(self, reference: str) -> Payment | Unknown | None:
        """The payment under our own reference; several under one reference are ``Unknown``, for a person to look at."""
        answer = await self._exchange("GET", f"/v1/payments?reference={quote(reference, safe='')}")
        if isinstance(answer, Unknown):
            return answer
        found = _read(answer, _Found)
        if isinstance(found, Unknown):
            return found
        if len(found.data) > 1:
            return Unknown(detail=f"{len(found.data)} payments under reference {reference}")
        if not found.data:
            return None
        payment = _translate(found.data[0])
        if payment.reference != reference:
            return Unknown(detail=f"asked about reference {reference}, told about {payment.reference}")
        return payment

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> list[Fact]:
        """The facts in a webhook, the signature verified over the raw bytes; raises ``BadSignature``."""
        header = next((value for name, value in headers.items() if name.lower() == "sandbox-signature"), "")
        signed_at, signatures = _SIGNED_AT.search(header), _SIGNED.findall(header)[:SIGNATURES_MAX]
        if signed_at is None:
            raise BadSignature("the webhook does not say when it was signed")
        if abs(time.time() - int(signed_at[1])) > SIGNATURE_SECONDS_MAX:
            raise BadSignature("the webhook was signed too long ago, or ahead of time")
        message = signed_at[1].encode() + b"." + raw
        right = [hmac.new(secret, message, hashlib.sha256).hexdigest() for secret in self._webhook_secrets]
        if not any(hmac.compare_digest(one, other) for one in right for other in signatures):
            raise BadSignature("no signature on the webhook is made with a secret of ours")
        try:
            event = msgspec.json.decode(raw, type=_Event)
        except _UNREADABLE as error:
            raise BadSignature(f"signed, and yet no event: {error}") from error
        payment = event.payment
        return [Fact(event_id=event.id, type=event.type, processor_reference=payment.id, reference=payment.reference)]

    async def _ask(self, kind: OperationKind, operation: Operation, path: str, ask: Mapping[str, object]) -> Outcome:
        answer = await self._exchange("POST", path, key=operation.key, content=msgspec.json.encode(ask))
        if isinstance(answer, Unknown):
            return answer
        if answer.status not in {200, 201}:
            return _refusal(answer)
        payment = _payment(answer)
        if isinstance(payment, Unknown):
            return payment
        outcome = outcome_of(operation, kind, payment)
        return outcome or Unknown(detail=f"the answer about {payment.processor_reference} does not show our operation")

    async def _exchange(
        self, method: str, path: str, *, key: str | None = None, content: bytes | None = None
    ) -> _Answer | Unknown:
        """Ask until there is an answer to our question, or the time is up. Never raises for what a peer can do."""
        headers = {} if key is None else {"Idempotency-Key": key, "Content-Type": "application/json"}
        request = self._client.build_request(method, path, headers=headers, content=content)
        try:
            async with asyncio.timeout(self._call_seconds_max):
                for pause_seconds in RETRY_PAUSES_SECONDS:
                    answer = await self._send(request)
                    if not _try_again(answer):
                        return answer
                    await asyncio.sleep(pause_seconds)
                return await self._send(request)
        except TimeoutError:
            return Unknown(detail=f"no answer within {self._call_seconds_max} seconds")
        except httpx.HTTPError as error:
            return _unknown(f"{type(error).__name__}: {error}")

    async def _send(self, request: httpx.Request) -> _Answer | Unknown:
        response = await self._client.send(request, stream=True)
        try:
            body = await _body(response.aiter_bytes())
        finally:
            await response.aclose()
        if body is None:
            return Unknown(detail=f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
        return _Answer(status=response.status_code, body=body)


async def _body(chunks: AsyncIterator[bytes]) -> bytes | None:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            return None
    return bytes(body)


def _path(operation: Operation, verb: str) -> str:
    if not operation.processor_reference:
        raise ValueError(f"operation {operation.id} does not name the payment to {verb}")
    return f"/v1/payments/{quote(operation.processor_reference, safe='')}/{verb}"


def _try_again(answer: _Answer | Unknown) -> bool:
    if isinstance(answer, Unknown):
        return False
    return answer.status == 429 or (answer.status == 409 and _problem_code(answer) == "idempotency_in_progress")


def _problem_code(answer: _Answer) -> str | None:
    problem = _read(answer, _Problem, statuses=frozenset({answer.status}))
    return None if isinstance(problem, Unknown) else problem.code


def _refusal(answer: _Answer) -> Declined | Unknown:
    problem = _read(answer, _Problem, statuses=frozenset({answer.status}))
    if isinstance(problem, Unknown):
        return problem
    if answer.status == 402:
        return Declined(decline_code=problem.decline_code or problem.code, processor_reference=problem.payment_id)
    if 400 <= answer.status < 500 and problem.code in _REFUSALS:
        return Declined(decline_code=problem.code, processor_reference=problem.payment_id)
    return _unknown(f"HTTP {answer.status} {problem.code}")


def _payment(answer: _Answer) -> Payment | Unknown:
    payment = _read(answer, _Payment)
    return payment if isinstance(payment, Unknown) else _translate(payment)


def _read(answer: _Answer, document: type[_Read], statuses: frozenset[int] = frozenset({200, 201})) -> _Read | Unknown:
    if answer.status not in statuses:
        return _unknown(f"HTTP {answer.status}")
    try:
        return msgspec.json.decode(answer.body, type=document)
    except _UNREADABLE as error:
        return _unknown(f"HTTP {answer.status} with an unreadable body: {error}")


def _translate(payment: _Payment) -> Payment:
    url = payment.next_action.url if payment.next_action else None
    return Payment(
        processor_reference=payment.id,
        reference=payment.reference,
        status=payment.status,
        currency=payment.currency,
        authorized_minor=payment.amount_authorized,
        captured_minor=payment.amount_captured,
        refunded_minor=payment.amount_refunded,
        operations=tuple(
            RecordedOperation(
                key=one.key, kind=one.kind, status=one.status, amount_minor=one.amount, decline_code=one.decline_code
            )
            for one in payment.operations
        ),
        action_url=url if url and _is_page(url) else None,
    )


def _is_page(url: str) -> bool:
    """Whether a payer's browser may be sent there: a page, and nothing that a browser would run."""
    try:
        return urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False


def _unknown(detail: str) -> Unknown:
    return Unknown(detail=detail[:DETAIL_CHARACTERS_MAX])
