"""A cart built by the chat for a customer, paid and taken at the till: what was said once is not asked again."""

from collections.abc import Mapping
from typing import Any

from tests.client import SHIP_TO, Channels


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


async def test_what_the_chat_was_told_is_sold_at_the_till_and_nothing_is_asked_twice(
    channels: Channels, book: Mapping[str, Any]
) -> None:
    chat, till, admin = channels["chat"], channels["store"], channels["admin"]
    register = await channels.drawer("S1")
    gift = await admin.ok("POST", "/v1/gift-cards", {"balance": usd(500)})
    heavy = await channels.product({"DC1": 1}, price=4000)
    shopper = await channels.shopper("web")

    # In the chat: who it is, what they want, that the heavy thing is sent, a promotion and a gift card.
    found = (await chat.ok("GET", f"/v1/customers?email={shopper.email}"))["data"]
    cart = await chat.ok("POST", "/v1/carts", {"customer_id": found[0]["id"]})
    path = f"/v1/carts/{cart['id']}"
    await chat.ok("POST", f"{path}/lines", {"barcode": book["barcode"]})
    cart = await chat.ok("POST", f"{path}/lines", {"sku": heavy})
    line_ids = {line["sku"]: line["id"] for line in cart["lines"]}
    sent = {"method": "ship", "address": SHIP_TO, "line_ids": [line_ids[heavy]]}
    await chat.ok("PUT", f"{path}/delivery", sent)
    await chat.ok("POST", f"{path}/promotions", {"code": "WELCOME10"})
    built = await chat.ok("POST", f"{path}/gift-cards", {"code": gift["code"]})
    assert [(each["last4"], each["balance"]) for each in built["gift_cards"]] == [(gift["code"][-4:], usd(500))]
    assert (await shopper.ok("GET", "/v1/carts/current"))["id"] == cart["id"]
    code = (await chat.ok("POST", f"{path}/handoff"))["code"]

    # At the till: the code is all that is asked for. The book is in the hand, the rest is as it was said.
    resumed = await till.ok("POST", "/v1/carts/resume", {"code": code})
    ways = {each["method"]: each["line_ids"] for each in resumed["deliveries"]}
    assert ways == {"ship": [line_ids[heavy]], "carry_out": [line_ids[book["sku"]]]}
    assert (resumed["problems"], resumed["gift_cards"]) == ([], built["gift_cards"])
    assert [each["code"] for each in resumed["promotions"]] == ["WELCOME10"]
    total = resumed["total"]["amount"]
    paid = {"register_id": register, "tenders": [{"type": "gift_card"}, {"type": "cash", "tendered": usd(total)}]}
    order = await till.ok("POST", f"{path}/checkout", paid)
    assert (order["state"], order["payment_state"], order["change"]) == ("placed", "paid", usd(500))
    assert (order["channel"], order["customer_id"], order["email"]) == ("store", shopper.id, None)
    assert [(each["kind"], each["state"]) for each in order["fulfillments"]] == [("ship", "open")]
    assert (await chat.ok("POST", "/v1/gift-cards/lookup", {"code": gift["code"]}))["balance"] == usd(0)
    seen = await shopper.ok("GET", f"/v1/orders/{order['id']}")
    assert (seen["email"], seen["deliveries"][0]["address"]["line1"]) == (shopper.email, SHIP_TO["line1"])
    fulfilled = {line["sku"]: line["fulfilled"] for line in seen["lines"]}
    assert fulfilled == {book["sku"]: 1, heavy: 0}
