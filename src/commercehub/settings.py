"""Everything that is set from outside, read once from ``HUB_*`` variables by the composition root."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

PREFIX: Final = "HUB_"
SECRET_CHARACTERS_MIN: Final = 32
METRICS_TOKEN_CHARACTERS_MIN: Final = 16

Positive = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Secret = Annotated[str, Meta(min_length=SECRET_CHARACTERS_MIN)]
MetricsToken = Annotated[str, Meta(min_length=METRICS_TOKEN_CHARACTERS_MIN)]
Level = Literal["debug", "info", "warning", "error"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class InvalidSettings(Exception):
    """Some variables cannot be used; the message has one line for each of them."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute for each ``HUB_<NAME>`` variable; what has no default must be set.

    The descriptions are those of ``docs/configuration.md``, which ``hub configuration`` prints.
    """

    database_url: Annotated[str, Meta(description="PostgreSQL 18, as `postgresql://user:password@host:port/database`.")]
    secret: Annotated[
        Secret,
        Meta(
            description="Cart tokens, pickup codes and gift-card codes are derived from it: keep it, and keep it safe."
        ),
    ]
    secret_previous: Annotated[
        Secret | None, Meta(description="For the change of `HUB_SECRET`: the other of the two, see operations.md.")
    ] = None
    redis_url: Annotated[
        str | None, Meta(description="Valkey or Redis, for the job queue. Without it jobs run on PostgreSQL alone.")
    ] = None
    sandbox_url: Annotated[str | None, Meta(description="The sandbox processor. It is play money: demos only.")] = None
    sandbox_key: Annotated[str | None, Meta(description="The sandbox processor's API key.")] = None
    sandbox_webhook_secret: Annotated[str | None, Meta(description="What the sandbox signs its webhooks with.")] = None
    stripe_secret_key: Annotated[
        str | None, Meta(description="Stripe's secret API key. With it, carts can be paid by `stripe`.")
    ] = None
    stripe_webhook_secret: Annotated[
        str | None,
        Meta(
            description="What Stripe signs its webhooks to `/v1/webhooks/stripe` with; two, with a comma, while it changes."
        ),
    ] = None
    stripe_many_captures: Annotated[
        bool, Meta(description="Whether Stripe lets your account capture one authorization in parts (multicapture).")
    ] = False
    stripe_base_url: Annotated[
        str | None, Meta(description="Another address for Stripe, as the sandbox's `/stripe`; for tests.")
    ] = None
    base_url: Annotated[str, Meta(description="Where clients reach the hub; it stands in links and problem types.")] = (
        "http://127.0.0.1:8000"
    )
    host: Annotated[str, Meta(description="The address that `hub up` listens at.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="The port that `hub up` and `hub demo` listen at.")] = 8000
    workers: Annotated[Positive, Meta(description="How many API processes `hub up` runs.")] = 2
    drain_seconds: Annotated[
        float,
        Meta(ge=0, le=600, description="How long `hub up`, told to stop, is unready and still serves before it stops."),
    ] = 5.0
    run_folder: Annotated[
        str | None, Meta(description="Set by `hub up` for its processes: where they find each other. Leave it alone.")
    ] = None
    trusted_proxies: Annotated[
        str | None,
        Meta(
            description="Networks whose `X-Forwarded-For` is believed, as `10.0.0.0/8,127.0.0.1`; rate limits need it."
        ),
    ] = None
    metrics_token: Annotated[
        MetricsToken | None,
        Meta(description="Opens `/metrics` as `Authorization: Bearer …`. Without it there is no such page."),
    ] = None
    metrics_port: Annotated[
        Port | None,
        Meta(description="For `hub work` alone: a port for its own metrics, without a token. Keep it in your network."),
    ] = None
    demo: Annotated[
        bool, Meta(description="Allow what production must not: demo keys, play money, a shifted clock.")
    ] = False
    clock_offset_seconds: Annotated[int, Meta(description="Shifts the clock, in demos and tests.")] = 0
    returns_are_inspected: Annotated[
        bool, Meta(description="Goods that come back are inspected before the money goes back.")
    ] = False
    pool_size: Annotated[Positive, Meta(description="Database connections of each process.")] = 10
    request_seconds_max: Annotated[
        float,
        Meta(
            gt=0,
            le=600,
            description="How long the hub works on a request, its body come in, before it gives up and answers 503 `busy`.",
        ),
    ] = 30.0
    rate_limit_per_second: Annotated[
        Positive, Meta(description="Requests a second that one caller may send to each API process.")
    ] = 50
    rate_limit_burst: Annotated[Positive, Meta(description="Requests that one caller may send at once.")] = 100
    log_level: Annotated[Level, Meta(description="What is logged: `debug`, `info`, `warning` or `error`.")] = "info"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may have made a token or a code that is still in use, the present secret first."""
        return (self.secret,) if self.secret_previous is None else (self.secret, self.secret_previous)

    @property
    def is_https(self) -> bool:
        """Whether clients reach the hub by HTTPS, and by nothing else from then on."""
        return self.base_url.lower().startswith("https://")

    @property
    def drain_flag(self) -> Path | None:
        """The file that is there once the processes of this hub are told to stop, if ``hub up`` started them."""
        return Path(self.run_folder, "draining") if self.run_folder else None

    @property
    def metrics_folder(self) -> Path | None:
        """Where the processes that ``hub up`` started keep their counts, for any of them to add up."""
        return Path(self.run_folder, "metrics") if self.run_folder else None

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The networks whose word on where a request came from is believed; ``ValueError`` if one is no network."""
        words = (word.strip() for word in (self.trusted_proxies or "").split(","))
        return tuple(ipaddress.ip_network(word) for word in words if word)


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
        complaints.append(f"{PREFIX}CLOCK_OFFSET_SECONDS works in demos and tests only")
    try:
        _ = settings.proxies
    except ValueError as error:
        complaints.append(f"{PREFIX}TRUSTED_PROXIES: {error}")
    if complaints:
        raise InvalidSettings("\n".join(complaints))
    return settings


def level(environ: Mapping[str, str]) -> Level:
    """What is logged, for who reads nothing else from an environment; ``InvalidSettings`` if it is no level."""
    try:
        found: Level = msgspec.convert(environ.get(f"{PREFIX}LOG_LEVEL") or "info", Level)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{PREFIX}LOG_LEVEL: {error}") from error
    return found


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables again, for a process that we start."""
    values = msgspec.structs.asdict(settings)
    return {PREFIX + name.upper(): _text(value) for name, value in values.items() if value is not None}


def describe() -> str:
    """All variables as a table in Markdown."""
    rows = []
    for name, kind, default in _variables():
        shown = "required" if default is msgspec.NODEFAULT else "" if default is None else f"`{_text(default)}`"
        told = (each.description for each in getattr(kind, "__metadata__", ()) if each.description)
        description = next(told, "")
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {description} |")
    return "\n".join(["| variable | default | what it does |", "| --- | --- | --- |", *rows])


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _variables() -> list[tuple[str, object, object]]:
    return [(field.name, field.type, field.default) for field in msgspec.structs.fields(Settings)]
