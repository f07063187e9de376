"""The HTTP door: Segment's tracking API as a plain ASGI application.

The order of a request: source by its write key → body, bounded → events, each checked by itself → journal → 200 once
they are on disk. A 200 is never sent before that, and nothing but this process and its disk is asked on the way.
Whatever is not tracking goes to ``elsewhere`` (the control API).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import structlog
import uuid_utils

from actors.control.model import Source
from actors.ingress.answers import (
    OK,
    Headers,
    Send,
    accepted_body,
    cors,
    error_body,
    send_answer,
    status_of,
)
from actors.ingress.body import BodyReader, ClientGone, Receive, gunzip
from actors.ingress.journal import Journal, entry
from actors.ingress.keys import Keys, basic_key
from segment_do.errors import Busy, MalformedBody, NotReady, SegmentDoError, Unauthorized, Unavailable
from segment_do.events.intake import Caller, Intake, Limits, batch_intake, body_write_key, single_intake
from segment_do.settings import IngressSettings

__all__ = ["Counts", "Door"]

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BATCH: Final = "batch"
_PATHS: Final = {
    **{f"/v1/{name}": name for name in ("track", "identify", "page", "screen", "group", "alias", "batch")},
    "/v1/import": _BATCH,
}
_PATHS.update({f"{path}/": kind for path, kind in list(_PATHS.items())})


class Counts:
    """What the door has done since it opened, for /metrics."""

    __slots__ = ("events", "failed", "refused_requests", "rejected_events", "requests", "unknown_keys")

    def __init__(self) -> None:
        self.requests = self.events = self.rejected_events = 0
        self.refused_requests = self.unknown_keys = self.failed = 0

    def as_dict(self) -> dict[str, int]:
        """Names as in /api/status."""
        return {name: getattr(self, name) for name in self.__slots__}


class Door:
    """ASGI application. One event loop uses it."""

    def __init__(
        self,
        settings: IngressSettings,
        keys: Keys,
        journal: Journal,
        elsewhere: App,
        *,
        clock: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = lambda: str(uuid_utils.uuid7()),
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._journal = journal
        self._elsewhere = elsewhere
        self._clock = clock
        self._new_id = new_id
        self._limits = Limits(settings.max_event_bytes, settings.max_batch_events)
        self._inflight_bytes = 0
        self._bodies = BodyReader(max_bytes=settings.max_body_bytes, timeout_seconds=settings.body_timeout_seconds)
        self._sweeping = asyncio.get_running_loop().create_task(self._bodies.sweep())
        self.counts = Counts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = _PATHS.get(scope.get("path", ""))
        if kind is None:
            await self._elsewhere(scope, receive, send)
            return
        authorization = origin = encoding = requested = forwarded = None
        length = 0
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length":
                length = int(value) if value.isdigit() else 0
            elif name == b"content-encoding":
                encoding = value
            elif name == b"origin":
                origin = value
            elif name == b"access-control-request-headers":
                requested = value
            elif name == b"x-forwarded-for":
                forwarded = value
        headers = cors(origin, (requested or b"") if scope["method"] == "OPTIONS" else None) if origin else None
        if scope["method"] != "POST":
            await self._not_a_post(scope["method"], send, headers)
            return
        self.counts.requests += 1
        reserved = min(length, self._settings.max_body_bytes) or 1024
        self._inflight_bytes += reserved
        try:
            self._check_inflight()
            body = await self._bodies.read(receive)
            if encoding is not None:
                body = self._decoded(body, encoding)
            source = self._keys.by_header(authorization) if authorization is not None else None
            if source is None:
                source = await self._source(authorization, body)
                if source is None:
                    self.counts.unknown_keys += 1
                    await send_answer(send, 200, OK, headers)
                    return
            ip = self._address(scope, forwarded)
            answer = await self._store(kind, body, source, ip, origin is not None)
        except SegmentDoError as error:
            self.counts.refused_requests += 1
            if isinstance(error, Unavailable):
                headers = [*(headers or []), *_retry_after(error)]
            await send_answer(send, status_of(error), error_body(error), headers)
        except ClientGone:
            self.counts.failed += 1
        except Exception:
            # Nothing should come here; if it does, the client hears 503 and sends again rather than lose events.
            self.counts.failed += 1
            log.exception("request failed", path=scope["path"])
            failed = Unavailable("The request failed inside the platform.", hint="Send it again later.", retry_after=5)
            await send_answer(send, 503, error_body(failed), [*(headers or []), *_retry_after(failed)])
        else:
            await send_answer(send, 200, answer, headers)
        finally:
            self._inflight_bytes -= reserved

    async def _store(self, kind: str, body: bytes, source: Source, ip: str | None, client_side: bool) -> bytes:
        caller = Caller(source.id, ip, client_side)
        received_at = self._clock() // 1000
        intake: Intake
        if kind is _BATCH:
            intake = batch_intake(body, caller, received_at, self._new_id, self._limits)
        else:
            intake = single_intake(body, kind, caller, received_at, self._new_id, self._limits)
        if intake.events:
            framed = entry(source.identity.encode(errors="surrogatepass"), intake.events, intake.pack)
            await self._journal.append(source.identity, intake.events, framed)
        self.counts.events += intake.events
        if not intake.refused:
            return OK
        self.counts.rejected_events += len(intake.refused)
        return accepted_body(intake.refused)

    async def _source(self, authorization: bytes | None, body: bytes) -> Source | None:
        """The sender's source; None where an unknown key is to be answered as if it were known."""
        if not self._keys.loaded:
            raise NotReady("The platform is starting: write keys are not loaded yet.", retry_after=1)
        key = basic_key(authorization) if authorization is not None else None
        source = await self._keys.resolve(key, authorization) if key else None
        if source is None:
            in_body = body_write_key(body)
            if in_body and in_body != key:
                source = await self._keys.resolve(in_body)
                key = key or in_body
        if source is None and (self._settings.unknown_key == "refuse" or not key):
            raise Unauthorized(
                "The write key is missing." if not key else "The write key is not known.",
                hint="Send it as the user name of Basic authentication or as writeKey in the body;"
                " `segment-do sources list` shows the keys there are.",
                code="missing_write_key" if not key else "unknown_write_key",
            )
        return source

    def _check_inflight(self) -> None:
        if self._inflight_bytes > self._settings.max_inflight_bytes:
            raise Busy("Too many requests are in flight.", retry_after=1)

    def _decoded(self, body: bytes, encoding: bytes) -> bytes:
        name = encoding.strip().lower()
        if name in (b"gzip", b"x-gzip"):
            return gunzip(body, max_bytes=self._settings.max_body_bytes)
        if name in (b"identity", b""):
            return body
        raise MalformedBody("The body's content-encoding is not gzip.", code="unsupported_encoding")

    def _address(self, scope: Scope, forwarded: bytes | None) -> str | None:
        if forwarded is not None and self._settings.trust_forwarded_for:
            return forwarded.split(b",")[0].strip().decode("latin-1")[:64]
        client = scope.get("client")
        return client[0] if client else None

    async def _not_a_post(self, method: str, send: Send, headers: Headers | None) -> None:
        if method == "OPTIONS":
            await send_answer(send, 200, b"{}", headers)
            return
        error = MalformedBody("This path takes POST.", code="method_not_allowed")
        await send_answer(send, 405, error_body(error), [*(headers or []), (b"allow", b"POST, OPTIONS")])


def _retry_after(error: Unavailable) -> Headers:
    seconds = str(error.retry_after).encode()
    return [(b"retry-after", seconds), (b"x-ratelimit-reset", seconds)]
