"""What returns come to, to the cent, and the machine they follow."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commercehub import ids
from commercehub.sales import returns
from commercehub.sales.errors import NotReturnable, ReturnNotInTurn, ReturnWindowClosed
from commercehub.sales.orders import Order, OrderDelivery, OrderLine, OrderState, receipt_barcode
from commercehub.sales.returns import MOVES, WINDOW, Return, ReturnState

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def _order(*, ordered: int = 2, total: int = 2_000, tax: int = 165, method: str = "ship") -> Order:
    delivery = OrderDelivery(id=ids.new(), method=method, location_id=None, address_id=None, price=499)
    line = OrderLine(
        id=ids.new(),
        delivery_id=delivery.id,
        variant_id=ids.new(),
        sku="T",
        title="T",
        quantity_scale=0,
        ordered=ordered,
        unit_price=0,
        discount=0,
        tax=tax,
        tax_rate_ppm=82_500,
        total=total,
        fulfilled=ordered,
    )
    return Order(
        id=ids.new(),
        number="100001",
        cart_id=ids.new(),
        sales_channel_id=ids.new(),
        channel="web",
        locale="en",
        location_id=None,
        customer_id=None,
        contact_id=None,
        currency="USD",
        tax_included=False,
        subtotal=total,
        discount_total=0,
        delivery_total=499,
        tax_total=tax,
        total=total + tax + 499,
        change=None,
        state=OrderState.COMPLETED,
        payment_state="paid",
        fulfillment_state="fulfilled",
        on_hold=False,
        version=1,
        placed_by="key",
        created_at=NOW,
        lines=(line,),
        deliveries=(delivery,),
    )


def _returned(line: OrderLine, quantity: int) -> OrderLine:
    return msgspec.structs.replace(line, returned=line.returned + quantity)


@settings(max_examples=30)
@given(
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    total=st.integers(0, 100_000),
    tax=st.integers(0, 10_000),
    included=st.booleans(),
)
def test_all_returns_of_a_line_add_up_to_exactly_what_was_paid(
    parts: list[int], total: int, tax: int, *, included: bool
) -> None:
    order = msgspec.structs.replace(_order(ordered=sum(parts), total=total, tax=tax), tax_included=included)
    (line,) = order.lines
    given_back = []
    for quantity in parts:
        given_back.append(returns.worth(order, line, quantity))
        line = _returned(line, quantity)
    assert sum(given_back) == total + (0 if included else tax)
    assert min(given_back) >= 0


def test_no_more_comes_back_than_was_fulfilled_and_is_not_asked_back_for() -> None:
    order = _order(ordered=3)
    line = order.lines[0].id
    returns.check_returnable(order, {line: 2}, {line: 1})
    for wanted, open_units in (({line: 3}, {line: 1}), ({line: 4}, {}), ({ids.new(): 1}, {})):
        with pytest.raises(NotReturnable):
            returns.check_returnable(order, wanted, open_units)


def test_the_window_is_open_for_thirty_days_from_when_the_goods_were_there() -> None:
    order = _order()
    line = order.lines[0].id
    returns.check_window(order, [line], {}, now=NOW + timedelta(days=900))
    returns.check_window(order, [line], {line: NOW}, now=NOW + WINDOW)
    with pytest.raises(ReturnWindowClosed) as closed:
        returns.check_window(order, [line], {line: NOW}, now=NOW + WINDOW + timedelta(seconds=1))
    assert (closed.value.line_id, closed.value.until) == (line, NOW + WINDOW)


def test_what_was_carried_out_counts_from_the_sale() -> None:
    order = _order(method="carry_out")
    with pytest.raises(ReturnWindowClosed):
        returns.check_window(order, [order.lines[0].id], {}, now=NOW + timedelta(days=31))


def test_a_receipts_barcode_tells_the_number() -> None:
    assert returns.number_of(receipt_barcode("100042")) == "100042"
    for wrong in ("2900001000421", "4006381333931", "29", "abcdefghijklm"):
        assert returns.number_of(wrong) is None


@pytest.mark.parametrize("state", ReturnState)
def test_every_state_is_reached_or_begins_and_names_what_follows(state: ReturnState) -> None:
    reached = {each for following in MOVES.values() for each in following}
    assert state in reached or state is ReturnState.REQUESTED
    back = Return(
        id=ids.new(),
        order_id=ids.new(),
        state=state,
        method="mail",
        resolution="refund",
        location_id=None,
        amount_minor=None,
        requested_by="key",
        channel="web",
        version=1,
        created_at=NOW,
        lines=(),
    )
    with pytest.raises(ReturnNotInTurn) as refused:
        returns.check_move(back, ReturnState.REQUESTED)
    assert refused.value.allowed == sorted(MOVES[state])
