"""How Alembic runs: online, on the connection that it is handed."""

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.schema import SchemaItem

import commercehub.sales.tables
import commercehub.tables
import fulfillment.tables
import inventory.tables
import payments.tables

# The reflection behind `alembic check` has not heard of the type.
PGDialect.ischema_names["xid8"] = commercehub.tables.Xid8

SCHEMAS = frozenset({"commercehub", "inventory", "payments", "fulfillment"})
PARTITION_PREFIX = "events_"


def _is_ours(name: str | None, kind: str, _: object) -> bool:
    if kind == "schema":
        return name in SCHEMAS
    # The daily partitions of `events` come and go by a job.
    return not (kind == "table" and name is not None and name.startswith(PARTITION_PREFIX) and name[-1].isdigit())


def _is_compared(_: SchemaItem, name: str | None, kind: str, *__: object) -> bool:
    return not (kind == "table" and name in {"events_default", "alembic_version"})


def run(connection: Connection) -> None:
    """Bring the database to the newest revision, all of it or nothing."""
    context.configure(
        connection=connection,
        target_metadata=[
            commercehub.tables.metadata,
            inventory.tables.metadata,
            payments.tables.metadata,
            fulfillment.tables.metadata,
        ],
        include_schemas=True,
        include_name=_is_ours,
        include_object=_is_compared,
        version_table_schema="commercehub",
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
