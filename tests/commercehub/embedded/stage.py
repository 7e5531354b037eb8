"""A small hub in a process of its own: ``python stage.py HOME [PROGRAM]``. It says when it is ready, and then watches.

With a PROGRAM it also starts that, as a child that is never ready.
"""

import sys
from pathlib import Path

from commercehub.embedded import Child, Supervisor, find_postgres, find_valkey, open_home, start_postgres, start_valkey


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the test reads it


def main() -> None:
    home = open_home(Path(sys.argv[1]))
    with Supervisor(home.logs) as hub:
        start_postgres(hub, home, find_postgres({}), durable=False)
        start_valkey(hub, home, find_valkey({}))
        say("ready")
        if sys.argv[2:]:
            hub.start(Child(name="late", argv=tuple(sys.argv[2:]), ready=lambda _pid: False, folder=home.run))
        hub.watch()
    say("stopped")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("interrupted")
