"""The hub with its claim broken: it looks at the stock without locking it. For a control of the races only."""

from typing import Any

from litestar import Litestar

from commercehub import app
from inventory import reservations

LOCKING = "FOR UPDATE OF position"


def create_app(*arguments: Any, **options: Any) -> Litestar:
    assert LOCKING in reservations.LOCK
    reservations.LOCK = reservations.LOCK.replace(LOCKING, "")  # type: ignore[misc]
    return app.create_app(*arguments, **options)
