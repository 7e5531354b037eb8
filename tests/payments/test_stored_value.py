"""Gift cards and credit: promised, spent, let go of, and never more than they hold."""

import pytest

import payments
from commercehub import ids
from payments import Spending, StoredValue, ledger, stored_value
from tests.payments.desk import Desk


@pytest.fixture
async def card(desk: Desk) -> StoredValue:
    """A gift card of 1000."""
    card_id = ids.new()
    return await payments.issue_gift_card(
        desk.db,
        card_id=card_id,
        code_hash=card_id.bytes,
        currency="USD",
        balance_minor=1000,
        expires_at=None,
        actor="ada",
        now=desk.now,
    )


async def _now(desk: Desk, card: StoredValue) -> tuple[int, int]:
    found = await payments.find_gift_card(desk.db, code_hash=card.id.bytes)
    return found.balance_minor, found.held_minor


def _of(card: StoredValue, amount: int, *, settle: bool = False) -> Spending:
    return Spending(stored_value_id=card.id, amount_minor=amount, settle=settle)


async def test_what_is_promised_is_available_to_nobody_else(desk: Desk, card: StoredValue) -> None:
    await payments.claim_stored_value(desk.db, [_of(card, 700)], now=desk.now)
    with pytest.raises(payments.StoredValueSpent):
        await payments.claim_stored_value(desk.db, [_of(card, 301)], now=desk.now)
    await payments.claim_stored_value(desk.db, [_of(card, 300)], now=desk.now)
    assert await _now(desk, card) == (1000, 1000)


async def test_one_card_given_twice_counts_twice(desk: Desk, card: StoredValue) -> None:
    with pytest.raises(payments.StoredValueSpent):
        await payments.claim_stored_value(desk.db, [_of(card, 600), _of(card, 401, settle=True)], now=desk.now)
    await payments.claim_stored_value(desk.db, [_of(card, 600), _of(card, 400, settle=True)], now=desk.now)
    assert await _now(desk, card) == (600, 600)


async def test_an_expired_card_cannot_be_claimed(desk: Desk) -> None:
    card_id = ids.new()
    old = await payments.issue_gift_card(
        desk.db,
        card_id=card_id,
        code_hash=card_id.bytes,
        currency="USD",
        balance_minor=5,
        expires_at=desk.now,
        actor="ada",
        now=desk.now,
    )
    assert (old.is_expired, old.available_minor) == (True, 0)
    with pytest.raises(payments.StoredValueSpent):
        await payments.claim_stored_value(desk.db, [_of(old, 1)], now=desk.now)


async def test_a_promise_is_spent_with_its_intent_and_the_books_agree(desk: Desk, card: StoredValue) -> None:
    gift = desk.gift(400, card.id)
    await payments.claim_stored_value(desk.db, [_of(card, 400)], now=desk.now)
    await desk.open(gift)
    assert await payments.verify(desk.db) == []
    await payments.settle_local(desk.db, [(await desk.intent(), gift.operation_id)], now=desk.now)
    assert await _now(desk, card) == (600, 0)
    assert await desk.balances(card.id) == {
        ledger.stored_value("gift_card", card.id): -600,
        ledger.ISSUED: 1000,
        ledger.ORDERS: -400,
    }
    assert await payments.verify(desk.db) == []


async def test_a_promise_is_let_go_of_with_its_intent(desk: Desk, card: StoredValue) -> None:
    await payments.claim_stored_value(desk.db, [_of(card, 400)], now=desk.now)
    await desk.open(desk.gift(400, card.id))
    await payments.drop_local(desk.db, reference=desk.reference)
    assert await _now(desk, card) == (1000, 0)
    assert await payments.verify(desk.db) == []


async def test_credit_is_opened_once_for_a_customer_and_a_currency(desk: Desk) -> None:
    owner = ids.new()
    opened = [
        await payments.open_store_credit(
            desk.db, new_id=ids.new(), owner_id=owner, currency=currency, actor="ada", now=desk.now
        )
        for currency in ("USD", "USD", "EUR")
    ]
    assert opened[0] == opened[1] != opened[2]
    assert opened[0].balance_minor == 0


@pytest.mark.parametrize(("column", "named"), [("balance_minor", "balance"), ("held_minor", "held")])
async def test_a_balance_that_was_tampered_with_is_named(
    desk: Desk, card: StoredValue, column: str, named: str
) -> None:
    await desk.db.execute("SET LOCAL session_replication_role = replica")
    await desk.db.execute(f"UPDATE payments.stored_values SET {column} = {column} + 1 WHERE id = $1", card.id)
    (found,) = await payments.verify(desk.db)
    assert found.subject == f"gift_card {card.id} {named}"
    assert found.found - found.expected == 1


async def test_a_balance_rises_where_money_comes_back(desk: Desk, card: StoredValue) -> None:
    await stored_value.add_to(desk.db, [_of(card, 30), _of(card, 12)])
    assert await _now(desk, card) == (1042, 0)
