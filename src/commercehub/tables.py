"""The hub's own tables beside the rooms: credentials, idempotency, events, messages, long operations."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import UserDefinedType

metadata: Final = MetaData(
    schema="commercehub",
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in DDL."""
        return "xid8"


sales_channels: Final = Table(
    "sales_channels",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("brand", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("locale", Text, nullable=False),
    Column("price_list", Text, nullable=False),
    Column("tax_included", SmallInteger, nullable=False),
    Column("tax_country", Text, nullable=False),
    CheckConstraint(
        "kind IN ('web', 'app', 'store', 'call_center', 'chat', 'agent', 'back_office')",
        name="kind",
    ),
    CheckConstraint("tax_included IN (0, 1)", name="tax_included"),
    Index("uq_sales_channels_name", "name", unique=True),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("sales_channel_id", Uuid, nullable=False),
    Column("role", Text, nullable=False),
    Column("location_id", Uuid),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("allowed_origins", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("ends_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["sales_channel_id"], ["commercehub.sales_channels.id"]),
    CheckConstraint("role IN ('storefront', 'till', 'service', 'fulfillment', 'admin')", name="role"),
    CheckConstraint("role <> 'till' OR location_id IS NOT NULL", name="a_till_stands_somewhere"),
    Index("uq_api_keys_secret_hash", "secret_hash", unique=True),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("scope", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", SmallInteger),
    Column("body", Text),
    Column("subject_id", Uuid),
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("scope", "key"),
    # A row without an answer belongs to an operation under way, which its subject names.
    CheckConstraint(
        "(status IS NULL) = (body IS NULL) AND (status IS NOT NULL OR subject_id IS NOT NULL)", name="answer"
    ),
    Index("ix_idempotency_keys_created_at", "created_at"),
    Index("ix_idempotency_keys_subject_id", "subject_id", postgresql_where=text("status IS NULL")),
    postgresql_with={"fillfactor": "90", "autovacuum_vacuum_scale_factor": "0.02"},
)

# Partitioned by day and kept for 30: what must be remembered longer is in `timeline`.
events: Final = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("type", Text, nullable=False),
    Column("aggregate_id", Uuid, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("order_id", Uuid),
    Column("body", JSONB, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("occurred_at", "id"),
    Index("ix_events_xid_id", "xid", "id"),
    postgresql_partition_by="RANGE (occurred_at)",
)

timeline: Final = Table(
    "timeline",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("order_id", Uuid),
    Column("customer_id", Uuid),
    Column("type", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("location_id", Uuid),
    Column("changes", JSONB, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("order_id IS NOT NULL OR customer_id IS NOT NULL", name="of_somebody"),
    Index("ix_timeline_order_id", "order_id", "id", postgresql_where=text("order_id IS NOT NULL")),
    Index("ix_timeline_customer_id", "customer_id", "id", postgresql_where=text("customer_id IS NOT NULL")),
)

# Where each reader of `events` stands.
event_cursors: Final = Table(
    "event_cursors",
    metadata,
    Column("reader", Text, primary_key=True),
    Column("xid", Xid8, nullable=False),
    Column("id", BigInteger, nullable=False),
)

# A batch that the relay handed on: the queue may lose it, this row does not.
event_batches: Final = Table(
    "event_batches",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("events", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("try_after", DateTime(timezone=True), nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Index("ix_event_batches_try_after", "try_after"),
)

# What customers were sent, once about each subject: an order, some work for it, a refund. It holds ids and an amount:
# address and text are rendered when the message is read.
messages: Final = Table(
    "messages",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("amount_minor", BigInteger),
    Column("locale", Text, nullable=False),
    Column("sent_at", DateTime(timezone=True), nullable=False),
    Index("uq_messages_order_id_kind_subject_id", "order_id", "kind", "subject_id", unique=True),
)

operations: Final = Table(
    "operations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("request", JSONB, nullable=False),
    Column("payload", LargeBinary),
    Column("rows_read", Integer, nullable=False, server_default=text("0")),
    Column("rows_created", Integer, nullable=False, server_default=text("0")),
    Column("rows_changed", Integer, nullable=False, server_default=text("0")),
    Column("refused", JSONB, nullable=False, server_default=text("'[]'")),
    Column("error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("taken_until", DateTime(timezone=True)),
    CheckConstraint("state IN ('running', 'succeeded', 'failed')", name="state"),
    Index("ix_operations_running", "created_at", postgresql_where=text("state = 'running'")),
)

# One of the two homes of personal data.
customers: Final = Table(
    "customers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("email", Text),
    Column("phone", Text),
    Column("name", Text),
    Column("locale", Text, nullable=False),
    Column("password_hash", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("email IS NOT NULL OR phone IS NOT NULL", name="reachable"),
    Index("uq_customers_email", func.lower(text("email")), unique=True, postgresql_where=text("email IS NOT NULL")),
    # A phone number is its digits, however it is written.
    Index(
        "ix_customers_phone",
        func.regexp_replace(text("phone"), text("'[^0-9]'"), text("''"), text("'g'")),
        postgresql_where=text("phone IS NOT NULL"),
    ),
)

# What staff wrote down about a customer; the timeline carries the id, and is joined with the words when it is read.
customer_notes: Final = Table(
    "customer_notes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, nullable=False),
    Column("words", Text, nullable=False),
    Column("written_by", Text, nullable=False),
    Column("written_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["customer_id"], ["commercehub.customers.id"]),
    Index("ix_customer_notes_customer_id", "customer_id"),
)

# A customer has one code at a time; it is gone when it is used.
password_resets: Final = Table(
    "password_resets",
    metadata,
    Column("customer_id", Uuid, primary_key=True),
    Column("code_hash", LargeBinary, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["customer_id"], ["commercehub.customers.id"]),
    Index("ix_password_resets_asked_at", "asked_at"),
)

staff: Final = Table(
    "staff",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("login", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("location_ids", ARRAY(Uuid), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("pin_hash", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    CheckConstraint("role IN ('cashier', 'picker', 'manager', 'support', 'admin')", name="role"),
    CheckConstraint("role IN ('support', 'admin') OR cardinality(location_ids) > 0", name="works_somewhere"),
    Index("uq_staff_login", func.lower(text("login")), unique=True),
)

devices: Final = Table(
    "devices",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("location_id", Uuid, nullable=False),
    Column("pairing_hash", LargeBinary),
    Column("pairing_ends_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    CheckConstraint("role IN ('till', 'fulfillment')", name="role"),
    Index("uq_devices_pairing_hash", "pairing_hash", unique=True, postgresql_where=text("pairing_hash IS NOT NULL")),
)

# Who has signed in: a customer, a member of staff, a paired device, whoever looked an order up. Tokens are stored as hashes; a refresh token that
# comes a second time ends its session.
sessions: Final = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("sales_channel_id", Uuid, nullable=False),
    # The key or the device that they signed in through: a shift ends with it.
    Column("key_id", Uuid),
    Column("device_id", Uuid),
    Column("location_id", Uuid),
    Column("access_hash", LargeBinary, nullable=False),
    Column("access_ends_at", DateTime(timezone=True), nullable=False),
    Column("refresh_hash", LargeBinary),
    Column("refresh_previous_hash", LargeBinary),
    Column("refresh_salt", LargeBinary),
    Column("refreshed_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["sales_channel_id"], ["commercehub.sales_channels.id"]),
    CheckConstraint("kind IN ('customer', 'staff', 'device', 'order')", name="kind"),
    Index("uq_sessions_access_hash", "access_hash", unique=True),
    Index("ix_sessions_subject_id", "subject_id"),
    Index("ix_sessions_ends_at", "ends_at"),
)

# Wrong codes, passwords and look-ups, counted over 15 minutes; the subject is a hash of whom they were tried on.
attempts: Final = Table(
    "attempts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject_hash", LargeBinary, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Index("ix_attempts_kind_subject_hash_at", "kind", "subject_hash", "at"),
    Index("ix_attempts_at", "at"),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("actor", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("location_id", Uuid),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text),
    Column("changes", JSONB, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Index("ix_audit_subject", "subject", "id"),
)
