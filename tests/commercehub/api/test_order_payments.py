"""Paying what is still due of an order: with anything, from anywhere, and never more than that."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub import ids
from commercehub.database import Database
from commercehub.jobs import orders as jobs
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD
from tests.commercehub.api.people import owe, shift
from tests.serving import findings

PRICE = 2_000
CASH = {"type": "cash"}
DECLINED = {"type": "card", "payment_method": "pm_declined"}
MAKE_DUE = "UPDATE payments.open_operations SET next_try_at = now()"
INTENTS = "SELECT state, sum(amount_minor)::bigint AS sum FROM payments.intents WHERE reference = $1 GROUP BY state"

RunJobs = Callable[[], Awaitable[None]]


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


class Debt:
    """An order that is to be paid at pickup."""

    def __init__(self, shopper: Channel, cart: Any, order: Any) -> None:
        self.shopper, self.cart, self.order = shopper, cart, order

    async def pay(self, by: Channel, *tenders: Any, register: str | None = None, **options: Any) -> httpx.Response:
        """Pay it, or try."""
        body = {"tenders": list(tenders), **({"register_id": register} if register else {})}
        return await by.post(f"/v1/orders/{self.order['id']}/payments", body, **options)

    async def by_shopper(self, *tenders: Any, **options: Any) -> httpx.Response:
        """Pay it with the token of its cart."""
        return await self.pay(self.shopper, *tenders, token=self.cart["token"], **options)

    async def states(self) -> tuple[str, int]:
        seen = await self.shopper.ok("GET", f"/v1/orders/{self.order['id']}", token=self.cart["token"])
        return seen["payment_state"], seen["amount_due"]["amount"]


@pytest.fixture
async def debt(app: Channel, channels: Channels) -> Debt:
    sku = await channels.product({"S1": 2}, price=PRICE, tax_class="exempt")
    cart = await app.pick_up(await app.cart({"sku": sku}), await channels.location("S1"))
    answer = await app.check_out(cart, {"type": "pay_at_pickup"})
    assert answer.status_code == 201, answer.text
    return Debt(app, cart, answer.json())


async def test_the_shopper_pays_with_a_card_and_hand_over_takes_it(debt: Debt) -> None:
    answer = await debt.by_shopper(CARD)
    assert (answer.status_code, answer.json()["payment_state"]) == (201, "authorized")
    assert await debt.states() == ("authorized", 0)
    assert _code(await debt.by_shopper(CARD)) == (409, "nothing_due")


async def test_a_declined_card_leaves_the_order_as_it_was_and_another_pays_it(debt: Debt) -> None:
    first = await debt.by_shopper(DECLINED, key="declined")
    assert (_code(first), first.json()["decline_code"]) == ((402, "payment_declined"), "card_declined")
    again = await debt.by_shopper(DECLINED, key="declined")
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert await debt.states() == ("unpaid", PRICE)
    assert (await debt.by_shopper(CARD)).status_code == 201


async def test_the_same_key_pays_once(debt: Debt, till: Channel, drawer: str) -> None:
    half = {**CASH, "amount": usd(PRICE // 2)}
    first = await debt.pay(till, half, register=drawer, key=f"half-{debt.order['id']}")
    again = await debt.pay(till, half, register=drawer, key=f"half-{debt.order['id']}")
    assert (first.status_code, again.content, again.headers["idempotent-replayed"]) == (201, first.content, "true")
    assert await debt.states() == ("partially_captured", PRICE // 2)


async def test_a_gift_card_and_cash_pay_together(debt: Debt, till: Channel, drawer: str, admin: Channel) -> None:
    card = await admin.ok("POST", "/v1/gift-cards", {"balance": usd(500)})
    gift = {"type": "gift_card", "code": card["code"]}
    answer = await debt.pay(till, gift, CASH, register=drawer)
    assert (answer.status_code, answer.json()["payment_state"]) == (201, "paid")
    left = await till.ok("POST", "/v1/gift-cards/lookup", {"code": card["code"]})
    assert left["balance"]["amount"] == 0


@pytest.mark.parametrize(("payment_method", "left"), [("pm_ok", 0), ("pm_declined", 500)])
async def test_what_goes_with_a_card_is_spent_with_it_or_not_at_all(
    payment_method: str, left: int, debt: Debt, till: Channel, drawer: str, admin: Channel, database: Database
) -> None:
    card = await admin.ok("POST", "/v1/gift-cards", {"balance": usd(500)})
    gift = {"type": "gift_card", "code": card["code"]}
    await debt.pay(till, gift, {"type": "card", "payment_method": payment_method}, register=drawer)
    found = await till.ok("POST", "/v1/gift-cards/lookup", {"code": card["code"]})
    assert found["balance"]["amount"] == left
    assert (await debt.states())[1] == (PRICE if left else 0)
    async with database.connection() as db:
        assert await findings(db) == []


@pytest.mark.parametrize(
    ("tenders", "code"),
    [
        ([{**CASH, "amount": usd(PRICE + 1)}], "tender_mismatch"),
        ([{**CASH, "amount": usd(PRICE)}, {**CASH, "amount": usd(1)}], "tender_mismatch"),
        ([{"type": "pay_at_pickup"}], "tender_mismatch"),
        ([{**CARD, "code": "ABCD"}], "tender_mismatch"),
        ([{"type": "gift_card", "code": "ABCD-EFGH"}], "gift_card_not_usable"),
        ([{**CARD, "processor": "nobody"}], "unknown_processor"),
    ],
)
async def test_what_does_not_fit_is_refused_and_nothing_is_taken(
    tenders: list[Any], code: str, debt: Debt, till: Channel, drawer: str
) -> None:
    assert _code(await debt.pay(till, *tenders, register=drawer)) == (422, code)
    assert await debt.states() == ("unpaid", PRICE)


async def test_cash_is_taken_at_a_till_with_an_open_drawer(debt: Debt, channels: Channels) -> None:
    assert _code(await debt.by_shopper(CASH)) == (403, "forbidden")
    assert _code(await debt.pay(channels["admin"], CASH)) == (409, "no_open_session")


async def test_nobody_pays_what_they_may_not_see(debt: Debt, channels: Channels) -> None:
    stranger, _ = await channels.customer()
    for each in (stranger, channels["web"]):
        assert _code(await debt.pay(each, CARD)) == (404, "not_found")
    assert _code(await debt.pay(stranger, key="")) == (404, "not_found")


async def test_what_is_paid_already_is_not_due(app: Channel, channels: Channels) -> None:
    sku = await channels.product({"DC1": 1})
    cart = await app.cart({"sku": sku}, ship=True)
    order = (await app.check_out(cart, CARD)).json()
    assert order["amount_due"] == usd(0)
    for body in ({"tenders": [CARD]}, {}):
        answer = await app.post(f"/v1/orders/{order['id']}/payments", body, token=cart["token"])
        assert _code(answer) == (409, "nothing_due")


async def test_ten_payers_at_once_pay_what_is_due_and_no_more(
    debt: Debt, till: Channel, drawer: str, database: Database
) -> None:
    answers = await asyncio.gather(
        *(debt.pay(till, CASH, register=drawer) for _ in range(5)), *(debt.by_shopper(CARD) for _ in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    async with database.connection() as db:
        rows = await db.fetch(INTENTS, ids.parse("ord", debt.order["id"]))
        assert [row["sum"] for row in rows] == [PRICE]
        assert await findings(db) == []


async def test_an_answer_that_was_lost_is_found_out_and_counts_as_under_way_until_then(
    debt: Debt, hub: Hub, run_jobs: RunJobs
) -> None:
    lost = {"type": "card", "payment_method": "pm_error_after"}
    answer = await debt.by_shopper(lost, key="lost")
    assert (answer.status_code, answer.json()["payment_state"]) == (202, "unknown")
    assert await debt.states() == ("unknown", 0)
    assert _code(await debt.by_shopper(CARD)) == (409, "nothing_due")
    assert (await debt.by_shopper(lost, key="lost")).status_code == 202
    async with hub.database.connection() as db:
        await db.execute(MAKE_DUE)
    await jobs.resolve_payments(hub)
    assert await debt.states() == ("authorized", 0)
    known = await debt.by_shopper(lost, key="lost")
    assert (known.status_code, known.json()["payment_state"]) == (201, "authorized")


async def test_money_that_comes_after_the_order_was_called_off_is_let_go_of(
    debt: Debt, hub: Hub, admin: Channel, run_jobs: RunJobs, database: Database
) -> None:
    await debt.by_shopper({"type": "card", "payment_method": "pm_error_after"})
    await admin.ok("POST", f"/v1/orders/{debt.order['id']}/cancel", {"reason": "customer_request"})
    async with hub.database.connection() as db:
        await db.execute(MAKE_DUE)
    await jobs.resolve_payments(hub)
    await run_jobs()
    assert await debt.states() == ("voided", 0)
    async with database.connection() as db:
        assert await findings(db) == []


async def test_a_payer_who_has_to_act_is_told_where(debt: Debt) -> None:
    answer = await debt.by_shopper({"type": "card", "payment_method": "pm_requires_action"})
    assert (answer.status_code, answer.json()["next_action"]["type"]) == (202, "redirect")
    seen = await debt.shopper.ok("GET", f"/v1/orders/{debt.order['id']}", token=debt.cart["token"])
    assert (seen["state"], seen["next_action"]) == ("placed", answer.json()["next_action"])


async def test_an_earlier_answer_is_not_for_whoever_has_the_same_key_and_no_token(debt: Debt) -> None:
    key = f"paid-{debt.order['id']}"
    first = await debt.by_shopper(CARD, key=key)
    assert first.status_code == 201
    assert _code(await debt.pay(debt.shopper, CARD, key=key, token="0" * 64)) == (404, "not_found")
    assert (await debt.by_shopper(CARD, key=key)).content == first.content


async def test_who_takes_money_in_their_own_name_is_in_the_audit_log(
    debt: Debt, channels: Channels, till: Channel, drawer: str
) -> None:
    half = {**CASH, "amount": usd(PRICE // 2)}
    for by in (await shift(channels), till):
        assert (await debt.pay(by, half, register=drawer)).status_code == 201
    (row,) = (await channels["admin"].ok("GET", f"/v1/audit?subject={debt.order['id']}"))["data"]
    assert (row["action"], row["actor"][:6]) == ("POST /v1/orders/{order_id}/payments", "staff_")
    assert row["changes"] == {"currency": "USD", "tenders": [{"type": "cash", "amount": PRICE // 2}]}


async def test_who_looked_an_order_up_does_not_pay_it_with_its_customers_credit(
    app: Channel, channels: Channels
) -> None:
    customer = await channels.shopper()
    await owe(channels, customer, 2 * PRICE)
    cart = await customer.cart({"sku": await channels.product({"S1": 1}, price=PRICE)})
    cart = await customer.pick_up(cart, await channels.location("S1"))
    order = (await customer.post(f"/v1/carts/{cart['id']}/checkout", {"tenders": [{"type": "pay_at_pickup"}]})).json()
    found = await app.post("/v1/orders/lookup", {"number": order["number"], "email": customer.email}, key="")
    guest = Channel(app.http, found.json()["access_token"])
    tenders = {"tenders": [{"type": "store_credit"}]}
    answer = await guest.post(f"/v1/orders/{order['id']}/payments", tenders)
    assert (_code(answer), answer.json()["reason"]) == ((422, "gift_card_not_usable"), "unknown")
    assert (await customer.post(f"/v1/orders/{order['id']}/payments", tenders)).json()["payment_state"] == "paid"
