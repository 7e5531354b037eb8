"""Every route × every kind of credential × an object that is theirs, somebody else's, or nobody's.

Made from the routes: one that is added without a word here is tried too, and one whose path has an id that this file
does not know of fails.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from commercehub import ids
from commercehub.api.routing import PREFIXES
from commercehub.auth import MAY, Permission, Role
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD
from tests.commercehub.api.surface import Operation

GARBAGE = b'{"\xff'
PASSWORD = "correct horse battery"
SOME_CARD = ids.show("gift", ids.new())

# Whose things there are: two customers, a guest, what was made or is worked on at two stores, and the shop's own.
OWNERS = ("ada", "bob", "guest", "S1", "S2", "shop")
PEOPLE = frozenset({"ada", "bob", "guest"})
EVERYBODY = frozenset(OWNERS)


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A way to call the hub, and whose objects of each kind it may know of, beside the shop's."""

    name: str
    role: Role | None
    carts: frozenset[str] = frozenset()
    orders: frozenset[str] = frozenset()
    customers: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()


def _credential(name: str, role: Role | None, **sees: frozenset[str]) -> Credential:
    return Credential(name=name, role=role, **sees)


S1 = frozenset({"S1"})
BOTH = frozenset({"S1", "S2"})
CREDENTIALS = {
    each.name: each
    for each in (
        _credential("nobody", None),
        _credential("revoked key", None),
        _credential("signed out customer", None),
        _credential("web key", Role.STOREFRONT),
        _credential("web key and the guest's cart token", Role.STOREFRONT, carts=frozenset({"guest"})),
        _credential("web key and the token of the guest's order", Role.STOREFRONT, orders=frozenset({"guest"})),
        _credential(
            "ada", Role.CUSTOMER, carts=frozenset({"ada"}), orders=frozenset({"ada"}), customers=frozenset({"ada"})
        ),
        _credential("guest with an order token", Role.GUEST, orders=frozenset({"guest"})),
        _credential("till at S1", Role.TILL, carts=S1, orders=EVERYBODY, customers=PEOPLE, places=S1),
        _credential("device at S1", Role.TILL, carts=S1, orders=EVERYBODY, customers=PEOPLE, places=S1),
        _credential("cashier at S1", Role.CASHIER, carts=S1, orders=EVERYBODY, customers=PEOPLE, places=S1),
        _credential("manager at S1", Role.MANAGER, carts=S1, orders=EVERYBODY, customers=PEOPLE, places=S1),
        _credential("picker at S1", Role.PICKER, orders=EVERYBODY, places=S1),
        _credential("chat key", Role.SERVICE, carts=EVERYBODY, orders=EVERYBODY, customers=PEOPLE, places=BOTH),
        _credential("support", Role.SUPPORT, carts=EVERYBODY, orders=EVERYBODY, customers=PEOPLE, places=BOTH),
        _credential("warehouse key", Role.FULFILLMENT, orders=EVERYBODY, places=BOTH),
        _credential("admin key", Role.ADMIN, carts=EVERYBODY, orders=EVERYBODY, customers=PEOPLE, places=BOTH),
    )
}

# Which of a credential's kinds of object an id in a path belongs to. The shop's own is known to whoever may ask.
KIND_OF = {
    "cart_id": "carts",
    "order_id": "orders",
    "return_id": "orders",
    "customer_id": "customers",
    "list_id": "customers",
    "fulfillment_id": "places",
    "register_id": "places",
    "staff_id": "places",
    "device_id": "places",
    "location_id": "shop",
    "product_id": "shop",
    "category_id": "shop",
    "key_id": "shop",
    "operation_id": "shop",
    "payment_id": "shop",
    "processor": "shop",
}
# They stand below another id, which says whose they are.
BELOW = frozenset({"line_id", "item_id", "code", "gift_card_id", "variant_id"})
# A promotion and a gift card that could be in a cart, and are in none.
IN_NO_CART = {"code": "WELCOME10", "gift_card_id": ids.show("gift", ids.new())}


class Things(msgspec.Struct, frozen=True):
    """Ids by owner and by name in the path, and the tokens that open them."""

    of: Mapping[str, Mapping[str, str]]
    secrets: Mapping[str, tuple[str, str | None]]


async def _shopped(shopper: Channel, sku: str) -> tuple[dict[str, str], Any]:
    cart = await shopper.cart({"sku": sku}, ship=True)
    return {"cart_id": cart["id"], "line_id": cart["lines"][0]["id"], **IN_NO_CART}, cart


async def _at(code: str, channels: Channels, sku: str) -> dict[str, str]:
    """What belongs to a store: a cart at its till, work, a register, somebody who works there, a device."""
    admin, place = channels["admin"], await channels.location(code)
    key = await admin.ok("POST", "/v1/api-keys", {"channel": "store", "role": "till", "location_id": place})
    till = Channel(channels.http, key["secret"])
    cart = await till.cart({"sku": sku})
    sent = await channels["chat"].cart({"sku": await channels.product({code: 1})}, ship=True)
    order = (await channels["chat"].check_out(sent, CARD)).json()
    person = {"login": f"p-{uuid.uuid4().hex[:12]}", "name": "P", "role": "picker", "password": PASSWORD}
    device = {"name": "Scanner", "location_id": place, "role": "fulfillment"}
    return {
        "cart_id": cart["id"],
        "line_id": cart["lines"][0]["id"],
        **IN_NO_CART,
        "order_id": order["id"],
        "fulfillment_id": order["fulfillments"][0]["id"],
        "register_id": await channels.drawer(code),
        "staff_id": (await admin.ok("POST", "/v1/staff", person | {"location_ids": [place]}))["id"],
        "device_id": (await admin.ok("POST", "/v1/devices", device))["id"],
    }


async def _customer(channels: Channels, warehouse: Channel, sku: str) -> tuple[Channel, dict[str, str]]:
    """What belongs to a customer: carts, orders, a wishlist, and goods on their way back."""
    channel, customer = await channels.customer()
    sent = (await channel.check_out(await channel.cart({"sku": sku}, ship=True), CARD)).json()
    work = f"/v1/fulfillments/{sent['fulfillments'][0]['id']}"
    await warehouse.ok("POST", f"{work}/start")
    await warehouse.ok("POST", f"{work}/pick", {"lines": [{"sku": sku, "quantity": 1}]})
    await warehouse.ok("POST", f"{work}/pack", {})
    await warehouse.ok("POST", f"{work}/ship", {})
    line = {"line_id": sent["lines"][0]["id"], "quantity": 1, "reason": "changed_mind"}
    returned = {"order_id": sent["id"], "lines": [line], "method": "mail", "resolution": "refund"}
    wishlist = await channel.ok("POST", "/v1/wishlists", {"name": "Some day"})
    wishlist = await channel.ok("POST", f"/v1/wishlists/{wishlist['id']}/items", {"sku": sku})
    cart = await channel.cart({"sku": sku}, ship=True)
    return channel, {
        "customer_id": customer["id"],
        "order_id": sent["id"],
        "return_id": (await channel.ok("POST", "/v1/returns", returned))["id"],
        "list_id": wishlist["id"],
        "item_id": wishlist["items"][0]["id"],
        "cart_id": cart["id"],
        "line_id": cart["lines"][0]["id"],
        **IN_NO_CART,
    }


async def _shop(channels: Channels, sku: str, order_id: str) -> dict[str, str]:
    """What belongs to nobody but the shop."""
    admin, place = channels["admin"], await channels.location("S1")
    imported = await admin.http.post(
        f"/v1/imports/products?currency=USD&location_id={place}",
        content="Handle,Title,Variant Price\n",
        headers={"Authorization": f"Bearer {admin.key}", "Content-Type": "text/csv"},
    )
    variant = (await admin.ok("GET", f"/v1/variants?sku={sku}"))["data"][0]
    return {
        "location_id": place,
        "product_id": variant["product_id"],
        "variant_id": variant["id"],
        "category_id": (await admin.ok("POST", "/v1/categories", {"name": f"C {uuid.uuid4().hex}"}))["id"],
        "key_id": (await admin.ok("POST", "/v1/api-keys", {"channel": "web", "role": "storefront"}))["id"],
        "operation_id": imported.json()["id"],
        "payment_id": (await admin.ok("GET", f"/v1/payments?order_id={order_id}"))["data"][0]["id"],
    }


async def _shift(channels: Channels, role: str, *codes: str, through: str) -> str:
    person = {
        "login": f"{role}-{uuid.uuid4().hex[:12]}",
        "name": "Somebody",
        "role": role,
        "password": PASSWORD,
        "location_ids": [await channels.location(code) for code in codes],
    }
    await channels["admin"].ok("POST", "/v1/staff", person)
    sign_in = {"login": person["login"], "password": PASSWORD}
    return str((await channels[through].ok("POST", "/v1/staff/sessions", sign_in))["access_token"])


async def _outsiders(channels: Channels) -> dict[str, tuple[str, str | None]]:
    """Who is not let in any more."""
    admin = channels["admin"]
    revoked = await admin.ok("POST", "/v1/api-keys", {"channel": "back_office", "role": "admin"})
    await admin.ok("DELETE", f"/v1/api-keys/{revoked['id']}")
    # A new password ends the session that nobody has used yet, so that no process remembers it.
    here, customer = await channels.customer()
    sign_in = {"email": customer["email"], "password": PASSWORD}
    there = await channels["web"].ok("POST", "/v1/customers/sessions", sign_in)
    await here.ok("PATCH", "/v1/customers/me", {"password": "another good one", "current_password": PASSWORD})
    return {
        "nobody": ("", None),
        "revoked key": (revoked["secret"], None),
        "signed out customer": (there["access_token"], None),
    }


@pytest.fixture(scope="module")
async def things(channels: Channels) -> Things:
    """The world of this file."""
    sku = await channels.product({"DC1": 20, "S1": 5, "S2": 5})
    web, admin, place = channels["web"], channels["admin"], await channels.location("S1")
    ada, hers = await _customer(channels, channels["warehouse"], sku)
    _, his = await _customer(channels, channels["warehouse"], sku)
    guest, cart = await _shopped(web, sku)
    bought = await web.cart({"sku": sku}, ship=True)
    email = f"g-{uuid.uuid4().hex}@example.com"
    guest["order_id"] = (
        await web.ok(
            "POST",
            f"/v1/carts/{bought['id']}/checkout",
            {"email": email, "tenders": [CARD]},
            token=bought["token"],
        )
    )["id"]
    number = (await admin.ok("GET", f"/v1/orders/{guest['order_id']}"))["number"]
    found = await web.ok("POST", "/v1/orders/lookup", {"number": number, "email": email})
    device = await admin.ok("POST", "/v1/devices", {"name": "Till", "location_id": place})
    paired = await web.http.post("/v1/devices/pair", json={"code": device["pairing_code"]})
    return Things(
        of={
            "ada": hers,
            "bob": his,
            "guest": guest,
            "S1": await _at("S1", channels, sku),
            "S2": await _at("S2", channels, sku),
            "shop": await _shop(channels, sku, guest["order_id"]),
        },
        secrets={
            **await _outsiders(channels),
            "web key": (web.key, None),
            "web key and the guest's cart token": (web.key, cart["token"]),
            "web key and the token of the guest's order": (web.key, bought["token"]),
            "ada": (ada.key, None),
            "guest with an order token": (found["access_token"], None),
            "till at S1": (channels["store"].key, None),
            "device at S1": (paired.json()["access_token"], None),
            "cashier at S1": (await _shift(channels, "cashier", "S1", through="store"), None),
            "manager at S1": (await _shift(channels, "manager", "S1", through="store"), None),
            "picker at S1": (await _shift(channels, "picker", "S1", through="warehouse"), None),
            "support": (await _shift(channels, "support", through="call_center"), None),
            "chat key": (channels["chat"].key, None),
            "warehouse key": (channels["warehouse"].key, None),
            "admin key": (admin.key, None),
        },
    )


def _subject(operation: Operation) -> str | None:
    """The name of the id that says whose object an operation is about."""
    return next((name for name in operation.names("path") if name not in BELOW), None) or next(
        iter(operation.names("path")), None
    )


def _missing(operation: Operation) -> dict[str, str]:
    return {
        name: ids.show(PREFIXES[name], ids.new()) if name in PREFIXES else "nothing" for name in operation.names("path")
    }


def _sees(credential: Credential, kind: str) -> frozenset[str]:
    return EVERYBODY if kind == "shop" else getattr(credential, kind)


async def _send(operation: Operation, places: Mapping[str, str], secret: str, token: str | None, http: Any) -> Any:
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    headers |= {"Authorization": f"Bearer {secret}"} if secret else {}
    headers |= {"X-Cart-Token": token} if token else {}
    content = GARBAGE if operation.schema is not None else b""
    return await http.request(operation.method, operation.at(places), content=content, headers=headers)


def test_every_id_in_a_path_is_somebodys(surface: list[Operation]) -> None:
    known = KIND_OF.keys() | BELOW
    assert {name for operation in surface for name in operation.names("path")} <= known


def test_every_role_has_a_credential_here() -> None:
    assert {each.role for each in CREDENTIALS.values()} - {None} == set(Role)


@pytest.mark.parametrize("name", CREDENTIALS)
async def test_a_credential_opens_what_the_table_says_and_nothing_else(
    name: str, surface: list[Operation], things: Things, channels: Channels
) -> None:
    credential, (secret, token) = CREDENTIALS[name], things.secrets[name]
    wrong: list[str] = []
    for operation in surface:
        if operation.permission is None:
            continue
        subject = _subject(operation)
        kind = KIND_OF.get(subject or "", "shop")
        cases: list[tuple[str, Mapping[str, str]]] = [("missing", _missing(operation))]
        if subject is not None:
            wanted = set(operation.names("path"))
            cases += [(owner, owned) for owner, owned in things.of.items() if wanted <= owned.keys()]
            assert len(cases) > 1, f"{operation}: nobody has such a thing in this test"
        for owner, places in cases:
            expected = _expected(credential, operation, owner, kind, subject)
            if expected is None:
                continue
            answer = await _send(operation, places, secret, token, channels.http)
            if answer.status_code not in expected:
                wrong.append(f"{operation} of {owner}: {answer.status_code}, not {sorted(expected)}")
    assert wrong == []


# A wishlist that was shared opens by its link with any key; to have one somebody has to be somebody.
NEEDS_A_CUSTOMER = frozenset({"GET /v1/wishlists", "POST /v1/wishlists"})
ANSWERED = frozenset({200, 201, 202, 400, 409, 412, 415, 422, 428})


def _expected(
    credential: Credential, operation: Operation, owner: str, kind: str, subject: str | None
) -> frozenset[int] | None:
    """The statuses that may come back; ``None``: not tried, since it would really be done."""
    if credential.role is None:
        return frozenset({401})
    if Permission(operation.permission or "") not in MAY[credential.role]:
        return frozenset({403})
    if credential.role is Role.STOREFRONT and str(operation) in NEEDS_A_CUSTOMER:
        return frozenset({403})
    if subject is None:
        # A list, or something new: what is in it is the matter of its own tests. Here: that it is let in.
        return (ANSWERED | {404}) if operation.schema is not None or operation.method == "GET" else None
    if owner == "missing" or owner not in _sees(credential, kind):
        return frozenset({404})
    return ANSWERED if operation.method == "GET" or operation.schema is not None else None
