"""The history and the tables in the code are one."""

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from commercehub import migrations
from tests.conftest import on_database, run_on


@pytest.fixture
def empty_url(server_url: str, worker_id: str) -> str:
    name = f"hub_{worker_id}_empty"
    asyncio.run(run_on(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}"))
    return on_database(server_url, name)


def test_the_history_makes_the_tables_in_the_code(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    migrations.check(empty_url)


def test_the_history_can_be_walked_back_and_forth(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    migrations.downgrade(empty_url, "base")
    migrations.upgrade(empty_url)
    migrations.check(empty_url)


@pytest.mark.parametrize("book", ["inventory.movements", "payments.operations", "payments.entries"])
@pytest.mark.parametrize("rewriting", ["UPDATE {} SET id = DEFAULT", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_books_are_append_only(make_database: Callable[[str], str], book: str, rewriting: str) -> None:
    url = make_database("books")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        asyncio.run(run_on(url, rewriting.format(book)))
