"""The command line in processes of its own: what it prints, where, and how it ends."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commercehub import cli
from commercehub.seed import CATALOG

COMMAND = (sys.executable, "-m", "commercehub.cli")
HEADING = "Handle,Title,Variant SKU,Variant Price,Variant Barcode,Variant Inventory Qty\n"
HEARD_SECONDS_MAX = 60

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def own_url(make_database: Callable[[str], str]) -> str:
    return make_database("cli")


@pytest.fixture
def run(own_url: str, tmp_path: Path) -> Run:
    """Call the command as ./hub does, on a database of its own unless another is named."""

    def run(*arguments: str, **variables: str | None) -> "subprocess.CompletedProcess[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        given = {"HUB_DATABASE_URL": own_url, "HUB_HOME": str(tmp_path / "home"), "PYTHONSAFEPATH": "1", **variables}
        environ = {**clean, **{name: value for name, value in given.items() if value is not None}}
        return subprocess.run(
            [*COMMAND, *arguments],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=HEARD_SECONDS_MAX,
            check=False,
        )

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "products.csv"
    path.write_text(HEADING + "lamp,Lamp,LAMP-1,49.00,,3\nlamp,Lamp,LAMP-2,dear,,3\nshade,Shade,LAMP-3,9.00,123,\n")
    return path


def test_an_import_counts_its_rows_and_names_the_refused_by_file_and_line(run: Run, file: Path) -> None:
    done = run("import", "shopify", str(file), "--location", "DC1", "--currency", "USD")
    assert (done.returncode, done.stdout) == (0, "3 rows read, 1 created, 0 changed, 2 refused.\n")
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [f"{file}:3", f"{file}:4"]
    assert "dear" in done.stderr.splitlines()[0]


def test_an_import_sent_again_changes_nothing(run: Run) -> None:
    for _ in range(2):
        done = run("import", "shopify", str(CATALOG), "--location", "dc1", "--currency", "usd")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "120 rows read, 0 created, 0 changed, 0 refused.\n"


def test_an_unknown_location_is_named_with_those_there_are(run: Run, file: Path) -> None:
    done = run("import", "shopify", str(file), "--location", "MOON", "--currency", "USD")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "hub: There is no location 'MOON'. The hub knows: DC1, S1, S2, S3.\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "the file is empty"), ("a,b\n1,2\n", "Handle"), (HEADING + "lamp,\xff\n", "UTF-8")],
    ids=["empty", "other columns", "other encoding"],
)
def test_a_file_that_is_no_product_file_is_one_sentence(content: str, said: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(content, encoding="latin-1")
    done = run("import", "shopify", "bad.csv", "--location", "DC1", "--currency", "USD")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr


def test_a_file_that_cannot_be_read_is_one_sentence(run: Run, tmp_path: Path) -> None:
    for path, reason in (("none.csv", "No such file"), (str(tmp_path), "Is a directory")):
        done = run("import", "shopify", path, "--location", "DC1", "--currency", "USD")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"{path} cannot be read: {reason}" in done.stderr


def test_a_currency_that_is_none_is_refused_before_anything_is_read(run: Run, file: Path) -> None:
    done = run("import", "shopify", str(file), "--location", "DC1", "--currency", "dollars")
    assert done.returncode == 2
    assert "'dollars' is no currency" in done.stderr


@pytest.mark.parametrize(
    "command", [("import", "shopify", str(CATALOG), "--location", "DC1", "--currency", "USD"), ("migrate",)]
)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://127.0.0.1:1/hub", "The database of HUB_DATABASE_URL cannot be reached: "),
        ("mysql://localhost/hub", "The database of HUB_DATABASE_URL cannot be reached: invalid DSN"),
        (None, "Start it with ./hub demo, or set HUB_DATABASE_URL to another."),
    ],
    ids=["nobody there", "another kind", "no demo"],
)
def test_a_database_that_cannot_be_reached_is_one_sentence(
    command: tuple[str, ...], url: str | None, said: str, run: Run
) -> None:
    done = run(*command, HUB_DATABASE_URL=url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr


def test_a_database_without_a_hub_in_it_is_told_how_to_get_one(run: Run, server_url: str, file: Path) -> None:
    done = run("import", "shopify", str(file), "--location", "DC1", "--currency", "USD", HUB_DATABASE_URL=server_url)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "has no hub in it; hub migrate makes one" in done.stderr


def test_migrating_a_database_that_is_up_to_date_says_so(run: Run) -> None:
    done = run("migrate")
    assert (done.returncode, done.stdout) == (0, "The database is up to date.\n")


def test_working_without_a_secret_is_one_sentence(run: Run) -> None:
    done = run("work")
    assert (done.returncode, done.stderr) == (1, "hub: HUB_SECRET is not set\n")


def test_doctor_tells_what_was_found_and_why(run: Run, own_url: str) -> None:
    embedded = run("doctor", HUB_DATABASE_URL=None)
    assert embedded.returncode == 0, embedded.stdout
    assert re.search(r"^PostgreSQL +18\S* from (wheel|system): ", embedded.stdout, re.MULTILINE)
    assert f"Python       {sys.version.split()[0]} at {sys.executable}" in embedded.stdout
    given = run("doctor", HUB_REDIS_URL="redis://localhost/0")
    assert "HUB_DATABASE_URL is set" in given.stdout
    assert "HUB_REDIS_URL is set" in given.stdout


def test_doctor_shows_no_password(run: Run) -> None:
    told = run("doctor", HUB_DATABASE_URL="postgresql://hub:hunter2@localhost/hub")
    assert "hunter2" not in told.stdout + told.stderr


def test_check_finds_this_installation_whole(run: Run) -> None:
    done = run("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "every route declares its permission" in done.stdout


def test_check_names_a_room_that_is_somebody_elses(run: Run, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger" / "inventory"
    stranger.mkdir(parents=True)
    (stranger / "__init__.py").write_text("")
    done = run("check", PYTHONPATH=str(stranger.parent))
    assert done.returncode == 1
    assert f"The package inventory is not ours but {stranger / '__init__.py'}." in done.stderr
    assert "Traceback" not in done.stderr


def test_test_runs_pytest_and_ends_as_it_does(run: Run) -> None:
    done = run("test", "--version")
    assert done.returncode == 0
    assert (done.stdout + done.stderr).startswith("pytest ")
    assert run("test", "--no-such-option").returncode == 4


@pytest.mark.parametrize("arguments", [["-h"], ["-x", "-k", "two words", "tests/test_tidy.py"], ["--", "-h"]], ids=str)
def test_test_hands_its_arguments_to_pytest_as_they_are(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def note(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        called.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", note)
    assert cli.main(["test", *arguments]) == 3
    assert called == [[sys.executable, "-m", "pytest", *arguments]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: hub"),
        (("bogus",), "invalid choice: 'bogus'"),
        (("import",), "the following arguments are required: format, file, --location, --currency"),
        (("import", "magento", "x", "--location", "DC1", "--currency", "USD"), "invalid choice: 'magento'"),
        (("demo", "--port", "http"), "argument --port"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_usage_says_what_is_wrong(arguments: tuple[str, ...], said: str, run: Run) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_explains_itself(run: Run) -> None:
    listed = re.findall(r"^    ([a-z-]+)(?: |$)", run("-h").stdout, re.MULTILINE)
    everyday = ["demo", "test", "doctor", "check", "import", "migrate", "up", "work"]
    first_steps = ["create-channel", "create-key", "set-tax-rate", "set-delivery-rate"]
    assert listed == [*everyday, *first_steps, "backup", "restore", "verify", "configuration"]


def test_the_page_on_configuration_is_what_the_code_says(run: Run, repository: Path) -> None:
    page = (repository / "docs" / "configuration.md").read_text()
    table = page.partition("<!-- table -->\n")[2].partition("<!-- /table -->")[0]
    assert table == run("configuration").stdout, "hub configuration prints the table"
    assert not re.findall(r"\| +\|$", table, re.MULTILINE), "every variable says what it does"


@pytest.fixture
def run_here(own_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command in this process, which is quicker."""

    def run_here(*arguments: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setenv("HUB_DATABASE_URL", own_url)
        try:
            status = cli.main(arguments)
        except SystemExit as wrong_usage:
            status = int(wrong_usage.code or 0)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, told.out, told.err)

    return run_here


def test_the_first_steps_in_an_empty_hub(run_here: Run) -> None:
    opening = ("create-channel", "web", "--name", "A shop of this test", "--currency", "eur", "--country", "de")
    done = run_here(*opening)
    assert (done.returncode, done.stdout) == (0, "The sales channel 'A shop of this test' is open.\n")
    again = run_here(*opening)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert run_here("set-tax-rate", "DE", "books", "7").stdout == "In DE, books is taxed at 7 %.\n"
    assert run_here("set-delivery-rate", "ship", "EUR", "450").returncode == 0
    key = run_here("create-key", "--role", "till", "--channel", "store", "--location", "s1")
    assert (key.returncode, key.stdout[:7], key.stdout.count("\n")) == (0, "hub_sk_", 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create-key", "--role", "till"), "stands at a location"),
        (("create-key", "--role", "till", "--channel", "store"), "--location CODE"),
        (("create-key", "--role", "till", "--channel", "store", "--location", "MOON"), "no location 'MOON'"),
        (("create-key", "--role", "storefront"), "A storefront's key is public"),
        (("set-tax-rate", "US", "standard", "101"), "no percentage"),
        (("set-tax-rate", "Utopia", "standard", "1"), "no country"),
        (("set-delivery-rate", "ship", "USD", "4.99"), "no amount"),
    ],
    ids=" ".join,
)
def test_a_first_step_that_cannot_be_taken_is_one_sentence(
    arguments: tuple[str, ...], said: str, run_here: Run
) -> None:
    done = run_here(*arguments)
    assert (done.returncode > 0, done.stdout) == (True, "")
    assert said in done.stderr.splitlines()[-1]
