"""The hub with its claim broken: it looks, does not lock, and then writes whatever it saw. For a control only."""

from typing import Any

from litestar import Litestar

from commercehub import app
from inventory import reservations

LOCK = "FOR UPDATE OF position"
CHECK = ">= folded.reserve"


def create_app(*arguments: Any, **options: Any) -> Litestar:
    assert (reservations.LOCK.count(LOCK), reservations.CLAIM.count(CHECK)) == (1, 2), "break the claim in another way"
    reservations.LOCK = reservations.LOCK.replace(LOCK, "")
    reservations.CLAIM = reservations.CLAIM.replace(CHECK, f"{CHECK} - 1000000")
    return app.create_app(*arguments, **options)
