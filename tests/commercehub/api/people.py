"""Somebody who works in their own name, and somebody whom the shop owes something."""

import uuid

from tests.client import Channel, Channels, Customer

PASSWORD = "correct horse battery"


async def shift(channels: Channels, role: str = "cashier", code: str = "S1", *, through: str = "store") -> Channel:
    """The hub as a member of staff sees it, at a place where they work."""
    login = f"{role}-{uuid.uuid4().hex[:12]}"
    body = {
        "login": login,
        "name": "Somebody",
        "role": role,
        "password": PASSWORD,
        "location_ids": [await channels.location(code)],
    }
    await channels["admin"].ok("POST", "/v1/staff", body)
    session = await channels[through].ok("POST", "/v1/staff/sessions", {"login": login, "password": PASSWORD}, key="")
    return Channel(channels.http, session["access_token"])


async def owe(channels: Channels, customer: Customer, amount: int = 2_000) -> None:
    """The shop owes the customer what something cost that they brought back."""
    till, register = channels["store"], await channels.drawer()
    sku = await channels.product({"S1": 1}, price=amount, tax_class="exempt")
    cart = await till.ok("POST", "/v1/carts", {"customer_id": customer.id})
    await till.ok("POST", f"/v1/carts/{cart['id']}/lines", {"sku": sku})
    sold = (await till.check_out(cart, {"type": "cash"}, more={"register_id": register})).json()
    lines = [{"line_id": sold["lines"][0]["id"], "quantity": 1}]
    back = {"order_id": sold["id"], "lines": lines, "method": "in_store", "resolution": "store_credit", "receive": True}
    await till.ok("POST", "/v1/returns", back | {"register_id": register})
