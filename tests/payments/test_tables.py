"""What the tables themselves refuse, whatever the code may do."""

import asyncpg
import pytest
from sqlalchemy import CheckConstraint

from commercehub import ids
from payments import Kind
from payments.tables import metadata
from tests.payments.desk import Desk

INTENT = "UPDATE payments.intents SET {} WHERE reference = $1"
SESSION = """
UPDATE payments.register_sessions SET {} WHERE id IN (SELECT session_id FROM payments.intents WHERE reference = $1)
"""
OPERATION = """
INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
SELECT gen_random_uuid(), id, {}, now() FROM payments.intents WHERE reference = $1
"""
ENTRY = """
INSERT INTO payments.entries (transaction_id, account, amount_minor, currency, at)
SELECT id, 'safe', {}, 'USD', now() FROM payments.intents WHERE reference = $1
"""

STORED = """
INSERT INTO payments.stored_values
    (id, currency, issued_by, created_at, kind, code_hash, owner_id, balance_minor, held_minor)
SELECT id, 'USD', 'ada', now(), {} FROM payments.intents WHERE reference = $1
"""
REFUND = """
INSERT INTO payments.refunds (id, reference, reason, actor, created_at, intent_id, amount_minor, waits)
SELECT id, reference, '', 'ada', now(), {} FROM payments.intents WHERE reference = $1
"""

# 1000 to be paid by card in an open drawer's session, 600 captured and 400 let go, 100 of it refunded.
VIOLATIONS = [
    ("ck_intents_amount", INTENT.format("amount_minor = -1, authorized_minor = -1")),
    ("ck_intents_state", INTENT.format("state = 'lost'")),
    ("ck_intents_captured_within_authorized", INTENT.format("captured_minor = 601")),
    ("ck_intents_captured_within_authorized", INTENT.format("voided_minor = 401")),
    ("ck_intents_captured_within_authorized", INTENT.format("voided_minor = -1")),
    ("ck_intents_authorized_within_amount", INTENT.format("authorized_minor = 1001")),
    ("ck_intents_refunded_within_captured", INTENT.format("refunded_minor = 601")),
    ("ck_intents_refunded_within_captured", INTENT.format("refunded_minor = -1")),
    ("ck_intents_local_needs_no_processor", INTENT.format("processor = NULL")),
    ("ck_intents_local_needs_no_processor", INTENT.format("tender = 'cash'")),
    ("ck_intents_stored_value_is_named", INTENT.format("tender = 'gift_card', processor = NULL")),
    ("ck_operations_kind", OPERATION.format("'steal', 'succeeded', 1")),
    ("ck_operations_state", OPERATION.format("'capture', 'lost', 1")),
    ("ck_operations_amount", OPERATION.format("'capture', 'succeeded', -1")),
    ("ck_entries_amount", ENTRY.format("0")),
    ("ck_register_sessions_amounts", SESSION.format("opening_float_minor = -1")),
    ("ck_register_sessions_amounts", SESSION.format("counted_minor = -1, closed_at = now()")),
    ("ck_register_sessions_closed_by_a_count", SESSION.format("closed_at = now()")),
    ("ck_register_sessions_closed_by_a_count", SESSION.format("counted_minor = 1")),
    ("ck_stored_values_kind", STORED.format("'points', NULL, NULL, 1, 0")),
    ("ck_stored_values_a_gift_card_has_a_code", STORED.format("'gift_card', NULL, NULL, 1, 0")),
    ("ck_stored_values_credit_belongs_to_somebody", STORED.format("'store_credit', NULL, NULL, 1, 0")),
    ("ck_stored_values_never_overspent", STORED.format("'gift_card', 'x', NULL, 1, 2")),
    ("ck_stored_values_never_overspent", STORED.format("'gift_card', 'x', NULL, -1, -1")),
    ("ck_refunds_amount", REFUND.format("id, 0, false")),
    ("ck_refunds_over_one_thing", REFUND.format("NULL, 1, false")),
]

# Names of unique indexes, and what comes a second time.
TWICE = [
    ("uq_entries_transaction_id_account", ENTRY.format("1")),
    (
        "uq_operations_final",
        """
        INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
        SELECT operation_id, intent_id, kind, 'failed', amount_minor, at FROM payments.operations
        WHERE state = 'succeeded' AND intent_id IN (SELECT id FROM payments.intents WHERE reference = $1)
        """,
    ),
    (
        "uq_operations_begun",
        """
        INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
        SELECT operation_id, intent_id, kind, state, amount_minor, at FROM payments.operations
        WHERE state = 'pending' AND intent_id IN (SELECT id FROM payments.intents WHERE reference = $1)
        """,
    ),
]


@pytest.fixture
async def paid(desk: Desk) -> Desk:
    session = await desk.open_drawer(await desk.register(), 500)
    card = desk.card(1000, session_id=session.id)
    await desk.open(card)
    (recorded,) = await desk.hear(card.operation_id)
    for kind, amount in ((Kind.CAPTURE, 600), (Kind.VOID, 400), (Kind.REFUND, 100)):
        await desk.hear(await desk.begin(recorded.intent, kind, amount))
    return desk


@pytest.mark.parametrize(("name", "statement"), VIOLATIONS)
async def test_the_tables_refuse_it_by_name(paid: Desk, name: str, statement: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await paid.db.execute(statement, paid.reference)
    assert refused.value.constraint_name == name


def test_every_check_of_the_room_is_tried() -> None:
    checks = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert {name for name, _ in VIOLATIONS} == checks


@pytest.mark.parametrize(("name", "statement"), TWICE)
async def test_the_tables_refuse_it_the_second_time(paid: Desk, name: str, statement: str) -> None:
    async def twice() -> None:
        for _ in range(2):
            await paid.db.execute(statement, paid.reference)

    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await twice()
    assert refused.value.constraint_name == name


async def test_an_operation_belongs_to_an_intent(desk: Desk) -> None:
    statement = """
        INSERT INTO payments.operations (operation_id, intent_id, kind, state, amount_minor, at)
        VALUES ($1, $1, 'capture', 'succeeded', 1, now())
    """
    with pytest.raises(asyncpg.ForeignKeyViolationError) as refused:
        await desk.db.execute(statement, ids.new())
    assert refused.value.constraint_name == "fk_operations_intent_id"
