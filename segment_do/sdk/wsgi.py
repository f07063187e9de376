"""Middleware for WSGI applications (Flask, Django, any other): each HTTP request becomes an event.

    app.wsgi_app = AnalyticsMiddleware(app.wsgi_app, analytics)    # Flask
    application = AnalyticsMiddleware(application, analytics)      # any other

Promised: the response's parts are passed on one by one when the server asks for them, and its ``close`` is called when the
server calls ours. The event is queued after that, when the response has been sent. A file that the server is to send
by itself (``wsgi.file_wrapper``) is handed to it as it is; its event is queued at that moment, because nothing tells
when it was sent. What the application raises is raised again. Nothing here can fail a request or have it wait
(:mod:`segment_do.sdk.served`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Unpack

from segment_do.sdk.analytics import Analytics
from segment_do.sdk.served import CLIENT_LEFT, FAILED, Head, Teller, TellerOptions

__all__ = ["AnalyticsMiddleware"]

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class AnalyticsMiddleware:
    """Wraps an application. Options: :class:`~segment_do.sdk.served.Teller`; functions get the request's environ."""

    def __init__(self, app: App, analytics: Analytics, **options: Unpack[TellerOptions[Environ]]) -> None:
        self.app = app
        self._teller: Teller[Environ] = Teller(analytics, **options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if not self._teller.wants(_path(environ)):
            return self.app(environ, start_response)
        request = _Request(self._teller, environ, start_response)
        try:
            body = self.app(environ, request.start)
        except Exception:
            request.end(FAILED)
            raise
        if _is_file(body, environ):
            request.end(request.status or FAILED)
            return body
        return _Body(body, request)


class _Request:
    """One request under way."""

    __slots__ = ("_began", "_ended", "_environ", "_start_response", "_teller", "route", "status")

    def __init__(self, teller: Teller[Environ], environ: Environ, start_response: StartResponse) -> None:
        self._teller = teller
        self._environ = environ
        self._start_response = start_response
        self._ended = False
        self.status = 0
        self.route = ""
        self._began = teller.clock()

    def start(self, status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
        """``start_response`` as the application sees it."""
        write = self._start_response(status, headers, *error)
        # Flask's request is in the environ until its view has answered; the rule that matched is the route's template.
        rule = getattr(getattr(self._environ.get("werkzeug.request"), "url_rule", None), "rule", "")
        self.route = rule if isinstance(rule, str) else ""
        code = status[:3]
        self.status = int(code) if code.isdigit() else 0
        return write

    def end(self, status: int) -> None:
        """Tell it, once."""
        if not self._ended:
            self._ended = True
            self._teller.tell(self._environ, self._head, status, self._teller.clock() - self._began)

    def _head(self, environ: Environ) -> Head:
        return Head(
            method=environ.get("REQUEST_METHOD", ""),
            path=_path(environ),
            route=environ.get("SCRIPT_NAME", "") + self.route if self.route else "",
            user_agent=environ.get("HTTP_USER_AGENT", ""),
            referrer=environ.get("HTTP_REFERER", ""),
            cookies=environ.get("HTTP_COOKIE", ""),
            ip=environ.get("REMOTE_ADDR", ""),
        )


class _Body:
    """The response's parts on their way to the server."""

    __slots__ = ("_body", "_parts", "_request")

    def __init__(self, body: Iterable[bytes], request: _Request) -> None:
        self._body = body
        self._request = request
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        try:
            if self._parts is None:
                self._parts = iter(self._body)
            return next(self._parts)
        except StopIteration:
            raise
        except Exception:
            self._request.end(FAILED)
            raise

    def __len__(self) -> int:
        """Of a body with a length: servers make the Content-Length of a single part from it."""
        return len(self._body)  # type: ignore[arg-type]  # raises TypeError for a stream, as it would by itself

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """The server has sent what it is going to send."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        except Exception:
            self._request.end(FAILED)
            raise
        finally:
            # Without a status nobody asked for a part: a generator's start_response never ran.
            self._request.end(self._request.status or CLIENT_LEFT)


def _is_file(body: Iterable[bytes], environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


def _path(environ: Environ) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
