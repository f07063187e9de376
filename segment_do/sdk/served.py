"""A request that an application has served, as an event: the rules that every middleware shares.

Promised: :meth:`Teller.tell` neither raises nor waits. What it is given to call (``skip``, ``identify``, the client itself)
may fail as it likes: that goes to the log, once a minute at most, and the request stays as it was. It is called when the
response has been sent, never before.

Never sent: query strings, bodies, cookies, and headers other than the user agent and the referrer. No web framework is
known here.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NamedTuple, TypedDict, TypeVar
from urllib.parse import unquote

from segment_do.errors import SettingsError
from segment_do.sdk.analytics import Analytics, Id

__all__ = ["CLIENT_LEFT", "FAILED", "Head", "Skip", "Teller", "TellerOptions", "anonymous_id"]

R = TypeVar("R")
"""A request as the framework has it: an ASGI scope, a WSGI environ, Django's HttpRequest."""

FAILED: Final = 500
"""Status of a request whose application raised: what its server answers."""

CLIENT_LEFT: Final = 499
"""Status of a request that was given up before it had an answer; no server sends it."""

_COOKIE: Final = "ajs_anonymous_id"
_MAX_TEXT: Final = 1_000
"""Characters kept of a path, a user agent, a referrer or an id from a cookie: a client chooses them, and an event has 32 KB."""

_TELL_FAILED_SECONDS: Final = 60.0

Skip = Iterable[str] | Callable[[R], bool]
"""Requests that are not told: beginnings of their paths, or a function of the request that says True."""

logger = logging.getLogger("segment_do")


class Head(NamedTuple):
    """What is read of a request. Empty text: there is none."""

    method: str
    path: str
    """Without the query string."""
    route: str
    """The route's template, such as ``/users/{id}``, where the framework gives one."""
    user_agent: str
    referrer: str
    cookies: str
    """The Cookie header."""
    ip: str


class TellerOptions(TypedDict, Generic[R], total=False):
    """The options of every middleware, as keyword arguments; :class:`Teller` explains each."""

    event: str
    page: bool
    skip: Skip[R]
    identify: Callable[[R], Id | None] | None
    sample: float
    ip: bool
    clock: Callable[[], float]
    chance: Callable[[], float]
    new_id: Callable[[], str]


class Teller(Generic[R]):
    """Tells one client of the requests that one application served. Threads and event loops may share it."""

    def __init__(
        self,
        analytics: Analytics,
        *,
        event: str = "Request Served",
        page: bool = False,
        skip: Skip[R] = (),
        identify: Callable[[R], Id | None] | None = None,
        sample: float = 1.0,
        ip: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        chance: Callable[[], float] = random.random,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """
        Args:
            event: name of the track event.
            page: send a page event, named by the path, instead.
            skip: see :data:`Skip`.
            identify: the user's id, None for nobody known. Called after the response, so it sees what the application
                left in the request, such as the session's user.
            sample: share of the requests that are told, 0 to 1.
            ip: send the caller's address, as the server gives it.
            clock: seconds that only grow. ``chance``: 0 up to 1, for ``sample``. ``new_id``: an anonymous id.

        Raises:
            SettingsError: ``sample`` is no share, or the client would have requests wait (``on_full="block"``).
        """
        if not 0.0 <= sample <= 1.0:
            raise SettingsError("sample must be from 0 to 1.")
        options = getattr(analytics, "options", None)
        if options is not None and options.on_full == "block":
            raise SettingsError(
                'A client with on_full="block" would hold up requests while its queue is full.',
                hint='Give the middleware one with on_full="drop", the default.',
            )
        self._analytics = analytics
        self._event = event
        self._page = page
        self._skips: Callable[[R], bool] | None = None
        self._prefixes: tuple[str, ...] = ()
        if callable(skip):
            self._skips = skip
        else:
            self._prefixes = (skip,) if isinstance(skip, str) else tuple(skip)
        self._identify = identify
        self._sample = sample
        self._ip = ip
        self.clock = clock
        self._chance = chance
        self._new_id = new_id
        self._told_failed_at = float("-inf")

    def wants(self, path: str) -> bool:
        """Whether a request is to be watched; False for a path that is skipped and outside of the sample."""
        if self._prefixes and path.startswith(self._prefixes):
            return False
        return self._sample >= 1.0 or self._chance() < self._sample

    def tell(self, request: R, read: Callable[[R], Head], status: int, seconds: float) -> None:
        """Queue the event of a request whose response was sent ``seconds`` after it came."""
        try:
            if self._skips is None or not self._skips(request):
                self._tell(request, read(request), status, seconds)
        except Exception as error:  # noqa: BLE001  # the caller's functions and client run here; the request must not feel it
            self._tell_failed(error)

    def _tell(self, request: R, head: Head, status: int, seconds: float) -> None:
        user = None if self._identify is None else self._identify(request)
        anonymous = anonymous_id(head.cookies)
        if not anonymous and user in (None, "") and self._analytics.agent is None:
            anonymous = self._new_id()  # an event has to be somebody's, and an agent's handle speaks for the agent
        path = (head.route or head.path)[:_MAX_TEXT]
        referrer = head.referrer[:_MAX_TEXT]
        properties: dict[str, Any] = {
            "method": head.method[:_MAX_TEXT],
            "path": path,
            "status": status,
            "duration_ms": round(seconds * 1_000, 3),
        }
        context: dict[str, Any] = {}
        if referrer:
            properties["referrer"] = referrer
            context["page"] = {"path": path, "referrer": referrer}
        if head.user_agent:
            context["userAgent"] = head.user_agent[:_MAX_TEXT]
        if self._ip and head.ip:
            context["ip"] = head.ip
        if self._page:
            self._analytics.page(path, properties, user_id=user, anonymous_id=anonymous or None, context=context)
        else:
            self._analytics.track(
                self._event, properties, user_id=user, anonymous_id=anonymous or None, context=context
            )

    def _tell_failed(self, error: Exception) -> None:
        now = self.clock()
        if now - self._told_failed_at >= _TELL_FAILED_SECONDS:
            self._told_failed_at = now
            logger.warning("a request was served but could not be told", exc_info=error)


def anonymous_id(cookies: str) -> str:
    """The visitor's id that analytics.js keeps in a cookie, "" for none. Older versions store it as JSON, in quotes."""
    if _COOKIE not in cookies:
        return ""
    for cookie in cookies.split(";"):
        name, _, value = cookie.partition("=")
        if name.strip() == _COOKIE:
            return unquote(value.strip()).strip('"')[:_MAX_TEXT]
    return ""
