"""A till's day: the drawer is opened, a book is scanned and paid in cash, the drawer is counted."""

from collections.abc import Mapping
from typing import Any

from tests.client import Channel, Channels


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


async def test_a_book_is_scanned_paid_in_cash_and_gone_and_the_drawer_adds_up(
    till: Channel, channels: Channels, book: Mapping[str, Any]
) -> None:
    body = {"location_id": await channels.location("S1"), "name": "The journey's till"}
    register = (await channels["admin"].ok("POST", "/v1/registers", body))["id"]
    opened = await till.ok("POST", f"/v1/registers/{register}/sessions", {"opening_float": usd(10_000)})
    assert opened["tenders"] == [{"type": "cash", "expected": usd(10_000), "counted": None, "over_short": None}]

    on_hand, _ = await channels.level(book["sku"], "S1")
    cart = await till.cart({"barcode": book["barcode"]})
    assert [(line["sku"], line["quantity"]) for line in cart["lines"]] == [(book["sku"], 1)]
    total = cart["total"]["amount"]
    answer = await till.check_out(
        cart, {"type": "cash", "tendered": usd(total + 201)}, more={"register_id": register, "email": None}
    )
    order = answer.json()
    assert (answer.status_code, order["state"], order["payment_state"]) == (201, "completed", "paid")
    assert order["change"] == usd(201)
    assert (await channels.level(book["sku"], "S1"))[0] == on_hand - 1

    x_report = await till.ok("GET", f"/v1/registers/{register}/sessions/current")
    assert (x_report["tenders"][0]["expected"], x_report["sales"]) == (usd(10_000 + total), usd(total))
    z_report = await till.ok(
        "POST", f"/v1/registers/{register}/sessions/current/close", {"counted": usd(10_000 + total - 99)}
    )
    assert z_report["tenders"][0]["over_short"] == usd(-99)
    gone = await till.get(f"/v1/registers/{register}/sessions/current")
    assert (gone.status_code, gone.json()["code"]) == (409, "no_open_session")
