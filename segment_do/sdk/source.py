"""Where events go and under which write key. Resolved on the sender's thread, never on the caller's.

A client with a write key knows both. An agent's handle finds the platform (arguments, ``SEGMENT_DO_URL`` and
``SEGMENT_DO_TOKEN``, else ``run.json`` and ``token`` in the home directory) and makes sure that the agent has its source
there: ``POST /api/sources`` with ``ensure`` is idempotent, so any number of processes may do so at once.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import NamedTuple, Protocol

import msgspec

from segment_do.errors import PlatformNotRunning, SegmentDoError, SettingsError, Unauthorized
from segment_do.home import Home
from segment_do.sdk.answers import Refusal, refusal
from segment_do.sdk.transport import Transport, TransportFailed, checked_url, is_loopback

__all__ = ["AgentSource", "Endpoint", "FixedSource", "Place", "Source"]

_DEFAULT_HOME = "~/.segment_do"  # as in segment_do.settings, which needs pydantic
_DEFAULT_URL = "http://127.0.0.1:8000"


class Endpoint(NamedTuple):
    """A platform's base URL and the credentials of one source there. Its repr keeps the key."""

    url: str
    authorization: str

    def __repr__(self) -> str:
        return f"Endpoint(url={self.url!r})"


class Source(Protocol):
    """Gives the endpoint, or says why not (yet)."""

    def endpoint(self, transport: Transport, timeout_seconds: float, now: float) -> Endpoint | Refusal: ...

    def forget(self) -> bool:
        """What was found no longer holds. True when looking again may find something else."""
        ...

    def __str__(self) -> str:
        """Where this is, for messages; without secrets."""
        ...


class FixedSource:
    """A write key and an address that the program was given."""

    def __init__(self, write_key: str, host: str | None) -> None:
        if not isinstance(write_key, str) or not write_key.strip():
            raise SettingsError("A client needs a write key.", hint="`segment-do sources` lists them.")
        url = checked_url(host or os.environ.get("SEGMENT_DO_URL") or _DEFAULT_URL)
        self._endpoint = Endpoint(url, "Basic " + b64encode(f"{write_key.strip()}:".encode()).decode())

    def endpoint(self, transport: Transport, timeout_seconds: float, now: float) -> Endpoint | Refusal:
        return self._endpoint

    def forget(self) -> bool:
        return False

    def __str__(self) -> str:
        return self._endpoint.url


class Place(NamedTuple):
    """How an agent's handle finds its platform; taken from the arguments and the environment when it is made."""

    url: str | None
    token: str | None
    home: str

    @classmethod
    def find(cls, host: str | None, token: str | None, home: str | os.PathLike[str] | None) -> Place:
        """Arguments before the environment, an address before a home directory.

        Raises:
            SettingsError: the address is no URL, or the token cannot be one.
        """
        url = host or (None if home else os.environ.get("SEGMENT_DO_URL")) or None
        token = (token or (None if home else os.environ.get("SEGMENT_DO_TOKEN")) or "").strip()
        if not (token.isascii() and token.isprintable()):  # an HTTP library would put it into its error
            raise SettingsError("The admin token holds characters that no token has.")
        return cls(
            None if url is None else checked_url(url),
            token or None,
            os.fspath(home or os.environ.get("SEGMENT_DO_HOME") or _DEFAULT_HOME),
        )

    def address(self) -> str:
        """
        Raises:
            PlatformNotRunning: none runs from the home directory.
        """
        return self.url or checked_url(str(Home(self.home).address().get("url", "")))

    def admin_token(self) -> str:
        """
        Raises:
            SettingsError: a platform elsewhere, and no token for it. This machine's own is not sent to strangers.
            PlatformNotRunning: the home directory has none.
        """
        if self.token:
            return self.token
        if self.url is not None and not is_loopback(self.url):
            raise SettingsError(
                f"There is no admin token for {self.url}.", hint="Set SEGMENT_DO_TOKEN, or pass token=…."
            )
        return Home(self.home).token()

    def __repr__(self) -> str:
        return f"Place(url={self.url!r}, home={self.home!r})"


class AgentSource:
    """The source of one agent, made at first use and kept until the platform no longer knows it."""

    def __init__(self, agent: str, place: Place) -> None:
        self._agent = agent
        self._place = place
        self._endpoint: Endpoint | None = None

    def endpoint(self, transport: Transport, timeout_seconds: float, now: float) -> Endpoint | Refusal:
        """The agent's endpoint; asks the platform when it is not known yet."""
        if self._endpoint is not None:
            return self._endpoint
        try:
            url, token = self._place.address(), self._place.admin_token()
        except SegmentDoError as error:
            return Refusal(error, isinstance(error, PlatformNotRunning), soon=True)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        wanted = msgspec.json.encode({"name": self._agent, "identity": self._agent, "ensure": True})
        try:
            answer = transport.post(f"{url}/api/sources", headers, wanted, timeout_seconds)
        except TransportFailed as error:
            return Refusal(
                PlatformNotRunning(
                    f"The platform at {url} cannot be reached ({error}).", hint="Start it with `segment-do dev`."
                ),
                True,
                soon=is_loopback(url),
            )
        refused = refusal(answer, now)
        if refused is not None:
            if isinstance(refused.error, Unauthorized):
                told = Unauthorized(
                    f"The platform at {url} refused the admin token.",
                    hint="Set SEGMENT_DO_TOKEN, or SEGMENT_DO_HOME to the platform's own directory.",
                )
                return Refusal(told, False)
            return refused
        try:
            key = msgspec.json.decode(answer.body, type=dict[str, object]).get("writeKey")
        except (msgspec.DecodeError, UnicodeDecodeError):
            key = None
        if not isinstance(key, str) or not key:
            return Refusal(PlatformNotRunning(f"What answers at {url} is not the platform."), True)
        self._endpoint = Endpoint(url, "Basic " + b64encode(f"{key}:".encode()).decode())
        return self._endpoint

    def forget(self) -> bool:
        known, self._endpoint = self._endpoint is not None, None
        return known

    def __str__(self) -> str:
        return self._place.url or f"home {self._place.home}"
