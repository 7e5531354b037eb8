"""Who may do what: by role, by place, and by the token that is in their hands."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.api.limits import Limiter
from commercehub.api.routing import mount, route
from commercehub.auth import MAY, STAFF_ROLES, Permission, Role
from tests.client import SHIP_TO, Channel, Channels
from tests.commercehub.api.conftest import CARD, World
from tests.commercehub.api.surface import Operation

KEYS = {
    Role.STOREFRONT: "web",
    Role.TILL: "store",
    Role.SERVICE: "call_center",
    Role.FULFILLMENT: "warehouse",
    Role.ADMIN: "admin",
}
GARBAGE = b'{"\xff'

# What somebody can do with the key out of a web page's source.
STOREFRONT = {
    "GET /v1/products",
    "GET /v1/products/{product_id}",
    "GET /v1/variants",
    "GET /v1/categories",
    "GET /v1/categories/{category_id}",
    "GET /v1/locations",
    "GET /v1/locations/{location_id}",
    "GET /v1/availability",
    "POST /v1/availability/query",
    "POST /v1/carts",
    "GET /v1/carts/{cart_id}",
    "POST /v1/carts/{cart_id}/lines",
    "PATCH /v1/carts/{cart_id}/lines/{line_id}",
    "DELETE /v1/carts/{cart_id}/lines/{line_id}",
    "PUT /v1/carts/{cart_id}/delivery",
    "POST /v1/carts/{cart_id}/handoff",
    "POST /v1/carts/resume",
    "POST /v1/carts/{cart_id}/promotions",
    "DELETE /v1/carts/{cart_id}/promotions/{code}",
    "POST /v1/carts/{cart_id}/gift-cards",
    "DELETE /v1/carts/{cart_id}/gift-cards/{gift_card_id}",
    "POST /v1/wishlists",
    "GET /v1/wishlists",
    "GET /v1/wishlists/{list_id}",
    "POST /v1/wishlists/{list_id}/items",
    "DELETE /v1/wishlists/{list_id}/items/{item_id}",
    "POST /v1/wishlists/{list_id}/items/{item_id}/move-to-cart",
    "POST /v1/wishlists/{list_id}/share",
    "DELETE /v1/wishlists/{list_id}/share",
    "POST /v1/carts/{cart_id}/checkout",
    "POST /v1/orders/lookup",
    "POST /v1/orders/{order_id}/payments",
    "GET /v1/orders/{order_id}",
    "GET /v1/orders/{order_id}/timeline",
    "GET /v1/availability/stream",
    "GET /v1/orders/{order_id}/stream",
    "POST /v1/returns",
    "GET /v1/returns",
    "GET /v1/returns/{return_id}",
    "GET /v1/returns/{return_id}/preview",
    "POST /v1/returns/{return_id}/cancel",
    "POST /v1/gift-cards/lookup",
    "POST /v1/customers",
    "POST /v1/customers/sessions",
    "POST /v1/customers/sessions/refresh",
    "POST /v1/customers/password-resets",
    "POST /v1/customers/password-resets/confirm",
}
# A wishlist that was shared opens by its link with any key; to have one somebody has to be somebody.
NEEDS_A_CUSTOMER = {"GET /v1/wishlists", "POST /v1/wishlists"}
# What has no credential, or has another one in it: a pairing code, a processor's signature.
PUBLIC = {
    "GET /health/live",
    "GET /health/ready",
    "GET /demo/mailbox",
    "POST /v1/devices/pair",
    "POST /v1/webhooks/{processor}",
}
NOWHERE = {name: ids.show(prefix, ids.new()) for name, prefix in (("cart_id", "cart"), ("order_id", "ord"))}


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


# --- by role ----------------------------------------------------------------------------------------------------------


def test_a_route_cannot_be_declared_without_a_permission() -> None:
    with pytest.raises(TypeError, match="permission"):
        route("GET", "/v1/open", answer=dict)  # type: ignore[call-arg]


def test_a_route_whose_permission_is_none_of_ours_does_not_start() -> None:
    async def handler(_: object) -> None: ...

    declared = route("GET", "/v1/open", answer=dict, permission=None)(handler)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="declares no permission"):
        mount(declared, lambda: pytest.fail("no hub yet"), Limiter(per_second=1, burst=1), base_url="")


def test_every_operation_but_a_few_needs_a_credential(surface: list[Operation]) -> None:
    assert {str(each) for each in surface if each.permission is None} == PUBLIC


def test_a_role_reads_as_what_it_is_for() -> None:
    assert set(MAY) == set(Role)
    assert MAY[Role.ADMIN] == set(Permission) - {Permission.PUBLIC}
    assert MAY[Role.STOREFRONT] < MAY[Role.SERVICE] < MAY[Role.TILL] < MAY[Role.ADMIN]
    assert not MAY[Role.FULFILLMENT] & {Permission.CARTS, Permission.TILL, Permission.KEYS, Permission.CATALOG_WRITE}


def test_a_storefront_key_may_shop_and_nothing_else(surface: list[Operation]) -> None:
    allowed = {str(each) for each in surface if each.permission and Permission(each.permission) in MAY[Role.STOREFRONT]}
    assert allowed == STOREFRONT


async def test_nobody_without_a_credential_is_let_in(
    surface: list[Operation], world: World, api: httpx.AsyncClient
) -> None:
    for operation in surface:
        answer = await api.request(operation.method, operation.at(world), content=GARBAGE)
        assert (answer.status_code == 401) == (operation.permission is not None), operation


def test_a_shift_may_less_than_an_administrator_and_signs_nobody_in() -> None:
    for role in STAFF_ROLES - {Role.ADMIN}:
        assert MAY[role] < MAY[Role.ADMIN]
        assert not MAY[role] & {Permission.STAFF_SIGN_IN, Permission.KEYS, Permission.LOCATIONS_WRITE}


def test_nobody_below_a_manager_administers_people_or_reads_the_log() -> None:
    for role in (Role.CASHIER, Role.PICKER, Role.SUPPORT, Role.TILL, Role.SERVICE, Role.FULFILLMENT):
        assert not MAY[role] & {Permission.STAFF, Permission.AUDIT_READ}


@pytest.mark.parametrize("role", KEYS)
async def test_a_role_is_let_in_where_the_table_says_so(
    role: Role, surface: list[Operation], world: World, channels: Channels
) -> None:
    channel = channels[KEYS[role]]
    let_in = set()
    for operation in surface:
        places = {name: ids.show(world[name].partition("_")[0], ids.new()) for name in operation.names("path")}
        answer = await channel.http.request(
            operation.method,
            operation.at(places),
            content=GARBAGE if operation.schema is not None else b"",
            headers={"Authorization": f"Bearer {channel.key}", "Content-Type": "application/json"},
        )
        assert answer.status_code not in {401, 500}, operation
        if answer.status_code != 403:
            let_in.add(str(operation))
    allowed = {str(each) for each in surface if each.permission and Permission(each.permission) in MAY[role]}
    assert let_in == PUBLIC | allowed - (NEEDS_A_CUSTOMER if role is Role.STOREFRONT else set())


async def test_what_is_forbidden_is_so_before_the_object_and_the_body_are_looked_at(app: Channel) -> None:
    answer = await app.http.post(
        f"/v1/orders/{NOWHERE['order_id']}/cancel", content=GARBAGE, headers={"Authorization": f"Bearer {app.key}"}
    )
    assert _code(answer) == (403, "forbidden")


async def test_cash_is_taken_at_a_till_only(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    answer = await app.check_out(cart, {"type": "cash"})
    assert _code(answer) == (403, "forbidden")


# --- out of turn ------------------------------------------------------------------------------------------------------


async def _send_garbage(channel: Channel, method: str, path: str, *, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {channel.key}", "Idempotency-Key": str(ids.new())}
    headers |= {"X-Cart-Token": token} if token else {}
    return _code(await channel.http.request(method, path, content=GARBAGE, headers=headers))


@pytest.mark.parametrize("step", ["pick", "pack", "ship", "deliver"])
async def test_a_step_out_of_turn_is_told_before_the_body_is_read(step: str, world: World, warehouse: Channel) -> None:
    found = await _send_garbage(warehouse, "POST", f"/v1/fulfillments/{world['fulfillment_id']}/{step}")
    assert found == (409, "invalid_transition")


async def test_a_step_in_turn_has_its_body_read(world: World, warehouse: Channel) -> None:
    found = await _send_garbage(warehouse, "POST", f"/v1/fulfillments/{world['fulfillment_id']}/start")
    assert found == (400, "invalid_request")


async def test_a_cart_that_made_an_order_says_so_whatever_is_sent_to_it(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    path, token = f"/v1/carts/{cart['id']}", cart["token"]
    for method, below in (
        ("POST", "/lines"),
        ("PATCH", f"/lines/{cart['lines'][0]['id']}"),
        ("PUT", "/delivery"),
        ("POST", "/checkout"),
    ):
        assert await _send_garbage(app, method, path + below, token=token) == (409, "cart_already_checked_out"), below
    taken_out = await app.delete(f"{path}/lines/{cart['lines'][0]['id']}", token=token)
    assert (taken_out.json()["order_id"], taken_out.json()["state"]) == (order["id"], "placed")


async def test_a_cancelled_order_says_so_whatever_is_sent_to_it(world: World, admin: Channel) -> None:
    path = f"/v1/orders/{world['order_id']}/cancel"
    await admin.ok("POST", path, {"reason": "other"})
    assert await _send_garbage(admin, "POST", path) == (409, "not_cancellable")


async def test_an_open_drawer_says_so_whatever_it_is_opened_with(till: Channel, drawer: str) -> None:
    assert await _send_garbage(till, "POST", f"/v1/registers/{drawer}/sessions") == (409, "session_already_open")


async def test_a_closed_drawer_says_so_whatever_was_counted(till: Channel, drawer: str) -> None:
    path = f"/v1/registers/{drawer}/sessions/current/close"
    await till.ok("POST", path, {"counted": {"amount": 0, "currency": "USD"}})
    assert await _send_garbage(till, "POST", path) == (409, "no_open_session")


# --- carts and orders by token ----------------------------------------------------------------------------------------


async def test_a_cart_does_not_open_with_another_carts_token(
    surface: list[Operation], world: World, app: Channel
) -> None:
    other = (await app.cart())["token"]
    for operation in [each for each in surface if "{cart_id}" in each.path and str(each) in STOREFRONT]:
        answer = await app.send(operation.method, operation.at(world), token=other)
        assert _code(answer) == (404, "not_found"), operation


async def test_a_carts_token_opens_it_in_every_publishable_channel(world: World, channels: Channels) -> None:
    for name in ("web", "app", "agent"):
        cart = await channels[name].ok("GET", f"/v1/carts/{world['cart_id']}", token=world.token)
        assert (cart["id"], cart["channel"]) == (world["cart_id"], "app")


async def test_a_carts_token_opens_the_order_that_it_became_and_no_other(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 2})
    first, second = await app.cart({"sku": sku}, ship=True), await app.cart({"sku": sku}, ship=True)
    mine, other = (await app.check_out(first, CARD)).json()["id"], (await app.check_out(second, CARD)).json()["id"]
    for below in ("", "/timeline"):
        await app.ok("GET", f"/v1/orders/{mine}{below}", token=first["token"])
        assert _code(await app.get(f"/v1/orders/{other}{below}", token=first["token"])) == (404, "not_found")
        assert _code(await app.get(f"/v1/orders/{mine}{below}")) == (404, "not_found")
    await app.ok("GET", f"/v1/carts/{first['id']}", token=first["token"])


async def test_whoever_serves_customers_opens_every_cart_and_order(world: World, channels: Channels) -> None:
    for name in ("call_center", "chat", "admin"):
        await channels[name].ok("GET", f"/v1/carts/{world['cart_id']}")
        await channels[name].ok("GET", f"/v1/orders/{world['order_id']}")


async def test_only_the_customers_own_answer_to_a_repeated_cart_has_its_token(app: Channel) -> None:
    cart = await app.cart()
    assert "token" in cart
    assert (await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"]))["token"] is None


# --- by place ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def other_till(admin: Channel, channels: Channels) -> Channel:
    """A till at S2."""
    body = {"channel": "store", "role": "till", "location_id": await channels.location("S2")}
    return Channel(admin.http, (await admin.ok("POST", "/v1/api-keys", body))["secret"])


async def _work_at(code: str, app: Channel, channels: Channels) -> Mapping[str, Any]:
    cart = await app.cart({"sku": await channels.product({code: 1})}, ship=True)
    order: Mapping[str, Any] = (await app.check_out(cart, CARD)).json()
    return order


async def test_a_till_sees_the_work_of_its_own_place(app: Channel, till: Channel, channels: Channels) -> None:
    order = await _work_at("S1", app, channels)
    work = order["fulfillments"][0]["id"]
    listed = await till.ok("GET", f"/v1/fulfillments?order_id={order['id']}")
    assert [each["id"] for each in listed["data"]] == [work]
    assert (await till.ok("POST", f"/v1/fulfillments/{work}/start"))["state"] == "picking"


async def test_a_till_sees_no_work_of_another_place(
    app: Channel, till: Channel, channels: Channels, surface: list[Operation]
) -> None:
    order = await _work_at("S2", app, channels)
    work = order["fulfillments"][0]
    for query in (f"order_id={order['id']}", f"location_id={work['location_id']}"):
        assert (await till.ok("GET", f"/v1/fulfillments?{query}"))["data"] == []
    for operation in [each for each in surface if "{fulfillment_id}" in each.path]:
        answer = await till.send(operation.method, operation.at({"fulfillment_id": work["id"]}))
        assert _code(answer) == (404, "not_found"), operation


async def test_a_warehouse_key_sees_the_work_of_every_place(
    app: Channel, warehouse: Channel, channels: Channels
) -> None:
    for code in ("DC1", "S1", "S2"):
        order = await _work_at(code, app, channels)
        assert len((await warehouse.ok("GET", f"/v1/fulfillments?order_id={order['id']}"))["data"]) == 1


async def test_a_till_sees_its_own_drawers(till: Channel, other_till: Channel, drawer: str) -> None:
    mine = {each["id"] for each in _all(await till.ok("GET", "/v1/registers?limit=200"))}
    others = {each["id"] for each in _all(await other_till.ok("GET", "/v1/registers?limit=200"))}
    assert (drawer in mine, mine & others) == (True, set())
    for method, below in (("GET", "sessions/current"), ("POST", "sessions"), ("POST", "sessions/current/close")):
        answer = await other_till.send(method, f"/v1/registers/{drawer}/{below}")
        assert _code(answer) == (404, "not_found"), below


def _all(page: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    assert page["next_cursor"] is None
    return iter(page["data"])


async def test_a_till_sees_the_carts_of_its_own_place(
    till: Channel, other_till: Channel, channels: Channels, world: World, surface: list[Operation]
) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    await till.ok("GET", f"/v1/carts/{cart['id']}")
    places = {**world, "cart_id": cart["id"], "line_id": cart["lines"][0]["id"]}
    for operation in [each for each in surface if "{cart_id}" in each.path]:
        assert _code(await other_till.send(operation.method, operation.at(places))) == (404, "not_found"), operation
        assert _code(await till.send(operation.method, operation.at(world))) == (404, "not_found"), operation


async def test_a_till_sees_any_order(till: Channel, world: World) -> None:
    order = await till.ok("GET", f"/v1/orders/{world['order_id']}")
    found = await till.ok("GET", f"/v1/orders?number={order['number']}")
    assert [each["id"] for each in found["data"]] == [world["order_id"]]
    await till.ok("GET", f"/v1/orders/{world['order_id']}/timeline")


async def test_goods_are_not_carried_out_of_another_place(till: Channel, channels: Channels) -> None:
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    delivery = {"method": "carry_out", "location_id": await channels.location("S2")}
    assert _code(await till.put(f"/v1/carts/{cart['id']}/delivery", delivery)) == (400, "invalid_request")


async def test_a_key_bound_to_a_place_receives_goods_there_alone(admin: Channel, channels: Channels) -> None:
    here, there = await channels.location("S1"), await channels.location("S2")
    body = {"channel": "back_office", "role": "fulfillment", "location_id": here}
    clerk = Channel(admin.http, (await admin.ok("POST", "/v1/api-keys", body))["secret"])
    sku = await channels.product()
    for path, line in (
        ("/v1/stock/receipts", {"sku": sku, "quantity": 1}),
        ("/v1/stock/adjustments", {"sku": sku, "delta": 1, "reason": "found"}),
    ):
        assert (await clerk.post(path, {"location_id": here, "lines": [line]})).status_code == 201
        assert _code(await clerk.post(path, {"location_id": there, "lines": [line]})) == (404, "not_found")


async def test_a_cart_of_no_place_cannot_be_carried_out(app: Channel, world: World) -> None:
    answer = await app.put(f"/v1/carts/{world['cart_id']}/delivery", {"method": "carry_out"}, token=world.token)
    assert _code(answer) == (422, "delivery_not_offered")
    answer = await app.put(
        f"/v1/carts/{world['cart_id']}/delivery", {"method": "ship", "address": SHIP_TO}, token=world.token
    )
    assert answer.status_code == 200
