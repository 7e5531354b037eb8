"""What can be said of the containers without running one: they parse, and name nothing that is not there."""

import importlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commercehub.cli import _parser
from commercehub.settings import PREFIX, Settings

yaml: Any = importlib.import_module("yaml")

VARIABLES = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)}
NEEDED = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings) if field.required}
INSTRUCTIONS = {"FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "docker"


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "compose.yaml").read_text())["services"])


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[tuple[str, str]]:
    """The Dockerfile's instructions with what they are given."""
    text = re.sub(r"\\\n", " ", (folder / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines()]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line and not line.startswith("#")]


def hubs(services: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in services.items() if each["image"] == "commercehub"}


def test_every_variable_is_one_of_the_settings(folder: Path) -> None:
    for file in ("Dockerfile", "compose.yaml", "example.env"):
        assert set(re.findall(r"\bHUB_[A-Z_]+", (folder / file).read_text())) <= VARIABLES, file


def test_the_hubs_are_given_what_they_need(services: dict[str, Any]) -> None:
    assert set(hubs(services)) == {"migrate", "hub-1", "hub-2", "jobs"}
    for name, service in hubs(services).items():
        assert set(service["environment"]) >= NEEDED | {"HUB_REDIS_URL", "HUB_BASE_URL"}, name
        assert "HUB_DEMO" not in service["environment"], name


def test_each_service_runs_a_command_that_there_is(services: dict[str, Any], steps: list[tuple[str, str]]) -> None:
    assert dict(steps)["ENTRYPOINT"] == '["commercehub"]'
    commands = [service["command"] for service in hubs(services).values()]
    for command in (*commands, msgspec.json.decode(dict(steps)["CMD"])):
        assert callable(_parser().parse_args(command).run)


def test_the_migration_comes_first_and_once_and_after_the_database(services: dict[str, Any]) -> None:
    assert services["migrate"]["restart"] == "no"
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("hub-1", "hub-2", "jobs"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_nobody_is_root_and_nothing_is_open_to_the_world(
    services: dict[str, Any], steps: list[tuple[str, str]]
) -> None:
    last = max(position for position, (name, _) in enumerate(steps) if name == "FROM")
    users = [given for name, given in steps[last:] if name == "USER"]
    assert users == ["10001:10001"]
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
    assert services["hub-1"]["ports"] != services["hub-2"]["ports"]
    for name, service in hubs(services).items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name


def test_every_secret_is_asked_for_and_none_is_written_down(folder: Path) -> None:
    text = (folder / "compose.yaml").read_text()
    assert {"POSTGRES_PASSWORD", "HUB_SECRET"} <= set(re.findall(r"\$\{(\w+):\?", text))
    asked = set(re.findall(r"\$\{(\w+)", text))
    example = dict(re.findall(r"^(\w+)=(.*)$", (folder / "example.env").read_text(), re.MULTILINE))
    assert asked == set(example)
    assert all(not example[name] for name in ("POSTGRES_PASSWORD", "HUB_SECRET", "HUB_METRICS_TOKEN"))


def test_the_image_is_made_in_two_stages_from_what_is_there(repository: Path, steps: list[tuple[str, str]]) -> None:
    assert {name for name, _ in steps} <= INSTRUCTIONS
    assert len([name for name, _ in steps if name == "FROM"]) == 2
    copied = [given.split() for name, given in steps if name == "COPY" and not given.startswith("--from")]
    for *sources, _ in copied:
        assert all((repository / source).exists() for source in sources), sources
    assert any("--require-hashes" in given for name, given in steps if name == "RUN")
    health = next(given for name, given in steps if name == "HEALTHCHECK")
    assert "/health/live" in health
    compile(msgspec.json.decode(health.partition("CMD ")[2])[2], "healthcheck", "exec")


def test_what_the_image_needs_is_not_kept_from_its_build(folder: Path, steps: list[tuple[str, str]]) -> None:
    let_in = set(re.findall(r"^!(\S+)", (folder / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    copied = [given.split()[:-1] for name, given in steps if name == "COPY" and not given.startswith("--from")]
    assert {source for sources in copied for source in sources} == let_in


def test_the_image_has_the_versions_that_the_suite_runs_on(repository: Path, folder: Path) -> None:
    ours = dict(PIN.findall((repository / "requirements.lock").read_text()))
    shipped = dict(PIN.findall((folder / "requirements.lock").read_text()))
    assert shipped.items() <= ours.items()
    assert "pytest" not in shipped
    needed = re.findall(
        r'^    "([a-z0-9-]+)', (repository / "pyproject.toml").read_text().split("[project.optional")[0], re.MULTILINE
    )
    assert set(needed) <= shipped.keys()
