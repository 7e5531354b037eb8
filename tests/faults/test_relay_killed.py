"""Relays, job workers and Valkey are killed while events are told: none is lost, and no effect happens twice."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from commercehub.embedded import find_valkey
from commercehub.settings import Settings
from tests.commercehub.jobs.conftest import Valkey
from tests.conftest import SECRET
from tests.faults.relaying import BY_ID, Proof

LATE_SECONDS = 0.5
DRAIN_SECONDS_MAX = 15.0


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[Valkey]:
    found = find_valkey({})
    if found is None or found.program is None:
        pytest.skip("no Valkey on this machine")
    folder = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))
    valkey = Valkey(found.program, folder)
    yield valkey
    valkey.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def own_url(make_database: Callable[[str], str]) -> str:
    return make_database("relay_killed")


@pytest.fixture
def proof_on(own_url: str, tmp_path: Path) -> Callable[..., Proof]:
    def make(*, valkey: Valkey | None = None, **options: Any) -> Proof:
        seed = random.randrange(2**32)
        print(f"seed {seed}")  # noqa: T201 - pytest shows it if this fails
        given = Settings(
            database_url=own_url,
            secret=SECRET,
            redis_url=valkey.url if valkey else None,
            log_level="error",
            pool_size=6,
        )
        return Proof(
            given, seed=seed, valkey=valkey, log=tmp_path / "workers.log", late_seconds=LATE_SECONDS, **options
        )

    return make


@pytest.mark.parametrize("driver", ["arq", "in process"])
async def test_kills_lose_no_event_and_double_no_effect(
    driver: str, proof_on: Callable[..., Proof], request: pytest.FixtureRequest
) -> None:
    valkey = request.getfixturevalue("own_valkey") if driver == "arq" else None
    proof = proof_on(valkey=valkey, workers=2 if valkey else 1)
    verdict = await proof.run(faults=4 if valkey else 1, seconds=1.0, drain_seconds_max=DRAIN_SECONDS_MAX)
    assert verdict.holds, str(verdict)
    assert sum(verdict.faults.values()) == (4 if valkey else 1)


async def test_control_a_relay_that_goes_by_ids_alone_loses_some(
    proof_on: Callable[..., Proof], own_valkey: Valkey
) -> None:
    verdict = await proof_on(valkey=own_valkey, read=BY_ID, workers=1).run(faults=0, seconds=1.0, drain_seconds_max=1.0)
    assert not verdict.holds
    assert verdict.missing > 0, str(verdict)
