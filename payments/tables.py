"""Tables of the room `payments`: intents, what was tried for them, the double-entry ledger, and drawers."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)

metadata: Final = MetaData(
    schema="payments",
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)

# One row per tender of a sale. The sums are a cache of `operations`, kept in the same statement.
intents: Final = Table(
    "intents",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("reference", Uuid, nullable=False),
    # Where the tender stood among those given with it.
    Column("position", BigInteger, nullable=False),
    Column("tender", Text, nullable=False),
    Column("processor", Text),
    Column("processor_reference", Text),
    Column("session_id", Uuid),
    Column("stored_value_id", Uuid),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("tendered_minor", BigInteger),
    Column("state", Text, nullable=False),
    Column("authorized_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("captured_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("voided_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("refunded_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("amount_minor >= 0", name="amount"),
    CheckConstraint(
        "state IN ('pending', 'unknown', 'authorized', 'captured', 'voided', 'declined', 'failed')", name="state"
    ),
    CheckConstraint(
        "voided_minor >= 0 AND captured_minor + voided_minor <= authorized_minor", name="captured_within_authorized"
    ),
    CheckConstraint("authorized_minor <= amount_minor", name="authorized_within_amount"),
    CheckConstraint("refunded_minor BETWEEN 0 AND captured_minor", name="refunded_within_captured"),
    CheckConstraint(
        "(processor IS NULL) = (tender IN ('cash', 'gift_card', 'store_credit'))", name="local_needs_no_processor"
    ),
    CheckConstraint(
        "(stored_value_id IS NOT NULL) = (tender IN ('gift_card', 'store_credit'))", name="stored_value_is_named"
    ),
    ForeignKeyConstraint(["stored_value_id"], ["payments.stored_values.id"]),
    Index("ix_intents_reference", "reference"),
    Index("ix_intents_session_id", "session_id", postgresql_where=text("session_id IS NOT NULL")),
    Index("ix_intents_stored_value_id", "stored_value_id", postgresql_where=text("stored_value_id IS NOT NULL")),
    postgresql_with={"fillfactor": "80"},
)

# Append-only: an operation is one 'pending' row (remote ones only), any number of 'unknown' ones, and one final row.
operations: Final = Table(
    "operations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("operation_id", Uuid, nullable=False),
    Column("intent_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("reference", Text),
    Column("decline_code", Text),
    Column("detail", Text),
    Column("at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["intent_id"], ["payments.intents.id"]),
    CheckConstraint("kind IN ('authorize', 'capture', 'void', 'refund')", name="kind"),
    CheckConstraint("state IN ('pending', 'unknown', 'succeeded', 'declined', 'failed')", name="state"),
    CheckConstraint("amount_minor >= 0", name="amount"),
    Index("ix_operations_intent_id", "intent_id"),
    Index("uq_operations_begun", "operation_id", unique=True, postgresql_where=text("state = 'pending'")),
    Index(
        "uq_operations_final",
        "operation_id",
        unique=True,
        postgresql_where=text("state IN ('succeeded', 'declined', 'failed')"),
    ),
    Index(
        "ix_operations_refused",
        "intent_id",
        postgresql_where=text("state IN ('declined', 'failed') AND kind IN ('capture', 'void', 'refund')"),
    ),
)

# Remote operations that wait for their outcome: the work list of the completer, emptied by the final row.
open_operations: Final = Table(
    "open_operations",
    metadata,
    Column("operation_id", Uuid, primary_key=True),
    Column("intent_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("payment_method", Text),
    Column("attempts", BigInteger, nullable=False, server_default=text("0")),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("next_try_at", DateTime(timezone=True), nullable=False),
    # Where the payer has to go, while the processor waits for the payer.
    Column("action_url", Text),
    # From then on a success is not ours any more: whoever hears of one lets go of the money.
    Column("given_up_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["intent_id"], ["payments.intents.id"]),
    Index("ix_open_operations_next_try_at", "next_try_at"),
    Index("ix_open_operations_intent_id", "intent_id"),
)

# What processors told by webhook. The facts alone are kept: a processor's own documents may hold personal data.
inbox: Final = Table(
    "inbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("processor", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("processor_reference", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("attempts", BigInteger, nullable=False, server_default=text("0")),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("next_try_at", DateTime(timezone=True), nullable=False),
    Column("applied_at", DateTime(timezone=True)),
    Index("uq_inbox_processor_event_id", "processor", "event_id", unique=True),
    Index("ix_inbox_next_try_at", "next_try_at", postgresql_where=text("applied_at IS NULL")),
    Index("ix_inbox_applied_at", "applied_at", postgresql_where=text("applied_at IS NOT NULL")),
)

# Money that we owe: to whoever holds a gift card's code, or to a customer. The balance is a cache of the ledger's
# account, `held` of what checkouts under way have promised.
stored_values: Final = Table(
    "stored_values",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("code_hash", LargeBinary),
    Column("owner_id", Uuid),
    Column("currency", Text, nullable=False),
    Column("balance_minor", BigInteger, nullable=False),
    Column("held_minor", BigInteger, nullable=False, server_default=text("0")),
    Column("expires_at", DateTime(timezone=True)),
    Column("issued_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("kind IN ('gift_card', 'store_credit')", name="kind"),
    CheckConstraint("(code_hash IS NOT NULL) = (kind = 'gift_card')", name="a_gift_card_has_a_code"),
    CheckConstraint("(owner_id IS NOT NULL) = (kind = 'store_credit')", name="credit_belongs_to_somebody"),
    CheckConstraint("held_minor >= 0 AND held_minor <= balance_minor", name="never_overspent"),
    Index("uq_stored_values_code_hash", "code_hash", unique=True, postgresql_where=text("code_hash IS NOT NULL")),
    Index(
        "uq_stored_values_owner_id_currency",
        "owner_id",
        "currency",
        unique=True,
        postgresql_where=text("owner_id IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

# Why money went back, and over what: a tender of the sale (its operation has the refund's id), or as credit instead.
# One that waits, credit too, is owed until what it gives back was captured.
refunds: Final = Table(
    "refunds",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("reference", Uuid, nullable=False),
    Column("intent_id", Uuid),
    Column("stored_value_id", Uuid),
    Column("amount_minor", BigInteger, nullable=False),
    Column("waits", Boolean, nullable=False),
    Column("cause", Uuid),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("session_id", Uuid),
    Column("created_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["intent_id"], ["payments.intents.id"]),
    ForeignKeyConstraint(["stored_value_id"], ["payments.stored_values.id"]),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("(intent_id IS NULL) <> (stored_value_id IS NULL)", name="over_one_thing"),
    Index("ix_refunds_reference", "reference"),
    Index("ix_refunds_cause", "cause", postgresql_where=text("cause IS NOT NULL")),
    Index("ix_refunds_session_id", "session_id", postgresql_where=text("session_id IS NOT NULL")),
)

entries: Final = Table(
    "entries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("transaction_id", Uuid, nullable=False),
    Column("account", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reference", Uuid),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("amount_minor <> 0", name="amount"),
    # One transaction touches an account once: a posting that comes twice is refused by the table itself.
    Index("uq_entries_transaction_id_account", "transaction_id", "account", unique=True),
    Index("ix_entries_reference", "reference", postgresql_where=text("reference IS NOT NULL")),
    Index("ix_entries_account", "account", "id"),
)

registers: Final = Table(
    "registers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("location_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("uq_registers_location_id_name", "location_id", "name", unique=True),
)

register_sessions: Final = Table(
    "register_sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("register_id", Uuid, nullable=False),
    Column("currency", Text, nullable=False),
    Column("opening_float_minor", BigInteger, nullable=False),
    Column("expected_minor", BigInteger),
    Column("counted_minor", BigInteger),
    Column("opened_by", Text, nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("closed_by", Text),
    Column("closed_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["register_id"], ["payments.registers.id"]),
    CheckConstraint("opening_float_minor >= 0 AND (counted_minor IS NULL OR counted_minor >= 0)", name="amounts"),
    CheckConstraint("(closed_at IS NULL) = (counted_minor IS NULL)", name="closed_by_a_count"),
    Index("uq_register_sessions_open", "register_id", unique=True, postgresql_where=text("closed_at IS NULL")),
)
