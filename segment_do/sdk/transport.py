"""The SDK's one door to the network: a request, and what came back.

Connections are kept alive and belong to one thread. httpx is imported at the first request, on the sender's thread, so
that neither ``import segment_do`` nor a call pays for it. Redirects are not followed: credentials go where the program
said, and nowhere else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from segment_do.errors import SettingsError
from segment_do.version import __version__

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "HttpTransport", "Transport", "TransportFailed", "checked_url", "is_loopback"]

_MAX_ANSWER_BYTES: Final = 2**20
"""Answers are a few hundred bytes; of a longer one the rest is not read."""

_MAX_CONNECT_SECONDS: Final = 5.0


class Answer(NamedTuple):
    """An HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TransportFailed(Exception):
    """No answer came: whether the request was read is unknown. The message names neither headers nor body."""


class Transport(Protocol):
    """What delivery needs of the network."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout_seconds: float) -> Answer:
        """Send ``body``, return the answer whatever its status.

        Raises:
            TransportFailed: there was no whole answer.
        """
        ...

    def close(self) -> None:
        """Let the connections go. A later ``post`` opens new ones."""
        ...


class HttpTransport:
    """:class:`Transport` over httpx."""

    def __init__(self) -> None:
        self._clients: dict[bool, httpx.Client] = {}

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout_seconds: float) -> Answer:
        return self._ask("POST", url, headers, body, timeout_seconds, _MAX_ANSWER_BYTES)

    def get(self, url: str, headers: Mapping[str, str], timeout_seconds: float, max_bytes: int) -> Answer:
        """Ask for what is at an address, whatever its status; of more than ``max_bytes`` the rest is not read.

        Raises:
            TransportFailed: there was no whole answer.
        """
        return self._ask("GET", url, headers, None, timeout_seconds, max_bytes)

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        max_bytes: int,
    ) -> Answer:
        import httpx

        timeout = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _MAX_CONNECT_SECONDS))
        received = bytearray()
        try:
            with self._client(url).stream(method, url, headers=headers, content=body, timeout=timeout) as response:
                for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > max_bytes:
                        break
                return Answer(response.status_code, dict(response.headers), bytes(received))
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise TransportFailed(f"{type(error).__name__}: {error}"[:200]) from error

    def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _client(self, url: str) -> httpx.Client:
        """Loopback is reached directly and without loading certificates; everything else as the environment says."""
        import httpx

        near = is_loopback(url) and url.startswith("http:")
        client = self._clients.get(near)
        if client is None:
            client = self._clients[near] = httpx.Client(
                headers={"User-Agent": f"segment_do/{__version__}", "Accept": "application/json"},
                trust_env=not near,
                verify=not near,
                follow_redirects=False,
            )
        return client


def checked_url(url: str) -> str:
    """A platform's base URL without its trailing slash.

    Raises:
        SettingsError: it is not an http(s) URL, or holds credentials (they would end up in logs).
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError("The host must be a URL such as http://127.0.0.1:8000.")
    if parts.username is not None or parts.password is not None:
        raise SettingsError("The host must not hold credentials.", hint="Pass write_key=… or token=….")
    if parts.query or parts.fragment:
        raise SettingsError("The host must be a URL without a query or fragment.")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
