"""The composition root: settings in, a hub out, served over HTTP."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import structlog
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.types import Middleware

from commercehub import api, metrics, settings
from commercehub.api.bodies import Bodies
from commercehub.api.checkout import renderer
from commercehub.api.draining import Draining
from commercehub.api.limits import Limiter
from commercehub.api.middleware import Trace
from commercehub.api.proxies import Proxies
from commercehub.api.routing import mount, mount_options, on_exception
from commercehub.api.streams import ending_when_told
from commercehub.auth import Keyring
from commercehub.database import Database
from commercehub.settings import Settings
from commercehub.workflows.parts import Hub
from commercehub.workflows.tailing import Tailer
from payments.processors import Processor
from payments.processors.sandbox import Sandbox

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@asynccontextmanager
async def open_hub(
    given: Settings, *, on_connect: Callable[[Any], Coroutine[Any, Any, None]] | None = None
) -> AsyncIterator[Hub]:
    """A hub with its connections open."""
    database = await Database.connect(
        given.database_url,
        pool_size=given.pool_size,
        clock_offset_seconds=given.clock_offset_seconds,
        on_connect=on_connect,
    )
    processors: dict[str, Processor] = {}
    if given.stripe_secret_key:
        processors["stripe"] = _stripe(given, given.stripe_secret_key)
    if given.sandbox_url and given.sandbox_key:
        processors["sandbox"] = Sandbox(
            base_url=given.sandbox_url,
            api_key=given.sandbox_key,
            webhook_secrets=(given.sandbox_webhook_secret,) if given.sandbox_webhook_secret else (),
        )
    tailer = Tailer(database)
    try:
        yield Hub(
            settings=given,
            database=database,
            keyring=Keyring(database),
            processors=processors,
            render=renderer(given.base_url),
            tailer=tailer,
        )
    finally:
        await tailer.aclose()
        for processor in processors.values():
            await processor.aclose()
        await database.close()


def _stripe(given: Settings, api_key: str) -> Processor:
    from payments.processors.stripe import API_URL, Stripe  # noqa: PLC0415 - 30 MB that a hub without it need not load

    secrets = (given.stripe_webhook_secret or "").split(",")
    return Stripe(
        api_key=api_key,
        base_url=given.stripe_base_url or API_URL,
        return_url=given.base_url,
        webhook_secrets=tuple(secret.strip() for secret in secrets if secret.strip()),
        many_captures=given.stripe_many_captures,
    )


def create_app(
    given: Settings | None = None, *, on_connect: Callable[[Any], Coroutine[Any, Any, None]] | None = None
) -> Litestar:
    """The API as an ASGI application; its settings come from the environment unless given."""
    configured = given or settings.read(os.environ)
    configure_logging(configured.log_level)
    limiter = Limiter(per_second=configured.rate_limit_per_second, burst=configured.rate_limit_burst)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_hub(configured, on_connect=on_connect) as hub:
            holder.append(hub)
            app.state.hub = hub
            with ending_when_told(hub.tailer):
                yield
            holder.clear()

    # Routes are made before the connections are: they find the hub when they are called.
    holder: list[Hub] = []
    app = Litestar(
        route_handlers=_handlers(configured, holder, limiter),
        lifespan=[lifespan],
        middleware=_middleware(configured),
        exception_handlers={Exception: on_exception(configured.base_url)},
        openapi_config=None,
        logging_config=None,
    )
    # Litestar's own middleware begins at a route; a body may come where there is none.
    app.asgi_handler = Bodies(app.asgi_handler)
    return app


def _handlers(given: Settings, holder: list[Hub], limiter: Limiter) -> list[HTTPRouteHandler]:
    declared = api.routes(demo=given.demo, measured=given.metrics_token is not None)
    mounted = [mount(route, lambda: holder[0], limiter, base_url=given.base_url) for route in declared]
    return [*mount_options(declared), *mounted]


def _middleware(given: Settings) -> list[Middleware]:
    """What is around every request, outermost first; what is not asked for is not there."""
    around: list[Middleware] = []
    if given.proxies:
        around.append(DefineMiddleware(Proxies, trusted=given.proxies))
    if given.drain_flag is not None:
        around.append(DefineMiddleware(Draining, flag=given.drain_flag))
    return [*around, DefineMiddleware(Trace, is_https=given.is_https)]


def configure_logging(level: str) -> None:
    """One JSON line per event on standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            metrics.count_logged,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(level, logging.INFO)),
        # Line and line break in one write: several processes share the file.
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )


def _encode(event: Any, default: Callable[[Any], Any] = repr) -> bytes:
    return msgspec.json.encode(event, enc_hook=default)
