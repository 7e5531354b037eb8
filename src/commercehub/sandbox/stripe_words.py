"""The sandbox's documents in Stripe's words: payments, refunds, events and refusals; and Stripe's forms in ours."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

FORM_FIELDS_MAX: Final = 200
API_VERSION: Final = "2026-10-28.endive"

# Stripe counts these in hundredths, which there are none of.
_FACTORS: Final[Mapping[str, int]] = MappingProxyType({"ISK": 100, "UGX": 100})
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "requires_action": "requires_action",
        "authorized": "requires_capture",
        "partially_captured": "requires_capture",
        "captured": "succeeded",
        "voided": "canceled",
        "declined": "requires_payment_method",
    }
)
_EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "payment.requires_action": "payment_intent.requires_action",
        "payment.authorized": "payment_intent.amount_capturable_updated",
        "payment.captured": "payment_intent.succeeded",
        "payment.voided": "payment_intent.canceled",
        "payment.declined": "payment_intent.payment_failed",
        "payment.refunded": "refund.created",
    }
)
# (HTTP status, type, code, param), by what the sandbox calls it.
_PROBLEMS: Final[Mapping[str, tuple[int, str, str | None, str | None]]] = MappingProxyType(
    {
        "amount_too_large": (400, "invalid_request_error", "amount_too_large", "amount"),
        "idempotency_in_progress": (409, "idempotency_error", "idempotency_key_in_use", None),
        "idempotency_key_reused": (400, "idempotency_error", None, None),
        "internal_error": (500, "api_error", None, None),
        "invalid_payment_method": (400, "invalid_request_error", "resource_missing", "payment_method"),
        "invalid_state": (400, "invalid_request_error", "payment_intent_unexpected_state", None),
        "no_such_payment": (404, "invalid_request_error", "resource_missing", "intent"),
        "rate_limited": (429, "invalid_request_error", "rate_limit", None),
        "unauthenticated": (401, "invalid_request_error", None, None),
        "parameter_missing": (400, "invalid_request_error", "parameter_missing", None),
        "parameter_unknown": (400, "invalid_request_error", "parameter_unknown", None),
    }
)
_NAME: Final = re.compile(r"([a-z_]+)((?:\[[A-Za-z0-9_-]*\])*)", re.ASCII)
_PART: Final = re.compile(r"\[([^\]]*)\]")


class Malformed(ValueError):
    """A form that is none."""


def form(text: str) -> dict[str, Any]:
    """The fields of a form, those in brackets as documents: ``metadata[a]=b`` is ``{"metadata": {"a": "b"}}``."""
    fields: dict[str, Any] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=FORM_FIELDS_MAX)
    except ValueError as error:
        raise Malformed(str(error)) from error
    for name, value in pairs:
        match = _NAME.fullmatch(name)
        if match is None:
            raise Malformed(f"no field is called {name!r}")
        here, *path = match[1], *_PART.findall(match[2])
        place = fields
        for part in path:
            place = place.setdefault(here, {})
            if not isinstance(place, dict):
                raise Malformed(f"{name!r} is a value and a document")
            here = part or str(len(place))
        place[here] = value
    return fields


def units_of_stripe(amount: int, currency: str) -> int:
    """The books' amount as Stripe counts it."""
    return amount * _FACTORS.get(currency, 1)


def units_of_books(amount: int, currency: str) -> int:
    """Stripe's amount as the books count it; ``Malformed`` for what is smaller than the smallest coin."""
    whole, rest = divmod(amount, _FACTORS.get(currency, 1))
    if rest:
        raise Malformed(f"{amount} is not a whole amount of {currency}")
    return whole


def intent(
    payment: Mapping[str, Any], *, metadata: Mapping[str, str], many_captures: bool, action_url: str | None
) -> dict[str, Any]:
    """A payment as a PaymentIntent with its latest charge."""
    currency = payment["currency"]
    done = [one for one in payment["operations"] if one["status"] == "succeeded"]
    taken = sum(one["amount"] for one in done if one["kind"] == "capture")
    voids = {one["key"] for one in done if one["kind"] == "void"} - {
        one["key"] for one in done if one["kind"] == "capture"
    }
    status = "canceled" if voids else _STATUSES[payment["status"]]
    held = payment["amount"] - taken if status == "requires_capture" else 0
    declined = payment["decline_code"]
    return {
        "id": payment_id_of_stripe(payment["id"]),
        "object": "payment_intent",
        "amount": units_of_stripe(payment["amount"], currency),
        "amount_capturable": units_of_stripe(held, currency),
        "amount_received": units_of_stripe(taken, currency),
        "capture_method": "manual",
        "client_secret": None,
        "confirmation_method": "automatic",
        "currency": currency.lower(),
        "last_payment_error": _card_error(declined) if declined else None,
        "latest_charge": _charge(payment, many_captures=many_captures),
        "livemode": False,
        "metadata": dict(metadata),
        "next_action": _next_action(payment, action_url) if status == "requires_action" else None,
        "payment_method": payment["payment_method"],
        "payment_method_types": ["card"],
        "status": status,
    }


def refunds(payment: Mapping[str, Any], metadata: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """What was given back of a payment, newest first; ``metadata`` by the key of each."""
    currency = payment["currency"]
    return [
        {
            "id": f"re_{one['id'].removeprefix('op_')}",
            "object": "refund",
            "amount": units_of_stripe(one["amount"], currency),
            "balance_transaction": f"txn_{one['id'].removeprefix('op_')}",
            "charge": _charge_id(payment),
            "currency": currency.lower(),
            "failure_reason": None,
            "metadata": dict(metadata.get(one["key"], {})),
            "payment_intent": payment_id_of_stripe(payment["id"]),
            "reason": None,
            "status": "succeeded",
        }
        for one in reversed(payment["operations"])
        if one["kind"] == "refund" and one["status"] == "succeeded"
    ]


def event(told: Mapping[str, Any], happened: Mapping[str, Any]) -> dict[str, Any]:
    """An event of the sandbox as one of Stripe's."""
    return {
        "id": told["id"],
        "object": "event",
        "api_version": API_VERSION,
        "data": {"object": happened},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": _EVENTS.get(told["type"], f"hub.{told['type']}"),
    }


def listed(rows: Sequence[Mapping[str, Any]], *, url: str, search: bool = False) -> dict[str, Any]:
    """Some rows as Stripe lists them."""
    kind = {"object": "search_result", "next_page": None} if search else {"object": "list"}
    return {**kind, "data": list(rows), "has_more": False, "url": url}


def refusal(
    problem: Mapping[str, Any], *, payment: Mapping[str, Any] | None = None, param: str | None = None
) -> tuple[int, dict[str, Any]]:
    """A problem of the sandbox as a status and an error of Stripe's."""
    code, detail = problem["code"], problem["detail"]
    if code == "payment_declined":
        return 402, {"error": {**_card_error(problem["decline_code"]), "message": detail, "payment_intent": payment}}
    status, kind, said, usual = _PROBLEMS.get(code, (400, "invalid_request_error", None, None))
    error = {"type": kind, "message": detail, "code": said, "param": param or usual}
    return status, {"error": {name: value for name, value in error.items() if value is not None}}


def payment_id_of_stripe(payment_id: str) -> str:
    """``pi_…`` for ``pay_…``."""
    return f"pi_{payment_id.removeprefix('pay_')}"


def payment_id_of_books(intent_id: str) -> str:
    """``pay_…`` for ``pi_…``; any other id is nobody's."""
    return f"pay_{intent_id[3:]}" if intent_id.startswith("pi_") else "pay_"


def _charge(payment: Mapping[str, Any], *, many_captures: bool) -> dict[str, Any] | None:
    if payment["status"] == "requires_action" or (payment["status"] == "voided" and not payment["amount_authorized"]):
        return None
    multicapture = {"status": "available" if many_captures else "unavailable"}
    return {
        "id": _charge_id(payment),
        "object": "charge",
        "payment_intent": payment_id_of_stripe(payment["id"]),
        "payment_method_details": {"type": "card", "card": {"multicapture": multicapture}},
        "status": "failed" if payment["status"] == "declined" else "succeeded",
    }


def _charge_id(payment: Mapping[str, Any]) -> str:
    return f"ch_{payment['id'].removeprefix('pay_')}"


def _card_error(decline_code: str) -> dict[str, Any]:
    """The code says which kind of no it is, and the bank's own word stands beside it."""
    if decline_code == "authentication_failed":
        return {"type": "card_error", "code": "payment_intent_authentication_failure"}
    said = "generic_decline" if decline_code == "card_declined" else decline_code
    return {"type": "card_error", "code": "card_declined", "decline_code": said}


def _next_action(payment: Mapping[str, Any], action_url: str | None) -> dict[str, Any]:
    """Without an address to come back to, Stripe leaves the payer to its own script in the shop's page."""
    if payment["return_url"] is None:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
    return {"type": "redirect_to_url", "redirect_to_url": {"url": action_url, "return_url": payment["return_url"]}}
