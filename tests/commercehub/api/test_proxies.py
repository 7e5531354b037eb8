"""Whose word counts on where a request came from."""

import ipaddress

import pytest

from commercehub.api.proxies import caller

OURS = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "said", "who"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("fd00::1", "2001:DB8::7", "2001:db8::7"),
        ("a socket", "198.51.100.1", "a socket"),
    ],
    ids=[
        "a stranger's word counts for nothing",
        "a proxy's word counts",
        "what the caller made up stands further off",
        "through two proxies",
        "from within",
        "a proxy that says nothing",
        "a proxy that talks nonsense",
        "IPv6, as it is written",
        "no address at all",
    ],
)
def test_the_caller_is_the_nearest_address_that_is_no_proxy_of_ours(peer: str, said: str, who: str) -> None:
    assert caller(peer, said, OURS) == who
