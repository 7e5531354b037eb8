"""Behind a proxy every request comes from the proxy.

Who really calls is what our own proxies say in ``X-Forwarded-For``; nobody else's word counts.
"""

import ipaddress
from collections.abc import Sequence

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """Puts the caller's own address where the proxy's is."""

    def __init__(self, app: ASGIApp, *, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        client = scope.get("client")
        if scope["type"] == ScopeType.HTTP and client:
            said = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for")
            scope["client"] = (caller(client[0], said, self._trusted), client[1])
        await self._app(scope, receive, send)


def caller(peer: str, said: str, trusted: Sequence[Network]) -> str:
    """The nearest address that is no proxy of ours; each proxy of ours adds the one that it was called from."""
    nearest = peer
    for hop in reversed([word.strip() for word in said.split(",")]):
        if not _is_in(nearest, trusted):
            break
        try:
            nearest = str(ipaddress.ip_address(hop))
        except ValueError:
            break
    return nearest


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
