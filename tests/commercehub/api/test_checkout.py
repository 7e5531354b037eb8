"""What is wrong with a checkout is told in an order that gives nothing away."""

import uuid
from typing import Any

import httpx
import pytest

from commercehub import ids
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD
from tests.commercehub.api.people import shift


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


WRONG: dict[str, dict[str, Any]] = {
    "a processor that is not there": {"tenders": [{**CARD, "processor": "paypal"}]},
    "cash from an app": {"tenders": [{"type": "cash"}]},
    "a card without its token": {"tenders": [{"type": "card"}]},
    "a card that is handed over": {"tenders": [{**CARD, "tendered": {"amount": 1, "currency": "USD"}}]},
    "a till that cannot be": {"tenders": [CARD], "register_id": "reg_1"},
    "too many tenders": {"tenders": [CARD] * 11},
    "a negative amount": {"tenders": [{**CARD, "amount": {"amount": -1, "currency": "USD"}}]},
}


@pytest.mark.parametrize("what", WRONG)
async def test_of_a_cart_that_is_not_there_nothing_else_is_told(what: str, app: Channel) -> None:
    path = f"/v1/carts/{ids.show('cart', ids.new())}/checkout"
    assert _code(await app.post(path, WRONG[what], token="x")) == (404, "not_found")


@pytest.mark.parametrize("what", WRONG)
async def test_of_a_cart_that_is_sold_nothing_else_is_told(what: str, app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    await app.check_out(cart, CARD)
    answer = await app.post(f"/v1/carts/{cart['id']}/checkout", WRONG[what], token=cart["token"])
    assert _code(answer) == (409, "cart_already_checked_out")


@pytest.mark.parametrize("what", WRONG)
async def test_of_an_open_cart_it_is_told_and_nothing_is_held(what: str, app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku}, ship=True)
    answer = await app.post(f"/v1/carts/{cart['id']}/checkout", WRONG[what], token=cart["token"])
    assert answer.status_code in {400, 403, 404, 422}
    assert await channels.level(sku, "DC1") == (1, 0)
    assert (await app.check_out(cart, CARD)).status_code == 201


async def test_an_order_says_all_that_was_promised(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 2}, price=1999)
    cart = await app.cart({"sku": sku, "quantity": 2}, ship=True)
    order = (await app.check_out(cart, CARD, more={"expected_total": cart["total"]})).json()
    assert (order["state"], order["payment_state"], order["fulfillment_state"], order["on_hold"]) == (
        "placed",
        "authorized",
        "unfulfilled",
        False,
    )
    for name in ("subtotal", "discount_total", "delivery_total", "tax_total", "total", "tax_included", "currency"):
        assert order[name] == cart[name]
    (line,) = order["lines"]
    assert (line["sku"], line["ordered"], line["cancelled"], line["fulfilled"], line["returned"]) == (sku, 2, 0, 0, 0)
    assert (line["unit_price"]["amount"], line["total"]["amount"]) == (1999, 3998)
    assert (order["channel"], order["cart_id"], len(order["receipt_barcode"])) == ("app", cart["id"], 13)
    assert order["permalink"] == f"http://hub.test/v1/orders/{order['id']}"
    assert order["created_at"].endswith("Z")
    assert [(each["kind"], each["state"]) for each in order["fulfillments"]] == [("ship", "open")]
    assert [each["line_ids"] for each in order["deliveries"]] == [[line["id"]]]


async def test_an_order_that_is_read_has_its_contact_and_address(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    bought = (await app.check_out(cart, CARD, more={"phone": "+1 512 555 0100"})).json()
    assert (bought["email"], bought["phone"], bought["deliveries"][0]["address"]) == (None, None, None)
    read = await app.ok("GET", f"/v1/orders/{bought['id']}", token=cart["token"])
    assert (read["email"], read["phone"]) == ("ada@example.com", "+1 512 555 0100")
    assert read["deliveries"][0]["address"]["postal_code"] == "78701"


async def test_a_payer_who_has_to_act_is_told_where(app: Channel, channels: Channels) -> None:
    cart = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True)
    tender = {"type": "card", "payment_method": "pm_requires_action"}
    answer = await app.check_out(cart, tender, key=f"act {cart['id']}")
    order = answer.json()
    assert (answer.status_code, order["state"], order["next_action"]["type"]) == (202, "awaiting_payment", "redirect")
    assert order["next_action"]["url"].startswith("http")
    again = await app.check_out(cart, tender, key=f"act {cart['id']}")
    assert (again.status_code, again.json()["id"]) == (202, order["id"])
    other = await app.check_out(cart, CARD)
    assert (_code(other), other.json()["order_id"], other.json()["state"]) == (
        (409, "cart_already_checked_out"),
        order["id"],
        "awaiting_payment",
    )


async def test_an_earlier_answer_is_not_for_whoever_has_the_same_key_and_no_token(
    app: Channel, channels: Channels
) -> None:
    cart, key = await app.cart({"sku": await channels.product({"DC1": 1})}, ship=True), str(uuid.uuid4())
    first = await app.check_out(cart, CARD, key=key)
    assert first.status_code == 201
    assert _code(await app.check_out({**cart, "token": "0" * 64}, CARD, key=key)) == (404, "not_found")
    again = await app.check_out(cart, CARD, key=key)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")


async def test_who_sells_in_their_own_name_is_in_the_audit_log(till: Channel, channels: Channels, drawer: str) -> None:
    sku = await channels.product({"S1": 2}, price=1_000, tax_class="exempt")
    cashier = await shift(channels)
    sold = [
        (
            await channel.check_out(await channel.cart({"sku": sku}), {"type": "cash"}, more={"register_id": drawer})
        ).json()
        for channel in (cashier, till)
    ]
    written = [(await channels["admin"].ok("GET", f"/v1/audit?subject={order['id']}"))["data"] for order in sold]
    assert [len(rows) for rows in written] == [1, 0]
    (row,) = written[0]
    assert (row["action"], row["actor"][:6]) == ("POST /v1/carts/{cart_id}/checkout", "staff_")
    assert row["changes"] == {
        "total": {"amount": 1_000, "currency": "USD"},
        "tenders": [{"type": "cash", "amount": 1_000}],
    }
