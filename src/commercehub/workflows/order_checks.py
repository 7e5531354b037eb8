"""What has to be true of one order over all rooms. Pure: from what the rooms have of it to what does not agree."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec

from commercehub import ids
from commercehub.sales import orders
from commercehub.sales.orders import MOVES, Order, OrderState
from commercehub.workflows import dues
from commercehub.workflows.order_books import OrderBooks
from fulfillment import DONE, LEFT, Fulfillment, State
from fulfillment import MOVES as WORK_MOVES
from payments import money
from payments.intents import IntentState

CARRIED_OUT: Final = "carry_out"
BEGINNINGS: Final = frozenset({OrderState.AWAITING_PAYMENT, OrderState.PLACED, OrderState.COMPLETED})
NEVER_PLACED: Final = orders.UNPAID | {OrderState.FAILED}
WAITING: Final = frozenset({IntentState.PENDING, IntentState.UNKNOWN})
ON_SHELF: Final = frozenset(State) - LEFT - {State.CANCELLED}
"""Where goods wait for somebody to do something with them."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: which invariant, where, and what both sides say."""

    invariant: str
    subject: str
    expected: int | str
    found: int | str

    def __str__(self) -> str:
        """As a line for people."""
        return f"{self.invariant}: {self.subject}: expected {self.expected}, found {self.found}"


Subject = str | UUID | tuple[UUID | str, UUID | None]
"""What of an order it is about: a line, by its id, at a location; a SKU at a location; or a word for it."""
Difference = tuple[str, Subject, int | str, int | str]
Check = Callable[[OrderBooks], Iterator[Difference]]


def check_order(books: OrderBooks) -> list[Finding]:
    """Everything about an order that does not agree; empty is good."""
    return [
        Finding(
            invariant=invariant,
            subject=f"{ids.show('ord', books.order.id)} {_name(subject)}".rstrip(),
            expected=expected,
            found=found,
        )
        for check in CHECKS
        for invariant, subject, expected, found in check(books)
        if expected != found
    ]


def _amounts(books: OrderBooks) -> Iterator[Difference]:
    order = books.order
    for line in order.lines:
        gross = money.divide(line.unit_price * line.ordered, 10**line.quantity_scale)
        yield (
            "M6 a line costs its price times its units less its discount",
            line.id,
            gross - line.discount,
            line.total,
        )
        tax = money.tax(line.total, line.tax_rate_ppm, included=order.tax_included)
        yield "M6 a line is taxed at its rate", line.id, tax, line.tax
    total = order.subtotal - order.discount_total + order.delivery_total
    total += 0 if order.tax_included else order.tax_total
    discounts = sum(line.discount for line in order.lines)
    for what, expected, found in (
        ("subtotal", sum(line.total for line in order.lines) + discounts, order.subtotal),
        ("discount", discounts, order.discount_total),
        ("promotions", order.discount_total, sum(each.discount for each in order.promotions)),
        ("delivery", sum(each.price for each in order.deliveries), order.delivery_total),
        ("tax", sum(line.tax for line in order.lines), order.tax_total),
        ("total", total, order.total),
    ):
        yield "M6 an order's amounts are those of its parts", what, expected, found


def _units(books: OrderBooks) -> Iterator[Difference]:
    order = books.order
    carried = _carried(order)
    is_placed = order.state not in NEVER_PLACED
    left, waiting = _by_line(books.work, LEFT), _by_line(books.work, ON_SHELF)
    for line in order.lines:
        is_carried = line.delivery_id in carried
        gone = line.ordered if is_carried and is_placed else left.get(line.id, 0)
        off = line.ordered - gone - waiting.get(line.id, 0) if is_placed else 0
        yield "O3 what is fulfilled has left", line.id, gone, line.fulfilled
        yield "O3 what nobody works for is called off", line.id, off, line.cancelled
    lines = {line.id for line in order.lines}
    for line_id in (left.keys() | waiting.keys()) - lines:
        yield "O2 work is about the order's lines", line_id, 0, left[line_id] + waiting[line_id]


def _holds(books: OrderBooks) -> Iterator[Difference]:
    """An order's goods are held where its work is, until they leave; while it is unpaid, all of them."""
    order = books.order
    held = {(each.line_id, each.location_id): each for each in books.held}
    if order.state in orders.UNPAID:
        for line in order.lines:
            units = sum(each.open for each in books.held if each.line_id == line.id)
            yield "O2 what waits for its payment is held", line.id, line.ordered, units
        return
    wanted = _by_place(books.work, ON_SHELF)
    gone = _by_place(books.work, LEFT)
    # Stock that was called off is free once the processor has let go of the money.
    waits_for_void = order.state is OrderState.CANCELLED and any(
        each.intent.authorized_minor > each.intent.captured_minor + each.intent.voided_minor for each in books.tenders
    )
    carried = {line.id for line in order.lines if line.delivery_id in _carried(order)}
    for key in held.keys() | wanted.keys() | gone.keys():
        units, picked = wanted.get(key, (0, 0))
        have = held.get(key)
        if not waits_for_void:
            yield "O2 what is held is what work waits for", key, units, have.open if have else 0
            yield "S2 what was picked is noted on its hold", key, picked, have.picked if have else 0
        if key[0] not in carried:
            yield "S3 what a hold was taken for has left", key, gone.get(key, (0, 0))[0], have.posted if have else 0


def _stock(books: OrderBooks) -> Iterator[Difference]:
    """What the movements of stock say went out with the order, by SKU and location."""
    order = books.order
    gone: Counter[tuple[str, UUID | None]] = Counter()
    for work in books.work:
        if work.state in LEFT:
            for each in work.lines:
                gone[each.sku, work.location_id] += each.quantity
    if order.state not in NEVER_PLACED:
        carried = {each.id: each.location_id for each in order.deliveries if each.method == CARRIED_OUT}
        for line in order.lines:
            if line.delivery_id in carried:
                gone[line.sku, carried[line.delivery_id]] += line.ordered
    moved: Counter[tuple[str, UUID | None]] = Counter()
    for move in books.moved:
        moved[move.sku, move.location_id] -= move.delta
    for key in gone.keys() | moved.keys():
        yield "S3 the stock that left is what the order's units say", key, gone[key], moved[key]


def _states(books: OrderBooks) -> Iterator[Difference]:
    order, work = books.order, books.work
    expected = orders.fulfillment_state(order.lines)
    yield "O3 how far the goods have got is what the units say", "", expected, order.fulfillment_state
    if order.state in NEVER_PLACED:
        yield "O2 nobody works for what is not placed", "", 0, len(work)
        return
    accounted = all(line.fulfilled + line.cancelled == line.ordered for line in order.lines)
    done = accounted and all(each.state in DONE for each in work)
    if all(line.cancelled == line.ordered for line in order.lines):
        derived = OrderState.CANCELLED
    elif done:
        derived = OrderState.COMPLETED
    elif all(each.state in {State.OPEN, State.CANCELLED} for each in work) and order.state is OrderState.PLACED:
        derived = OrderState.PLACED
    else:
        derived = OrderState.IN_FULFILLMENT
    yield "O2 an order stands where its work does", "", derived.value, order.state.value


def _money(books: OrderBooks) -> Iterator[Difference]:
    order = books.order
    intents = [each.intent for each in books.tenders]
    captured = sum(intent.captured_minor for intent in intents)
    # What was given back of an order that goes on is paid anew.
    kept = captured - sum(each.intent.refunded_minor + each.refunding_minor for each in books.tenders)
    yield "M5 no more is taken than the order costs", "", min(kept, order.total), kept
    derived = dues.state_of(order, books.balances) if books.balances else dues.payment_state(order, intents)
    yield "M5 the payment state is what the payments say", "", derived, order.payment_state
    foreign = [intent for intent in intents if intent.currency != order.currency]
    yield "M5 an order is paid in its own currency", "", 0, len(foreign)
    if order.state is OrderState.FAILED:
        yield "O2 a failed order took nothing", "", 0, captured
    waiting = sum(intent.processor is not None and intent.state in WAITING for intent in intents)
    if order.state in orders.UNPAID:
        yield "O2 an unpaid order waits for one payment", "", 1, waiting
    cash = [
        (each.intent.tendered_minor or each.intent.amount_minor) - each.intent.amount_minor
        for each in books.tenders
        if each.intent.tender == "cash" and each.created_at == order.created_at
    ]
    if cash or order.change is not None:
        yield "M5 the change is what was handed over too much", "", sum(cash), order.change or 0


def _refunds(books: OrderBooks) -> Iterator[Difference]:
    order = books.order
    own = {each.intent.id: each for each in books.tenders}
    written: Counter[UUID] = Counter()
    total = 0
    for refund in books.refunds:
        total += 0 if refund.is_refused else refund.amount_minor
        if refund.intent_id is not None:
            if not refund.is_refused and refund.state != "owed":
                written[refund.intent_id] += refund.amount_minor
            is_own = refund.intent_id in own
        else:
            is_own = order.customer_id is not None and refund.owner_id == order.customer_id
        yield "R2 money goes back to who paid", f"refund {refund.id}", 1, int(is_own)
    for intent_id, each in own.items():
        back = each.intent.refunded_minor + each.refunding_minor
        yield "R3 what goes back over a tender has its refunds", f"payment {intent_id}", written[intent_id], back
    paid = sum(each.intent.authorized_minor - each.intent.voided_minor for each in books.tenders)
    yield "M7 no more goes back than was paid, credit included", "", min(total, paid), total
    if order.state is OrderState.CANCELLED:
        kept = max(0, sum(each.intent.captured_minor for each in books.tenders) - total)
        yield "O2 a cancelled order keeps no money", "", 0, kept


def _history(books: OrderBooks) -> Iterator[Difference]:
    order, story = books.order, books.story
    yield "E1 every fact of an order is on its timeline", "", order.version, story.facts if story else 0
    if story is None:
        return
    for what, told, now in (
        ("state", story.states, order.state.value),
        ("payment_state", story.payment_states, order.payment_state),
        ("fulfillment_state", story.fulfillment_states, order.fulfillment_state),
    ):
        reached = _follow(told or "", MOVES if what == "state" else None)
        yield "O1 the timeline leads to where the order stands", what, now, reached
    yield from _walk(books, story.steps or "")


def _follow(told: str, moves: Mapping[OrderState, frozenset[OrderState]] | None) -> str:
    """Where the changes lead, or the first that does not follow."""
    stands = ""
    for change in told.split():
        before, _, after = change.partition(">")
        allowed = True
        if moves is not None:
            allowed = after in (moves[OrderState(before)] if before in moves else BEGINNINGS)
        if before != stands or not allowed:
            return f"{stands} then {change}"
        stands = after
    return stands


def _walk(books: OrderBooks, steps: str) -> Iterator[Difference]:
    """Each work went step by step to where it stands; what was called off with its order has no step of its own."""
    stands: dict[str, str] = {}
    kinds = {ids.show("ful", work.id): work.kind for work in books.work}
    for step in steps.split():
        work_id, _, to = step.partition(">")
        before = stands.setdefault(work_id, State.OPEN.value)
        if work_id in kinds and to not in WORK_MOVES[kinds[work_id]].get(State(before), ()):
            yield "O1 work goes step by step", work_id, before, f"{before} then {to}"
        stands[work_id] = to
    for work_id in stands.keys() - kinds.keys():
        yield "O1 the timeline tells of the order's own work", work_id, 0, 1
    for work in books.work:
        told = stands.get(ids.show("ful", work.id), State.OPEN.value)
        if work.state is State.CANCELLED and State.CANCELLED in WORK_MOVES[work.kind][State(told)]:
            continue
        yield "O1 the timeline leads to where the work stands", ids.show("ful", work.id), work.state.value, told


CHECKS: Final[tuple[Check, ...]] = (_amounts, _units, _holds, _stock, _states, _money, _refunds, _history)


def _carried(order: Order) -> set[UUID]:
    return {each.id for each in order.deliveries if each.method == CARRIED_OUT}


def _by_line(work: Sequence[Fulfillment], states: frozenset[State]) -> Counter[UUID]:
    units: Counter[UUID] = Counter()
    for each in work:
        if each.state in states:
            for line in each.lines:
                units[line.line_id] += line.quantity
    return units


def _by_place(work: Sequence[Fulfillment], states: frozenset[State]) -> dict[tuple[UUID, UUID], tuple[int, int]]:
    """Units, and how many of them are picked, by order line and location."""
    units: dict[tuple[UUID, UUID], tuple[int, int]] = {}
    for each in work:
        if each.state in states:
            for line in each.lines:
                key = (line.line_id, each.location_id)
                quantity, picked = units.get(key, (0, 0))
                units[key] = (quantity + line.quantity, picked + line.picked)
    return units


def _name(subject: Subject) -> str:
    match subject:
        case UUID():
            return ids.show("line", subject)
        case (what, location_id):
            name = ids.show("line", what) if isinstance(what, UUID) else what
            return f"{name} at {ids.show('loc', location_id) if location_id else 'no location'}"
        case str():
            return subject
