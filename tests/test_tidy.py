"""The rules of the house that no other tool knows, held on the syntax tree."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Constraint, MetaData

import commercehub.sales.tables
import commercehub.tables
import fulfillment.tables
import inventory.tables
import payments.tables

ROOT = Path(__file__).parents[1]
PACKAGES = ("src/commercehub", "inventory", "payments", "fulfillment")
FUNCTION_LINES_MAX = 60
METADATAS = (
    commercehub.tables.metadata,
    inventory.tables.metadata,
    payments.tables.metadata,
    fulfillment.tables.metadata,
)
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
TALKS = {"processor", "processors", "processor_by_name", "client", "queue"}
RUNS = {"execute", "executemany", "fetch", "fetchrow", "fetchval"}


def test_no_function_is_over_60_lines() -> None:
    long = [
        f"{where} {function.name}: {function.end_lineno - function.lineno + 1} lines"
        for where, function in _functions()
        if function.end_lineno and function.end_lineno - function.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_whoever_holds_a_transaction_does_not_talk_to_the_network() -> None:
    both = []
    for where, function in _functions():
        names = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
        if "db" not in names:
            continue
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} | names
        both += [f"{where} {function.name}: {name}" for name in sorted(used & TALKS)]
    assert both == []


def test_nothing_but_the_database_module_begins_or_ends_transactions() -> None:
    ends = [
        f"{where}: {name}.{method}()"
        for where, name, method in _calls()
        if method in {"commit", "rollback", "start"}
        and name in {"db", "connection", "transaction"}
        and "migrations" not in where
    ]
    begins = [
        f"{where}: db.transaction()"
        for where, name, method in _calls()
        if (name, method) == ("db", "transaction") and not where.startswith("src/commercehub/database.py")
    ]
    assert ends + begins == []


def test_every_statement_is_a_module_constant() -> None:
    made = [
        f"{where} {function.name}: {ast.unparse(statement)}"
        for where, function in _functions()
        for statement in _run_by(function)
        # A function may be handed a statement that its caller names.
        if not (isinstance(statement, ast.Name) and (statement.id.isupper() or statement.id == "statement"))
    ]
    assert made == []


@pytest.mark.parametrize("metadata", METADATAS, ids=lambda metadata: metadata.schema)
def test_every_constraint_has_a_name(metadata: MetaData) -> None:
    nameless = [
        f"{table.name}: {constraint}"
        for table in metadata.tables.values()
        for constraint in (*table.constraints, *table.indexes)
        if isinstance(constraint, Constraint) and constraint.name is None and len(constraint.columns) > 0  # type: ignore[attr-defined]
    ]
    assert nameless == []


def test_no_foreign_key_crosses_a_schema() -> None:
    crossing = [
        f"{table} -> {key.target_fullname}"
        for metadata in METADATAS
        for table in metadata.tables.values()
        for key in table.foreign_keys
        if not key.target_fullname.startswith(f"{metadata.schema}.")
    ]
    assert crossing == []


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    odd = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
    assert [str(file.relative_to(ROOT)) for file in FILES if file.name in odd] == []


def test_the_top_level_holds_what_the_design_names() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {path.split("/")[0] for path in tracked} <= {
        *("pyproject.toml", "README.md", "src", "fulfillment", "payments", "inventory", "tests", "docker"),
        *("hub", "LICENSE", "CHANGELOG.md", "requirements.lock", ".ci", ".gitignore", "docs"),
    }


def test_the_lock_carries_no_address_of_a_registry() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("tool", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("lint-imports",)])
def test_the_linters_agree(tool: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / tool[0]), *tool[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _run_by(function: ast.AST) -> Iterator[ast.expr]:
    """What is given to ``db`` to run."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="db"), attr=method), args=[statement, *_]):
                if method in RUNS:
                    yield statement


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, FUNCTIONS):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def _calls() -> Iterator[tuple[str, str, str]]:
    """Where ``name.method()`` is called."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", name, method
