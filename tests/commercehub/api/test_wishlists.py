"""Wishlists: a customer's own in every channel, filled at the shelf, moved to the cart, shown to others by a link."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from commercehub.sales import lists
from commercehub.sales.barcodes import check_digit
from tests.client import Channel, Channels, Customer


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def _skus(page: Any) -> list[str]:
    return [item["sku"] for item in page["items"]]


@pytest.fixture
async def customer(channels: Channels) -> Customer:
    """Somebody who is signed in."""
    return await channels.shopper()


async def _list(channel: Channel, *skus: str, **more: Any) -> Any:
    made = await channel.ok("POST", "/v1/wishlists", more)
    for sku in skus:
        made = await channel.ok("POST", f"/v1/wishlists/{made['id']}/items", {"sku": sku})
    return made


async def test_a_list_tells_what_its_items_cost_and_whether_they_are_there(
    customer: Customer, channels: Channels
) -> None:
    sku = await channels.product({"DC1": 3}, price=1999)
    made = await _list(customer, sku, name="Some day")
    assert (made["name"], made["customer_id"], made["is_shared"]) == ("Some day", customer.id, False)
    (item,) = made["items"]
    assert (item["price"], item["available_to_ship"], item["location_id"]) == (
        {"amount": 1999, "currency": "USD"},
        3,
        None,
    )
    assert await customer.ok("GET", f"/v1/wishlists/{made['id']}") == made
    assert (await customer.ok("GET", "/v1/wishlists"))["data"] == [made]


async def test_an_item_is_on_a_list_once_and_stands_on_the_timeline_once(
    customer: Customer, channels: Channels
) -> None:
    sku = await channels.product()
    made = await _list(customer)
    path = f"/v1/wishlists/{made['id']}/items"
    await asyncio.gather(*(customer.ok("POST", path, {"sku": sku.lower()}) for _ in range(5)))
    seen = await customer.ok("GET", f"/v1/wishlists/{made['id']}")
    assert (_skus(seen), seen["version"]) == ([sku], made["version"] + 1)
    told = (await customer.ok("GET", f"/v1/customers/{customer.id}/timeline"))["data"]
    assert [entry["type"] for entry in told] == ["customer.signed_up", "wishlist.item_added"]


async def test_a_scan_at_the_shelf_keeps_the_store(customer: Customer, channels: Channels) -> None:
    digits = "4" + str(uuid.uuid4().int)[-11:]
    barcode = digits + check_digit(digits)
    sku, there, here = (
        await channels.product(barcode=barcode),
        await channels.location("S2"),
        await channels.location("S1"),
    )
    mine, theirs = await _list(customer), await _list(customer)
    scanned = await customer.ok("POST", f"/v1/wishlists/{mine['id']}/items", {"barcode": barcode, "location_id": there})
    helped = await channels["store"].ok("POST", f"/v1/wishlists/{theirs['id']}/items", {"barcode": barcode})
    assert [(each["items"][0]["sku"], each["items"][0]["location_id"]) for each in (scanned, helped)] == [
        (sku, there),
        (sku, here),
    ]


async def test_an_item_is_named_in_one_way_and_exists(customer: Customer) -> None:
    path = f"/v1/wishlists/{(await _list(customer))['id']}/items"
    assert _code(await customer.post(path, {})) == (400, "invalid_request")
    assert _code(await customer.post(path, {"sku": "no such SKU"})) == (422, "unknown_variant")
    assert _code(await customer.post(path, {"barcode": "4006381333932"})) == (422, "invalid_barcode")
    nowhere = {"sku": "X", "location_id": "loc_" + "0" * 26}
    assert _code(await customer.post(path, nowhere)) == (404, "not_found")


async def test_an_item_moves_to_the_open_cart_which_is_begun_if_there_is_none(
    customer: Customer, channels: Channels
) -> None:
    first, second = await channels.product(), await channels.product()
    made = await _list(customer, first, second)
    moved = []
    for item in made["items"]:
        path = f"/v1/wishlists/{made['id']}/items/{item['id']}/move-to-cart"
        moved.append(await customer.ok("POST", path))
        assert _code(await customer.post(path)) == (404, "not_found")
    assert moved[0]["id"] == moved[1]["id"] == (await customer.ok("GET", "/v1/carts/current"))["id"]
    assert [line["sku"] for line in moved[1]["lines"]] == [first, second]
    assert _skus(await customer.ok("GET", f"/v1/wishlists/{made['id']}")) == []


async def test_what_the_cart_does_not_take_stays_on_the_list(customer: Customer, channels: Channels) -> None:
    sku = await channels.product(prices=[{"amount": 1, "currency": "ISK"}])
    made = await _list(customer, sku)
    assert made["items"][0]["price"] is None
    item = made["items"][0]["id"]
    answer = await customer.post(f"/v1/wishlists/{made['id']}/items/{item}/move-to-cart")
    assert _code(answer) == (422, "no_price")
    assert _skus(await customer.ok("GET", f"/v1/wishlists/{made['id']}")) == [sku]


async def test_an_item_is_taken_off(customer: Customer, channels: Channels) -> None:
    made = await _list(customer, await channels.product())
    path = f"/v1/wishlists/{made['id']}/items/{made['items'][0]['id']}"
    assert _skus(await customer.ok("DELETE", path)) == []
    assert _code(await customer.delete(path)) == (404, "not_found")


async def test_a_link_shows_the_list_and_nothing_of_whose_it_is(
    customer: Customer, app: Channel, channels: Channels
) -> None:
    there = await channels.location("S2")
    made = await _list(customer)
    path = f"/v1/wishlists/{made['id']}"
    item = {"sku": await channels.product(), "location_id": there}
    await customer.ok("POST", f"{path}/items", item)
    shared = await customer.ok("POST", f"{path}/share")
    assert shared == await customer.ok("POST", f"{path}/share")
    for friend in (app, await channels.shopper()):
        seen = await friend.ok("GET", shared["url"].removeprefix("http://hub.test"))
        assert (_skus(seen), seen["customer_id"], seen["items"][0]["location_id"]) == ([item["sku"]], None, None)
        assert _code(await friend.post(f"{path}/items?token={shared['token']}", item)) == (404, "not_found")
    await customer.ok("DELETE", f"{path}/share")
    assert _code(await app.get(f"{path}?token={shared['token']}")) == (404, "not_found")
    assert (await customer.ok("POST", f"{path}/share"))["token"] != shared["token"]
    assert _code(await app.get(f"{path}?token={shared['token']}")) == (404, "not_found")


async def test_a_repeated_sharing_shows_the_same_link(customer: Customer) -> None:
    path, key = f"/v1/wishlists/{(await _list(customer))['id']}/share", str(uuid.uuid4())
    first, again = [await customer.post(path, key=key) for _ in range(2)]
    assert (first.json(), again.headers["Idempotent-Replayed"]) == (again.json(), "true")


async def test_a_list_is_its_customers_and_of_who_helps_customers(
    customer: Customer, app: Channel, channels: Channels
) -> None:
    chat, other, sku = channels["chat"], await channels.shopper(), await channels.product()
    made = await _list(chat, sku, customer_id=customer.id)
    assert [each["id"] for each in (await customer.ok("GET", "/v1/wishlists"))["data"]] == [made["id"]]
    assert [each["id"] for each in (await chat.ok("GET", f"/v1/wishlists?customer_id={customer.id}"))["data"]] == [
        made["id"]
    ]
    path, item = f"/v1/wishlists/{made['id']}", made["items"][0]["id"]
    for stranger in (other, app):
        for answer in (
            await stranger.get(path),
            await stranger.get(f"{path}?token=wrong"),
            await stranger.post(f"{path}/items", {"sku": sku}),
            await stranger.delete(f"{path}/items/{item}"),
            await stranger.post(f"{path}/items/{item}/move-to-cart"),
            await stranger.post(f"{path}/share"),
            await stranger.delete(f"{path}/share"),
        ):
            assert _code(answer) == (404, "not_found")
    assert _code(await app.post("/v1/wishlists", {})) == (403, "forbidden")
    assert _code(await app.get("/v1/wishlists")) == (403, "forbidden")
    assert _code(await other.post("/v1/wishlists", {"customer_id": customer.id})) == (404, "not_found")
    assert _code(await chat.post("/v1/wishlists", {})) == (400, "invalid_request")
    assert _code(await chat.post("/v1/wishlists", {"customer_id": "cus_" + "0" * 26})) == (404, "not_found")


async def test_a_list_and_the_lists_of_a_customer_have_an_end(
    customer: Customer, channels: Channels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "ITEMS_MAX", 1)
    monkeypatch.setattr(lists, "LISTS_MAX", 1)
    made = await _list(customer, await channels.product())
    answer = await customer.post(f"/v1/wishlists/{made['id']}/items", {"sku": await channels.product()})
    assert _code(answer) == (409, "list_full")
    assert _code(await customer.post("/v1/wishlists")) == (409, "list_full")


async def test_a_link_is_opened_with_a_key_and_the_document_says_so(
    customer: Customer, app: Channel, document: Mapping[str, Any]
) -> None:
    shared = await customer.ok("POST", f"/v1/wishlists/{(await _list(customer))['id']}/share")
    path = shared["url"].removeprefix("http://hub.test")
    assert (await app.http.get(path)).status_code == 401
    assert (await app.get(path)).status_code == 200
    told = document["components"]["schemas"]["Shared"]["properties"]["url"]["description"]
    assert "any publishable key" in told
