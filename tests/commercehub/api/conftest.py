"""What the tests of the surface share: the document, its operations, and a thing for every id in a path."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest

from commercehub.database import Database
from tests.client import Channel, Channels
from tests.commercehub.api.surface import Operation, Shapes, operations

CARD = {"type": "card", "payment_method": "pm_ok"}


@pytest.fixture(scope="session")
async def document(api: httpx.AsyncClient) -> Mapping[str, Any]:
    """The OpenAPI document."""
    answer = await api.get("/openapi.json")
    assert answer.status_code == 200
    found: Mapping[str, Any] = answer.json()
    return found


@pytest.fixture(scope="session")
def surface(document: Mapping[str, Any]) -> list[Operation]:
    """Every operation of the API."""
    return operations(document)


@pytest.fixture(scope="session")
def shapes(document: Mapping[str, Any]) -> Shapes:
    """Makes bodies as the document describes them."""
    return Shapes(document)


class World(dict[str, str]):
    """An id that exists for every parameter of a path, and the token of the cart among them."""

    token: str


@pytest.fixture
async def world(channels: Channels, app: Channel, admin: Channel) -> World:
    """One thing of every kind: an open cart, an order with work to do, a till, a product, a place, a key, an import."""
    sku = await channels.product({"DC1": 9})
    cart = await app.cart({"sku": sku}, ship=True)
    order = (await app.check_out(await app.cart({"sku": sku}, ship=True), CARD)).json()
    place = await channels.location("S1")
    key = await admin.ok("POST", "/v1/api-keys", {"channel": "app", "role": "storefront"})
    operation = await admin.http.post(
        f"/v1/imports/products?currency=USD&location_id={place}",
        content="Handle,Title,Variant Price\n",
        headers={"Authorization": f"Bearer {admin.key}", "Content-Type": "text/csv"},
    )
    world = World(
        cart_id=cart["id"],
        line_id=cart["lines"][0]["id"],
        order_id=order["id"],
        fulfillment_id=order["fulfillments"][0]["id"],
        location_id=place,
        register_id=await channels.drawer(),
        product_id=(await app.ok("GET", f"/v1/variants?sku={sku}"))["data"][0]["product_id"],
        key_id=key["id"],
        operation_id=operation.json()["id"],
        sku=sku,
    )
    world.token = cart["token"]
    return world


READ_TABLES = """
SELECT format('%I.%I', schemaname, tablename) AS name
FROM pg_tables
WHERE schemaname IN ('commercehub', 'inventory', 'payments', 'fulfillment') AND tablename NOT LIKE 'events\\_%'
ORDER BY 1
"""


@pytest.fixture
def fingerprint(database: Database) -> Callable[[], Awaitable[dict[str, tuple[int, int]]]]:
    """How many rows each table has, and a checksum of them all."""

    async def take() -> dict[str, tuple[int, int]]:
        async with database.connection() as db:
            names = [row["name"] for row in await db.fetch(READ_TABLES)]
            return {
                name: tuple(
                    await db.fetchrow(
                        f"SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)), 0)::text FROM {name} AS r"
                    )
                )
                for name in names
            }

    return take
