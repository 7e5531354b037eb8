"""What was scanned against what the list asks for."""

from datetime import UTC, datetime

import pytest

from commercehub import ids
from fulfillment import Line, NotOnThisList, UnaccountedUnits, account_for
from tests.fulfillment.floor import work

CUPS = Line(line_id=ids.new(), sku="CUP", quantity=2)
MORE_CUPS = Line(line_id=ids.new(), sku="CUP", quantity=3)
POTS = Line(line_id=ids.new(), sku="POT", quantity=1)
LIST = work(datetime(2026, 1, 1, tzinfo=UTC), CUPS, POTS, MORE_CUPS)


def test_every_unit_is_accounted_for_on_its_line() -> None:
    assert account_for(LIST, {"POT": 1, "CUP": 5}) == {CUPS.line_id: 2, POTS.line_id: 1, MORE_CUPS.line_id: 3}


@pytest.mark.parametrize("counted", [4, 6, 0, -5])
def test_a_unit_missing_or_too_many_is_named(counted: int) -> None:
    with pytest.raises(UnaccountedUnits) as refused:
        account_for(LIST, {"POT": 1, "CUP": counted})
    assert (refused.value.sku, refused.value.expected, refused.value.counted) == ("CUP", 5, counted)


def test_a_sku_that_was_not_counted_is_missing() -> None:
    with pytest.raises(UnaccountedUnits) as refused:
        account_for(LIST, {"CUP": 5})
    assert (refused.value.sku, refused.value.counted) == ("POT", 0)


def test_what_is_not_on_the_list_is_named_first() -> None:
    with pytest.raises(NotOnThisList) as refused:
        account_for(LIST, {"LID": 1})
    assert refused.value.sku == "LID"
