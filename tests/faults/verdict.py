"""What has to be true after any number of kills, of whatever shop: of the answers, the orders and the charges."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

SETTLED: Final = frozenset({"placed", "failed"})
HELD: Final = frozenset({"authorized", "partially_captured", "captured", "requires_action"})
SETTLE_SECONDS_MAX: Final = 60.0


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that a buyer got: the status, and the order or the code in it."""

    status: int
    order_id: str | None
    code: str | None


class Tried(msgspec.Struct, kw_only=True):
    """One attempt to buy a cart, under one key, asked for again until it is known how it ended."""

    key: str
    cart: dict[str, Any]
    payment_method: str
    answers: list[Given] = []


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the shop has it; its payments bear these references at the processor."""

    id: str
    cart_id: str
    state: str
    total: int
    references: tuple[str, ...]
    seconds: float


def judge(tried: Sequence[Tried], made: Sequence[Made], charged: Sequence[Mapping[str, Any]]) -> list[str]:
    """Everything that is wrong; empty is good."""
    return [*_unsettled(made), *_charges(made, charged), *_answers(tried, made)]


def _unsettled(made: Sequence[Made]) -> list[str]:
    waiting = [f"{order.id} is still {order.state}" for order in made if order.state not in SETTLED]
    late = [
        f"{order.id} was {order.state} after {order.seconds:.0f} s only"
        for order in made
        if order.seconds > SETTLE_SECONDS_MAX
    ]
    return waiting + late


def _charges(made: Sequence[Made], charged: Sequence[Mapping[str, Any]]) -> list[str]:
    held: dict[str, list[Mapping[str, Any]]] = {}
    for payment in charged:
        if payment["status"] in HELD:
            held.setdefault(payment["reference"], []).append(payment)
    wrong = []
    for order in made:
        amounts = [payment["amount_authorized"] for name in order.references for payment in held.pop(name, [])]
        wanted = [order.total] if order.state == "placed" else []
        if amounts != wanted:
            wrong.append(f"{order.id} is {order.state} and costs {order.total}, the processor holds {amounts}")
    for reference, without in held.items():
        wrong.append(f"{len(without)} charges under {reference} without an order")
    return wrong


def _answers(tried: Sequence[Tried], made: Sequence[Made]) -> list[str]:
    wrong = []
    placed: dict[str, list[str]] = {}
    for order in made:
        if order.state == "placed":
            placed.setdefault(order.cart_id, []).append(order.id)
    for attempt in tried:
        orders = placed.get(attempt.cart["id"], [])
        promised = {answer.order_id for answer in attempt.answers if answer.status == 201}
        refused = any(answer.status == 402 for answer in attempt.answers)
        if not attempt.answers or attempt.answers[-1].status not in {201, 402}:
            wrong.append(f"{attempt.key} ({attempt.payment_method}) has no final answer: {attempt.answers[-1:]}")
        elif len(orders) > 1:
            wrong.append(f"{attempt.key} bought {len(orders)} times: {orders}")
        elif promised and (promised != set(orders) or refused):
            wrong.append(f"{attempt.key} was answered {promised}, and refused: {refused}; there is {orders}")
        elif refused and orders:
            wrong.append(f"{attempt.key} was refused, and there is {orders}")
    return wrong
