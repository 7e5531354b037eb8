"""The house: four schemas, their tables, and the triggers that keep the books append-only.

Until the first release the history is this one file, made from the tables in the code, so nothing is written twice.
The release freezes it; from then on every change is a file of its own, expanding first and contracting later.
"""

from typing import Final

from alembic import op

import commercehub.sales.tables
import commercehub.tables
import fulfillment.tables
import inventory.tables
import payments.tables

revision: Final = "0001"
down_revision: Final = None

METADATAS: Final = (
    commercehub.tables.metadata,
    inventory.tables.metadata,
    payments.tables.metadata,
    fulfillment.tables.metadata,
)
BOOKS: Final = ("inventory.movements", "payments.operations", "payments.entries", "commercehub.timeline")


def upgrade() -> None:
    """Build the house."""
    for metadata in METADATAS:
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {metadata.schema}")
        metadata.create_all(op.get_bind(), checkfirst=False)
    # Catches what no daily partition takes: nothing is lost if the job that makes them does not run.
    op.execute("CREATE TABLE commercehub.events_default PARTITION OF commercehub.events DEFAULT")
    op.execute("INSERT INTO commercehub.event_cursors (reader, xid, id) VALUES ('relay', '0', 0)")
    op.execute(
        """
        CREATE FUNCTION commercehub.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    for book in BOOKS:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {book}"
            " FOR EACH STATEMENT EXECUTE FUNCTION commercehub.refuse_rewriting()"
        )


def downgrade() -> None:
    """Take it down again, all but the schema that remembers which revision this is."""
    for book in BOOKS:
        op.execute(f"DROP TRIGGER append_only ON {book}")
    op.execute("DROP FUNCTION commercehub.refuse_rewriting()")
    for metadata in reversed(METADATAS):
        metadata.drop_all(op.get_bind(), checkfirst=False)
        if metadata.schema != "commercehub":
            op.execute(f"DROP SCHEMA {metadata.schema}")
