from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commercehub.embedded import Found, Home, find_postgres, temporary_home
from tests.commercehub.embedded.observing import Stage


@pytest.fixture(scope="package")
def postgres() -> Found:
    return find_postgres({})


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with temporary_home() as home:
        yield home


@pytest.fixture
def another_home() -> Iterator[Home]:
    with temporary_home() as home:
        yield home


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def begin(folder: Path, *arguments: str, uid: int | None = None) -> Stage:
        stages.append(Stage(folder, *arguments, uid=uid))
        return stages[-1]

    yield begin
    for each in stages:
        each.process.kill()
        each.end()
