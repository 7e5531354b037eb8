"""Every SQL statement of the code, against the schema as the migrations make it."""

import pytest

from commercehub.database import Database
from tests.statements import statements

STATEMENTS = {name: text for name, text in statements().items() if not name.startswith("commercehub.sandbox.")}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_postgresql_prepares_it(name: str, database: Database) -> None:
    async with database.connection() as db:
        await db.prepare(STATEMENTS[name])
