"""Examples for the document: of bodies, as somebody would send them, and of answers, made from their schemas."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from commercehub import ids
from commercehub.api.routing import PREFIXES

_UUID: Final = UUID("01937f3a-5b60-7c1e-8d2f-4a5b6c7d8e9f")
_MOMENT: Final = "2026-11-25T10:15:00Z"
_LATER: Final = "2051-12-02T23:59:59Z"
_DEPTH_MAX: Final = 8


def show_id(prefix: str) -> str:
    """An id of a kind; none of a hub's own."""
    return ids.show(prefix, _UUID)


_MONEY: Final = {"amount": 1999, "currency": "USD"}
_CARD: Final = {"type": "card", "payment_method": "pm_ok"}
_ADDRESS: Final = {
    "name": "Ada Lovelace",
    "line1": "1 Main St",
    "city": "Austin",
    "region": "TX",
    "postal_code": "78701",
    "country": "US",
}
_LINE: Final = {"line_id": show_id("line"), "quantity": 1}
_TWO: Final = {"sku": "TEE-S", "quantity": 2}
_VARIANT: Final = {"sku": "TEE-S", "barcode": "4006381333931", "title": "Small", "prices": [_MONEY]}
_REASON: Final = {"reason": "customer called"}

BODIES: Final[Mapping[str, object]] = {
    "availability_query_availability": {"skus": ["TEE-S", "MUG"], "location_ids": [show_id("loc")]},
    "cart_gift_cards_put_gift_card_in": {"code": "GFT7-KQ4M-2XDP-9RNB"},
    "carts_add_line": _TWO,
    "carts_change_line": {"quantity": 3},
    "carts_create_cart": {"currency": "USD"},
    "carts_set_delivery": {"method": "ship", "address": _ADDRESS},
    "catalog_add_variant": _VARIANT,
    "catalog_change_product": {"title": "T-shirt, organic", "published": True},
    "catalog_change_variant": {"prices": [_MONEY], "barcode": None},
    "catalog_create_product": {"title": "T-shirt", "vendor": "Acme", "tags": ["summer"], "variants": [_VARIANT]},
    "categories_change_category": {"name": "Clothes", "parent_id": None},
    "categories_create_category": {"name": "T-shirts", "parent_id": show_id("cat")},
    "checkout_check_out": {"email": "ada@example.com", "expected_total": _MONEY, "tenders": [_CARD]},
    "customers_change_me": {"name": "Ada Lovelace", "phone": "+1 512 555 0100"},
    "customers_ask_for_reset": {"email": "ada@example.com"},
    "customers_create_customer": {"email": "ada@example.com", "password": "correct horse battery", "name": "Ada"},
    "customers_refresh_session": {"refresh_token": "hub_rt_4f7c2a9be1d03586"},
    "customers_reset_password": {
        "email": "ada@example.com",
        "code": "7KQ4-M2XD",
        "password": "correct horse battery",
    },
    "customers_sign_in": {"email": "ada@example.com", "password": "correct horse battery"},
    "devices_create_device": {"name": "Till 1", "location_id": show_id("loc"), "role": "till"},
    "devices_pair_device": {"code": "7KQ4-M2XD"},
    "fulfillments_cancel": {"reason": "out_of_stock"},
    "fulfillments_hand_over": {"code": "7KQ4-M2XD"},
    "fulfillments_pack": {"parcels": [{"weight_grams": 450}]},
    "fulfillments_pick": {"lines": [{"barcode": "4006381333931", "quantity": 2}]},
    "fulfillments_ship": {"carrier": "UPS", "tracking_number": "1Z999AA10123456784"},
    "gift_cards_issue_gift_card": {"balance": {"amount": 5000, "currency": "USD"}, "expires_at": _LATER},
    "gift_cards_look_up_gift_card": {"code": "GFT7-KQ4M-2XDP-9RNB"},
    "handoffs_claim_cart": {},
    "handoffs_resume_cart": {"code": "7KQ4-M2XD"},
    "keys_create_key": {"channel": "web", "role": "storefront", "allowed_origins": ["https://shop.example.com"]},
    "keys_rotate_key": {"overlap_seconds": 86400},
    "locations_change_location": {"pickup_window_days": 5, "capabilities": ["ship", "pickup", "returns", "till"]},
    "locations_create_location": {
        "code": "S2",
        "name": "Austin Downtown",
        "kind": "store",
        "address": {each: _ADDRESS[each] for each in ("line1", "city", "region", "postal_code", "country")},
        "latitude": 30.2672,
        "longitude": -97.7431,
        "timezone": "America/Chicago",
        "capabilities": ["pickup", "returns", "till"],
        "opening_hours": {"mon": [["09:00", "20:00"]], "sat": [["10:00", "13:00"], ["14:00", "19:00"]]},
        "holidays": [{"date": "2026-12-25", "hours": []}],
    },
    "order_lookup_look_up_order": {"number": "1001", "email": "ada@example.com"},
    "order_payments_pay_order": {"tenders": [_CARD]},
    "orders_cancel_order": {"lines": [_LINE], "reason": "customer_request"},
    "payments_capture_payment": {"amount": _MONEY, "reason": "shipped by hand"},
    "payments_refund_payment": {"amount": _MONEY, "reason": "goodwill"},
    "payments_void_payment": _REASON,
    "promotions_enter_promotion": {"code": "WELCOME10"},
    "registers_close_session": {"counted": {"amount": 25050, "currency": "USD"}},
    "registers_create_register": {"location_id": show_id("loc"), "name": "Till 1"},
    "registers_open_session": {"opening_float": {"amount": 10000, "currency": "USD"}},
    "registers_rename_register": {"name": "Till at the door"},
    "returns_create_return": {
        "order_id": show_id("ord"),
        "lines": [{**_LINE, "reason": "too_small"}],
        "method": "in_store",
        "location_id": show_id("loc"),
        "resolution": "refund",
        "receive": True,
    },
    "returns_look_up_orders": {"number": "1001"},
    "returns_receive_return": {"location_id": show_id("loc"), "lines": [{**_LINE, "disposition": "restock"}]},
    "returns_settle_return": {"register_id": show_id("reg")},
    "staff_change_person": {"role": "manager"},
    "staff_create_person": {
        "login": "grace",
        "name": "Grace Hopper",
        "role": "cashier",
        "password": "correct horse battery",
        "pin": "4711",
        "location_ids": [show_id("loc")],
    },
    "staff_start_shift": {"login": "grace", "pin": "4711"},
    "stock_adjust": {
        "location_id": show_id("loc"),
        "lines": [{"sku": "TEE-S", "delta": -1, "reason": "damaged"}],
        "reference": "shelf 12",
    },
    "stock_receive": {"location_id": show_id("loc"), "lines": [_TWO], "reference": "PO-1001"},
    "timelines_add_note": {"text": "Prefers to be called in the afternoon."},
    "wishlists_add_item": {"barcode": "4006381333931", "location_id": show_id("loc")},
    "wishlists_create_wishlist": {"name": "Birthday"},
}
"""By operation. What has no example here has one made from its schema."""

_KIND_OF: Final[Mapping[str, str]] = {
    "CartGiftCardView": "gift",
    "CartLineView": "line",
    "CartView": "cart",
    "CategoryView": "cat",
    "CustomerView": "cus",
    "DeviceView": "dev",
    "FoundOrder": "ord",
    "FulfillmentSummary": "ful",
    "FulfillmentView": "ful",
    "GiftCardView": "gift",
    "KeyView": "key",
    "ListedKey": "key",
    "LocationView": "loc",
    "NoteView": "note",
    "OperationView": "op",
    "OrderLineView": "line",
    "OrderView": "ord",
    "PaymentView": "pay",
    "PersonView": "staff",
    "ProductView": "prod",
    "RegisterView": "reg",
    "RemovedCategory": "cat",
    "ReturnView": "ret",
    "RotatedKey": "key",
    "SessionReport": "ses",
    "StepView": "cat",
    "VariantView": "var",
    "WishlistItemView": "item",
    "WishlistView": "list",
}
"""The prefix of the ``id`` in each part."""

_STATES: Final[Mapping[str, str]] = {
    "CartView": "open",
    "FulfillmentSummary": "open",
    "FulfillmentView": "open",
    "GiftCardView": "active",
    "OperationView": "succeeded",
    "PaymentView": "authorized",
    "ReturnView": "requested",
    "SessionReport": "open",
}

_KINDS: Final[Mapping[str, str]] = {
    "FulfillmentSummary": "ship",
    "FulfillmentView": "ship",
    "LocationView": "store",
    "MovementView": "sale",
    "OperationView": "authorize",
    "ProductView": "Shirts",
}

_TEXTS: Final[Mapping[str, str]] = {
    "access_token": "hub_ct_9b1d0f6a7c2e4385",
    "action": "POST /v1/stock/adjustments",
    "actor": show_id("key"),
    "alt": "The T-shirt from the front",
    "barcode": "04006381333931",
    "bin": "A-12-3",
    "bucket": "on_hand",
    "carrier": "UPS",
    "channel": "web",
    "city": "Austin",
    "code": "7KQ4-M2XD",
    "country": "US",
    "currency": "USD",
    "date": "2026-12-25",
    "decline_code": "insufficient_funds",
    "closed_by": show_id("staff"),
    "detail": "Less is in stock than the cart holds.",
    "description_html": "<p>Of organic cotton.</p>",
    "email": "ada@example.com",
    "fulfillment_state": "unfulfilled",
    "handle": "t-shirt",
    "last4": "2XDP",
    "line1": "1 Main St",
    "line2": "Apartment 4",
    "locale": "en-US",
    "login": "grace",
    "merged_into": show_id("cart"),
    "method": "ship",
    "name": "Ada Lovelace",
    "number": "1001",
    "opened_by": show_id("staff"),
    "pairing_code": "7KQ4-M2XD",
    "parent_id": show_id("cat"),
    "payment_state": "authorized",
    "permalink": "https://hub.example.com/orders/1001",
    "phone": "+1 512 555 0100",
    "pickup_code": "7KQ4-M2XD",
    "pickup_qr": "data:image/svg+xml,…",
    "pointer": "/lines/0/quantity",
    "postal_code": "78701",
    "processor": "stripe",
    "qr": "data:image/svg+xml,…",
    "reason": "damaged",
    "receipt_barcode": "2900000010017",
    "reference": show_id("ord"),
    "refresh_token": "hub_rt_4f7c2a9be1d03586",
    "region": "TX",
    "replaces": show_id("key"),
    "resolution": "refund",
    "role": "cashier",
    "secret": "hub_sk_0c5e8a1f7b3d9264",
    "sku": "TEE-S",
    "state": "placed",
    "status": "ok",
    "subject": show_id("ord"),
    "tax_class": "standard",
    "tender": "card",
    "text": "Prefers to be called in the afternoon.",
    "timezone": "America/Chicago",
    "title": "T-shirt",
    "to": "ada@example.com",
    "token": "3f8b6c1e9a7d4205",
    "token_type": "Bearer",
    "tracking_number": "1Z999AA10123456784",
    "type": "card",
    "unit": "each",
    "url": "https://hub.example.com/images/tee.jpg",
    "vendor": "Acme",
}
_ITEMS: Final[Mapping[str, str]] = {
    "allowed_origins": "https://shop.example.com",
    "capabilities": "pickup",
    "category_ids": show_id("cat"),
    "line_ids": show_id("line"),
    "location_ids": show_id("loc"),
    "options": "Small",
    "skus": "TEE-S",
    "tags": "summer",
}
_EVENTS: Final = {"TimelineEntry": "order.placed", "CustomerTimelineEntry": "order.placed"}


class Samples:
    """Makes an answer as a schema has it, the same each time."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas

    def make(self, schema: Mapping[str, Any], name: str = "", title: str = "", depth: int = 0) -> Any:
        """A value of a schema; ``name`` is its field's, ``title`` that of the part that the field is in."""
        if "$ref" in schema:
            return self.make(self._schemas[schema["$ref"].rpartition("/")[2]], name, title, depth)
        if "anyOf" in schema:
            return self.make(next(each for each in schema["anyOf"] if each.get("type") != "null"), name, title, depth)
        match schema.get("type"):
            case "object":
                return self._object(schema, name, title, depth)
            case "array":
                return self._array(schema, name, title, depth)
            case "integer" | "number" | "boolean" as kind:
                return _NUMBERS.get(name, _OTHERS[kind])
        return schema["enum"][0] if "enum" in schema else _text(name, title)

    def _object(self, schema: Mapping[str, Any], at: str, within: str, depth: int) -> dict[str, Any]:
        title, needed = schema.get("title", ""), schema.get("required", ())
        told = {
            name: each for name, each in schema.get("properties", {}).items() if name in needed or name not in _LEFT_OUT
        }
        if title == "Money":
            return {"amount": _AMOUNTS.get(f"{within}.{at}", _AMOUNTS.get(at, 1999)), "currency": "USD"}
        return {name: self.make(each, name, title, depth + 1) for name, each in told.items()}

    def _array(self, schema: Mapping[str, Any], name: str, title: str, depth: int) -> list[Any]:
        if depth > _DEPTH_MAX or not ({"items", "prefixItems"} & schema.keys()):
            return []
        if "prefixItems" in schema:
            return [self.make(each, name, title, depth + 1) for each in schema["prefixItems"]]
        return [self.make(schema["items"], name, title, depth + 1)]


_LEFT_OUT: Final = frozenset({"change", "error", "merged_into", "next_action", "line2"})
"""What there is at times only."""

# 1,999 less 200, and 499 for the way: 2,298, of which 177 are tax.
_AMOUNTS: Final[Mapping[str, int]] = {
    "amount_due": 0,
    "CartLineView.tax": 138,
    "CartLineView.total": 1799,
    "cash_out": 0,
    "delivery_total": 499,
    "discount": 200,
    "discount_total": 200,
    "OrderLineView.tax": 138,
    "OrderLineView.total": 1799,
    "over_short": 0,
    "price": 499,
    "refunded": 0,
    "returns": 0,
    "tax_total": 177,
    "total": 2298,
}
_NUMBERS: Final[Mapping[str, float]] = {
    "amount": 1999,
    "available": 7,
    "balance": 7,
    "cancelled": 0,
    "delta": -2,
    "fulfilled": 0,
    "latitude": 30.2672,
    "longitude": -97.7431,
    "on_hand": 9,
    "on_hold": False,
    "quantity_scale": 0,
    "reserved": 2,
    "returned": 0,
}
_OTHERS: Final[Mapping[str, float]] = {"integer": 1, "number": 1.5, "boolean": True}


def _text(name: str, title: str) -> str:
    kind = _KIND_OF.get(title, "staff") if name == "id" else PREFIXES.get(name)
    if kind is not None:
        return show_id(kind)
    for table, field in ((_STATES, "state"), (_KINDS, "kind"), (_EVENTS, "type")):
        if name == field and title in table:
            return table[title]
    if name.endswith("_at") or name in {"at", "until", "collect_by"}:
        return _LATER if name in {"expires_at", "collect_by"} else _MOMENT
    return _ITEMS.get(name) or _TEXTS.get(name) or {"next_cursor": "MTAwMQ", "kind": "authorize"}.get(name, "…")
