"""The fulfillment floor over HTTP: lists, steps, scans and parcels."""

from typing import Any

import httpx
import pytest

from commercehub.sales.barcodes import check_digit
from tests.client import Channel, Channels
from tests.commercehub.api.conftest import CARD

STEPS = ("start", "pick", "pack", "ship", "deliver")
ALLOWED = {
    "open": ["cancelled", "picking"],
    "picking": ["cancelled", "picked"],
    "picked": ["cancelled", "packed"],
    "packed": ["cancelled", "shipped"],
    "shipped": ["delivered"],
    "delivered": [],
}


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


class Work:
    """One fulfillment of two variants, the first of them with a barcode."""

    def __init__(self, channel: Channel, skus: list[str], barcode: str, order: Any) -> None:
        self.channel, self.skus, self.barcode, self.order = channel, skus, barcode, order
        self.id = order["fulfillments"][0]["id"]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it asks for."""
        return [{"sku": self.skus[0], "quantity": 2}, {"sku": self.skus[1], "quantity": 1}]

    async def step(self, name: str, body: Any = None) -> httpx.Response:
        """Take a step."""
        if name == "pick" and body is None:
            body = {"lines": self.lines}
        return await self.channel.post(f"/v1/fulfillments/{self.id}/{name}", body)

    async def until(self, name: str) -> None:
        """Take every step before one."""
        for step in STEPS[: STEPS.index(name)]:
            assert (await self.step(step)).status_code == 200


@pytest.fixture
async def work(app: Channel, warehouse: Channel, channels: Channels) -> Work:
    """Work at the warehouse."""
    first = await channels.product({"DC1": 5})
    digits = "7" + first.encode().hex()[-11:].translate(str.maketrans("abcdef", "012345"))
    barcode = digits + check_digit(digits)
    with_barcode = await channels.product({"DC1": 5}, barcode=barcode)
    cart = await app.cart({"sku": with_barcode, "quantity": 2}, {"sku": first}, ship=True)
    return Work(warehouse, [with_barcode, first], barcode, (await app.check_out(cart, CARD)).json())


async def test_work_says_what_for_whom_and_where(work: Work, channels: Channels) -> None:
    found = await work.channel.ok("GET", f"/v1/fulfillments/{work.id}")
    assert (found["order_id"], found["kind"], found["method"], found["state"]) == (
        work.order["id"],
        "ship",
        "ship",
        "open",
    )
    assert found["location_id"] == await channels.location("DC1")
    assert [(line["sku"], line["quantity"], line["picked"]) for line in found["lines"]] == [
        (work.skus[0], 2, 0),
        (work.skus[1], 1, 0),
    ]
    assert [line["line_id"] for line in found["lines"]] == [line["id"] for line in work.order["lines"]]


@pytest.mark.parametrize("query", ["state=open", "kind=ship", "state=open&kind=ship", ""])
async def test_work_is_found_by_what_it_is(query: str, work: Work) -> None:
    found = await work.channel.ok("GET", f"/v1/fulfillments?order_id={work.order['id']}&{query}")
    assert [each["id"] for each in found["data"]] == [work.id]


@pytest.mark.parametrize("query", ["state=picked", "kind=pickup"])
async def test_work_is_not_found_by_what_it_is_not(query: str, work: Work) -> None:
    assert (await work.channel.ok("GET", f"/v1/fulfillments?order_id={work.order['id']}&{query}"))["data"] == []


@pytest.mark.parametrize("step", STEPS)
async def test_every_other_step_is_out_of_turn_and_told_what_is_not(step: str, work: Work) -> None:
    await work.until(step)
    state = (await work.channel.ok("GET", f"/v1/fulfillments/{work.id}"))["state"]
    for other in STEPS:
        if other != step:
            answer = await work.step(other)
            assert _code(answer) == (409, "invalid_transition"), (state, other)
            assert (answer.json()["state"], answer.json()["allowed"]) == (state, ALLOWED[state])
    assert (await work.step(step)).status_code == 200


async def test_goods_are_scanned_and_counted_in_any_order_and_case(work: Work) -> None:
    await work.until("pick")
    scans = [
        {"barcode": work.barcode, "quantity": 1},
        {"sku": work.skus[1].lower(), "quantity": 1},
        {"barcode": f"0{work.barcode}", "quantity": 1},
    ]
    picked = (await work.step("pick", {"lines": scans})).json()
    assert (picked["state"], [line["picked"] for line in picked["lines"]]) == ("picked", [2, 1])


async def test_a_sku_that_reads_like_anothers_barcode_is_not_taken_for_it(work: Work, admin: Channel) -> None:
    await work.until("pick")
    body = {"title": "x", "variants": [{"sku": work.barcode, "prices": []}]}
    assert (await admin.post("/v1/products", body)).status_code == 201
    scans = [{"barcode": work.barcode, "quantity": 2}, {"sku": work.barcode, "quantity": 1}]
    answer = await work.step("pick", {"lines": [*scans, {"sku": work.skus[1], "quantity": 1}]})
    assert _code(answer) == (422, "not_on_this_list")


@pytest.mark.parametrize("line", [{"sku": "nothing"}, {"barcode": "9999999999994"}])
async def test_what_is_not_on_the_list_is_not_picked(line: dict[str, Any], work: Work) -> None:
    await work.until("pick")
    answer = await work.step("pick", {"lines": [*work.lines, {**line, "quantity": 1}]})
    assert _code(answer) == (422, "not_on_this_list")
    assert (await work.channel.ok("GET", f"/v1/fulfillments/{work.id}"))["state"] == "picking"


@pytest.mark.parametrize("units", [1, 3])
async def test_every_unit_is_accounted_for(units: int, work: Work) -> None:
    await work.until("pick")
    first, second = work.lines
    answer = await work.step("pick", {"lines": [{**first, "quantity": units}, second]})
    assert _code(answer) == (422, "unaccounted_units")
    assert (answer.json()["sku"], answer.json()["expected"], answer.json()["counted"]) == (work.skus[0], 2, units)


@pytest.mark.parametrize(
    "line", [{"quantity": 1}, {"sku": "a", "barcode": "4006381333931", "quantity": 1}, {"sku": "a", "quantity": 0}]
)
async def test_a_scan_names_one_thing(line: dict[str, Any], work: Work) -> None:
    await work.until("pick")
    assert _code(await work.step("pick", {"lines": [line]})) == (400, "invalid_request")


async def test_a_misread_barcode_is_told_from_one_that_is_not_on_the_list(work: Work) -> None:
    await work.until("pick")
    misread = work.barcode[:-1] + str((int(work.barcode[-1]) + 1) % 10)
    answer = await work.step("pick", {"lines": [{"barcode": misread, "quantity": 2}]})
    assert (_code(answer), answer.json()["errors"][0]["pointer"]) == ((422, "invalid_barcode"), "/lines/0/barcode")


async def test_parcels_have_their_weights_and_their_tracking_number(work: Work) -> None:
    await work.until("pack")
    packed = (await work.step("pack", {"parcels": [{"weight_grams": 800}, {}]})).json()
    assert [parcel["weight_grams"] for parcel in packed["parcels"]] == [800, None]
    shipped = (await work.step("ship", {"carrier": "UPS", "tracking_number": "1Z 999 AA1 01 2345 6784"})).json()
    assert {(parcel["carrier"], parcel["tracking_number"]) for parcel in shipped["parcels"]} == {
        ("UPS", "1Z 999 AA1 01 2345 6784")
    }


async def test_one_parcel_of_unknown_weight_is_packed_unless_told_otherwise(work: Work) -> None:
    await work.until("ship")
    packed = await work.channel.ok("GET", f"/v1/fulfillments/{work.id}")
    assert packed["parcels"] == [{"weight_grams": None, "carrier": None, "tracking_number": None}]


async def test_an_order_that_is_picked_is_not_cancelled(work: Work, admin: Channel) -> None:
    await work.until("pack")
    answer = await admin.post(f"/v1/orders/{work.order['id']}/cancel", {"reason": "other"})
    assert _code(answer) == (409, "not_cancellable")


async def test_a_cancelled_order_leaves_no_work_and_no_hold(work: Work, admin: Channel, channels: Channels) -> None:
    cancelled = await admin.ok("POST", f"/v1/orders/{work.order['id']}/cancel", {"reason": "out_of_stock"})
    assert (cancelled["state"], cancelled["payment_state"]) == ("cancelled", "voided")
    assert [each["state"] for each in cancelled["fulfillments"]] == ["cancelled"]
    assert [(line["ordered"], line["cancelled"]) for line in cancelled["lines"]] == [(2, 2), (1, 1)]
    assert await channels.level(work.skus[0], "DC1") == (5, 0)
    assert _code(await work.step("start")) == (409, "invalid_transition")


async def test_payments_tell_every_operation_of_an_order(work: Work, admin: Channel) -> None:
    (payment,) = (await admin.ok("GET", f"/v1/payments?order_id={work.order['id']}"))["data"]
    assert (payment["tender"], payment["processor"], payment["order_id"]) == ("card", "sandbox", work.order["id"])
    assert payment["amount"] == work.order["total"]
    (operation,) = payment["operations"]
    assert (operation["kind"], operation["state"], operation["amount"]) == (
        "authorize",
        "succeeded",
        work.order["total"],
    )
    assert operation["at"].endswith("Z")
