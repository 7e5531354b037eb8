"""Every refusal as RFC 9457 ``application/problem+json``, with a stable ``code`` to program against.

``CODES`` is the list of all codes; ``_TABLE`` gives each error of the rooms and workflows its code and its facts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

import fulfillment
import inventory
import payments
from commercehub import auth, database, idempotency, ids
from commercehub.sales import errors as sales
from commercehub.sales import pricing
from commercehub.workflows import refusals, signing_in, tailing

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1

CODES: Final[Mapping[str, tuple[int, str]]] = {
    "bad_signature": (400, "The signature is not right"),
    "barcode_taken": (409, "Another variant has this barcode"),
    "busy": (503, "The hub is busy"),
    "cart_already_checked_out": (409, "The cart has been checked out"),
    "cart_merged": (409, "The cart is part of another one"),
    "category_cycle": (409, "A category would stand below itself"),
    "category_not_empty": (409, "Other categories stand below it"),
    "category_too_deep": (422, "The category would stand too deep"),
    "code_taken": (409, "Another location has this code"),
    "contact_required": (422, "An e-mail address or a phone number is needed"),
    "delivery_not_offered": (422, "The delivery cannot be had"),
    "delivery_required": (422, "The cart does not say how its goods are delivered"),
    "email_taken": (409, "Somebody has this e-mail address"),
    "empty_cart": (422, "The cart is empty"),
    "forbidden": (403, "The credential does not allow this"),
    "gift_card_not_usable": (422, "The gift card or store credit cannot be spent here"),
    "handle_taken": (409, "Another one has this handle"),
    "idempotency_in_progress": (409, "A request with this key is being worked on"),
    "idempotency_key_required": (400, "An Idempotency-Key header is needed"),
    "idempotency_key_reused": (422, "The key belongs to another request"),
    "insufficient_stock": (409, "Less would be left than is promised"),
    "internal_error": (500, "The hub made a mistake"),
    "invalid_barcode": (422, "The barcode is not valid"),
    "invalid_credentials": (401, "Login and secret do not belong together"),
    "invalid_cursor": (400, "The cursor is not one of ours"),
    "invalid_request": (400, "The request cannot be read"),
    "invalid_transition": (409, "This step is out of turn"),
    "list_full": (409, "There are as many as there may be"),
    "login_taken": (409, "Somebody has this login"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "name_taken": (409, "Another register has this name"),
    "no_open_session": (409, "No drawer is open"),
    "no_price": (422, "The variant has no price here"),
    "not_cancellable": (409, "It is too late to cancel"),
    "not_found": (404, "There is no such thing"),
    "not_returnable": (409, "Not that much can be brought back"),
    "nothing_to_refund": (409, "Nothing is left to give back"),
    "not_on_this_list": (422, "This is not on the list"),
    "nothing_due": (409, "Nothing is left to pay"),
    "out_of_stock": (409, "Not enough is in stock"),
    "partial_void": (422, "A void lets go of all that is held"),
    "payment_declined": (402, "The payment was declined"),
    "payment_due": (409, "It is not paid for"),
    "payment_not_completed": (402, "The payment was not completed"),
    "payment_under_way": (409, "Another payment is under way"),
    "quantity_too_large": (422, "The quantity is too large"),
    "refund_too_large": (409, "Not that much is left to give back"),
    "rate_limited": (429, "Too many requests"),
    "register_required": (422, "Several drawers are open"),
    "request_timeout": (408, "The request came too slowly"),
    "request_too_large": (413, "The request is too large"),
    "resolution_not_offered": (422, "The return cannot be settled in this way"),
    "return_window_closed": (409, "It is too late to bring it back"),
    "returns_not_taken": (422, "Returns are not taken here"),
    "secret_already_shown": (409, "The secret was shown before"),
    "secret_in_request": (422, "A card number has no place here"),
    "session_already_open": (409, "The drawer is open already"),
    "sku_taken": (409, "Another variant has this SKU"),
    "tender_mismatch": (422, "The tenders do not fit what is due"),
    "total_too_large": (422, "The total is too large"),
    "too_many_categories": (422, "There are too many categories"),
    "too_many_gift_cards": (422, "The cart takes no further gift card"),
    "too_many_lines": (422, "The cart is full"),
    "too_many_variants": (422, "The product is full"),
    "too_many_promotions": (422, "The cart takes no further code"),
    "total_changed": (409, "The total has changed"),
    "unaccounted_units": (422, "Not every unit is accounted for"),
    "unauthenticated": (401, "A credential is needed"),
    "unknown_processor": (422, "There is no such processor"),
    "unknown_promotion": (422, "There is no such promotion"),
    "unknown_variant": (422, "No variant has this SKU or barcode"),
    "unreadable_file": (422, "The file cannot be read"),
    "unsupported_media_type": (415, "The format is not supported"),
    "version_conflict": (412, "Somebody edited it meanwhile"),
    "wrong_location": (403, "Not at this place"),
    "wrong_pickup_code": (409, "The code does not open this"),
}


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one field: a JSON pointer (RFC 6901) into the body, or ``?name`` for a query parameter."""

    pointer: str
    detail: str


class Problem(Exception):
    """A refusal on its way to the caller. ``facts`` are extension members."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        facts: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status, self.title = CODES[code]
        self.detail = detail
        self.errors = errors
        self.facts = facts or {}
        self.headers = dict(headers or {})
        if self.status in {429, 503}:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))

    def body(self, *, instance: str, base_url: str) -> bytes:
        """The document."""
        document: dict[str, object] = {
            "type": f"{base_url}/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
        }
        if self.errors:
            document["errors"] = self.errors
        return msgspec.json.encode(document | dict(self.facts))


def not_found() -> Problem:
    """What is said of everything that the caller may not know of, whether it exists or not."""
    return Problem("not_found", "It does not exist, or this credential may not know of it.")


def problem_for(error: Exception) -> Problem | None:
    """The refusal that an error of a room or a workflow means; ``None``: nobody foresaw it."""
    if isinstance(error, Problem):
        return error
    for kind in type(error).__mro__:
        make = _TABLE.get(kind)
        if make is not None:
            return make(error)
    return None


def _plain(code: str, detail: str) -> Callable[[Any], Problem]:
    return lambda _: Problem(code, detail)


def _unknown(_: Any) -> Problem:
    return not_found()


def _tried(error: auth.TooManyAttempts) -> Problem:
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return Problem("rate_limited", "It was tried too often. Try again after the time in Retry-After.", headers=headers)


def _closed(error: sales.CartClosed) -> Problem:
    facts = {"order_id": ids.show("ord", error.order_id), "state": error.state} if error.order_id else {}
    return Problem("cart_already_checked_out", "The cart has made an order, or is making one.", facts=facts)


def _short(error: refusals.OutOfStock) -> Problem:
    lines: list[dict[str, object]] = []
    for short in error.shortages:
        line: dict[str, object] = {"sku": short.sku, "requested": short.requested, "available": short.available}
        if short.location_id != UUID(int=0):
            line["location_id"] = ids.show("loc", short.location_id)
        lines.append(line)
    return Problem("out_of_stock", "Some lines cannot be had. No tender was touched.", facts={"lines": lines})


def _out_of_turn(error: fulfillment.InvalidTransition) -> Problem:
    return Problem(
        "invalid_transition",
        f"What is {error.state} does not become {error.wanted}.",
        facts={"state": error.state, "allowed": error.allowed},
    )


def _stored_value(error: refusals.StoredValueNotUsable) -> Problem:
    detail = {
        refusals.UNKNOWN: "There is no such gift card, or no credit.",
        refusals.EXPIRED: "It has expired.",
        refusals.CURRENCY: "It is in another currency.",
        refusals.BALANCE: "It does not hold that much.",
    }[error.reason]
    where = FieldError(pointer=f"/tenders/{error.position}", detail=detail)
    facts = {"tender": error.tender, "reason": error.reason}
    return Problem("gift_card_not_usable", detail, errors=[where], facts=facts)


def _not_returnable(error: sales.NotReturnable) -> Problem:
    lines = [
        {"line_id": ids.show("line", line_id), "requested": requested, "returnable": returnable}
        for line_id, requested, returnable in error.lines
    ]
    return Problem("not_returnable", "More than was handed over and not brought back yet.", facts={"lines": lines})


def _out_of_turn_return(error: sales.ReturnNotInTurn) -> Problem:
    return Problem(
        "invalid_transition",
        f"A return that is {error.state} does not become {error.wanted}.",
        facts={"state": error.state, "allowed": error.allowed},
    )


def _tender(error: refusals.TenderMismatch) -> Problem:
    where = FieldError(pointer=f"/tenders/{error.position}", detail=error.detail)
    return Problem("tender_mismatch", error.detail, errors=[where])


def _changed(error: refusals.TotalChanged) -> Problem:
    return Problem("total_changed", "The cart costs something else now.", facts={"total": error.total})


def _version(error: sales.VersionConflict) -> Problem:
    return Problem("version_conflict", f"It is at version {error.current} now.", facts={"version": error.current})


def _low(error: inventory.StockTooLow) -> Problem:
    facts = {"sku": error.sku, "location_id": ids.show("loc", error.location_id)}
    return Problem("insufficient_stock", f"{error.sku} would fall below what is promised.", facts=facts)


def _uncounted(error: fulfillment.UnaccountedUnits) -> Problem:
    facts = {"sku": error.sku, "expected": error.expected, "counted": error.counted}
    return Problem("unaccounted_units", f"{error.counted} of {error.expected} units of {error.sku}.", facts=facts)


_TABLE: Final[Mapping[type, Callable[[Any], Problem]]] = {
    auth.KeyEnded: _unknown,
    auth.LoginTaken: _plain("login_taken", "Logins are unique ignoring case, those of who left included."),
    auth.PasswordsBusy: _plain("busy", "Too many sign in at once. Nothing was done; try again."),
    auth.SessionOver: _plain("invalid_credentials", "This sign-in is over. Sign in again."),
    auth.TooManyAttempts: _tried,
    signing_in.NotHere: _plain("wrong_location", "Sign in at a place that you work at, or name it with location_id."),
    signing_in.WrongCredentials: _plain("invalid_credentials", "Login and secret do not belong together."),
    database.DatabaseUnavailable: _plain("busy", "The database does not answer. Nothing was done; try again."),
    database.Raced: _plain("busy", "Too many were faster. Nothing was done; try again."),
    idempotency.KeyReused: _plain("idempotency_key_reused", "An earlier request with this key had another body."),
    idempotency.InProgress: lambda _: Problem(
        "idempotency_in_progress",
        "An earlier request with this key is not finished.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    ),
    inventory.LocationNotFound: _unknown,
    inventory.LocationCodeTaken: _plain("code_taken", "Location codes are unique ignoring case."),
    inventory.StockTooLow: _low,
    inventory.ReservationSettled: _plain("invalid_transition", "The goods were let go of or have left already."),
    payments.NoOpenSession: _plain("no_open_session", "Open the drawer with a float first."),
    payments.RegisterNotFound: _unknown,
    payments.RegisterNameTaken: _plain("name_taken", "Register names are unique at a location."),
    payments.SessionAlreadyOpen: _plain("session_already_open", "Close the drawer with a count first."),
    payments.NothingToRefund: _plain("nothing_to_refund", "All that was paid was given back, or nothing was paid."),
    payments.PartialVoid: lambda error: Problem(
        "partial_void", "Give no amount, or all that is held.", facts={"held": error.held_minor}
    ),
    payments.PaymentNotFound: _unknown,
    payments.RefundTooLarge: lambda error: Problem(
        "refund_too_large", "More than what is left of it.", facts={"refundable": error.left_minor}
    ),
    payments.StoredValueNotFound: _unknown,
    payments.IntentSettled: _plain("invalid_transition", "Not that much of the payment is left."),
    fulfillment.FulfillmentNotFound: _unknown,
    fulfillment.InvalidTransition: _out_of_turn,
    fulfillment.NotOnThisList: lambda error: Problem(
        "not_on_this_list", f"{error.sku} is not part of this fulfillment.", facts={"sku": error.sku}
    ),
    fulfillment.UnaccountedUnits: _uncounted,
    fulfillment.WrongPickupCode: _plain("wrong_pickup_code", "It is the code of something else, or of nothing."),
    sales.CartNotFound: _unknown,
    sales.CustomerNotFound: _unknown,
    sales.EmailTaken: _plain("email_taken", "An e-mail address belongs to one customer, ignoring case."),
    sales.CartClosed: _closed,
    sales.CartMerged: lambda error: Problem(
        "cart_merged",
        "All of it is in the customer's open cart.",
        facts={"merged_into": ids.show("cart", error.merged_into)},
    ),
    sales.GiftCardNotFound: _unknown,
    sales.ItemNotFound: _unknown,
    sales.LineNotFound: _unknown,
    sales.ListFull: _plain("list_full", "50 wishlists at most, with 200 items each."),
    sales.ListNotFound: _unknown,
    sales.OrderNotFound: _unknown,
    sales.ProductNotFound: _unknown,
    sales.VersionConflict: _version,
    sales.VariantNotFound: lambda error: Problem("unknown_variant", f"No variant has {error.wanted!r}."),
    sales.NoPrice: lambda error: Problem("no_price", f"{error.sku} has no price in {error.currency}."),
    pricing.Unpriceable: _plain("total_too_large", "No payment carries that much."),
    sales.PromotionNotFound: _unknown,
    sales.TooManyGiftCards: _plain("too_many_gift_cards", "A cart takes 5 gift cards at most."),
    sales.TooManyPromotions: _plain("too_many_promotions", "A cart takes 5 codes at most. One of them counts."),
    sales.UnknownPromotion: lambda error: Problem("unknown_promotion", f"No promotion is called {error.code!r}."),
    sales.TooManyLines: _plain("too_many_lines", "A cart has 200 lines at most."),
    sales.QuantityTooLarge: _plain("quantity_too_large", "A line holds 1,000,000 units at most."),
    sales.NotCancellable: lambda error: Problem(
        "not_cancellable", f"The order is {error.state}, or goods were picked, or money was taken."
    ),
    sales.NotReturnable: _not_returnable,
    sales.ReturnNotFound: _unknown,
    sales.ReturnNotInTurn: _out_of_turn_return,
    sales.ReturnWindowClosed: lambda error: Problem(
        "return_window_closed",
        f"It could be brought back until {error.until:%Y-%m-%d}.",
        facts={"line_id": ids.show("line", error.line_id), "until": error.until},
    ),
    sales.SkuTaken: lambda error: Problem("sku_taken", f"SKUs are unique ignoring case: {error.sku!r}."),
    sales.BarcodeTaken: lambda error: Problem("barcode_taken", f"A barcode belongs to one variant: {error.barcode!r}."),
    sales.HandleTaken: lambda error: Problem("handle_taken", f"Handles are unique ignoring case: {error.handle!r}."),
    sales.TooManyVariants: _plain("too_many_variants", "A product has 200 variants at most."),
    sales.CategoryNotFound: _unknown,
    sales.CategoryCycle: _plain("category_cycle", "Put it below none of its own."),
    sales.CategoryTooDeep: _plain("category_too_deep", "Categories are 8 deep at most."),
    sales.CategoryNotEmpty: _plain("category_not_empty", "Move or remove the categories below it first."),
    sales.TooManyCategories: _plain("too_many_categories", "There are 5,000 at most."),
    refusals.EmptyCart: _plain("empty_cart", "Add a line first."),
    refusals.DeliveryRequired: _plain("delivery_required", "Say how the goods are delivered first."),
    refusals.DeliveryNotOffered: lambda error: Problem(
        "delivery_not_offered", f"{error.method!r} is not offered for this cart."
    ),
    refusals.ContactRequired: _plain("contact_required", "A guest gives email or phone."),
    refusals.RegisterRequired: _plain("register_required", "Say which one with register_id."),
    refusals.TotalChanged: _changed,
    refusals.ResolutionNotOffered: lambda error: Problem("resolution_not_offered", error.detail),
    refusals.ReturnsNotTaken: _plain("returns_not_taken", "This place does not take returns."),
    refusals.StoredValueNotUsable: _stored_value,
    refusals.NothingDue: _plain("nothing_due", "The order is paid, or is none that can be paid."),
    refusals.PaymentDue: lambda error: Problem(
        "payment_due", "Let it be paid first.", facts={"amount_due": error.amount}
    ),
    refusals.PaymentUnderWay: _plain("payment_under_way", "Wait until it is known what became of it."),
    refusals.TenderMismatch: _tender,
    refusals.UnknownProcessor: lambda error: Problem("unknown_processor", f"No processor is called {error.name!r}."),
    refusals.OutOfStock: _short,
    tailing.TooManyListeners: lambda error: (
        Problem("busy", "Too many listen to this process already.", headers={"Retry-After": "5"})
        if error.is_full
        else Problem("rate_limited", "You listen too often already.", headers={"Retry-After": "5"})
    ),
}
