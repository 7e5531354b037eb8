"""What a cart costs, whatever is in it: the amounts add up to the unit, and no discount makes anything negative."""

import uuid
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from commercehub.sales.pricing import CartLine, Promotion, price
from payments.money import divide, tax


def _line(unit_price: int | None, quantity: int, scale: int = 0, rate_ppm: int = 0) -> CartLine:
    return CartLine(
        id=uuid.uuid4(),
        variant_id=uuid.uuid4(),
        sku="X",
        title="X",
        quantity=quantity,
        quantity_scale=scale,
        delivery_id=None,
        unit_price=unit_price,
        rate_ppm=rate_ppm,
    )


def _off(*ppm: int) -> list[Promotion]:
    return [Promotion(code=f"P{position}", percent_off_ppm=each) for position, each in enumerate(ppm)]


_lines = st.lists(
    st.builds(
        _line,
        st.none() | st.integers(0, 100_000),
        st.integers(1, 5_000),
        st.integers(0, 3),
        st.integers(0, 1_000_000),
    ),
    max_size=8,
)


@settings(max_examples=100)
@given(lines=_lines, ppm=st.lists(st.integers(1, 1_000_000), max_size=3), included=st.booleans())
def test_amounts_add_up_whatever_is_taken_off(*, lines: Sequence[CartLine], ppm: list[int], included: bool) -> None:
    prices = price(lines, [], tax_included=included, promotions=_off(*ppm))
    assert prices.subtotal == sum(each.total + each.discount for each in prices.lines)
    assert prices.discount_total == divide(prices.subtotal * max(ppm, default=0), 1_000_000)
    assert prices.discount_total == sum(each.discount for each in prices.lines)
    assert prices.discount_total == sum(each.discount for each in prices.promotions)
    assert all(0 <= each.discount <= each.total + each.discount for each in prices.lines)
    assert all(each.tax == tax(each.total, each.line.rate_ppm, included=included) for each in prices.lines)
    assert prices.total == prices.subtotal - prices.discount_total + (0 if included else prices.tax_total)


def test_the_unit_that_is_left_over_goes_to_the_first_line() -> None:
    prices = price([_line(5, 1), _line(5, 1)], [], tax_included=True, promotions=_off(100_000))
    assert [each.discount for each in prices.lines] == [1, 0]


def test_half_a_unit_is_rounded_away_from_zero() -> None:
    assert price([_line(25, 1)], [], tax_included=True, promotions=_off(100_000)).discount_total == 3


def test_a_promotion_that_was_ended_takes_nothing() -> None:
    ended = Promotion(code="OLD", percent_off_ppm=500_000, is_ended=True)
    prices = price([_line(1000, 1)], [], tax_included=True, promotions=[ended, *_off(100_000)])
    assert [(each.code, each.discount) for each in prices.promotions] == [("OLD", 0), ("P0", 100)]
