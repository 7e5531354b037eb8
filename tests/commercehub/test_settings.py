"""What is set from outside: read once, and every mistake told at once."""

from typing import Any

import pytest

from commercehub import settings
from commercehub.settings import InvalidSettings, Settings

NEEDED = {"HUB_DATABASE_URL": "postgresql://hub@localhost/hub", "HUB_SECRET": "s" * 32}


def _complaints(**environ: str) -> list[str]:
    with pytest.raises(InvalidSettings) as refused:
        settings.read({**NEEDED, **environ})
    return str(refused.value).splitlines()


def test_two_variables_are_enough() -> None:
    found = settings.read(NEEDED)
    assert (found.database_url, found.redis_url, found.demo) == (NEEDED["HUB_DATABASE_URL"], None, False)
    assert found.clock_offset_seconds == 0


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(InvalidSettings) as refused:
        settings.read({})
    assert str(refused.value).splitlines() == ["HUB_DATABASE_URL is not set", "HUB_SECRET is not set"]


def test_all_that_is_wrong_is_told_at_once_with_what_is_missing() -> None:
    told = _complaints(
        HUB_DATABASE_URL="", HUB_SECRET="short", HUB_POOL_SIZE="many", HUB_DEMO="perhaps", HUB_RATE_LIMIT_BURST="0"
    )
    assert [line.partition(":")[0].split()[0] for line in told] == [
        "HUB_DATABASE_URL",
        "HUB_SECRET",
        "HUB_DEMO",
        "HUB_POOL_SIZE",
        "HUB_RATE_LIMIT_BURST",
    ]


def test_a_secret_that_is_too_short_is_not_repeated() -> None:
    assert "hunter2" not in "".join(_complaints(HUB_SECRET="hunter2"))


def test_an_empty_variable_counts_as_none() -> None:
    found = settings.read({**NEEDED, "HUB_REDIS_URL": "", "HUB_POOL_SIZE": ""})
    assert (found.redis_url, found.pool_size) == (None, 10)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("1", True), ("0", False)])
def test_a_switch_is_on_or_off(text: str, value: Any) -> None:
    assert settings.read({**NEEDED, "HUB_DEMO": text}).demo is value


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3x", "ten"])
def test_a_size_is_a_whole_number_from_one_on(text: str) -> None:
    assert len(_complaints(HUB_POOL_SIZE=text)) == 1


def test_the_clock_is_shifted_in_demos_and_tests_only() -> None:
    assert _complaints(HUB_CLOCK_OFFSET_SECONDS="60") == ["HUB_CLOCK_OFFSET_SECONDS works in demos and tests only"]
    shifted = settings.read({**NEEDED, "HUB_CLOCK_OFFSET_SECONDS": "-60", "HUB_DEMO": "true"})
    assert shifted.clock_offset_seconds == -60


def test_variables_of_others_are_left_alone() -> None:
    assert settings.read({**NEEDED, "HUB_HOME": "/x", "DATABASE_URL": "y", "hub_demo": "true"}) == settings.read(NEEDED)


def test_settings_become_variables_and_settings_again() -> None:
    given = Settings(
        database_url="postgresql://hub@localhost/hub",
        secret="s" * 40,
        redis_url="redis://localhost",
        base_url="https://hub.example",
        demo=True,
        clock_offset_seconds=5,
        pool_size=3,
        rate_limit_per_second=7,
        rate_limit_burst=9,
        log_level="error",
    )
    assert settings.read(settings.environment(given)) == given


def test_a_level_is_one_that_there_is() -> None:
    assert settings.read({**NEEDED, "HUB_LOG_LEVEL": "warning"}).log_level == "warning"
    assert _complaints(HUB_LOG_LEVEL="loud") == ["HUB_LOG_LEVEL: Invalid enum value 'loud'"]
    with pytest.raises(InvalidSettings):
        settings.level({"HUB_LOG_LEVEL": "loud"})


def test_proxies_are_networks() -> None:
    found = settings.read({**NEEDED, "HUB_TRUSTED_PROXIES": "10.0.0.0/8, ::1"})
    assert [str(each) for each in found.proxies] == ["10.0.0.0/8", "::1/128"]
    assert len(_complaints(HUB_TRUSTED_PROXIES="10.0.0.0/8,the moon")) == 1


def test_both_secrets_count_while_one_takes_the_other_s_place() -> None:
    assert settings.read(NEEDED).secrets == ("s" * 32,)
    assert settings.read({**NEEDED, "HUB_SECRET_PREVIOUS": "p" * 32}).secrets == ("s" * 32, "p" * 32)
    assert len(_complaints(HUB_SECRET_PREVIOUS="short")) == 1
