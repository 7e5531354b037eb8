"""Each way in which the books of a shop can be wrong, done to them by SQL, and what ``verify`` has to call it.

The statements run with triggers and foreign keys off; where a CHECK or a unique index stands before a balance, it goes
first. They find their victims in what ``shop_life`` leaves.
"""

from typing import NamedTuple


class Corruption(NamedTuple):
    """What is done, and every invariant that is named then."""

    statements: tuple[str, ...]
    named: frozenset[str]


def _order(state: str) -> str:
    return f"(SELECT id FROM commercehub.orders WHERE state = '{state}' ORDER BY id LIMIT 1)"


def _line(state: str) -> str:
    return f"""(SELECT line.id FROM commercehub.order_lines AS line JOIN commercehub.orders AS placed
                ON placed.id = line.order_id WHERE placed.state = '{state}' ORDER BY line.id LIMIT 1)"""


def _work(state: str) -> str:
    return f"(SELECT id FROM fulfillment.fulfillments WHERE state = '{state}' ORDER BY id LIMIT 1)"


def _first(table: str, condition: str = "true") -> str:
    return f"(SELECT id FROM {table} WHERE {condition} ORDER BY id LIMIT 1)"


def _without(table: str, constraint: str) -> str:
    return f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"


NOBODY = "'00000000-0000-7000-8000-000000000001'"
CHAIN = "S1 each balance follows from the one before"
BUCKET = "S1 each bucket holds the sum of its movements"
RESERVED = "S2 reserved is the sum of the open reservations"
HELD = "O2 what is held is what work waits for"
LEFT = "S3 the stock that left is what the order's units say"
CAME = "R1 what came back lies where it was received"
HELD_THERE = "M3 the ledger has at each processor what its payments took"
POSTED = "M4 the ledger has what the intents captured less what they refunded"
WRITTEN = "R3 what goes back over a tender has its refunds"
SETTLED = "R3 a return gave back what its refunds say"
STORED = "M8 a stored value's balance is its account, and what is held was promised"
DRAWER = "M9 a drawer holds its float and its cash until it closes, then nothing"
AMOUNTS = "M6 an order's amounts are those of its parts"
CALLED_OFF = "O3 what nobody works for is called off"
GOT = "O3 how far the goods have got is what the units say"
WORTH = "M7 what came back of a line is worth its share"
STANDS = "O1 the timeline leads to where the order stands"
CHECKED_OUT = "O2 a cart is checked out while its order lives"
LAST = "E1 an order's last event is of its version"
TIMELINE = "E1 every fact of an order is on its timeline"
KEYLESS = "I1 what is under way has its key"

OPEN_HOLD = "(SELECT min(id) FROM inventory.reservations WHERE state = 'open' AND picked = 0)"
OF_UNPAID = f"state = 'open' AND reference = {_order('awaiting_payment')}"


def _release(condition: str) -> tuple[str, str]:
    """Let go of a hold in the room's own books, so that only others miss it."""
    return (
        f"""UPDATE inventory.positions AS position SET reserved = reserved - hold.quantity
            FROM inventory.reservations AS hold
            WHERE hold.sku = position.sku AND hold.location_id = position.location_id AND {condition}""",
        f"""UPDATE inventory.reservations AS hold SET state = 'voided', ended_at = now() WHERE {condition}""",
    )


_STOCK: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "a unit on hand too many": (
        (
            """UPDATE inventory.positions SET on_hand = on_hand + 1 WHERE (sku, location_id) = (
                   SELECT sku, location_id FROM inventory.positions ORDER BY sku, location_id LIMIT 1)""",
        ),
        {BUCKET},
    ),
    "a balance that does not follow": (
        (
            """UPDATE inventory.movements SET balance = balance + 1
               WHERE id = (SELECT max(id) FROM inventory.movements)""",
        ),
        {CHAIN},
    ),
    "a unit reserved too few": (
        (
            """UPDATE inventory.positions SET reserved = reserved - 1 WHERE (sku, location_id) = (
                   SELECT sku, location_id FROM inventory.positions WHERE reserved > 0
                   ORDER BY sku, location_id LIMIT 1)""",
        ),
        {RESERVED},
    ),
    "more promised than there is": (
        (
            _without("inventory.positions", "ck_positions_never_oversold"),
            """UPDATE inventory.movements SET delta = delta - 1000, balance = balance - 1000 WHERE id = (
                   SELECT min(id) FROM inventory.movements WHERE (sku, location_id) IN (
                       SELECT sku, location_id FROM inventory.movements GROUP BY 1, 2 HAVING count(*) = 1))""",
            """UPDATE inventory.positions AS position SET on_hand = move.balance FROM inventory.movements AS move
               WHERE move.balance < 0 AND move.sku = position.sku AND move.location_id = position.location_id""",
        ),
        {"S2 no more is promised than there is"},
    ),
    "what was picked is not noted": (
        (
            """UPDATE inventory.reservations SET picked = 0
               WHERE id = (SELECT min(id) FROM inventory.reservations WHERE state = 'open' AND picked > 0)""",
        ),
        {"S2 what was picked is noted on its hold"},
    ),
    "a hold for nobody": (
        (
            f"""INSERT INTO inventory.reservations
                    (reference, line_id, sku, location_id, quantity, state, created_at)
                SELECT {NOBODY}, {NOBODY}, sku, location_id, 1, 'open', now() FROM inventory.positions
                WHERE on_hand - reserved > 1 ORDER BY sku, location_id LIMIT 1""",
            f"""UPDATE inventory.positions AS position SET reserved = reserved + 1
                FROM inventory.reservations AS hold WHERE hold.reference = {NOBODY}
                AND position.sku = hold.sku AND position.location_id = hold.location_id""",
        ),
        {"S2 what the clock does not end is held for an order"},
    ),
    "work without its hold": (_release(f"hold.id = {OPEN_HOLD}"), {HELD}),
    "an unpaid order without its hold": (
        _release(f"hold.state = 'open' AND hold.reference = {_order('awaiting_payment')}"),
        {"O2 what waits for its payment is held"},
    ),
    "a hold that was taken for more than left": (
        (
            """UPDATE inventory.reservations SET quantity = quantity + 1
               WHERE id = (SELECT min(id) FROM inventory.reservations WHERE state = 'posted')""",
        ),
        {"S3 what a hold was taken for has left"},
    ),
    "a sale of no order": (
        (
            """UPDATE inventory.movements SET reference = 'ord_00000000000000000000000001'
               WHERE id = (SELECT min(id) FROM inventory.movements WHERE kind = 'sale')""",
        ),
        {LEFT, "S3 what was sold was sold with an order"},
    ),
    "goods that came back elsewhere": (
        (f"UPDATE commercehub.returns SET location_id = {NOBODY} WHERE id = {_first('commercehub.returns')}",),
        {CAME},
    ),
    "goods that came back for nothing": (
        (
            """UPDATE inventory.movements SET reference = 'ret_00000000000000000000000001'
               WHERE id = (SELECT min(id) FROM inventory.movements WHERE kind = 'return')""",
        ),
        {CAME, "R3 what comes back has its return"},
    ),
}

_MONEY: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "an entry of another size": (
        (
            """UPDATE payments.entries SET amount_minor = amount_minor + 1
               WHERE id = (SELECT min(id) FROM payments.entries WHERE account = 'safe')""",
        ),
        {"M1 every ledger transaction adds up to nothing"},
    ),
    "a card's money in the safe": (
        (
            """UPDATE payments.entries SET account = 'safe'
               WHERE id = (SELECT min(id) FROM payments.entries WHERE account = 'processor:sandbox')""",
        ),
        {HELD_THERE},
    ),
    "a processor's payment of two intents": (
        (
            """UPDATE payments.intents SET processor_reference = 'one' WHERE id IN (
                   SELECT id FROM payments.intents WHERE processor_reference IS NOT NULL ORDER BY id LIMIT 2)""",
        ),
        {"M3 a processor's payment belongs to one intent"},
    ),
    "a payment of no order": (
        (
            f"""UPDATE payments.intents SET reference = {NOBODY}
                WHERE id = {_first("payments.intents", "state = 'declined'")}""",
        ),
        {"M3 every payment is for an order"},
    ),
    "an intent's sum": (
        (
            f"""UPDATE payments.intents SET voided_minor = voided_minor - 1
                WHERE id = {_first("payments.intents", "voided_minor > 0")}""",
        ),
        {"M4 an intent's sums are those of its operations"},
    ),
    "more refunded than was captured": (
        (
            _without("payments.intents", "ck_intents_refunded_within_captured"),
            f"""UPDATE payments.intents SET refunded_minor = captured_minor + 1
                WHERE id = {_first("payments.intents", "tender = 'cash'")}""",
        ),
        {
            *("M4 an intent's sums are within bounds", "M4 an intent's sums are those of its operations"),
            *(POSTED, WRITTEN),
        },
    ),
    "a capture without its entries": (
        (
            """DELETE FROM payments.entries WHERE transaction_id = (
                   SELECT operation_id FROM payments.operations WHERE kind = 'capture' AND state = 'succeeded'
                   ORDER BY id LIMIT 1)""",
        ),
        {POSTED, DRAWER},
    ),
    "an operation that nobody asks after": (
        ("DELETE FROM payments.open_operations",),
        {"M4 what was begun and has not ended is on the open list"},
    ),
    "more owed than there is to capture": (
        (
            f"""INSERT INTO payments.refunds
                    (id, reference, intent_id, amount_minor, waits, reason, actor, created_at)
                SELECT {NOBODY}, reference, id, 1000000, true, '', '', now() FROM payments.intents
                WHERE state = 'authorized' ORDER BY id LIMIT 1""",
        ),
        {"M4 no more goes back than came", "M7 no more goes back than was paid, credit included"},
    ),
    "a refund that was begun and waits": (
        (f"UPDATE payments.refunds SET waits = true WHERE id = {_first('payments.refunds', 'intent_id IS NOT NULL')}",),
        {"M4 a refund that does not wait was begun", WRITTEN},
    ),
    "a gift card's balance": (
        (
            f"""UPDATE payments.stored_values SET balance_minor = balance_minor + 1
                WHERE id = {_first("payments.stored_values", "kind = 'gift_card'")}""",
        ),
        {STORED},
    ),
    "a promise that nobody made": (
        (
            f"""UPDATE payments.stored_values SET held_minor = 1
                WHERE id = {_first("payments.stored_values", "balance_minor > 0")}""",
        ),
        {STORED},
    ),
    "more promised than the card has": (
        (
            _without("payments.stored_values", "ck_stored_values_never_overspent"),
            f"""UPDATE payments.stored_values SET held_minor = balance_minor + 1
                WHERE id = {_first("payments.stored_values")}""",
        ),
        {STORED, "M8 a stored value is never overspent"},
    ),
    "cash out of its drawer": (
        (
            """UPDATE payments.entries SET account = 'elsewhere' WHERE id = (
                   SELECT min(id) FROM payments.entries WHERE account LIKE 'drawer:%' AND reference IS NOT NULL)""",
        ),
        {DRAWER},
    ),
    "a count that expected something else": (
        ("UPDATE payments.register_sessions SET expected_minor = expected_minor + 1 WHERE closed_at IS NOT NULL",),
        {"M9 a closed drawer held what its count expected"},
    ),
    "a processor's event twice": (
        (
            "DROP INDEX payments.uq_inbox_processor_event_id",
            """INSERT INTO payments.inbox
                   (processor, event_id, type, processor_reference, reference, received_at, next_try_at, applied_at)
               SELECT 'sandbox', 'evt_1', '', '', '', now(), now(), now() FROM generate_series(1, 2)""",
        ),
        {"E4 a processor's event is kept once"},
    ),
    "credit of somebody else": (
        (f"UPDATE payments.stored_values SET owner_id = {NOBODY} WHERE kind = 'store_credit'",),
        {"R2 money goes back to who paid"},
    ),
    "a refund over another order's tender": (
        (
            f"""UPDATE payments.refunds SET reference = {_order("placed")}
                WHERE id = {_first("payments.refunds", "cause IS NULL")}""",
        ),
        {"R2 money goes back to who paid", WRITTEN, "O2 a cancelled order keeps no money"},
    ),
    "a refund of no order": (
        (
            f"""INSERT INTO payments.refunds
                    (id, reference, stored_value_id, amount_minor, waits, reason, actor, created_at)
                SELECT {NOBODY}, {NOBODY}, id, 1, false, '', '', now() FROM payments.stored_values
                WHERE kind = 'store_credit'""",
        ),
        {"R2 every refund is of an order"},
    ),
    "a refund that nobody wrote down": (
        (
            f"""DELETE FROM payments.refunds
                WHERE id = {_first("payments.refunds", "cause IS NOT NULL AND intent_id IS NOT NULL")}""",
        ),
        {SETTLED, WRITTEN},
    ),
    "more credit than was paid": (
        ("UPDATE payments.refunds SET amount_minor = 1000000 WHERE stored_value_id IS NOT NULL",),
        {SETTLED, "M7 no more goes back than was paid, credit included"},
    ),
    "more taken than it costs": (
        (
            f"""UPDATE payments.intents
                SET amount_minor = 9999999, tendered_minor = 10000918, authorized_minor = 9999999,
                    captured_minor = 9999999
                WHERE id = {_first("payments.intents", "tender = 'cash' AND refunded_minor > 0")}""",
            """UPDATE payments.operations SET amount_minor = 9999999 WHERE kind = 'capture' AND intent_id IN (
                   SELECT id FROM payments.intents WHERE amount_minor = 9999999)""",
        ),
        {POSTED, "M5 no more is taken than the order costs"},
    ),
    "an unpaid order that waits for nothing": (
        (
            "UPDATE payments.intents SET state = 'failed' WHERE state = 'pending'",
            """UPDATE payments.operations SET state = 'failed'
               WHERE operation_id IN (SELECT operation_id FROM payments.open_operations)""",
            "DELETE FROM payments.open_operations",
        ),
        {"O2 an unpaid order waits for one payment", "M5 the payment state is what the payments say"},
    ),
    "money taken for a failed order": (
        (
            """UPDATE payments.intents SET reference = (
                   SELECT id FROM commercehub.orders WHERE state = 'failed')
               WHERE id = (SELECT id FROM payments.intents WHERE processor IS NOT NULL AND state = 'captured'
                           AND refunded_minor = 0 ORDER BY id LIMIT 1)""",
        ),
        {
            *("O2 a failed order took nothing", "M5 no more is taken than the order costs", POSTED),
            *("M5 the payment state is what the payments say", HELD_THERE),
        },
    ),
}

_GOODS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "work about nothing": (
        (f"DELETE FROM fulfillment.lines WHERE fulfillment_id = {_work('open')}",),
        {"S3 work is about some goods", CALLED_OFF, HELD},
    ),
    "delivered and never picked": (
        (f"UPDATE fulfillment.lines SET picked = 0 WHERE fulfillment_id = {_work('delivered')}",),
        {"S3 what was picked is all that was asked for, or nothing yet"},
    ),
    "shipped without a parcel": (
        (f"DELETE FROM fulfillment.parcels WHERE fulfillment_id = {_work('shipped')}",),
        {"S3 what was packed is in a parcel"},
    ),
    "ready without a code": (
        (
            _without("fulfillment.fulfillments", "ck_fulfillments_ready_has_a_code"),
            f"""UPDATE fulfillment.fulfillments SET code_hash = NULL, collect_by = NULL WHERE id = {_work("ready")}""",
        ),
        {"O5 what waits for a customer, or was handed over, has a code"},
    ),
    "work that nobody began": (
        (f"UPDATE fulfillment.fulfillments SET state = 'picking' WHERE id = {_work('open')}",),
        {"O2 an order stands where its work does", "O1 the timeline leads to where the work stands"},
    ),
    "handed over, and nobody was there": (
        (f"UPDATE fulfillment.fulfillments SET state = 'handed_over' WHERE id = {_work('ready')}",),
        {
            *("O1 the timeline leads to where the work stands", "O3 what is fulfilled has left"),
            *(HELD, LEFT, "S2 what was picked is noted on its hold", "S3 what a hold was taken for has left"),
        },
    ),
    "work for nobody": (
        (f"UPDATE fulfillment.fulfillments SET reference = {NOBODY} WHERE id = {_work('cancelled')}",),
        {"O2 all work is for an order", "O1 the timeline tells of the order's own work"},
    ),
    "work about another order's line": (
        (f"UPDATE fulfillment.lines SET line_id = {NOBODY} WHERE fulfillment_id = {_work('open')}",),
        {"O2 work is about the order's lines", CALLED_OFF, HELD},
    ),
    "work for what is not paid": (
        (
            f"""UPDATE fulfillment.fulfillments SET reference = {_order("awaiting_payment")}
                WHERE id = {_work("cancelled")}""",
        ),
        {"O2 nobody works for what is not placed", "O1 the timeline tells of the order's own work"},
    ),
}

_SALES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "two orders of one cart": (
        (
            "DROP INDEX commercehub.uq_orders_live_cart",
            f"""UPDATE commercehub.orders SET cart_id = (
                    SELECT cart_id FROM commercehub.orders WHERE id = {_order("placed")})
                WHERE id = {_order("completed")}""",
        ),
        {"O2 a cart makes one order that lives", CHECKED_OUT},
    ),
    "a cart that can be bought again": (
        (
            f"""UPDATE commercehub.carts SET state = 'open' WHERE id = (
                    SELECT cart_id FROM commercehub.orders WHERE id = {_order("placed")})""",
        ),
        {CHECKED_OUT},
    ),
    "two open carts of a customer": (
        (
            "DROP INDEX commercehub.uq_carts_open_customer",
            f"""INSERT INTO commercehub.carts (id, sales_channel_id, channel, customer_id, currency, tax_included,
                                               state, created_at, changed_at)
                SELECT gen_random_uuid(), sales_channel_id, channel, {NOBODY}, currency, tax_included, 'open', now(),
                       now()
                FROM commercehub.carts, generate_series(1, 2) WHERE carts.id = {_first("commercehub.carts")}""",
        ),
        {"W1 a customer has one open cart"},
    ),
    "a number of two orders": (
        (
            "DROP INDEX commercehub.uq_orders_number",
            f"UPDATE commercehub.orders SET number = '1' WHERE id IN ({_order('placed')}, {_order('completed')})",
        ),
        {"O4 a number belongs to one order"},
    ),
    "a line that costs less": (
        (
            _without("commercehub.order_lines", "ck_order_lines_total"),
            f"""UPDATE commercehub.order_lines SET unit_price_minor = unit_price_minor + 1
                WHERE id = {_line("placed")}""",
        ),
        {"M6 a line costs its price times its units less its discount"},
    ),
    "a line that is taxed less": (
        (f"UPDATE commercehub.order_lines SET tax_rate_ppm = 900000 WHERE id = {_line('placed')}",),
        {"M6 a line is taxed at its rate"},
    ),
    "an order that costs more": (
        (
            _without("commercehub.orders", "ck_orders_total"),
            f"UPDATE commercehub.orders SET total_minor = total_minor + 1 WHERE id = {_order('placed')}",
        ),
        {AMOUNTS},
    ),
    "a promotion that took off more": (
        (
            f"""UPDATE commercehub.order_promotions SET discount_minor = discount_minor + 1
                WHERE order_id = {_order("placed")}""",
        ),
        {AMOUNTS},
    ),
    "a delivery that costs more": (
        (
            f"""UPDATE commercehub.order_deliveries SET price_minor = price_minor + 1
                WHERE order_id = {_order("awaiting_payment")}""",
        ),
        {AMOUNTS},
    ),
    "fulfilled, and it never left": (
        (f"UPDATE commercehub.order_lines SET fulfilled = 1 WHERE id = {_line('placed')}",),
        {"O3 what is fulfilled has left", GOT},
    ),
    "called off, and somebody works for it": (
        (f"UPDATE commercehub.order_lines SET cancelled = 1 WHERE id = {_line('placed')}",),
        {CALLED_OFF},
    ),
    "returned, and it never came": (
        (
            f"""UPDATE commercehub.order_lines SET returned = returned + 1
                WHERE id = {_first("commercehub.order_lines", "returned > 0")}""",
        ),
        {"R1 what a line counts as returned has come back", WORTH},
    ),
    "asked back for, and it was never sent": (
        (
            f"""INSERT INTO commercehub.returns (id, order_id, state, method, resolution, requested_by, channel,
                                                 created_at, changed_at)
                SELECT {NOBODY}, order_id, 'requested', 'mail', 'refund', '', 'web', now(), now()
                FROM commercehub.order_lines WHERE id = {_line("placed")}""",
            f"""INSERT INTO commercehub.return_lines (return_id, line_id, position, sku, quantity, reason)
                SELECT {NOBODY}, id, 1, sku, 1, 'late' FROM commercehub.order_lines WHERE id = {_line("placed")}""",
        ),
        {"R1 no more comes back than was fulfilled"},
    ),
    "a return of another order": (
        (
            f"""UPDATE commercehub.returns SET order_id = {_order("placed")}
                WHERE id = {_first("commercehub.returns")}""",
        ),
        {"R1 a return is of its own order's lines", "R2 a return's money goes back to its own order"},
    ),
    "goods that came back for more": (
        (
            f"""UPDATE commercehub.return_lines SET amount_minor = amount_minor + 1
                WHERE return_id = {_first("commercehub.returns")}""",
        ),
        {WORTH},
    ),
    "a return that gave back more": (
        (f"UPDATE commercehub.returns SET amount_minor = amount_minor + 1 WHERE id = {_first('commercehub.returns')}",),
        {"M7 no more is given back for a return than it is worth", SETTLED},
    ),
    "an order's state": (
        (f"UPDATE commercehub.orders SET state = 'in_fulfillment' WHERE id = {_order('completed')}",),
        {"O2 an order stands where its work does", STANDS},
    ),
    "an order's payment state": (
        (f"UPDATE commercehub.orders SET payment_state = 'paid' WHERE id = {_order('placed')}",),
        {"M5 the payment state is what the payments say", STANDS},
    ),
    "an order's fulfillment state": (
        (f"UPDATE commercehub.orders SET fulfillment_state = 'partial' WHERE id = {_order('placed')}",),
        {GOT, STANDS},
    ),
    "change that was not given": (
        ("UPDATE commercehub.orders SET change_minor = change_minor + 1 WHERE change_minor > 0",),
        {"M5 the change is what was handed over too much"},
    ),
    "an order in another currency": (
        (f"UPDATE commercehub.orders SET currency = 'EUR' WHERE id = {_order('placed')}",),
        {"M5 an order is paid in its own currency"},
    ),
}

_HISTORY: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "a step backwards": (
        (
            """UPDATE commercehub.timeline
               SET changes = jsonb_set(changes, '{state}', '{"from": "placed", "to": "awaiting_payment"}')
               WHERE id = (SELECT max(id) FROM commercehub.timeline WHERE type = 'fulfillment.picking')""",
        ),
        {STANDS},
    ),
    "a step that was skipped": (
        (
            """UPDATE commercehub.timeline SET type = 'fulfillment.packed'
               WHERE id = (SELECT max(id) FROM commercehub.timeline WHERE type = 'fulfillment.picked')""",
        ),
        {"O1 work goes step by step"},
    ),
    "a fact without its line": (
        (
            """DELETE FROM commercehub.timeline
               WHERE id = (SELECT max(id) FROM commercehub.timeline WHERE type = 'return.closed')""",
        ),
        {TIMELINE},
    ),
    "a line of no order": (
        (
            f"""UPDATE commercehub.timeline SET order_id = {NOBODY}
                WHERE id = (SELECT max(id) FROM commercehub.timeline WHERE type = 'return.closed')""",
        ),
        {TIMELINE, "E1 every timeline is an order's"},
    ),
    "an event that is gone": (
        (
            """DELETE FROM commercehub.events
               WHERE id = (SELECT max(id) FROM commercehub.events WHERE type = 'fulfillment.picked')""",
        ),
        {"E1 an order's events have no gap"},
    ),
    "an order's last event": (
        (
            """DELETE FROM commercehub.events
               WHERE id = (SELECT max(id) FROM commercehub.events WHERE type = 'return.closed')""",
        ),
        {LAST},
    ),
    "an order's events": ((f"DELETE FROM commercehub.events WHERE order_id = {_order('placed')}",), {LAST}),
    "a change that was not told": (
        (f"UPDATE commercehub.orders SET version = version + 1 WHERE id = {_order('placed')}",),
        {LAST, TIMELINE},
    ),
    "a key that was forgotten": (("DELETE FROM commercehub.idempotency_keys WHERE status IS NULL",), {KEYLESS}),
    "a key that was not answered": (
        (f"UPDATE commercehub.idempotency_keys SET subject_id = {_order('placed')} WHERE status IS NULL",),
        {KEYLESS, "I1 a key under way is of something under way"},
    ),
    "an answer that does not hold": (
        (f"UPDATE commercehub.idempotency_keys SET status = 402 WHERE subject_id = {_order('placed')}",),
        {"I2 an answer that was given still holds"},
    ),
    "a message that was sent twice": (
        (
            "DROP INDEX commercehub.uq_messages_order_id_kind_subject_id",
            """INSERT INTO commercehub.messages (kind, order_id, subject_id, locale, sent_at)
               SELECT kind, order_id, subject_id, locale, sent_at FROM commercehub.messages ORDER BY id LIMIT 1""",
        ),
        {"E2 a customer is told once about each thing"},
    ),
    "a message about nothing": (
        (
            f"""UPDATE commercehub.messages SET order_id = {NOBODY}
                WHERE id = (SELECT min(id) FROM commercehub.messages)""",
        ),
        {"E2 a message is about an order"},
    ),
}

CORRUPTIONS = {
    name: Corruption(statements, frozenset(named))
    for room in (_STOCK, _MONEY, _GOODS, _SALES, _HISTORY)
    for name, (statements, named) in room.items()
}
