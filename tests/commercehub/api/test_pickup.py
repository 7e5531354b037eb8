"""Goods picked up in a store over HTTP: where they come from, who sees the code, and each refusal of the hand-over."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from commercehub.database import Database
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD

AT_PICKUP = {"type": "pay_at_pickup"}
STEPS = ("start", "pick", "ready", "hand_over")
ALLOWED = {
    "open": ["cancelled", "picking"],
    "picking": ["cancelled", "picked"],
    "picked": ["cancelled", "ready"],
    "ready": ["cancelled", "handed_over"],
    "handed_over": [],
}
KEPT = """
SELECT concat_ws(' ', (SELECT string_agg(body::text, ' ') FROM commercehub.events),
                 (SELECT string_agg(changes::text, ' ') FROM commercehub.timeline),
                 (SELECT string_agg(body, ' ') FROM commercehub.idempotency_keys),
                 (SELECT string_agg(to_jsonb(message)::text, ' ') FROM commercehub.messages AS message))
"""

RunJobs = Callable[[], Awaitable[None]]


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


class Pickup:
    """One order to be picked up at S1."""

    def __init__(self, shopper: Channel, store: Channel, sku: str, cart: Any, order: Any) -> None:
        self.shopper, self.store, self.sku, self.cart, self.order = shopper, store, sku, cart, order
        self.id = order["fulfillments"][0]["id"]

    async def step(self, name: str, body: Any = None, *, by: Channel | None = None, **options: Any) -> httpx.Response:
        """Take a step."""
        if body is None:
            body = {"pick": {"lines": [{"sku": self.sku, "quantity": 1}]}, "hand_over": {"code": "x"}}.get(name, {})
        return await (by or self.store).post(f"/v1/fulfillments/{self.id}/{name}", body, **options)

    async def until(self, name: str) -> None:
        """Take every step before one."""
        for step in STEPS[: STEPS.index(name)]:
            answer = await self.step(step)
            assert answer.status_code == 200, answer.text

    async def seen(self) -> Any:
        """The order as the shopper sees it."""
        return await self.shopper.ok("GET", f"/v1/orders/{self.order['id']}", token=self.cart["token"])

    async def code(self) -> str:
        """What opens it."""
        return str((await self.seen())["fulfillments"][0]["pickup_code"])


@pytest.fixture
async def sku(channels: Channels) -> str:
    return await channels.product({"S1": 9, "DC1": 9})


@pytest.fixture
def buy(app: Channel, till: Channel, channels: Channels, sku: str) -> Callable[..., Awaitable[Pickup]]:
    async def buy(*tenders: Any) -> Pickup:
        cart = await app.pick_up(await app.cart({"sku": sku}), await channels.location("S1"))
        answer = await app.check_out(cart, *(tenders or (CARD,)))
        assert answer.status_code == 201, answer.text
        return Pickup(app, till, sku, cart, answer.json())

    return buy


@pytest.fixture
async def pickup(buy: Callable[..., Awaitable[Pickup]]) -> Pickup:
    return await buy()


async def test_goods_come_from_the_store_that_was_chosen_and_from_nowhere_else(
    app: Channel, channels: Channels
) -> None:
    sku = await channels.product({"S1": 1, "DC1": 9})
    place = await channels.location("S1")
    cart = await app.pick_up(await app.cart({"sku": sku, "quantity": 2}), place)
    answer = await app.check_out(cart, CARD)
    assert _code(answer) == (409, "out_of_stock")
    assert answer.json()["lines"] == [{"sku": sku, "requested": 2, "available": 1, "location_id": place}]
    cart = await app.pick_up(await app.cart({"sku": sku}), place)
    order = (await app.check_out(cart, CARD)).json()
    assert [(each["kind"], each["location_id"]) for each in order["fulfillments"]] == [("pickup", place)]
    assert (await channels.level(sku, "S1"), await channels.level(sku, "DC1")) == ((1, 1), (9, 0))


@pytest.mark.parametrize("step", STEPS)
async def test_every_other_step_is_out_of_turn_and_told_what_is_not(step: str, pickup: Pickup) -> None:
    await pickup.until(step)
    state = (await pickup.store.ok("GET", f"/v1/fulfillments/{pickup.id}"))["state"]
    for other in (*STEPS, "pack", "ship", "deliver"):
        if other != step:
            answer = await pickup.step(other)
            assert _code(answer) == (409, "invalid_transition"), (state, other)
            assert (answer.json()["state"], answer.json()["allowed"]) == (state, ALLOWED[state])


async def test_a_parcel_is_not_made_ready_or_handed_over(app: Channel, till: Channel, channels: Channels) -> None:
    order = (await app.check_out(await app.cart({"sku": await channels.product({"S1": 1})}, ship=True), CARD)).json()
    work = order["fulfillments"][0]["id"]
    for step, body in (("ready", {}), ("hand_over", {"code": "x"})):
        assert _code(await till.post(f"/v1/fulfillments/{work}/{step}", body)) == (409, "invalid_transition")


async def test_the_code_is_shown_to_whom_it_is_for_and_to_nobody_else(
    pickup: Pickup, channels: Channels, admin: Channel, database: Database, run_jobs: RunJobs
) -> None:
    assert (await pickup.seen())["fulfillments"][0]["pickup_code"] is None
    await pickup.until("hand_over")
    await run_jobs()
    code = await pickup.code()
    order_id = pickup.order["id"]
    for channel in (pickup.store, admin, channels["call_center"], channels["warehouse"]):
        for path in (
            f"/v1/orders/{order_id}",
            f"/v1/orders?number={pickup.order['number']}",
            f"/v1/fulfillments/{pickup.id}",
            f"/v1/fulfillments?order_id={order_id}",
            f"/v1/orders/{order_id}/timeline",
        ):
            shown = (await channel.get(path)).text
            assert code not in shown
            assert "svg" not in shown
    assert _code(await channels["web"].get(f"/v1/orders/{order_id}")) == (404, "not_found")
    await pickup.step("hand_over", {"code": code})
    async with database.connection() as db:
        assert code not in await db.fetchval(KEPT)


async def test_the_page_says_until_when_it_is_kept(pickup: Pickup) -> None:
    await pickup.until("hand_over")
    work = await pickup.store.ok("GET", f"/v1/fulfillments/{pickup.id}")
    assert work["collect_by"] == (await pickup.seen())["fulfillments"][0]["collect_by"]
    assert work["collect_by"].endswith(("T05:59:59Z", "T04:59:59Z"))
    assert [set(line) >= {"sku", "quantity", "picked", "bin"} for line in work["lines"]] == [True]


async def test_the_code_is_taken_as_people_say_it_and_the_second_time_it_is_out_of_turn(pickup: Pickup) -> None:
    await pickup.until("hand_over")
    spoken = {"code": (await pickup.code()).lower().replace("-", " ")}
    first = await pickup.step("hand_over", spoken, key=f"over-{pickup.id}")
    assert (first.status_code, first.json()["state"]) == (200, "handed_over")
    again = await pickup.step("hand_over", spoken, key=f"over-{pickup.id}")
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    twice = await pickup.step("hand_over", spoken)
    assert (_code(twice), twice.json()["allowed"]) == ((409, "invalid_transition"), [])


async def test_too_early_is_out_of_turn(pickup: Pickup) -> None:
    await pickup.until("ready")
    answer = await pickup.step("hand_over", {"code": "anything"})
    assert (_code(answer), answer.json()["allowed"]) == ((409, "invalid_transition"), ["cancelled", "ready"])


async def test_another_orders_code_opens_nothing(
    pickup: Pickup, buy: Callable[..., Awaitable[Pickup]], channels: Channels, sku: str
) -> None:
    other = await buy()
    for each in (pickup, other):
        await each.until("hand_over")
    assert _code(await pickup.step("hand_over", {"code": await other.code()})) == (409, "wrong_pickup_code")
    assert (await pickup.seen())["fulfillments"][0]["state"] == "ready"
    assert await channels.level(sku, "S1") == (9, 2)


async def test_after_ten_wrong_codes_even_the_right_one_has_to_wait(
    pickup: Pickup, buy: Callable[..., Awaitable[Pickup]]
) -> None:
    other = await buy()
    for each in (pickup, other):
        await each.until("hand_over")
    wrong = [await pickup.step("hand_over", {"code": f"wrong {number}"}) for number in range(10)]
    assert {_code(answer) for answer in wrong} == {(409, "wrong_pickup_code")}
    answer = await pickup.step("hand_over", {"code": await pickup.code()})
    assert _code(answer) == (429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert (await other.step("hand_over", {"code": await other.code()})).status_code == 200


async def test_the_till_of_another_store_knows_nothing_of_it(
    pickup: Pickup, admin: Channel, channels: Channels
) -> None:
    await pickup.until("hand_over")
    key = {"channel": "store", "role": "till", "location_id": await channels.location("S2")}
    elsewhere = Channel(channels.http, (await admin.ok("POST", "/v1/api-keys", key))["secret"])
    answer = await pickup.step("hand_over", {"code": await pickup.code()}, by=elsewhere)
    assert _code(answer) == (404, "not_found")


async def test_what_is_not_paid_is_not_handed_over(
    buy: Callable[..., Awaitable[Pickup]], drawer: str, run_jobs: RunJobs
) -> None:
    pickup = await buy(AT_PICKUP)
    due = pickup.order["total"]
    assert (pickup.order["payment_state"], pickup.order["amount_due"]) == ("unpaid", due)
    assert (await pickup.seen())["amount_due"] == due
    await pickup.until("hand_over")
    code = {"code": await pickup.code()}
    refused = await pickup.step("hand_over", code)
    assert (_code(refused), refused.json()["amount_due"]) == ((409, "payment_due"), due)
    tender = {"type": "cash", "tendered": {"amount": due["amount"] + 500, "currency": "USD"}}
    paid = await pickup.store.ok(
        "POST", f"/v1/orders/{pickup.order['id']}/payments", {"tenders": [tender], "register_id": drawer}
    )
    assert (paid["payment_state"], paid["amount_due"]["amount"], paid["change"]["amount"]) == ("paid", 0, 500)
    assert (await pickup.step("hand_over", code)).status_code == 200
    seen = await pickup.seen()
    assert (seen["state"], seen["payment_state"]) == ("completed", "paid")


async def test_what_is_ready_and_called_off_is_on_sale_again_and_the_money_let_go_of(
    pickup: Pickup, channels: Channels, sku: str, run_jobs: RunJobs
) -> None:
    await pickup.until("hand_over")
    cancelled = await pickup.step("cancel", {"reason": "out_of_stock"})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    await run_jobs()
    seen = await pickup.seen()
    assert (seen["state"], seen["payment_state"]) == ("cancelled", "voided")
    assert await channels.level(sku, "S1") == (9, 0)
    assert _code(await pickup.step("hand_over", {"code": "x"})) == (409, "invalid_transition")


async def test_pay_at_pickup_is_for_what_is_all_picked_up(app: Channel, sku: str, channels: Channels) -> None:
    other = await channels.product({"DC1": 1})
    shipped = await app.cart({"sku": sku}, ship=True)
    assert _code(await app.check_out(shipped, AT_PICKUP)) == (422, "tender_mismatch")
    mixed = await app.cart({"sku": sku}, {"sku": other}, ship=True)
    delivery = {
        "method": "pickup",
        "location_id": await channels.location("S1"),
        "line_ids": [mixed["lines"][0]["id"]],
    }
    await app.ok("PUT", f"/v1/carts/{mixed['id']}/delivery", delivery, token=mixed["token"])
    assert _code(await app.check_out(mixed, AT_PICKUP)) == (422, "tender_mismatch")
    order = (await app.check_out(mixed, CARD)).json()
    assert sorted(each["kind"] for each in order["fulfillments"]) == ["pickup", "ship"]


async def test_what_is_paid_at_pickup_comes_last_and_a_part_may_be_paid_now(
    app: Channel, sku: str, channels: Channels
) -> None:
    cart = await app.pick_up(await app.cart({"sku": sku}), await channels.location("S1"))
    some = {**AT_PICKUP, "amount": {"amount": 100, "currency": "USD"}}
    assert _code(await app.check_out(cart, some, CARD)) == (422, "tender_mismatch")
    part = {**CARD, "amount": {"amount": 300, "currency": "USD"}}
    answer = await app.check_out(cart, part, AT_PICKUP)
    order = answer.json()
    assert (answer.status_code, order["payment_state"]) == (201, "authorized")
    assert order["amount_due"]["amount"] == order["total"]["amount"] - 300
    seen = await app.ok("GET", f"/v1/orders/{order['id']}", token=cart["token"])
    assert seen["amount_due"] == order["amount_due"]
