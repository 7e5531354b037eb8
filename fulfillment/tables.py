"""Tables of the room `fulfillment`: work to be done at one location for one reference, and its parcels."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

metadata: Final = MetaData(
    schema="fulfillment",
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)

fulfillments: Final = Table(
    "fulfillments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("reference", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("location_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("cancel_reason", Text),
    # Of a pickup that is ready: what opens it, kept as a hash, and how long it is kept for the customer.
    Column("code_hash", LargeBinary),
    Column("collect_by", DateTime(timezone=True)),
    Column("reminded_at", DateTime(timezone=True)),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("kind IN ('ship', 'pickup')", name="kind"),
    CheckConstraint(
        "state IN ('open', 'picking', 'picked', 'packed', 'shipped', 'delivered', 'ready', 'handed_over', 'cancelled')",
        name="state",
    ),
    CheckConstraint(
        "state NOT IN (CASE kind WHEN 'ship' THEN 'ready' ELSE 'packed' END,"
        " CASE kind WHEN 'ship' THEN 'handed_over' ELSE 'shipped' END,"
        " CASE kind WHEN 'ship' THEN 'handed_over' ELSE 'delivered' END)",
        name="state_of_its_kind",
    ),
    CheckConstraint("(code_hash IS NULL) = (collect_by IS NULL)", name="kept_for_a_code"),
    CheckConstraint("state NOT IN ('ready', 'handed_over') OR code_hash IS NOT NULL", name="ready_has_a_code"),
    Index("ix_fulfillments_reference", "reference"),
    Index("ix_fulfillments_collect_by", "collect_by", "id", postgresql_where=text("state = 'ready'")),
    Index("ix_fulfillments_location_id_state", "location_id", "state", "id"),
    postgresql_with={"fillfactor": "80"},
)

lines: Final = Table(
    "lines",
    metadata,
    Column("fulfillment_id", Uuid, nullable=False),
    Column("line_id", Uuid, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("sku", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("picked", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("fulfillment_id", "line_id"),
    ForeignKeyConstraint(["fulfillment_id"], ["fulfillment.fulfillments.id"]),
    CheckConstraint("quantity > 0 AND picked BETWEEN 0 AND quantity", name="quantity"),
)

parcels: Final = Table(
    "parcels",
    metadata,
    Column("fulfillment_id", Uuid, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("weight_grams", BigInteger),
    Column("carrier", Text),
    Column("tracking_number", Text),
    PrimaryKeyConstraint("fulfillment_id", "position"),
    ForeignKeyConstraint(["fulfillment_id"], ["fulfillment.fulfillments.id"]),
    CheckConstraint("weight_grams IS NULL OR weight_grams > 0", name="weight"),
)
