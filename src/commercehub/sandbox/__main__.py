"""``python -m commercehub.sandbox``: the processor in one process, which leaves nothing behind however it ends."""

import argparse
import asyncio
import logging
import signal
import socket
import sqlite3
import sys
from collections.abc import Sequence
from typing import Final

from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server
from litestar import Litestar

from commercehub.sandbox.app import create_app

CONNECTIONS_MAX: Final = 2_048
"""Waiting or served at once; a lost answer holds one."""


async def serve(app: Litestar, *, host: str, port: int) -> None:
    """Answer until SIGTERM or SIGINT, and then finish what was begun."""
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=CONNECTIONS_MAX,
        log_level=LogLevels.error,
    )

    def stop() -> None:
        app.state.peer.closing.set()  # whoever waits for a lost answer must not hold up the end
        server.stop()  # type: ignore[no-untyped-call]  # granian has no annotations here

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve()


def claim_port(host: str, port: int) -> None:
    """``OSError`` where somebody listens already.

    Granian shares its port (SO_REUSEPORT): a second processor would start without a word and take every other call.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def main(arguments: Sequence[str]) -> int:
    """Read the command line and the environment, and serve."""
    parser = argparse.ArgumentParser(prog="python -m commercehub.sandbox", description="A payment processor to try.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8900)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        claim_port(options.host, options.port)
        app = create_app()
    except (ValueError, OSError, OverflowError, sqlite3.Error) as error:
        parser.error(str(error))
    asyncio.run(serve(app, host=options.host, port=options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
