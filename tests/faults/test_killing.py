"""The short form of ``python -m tests.faults.killing``, and the control that has to fail."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import killing
from tests.faults.verdict import Given, Made, Tried, judge

KILLS = 2


def _say(text: str) -> None:
    print(text)  # noqa: T201 - pytest shows it if this fails


async def test_kills_amid_checkouts_lose_no_charge_and_contradict_no_answer(
    make_database: Callable[[str], str], tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    _say(f"seed {seed}")
    url = await asyncio.to_thread(make_database, "kills")
    await killing.plant(url, is_naive=False)
    assert await killing.run(url, tmp_path, kills=KILLS, seed=seed, say=_say) == []


async def test_control_a_shop_that_charges_and_then_writes_fails(
    make_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = await asyncio.to_thread(make_database, "naive_kills")
    await killing.plant(url, is_naive=True)
    wrong = await killing.run(url, tmp_path, kills=1, seed=1, is_naive=True, say=_say)
    assert any("without an order" in finding for finding in wrong), wrong


GOOD = Made(id="ord_1", cart_id="cart_1", state="placed", total=100, references=("r1",), seconds=1.0)
CHARGE = {"reference": "r1", "status": "authorized", "amount_authorized": 100}


def _tried(*answers: tuple[int, str | None]) -> Tried:
    given = [Given(status=status, order_id=order_id, code=None) for status, order_id in answers]
    return Tried(key="k1", cart={"id": "cart_1"}, payment_method="pm_ok", answers=given)


def _but(**facts: object) -> Made:
    return Made(**{name: facts.get(name, getattr(GOOD, name)) for name in Made.__struct_fields__})  # type: ignore[arg-type]


BOUGHT = _tried((202, "ord_1"), (201, "ord_1"))


def test_the_verdict_is_content_with_what_is_right() -> None:
    assert judge([BOUGHT], [GOOD], [CHARGE]) == []
    failed = _but(state="failed")
    assert judge([_tried((402, None))], [failed], [{**CHARGE, "status": "voided"}]) == []


@pytest.mark.parametrize(
    ("tried", "made", "charged", "named"),
    [
        ([BOUGHT], [_but(state="payment_unknown")], [], "still"),
        ([BOUGHT], [_but(seconds=61.0)], [CHARGE], "only"),
        ([BOUGHT], [GOOD], [CHARGE, CHARGE], "the processor holds"),
        ([BOUGHT], [GOOD], [], "the processor holds"),
        ([BOUGHT], [GOOD], [{**CHARGE, "amount_authorized": 99}], "the processor holds"),
        ([_tried((402, None))], [_but(state="failed")], [CHARGE], "the processor holds"),
        ([BOUGHT], [GOOD], [CHARGE, {**CHARGE, "reference": "r2"}], "without an order"),
        ([_tried((202, "ord_1"))], [GOOD], [CHARGE], "no final answer"),
        ([_tried((201, "ord_1"), (402, None))], [GOOD], [CHARGE], "refused"),
        ([_tried((402, None), (201, "ord_1"))], [GOOD], [CHARGE], "refused"),
        ([_tried((201, "ord_2"))], [GOOD], [CHARGE], "there is"),
        ([_tried((402, None))], [GOOD], [CHARGE], "was refused"),
        ([BOUGHT], [GOOD, _but(id="ord_2", references=("r2",))], [CHARGE, {**CHARGE, "reference": "r2"}], "2 times"),
    ],
)
def test_the_verdict_names_what_is_wrong(
    tried: list[Tried], made: list[Made], charged: list[dict[str, object]], named: str
) -> None:
    assert any(named in finding for finding in judge(tried, made, charged))
