"""The platform as the command line sees it: HTTP, one client a command.

Answers that are not 2xx become errors of the project's tree, by their ``code`` or else their status. Requests are sent once;
only :meth:`Client.deliver` tries again, because events carry a messageId and may safely come twice. The admin token goes to
the platform's own address alone: redirects are not followed, and no message holds it.
"""

from __future__ import annotations

import random
import time
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from segment_do.cli.options import use_home
from segment_do.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PlatformNotRunning,
    SegmentDoError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from segment_do.sdk.answers import outcomes
from segment_do.sdk.receipt import Outcome
from segment_do.sdk.retry import retry_after_seconds, wait_seconds
from segment_do.sdk.source import Place
from segment_do.sdk.transport import Answer, is_loopback
from segment_do.version import __version__

__all__ = ["Client", "connect", "path_part"]

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 60.0
_MAX_TOLD: Final = 2_000

_BY_STATUS: Final[dict[int, type[SegmentDoError]]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    413: TooLarge,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def connect(home: str | None = None) -> Client:
    """A client of the platform that runs from the data directory in use (or at SEGMENT_DO_URL).

    Raises:
        PlatformNotRunning: there is none, or it has no token here.
        SettingsError: the address or the token cannot be used.
    """
    use_home(home)
    return Client(Place.find(None, None, None))


class Client:
    """Use it with ``with``. One thread."""

    pause: Callable[[float], None] = staticmethod(time.sleep)
    """Waits between attempts; tests replace it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.url = place.address()
        self._token: str | None = None
        self._reached = False
        near = is_loopback(self.url) and self.url.startswith("http:")
        # Loopback is reached directly and without loading certificates; everything else as the environment says.
        self._http = httpx.Client(
            headers={"User-Agent": f"segment_do-cli/{__version__}", "Accept": "application/json"},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=not near,
            verify=not near,
            follow_redirects=False,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """``GET``, decoded. See :meth:`ask` for what it raises."""
        return _decoded(self.ask("GET", path, query=query))

    def post(self, path: str, told: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """``POST`` a JSON object; the answer decoded."""
        return _decoded(self.ask("POST", path, body=msgspec.json.encode(told or {})))

    def put(self, path: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """``PUT`` a JSON object; the answer decoded."""
        return _decoded(self.ask("PUT", path, body=msgspec.json.encode(told)))

    def patch(self, path: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """``PATCH`` with a JSON object; the answer decoded."""
        return _decoded(self.ask("PATCH", path, body=msgspec.json.encode(told)))

    def delete(self, path: str) -> dict[str, Any]:
        """``DELETE``, decoded."""
        return _decoded(self.ask("DELETE", path))

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        timeout_seconds: float = _ANSWER_SECONDS,
    ) -> bytes:
        """One request to the control API; the body of its 2xx answer.

        Raises:
            PlatformNotRunning: nobody listens there.
            Unavailable: it was not answered in time, the connection broke, or the platform says "later".
            SegmentDoError: what the platform answered, as the class that its code names.
        """
        headers = {"Authorization": f"Bearer {self._admin_token()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self._ask(method, path, headers, body, query, timeout_seconds).content

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], *, silence_seconds: float
    ) -> Generator[httpx.Response]:
        """An answer without end; cut off when nothing comes for so long. Raises as :meth:`ask` does."""
        timeout = httpx.Timeout(silence_seconds, connect=_CONNECT_SECONDS)
        sent = {"Authorization": f"Bearer {self._admin_token()}", "Accept": "text/event-stream", **headers}
        with (
            self._network(silence_seconds),
            self._http.stream("GET", self.url + path, params=dict(query), headers=sent, timeout=timeout) as response,
        ):
            if not response.is_success:
                response.read()
                raise self._error(response)
            yield response

    def deliver(
        self,
        path: str,
        body: bytes,
        write_key: str,
        message_ids: list[str],
        *,
        patience_seconds: float,
        on_wait: Callable[[float, SegmentDoError], None],
    ) -> list[Outcome]:
        """Send events until they are acknowledged; one outcome an event, in order (None = stored).

        429, 503 and broken connections are tried again, after what ``Retry-After`` asks for, until ``patience_seconds`` have
        passed; so is a platform that is gone, if this client has met it. ``on_wait(seconds, error)`` is told before each wait.

        Raises:
            SegmentDoError: as :meth:`ask` does. Of the events, none or all may be stored then; sending them again is safe.
        """
        headers = {
            "Authorization": "Basic " + b64encode(f"{write_key}:".encode()).decode(),
            "Content-Type": "application/json",
        }
        started = time.monotonic()
        failures = 0
        while True:
            try:
                response = self._ask("POST", path, headers, body, None, _ANSWER_SECONDS)
            except (Unavailable, PlatformNotRunning) as error:
                failures += 1
                if isinstance(error, PlatformNotRunning) and not self._reached:
                    raise
                asked = error.retry_after if isinstance(error, Unavailable) else None
                wait = wait_seconds(failures, asked, random.random())  # noqa: S311 - jitter, not a secret
                if time.monotonic() + wait - started > patience_seconds:
                    raise
                on_wait(wait, error)
                self.pause(wait)
                self.find_again()
                headers["X-Retry-Count"] = str(failures)
                continue
            return outcomes(Answer(response.status_code, {}, response.content), message_ids)

    def ensure_source(self, name: str) -> dict[str, Any]:
        """The source of that name whose identity is the name's slug, made if there is none."""
        return self.post("/api/sources", {"name": name, "ensure": True})

    def source(self, named: str) -> dict[str, Any]:
        """The source with that id, or else that name.

        Raises:
            NotFound: there is none.
            Conflict: several have the name.
        """
        sources: list[dict[str, Any]] = self.get("/api/sources")["sources"]
        for source in sources:
            if source["id"] == named:
                return source
        found = [source for source in sources if source["name"] == named]
        if not found:
            raise NotFound(f"There is no source {named!r}.", hint="`segment-do sources list` shows those there are.")
        if len(found) > 1:
            ids = ", ".join(str(source["id"]) for source in found)
            raise Conflict(f"Several sources are named {named!r}.", hint=f"Name it by its id: {ids}.")
        return found[0]

    def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        query: Mapping[str, Any] | None,
        timeout_seconds: float,
    ) -> httpx.Response:
        timeout = httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS)
        with self._network(timeout_seconds):
            response = self._http.request(
                method, self.url + path, headers=dict(headers), content=body, params=query or None, timeout=timeout
            )
        self._reached = True
        if not response.is_success:
            raise self._error(response)
        return response

    @contextmanager
    def _network(self, timeout_seconds: float) -> Generator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise PlatformNotRunning(
                f"No platform answers at {self.url}.",
                hint="Start it with `segment-do dev`, or set SEGMENT_DO_HOME to the directory of the one that runs.",
            ) from error
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"The platform at {self.url} did not answer within {timeout_seconds:g} seconds.",
                code="no_answer",
                retry_after=0,
            ) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"The connection to {self.url} broke ({type(error).__name__}).",
                hint="What was asked may have happened; look before asking again.",
                code="connection_broken",
                retry_after=0,
            ) from error

    def _error(self, response: httpx.Response) -> SegmentDoError:
        try:
            told = msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = None
        fields: dict[str, Any] = told if isinstance(told, dict) else {}
        code, message, hint = fields.get("code"), fields.get("message"), fields.get("hint")
        status = response.status_code
        kind = _by_code().get(code) if isinstance(code, str) else None
        if kind is None:
            kind = _BY_STATUS.get(status, InvalidRequest if 400 <= status <= 499 else SegmentDoError)
        if not isinstance(message, str) or not message:
            message = f"What runs at {self.url} answered {status}, and not as the platform does."
        text = message[:_MAX_TOLD]
        advice = hint[:_MAX_TOLD] if isinstance(hint, str) else ""
        named = code[:60] if isinstance(code, str) and code else None
        if issubclass(kind, Unavailable):
            after = retry_after_seconds(response.headers.get("retry-after"), time.time())
            return kind(text, hint=advice, code=named, retry_after=int(after or 0))
        return kind(text, hint=advice, code=named)

    def find_again(self) -> None:
        """Look up the address: a platform that was restarted may have another one."""
        with suppress(SegmentDoError):
            self.url = self._place.address()

    def _admin_token(self) -> str:
        if self._token is None:
            self._token = self._place.admin_token()
        return self._token


def path_part(text: str) -> str:
    """Text as one part of a path."""
    return quote(text, safe="")


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PlatformNotRunning("What answers is not the platform: its answer is not a JSON object.")
    return found


def _by_code() -> dict[str, type[SegmentDoError]]:
    found: dict[str, type[SegmentDoError]] = {}
    waiting = [SegmentDoError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__ == "segment_do.errors":
            found[kind.code] = kind
    return found
