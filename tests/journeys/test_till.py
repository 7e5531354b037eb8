"""A till's day: the drawer is opened, a book is scanned and paid in cash, the drawer is counted."""

from tests.client import Channel, Channels


async def _open_drawer(till: Channel, amount: int = 10_000) -> str:
    register = (await till.ok("GET", "/v1/registers"))["data"][0]["id"]
    await till.ok(
        "POST", f"/v1/registers/{register}/sessions", {"opening_float": {"amount": amount, "currency": "USD"}}
    )
    return str(register)


async def test_cash_sale_gives_change_and_takes_stock_at_once(till: Channel, channels: Channels) -> None:
    register = await _open_drawer(till)
    sku = await channels.product({"S1": 3}, price=1799, barcode="9780553380958", tax_class="exempt")
    cart = await till.cart({"barcode": "9780553380958"})
    assert [line["sku"] for line in cart["lines"]] == [sku]
    answer = await till.check_out(cart, {"type": "cash", "tendered": {"amount": 2000, "currency": "USD"}})
    order = answer.json()
    assert (answer.status_code, order["state"], order["payment_state"]) == (201, "completed", "paid")
    assert order["change"] == {"amount": 201, "currency": "USD"}
    assert await channels.level(sku, "S1") == (2, 0)

    report = await till.ok("GET", f"/v1/registers/{register}/sessions/current")
    assert report["tenders"][0]["expected"]["amount"] == 11_799
    closed = await till.ok(
        "POST",
        f"/v1/registers/{register}/sessions/current/close",
        {"counted": {"amount": 11_700, "currency": "USD"}},
    )
    assert closed["tenders"][0]["over_short"] == {"amount": -99, "currency": "USD"}
    gone = await till.get(f"/v1/registers/{register}/sessions/current")
    assert (gone.status_code, gone.json()["code"]) == (409, "no_open_session")
