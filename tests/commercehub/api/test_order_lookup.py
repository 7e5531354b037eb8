"""A guest finds the order by its number and how they are reached, and opens it for an hour."""

import uuid
from typing import Any

from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD


async def _order(app: Channel, channels: Channels, **contact: str) -> Any:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    body = {**contact, "tenders": [CARD]}
    return await app.ok("POST", f"/v1/carts/{cart['id']}/checkout", body, token=cart["token"])


def _email() -> str:
    return f"ada-{uuid.uuid4().hex}@example.com"


async def _look_up(channel: Channel, **given: str) -> Any:
    return await channel.post("/v1/orders/lookup", given, key="")


async def test_number_and_address_open_the_order_with_a_token(app: Channel, channels: Channels) -> None:
    email = _email()
    order = await _order(app, channels, email=email)
    found = (await _look_up(channels["web"], number=order["number"], email=email.upper())).json()
    assert (found["id"], found["email"]) == (order["id"], email)
    guest = Channel(app.http, found["access_token"])
    assert (await guest.ok("GET", f"/v1/orders/{order['id']}"))["number"] == order["number"]
    assert (await guest.ok("GET", f"/v1/orders/{order['id']}/timeline"))["data"]


async def test_a_phone_is_compared_by_its_digits(app: Channel, channels: Channels) -> None:
    order = await _order(app, channels, phone="+1 (512) 555-0100")
    found = await _look_up(app, number=order["number"], phone="+1 512 555 0100")
    assert found.json()["id"] == order["id"]


async def test_a_wrong_pair_is_not_found(app: Channel, channels: Channels) -> None:
    order = await _order(app, channels, email=_email())
    for given in ({"email": _email()}, {"phone": "+1 512 555 0100"}):
        answer = await _look_up(app, number=order["number"], **given)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_token_opens_that_order_and_nothing_else(app: Channel, channels: Channels) -> None:
    email = _email()
    mine, other = await _order(app, channels, email=email), await _order(app, channels, email=_email())
    guest = Channel(app.http, (await _look_up(app, number=mine["number"], email=email)).json()["access_token"])
    assert (await guest.get(f"/v1/orders/{other['id']}")).status_code == 404
    assert (await guest.get(f"/v1/carts/{mine['cart_id']}")).status_code == 403
    assert (await guest.post(f"/v1/orders/{mine['id']}/cancel", {})).status_code == 403
    assert (await guest.get("/v1/orders")).status_code == 403


async def test_ten_wrong_pairs_close_a_number(app: Channel, channels: Channels) -> None:
    email = _email()
    order = await _order(app, channels, email=email)
    answers = [await _look_up(app, number=order["number"], email=_email()) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {404}
    assert (await _look_up(app, number=order["number"], email=email)).status_code == 429


async def test_ten_wrong_numbers_close_an_address(app: Channel) -> None:
    email = _email()
    answers = [await _look_up(app, number=f"9{n}", email=email) for n in range(11)]
    assert [answer.status_code for answer in answers] == [404] * 10 + [429]


async def test_a_phone_is_one_subject_however_it_is_written(app: Channel) -> None:
    digits = f"1512{uuid.uuid4().int % 10**7:07}"
    ways = [
        f"+{digits[0]}{sign}{digits[1:]}" for sign in (" ", "-", ".", "/", "  ", "--", " -", "- ", "..", "//", ". ")
    ]
    answers = [await _look_up(app, number=f"8{n}", phone=way) for n, way in enumerate(ways)]
    assert [answer.status_code for answer in answers] == [404] * 10 + [429]
