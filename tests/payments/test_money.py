"""Cents neither appear nor vanish, in currencies of no, two and three decimals."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from payments.money import (
    AMOUNT_MINOR_MAX,
    CurrencyMismatch,
    Money,
    divide,
    exponent,
    parse,
    show,
    split,
    tax,
)

DECIMALS = {"JPY": 0, "CLP": 0, "USD": 2, "EUR": 2, "KWD": 3, "BHD": 3}
RATE_PPM_MAX = 2_000_000

currencies = st.sampled_from(sorted(DECIMALS))
amounts = st.integers(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX)
rates = st.integers(0, RATE_PPM_MAX)
weights = st.lists(st.integers(0, AMOUNT_MINOR_MAX), min_size=1, max_size=40)


def half_away_from_zero(exact: Fraction) -> int:
    whole = int(abs(exact) + Fraction(1, 2))
    return -whole if exact < 0 else whole


@pytest.mark.parametrize(("currency", "decimals"), DECIMALS.items())
def test_a_currency_has_its_own_decimals(currency: str, decimals: int) -> None:
    assert exponent(currency) == decimals


@given(st.integers(-(10**15) + 1, 10**15 - 1), currencies)
def test_what_is_shown_can_be_read_again(amount: int, currency: str) -> None:
    number, shown_currency = show(amount, currency).split(" ")
    assert (parse(number, currency), shown_currency) == (amount, currency)


@given(amounts, currencies)
def test_what_is_shown_is_the_exact_decimal(amount: int, currency: str) -> None:
    number = show(amount, currency).split(" ")[0]
    assert Decimal(number) == Decimal(amount).scaleb(-DECIMALS[currency])
    assert len(number.partition(".")[2]) == DECIMALS[currency]


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [
        ("17.99", "USD", 1799),
        ("17.9", "USD", 1790),
        ("17", "USD", 1700),
        (" 17.9900 ", "USD", 1799),
        ("-0.01", "USD", -1),
        ("1799", "JPY", 1799),
        ("1799.00", "JPY", 1799),
        ("1.234", "KWD", 1234),
        ("0", "KWD", 0),
    ],
)
def test_a_price_is_read_in_minor_units(text: str, currency: str, amount: int) -> None:
    assert parse(text, currency) == amount


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("17.999", "USD"),
        ("17.5", "JPY"),
        ("1.2345", "KWD"),
        ("", "USD"),
        (".5", "USD"),
        ("5.", "USD"),
        ("+5", "USD"),
        ("--5", "USD"),
        ("1,000.00", "USD"),
        ("1e3", "USD"),
        ("nan", "USD"),
        ("٣", "USD"),
        ("1 0", "USD"),
        ("5\x00", "USD"),
        ("90071992547409.92", "USD"),
        ("9" * 30, "JPY"),
    ],
)
def test_what_is_no_price_in_this_currency_is_refused_and_never_rounded(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text, currency)


def test_the_largest_amount_without_decimals_is_read() -> None:
    assert parse(str(AMOUNT_MINOR_MAX), "JPY") == AMOUNT_MINOR_MAX


def test_a_currency_ends_where_its_code_ends() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(rb'{"amount": 1, "currency": "USD\n"}', type=Money)


def test_the_largest_amount_is_read_and_the_next_is_not() -> None:
    assert parse("90071992547409.91", "USD") == AMOUNT_MINOR_MAX
    with pytest.raises(ValueError, match="larger"):
        parse("90071992547409.92", "USD")


@given(st.text(max_size=12), currencies)
def test_any_text_is_a_price_or_refused(text: str, currency: str) -> None:
    try:
        amount = parse(text, currency)
    except ValueError:
        return
    assert abs(amount) <= AMOUNT_MINOR_MAX


@given(st.integers(), st.integers(min_value=1))
def test_division_rounds_half_away_from_zero(numerator: int, denominator: int) -> None:
    assert divide(numerator, denominator) == half_away_from_zero(Fraction(numerator, denominator))


@given(amounts, st.integers(0, 4))
def test_division_rounds_as_decimal_does(amount: int, digits: int) -> None:
    exact = Decimal(amount).scaleb(-digits)
    assert divide(amount, 10**digits) == exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)


@given(amounts, weights)
def test_the_parts_of_a_split_add_up_to_the_whole(amount: int, weights: list[int]) -> None:
    assert sum(split(amount, weights)) == amount


@given(amounts, weights)
def test_no_part_is_a_whole_minor_unit_off_its_exact_share(amount: int, weights: list[int]) -> None:
    assume(any(weights))
    total = sum(weights)
    for part, weight in zip(split(amount, weights), weights, strict=True):
        assert abs(part - Fraction(amount * weight, total)) < 1


@given(amounts, weights)
def test_a_larger_weight_never_gets_the_smaller_part(amount: int, weights: list[int]) -> None:
    shares = sorted(zip(weights, map(abs, split(amount, weights)), strict=True))
    for (weight, part), (heavier, larger) in pairwise(shares):
        assert weight == heavier or part <= larger


@given(amounts, weights)
def test_a_refund_is_split_as_the_sale_was(amount: int, weights: list[int]) -> None:
    assert split(-amount, weights) == [-part for part in split(amount, weights)]


@given(amounts, st.integers(1, 40))
def test_weights_of_zero_count_as_equal(amount: int, count: int) -> None:
    assert split(amount, [0] * count) == split(amount, [1] * count)


@given(amounts, weights)
def test_a_weight_of_zero_gets_nothing_where_others_have_weight(amount: int, weights: list[int]) -> None:
    assume(any(weights))
    parts = split(amount, weights)
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)


def test_the_first_of_equals_gets_the_odd_cent() -> None:
    assert split(100, [1, 1, 1]) == [34, 33, 33]
    assert split(-100, [1, 1, 1]) == [-34, -33, -33]


@pytest.mark.parametrize("weights", [[], [-1], [1, -1]])
def test_a_split_without_weights_or_by_a_negative_one_is_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        split(100, weights)


@given(amounts, rates)
def test_tax_on_top_is_the_rounded_share(amount: int, rate_ppm: int) -> None:
    assert tax(amount, rate_ppm, included=False) == half_away_from_zero(Fraction(amount * rate_ppm, 1_000_000))


@given(amounts, rates)
def test_included_tax_and_the_net_amount_make_the_price(amount: int, rate_ppm: int) -> None:
    inside = tax(amount, rate_ppm, included=True)
    net = Fraction(amount * 1_000_000, 1_000_000 + rate_ppm)
    assert abs(amount - inside - net) <= Fraction(1, 2)
    assert abs(inside) <= abs(amount)


@given(st.integers(0, AMOUNT_MINOR_MAX // 3), rates)
def test_tax_put_on_top_is_found_inside(net: int, rate_ppm: int) -> None:
    on_top = tax(net, rate_ppm, included=False)
    assert abs(tax(net + on_top, rate_ppm, included=True) - on_top) <= 1


@given(amounts, rates)
def test_a_refund_takes_back_the_tax_of_the_sale(amount: int, rate_ppm: int) -> None:
    for included in (True, False):
        assert tax(-amount, rate_ppm, included=included) == -tax(amount, rate_ppm, included=included)


@given(amounts, amounts)
def test_money_of_one_currency_adds_and_subtracts(first: int, second: int) -> None:
    total = Money(first, "KWD") + Money(second, "KWD")
    assert total - Money(second, "KWD") == Money(first, "KWD")


def test_money_of_two_currencies_does_not_mix() -> None:
    with pytest.raises(CurrencyMismatch):
        Money(1, "USD") + Money(1, "EUR")
    with pytest.raises(CurrencyMismatch):
        Money(1, "USD") - Money(1, "EUR")
