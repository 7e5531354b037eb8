"""The hub as it is, but for the time that it waits for bodies."""

from litestar import Litestar

from commercehub import app
from commercehub.api import bodies

WAIT_SECONDS = 0.4


def create_app() -> Litestar:
    bodies.IDLE_SECONDS_MAX = WAIT_SECONDS
    bodies.FORGOTTEN_SECONDS_MAX = WAIT_SECONDS
    bodies.LINGER_SECONDS_MAX = WAIT_SECONDS
    return app.create_app()
