"""Where the ``type`` of a problem leads: what a code means, and what whoever gets it can do."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

import msgspec

from commercehub.api import pages
from commercehub.api.call import Answer, Call
from commercehub.api.errors import CODES, not_found
from commercehub.api.openapi import codes_of, operation_id
from commercehub.api.routing import Route, route
from commercehub.auth import Permission

_AGAIN: Final = "Wait as long as `Retry-After` says, then send the same request again, with the same Idempotency-Key."
_READ_AGAIN: Final = "Read it again, look at its `state`, and go on from there."
_ANOTHER: Final = "Choose another one."
_MEND: Final = "Mend what `errors` points at, and send it again; the same Idempotency-Key may be used."

ADVICE: Final[Mapping[str, str]] = {
    "bad_signature": "Sign the raw body with the secret that the hub was given for this processor, and check your clock.",
    "barcode_taken": "Look the barcode up: the variant may be there already. Else choose another barcode.",
    "busy": f"Nothing is wrong with the request. {_AGAIN}",
    "cart_already_checked_out": "Look at the order that `order_id` names. For another purchase make another cart.",
    "cart_merged": "Go on with the cart that `merged_into` names: all of it is there.",
    "category_cycle": "Choose a parent that does not stand below this category.",
    "category_not_empty": "Move or remove the categories below it first.",
    "category_too_deep": "Choose a parent that stands higher: categories are 8 deep at most.",
    "code_taken": f"{_ANOTHER} Codes of locations are unique ignoring case.",
    "contact_required": "Send `email` or `phone`. A guest has to be reached.",
    "delivery_not_offered": "Choose another way of delivery, or another place: `GET /v1/locations` says which offer what.",
    "delivery_required": "Say how the goods are delivered with `PUT /v1/carts/{cart_id}/delivery`, then check out.",
    "email_taken": "Sign in with it, or use another e-mail address.",
    "empty_cart": "Add a line first.",
    "forbidden": "Use a credential whose role may do this; for a publishable key, call from an origin that it allows.",
    "gift_card_not_usable": "`reason` says why. Take it out of the tenders, or lower its `amount`.",
    "handle_taken": f"{_ANOTHER} Handles are unique ignoring case.",
    "idempotency_in_progress": f"The first request is being worked on. {_AGAIN} You then get its answer.",
    "idempotency_key_required": "Make a key, a UUID say, for each thing that is to happen once; send it at each retry.",
    "idempotency_key_reused": "Make a new key for a new request. For a retry send exactly what was sent before.",
    "insufficient_stock": "Look at what is promised there with `GET /v1/availability`, and free it or take less.",
    "internal_error": "The mistake is ours, and logged under the `Request-Id` of the answer: tell us that."
    " Whether it was done shows when you read it, or send it again with the same Idempotency-Key.",
    "invalid_barcode": "Check what was scanned: GTIN-8, 12, 13, 14 and UPC-E are taken, with their check digit.",
    "invalid_credentials": "Ask for them again. After ten wrong ones in 15 minutes even the right ones are not taken.",
    "invalid_cursor": "Take `next_cursor` as it is, or begin at the start without one.",
    "invalid_request": _MEND,
    "invalid_transition": f"`allowed`, where it is there, names the next steps. {_READ_AGAIN}",
    "list_full": "Remove something first.",
    "login_taken": f"{_ANOTHER} Logins are unique ignoring case, those of people who left included.",
    "method_not_allowed": "The header `Allow` names the methods that there are.",
    "name_taken": f"{_ANOTHER} Names of registers are unique at a location.",
    "no_open_session": "Open the drawer with `POST /v1/registers/{register_id}/sessions` first.",
    "no_price": "Give the variant a price in the cart's currency, or make the cart in another one.",
    "not_cancellable": "Goods that were picked or left come back as a return: `POST /v1/returns`.",
    "not_found": "Check the address and its ids. What a credential may not know of answers the same.",
    "not_on_this_list": "Check what was scanned against the lines of the fulfillment.",
    "not_returnable": "`lines` says how much of each line can still be brought back.",
    "nothing_due": "Look at the order: it is paid, or cannot be paid any more.",
    "nothing_to_refund": "Look at the payments of the order: all was given back already, or nothing was paid.",
    "out_of_stock": "`lines` says what can be had. Change the quantities, the delivery or the place; no tender was touched.",
    "partial_void": "Give no `amount`, or all of `held`. To keep a part capture it: the rest is let go of then.",
    "payment_declined": "Ask for another way to pay, and check the cart out again with a new Idempotency-Key."
    " `decline_code` is the processor's word. Nothing was charged.",
    "payment_due": "Let it be paid with `POST /v1/orders/{order_id}/payments`, then hand it over.",
    "payment_not_completed": "The payer did not finish, or the processor knows of no charge. Check out again with a new key.",
    "payment_under_way": "Wait until the order's `payment_state` is settled, then look again.",
    "quantity_too_large": "A line holds 1,000,000 units at most.",
    "rate_limited": f"Slow down; `RateLimit` says how much is left. {_AGAIN}",
    "refund_too_large": "`refundable` is what is left of it.",
    "register_required": "Say which drawer with `register_id`.",
    "request_timeout": "Send the body at once, over a better line, or in smaller parts.",
    "request_too_large": "Send less: JSON up to 1 MiB, a catalog file up to 32 MiB.",
    "resolution_not_offered": "Choose another `resolution`.",
    "return_window_closed": "`until` is when it could be brought back. Whoever may can refund the payment by hand.",
    "returns_not_taken": "Bring it to a location with the capability `returns`, or send it.",
    "secret_already_shown": "It cannot be shown again. Make a new one, and keep it this time.",
    "secret_in_request": "Take the card's number out, and send the token that the processor made of it in the browser.",
    "session_already_open": "Go on with the open session, or close it with a count first.",
    "sku_taken": f"{_ANOTHER} SKUs are unique ignoring case.",
    "tender_mismatch": "`errors` points at the tender at fault. Tenders cover exactly what is due; cash may be more.",
    "too_many_categories": "Remove some: there are 5,000 at most.",
    "too_many_gift_cards": "Take one out first: a cart takes 5.",
    "too_many_lines": "Check out what is in it and make another cart: a cart has 200 lines.",
    "too_many_promotions": "Take one out first: a cart takes 5 codes, and one of them counts.",
    "too_many_variants": "Make another product: one has 200 variants.",
    "total_changed": "Show the buyer `total`, and check out again with it as `expected_total`.",
    "total_too_large": "Split it up: no payment carries that much.",
    "unaccounted_units": "Count again: picked and short account for every unit.",
    "unauthenticated": "Send a key or a token that works as `Authorization: Bearer …`; tokens end, sign in again then.",
    "unknown_processor": "Name a processor that the hub is set up with, or none.",
    "unknown_promotion": "Check the code; it may have ended.",
    "unknown_variant": "Check the SKU or barcode with `GET /v1/variants`.",
    "unreadable_file": "Save it as CSV in UTF-8 with the columns of the format, and send it again.",
    "unsupported_media_type": "Send JSON, with `Content-Type: application/json`.",
    "version_conflict": "Somebody was faster. Read it again, and make the change on what it is now.",
    "wrong_location": "Work at a place of your own, or have somebody there do it.",
    "wrong_pickup_code": "Ask for the code of this very order: it is in the customer's message and on their order.",
}
"""What can be done about each code."""


class ProblemKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of problem; ``operations`` are those that may answer it."""

    code: str
    status: int
    title: str
    advice: str
    operations: list[str]


def routes(described: Sequence[Route]) -> Sequence[Route]:
    """The pages of all codes, and of each one."""
    kinds = {code: _kind(code, described) for code in sorted(CODES)}

    @route("GET", "/problems", permission=Permission.PUBLIC, answer=list[ProblemKind])
    async def list_problems(call: Call) -> Answer:
        """Every code, and what can be done about it."""
        if pages.wants_json(call):
            return pages.as_json(list(kinds.values()))
        rows = "".join(
            f"<tr><td>{kind.status}<td><a href=/problems/{kind.code}><code>{kind.code}</code></a><td>{escape(kind.title)}"
            for kind in kinds.values()
        )
        return pages.show("Problems", f"<table><thead><tr><th>Status<th>Code<th>Meaning<tbody>{rows}</table>")

    @route("GET", "/problems/{code}", permission=Permission.PUBLIC, answer=ProblemKind, codes=("not_found",))
    async def show_problem(call: Call, code: str) -> Answer:
        """One code, and what can be done about it."""
        kind = kinds.get(code)
        if kind is None:
            raise not_found()
        return pages.as_json(kind) if pages.wants_json(call) else pages.show(kind.title, _body(kind, described))

    return list_problems, show_problem


def _kind(code: str, described: Iterable[Route]) -> ProblemKind:
    status, title = CODES[code]
    givers = [operation_id(each) for each in described if code in codes_of(each)]
    return ProblemKind(code=code, status=status, title=title, advice=ADVICE.get(code, ""), operations=givers)


def _body(kind: ProblemKind, described: Iterable[Route]) -> str:
    giving = set(kind.operations)
    links = "".join(
        f"<li><a href=/docs#{operation_id(each)}><code>{each.method} {escape(each.path)}</code></a>"
        for each in described
        if operation_id(each) in giving
    )
    where = f"<h2>Where it comes from</h2><ul>{links}</ul>" if links else ""
    return (
        f"<p><code>{kind.code}</code>, status {kind.status}.<h2>What to do</h2><p>{pages.prose(kind.advice)}{where}"
        "<p><a href=/problems>All codes</a>"
    )
