"""The adapter for Stripe: PaymentIntents held by hand, by the SDK's asynchronous client under our keys and our clock.

What we write into Stripe's metadata is how an operation is found again: our reference and the key of the
authorization on the PaymentIntent, each capture and each void beside it, and the key of a refund on the refund.
Every later operation looks there before it asks, since Stripe forgets an idempotency key after a day and answers the
same words until then: a capture that was done is never read as refused, and a refund is never given twice.
"""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import httpx
import msgspec
import stripe
from stripe import _util as sdk
from stripe.params import PaymentIntentCaptureParams, PaymentIntentCreateParams, RefundListParams

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
    Unknown,
    outcome_of,
)
from payments.processors.stripe_records import (
    METADATA_ENTRIES_MAX,
    Event,
    Failure,
    Intent,
    ListedPage,
    Problem,
    Refund,
    RefundPage,
    Search,
    Unreadable,
    capture_mark,
    from_event,
    given_back,
    in_stripe_units,
    marks_of_payment,
    read,
    translate,
    void_mark,
)

API_VERSION: Final = "2026-10-28.endive"
API_URL: Final = "https://api.stripe.com"
CALL_SECONDS_MAX: Final = 5.0
"""For one operation with all its questions and retries: after it the outcome is unknown."""
CONNECT_SECONDS_MAX: Final = 2.0
CONNECTIONS_MAX: Final = 100
ANSWER_BYTES_MAX: Final = 1024 * 1024
RETRY_PAUSES_SECONDS: Final = (0.2, 0.4, 0.8)
"""Before asking again what Stripe refused to look at yet: too many requests, or our own first try running."""
SIGNATURE_SECONDS_MAX: Final = 300
PAGE_ROWS_MAX: Final = 100
REFUND_PAGES_MAX: Final = 5
KEY_SECONDS_MAX: Final = 24 * 3600
SEARCH_LAG_SECONDS_MAX: Final = 3600
"""Its search is "less than a minute" behind, and "up to an hour" while they have an outage."""

_VOIDABLE: Final = frozenset(
    {
        PaymentStatus.AUTHORIZED,
        PaymentStatus.PARTIALLY_CAPTURED,
        PaymentStatus.REQUIRES_ACTION,
        PaymentStatus.PENDING,
    }
)
_NO_SUCH: Final = "resource_missing"
_NOT_NOW: Final = "payment_intent_unexpected_state"
# Stripe counts these in whole units only, where ISO 4217 and we have two decimals.
_UNSUPPORTED: Final = frozenset({"MGA"})

_T = TypeVar("_T")
_Answer: TypeAlias = str | stripe.StripeError | Unknown
_Ask: TypeAlias = Callable[[], Awaitable[Any]]

# The SDK would tell Stripe how long our calls take, and print every request for whoever sets its variable.
stripe.enable_telemetry = False
sdk.STRIPE_LOG = None
sdk.logger.disabled = True


class _Client(stripe.HTTPXClient):
    """The SDK's client, which reads no more than an answer can have, and goes through no proxy that the shell names."""

    def __init__(self, seconds_max: float) -> None:
        super().__init__(timeout=httpx.Timeout(seconds_max, connect=min(CONNECT_SECONDS_MAX, seconds_max)))
        self._client_async = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=stripe.ca_bundle_path),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            trust_env=False,
        )

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        body = bytearray()
        named = {**headers, "Accept-Encoding": "identity"}
        try:
            async with self._client_async.stream(
                method, url, headers=named, content=post_data, timeout=self._timeout
            ) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        _too_long()
        except httpx.HTTPError as error:
            self._handle_request_error(error)
        return bytes(body), response.status_code, response.headers


class Stripe:
    """A ``Processor``. ``webhook_secrets`` are those in force: two of them while one is replaced.

    ``many_captures``: whether the account may capture one authorization in parts, which Stripe gives to some accounts
    only. Without it the first capture is the last one, and what it leaves is let go. ``return_url`` is where a payer
    comes back to whom an operation names no address for: without any, Stripe sends nobody to a page.
    """

    name: Final = "stripe"

    def __init__(
        self,
        *,
        api_key: str,
        return_url: str,
        base_url: str = API_URL,
        webhook_secrets: Sequence[str] = (),
        many_captures: bool = False,
        call_seconds_max: float = CALL_SECONDS_MAX,
    ) -> None:
        self.capabilities: Final = Capabilities(
            partial_capture=True,
            many_captures=many_captures,
            partial_refund=True,
            key_seconds_max=KEY_SECONDS_MAX,
            absence_seconds_min=SEARCH_LAG_SECONDS_MAX,
        )
        self._return_url = return_url
        self._webhook_secrets = tuple(webhook_secrets)
        self._call_seconds_max = call_seconds_max
        self._http = _Client(call_seconds_max)
        self._stripe = stripe.StripeClient(
            api_key,
            stripe_version=API_VERSION,
            base_addresses={"api": base_url.rstrip("/")},
            max_network_retries=0,
            http_client=self._http,
        )

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]  # the SDK has no annotations here

    async def authorize(self, operation: Operation) -> Outcome:
        """Promise the amount to us without taking it."""
        if operation.payment_method is None:
            raise ValueError(f"operation {operation.id} has no payment method to authorize on")
        if operation.currency in _UNSUPPORTED:
            return Declined(decline_code="currency_not_supported")
        return await self._within(self._authorize(operation, operation.payment_method))

    async def capture(self, operation: Operation) -> Outcome:
        """Take the amount, or a part of it; what it leaves stays promised where the account has many captures."""
        return await self._within(self._capture(operation, _named(operation, "capture")))

    async def void(self, operation: Operation) -> Outcome:
        """Let go of all that is promised and not taken."""
        return await self._within(self._void(operation, _named(operation, "void")))

    async def refund(self, operation: Operation) -> Outcome:
        """Give back some of what was taken."""
        return await self._within(self._refund(operation, _named(operation, "refund")))

    async def retrieve(self, processor_reference: str) -> Payment | Unknown | None:
        """The payment as Stripe has it; None where Stripe says that it has none."""
        return await self._within(self._retrieve(processor_reference))

    async def find_by_reference(self, reference: str) -> Payment | Unknown | None:
        """The payment under our own reference; several under one reference are ``Unknown``, for a person to look at."""
        return await self._within(self._find(reference))

    def parse_webhook(self, raw: bytes, headers: Mapping[str, str]) -> list[Fact]:
        """The facts in a webhook, the signature verified over the raw bytes; raises ``BadSignature``.

        Stripe tells of everything that happens in an account: what is about no payment of ours has no facts.
        """
        header = next((value for name, value in headers.items() if name.lower() == "stripe-signature"), "")
        if not any(_is_signed(raw, header, secret) for secret in self._webhook_secrets):
            raise BadSignature("no signature on the webhook is of now and made with a secret of ours")
        try:
            event = read(raw, Event)
        except Unreadable as error:
            raise BadSignature(f"signed, and yet no event: {error}") from error
        return from_event(event)

    async def _within(self, work: Coroutine[Any, Any, _T]) -> _T | Unknown:
        try:
            async with asyncio.timeout(self._call_seconds_max):
                return await work
        except TimeoutError:
            return Unknown(detail=f"no answer within {self._call_seconds_max} seconds")

    async def _authorize(self, operation: Operation, payment_method: str) -> Outcome:
        params: PaymentIntentCreateParams = {
            "amount": in_stripe_units(operation.amount_minor, operation.currency),
            "currency": operation.currency.lower(),
            "payment_method": payment_method,
            "allowed_payment_method_types": ["card"],
            "capture_method": "manual",
            "confirm": True,
            "return_url": operation.return_url or self._return_url,
            "metadata": marks_of_payment(operation),
            "expand": ["latest_charge"],
        }
        if self.capabilities.many_captures:
            params["payment_method_options"] = {"card": {"request_multicapture": "if_available"}}
        answer = await self._asked(
            lambda: self._stripe.v1.payment_intents.create_async(params, {"idempotency_key": operation.key})
        )
        return _judged(operation, OperationKind.AUTHORIZE, answer)

    async def _capture(self, operation: Operation, payment: str) -> Outcome:
        intent = await self._intent(payment)
        if not isinstance(intent, Intent):
            return intent or Declined(decline_code=_NO_SUCH)
        done = _found(operation, OperationKind.CAPTURE, intent)
        if done is not None:
            return done
        params: PaymentIntentCaptureParams = {
            "amount_to_capture": in_stripe_units(operation.amount_minor, operation.currency),
            "metadata": capture_mark(operation),
            "expand": ["latest_charge"],
        }
        if intent.has_many_captures:
            params["final_capture"] = False
        answer = await self._asked(
            lambda: self._stripe.v1.payment_intents.capture_async(payment, params, {"idempotency_key": operation.key})
        )
        return _judged(operation, OperationKind.CAPTURE, answer)

    async def _void(self, operation: Operation, payment: str) -> Outcome:
        intent = await self._intent(payment)
        if not isinstance(intent, Intent):
            return intent or Declined(decline_code=_NO_SUCH)
        done = _found(operation, OperationKind.VOID, intent)
        if done is not None:
            return done
        held = translate(intent)
        if isinstance(held, Payment) and held.status not in _VOIDABLE:
            return Declined(decline_code=_NOT_NOW, processor_reference=payment)
        # A cancel takes no metadata, so the mark goes before it. Where there is no room left the cancel goes alone.
        mark = void_mark(operation)
        if not mark.keys() <= intent.metadata.keys() and len(intent.metadata) < METADATA_ENTRIES_MAX:
            marked = await self._asked(
                lambda: self._stripe.v1.payment_intents.update_async(
                    payment, {"metadata": dict(mark)}, {"idempotency_key": f"mark-{_digest(operation.key)}"}
                )
            )
            if not isinstance(marked, str):
                return _refused(marked)
        answer = await self._asked(
            lambda: self._stripe.v1.payment_intents.cancel_async(
                payment, {"expand": ["latest_charge"]}, {"idempotency_key": operation.key}
            )
        )
        return _judged(operation, OperationKind.VOID, answer, more_metadata=mark)

    async def _refund(self, operation: Operation, payment: str) -> Outcome:
        before = await self._refunds(payment)
        if not isinstance(before, list):
            return _refused(before)
        for one in before:
            done = given_back(operation, one)
            if done is not None:
                return done
        answer = await self._asked(
            lambda: self._stripe.v1.refunds.create_async(
                {
                    "payment_intent": payment,
                    "amount": in_stripe_units(operation.amount_minor, operation.currency),
                    "metadata": marks_of_payment(operation),
                },
                {"idempotency_key": operation.key},
            )
        )
        if not isinstance(answer, str):
            return _refused(answer)
        try:
            given = read(answer, Refund)
        except Unreadable as error:
            return Unknown(detail=str(error))
        return given_back(operation, given) or Unknown(
            detail=f"the answer about {given.id} does not show our operation"
        )

    async def _retrieve(self, payment: str) -> Payment | Unknown | None:
        intent = await self._intent(payment)
        if not isinstance(intent, Intent):
            return intent
        if not intent.amount_received:
            return translate(intent)
        refunds = await self._refunds(payment)
        return translate(intent, refunds) if isinstance(refunds, list) else _unknown(refunds)

    async def _find(self, reference: str) -> Payment | Unknown | None:
        quoted = reference.replace("\\", "\\\\").replace('"', '\\"')
        query = f'metadata["hub_reference"]:"{quoted}"'
        # The search has everything, only late; the newest page of the list has nothing but the newest, at once.
        pages = await asyncio.gather(
            self._asked(lambda: self._stripe.v1.payment_intents.search_async({"query": query, "limit": PAGE_ROWS_MAX})),
            self._asked(lambda: self._stripe.v1.payment_intents.list_async({"limit": PAGE_ROWS_MAX})),
        )
        shapes: tuple[type[Search | ListedPage], ...] = (Search, ListedPage)
        ids: set[str] = set()
        for page, shape in zip(pages, shapes, strict=True):
            if not isinstance(page, str):
                return _unknown(page)
            try:
                rows = read(page, shape).data
            except Unreadable as error:
                return Unknown(detail=str(error))
            ids |= {row.id for row in rows if row.metadata.get("hub_reference") == reference}
        if len(ids) > 1:
            return Unknown(detail=f"{len(ids)} payments under reference {reference}")
        return await self._retrieve(ids.pop()) if ids else None

    async def _intent(self, payment: str) -> Intent | Unknown | None:
        answer = await self._asked(
            lambda: self._stripe.v1.payment_intents.retrieve_async(payment, {"expand": ["latest_charge"]})
        )
        if not isinstance(answer, str):
            problem = _problem(answer)
            is_absent = problem is not None and problem.is_absence
            return None if is_absent else _unknown(answer)
        try:
            intent = read(answer, Intent)
        except Unreadable as error:
            return Unknown(detail=str(error))
        if intent.id != payment:
            return Unknown(detail=f"asked about {payment}, told about {intent.id}")
        return intent

    async def _refunds(self, payment: str) -> list[Refund] | stripe.StripeError | Unknown:
        found: list[Refund] = []
        params: RefundListParams = {"payment_intent": payment, "limit": PAGE_ROWS_MAX}
        for _ in range(REFUND_PAGES_MAX):
            answer = await self._asked(lambda: self._stripe.v1.refunds.list_async(params))
            if not isinstance(answer, str):
                return answer
            try:
                page = read(answer, RefundPage)
            except Unreadable as error:
                return Unknown(detail=str(error))
            found += page.data
            if not page.has_more or not page.data:
                return found
            params["starting_after"] = found[-1].id
        return Unknown(detail=f"{payment} has more refunds than we read")

    async def _asked(self, ask: _Ask) -> _Answer:
        """Ask until Stripe has looked at it. What it answered, or why there is no answer; never raises for a peer."""
        for pause_seconds in (*RETRY_PAUSES_SECONDS, None):
            try:
                answer = await ask()
                body: str = answer.last_response.body
            except stripe.StripeError as error:
                if pause_seconds is None or not _is_busy(error):
                    return error
                await asyncio.sleep(pause_seconds)
            except Exception as error:  # noqa: BLE001 - the SDK makes objects of whatever came, and raises what comes of it
                return Unknown(detail=f"an answer that the SDK cannot read: {type(error).__name__}")
            else:
                return body
        raise AssertionError


def _judged(
    operation: Operation, kind: OperationKind, answer: _Answer, *, more_metadata: Mapping[str, str] | None = None
) -> Outcome:
    """What an answer to our question comes to."""
    if not isinstance(answer, str):
        return _refused(answer)
    try:
        intent = read(answer, Intent)
    except Unreadable as error:
        return Unknown(detail=str(error))
    intent = msgspec.structs.replace(intent, metadata={**intent.metadata, **(more_metadata or {})})
    payment = translate(intent)
    if isinstance(payment, Unknown):
        return payment
    if any(one.key is None and one.kind is OperationKind.CAPTURE for one in payment.operations):
        return Unknown(detail=f"{intent.id} has {payment.captured_minor} captured, which is more than we know of")
    outcome = outcome_of(operation, kind, payment)
    return outcome or Unknown(detail=f"the answer about {intent.id} does not show our operation")


def _found(operation: Operation, kind: OperationKind, intent: Intent) -> Outcome | None:
    payment = translate(intent)
    return payment if isinstance(payment, Unknown) else outcome_of(operation, kind, payment)


def _refused(answer: stripe.StripeError | Unknown) -> Declined | Unknown:
    """A no of Stripe's own, after which nothing was done and never will be; anything else is unknown."""
    problem = None if isinstance(answer, Unknown) else _problem(answer)
    if problem is None or not problem.is_final:
        return _unknown(answer)
    payment = problem.payment_intent.id if problem.payment_intent else None
    return Declined(decline_code=problem.reason, processor_reference=payment)


def _problem(error: stripe.StripeError | Unknown) -> Problem | None:
    """What Stripe itself said was wrong with the request, by a card or by us; None for every other trouble."""
    if not isinstance(error, stripe.CardError | stripe.InvalidRequestError):
        return None
    try:
        return read(error.http_body or "", Failure).error
    except Unreadable:
        return None


def _unknown(answer: stripe.StripeError | Unknown) -> Unknown:
    """Without Stripe's own words, which quote what was sent: the kind of error and its request are enough to go on."""
    if isinstance(answer, Unknown):
        return answer
    said = f"{type(answer).__name__}, HTTP {answer.http_status}, code {answer.code}, request {answer.request_id}"
    return Unknown(detail=said)


def _is_busy(error: stripe.StripeError) -> bool:
    return error.http_status in {409, 429}


def _is_signed(raw: bytes, header: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(raw, header, secret, tolerance=SIGNATURE_SECONDS_MAX)
        # The SDK looks for what is too old only; a time to come would be good for as long as one likes.
        signed_at = next(int(part[2:]) for part in header.split(",") if part.startswith("t="))
    except (stripe.SignatureVerificationError, TypeError, ValueError, StopIteration):
        return False
    return signed_at <= time.time() + SIGNATURE_SECONDS_MAX


def _named(operation: Operation, verb: str) -> str:
    if not operation.processor_reference:
        raise ValueError(f"operation {operation.id} does not name the payment to {verb}")
    return operation.processor_reference


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _too_long() -> NoReturn:
    raise stripe.APIError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
