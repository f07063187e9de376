"""``POST /v0/{start,upload,finish,keep-alive}``: the bulk form of Segment's Object API over HTTP.

A file goes to disk as it arrives, checked on the way, and is answered when it is there; what it holds is looked at after the sync
was finished. No CORS: whoever may write whole tables is a server.

Bounds: uploads at a time, a quarter of a megabyte of each in memory; a client that dribbles is cut off, as one that takes an hour is.
Disk is touched in threads of its own, so that a slow sync of a large file holds up no event.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec
import structlog

from actors.control.model import Source
from actors.ingress.answers import Headers, Send, error_body, later, send_answer, status_of
from actors.ingress.body import ClientGone, Receive, body_too_slow, gunzip, read_body
from actors.ingress.bulk.sessions import Sessions, Upload, file_too_large
from actors.ingress.door import Door
from actors.ingress.exchange import Exchange
from actors.ingress.tracking_app import query_key
from segment_do.errors import Busy, MalformedBody, NotFound, SegmentDoError, StorageFailed, Unauthorized, Unavailable
from segment_do.settings import BulkSettings

__all__ = ["BulkEndpoint"]

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")
_Answer = tuple[int, dict[str, Any]]

_PATH: Final = re.compile(r"/v0/(?:(start)|(upload|finish|keep-alive)/([^/]{1,100}))/?")
_WRITE_BYTES: Final = 256 * 1024
_LEAST_BYTES: Final = 64 * 1024
_MOST_BODY_BYTES: Final = 64 * 1024
_THREADS: Final = 4
_GZIP: Final = frozenset({b"gzip", b"x-gzip"})


class _Finish(msgspec.Struct):
    error: str | None = None


class BulkEndpoint:
    """ASGI application; what is not for it goes ``elsewhere``. ``finished`` is called when there is something to store."""

    def __init__(
        self,
        settings: BulkSettings,
        body_timeout_seconds: float,
        door: Door,
        sessions: Sessions,
        finished: Callable[[], None],
        elsewhere: App,
    ) -> None:
        self._settings = settings
        self._body_timeout_seconds = body_timeout_seconds
        self._door = door
        self._sessions = sessions
        self._finished = finished
        self._elsewhere = elsewhere
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bulk")
        self._uploads = 0
        self.parts = 0
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = _PATH.fullmatch(scope.get("path", ""))
        if found is None:
            await self._elsewhere(scope, receive, send)
            return
        if scope["method"] != "POST":
            wrong = MalformedBody("This path takes POST.", code="method_not_allowed")
            await send_answer(send, 405, error_body(wrong), [(b"allow", b"POST")])
            return
        exchange = Exchange("bulk", False, None, scope["headers"])
        exchange.key = query_key(scope["query_string"])
        try:
            status, told = await self._answer(found[1] or found[2], found[3] or "", exchange, receive)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # told to the client, whatever it is
            self.refused += 1
            known = _told(error)
            await send_answer(send, status_of(known), error_body(known), later(known))
            return
        headers: Headers = [(b"cache-control", b"no-store")]
        await send_answer(send, status, msgspec.json.encode({"success": True, **told}), headers)

    def close(self) -> None:
        """End the threads; what they have begun is finished first."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _answer(self, what: str, sync_id: str, exchange: Exchange, receive: Receive) -> _Answer:
        source = await self._door.source(exchange)
        if source is None:  # the platform is told to accept unknown keys, but there is no sync to tell them of
            raise Unauthorized("The write key is not known.", code="unknown_write_key")
        if what == "start":
            return 201, {"sync_id": await self._there(self._sessions.start, source)}
        if what == "upload":
            return 201, {"part_id": await self._upload(source, sync_id, exchange, receive)}
        if what == "finish":
            error = await self._error(exchange, receive)
            await self._there(self._sessions.finish, source, sync_id, error)
            self._finished()
            return 202, {}
        await self._there(self._sessions.keep_alive, source, sync_id)
        return 200, {}

    async def _error(self, exchange: Exchange, receive: Receive) -> str:
        body = await read_body(receive, max_bytes=_MOST_BODY_BYTES, timeout_seconds=self._body_timeout_seconds)
        if exchange.encoding is not None and exchange.encoding.strip().lower() in _GZIP:
            body = gunzip(body, max_bytes=_MOST_BODY_BYTES)
        try:
            return msgspec.json.decode(body, type=_Finish).error or ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedBody(
                'The body must be {"error": ""}, or say in `error` why the sync is to be dropped.'
            ) from None

    async def _upload(self, source: Source, sync_id: str, exchange: Exchange, receive: Receive) -> str:
        encoding = (exchange.encoding or b"").strip().lower()
        if encoding not in (*_GZIP, b"", b"identity"):  # some clients do not say that the file is gzip; it tells itself
            raise MalformedBody("The file's content-encoding is not gzip.", code="unsupported_encoding")
        if exchange.length > self._settings.max_file_bytes:
            raise file_too_large(self._settings.max_file_bytes)
        if self._uploads >= self._settings.max_uploads:
            raise Busy("Too many files are being uploaded.", hint="Send it again later.", retry_after=5)
        self._uploads += 1
        try:
            upload = await self._there(self._sessions.upload, source, sync_id)
            try:
                await self._receive(receive, upload)
                part_id = await self._there(upload.commit)
            finally:
                # Not awaited: the task may be in the middle of being cancelled. The lock inside waits for a write in hand.
                with contextlib.suppress(RuntimeError):  # the threads have ended, and with them the process ends
                    self._threads.submit(upload.abandon)
        finally:
            self._uploads -= 1
        self.parts += 1
        return part_id

    async def _receive(self, receive: Receive, upload: Upload) -> None:
        waiting = bytearray()
        more = True
        until = asyncio.get_running_loop().time() + self._settings.upload_timeout_seconds
        while more:
            # Only the client's own time counts, not that of the disk.
            try:
                async with asyncio.timeout(self._body_timeout_seconds):
                    arrived = 0
                    while more and arrived < _LEAST_BYTES:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            raise ClientGone
                        data = message.get("body", b"")
                        arrived += len(data)
                        waiting += data
                        more = message.get("more_body", False)
            except TimeoutError:
                raise body_too_slow(self._body_timeout_seconds) from None
            if asyncio.get_running_loop().time() > until:
                raise body_too_slow(self._settings.upload_timeout_seconds)
            if waiting and (len(waiting) >= _WRITE_BYTES or not more):
                await self._there(upload.write, bytes(waiting))
                waiting.clear()

    async def _there(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _told(error: Exception) -> SegmentDoError:
    if isinstance(error, SegmentDoError):
        return error
    if isinstance(error, FileNotFoundError):  # removed between two looks at it
        return NotFound("There is no such sync any more.", hint="Start another one.", code="unknown_sync")
    if isinstance(error, OSError):
        return StorageFailed(
            f"The disk refused a write: {error.strerror or error}.",
            hint="Free some space, or look at the disk; sending again later is safe.",
            retry_after=5,
        )
    log.error("bulk request failed", exc_info=error)
    return Unavailable("The request failed inside the platform.", hint="Send it again later.", retry_after=5)
