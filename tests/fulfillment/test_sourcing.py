"""Where goods come from."""

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from fulfillment import Candidate, Need, plan
from fulfillment.sourcing import PLANS_MAX, Plan

skus = st.sampled_from("ABC")
needs_of_an_order = st.lists(st.builds(lambda sku, quantity: (sku, quantity), skus, st.integers(1, 4)), max_size=5).map(
    lambda lines: [Need(line_id=UUID(int=i), sku=sku, quantity=quantity) for i, (sku, quantity) in enumerate(lines)]
)
places = st.lists(st.dictionaries(skus, st.integers(0, 6)), max_size=5).map(
    lambda stocks: [Candidate(location_id=UUID(int=i), available=stock) for i, stock in enumerate(stocks)]
)


def need(sku: str, quantity: int, line: int = 1) -> Need:
    return Need(line_id=UUID(int=line), sku=sku, quantity=quantity)


def place(number: int, **available: int) -> Candidate:
    return Candidate(location_id=UUID(int=number), available=available)


def told(found: Plan) -> list[tuple[int, str, int]]:
    """A plan as (place, SKU, units)."""
    return [(each.location_id.int, each.sku, each.quantity) for each in found]


@given(needs_of_an_order, places)
def test_a_plan_serves_exactly_the_needs_and_takes_no_more_than_there_is(
    needs: list[Need], candidates: list[Candidate]
) -> None:
    stock = {candidate.location_id: candidate.available for candidate in candidates}
    for found in plan(needs, candidates):
        served: Counter[tuple[UUID, str]] = Counter()
        taken: Counter[tuple[UUID, str]] = Counter()
        for each in found:
            assert each.quantity > 0
            served[each.line_id, each.sku] += each.quantity
            taken[each.location_id, each.sku] += each.quantity
        assert served == {(need.line_id, need.sku): need.quantity for need in needs}
        assert all(units <= stock[location_id].get(sku, 0) for (location_id, sku), units in taken.items())


@given(needs_of_an_order.filter(bool), places)
def test_there_is_a_plan_where_all_places_together_hold_enough(needs: list[Need], candidates: list[Candidate]) -> None:
    wanted = Counter[str]()
    held = Counter[str]()
    for each in needs:
        wanted[each.sku] += each.quantity
    for candidate in candidates:
        held.update(candidate.available)
    assert bool(plan(needs, candidates)) == all(held[sku] >= units for sku, units in wanted.items())


@given(needs_of_an_order.filter(bool), places)
def test_a_single_place_is_chosen_wherever_one_holds_everything(needs: list[Need], candidates: list[Candidate]) -> None:
    wanted = Counter[str]()
    for each in needs:
        wanted[each.sku] += each.quantity
    whole = [
        candidate
        for candidate in candidates
        if all(candidate.available.get(sku, 0) >= units for sku, units in wanted.items())
    ]
    plans = plan(needs, candidates)
    assert len(plans) <= PLANS_MAX
    if whole:
        assert len(plans) == min(PLANS_MAX, len(whole))
        assert all(len({each.location_id for each in found}) == 1 for found in plans)


@given(needs_of_an_order, places, st.randoms(use_true_random=False))
def test_the_order_of_the_places_does_not_matter(
    needs: list[Need], candidates: list[Candidate], random: object
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan(needs, shuffled) == plan(needs, candidates)


@given(needs_of_an_order, places)
def test_a_split_takes_each_line_from_a_place_once(needs: list[Need], candidates: list[Candidate]) -> None:
    for found in plan(needs, candidates):
        keys = [(each.line_id, each.location_id) for each in found]
        assert len(keys) == len(set(keys))


def test_the_place_with_most_to_spare_comes_first() -> None:
    plans = plan([need("A", 1)], [place(1, A=1), place(2, A=9), place(3, A=5)])
    assert [told(found) for found in plans] == [[(2, "A", 1)], [(3, "A", 1)], [(1, "A", 1)]]


def test_what_nobody_wants_counts_for_nothing() -> None:
    assert told(plan([need("A", 1)], [place(1, A=1, B=99), place(2, A=2)])[0]) == [(2, "A", 1)]


def test_equal_places_come_lowest_id_first_and_three_at_most() -> None:
    plans = plan([need("A", 1)], [place(number, A=2) for number in (5, 3, 4, 1, 2)])
    assert [found[0].location_id.int for found in plans] == [1, 2, 3]


def test_a_split_begins_where_most_can_be_had() -> None:
    found = plan([need("A", 3, 1), need("B", 1, 2)], [place(1, A=1, B=1), place(2, A=2, B=1), place(3, A=1)])
    assert [told(each) for each in found] == [[(2, "A", 2), (2, "B", 1), (1, "A", 1)]]


def test_two_lines_of_one_sku_share_what_a_place_has() -> None:
    found = plan([need("A", 2, 1), need("A", 2, 2)], [place(1, A=3), place(2, A=1)])
    assert [told(each) for each in found] == [[(1, "A", 2), (1, "A", 1), (2, "A", 1)]]


def test_a_line_of_two_components_is_planned_for_both() -> None:
    found = plan([need("A", 1, 7), need("B", 1, 7)], [place(1, A=1), place(2, B=1)])
    assert [told(each) for each in found] == [[(1, "A", 1), (2, "B", 1)]]


def test_too_little_everywhere_is_no_plan() -> None:
    assert plan([need("A", 4)], [place(1, A=2), place(2, A=1)]) == []
    assert plan([need("A", 1)], []) == []


def test_less_than_nothing_is_nothing() -> None:
    assert plan([need("A", 1)], [place(1, A=-2), place(2, A=0)]) == []


def test_who_needs_nothing_gets_it_from_nowhere() -> None:
    assert plan([], [place(1, A=1), place(2, A=1)]) == [()]
    assert plan([], []) == [()]
