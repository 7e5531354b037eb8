"""From a scan at the shelf to a sale at another store's till: one customer, one cart, three channels."""

from collections.abc import Mapping
from typing import Any

from tests.client import Channels


async def test_a_shelf_barcode_wished_for_in_s2_is_sold_at_the_till_of_s1(
    channels: Channels, book: Mapping[str, Any]
) -> None:
    s1, s2, till = await channels.location("S1"), await channels.location("S2"), channels["store"]
    register = await channels.drawer("S1")

    # In S2, with the app in hand: the barcode on the shelf goes on the wishlist, which keeps the store.
    shopper = await channels.shopper("app")
    wishes = await shopper.ok("POST", "/v1/wishlists", {"name": "Some day"})
    path = f"/v1/wishlists/{wishes['id']}/items"
    scanned = await shopper.ok("POST", path, {"barcode": book["barcode"], "location_id": s2})
    (item,) = scanned["items"]
    assert (item["sku"], item["location_id"]) == (book["sku"], s2)

    # At home, in the web shop: it is the same list, and becomes the same cart.
    at_home = await channels.sign_in(shopper, through="web")
    assert [each["id"] for each in (await at_home.ok("GET", "/v1/wishlists"))["data"]] == [wishes["id"]]
    cart = await at_home.ok("POST", f"{path}/{item['id']}/move-to-cart")
    assert [(line["sku"], line["quantity"]) for line in cart["lines"]] == [(book["sku"], 1)]
    assert (await shopper.ok("GET", "/v1/carts/current"))["id"] == cart["id"]
    assert (await shopper.ok("GET", f"/v1/wishlists/{wishes['id']}"))["items"] == []

    # In S1: the till types the code in, and the very same cart is paid and carried out there.
    code = (await shopper.ok("POST", f"/v1/carts/{cart['id']}/handoff"))["code"]
    on_hand, _ = await channels.level(book["sku"], "S1")
    resumed = await till.ok("POST", "/v1/carts/resume", {"code": code})
    assert (resumed["id"], resumed["customer_id"], resumed["problems"]) == (cart["id"], shopper.id, [])
    assert [(each["method"], each["location_id"]) for each in resumed["deliveries"]] == [("carry_out", s1)]
    paid = {"register_id": register, "tenders": [{"type": "cash", "tendered": resumed["total"]}]}
    order = await till.ok("POST", f"/v1/carts/{cart['id']}/checkout", paid)
    assert (order["state"], order["payment_state"], order["fulfillment_state"]) == ("completed", "paid", "fulfilled")
    assert (order["channel"], order["location_id"], order["customer_id"]) == ("store", s1, shopper.id)
    assert (await channels.level(book["sku"], "S1"))[0] == on_hand - 1

    # On the sofa: the order is there, and the customer's timeline tells the story as every channel saw it.
    assert (await at_home.ok("GET", f"/v1/orders/{order['id']}"))["number"] == order["number"]
    for reader in (shopper, channels["call_center"]):
        told = (await reader.ok("GET", f"/v1/customers/{shopper.id}/timeline"))["data"]
        assert [(entry["type"], entry["channel"]) for entry in told] == [
            ("customer.signed_up", "app"),
            ("wishlist.item_added", "app"),
            ("cart.begun", "web"),
            ("cart.handed_off", "app"),
            ("cart.taken_to_till", "store"),
            ("cart.resumed", "store"),
            ("order.placed", "store"),
        ]
