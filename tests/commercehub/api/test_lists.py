"""Lists by the page: every item once, whatever is added meanwhile."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD, World
from tests.commercehub.api.surface import Operation

Case = tuple[str, Callable[[], Awaitable[str]]]
"""An address that lists some things, and a way to make another, which returns its id."""


class Cases:
    """By what is listed, a list of the test's own."""

    def __init__(self, channels: Channels) -> None:
        self._channels, self._admin, self._mark = channels, channels["admin"], uuid.uuid4().hex[:10]

    async def products(self) -> Case:
        async def make() -> str:
            sku = f"{self._mark}-{uuid.uuid4().hex[:8]}"
            body = {"title": sku, "variants": [{"sku": sku, "prices": []}]}
            return str((await self._admin.ok("POST", "/v1/products", body))["id"])

        return f"/v1/products?q={self._mark}", make

    async def orders(self) -> Case:
        async def make() -> str:
            return str((await self._order("DC1"))["id"])

        return f"/v1/orders?email={self._mark.upper()}@example.com", make

    async def fulfillments(self) -> Case:
        async def make() -> str:
            return str((await self._order("S3"))["fulfillments"][0]["id"])

        return f"/v1/fulfillments?location_id={await self._channels.location('S3')}&state=open", make

    async def movements(self) -> Case:
        sku, place = await self._channels.product(), await self._channels.location("S1")

        async def make() -> str:
            body = {"location_id": place, "lines": [{"sku": sku, "quantity": 1}]}
            await self._admin.ok("POST", "/v1/stock/receipts", body)
            return str((await self._admin.ok("GET", f"/v1/stock/movements?sku={sku}&limit=1"))["data"][0]["id"])

        return f"/v1/stock/movements?sku={sku}", make

    async def locations(self) -> Case:
        async def make() -> str:
            name = f"L-{uuid.uuid4().hex[:12]}"
            address = {"line1": "1 Main St", "city": "Perth", "country": "AU"}
            body = {"code": name, "name": name, "kind": "store", "address": address, "latitude": -31, "longitude": 115}
            more = {"timezone": "UTC", "capabilities": []}
            return str((await self._admin.ok("POST", "/v1/locations", body | more))["id"])

        return "/v1/locations?near=-31,115&radius_km=1", make

    async def registers(self) -> Case:
        async def make() -> str:
            return await self._channels.drawer("S3")

        return "/v1/registers?", make

    async def _order(self, code: str) -> Any:
        app = self._channels["app"]
        cart = await app.cart({"sku": await self._channels.product({code: 1})}, ship=True)
        return (await app.check_out(cart, CARD, more={"email": f"{self._mark}@example.com"})).json()


@pytest.fixture
def cases(channels: Channels) -> Cases:
    """Lists of the test's own."""
    return Cases(channels)


LISTS = ["products", "orders", "fulfillments", "movements", "locations", "registers"]


async def _walk(
    admin: Channel, path: str, limit: int, *, between: Callable[[], Awaitable[object]] | None = None
) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = await admin.ok("GET", f"{path}&limit={limit}{cursor}")
        assert len(page["data"]) <= limit
        found += [str(item["id"]) for item in page["data"]]
        assert len(found) == len(set(found)), "an item came twice"
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"
        if between is not None:
            await between()


@pytest.mark.parametrize("name", LISTS)
async def test_pages_together_are_the_list(name: str, cases: Cases, admin: Channel) -> None:
    path, make = await getattr(cases, name)()
    made = [await make() for _ in range(5)]
    whole = await _walk(admin, path, 200)
    assert set(made) <= set(whole)
    for limit in (2, 5):
        assert await _walk(admin, path, limit) == whole


@pytest.mark.parametrize("name", LISTS)
async def test_pages_hold_every_item_once_although_some_are_added_meanwhile(
    name: str, cases: Cases, admin: Channel
) -> None:
    path, make = await getattr(cases, name)()
    made = {await make() for _ in range(4)}
    left = iter(range(2))

    async def add() -> None:
        if next(left, None) is not None:
            await make()

    found = await _walk(admin, path, 2, between=add)
    assert made <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", ["orders", "movements", "fulfillments"])
async def test_the_newest_stands_first(name: str, cases: Cases, admin: Channel) -> None:
    path, make = await getattr(cases, name)()
    made = [await make() for _ in range(3)]
    assert (await _walk(admin, path, 200))[:3] == made[::-1]


async def test_the_oldest_product_stands_first(cases: Cases, admin: Channel) -> None:
    path, make = await cases.products()
    made = [await make() for _ in range(3)]
    assert await _walk(admin, path, 200) == made


async def test_a_timeline_is_read_by_the_page_too(world: World, admin: Channel, warehouse: Channel) -> None:
    path = f"/v1/orders/{world['order_id']}/timeline"
    await warehouse.ok("POST", f"/v1/fulfillments/{world['fulfillment_id']}/start")
    whole = (await admin.ok("GET", path))["data"]
    first = await admin.ok("GET", f"{path}?limit=2")
    rest = await admin.ok("GET", f"{path}?limit=2&cursor={first['next_cursor']}")
    assert (first["data"] + rest["data"], rest["next_cursor"]) == (whole, None)
    assert [entry["type"] for entry in whole] == ["order.awaiting_payment", "order.placed", "fulfillment.picking"]


async def test_a_page_has_one_to_200_items(surface: list[Operation]) -> None:
    for operation in surface:
        limit = next((each["schema"] for each in operation.parameters if each["name"] == "limit"), None)
        if limit is not None:
            assert (limit["minimum"], limit["maximum"]) == (1, 200), operation


async def test_a_cursor_tells_nothing_that_a_client_would_use(cases: Cases, admin: Channel) -> None:
    path, make = await cases.movements()
    for _ in range(2):
        await make()
    page = await admin.ok("GET", f"{path}&limit=1")
    assert page["next_cursor"] != str(page["data"][0]["id"])


async def test_a_search_takes_all_that_is_given_together(world: World, admin: Channel) -> None:
    order = await admin.ok("GET", f"/v1/orders/{world['order_id']}")
    for query, count in (
        (f"number={order['number']}", 1),
        (f"number={order['number']}&email=ADA@example.com", 1),
        (f"number={order['number']}&email=bob@example.com", 0),
        (f"number={order['number']}&channel=app&state=placed", 1),
        (f"number={order['number']}&channel=web", 0),
        (f"number={order['number']}&state=completed", 0),
        (f"customer_id={world['order_id'].replace('ord_', 'cus_')}", 0),
    ):
        assert len((await admin.ok("GET", f"/v1/orders?{query}"))["data"]) == count, query


async def test_a_list_of_what_is_not_there_is_empty(admin: Channel) -> None:
    for path in (
        "/v1/orders?number=none",
        "/v1/products?q=nothing-has-this-in-its-title",
        "/v1/stock/movements?sku=none",
    ):
        assert await admin.ok("GET", path) == {"data": [], "next_cursor": None}
