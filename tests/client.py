"""How tests speak to the hub: a client per credential, and the few steps that most stories begin with."""

import itertools
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from asyncpg import Connection

SHIP_TO = {"name": "Ada", "line1": "1 Main St", "city": "Austin", "postal_code": "78701", "country": "US"}

_serial = itertools.count(1)


class Channel:
    """The hub as one credential sees it. Every POST has an Idempotency-Key of its own unless one is given."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self.http = http
        self.key = key

    async def send(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        key: str | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request; ``key`` is the Idempotency-Key, '' for none, ``token`` a cart's."""
        sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        if method == "POST" and key != "":
            sent["Idempotency-Key"] = key or str(uuid.uuid4())
        if token:
            sent["X-Cart-Token"] = token
        return await self.http.request(method, path, json=json, headers=sent, timeout=30)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return await self.send("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        """POST."""
        return await self.send("POST", path, json, **options)

    async def put(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        """PUT."""
        return await self.send("PUT", path, json, **options)

    async def patch(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        """PATCH."""
        return await self.send("PATCH", path, json, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        """DELETE."""
        return await self.send("DELETE", path, **options)

    async def ok(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """What a request that has to succeed answers."""
        answer = await self.send(method, path, json, **options)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def cart(self, *lines: Mapping[str, Any], ship: bool = False) -> Any:
        """A cart with lines in it, to be shipped or to be carried out."""
        cart = await self.ok("POST", "/v1/carts", {})
        token = cart["token"]
        for line in lines:
            await self.ok("POST", f"/v1/carts/{cart['id']}/lines", line, token=token)
        if ship:
            delivery = {"method": "ship", "address": SHIP_TO}
            await self.ok("PUT", f"/v1/carts/{cart['id']}/delivery", delivery, token=token)
        return {**await self.ok("GET", f"/v1/carts/{cart['id']}", token=token), "token": token}

    async def pick_up(self, cart: Mapping[str, Any], location_id: str) -> Any:
        """The cart, now to be picked up at a location."""
        token = cart.get("token")
        delivery = {"method": "pickup", "location_id": location_id}
        cart = await self.ok("PUT", f"/v1/carts/{cart['id']}/delivery", delivery, token=token)
        return {**cart, "token": token}

    async def check_out(self, cart: Mapping[str, Any], *tenders: Mapping[str, Any], **options: Any) -> httpx.Response:
        """Check a cart out, as a guest with an e-mail address."""
        body = {"email": "ada@example.com", "tenders": list(tenders), **options.pop("more", {})}
        return await self.post(f"/v1/carts/{cart['id']}/checkout", body, token=cart.get("token"), **options)


class Customer(Channel):
    """The hub as somebody sees it who is signed in."""

    def __init__(self, http: httpx.AsyncClient, token: str, *, customer_id: str, email: str) -> None:
        super().__init__(http, token)
        self.id = customer_id
        self.email = email


class Channels:
    """A client for each key of the demo."""

    def __init__(self, http: httpx.AsyncClient, keys: Mapping[str, str]) -> None:
        self._channels = {name: Channel(http, key) for name, key in keys.items()}
        self.http = http

    def __getitem__(self, name: str) -> Channel:
        return self._channels[name]

    def __iter__(self) -> Any:
        return iter(self._channels)

    async def location(self, code: str) -> str:
        """The id of a location by its code."""
        places = await self["admin"].ok("GET", "/v1/locations")
        return next(str(place["id"]) for place in places["data"] if place["code"] == code)

    async def shopper(self, through: str = "app") -> Customer:
        """Somebody new, signed in through a key."""
        channel, customer = await self.customer(through)
        return Customer(channel.http, channel.key, customer_id=customer["id"], email=customer["email"])

    async def sign_in(self, customer: Customer, *, through: str) -> Customer:
        """The same customer, signed in through another key."""
        body = {"email": customer.email, "password": "correct horse battery"}
        session = await self[through].ok("POST", "/v1/customers/sessions", body)
        return Customer(self.http, session["access_token"], customer_id=customer.id, email=customer.email)

    async def product(self, stock: Mapping[str, int] | None = None, *, price: int = 1000, **variant: Any) -> str:
        """A new product of one variant with units at locations by their codes; returns its SKU."""
        sku = f"T-{uuid.uuid4().hex[:12]}-{next(_serial)}"
        body = {
            "title": f"Thing {sku}",
            "variants": [{"sku": sku, "prices": [{"amount": price, "currency": "USD"}]} | variant],
        }
        await self["admin"].ok("POST", "/v1/products", body)
        for code, quantity in (stock or {}).items():
            receipt = {"location_id": await self.location(code), "lines": [{"sku": sku, "quantity": quantity}]}
            await self["admin"].ok("POST", "/v1/stock/receipts", receipt)
        return sku

    async def drawer(self, code: str = "S1", *, opening_float: int = 0) -> str:
        """A new register at a location with its drawer open; returns the register's id."""
        body = {"location_id": await self.location(code), "name": f"Till {next(_serial)} {uuid.uuid4().hex[:6]}"}
        register = (await self["admin"].ok("POST", "/v1/registers", body))["id"]
        amount = {"amount": opening_float, "currency": "USD"}
        await self["admin"].ok("POST", f"/v1/registers/{register}/sessions", {"opening_float": amount})
        return str(register)

    async def customer(self, through: str = "app", **more: Any) -> tuple[Channel, Any]:
        """Somebody who signed up and in through a channel: a client with their token, and the customer."""
        body = {"email": f"c-{uuid.uuid4().hex}@example.com", "password": "correct horse battery", "name": "Ada"} | more
        customer = await self[through].ok("POST", "/v1/customers", body)
        sign_in = {"email": body["email"], "password": body["password"]}
        session = await self[through].ok("POST", "/v1/customers/sessions", sign_in)
        return Channel(self.http, session["access_token"]), customer

    async def level(self, sku: str, code: str) -> tuple[int, int]:
        """What is on hand and reserved of a SKU at a location."""
        place = await self.location(code)
        answer = await self["admin"].ok("GET", f"/v1/availability?sku={sku}&location_id={place}")
        for found in answer["data"][0]["locations"]:
            return found["on_hand"], found["reserved"]
        return 0, 0


class Statements:
    """Counts the statements that reach the driver; what begins and ends transactions does not count."""

    def __init__(self) -> None:
        self._seen: list[str] | None = None

    async def listen(self, connection: Connection) -> None:
        """Listen to a new connection."""
        connection.add_query_logger(self._note)

    def _note(self, record: Any) -> None:
        if self._seen is not None and not record.query.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            self._seen.append(record.query)

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[list[str]]:
        """The statements sent while the block runs."""
        self._seen = []
        try:
            yield self._seen
        finally:
            self._seen = None
