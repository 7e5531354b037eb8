"""The sandbox as Stripe would speak: ``/stripe/v1``, as much of it as an adapter for cards needs.

What moves money is asked of this very processor's own API, with the same key and the same account, and only the words
are changed on the way there and back: so the books, the keys and all the faults are the same for both.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import uuid4

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Guard, Message, Receive, Scope, Send

from commercehub.sandbox import stripe_words as words
from commercehub.sandbox.books import Books, Event
from commercehub.sandbox.problems import Refused, problem_of
from commercehub.sandbox.stripe_shelf import Note, Shelf
from commercehub.sandbox.webhooks import Sender

if TYPE_CHECKING:
    from commercehub.sandbox.app import Peer

SEARCH_LAG_SECONDS: Final = 60
"""Its search is that far behind, as Stripe's own may be."""
PAGE_ROWS_MAX: Final = 100
REFERENCE: Final = "hub_reference"
"""The one name in the metadata that can be searched for here."""

Call: TypeAlias = Request[Any, Any, State]

_CREATES: Final = frozenset(
    {
        "allowed_payment_method_types",
        "amount",
        "capture_method",
        "confirm",
        "currency",
        "expand",
        "metadata",
        "payment_method",
        "payment_method_options",
        "return_url",
    }
)
_CAPTURES: Final = frozenset({"amount_to_capture", "expand", "final_capture", "metadata"})
_CANCELS: Final = frozenset({"cancellation_reason", "expand"})
_UPDATES: Final = frozenset({"expand", "metadata"})
_REFUNDS: Final = frozenset({"amount", "expand", "metadata", "payment_intent", "reason"})
_QUERY: Final = re.compile(r"""metadata\["([a-z_]+)"\]:"((?:[^"\\]|\\.)*)\"""")
# What was refused before it was looked at leaves nothing under its key.
_PASSED_ON: Final = frozenset({"retry-after", "idempotent-replayed"})
_NOT_KEPT: Final = frozenset({400, 401, 404, 413, 415, 429})


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """What the sandbox's own API answered. Not ``whole`` where it broke off in the middle."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


@post("/payment_intents", status_code=200)
async def create(request: Call) -> ASGIApp:
    """Make a PaymentIntent and confirm it: the only kind that an adapter asks for."""
    fields = await _form(request, _CREATES)
    for name, wanted in (("capture_method", "manual"), ("confirm", "true")):
        if fields.get(name) != wanted:
            raise Refused(400, "invalid_request", f"this face takes {name}={wanted} only")
    metadata = _metadata(fields)
    currency = str(fields.get("currency", "")).upper()
    ask = {
        "amount": _amount(fields, "amount", currency),
        "currency": currency,
        "reference": metadata.get(REFERENCE) or _reference_for(request),
        "payment_method": fields.get("payment_method", ""),
        "return_url": fields.get("return_url"),
    }
    options = fields.get("payment_method_options", {})
    card = options.get("card", {}) if isinstance(options, dict) else {}
    note = Note(metadata=metadata, many_captures=card.get("request_multicapture") == "if_available")
    return await _act(request, "/v1/payments", ask, fields, note)


@get("/payment_intents/search")
async def search(request: Call) -> ASGIApp:
    """The PaymentIntents whose metadata has the reference, if they are not too new to be in the index."""
    match = _QUERY.fullmatch(request.query_params.get("query", ""))
    if match is None or match[1] != REFERENCE:
        raise Refused(400, "invalid_request", f"this face finds by {REFERENCE} only")
    reference = re.sub(r"\\(.)", r"\1", match[2])
    found, _ = _peer(request).books.payments(account=_account(request), reference=reference, limit=PAGE_ROWS_MAX)
    known_until = datetime.now(UTC) - timedelta(seconds=SEARCH_LAG_SECONDS)
    rows = [_intent(request, msgspec.to_builtins(one)) for one in found if one.created_at <= known_until]
    return _json(words.listed(rows, url="/v1/payment_intents/search", search=True))


@get("/payment_intents")
async def newest(request: Call) -> ASGIApp:
    """The newest PaymentIntents, newest first, as they are now."""
    peer, account = _peer(request), _account(request)
    ids = peer.stripe.newest(account, PAGE_ROWS_MAX)
    rows = [_intent(request, msgspec.to_builtins(peer.books.payment(one))) for one in ids]
    return _json(words.listed(rows, url="/v1/payment_intents"))


@get("/payment_intents/{intent_id:str}")
async def retrieve(request: Call, intent_id: FromPath[str]) -> ASGIApp:
    """One PaymentIntent as it is now."""
    return _json(_intent(request, _payment(request, intent_id)))


@post("/payment_intents/{intent_id:str}", status_code=200)
async def update(request: Call, intent_id: FromPath[str]) -> ASGIApp:
    """Write metadata on a PaymentIntent, whatever became of it."""
    fields = await _form(request, _UPDATES)
    payment = _payment(request, intent_id)
    _peer(request).stripe.mark(payment["id"], _metadata(fields))
    return _json(_intent(request, payment))


@post("/payment_intents/{intent_id:str}/capture", status_code=200)
async def capture(request: Call, intent_id: FromPath[str]) -> ASGIApp:
    """Take some or all; what is left is let go of, unless the capture says that it is not the last."""
    fields = await _form(request, _CAPTURES)
    payment = _payment(request, intent_id)
    final = fields.get("final_capture", "true") == "true"
    if not final and not _first_note(request, payment).many_captures:
        raise Refused(400, "invalid_request", "many captures were not asked for when this was authorized")
    ask: dict[str, object] = {"final": final}
    if "amount_to_capture" in fields:
        ask["amount"] = _amount(fields, "amount_to_capture", payment["currency"])
    return await _act(request, f"/v1/payments/{payment['id']}/capture", ask, fields, Note(metadata=_metadata(fields)))


@post("/payment_intents/{intent_id:str}/cancel", status_code=200)
async def cancel(request: Call, intent_id: FromPath[str]) -> ASGIApp:
    """Let go of all that is held."""
    fields = await _form(request, _CANCELS)
    payment = _payment(request, intent_id)
    return await _act(request, f"/v1/payments/{payment['id']}/void", {}, fields, Note())


@post("/refunds", status_code=200)
async def refund(request: Call) -> ASGIApp:
    """Give back some or all of what was taken."""
    fields = await _form(request, _REFUNDS)
    payment = _payment(request, str(fields.get("payment_intent", "")))
    ask = {"amount": _amount(fields, "amount", payment["currency"])} if "amount" in fields else {}
    note = Note(metadata=_metadata(fields))
    return await _act(request, f"/v1/payments/{payment['id']}/refund", ask, fields, note, is_refund=True)


@get("/refunds")
async def list_refunds(request: Call) -> ASGIApp:
    """What was given back of a PaymentIntent."""
    payment = _payment(request, request.query_params.get("payment_intent", ""))
    return _json(words.listed(_refunds(request, payment), url="/v1/refunds"))


def router(authenticated: Guard) -> Router:
    """The face, to be mounted in the processor's app behind the guard of its own API."""
    handlers = [create, search, newest, retrieve, update, capture, cancel, refund, list_refunds]
    return Router(
        "/stripe/v1", route_handlers=handlers, guards=[authenticated], exception_handlers={Exception: _error_of}
    )


class StripeSender(Sender):
    """Tells of a payment that was made through this face in Stripe's words, and of every other as ever."""

    def __init__(
        self,
        books: Books,
        *,
        url: str,
        secrets: Sequence[str],
        copies: int = 1,
        shelf: Shelf,
        stripe_url: str | None,
    ) -> None:
        super().__init__(books, url=url, secrets=secrets, copies=copies)
        self._shelf = shelf
        self._stripe_url = stripe_url

    def letter(self, event: Event) -> tuple[str, bytes, str]:
        """Where an event goes, in which words, and the name of the header that proves it."""
        told = msgspec.json.decode(event.body)
        payment = told["payment"]
        account = self._shelf.account_of(payment["id"]) or ""
        note = self._shelf.read(account, payment["operations"][0]["key"])
        if self._stripe_url is None or note is None:
            return super().letter(event)
        if told["type"] == "payment.refunded":
            happened = words.refunds(payment, _metadata_by_key(self._shelf, account, payment))[0]
        else:
            happened = words.intent(
                payment,
                metadata=_metadata_of(self._shelf, account, payment),
                many_captures=note.many_captures,
                action_url=None,
            )
        return self._stripe_url, msgspec.json.encode(words.event(told, happened)), "Stripe-Signature"


async def _act(
    request: Call,
    path: str,
    ask: Mapping[str, object],
    fields: Mapping[str, Any],
    note: Note,
    *,
    is_refund: bool = False,
) -> ASGIApp:
    """Ask the sandbox for it under the caller's key, once the metadata is kept, and say in Stripe's words what it said."""
    account, shelf = _account(request), _peer(request).stripe
    key = request.headers.get("Idempotency-Key") or str(uuid4())
    asked = msgspec.json.encode([path, fields], order="deterministic").decode()
    if not shelf.note(account, key, asked=asked, note=note):
        raise Refused(400, "idempotency_key_reused", "this key came with other parameters before")
    native = await _ask(request, path, key=key, body=msgspec.json.encode(ask))
    if native.status in _NOT_KEPT:
        shelf.forget(account, key)
    headers = {name: value for name, value in native.headers.items() if name in _PASSED_ON}
    if not native.whole:
        return _broken_off(native.status)
    try:
        said = msgspec.json.decode(native.body)
    except msgspec.DecodeError:
        return ASGIResponse(body=native.body, status_code=native.status)
    if native.status >= 400:
        made = said.get("payment_id") if said["code"] == "payment_declined" else None
        payment = _intent(request, _payment(request, words.payment_id_of_stripe(made))) if made else None
        status, error = words.refusal(said, payment=payment, param="amount" if is_refund else None)
        return _json(error, status=status, headers=headers)
    if is_refund:
        given = _refunds(request, said)
        mine = [one for one in given if one["id"] in _ids_under(said, key)]
        return _json(mine[0], headers=headers)
    return _json(_intent(request, said), headers=headers)


def _reference_for(request: Call) -> str:
    """The books want one where the caller has none: the same for the same key, or its second try would be another ask."""
    key = request.headers.get("Idempotency-Key") or str(uuid4())
    return f"stripe-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


async def _ask(request: Call, path: str, *, key: str, body: bytes) -> Native:
    """One call of the sandbox's own API, without a network between."""
    sent: list[Message] = []
    given = False

    async def receive() -> Any:
        nonlocal given
        if given:  # whoever waits now waits for the caller to hang up
            return await request.receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {
        "authorization": request.headers.get("Authorization", ""),
        "content-type": "application/json",
        "idempotency-key": key,
        "host": request.headers.get("Host", "sandbox"),
    }
    scope: dict[str, Any] = {
        **{name: request.scope.get(name) for name in ("asgi", "client", "http_version", "scheme", "server", "type")},
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "state": {},
    }
    await request.app(scope, receive, send)  # type: ignore[arg-type]  # a scope before Litestar has filled it
    start = next(message for message in sent if message["type"] == "http.response.start")
    parts = [message for message in sent if message["type"] == "http.response.body"]
    return Native(
        status=start["status"],
        headers={name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]},
        body=b"".join(part["body"] for part in parts),
        whole=bool(parts) and not parts[-1].get("more_body", False),
    )


def _broken_off(status: int) -> ASGIApp:
    async def cut(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2000")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"id": "pi_', "more_body": True})

    return cut


def _ids_under(payment: Mapping[str, Any], key: str) -> set[str]:
    return {f"re_{one['id'].removeprefix('op_')}" for one in payment["operations"] if one["key"] == key}


def _intent(request: Call, payment: Mapping[str, Any]) -> dict[str, Any]:
    peer, account = _peer(request), _account(request)
    base_url = peer.public_url or str(request.base_url).rstrip("/")
    return words.intent(
        payment,
        metadata=_metadata_of(peer.stripe, account, payment),
        many_captures=_first_note(request, payment).many_captures,
        action_url=f"{base_url}/action/{payment['id']}",
    )


def _refunds(request: Call, payment: Mapping[str, Any]) -> list[dict[str, Any]]:
    return words.refunds(payment, _metadata_by_key(_peer(request).stripe, _account(request), payment))


def _first_note(request: Call, payment: Mapping[str, Any]) -> Note:
    return _peer(request).stripe.read(_account(request), payment["operations"][0]["key"]) or Note()


def _metadata_of(shelf: Shelf, account: str, payment: Mapping[str, Any]) -> dict[str, str]:
    """What came with the authorization, then with each capture that succeeded, then what was written later."""
    metadata: dict[str, str] = {}
    by_key = _metadata_by_key(shelf, account, payment)
    for one in payment["operations"]:
        is_capture = one["kind"] == "capture" and one["status"] == "succeeded"
        if one["kind"] == "authorize" or is_capture:
            metadata.update(by_key.get(one["key"], {}))
    metadata.update(shelf.marks(payment["id"]))
    return {name: value for name, value in metadata.items() if value}


def _metadata_by_key(shelf: Shelf, account: str, payment: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    notes = {one["key"]: shelf.read(account, one["key"]) for one in payment["operations"]}
    return {key: note.metadata for key, note in notes.items() if note is not None}


async def _form(request: Call, known: frozenset[str]) -> dict[str, Any]:
    try:
        fields = words.form((await request.body()).decode("utf-8"))
    except (UnicodeDecodeError, words.Malformed) as error:
        raise Refused(400, "invalid_request", str(error)) from error
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise Refused(400, "parameter_unknown", f"Received unknown parameter: {unknown[0]}")
    return fields


def _metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    try:
        return msgspec.convert(fields.get("metadata", {}), dict[str, str])
    except msgspec.ValidationError as error:
        raise Refused(400, "invalid_request", f"metadata: {error}") from error


def _amount(fields: Mapping[str, Any], name: str, currency: str) -> int:
    text = fields.get(name)
    if not isinstance(text, str) or re.fullmatch(r"[0-9]{1,16}", text, re.ASCII) is None:
        raise Refused(400, "parameter_missing", f"{name} is a whole number")
    try:
        return words.units_of_books(int(text), currency)
    except words.Malformed as error:
        raise Refused(400, "invalid_request", str(error)) from error


def _payment(request: Call, intent_id: str) -> dict[str, Any]:
    books, account = _peer(request).books, _account(request)
    payment: dict[str, Any] = msgspec.to_builtins(books.payment(words.payment_id_of_books(intent_id), account=account))
    return payment


def _account(request: Call) -> str:
    account: str = request.state.account
    return account


def _error_of(request: Call, error: Exception) -> Response[bytes]:
    """Any exception as an error of Stripe's."""
    answer = problem_of(request, error)
    status, content = words.refusal(msgspec.json.decode(answer.content))
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def _peer(request: Call) -> "Peer":
    peer: Peer = request.app.state.peer
    return peer


def _json(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> ASGIResponse:
    more = {"request-id": f"req_{uuid4().hex[:14]}", "stripe-version": words.API_VERSION, **(headers or {})}
    return ASGIResponse(body=msgspec.json.encode(content), status_code=status, headers=more)
