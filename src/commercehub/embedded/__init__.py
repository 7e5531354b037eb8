"""PostgreSQL, Valkey and the hub's own processes, on one machine and without Docker: found, started, watched, stopped.

It knows nothing of the hub. ``cli`` and the tests use it, and nothing else does.
"""

from commercehub.embedded.discovery import Found, find_postgres, find_valkey
from commercehub.embedded.errors import AlreadyRunning, EmbeddedError, NotFound, NotOurs, StartFailed
from commercehub.embedded.home import Account, Home, home_folder, open_home, reset, temporary_home
from commercehub.embedded.postgres import postgres_url, start_postgres
from commercehub.embedded.supervisor import Child, Supervisor
from commercehub.embedded.valkey import start_valkey

__all__ = [
    "Account",
    "AlreadyRunning",
    "Child",
    "EmbeddedError",
    "Found",
    "Home",
    "NotFound",
    "NotOurs",
    "StartFailed",
    "Supervisor",
    "find_postgres",
    "find_valkey",
    "home_folder",
    "open_home",
    "postgres_url",
    "reset",
    "start_postgres",
    "start_valkey",
    "temporary_home",
]
