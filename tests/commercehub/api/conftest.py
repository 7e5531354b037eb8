"""What the tests of the surface share: the document, its operations, and a thing for every id in a path."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog

from commercehub.api import middleware, routing, streams
from commercehub.app import create_app
from commercehub.database import Database
from commercehub.settings import Settings
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


@pytest.fixture(scope="session", autouse=True)
async def undocumented(api: httpx.AsyncClient, surface: list[Operation]) -> AsyncIterator[set[str]]:
    """Whatever the tests are answered, the document has to tell of: every status, and every code of a refusal."""
    found: set[str] = set()
    addresses = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", each.path)), each) for each in surface]

    async def look(answer: httpx.Response) -> None:
        request = answer.request
        found_at = [
            operation
            for address, operation in addresses
            if operation.method == request.method and address.fullmatch(request.url.path)
        ]
        # `/v1/carts/current` is no `/v1/carts/{cart_id}`.
        exact = [operation for operation in found_at if operation.path == request.url.path]
        for operation in exact or found_at:
            await answer.aread()
            told = operation.codes.get(answer.status_code)
            code = f"`{answer.json()['code']}`" if answer.status_code >= 400 else ""
            if told is None or code not in told:
                found.add(f"{operation}: {answer.status_code} {code}")

    api.event_hooks["response"].append(look)
    yield found
    assert found == set()


@pytest.fixture(scope="session", autouse=True)
def short_streams() -> Iterator[None]:
    """A live stream ends as soon as it is open: ``httpx`` hears nothing of an answer before its end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(streams, "OPEN_SECONDS_MAX", 0.0)
        yield


class World(dict[str, str]):
    """An id that exists for every parameter of a path, and the token of the cart among them."""

    token: str


@pytest.fixture
async def world(channels: Channels, app: Channel, admin: Channel, people: Mapping[str, str]) -> World:
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
    variant = (await app.ok("GET", f"/v1/variants?sku={sku}"))["data"][0]
    world = World(
        cart_id=cart["id"],
        line_id=cart["lines"][0]["id"],
        order_id=order["id"],
        fulfillment_id=order["fulfillments"][0]["id"],
        location_id=place,
        register_id=await channels.drawer(),
        product_id=variant["product_id"],
        variant_id=variant["id"],
        key_id=key["id"],
        operation_id=operation.json()["id"],
        sku=sku,
    )
    world.token = cart["token"]
    world |= await _brought_back(channels) | dict(people)
    return world


@pytest.fixture(scope="session")
async def shopper(channels: Channels) -> Channel:
    """A customer who is signed in: ``/v1/customers/me`` is about nobody else."""
    return (await channels.customer())[0]


@pytest.fixture(scope="session")
async def people(channels: Channels, shopper: Channel) -> Mapping[str, str]:
    """Somebody who buys and wants more, somebody who works, a device; and what stands in paths without being an id."""
    admin, place = channels["admin"], await channels.location("S1")
    customer = await shopper.ok("GET", "/v1/customers/me")
    wishlist = await shopper.ok("POST", "/v1/wishlists", {})
    wishlist = await shopper.ok(
        "POST", f"/v1/wishlists/{wishlist['id']}/items", {"sku": await channels.product({"S1": 1})}
    )
    person = {"login": f"p-{uuid.uuid4().hex}", "name": "P", "role": "support", "password": "correct horse battery"}
    return {
        "customer_id": customer["id"],
        "list_id": wishlist["id"],
        "item_id": wishlist["items"][0]["id"],
        "staff_id": (await admin.ok("POST", "/v1/staff", person))["id"],
        "device_id": (await admin.ok("POST", "/v1/devices", {"name": "Till", "location_id": place}))["id"],
        "gift_card_id": (await admin.ok("POST", "/v1/gift-cards", {"balance": {"amount": 1, "currency": "USD"}}))["id"],
        "code": "WELCOME10",
        "processor": "sandbox",
        "category_id": (await admin.ok("POST", "/v1/categories", {"name": f"C {uuid.uuid4().hex}"}))["id"],
    }


async def _brought_back(channels: Channels) -> dict[str, str]:
    """A payment, and a return that waits for its goods."""
    till, call_center = channels["store"], channels["call_center"]
    register = await channels.drawer()
    cart = await till.cart({"sku": await channels.product({"S1": 1})})
    order = (await till.check_out(cart, {"type": "cash"}, more={"register_id": register})).json()
    lines = [{"line_id": order["lines"][0]["id"], "quantity": 1}]
    asked = {"order_id": order["id"], "method": "mail", "lines": lines}
    back = await call_center.ok("POST", "/v1/returns", asked)
    payments = await call_center.ok("GET", f"/v1/payments?order_id={order['id']}")
    return {"payment_id": payments["data"][0]["id"], "return_id": back["id"]}


READ_TABLES = """
SELECT format('%I.%I', schemaname, tablename) AS name
FROM pg_tables
WHERE schemaname IN ('commercehub', 'inventory', 'payments', 'fulfillment') AND tablename NOT LIKE 'events\\_%'
ORDER BY 1
"""


@pytest.fixture
async def tables(database: Database) -> list[str]:
    """Every table of the hub; an event's partitions are seen through it."""
    async with database.connection() as db:
        return [row["name"] for row in await db.fetch(READ_TABLES)]


@pytest.fixture
def fingerprint(database: Database, tables: list[str]) -> Callable[[], Awaitable[dict[str, str]]]:
    """How many rows each table has, and a checksum of them all."""

    async def take() -> dict[str, str]:
        async with database.connection() as db:
            return {
                name: await db.fetchval(
                    f"SELECT concat(count(*), ' ', sum(hashtextextended(r::text, 0))) FROM {name} AS r"
                )
                for name in tables
            }

    return take


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A hub of the test's own, in this process."""
    app = create_app(settings)
    started, ended = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # Litestar's lifespan has to end in the task that it began in, and fixtures end in another.
        async with app.lifespan():
            started.set()
            await ended.wait()

    lifespan = asyncio.create_task(live())
    await started.wait()
    try:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=settings.base_url) as client:
            yield client
    finally:
        ended.set()
        await lifespan


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the edge logs while a test runs, the access log too, which is off in the suite."""
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(
        None,
        processors=[structlog.contextvars.merge_contextvars, capture],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    monkeypatch.setattr(middleware, "log", log)
    monkeypatch.setattr(routing, "log", log)
    return capture.entries
