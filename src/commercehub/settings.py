"""Everything that is set from outside, read once from ``HUB_*`` variables by the composition root."""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

PREFIX: Final = "HUB_"

Positive = Annotated[int, msgspec.Meta(ge=1)]


class InvalidSettings(Exception):
    """Some variables cannot be used; the message has one line for each of them."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute for each ``HUB_<NAME>`` variable; what has no default must be set."""

    database_url: str
    secret: Annotated[str, msgspec.Meta(min_length=32)]
    redis_url: str | None = None
    sandbox_url: str | None = None
    sandbox_key: str | None = None
    sandbox_webhook_secret: str | None = None
    base_url: str = "http://127.0.0.1:8000"
    demo: bool = False
    clock_offset_seconds: int = 0
    pool_size: Positive = 10
    rate_limit_per_second: Positive = 50
    rate_limit_burst: Positive = 100
    log_level: str = "info"


def read(environ: Mapping[str, str]) -> Settings:
    """Take the settings from an environment, or raise ``InvalidSettings`` naming every variable that is wrong."""
    found: dict[str, object] = {}
    complaints = []
    for name, kind, default in _variables():
        text = environ.get(PREFIX + name.upper())
        if text is None or text == "":
            if default is msgspec.NODEFAULT:
                complaints.append(f"{PREFIX}{name.upper()} is not set")
            continue
        try:
            found[name] = msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError as error:
            complaints.append(f"{PREFIX}{name.upper()}: {error}")
    if complaints:
        raise InvalidSettings("\n".join(complaints))
    settings = Settings(**found)  # type: ignore[arg-type]
    if settings.clock_offset_seconds and not settings.demo:
        raise InvalidSettings(f"{PREFIX}CLOCK_OFFSET_SECONDS works in demos and tests only")
    return settings


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables again, for a process that we start."""
    values = msgspec.structs.asdict(settings)
    return {
        PREFIX + name.upper(): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None
    }


def _variables() -> list[tuple[str, object, object]]:
    return [(field.name, field.type, field.default) for field in msgspec.structs.fields(Settings)]
