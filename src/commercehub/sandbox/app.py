"""The processor's HTTP side: its JSON API, the truth about it, and the payer's page."""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

import msgspec
from litestar import Litestar, Request, Router, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from commercehub.sandbox.asks import (
    CaptureAsk,
    RefundAsk,
    VoidAsk,
    idempotency_key,
    read,
    read_authorization,
    reference_asked,
)
from commercehub.sandbox.books import Books, Claim, KeyReused, Outcome, Payment, Refusal, Status
from commercehub.sandbox.faults import SLOW_SECONDS, falsified, spoiled
from commercehub.sandbox.methods import BEFORE, Fault, Kind, fault_of
from commercehub.sandbox.pages import action_page, truth_page
from commercehub.sandbox.problems import Refused, problem_of, refusal_answer
from commercehub.sandbox.stripe_face import StripeSender
from commercehub.sandbox.stripe_face import router as stripe_router
from commercehub.sandbox.stripe_shelf import Shelf
from commercehub.sandbox.webhooks import Sender

BODY_BYTES_MAX: Final = 64 * 1024
FOUND_PAYMENTS_MAX: Final = 20
TRUTH_PAYMENTS_MAX: Final = 5_000
PAGE_PAYMENTS_MAX: Final = 200

Call: TypeAlias = Request[Any, Any, State]
Act: TypeAlias = Callable[[Claim], Outcome]

_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says; see the package's docstring."""

    database: Path
    api_keys: tuple[str, ...]
    webhook_url: str | None = None
    stripe_webhook_url: str | None = None
    webhook_secrets: tuple[str, ...] = ()
    webhook_copies: int = 1
    webhook_shuffle_seconds: float = 0.0
    public_url: str | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """``ValueError`` names everything that is missing."""
        database = environment.get("HUB_SANDBOX_DATABASE", "")
        api_keys = _listed(environment.get("HUB_SANDBOX_SECRET", ""))
        webhook_url = environment.get("HUB_SANDBOX_WEBHOOK_URL") or None
        webhook_secrets = _listed(environment.get("HUB_SANDBOX_WEBHOOK_SECRET", ""))
        needed = {
            "HUB_SANDBOX_DATABASE": database,
            "HUB_SANDBOX_SECRET": api_keys,
            "HUB_SANDBOX_WEBHOOK_SECRET": webhook_secrets or not webhook_url,
        }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ValueError(f"set {', '.join(missing)}: `pydoc commercehub.sandbox` says what for")
        return cls(
            database=Path(database),
            api_keys=api_keys,
            webhook_url=webhook_url,
            stripe_webhook_url=environment.get("HUB_SANDBOX_STRIPE_WEBHOOK_URL") or None,
            webhook_secrets=webhook_secrets,
            webhook_copies=int(environment.get("HUB_SANDBOX_WEBHOOK_COPIES") or 1),
            webhook_shuffle_seconds=float(environment.get("HUB_SANDBOX_WEBHOOK_SHUFFLE_SECONDS") or 0),
            public_url=environment.get("HUB_SANDBOX_PUBLIC_URL", "").rstrip("/") or None,
        )


class Peer:
    """What the handlers share: the books, who may call, and which keys are being worked on."""

    def __init__(self, settings: Settings) -> None:
        self.books = Books(
            settings.database,
            events=settings.webhook_url is not None,
            event_delay_seconds_max=settings.webhook_shuffle_seconds,
        )
        self.accounts = {_digest(key.encode()): _digest(key.encode())[:16] for key in settings.api_keys}
        self.public_url = settings.public_url
        self.stripe = Shelf(settings.database)
        self.in_flight: dict[tuple[str, str], str] = {}
        self.closing = asyncio.Event()
        self.sender: Sender | None = None
        if settings.webhook_url is not None:
            self.sender = StripeSender(
                self.books,
                url=settings.webhook_url,
                secrets=settings.webhook_secrets,
                copies=settings.webhook_copies,
                shelf=self.stripe,
                stripe_url=settings.stripe_webhook_url,
            )


@post("/payments")
async def authorize(request: Call) -> ASGIApp:
    """Open a payment and hold its amount."""
    key, ask = idempotency_key(request), await read_authorization(request)

    def act(claim: Claim) -> Outcome:
        return _peer(request).books.authorize(
            claim,
            reference=ask.reference,
            amount=ask.amount,
            currency=ask.currency,
            payment_method=ask.payment_method,
            return_url=ask.return_url,
        )

    claim = _claim(request, key, [Kind.AUTHORIZE, ask])
    return await _answer_once(request, claim, act, fault=fault_of(ask.payment_method, Kind.AUTHORIZE), status=201)


@post("/payments/{payment_id:str}/capture")
async def capture(request: Call, payment_id: FromPath[str]) -> ASGIApp:
    """Take some or all of what is held."""
    key, ask = idempotency_key(request), await read(request, CaptureAsk)
    payment, claim = _payment(request, payment_id), _claim(request, key, [Kind.CAPTURE, payment_id, ask])

    def act(claim: Claim) -> Outcome:
        return _peer(request).books.capture(claim, payment_id, amount=ask.amount, final=ask.final)

    return await _answer_once(request, claim, act, fault=fault_of(payment.payment_method, Kind.CAPTURE))


@post("/payments/{payment_id:str}/void")
async def void(request: Call, payment_id: FromPath[str]) -> ASGIApp:
    """Let go of all that is held."""
    key, ask = idempotency_key(request), await read(request, VoidAsk)
    payment, claim = _payment(request, payment_id), _claim(request, key, [Kind.VOID, payment_id, ask])

    def act(claim: Claim) -> Outcome:
        return _peer(request).books.void(claim, payment_id)

    return await _answer_once(request, claim, act, fault=fault_of(payment.payment_method, Kind.VOID))


@post("/payments/{payment_id:str}/refund")
async def refund(request: Call, payment_id: FromPath[str]) -> ASGIApp:
    """Give back some or all of what was taken."""
    key, ask = idempotency_key(request), await read(request, RefundAsk)
    payment, claim = _payment(request, payment_id), _claim(request, key, [Kind.REFUND, payment_id, ask])

    def act(claim: Claim) -> Outcome:
        return _peer(request).books.refund(claim, payment_id, amount=ask.amount)

    return await _answer_once(request, claim, act, fault=fault_of(payment.payment_method, Kind.REFUND))


@get("/payments/{payment_id:str}")
async def retrieve(request: Call, payment_id: FromPath[str]) -> ASGIApp:
    """One payment as it is now."""
    return _json(_document(request, _payment(request, payment_id)))


@get("/payments")
async def find(request: Call) -> ASGIApp:
    """The payments under a reference, oldest first."""
    reference = reference_asked(request)
    if reference is None:
        raise Refused(400, "invalid_request", "say which reference")
    books = _peer(request).books
    found, _ = books.payments(account=request.state.account, reference=reference, limit=FOUND_PAYMENTS_MAX)
    return _json({"object": "list", "data": [_document(request, payment) for payment in found]})


@get("/truth")
async def truth(request: Call) -> ASGIApp:
    """Everything that was really done, for a check of the hub's own books; ``next_after`` where there is more."""
    after = request.query_params.get("after", "0")
    if re.fullmatch(r"[0-9]{1,15}", after, re.ASCII) is None:
        raise Refused(400, "invalid_request", "after is a number out of next_after")
    books, account, reference = _peer(request).books, request.state.account, reference_asked(request)
    payments, next_after = books.payments(
        account=account, reference=reference, after=int(after), limit=TRUTH_PAYMENTS_MAX
    )
    totals = {total.currency: total for total in books.totals(account=account, reference=reference)}
    return _json({"payments": payments, "next_after": next_after, "totals": totals})


@get("/health")
async def health() -> ASGIApp:
    """Whether it is here."""
    return _json({"status": "ok"})


@get("/")
async def home(request: Call) -> ASGIApp:
    """The truth for people."""
    books = _peer(request).books
    return _html(truth_page(books.latest(PAGE_PAYMENTS_MAX), books.totals(account=None)))


@get("/action/{payment_id:str}")
async def ask_payer(request: Call, payment_id: FromPath[str]) -> ASGIApp:
    """The payer's page; who knows the address is the payer."""
    return _html(action_page(_peer(request).books.payment(payment_id)))


@post("/action/{payment_id:str}")
async def take_decision(request: Call, payment_id: FromPath[str]) -> ASGIApp:
    """The payer's answer, and the way back to where the payer came from."""
    decisions: list[str] = []
    with suppress(ValueError):
        decisions = parse_qs((await request.body()).decode("ascii"), max_num_fields=8).get("decision", [])
    if decisions not in (["approve"], ["decline"]):
        raise Refused(400, "invalid_request", "decision is approve or decline")
    payment = _peer(request).books.decide(payment_id, approve=decisions == ["approve"])
    _wake_sender(request)
    location = payment.return_url or f"/action/{payment.id}"
    return ASGIResponse(status_code=303, headers={"Location": location}, media_type="text/plain")


def create_app(settings: Settings | None = None) -> Litestar:
    """The processor over the books that the environment names, or ``settings``."""
    guarded = [authorize, capture, void, refund, retrieve, find, truth]
    api = Router("/v1", route_handlers=guarded, guards=[_authenticated])
    return Litestar(
        route_handlers=[api, stripe_router(_authenticated), health, home, ask_payer, take_decision],
        exception_handlers={Exception: problem_of},
        lifespan=[_lifespan],
        logging_config=None,
        openapi_config=None,
        request_max_body_size=BODY_BYTES_MAX,
        state=State({"peer": Peer(settings or Settings.read(os.environ))}),
    )


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    peer: Peer = app.state.peer
    sending = asyncio.create_task(peer.sender.run()) if peer.sender else None
    try:
        yield
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.wait({sending})
        peer.stripe.close()
        peer.books.close()


def _authenticated(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    scheme, _, secret = connection.headers.get("Authorization", "").partition(" ")
    account = _peer(connection).accounts.get(_digest(secret.encode()))
    if scheme.lower() != "bearer" or account is None:
        detail = "send an API key of this processor as a bearer token"
        raise Refused(401, "unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})
    connection.state.account = account


async def _answer_once(request: Call, claim: Claim, act: Act, *, fault: Fault | None, status: int = 200) -> ASGIApp:
    """Carry out what was asked unless its key was answered before, and then let the fault have the answer."""
    peer = _peer(request)
    answered = peer.books.recall(claim)
    if answered is not None:
        return _answer(request, answered, status=status, replayed=True)
    async with _in_flight(peer, claim):
        if fault is Fault.SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        if fault in BEFORE and peer.books.fault_is_due(claim):
            if fault is Fault.RATE_LIMITED:
                raise Refused(429, "rate_limited", "too many requests", headers={"Retry-After": "1"})
            raise Refused(500, "internal_error", "an error on purpose, before anything was done")
        outcome = act(claim)
    _wake_sender(request)
    if fault is Fault.ERROR_AFTER:
        raise Refused(500, "internal_error", "an error on purpose, after everything was done")
    answer = _answer(request, outcome, status=status, wrong=fault is Fault.WRONG_AMOUNT)
    return spoiled(answer, fault, closing=peer.closing)


@asynccontextmanager
async def _in_flight(peer: Peer, claim: Claim) -> AsyncIterator[None]:
    """Nobody else works on this key meanwhile. Kept in memory only: a kill ends the work and the mark alike."""
    key = (claim.account, claim.key)
    running = peer.in_flight.get(key)
    if running is not None and running != claim.fingerprint:
        raise KeyReused(claim.key)
    if running is not None:
        raise Refused(409, "idempotency_in_progress", "the first request with this key is not finished yet")
    peer.in_flight[key] = claim.fingerprint
    try:
        yield
    finally:
        del peer.in_flight[key]


def _answer(
    request: Call, outcome: Outcome, *, status: int, replayed: bool = False, wrong: bool = False
) -> ASGIResponse:
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    if isinstance(outcome, Refusal):
        return refusal_answer(outcome, instance=request.url.path, headers=headers)
    document = _document(request, outcome)
    return _json(falsified(document) if wrong else document, status=status, headers=headers)


def _document(request: Call, payment: Payment) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(payment)
    document["amount_capturable"] = payment.amount_held
    document["next_action"] = None
    if payment.status is Status.REQUIRES_ACTION:
        base_url = _peer(request).public_url or str(request.base_url).rstrip("/")
        document["next_action"] = {"type": "redirect", "url": f"{base_url}/action/{payment.id}"}
    return document


def _payment(request: Call, payment_id: str) -> Payment:
    return _peer(request).books.payment(payment_id, account=request.state.account)


def _claim(request: Call, key: str, asked: list[object]) -> Claim:
    return Claim(account=request.state.account, key=key, fingerprint=_digest(msgspec.json.encode(asked)))


def _peer(connection: ASGIConnection[Any, Any, Any, Any]) -> Peer:
    peer: Peer = connection.app.state.peer
    return peer


def _wake_sender(request: Call) -> None:
    sender = _peer(request).sender
    if sender is not None:
        sender.wake()


def _json(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> ASGIResponse:
    return ASGIResponse(body=msgspec.json.encode(content), status_code=status, headers=dict(headers or {}))


def _html(page: str) -> ASGIResponse:
    return ASGIResponse(body=page, headers=dict(_PAGE_HEADERS), media_type="text/html")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
