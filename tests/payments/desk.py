"""A cash desk with a card terminal: the shortest words for what happens to money."""

from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection

import payments
from commercehub import ids
from payments import Fact, Intent, Kind, NewIntent, OperationState, Recorded, Register, Session

BALANCES = """
SELECT account, sum(amount_minor)::bigint AS total FROM payments.entries
WHERE transaction_id = ANY ($1::uuid[]) OR reference = $2
GROUP BY account HAVING sum(amount_minor) <> 0 ORDER BY account
"""


class Desk:
    """Everything here is for one reference unless said otherwise."""

    def __init__(self, db: Connection, now: datetime) -> None:
        self.db, self.now = db, now
        self.reference = ids.new()

    def cash(self, amount_minor: int, *, settle: bool = True, **facts: Any) -> NewIntent:
        return self._new(tender="cash", amount_minor=amount_minor, settle=settle, **facts)

    def card(self, amount_minor: int, **facts: Any) -> NewIntent:
        return self._new(tender="card", amount_minor=amount_minor, processor="sandbox", payment_method="pm_1", **facts)

    def gift(self, amount_minor: int, stored_value_id: UUID) -> NewIntent:
        return self._new(tender="gift_card", amount_minor=amount_minor, stored_value_id=stored_value_id)

    def _new(self, **facts: Any) -> NewIntent:
        given: dict[str, Any] = {
            "id": ids.new(),
            "operation_id": ids.new(),
            "reference": self.reference,
            "currency": "USD",
        }
        return NewIntent(**given | facts)

    async def open(self, *intents: NewIntent) -> None:
        await payments.open_intents(self.db, intents, now=self.now)

    async def authorized(self, amount_minor: int) -> Intent:
        """A card that was authorized."""
        card = self.card(amount_minor)
        await self.open(card)
        (recorded,) = await self.hear(card.operation_id)
        return recorded.intent

    async def captured(self, amount_minor: int) -> Intent:
        """A card that was charged."""
        intent = await self.authorized(amount_minor)
        (recorded,) = await self.hear(await self.begin(intent, Kind.CAPTURE, amount_minor))
        return recorded.intent

    async def begin(self, intent: Intent, kind: Kind, amount_minor: int) -> UUID:
        operation_id = ids.new()
        await payments.begin(self.db, [(operation_id, intent.id, kind, amount_minor)], now=self.now)
        return operation_id

    async def hear(
        self, operation_id: UUID, state: OperationState = OperationState.SUCCEEDED, **facts: Any
    ) -> list[Recorded]:
        """The processor says what became of an operation."""
        return await payments.record(self.db, [Fact(operation_id=operation_id, state=state, **facts)], now=self.now)

    async def intents(self) -> list[Intent]:
        return await payments.read_intents(self.db, references=[self.reference])

    async def intent(self) -> Intent:
        (intent,) = await self.intents()
        return intent

    async def waiting(self) -> list[UUID]:
        return await payments.open_operation_ids(self.db, reference=self.reference)

    async def told(self) -> list[tuple[str, str, int]]:
        """The operations as they stand."""
        found = await payments.read_operations(self.db, reference=self.reference)
        return [(each.kind.value, each.state.value, each.amount_minor) for each in found]

    async def rows(self) -> list[str]:
        """The states that were written down of every operation, in that order."""
        statement = """
            SELECT operation.state FROM payments.operations AS operation
            JOIN payments.intents AS intent ON intent.id = operation.intent_id
            WHERE intent.reference = $1 ORDER BY operation.id
        """
        return [row["state"] for row in await self.db.fetch(statement, self.reference)]

    async def balances(self, *transaction_ids: UUID) -> dict[str, int]:
        """What the ledger has of our reference, and of these transactions, by account."""
        rows = await self.db.fetch(BALANCES, transaction_ids, self.reference)
        return {row["account"]: row["total"] for row in rows}

    async def register(self) -> Register:
        register = Register(id=ids.new(), location_id=ids.new(), name="Till 1")
        await payments.create_register(self.db, register, now=self.now)
        return register

    async def open_drawer(self, register: Register, opening_float_minor: int = 0, currency: str = "USD") -> Session:
        return await payments.open_session(
            self.db,
            session_id=ids.new(),
            register_id=register.id,
            opening_float_minor=opening_float_minor,
            currency=currency,
            actor="ada",
            now=self.now,
        )

    async def close_drawer(self, register: Register, counted_minor: int, closing_id: UUID | None = None) -> Session:
        return await payments.close_session(
            self.db,
            register_id=register.id,
            closing_id=closing_id or ids.new(),
            counted_minor=counted_minor,
            actor="bob",
            now=self.now,
        )
