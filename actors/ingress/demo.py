"""The page at ``/demo``: an event's way through the platform, to be seen and tried in a browser of this machine.

It stands beside the control API and opens none of it: no answer here carries the admin token, nothing can be changed but that
the one source ``demo-page`` is made, and the events, counts and profiles told are that source's alone. The SQL is fixed; the only
thing a request can choose is the id of a profile. Whoever asks from another machine, through a proxy that says so, under another
host name (a rebound DNS name) or from another origin's page gets what is there without a demo: 404. See ``Settings.demo_served``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlsplit

import msgspec
from starlette.responses import StreamingResponse

from actors.control.model import Source
from actors.ingress.answers import Headers, Send, error_body, later, send_answer, status_of
from actors.ingress.body import Receive
from actors.ingress.cdn import OWN_NAME, OWN_SCRIPTS, script_path
from actors.ingress.tracking_app import App, Scope
from segment_do.errors import Busy, InvalidRequest, NotFound, SegmentDoError
from segment_do.settings import BrowserSettings

__all__ = ["Demo", "DemoPlatform"]

_NAME: Final = "demo-page"  # of the source and of its identity
_FOLDER: Final = Path(__file__).parent / "demo_page"
_PAGE: Final = "/demo"
_SDK: Final = "/demo/analytics.min.js"  # for where the CDN's paths have an SDK of the operator's
_KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_LOOPBACK_HOST: Final = re.compile(rb"^(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?$", re.IGNORECASE)
_PROXIED: Final = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)
_WRONG_METHOD: Final = "method_not_allowed"
_IDS: Final = frozenset({"user_id", "anonymous_id"})
_LONGEST_ID: Final = 200
_MOST_QUESTIONS: Final = 4  # at once; more are answered 429
_MOST_STREAMS: Final = 16  # open at once, each a tab that is looked at; more are answered 429
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    b"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_GUARDED: Final[Headers] = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", _POLICY),
]

_COUNTS: Final = """\
SELECT coalesce(event, name, type) AS event,
       count(*) AS count,
       sum(TRY_CAST(properties ->> 'revenue' AS DOUBLE)) AS revenue
FROM events WHERE source_id = '{source_id}'
GROUP BY ALL ORDER BY count DESC, event LIMIT 6"""
_RECENT: Final = """\
SELECT message_id, type, event, name, category, group_id, user_id, anonymous_id, timestamp, received_at,
       properties, traits, context
FROM events WHERE source_id = '{source_id}' ORDER BY "offset" DESC LIMIT 25"""


class DemoPlatform(Protocol):
    """As much of the platform as the page may use."""

    async def sources(self) -> list[Source]: ...
    async def create_source(self, name: str, identity: str | None, ensure: bool) -> Source: ...
    async def sql(self, sql: str) -> dict[str, Any]: ...
    async def profile(self, identity: str, kind: str, value: str) -> dict[str, Any]: ...
    def tail(self, source: str | None, identity: str | None, after: int | None) -> AsyncIterator[bytes]: ...


class _File(NamedTuple):
    kind: str
    text: str


class Demo:
    """ASGI application; what is not for it, or not from here, goes ``elsewhere``. Streams end when ``stop`` is set."""

    def __init__(self, settings: BrowserSettings, platform: DemoPlatform, stop: asyncio.Event, elsewhere: App) -> None:
        self._settings = settings
        self._platform = platform
        self._stop = stop
        self._elsewhere = elsewhere
        self._source: Source | None = None
        self._questions = 0
        self._streams = 0
        self._page = (_FOLDER / "page.html").read_text()
        self._files = {
            f"{_PAGE}/{path.name}": _File(_KINDS[path.suffix], path.read_text())
            for path in sorted(_FOLDER.iterdir())
            if path.suffix in _KINDS
        }
        self._files[_SDK] = _File("text/javascript", (OWN_SCRIPTS / OWN_NAME).read_text())
        self._asked: dict[str, Callable[[Scope], Awaitable[Any]]] = {
            f"{_PAGE}/recent": self._recent,
            f"{_PAGE}/profile": self._profile,
            f"{_PAGE}/sql": self._sql,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope.get("path", "")
        if not (path == _PAGE or path.startswith(f"{_PAGE}/")) or not _from_here(scope):
            await self._elsewhere(scope, receive, send)
            return
        try:
            if scope["method"] not in ("GET", "HEAD"):
                raise InvalidRequest("This path takes GET.", code=_WRONG_METHOD)
            if path == _PAGE:
                await _send_text(send, _File("text/html", await self._filled_page(scope)))
            elif file := self._files.get(path):
                await _send_text(send, file)
            elif question := self._asked.get(path):
                await send_answer(send, 200, msgspec.json.encode(await self._bounded(question, scope)), _GUARDED)
            elif path == f"{_PAGE}/events":
                await self._stream(scope, receive, send)
            else:
                raise NotFound("There is nothing at this path.")
        except SegmentDoError as error:
            if error.code == _WRONG_METHOD:
                await send_answer(send, 405, error_body(error), [*_GUARDED, (b"allow", b"GET")])
            else:
                await send_answer(send, status_of(error), error_body(error), [*_GUARDED, *later(error)])

    async def _filled_page(self, scope: Scope) -> str:
        # Asked anew for each page: the source may have been deleted, or have another key by now.
        self._source = source = await self._platform.create_source(_NAME, _NAME, True)
        host = dict(scope["headers"])[b"host"].decode("latin-1")
        page = self._page
        for name, value in (
            ("origin", f"{scope.get('scheme', 'http')}://{host}"),
            ("script", _SDK if self._settings.script_directory else script_path(source.write_key)),
            ("write_key", source.write_key),
            ("source_name", source.name),
            ("sql", _COUNTS.format(source_id=source.id)),
        ):
            page = page.replace(f"{{{{{name}}}}}", escape(value))
        return page

    async def _bounded(self, question: Callable[[Scope], Awaitable[Any]], scope: Scope) -> Any:
        if self._questions >= _MOST_QUESTIONS:
            raise Busy("Too many questions at once.", hint="Close a few of the page's tabs.")
        self._questions += 1
        try:
            return await question(scope)
        finally:
            self._questions -= 1

    async def _own(self) -> Source:
        if self._source is None:
            self._source = await self._platform.create_source(_NAME, _NAME, True)
        return self._source

    async def _recent(self, _scope: Scope) -> dict[str, Any]:
        """``{"events": [{column: value}]}``, newest first."""
        found = await self._platform.sql(_RECENT.format(source_id=(await self._own()).id))
        return {"events": [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]}

    async def _sql(self, _scope: Scope) -> dict[str, Any]:
        """``{"columns", "rows", "elapsedMs"}`` of the query that the page shows."""
        found = await self._platform.sql(_COUNTS.format(source_id=(await self._own()).id))
        return {name: found[name] for name in ("columns", "rows", "elapsedMs")}

    async def _profile(self, scope: Scope) -> dict[str, Any]:
        """``{"profile": … or null}`` of one id, as ``?user_id=ada``."""
        try:
            asked = parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=1)
        except ValueError:
            asked = []
        kind, value = asked[0] if asked else ("", "")
        if kind not in _IDS or len(value) > _LONGEST_ID:
            raise InvalidRequest("A profile is named by one id, as in ?user_id=ada.")
        source = await self._own()
        if any(each.identity == source.identity and each.id != source.id for each in await self._platform.sources()):
            raise NotFound("Another source feeds the same identity: its profiles are not shown here.")
        try:
            return {"profile": await self._platform.profile(source.identity, kind, value)}
        except NotFound:
            return {"profile": None}  # nothing is wrong: the id was not seen yet

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Server-sent events: ``connected`` once what follows is whole, then an ``event`` for each one stored."""
        if scope["method"] != "GET":
            raise InvalidRequest("This path takes GET.", code=_WRONG_METHOD)
        source = await self._own()
        if self._streams >= _MOST_STREAMS:
            raise Busy("Too many live views at once.", hint="Close a few of the page's tabs.", retry_after=5)
        self._streams += 1
        try:
            live = self._platform.tail(source.id, None, None)
            headers = {name.decode(): value.decode() for name, value in _GUARDED}
            await StreamingResponse(
                _live(live, self._stop), media_type="text/event-stream", headers=headers
            )(scope, receive, send)  # fmt: skip
        finally:
            self._streams -= 1


async def _live(tail: AsyncIterator[bytes], stop: asyncio.Event) -> AsyncIterator[bytes]:
    stopping = asyncio.ensure_future(stop.wait())
    coming: asyncio.Future[bytes] | None = None
    told = False
    try:
        while not stop.is_set():
            coming = asyncio.ensure_future(anext(tail))
            either: set[asyncio.Future[Any]] = {coming, stopping}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                yield coming.result()
                if not told:
                    told = True
                    yield b"event: connected\ndata: {}\n\n"
    finally:
        stopping.cancel()
        if coming is not None:
            coming.cancel()


def _from_here(scope: Scope) -> bool:
    """A browser on this machine, under a loopback name, and no page of another origin behind it."""
    given = dict(scope["headers"])
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or not _LOOPBACK_HOST.match(hosts[0]) or _PROXIED & given.keys() or not _is_local(scope):
        return False
    here = f"{scope.get('scheme', 'http')}://{hosts[0].decode('latin-1')}".lower()
    site = given.get(b"sec-fetch-site")
    if scope["path"] == _PAGE and given.get(b"origin") is None:
        # May be opened by a link from anywhere, as a page of its own; what it shows, only it can read.
        opened = (given.get(b"sec-fetch-mode"), given.get(b"sec-fetch-dest")) == (b"navigate", b"document")
        return opened or site in (None, b"none", b"same-origin")
    origins = [given[name].decode("latin-1") for name in (b"origin", b"referer") if name in given]
    return site in (None, b"same-origin") and all(_origin(each) == here for each in origins)


def _is_local(scope: Scope) -> bool:
    try:
        address = ipaddress.ip_address(scope["client"][0])
    except (KeyError, TypeError, ValueError):
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _origin(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()


async def _send_text(send: Send, file: _File) -> None:
    body = file.text.encode()
    headers: Headers = [
        (b"content-type", f"{file.kind}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),
        *_GUARDED,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
