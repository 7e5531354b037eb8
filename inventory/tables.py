"""Tables of the room `inventory`: places, what lies there, and every change of it."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Identity,
    Index,
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

metadata: Final = MetaData(
    schema="inventory",
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)

locations: Final = Table(
    "locations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("address", JSONB, nullable=False),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("capabilities", ARRAY(Text), nullable=False),
    Column("opening_hours", JSONB, nullable=False),
    Column("holidays", JSONB, nullable=False),
    Column("pickup_window_days", SmallInteger, nullable=False, server_default=text("7")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("kind IN ('warehouse', 'store')", name="kind"),
    CheckConstraint("latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180", name="on_earth"),
    Index("uq_locations_code", func.lower(text("code")), unique=True),
)

# The primary key is SKU-major on purpose: one product's rows over all locations lie together, which makes
# "where is it" four times cheaper. No index on a changing column: it would end heap-only updates.
positions: Final = Table(
    "positions",
    metadata,
    Column("sku", Text, nullable=False),
    Column("location_id", Uuid, nullable=False),
    Column("on_hand", BigInteger, nullable=False, server_default=text("0")),
    Column("reserved", BigInteger, nullable=False, server_default=text("0")),
    Column("safety_stock", BigInteger, nullable=False, server_default=text("0")),
    Column("backorder_limit", BigInteger, nullable=False, server_default=text("0")),
    Column("shortfall", BigInteger, nullable=False, server_default=text("0")),
    Column("damaged", BigInteger, nullable=False, server_default=text("0")),
    Column("quarantine", BigInteger, nullable=False, server_default=text("0")),
    Column("in_transit", BigInteger, nullable=False, server_default=text("0")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("sku", "location_id"),
    ForeignKeyConstraint(["location_id"], ["inventory.locations.id"]),
    CheckConstraint("reserved >= 0", name="reserved"),
    CheckConstraint("on_hand - reserved >= -(backorder_limit + shortfall)", name="never_oversold"),
    CheckConstraint(
        "safety_stock >= 0 AND backorder_limit >= 0 AND shortfall >= 0 "
        "AND damaged >= 0 AND quarantine >= 0 AND in_transit >= 0",
        name="not_negative",
    ),
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)

reservations: Final = Table(
    "reservations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("reference", Uuid, nullable=False),
    Column("line_id", Uuid, nullable=False),
    Column("sku", Text, nullable=False),
    Column("location_id", Uuid, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("picked", BigInteger, nullable=False, server_default=text("0")),
    Column("state", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["sku", "location_id"], ["inventory.positions.sku", "inventory.positions.location_id"]),
    CheckConstraint("quantity > 0 AND picked BETWEEN 0 AND quantity", name="quantity"),
    CheckConstraint("state IN ('open', 'posted', 'voided', 'expired')", name="state"),
    CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="ended_once"),
    Index("ix_reservations_reference", "reference"),
    # Only open holds that the clock can end are looked for by stock key; an order's hold has no clock.
    Index(
        "ix_reservations_expiring",
        "sku",
        "location_id",
        postgresql_where=text("state = 'open' AND expires_at IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

movements: Final = Table(
    "movements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("sku", Text, nullable=False),
    Column("location_id", Uuid, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("delta", BigInteger, nullable=False),
    Column("balance", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text),
    Column("reference", Text),
    Column("actor", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["sku", "location_id"], ["inventory.positions.sku", "inventory.positions.location_id"]),
    CheckConstraint("bucket IN ('on_hand', 'damaged', 'quarantine', 'in_transit')", name="bucket"),
    CheckConstraint(
        "kind IN ('receipt', 'sale', 'return', 'adjustment', 'count', 'transfer_out', 'transfer_in', 'damage')",
        name="kind",
    ),
    CheckConstraint("delta <> 0", name="delta"),
    Index("ix_movements_sku_location_id", "sku", "location_id", "id"),
    Index("ix_movements_reference", "reference", postgresql_where=text("reference IS NOT NULL")),
)

# What an import brings is received once per SKU and location, however often the file is sent.
opening_receipts: Final = Table(
    "opening_receipts",
    metadata,
    Column("sku", Text, nullable=False),
    Column("location_id", Uuid, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    PrimaryKeyConstraint("sku", "location_id"),
    ForeignKeyConstraint(["sku", "location_id"], ["inventory.positions.sku", "inventory.positions.location_id"]),
)
