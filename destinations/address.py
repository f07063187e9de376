"""Where a destination may be: which URLs are lawful, and which addresses the guard refuses. Pure; no look-ups.

The guard judges addresses, never names or spellings: whatever a name, a decimal, octal or shortened form turns into
is looked up first, checked here, and then connected to as that very address (``destinations/http.py``). So a name
that answers differently the second time gains nothing.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from segment_do.errors import InvalidRequest

__all__ = ["check_url", "is_refused"]

MAX_URL_CHARS = 2048

# Ranges that some supported Python's ``is_global`` lets through.
_REFUSED_4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))
_REFUSED_6 = tuple(
    map(
        IPv6Network, ("64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10")
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")


def is_refused(address: str) -> bool:
    """Whether the guard refuses this IP address (text, as a look-up gives it).

    Refused: loopback, private, shared, link-local (with the clouds' metadata services), multicast, reserved and
    documentation ranges, and every IPv6 form that carries such an IPv4 address inside.
    """
    try:
        found = ip_address(address.split("%", 1)[0])
    except ValueError:
        return True
    if isinstance(found, IPv4Address):
        return _is_refused_4(found)
    inner = _carried(found)
    if inner is not None:
        return _is_refused_4(inner)
    return not found.is_global or found.is_multicast or any(found in network for network in _REFUSED_6)


def check_url(url: object, *, allow_private_addresses: bool) -> str:
    """The URL, if a destination may have it.

    Raises:
        InvalidRequest: not an absolute http(s) URL, or with credentials in it, or (where the guard is on) with an
            address that it refuses. Names are not looked up here: the guard does that at every connection.
    """
    if not isinstance(url, str) or len(url) > MAX_URL_CHARS:
        raise InvalidRequest(f"A URL is text of at most {MAX_URL_CHARS} characters.")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequest("The URL cannot be read.", hint="Write it like https://example.com/hook.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidRequest("The URL must start with https:// or http:// and name a host.")
    if parsed.userinfo:
        raise InvalidRequest(
            "The URL must not hold a user or password.", hint="Use an Authorization header: headers are kept secret."
        )
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise InvalidRequest("The URL's port must be 1 to 65535.")
    if not allow_private_addresses and _is_address(parsed.host) and is_refused(parsed.host):
        raise InvalidRequest(
            "The URL's address is loopback, private or reserved, which is switched off here.",
            hint="An operator can allow it: delivery.allow_private_addresses.",
        )
    return url


def _is_address(host: str) -> bool:
    try:
        ip_address(host.split("%", 1)[0])
    except ValueError:
        return False
    return True


def _is_refused_4(address: IPv4Address) -> bool:
    return not address.is_global or address.is_multicast or any(address in network for network in _REFUSED_4)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a tunnel or translator would take this one to, if any."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
