"""Middleware for Django, under WSGI and under ASGI: each HTTP request becomes an event.

Make a class of your own and name it first in ``MIDDLEWARE``::

    class Served(AnalyticsMiddleware):
        analytics = Analytics(write_key="…")
        skip = ("/health",)

        def identify(self, request):
            return request.user.pk if request.user.is_authenticated else None

Promised: the event is queued when Django closes the response, which is after its last part was sent, streaming ones
included. What a view raises Django answers with 500, and that is what is told. Nothing here can fail a request or have
it wait (:mod:`segment_do.sdk.served`). Neither Django nor its settings are imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from segment_do.errors import SettingsError
from segment_do.sdk.analytics import Analytics, Id
from segment_do.sdk.served import CLIENT_LEFT, FAILED, Head, Skip, Teller

__all__ = ["AnalyticsMiddleware"]


class AnalyticsMiddleware:
    """Subclass it and set ``analytics``; the other attributes are the options of :class:`~segment_do.sdk.served.Teller`.

    ``skip`` may be a method of the request too.
    """

    sync_capable = True
    async_capable = True

    analytics: ClassVar[Analytics]
    event: ClassVar[str] = "Request Served"
    page: ClassVar[bool] = False
    skip: Skip[Any] = ()
    sample: ClassVar[float] = 1.0
    ip: ClassVar[bool] = False

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        if not hasattr(self, "analytics"):
            raise SettingsError(
                f"{type(self).__name__} has no client.", hint="Make a subclass with `analytics = Analytics(…)`."
            )
        self.get_response = get_response
        self._teller: Teller[Any] = Teller(
            self.analytics,
            event=self.event,
            page=self.page,
            skip=self.skip,
            identify=self.identify,
            sample=self.sample,
            ip=self.ip,
        )
        self._awaited = iscoroutinefunction(get_response)
        if self._awaited:
            markcoroutinefunction(self)

    def identify(self, request: Any) -> Id | None:
        """The user's id, None for nobody known. Called after the response; under ASGI in a thread, as views are."""
        return None

    def __call__(self, request: Any) -> Any:
        """Answer one request: a response, or under ASGI an awaitable of one."""
        watched = self._teller.wants(request.path)
        if self._awaited:
            return self._answer(request) if watched else self.get_response(request)
        if not watched:
            return self.get_response(request)
        began = self._teller.clock()
        try:
            response = self.get_response(request)
        except Exception:
            self._end(request, FAILED, began)
            raise
        return self._until_closed(request, response, began)

    async def _answer(self, request: Any) -> Any:
        began = self._teller.clock()
        try:
            answering: Awaitable[Any] = self.get_response(request)
            response = await answering
        except Exception:
            self._end(request, FAILED, began)
            raise
        except BaseException:  # cancelled: the client has gone
            self._end(request, CLIENT_LEFT, began)
            raise
        return self._until_closed(request, response, began)

    def _until_closed(self, request: Any, response: Any, began: float) -> Any:
        close, told = response.close, False

        def closed() -> None:
            nonlocal told
            try:
                close()
            finally:
                if not told:
                    told = True
                    self._end(request, response.status_code, began)

        response.close = closed
        return response

    def _end(self, request: Any, status: int, began: float) -> None:
        self._teller.tell(request, _head, status, self._teller.clock() - began)


def _head(request: Any) -> Head:
    route = getattr(getattr(request, "resolver_match", None), "route", None)
    meta = request.META
    return Head(
        method=request.method or "",
        path=request.path,
        route=f"/{route}" if isinstance(route, str) and route else "",
        user_agent=meta.get("HTTP_USER_AGENT", ""),
        referrer=meta.get("HTTP_REFERER", ""),
        cookies=meta.get("HTTP_COOKIE", ""),
        ip=meta.get("REMOTE_ADDR", "") or "",
    )
