"""What an order costs now: its parts add up to it exactly, whatever is cancelled and whatever has left."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from commercehub.sales import dues
from commercehub.sales.orders import Order, OrderDelivery, OrderLine, OrderState
from payments import Balance, Intent, IntentState

amounts = st.integers(0, 10_000)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """An order of some lines in two deliveries, of which some units are cancelled and some have left."""
    included = draw(st.booleans())
    lines = []
    for number in range(draw(st.integers(1, 4))):
        ordered = draw(st.integers(1, 7))
        cancelled = draw(st.integers(0, ordered))
        fulfilled = draw(st.integers(0, ordered - cancelled))
        lines.append(_line(number, draw(st.integers(0, 1)), ordered, draw(amounts), draw(amounts)))
        lines[-1] = replace(lines[-1], cancelled=cancelled, fulfilled=fulfilled)
    return _order(lines, (draw(amounts), draw(amounts)), tax_included=included)


def _line(number: int, delivery: int, ordered: int, total: int, tax: int) -> OrderLine:
    return OrderLine(
        id=UUID(int=number),
        delivery_id=UUID(int=100 + delivery),
        variant_id=UUID(int=number),
        sku=str(number),
        title="",
        quantity_scale=0,
        ordered=ordered,
        unit_price=0,
        discount=0,
        tax=tax,
        tax_rate_ppm=0,
        total=total,
    )


def _order(lines: list[OrderLine], prices: tuple[int, int], *, tax_included: bool) -> Order:
    used = {line.delivery_id for line in lines}
    deliveries = tuple(
        OrderDelivery(id=delivery_id, method="ship", location_id=None, address_id=None, price=price)
        for delivery_id, price in zip((UUID(int=100), UUID(int=101)), prices, strict=True)
        if delivery_id in used
    )
    subtotal, tax = sum(line.total for line in lines), sum(line.tax for line in lines)
    delivery_total = sum(each.price for each in deliveries)
    return Order(
        id=UUID(int=1),
        number="1",
        cart_id=UUID(int=2),
        sales_channel_id=UUID(int=3),
        channel="app",
        locale="en",
        location_id=None,
        customer_id=None,
        contact_id=None,
        currency="USD",
        tax_included=tax_included,
        subtotal=subtotal,
        discount_total=0,
        delivery_total=delivery_total,
        tax_total=tax,
        total=subtotal + delivery_total + (0 if tax_included else tax),
        change=None,
        state=OrderState.PLACED,
        payment_state="authorized",
        fulfillment_state="unfulfilled",
        on_hold=False,
        version=1,
        placed_by="",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        lines=tuple(lines),
        deliveries=deliveries,
    )


@settings(max_examples=30)
@given(orders())
def test_nothing_called_off_costs_the_total_and_all_that_has_left_earns_it(order: Order) -> None:
    fresh = replace(order, lines=tuple(replace(line, cancelled=0, fulfilled=0) for line in order.lines))
    assert (dues.worth(fresh), dues.earned(fresh)) == (order.total, 0)
    gone = replace(fresh, lines=tuple(replace(line, fulfilled=line.ordered) for line in fresh.lines))
    assert dues.earned(gone) == order.total


@settings(max_examples=30)
@given(orders())
def test_no_more_is_earned_than_it_costs_and_exactly_that_in_the_end(order: Order) -> None:
    assert 0 <= dues.earned(order) <= dues.worth(order) <= order.total
    ended = replace(order, lines=tuple(replace(line, fulfilled=line.ordered - line.cancelled) for line in order.lines))
    assert dues.earned(ended) == dues.worth(ended) == dues.worth(order)


def tender(paid: int, *, back: int = 0, refused: bool = False) -> Balance:
    """A card that promised so much, or, ``refused``, did so in vain; ``back`` of it was given back."""
    intent = Intent(
        id=UUID(int=1),
        reference=UUID(int=1),
        tender="card",
        processor="sandbox",
        processor_reference=None,
        session_id=None,
        currency="USD",
        amount_minor=paid,
        tendered_minor=None,
        state=IntentState.AUTHORIZED,
        authorized_minor=paid,
    )
    return Balance(intent=intent, taken_back_minor=back, capture_refused=refused)


@settings(max_examples=30)
@given(orders(), amounts)
def test_what_is_covered_is_not_due_and_an_order_that_is_off_owes_nothing(order: Order, covered: int) -> None:
    assert dues.amount_due(order, [tender(covered)]) == max(0, dues.worth(order) - covered)
    for state in (OrderState.CANCELLED, OrderState.FAILED):
        assert dues.amount_due(replace(order, state=state), []) == 0


@settings(max_examples=30)
@given(orders(), amounts)
def test_what_was_given_back_or_refused_covers_nothing(order: Order, paid: int) -> None:
    for nothing in (tender(paid, back=paid), tender(paid, refused=True)):
        assert dues.amount_due(order, [nothing]) == dues.worth(order)
        assert dues.missing(order, [nothing]) == dues.earned(order)
    assert dues.is_capture_failed(order, [tender(paid, refused=True)]) == (dues.earned(order) > 0)
    assert not dues.is_capture_failed(order, [tender(paid)])


@settings(max_examples=30)
@given(orders(), amounts)
def test_what_is_given_back_of_a_completed_order_is_not_due_again(order: Order, back: int) -> None:
    done = replace(order, state=OrderState.COMPLETED)
    worth = dues.worth(done)
    assert dues.amount_due(done, [tender(worth, back=min(back, worth))]) == 0
    assert dues.amount_due(done, [tender(worth, back=worth), tender(worth)]) == 0
    assert dues.missing(done, [tender(worth, back=worth), tender(worth)]) == 0
