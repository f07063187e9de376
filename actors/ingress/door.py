"""The door: what becomes of a tracking request, by Segment's contract. No socket and no framework in here.

The order of a request: its head is admitted, within a bound → its body → source by its write key → events, each checked by
itself → journal → 200 once they are on disk. A 200 is never sent before that, and nothing but this process and its
disk is asked on the way. Everything is a callback, no task a request: at this rate a task costs as much as the checks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import uuid_utils

from actors.control.model import Source
from actors.ingress.answers import OK, Headers, accepted_body, cors, error_body, status_of
from actors.ingress.bearer import Bearers
from actors.ingress.body import gunzip
from actors.ingress.exchange import Exchange
from actors.ingress.journal import Journal
from actors.ingress.keys import Keys, basic_key
from segment_do.errors import Busy, MalformedBody, NotReady, SegmentDoError, StorageFailed, Unauthorized, Unavailable
from segment_do.events.intake import Caller, Intake, Limits, Refused, batch_intake, body_write_key, single_intake
from segment_do.events.objects import object_intake
from segment_do.settings import IngressSettings

__all__ = ["Counts", "Door"]

log = structlog.get_logger(__name__)


class Counts:
    """What the door has done since it opened, for /metrics."""

    __slots__ = (
        "events",
        "failed",
        "refused_requests",
        "rejected_events",
        "requests",
        "retried_requests",
        "unknown_keys",
    )

    def __init__(self) -> None:
        self.requests = self.retried_requests = self.events = self.rejected_events = 0
        self.refused_requests = self.unknown_keys = self.failed = 0

    def as_dict(self) -> dict[str, int]:
        """Names as in /api/status."""
        return {name: getattr(self, name) for name in self.__slots__}


class Door:
    """One event loop uses it. Each exchange: :meth:`admit`, then one of :meth:`take`, :meth:`refuse` and :meth:`leave`."""

    def __init__(
        self,
        settings: IngressSettings,
        keys: Keys,
        journal: Journal,
        bearers: Bearers,
        *,
        clock: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = lambda: str(uuid_utils.uuid7()),
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._journal = journal
        self._bearers = bearers
        self._clock = clock
        self._new_id = new_id
        self._limits = Limits(settings.max_event_bytes, settings.max_batch_events)
        self._asking: set[asyncio.Task[Any]] = set()
        self.inflight_bytes = 0
        """Bodies being read or waiting for the disk, by what their heads announced."""
        self.counts = Counts()

    def admit(self, exchange: Exchange) -> bool:
        """Keep room for the body that follows. False: there is none, and 429 is answered."""
        self.counts.requests += 1
        if exchange.retries:
            self.counts.retried_requests += 1
        exchange.reserved = min(exchange.length, self._settings.max_body_bytes) or 1024
        self.inflight_bytes += exchange.reserved
        return self._has_room(exchange)

    def grow(self, exchange: Exchange, size: int) -> bool:
        """A body has turned out larger than its head said, which of a chunked one says nothing. False: as :meth:`admit`."""
        self.inflight_bytes += size - exchange.reserved
        exchange.reserved = size
        return self._has_room(exchange)

    def take(self, exchange: Exchange, body: bytes) -> None:
        """Store what the body holds, and answer when that is on disk. The client may have gone meanwhile."""
        try:
            body = self.decoded(exchange, body)
            source = self._known_source(exchange, body)
            if source is None:
                asking = asyncio.get_running_loop().create_task(self._ask(exchange, body))
                self._asking.add(asking)
                asking.add_done_callback(self._asking.discard)
                return
            self._store(exchange, body, source)
        except Exception as error:  # noqa: BLE001  # told to the client; nothing of it is stored
            self.refuse(exchange, error)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer that nothing of it was stored."""
        headers = cors(exchange.origin) if exchange.origin is not None else []
        if isinstance(error, SegmentDoError):
            self.counts.refused_requests += 1
        else:
            # Nothing should come here; if it does, the client hears 503 and sends again rather than lose events.
            self.counts.failed += 1
            log.error("request failed", kind=exchange.kind, exc_info=error)
            error = Unavailable("The request failed inside the platform.", hint="Send it again later.", retry_after=5)
        if isinstance(error, Unavailable):
            seconds = str(error.retry_after).encode()
            headers += [(b"retry-after", seconds), (b"x-ratelimit-reset", seconds)]
        self.answer(exchange, status_of(error), error_body(error), headers)

    def leave(self, exchange: Exchange) -> None:
        """The client went away before its body had come; there is nobody to answer."""
        self.counts.failed += 1
        self.inflight_bytes -= exchange.reserved
        exchange.reserved = 0

    def decoded(self, exchange: Exchange, body: bytes) -> bytes:
        """The body with its content-encoding undone.

        Raises:
            MalformedBody: it is not what its head says.
            TooLarge: more comes out than a body may have.
        """
        if exchange.encoding is None:
            return body
        name = exchange.encoding.strip().lower()
        if name in (b"gzip", b"x-gzip"):
            return gunzip(body, max_bytes=self._settings.max_body_bytes)
        if name in (b"identity", b""):
            return body
        raise MalformedBody("The body's content-encoding is not gzip.", code="unsupported_encoding")

    def keep(self, exchange: Exchange, source: Source, intake: Intake, told: dict[str, Any] | None = None) -> None:
        """Store what was made of a request's body, and answer when that is on disk; ``told`` goes into the answer."""
        stored = partial(self._stored, exchange, intake.events, intake.refused, told)
        if intake.events:
            self._journal.append(source.identity, intake.events, intake.pack, stored)
        else:
            stored(None)

    async def source(self, exchange: Exchange, body: bytes = b"") -> Source | None:
        """The sender's source, asked for where it is not known here; None where an unknown key is to be answered as if it were
        known.

        Raises:
            Unauthorized: the key is missing or unknown, or the source wants an access token and there is no good one.
            Unavailable: nobody knows now.
        """
        if not self._keys.loaded:
            raise NotReady("The platform is starting: write keys are not loaded yet.", retry_after=1)
        given = [basic_key(exchange.authorization or b""), body_write_key(body), exchange.key]
        keys = [key for key in given if key]
        key = keys[0] if keys else None
        source = await self._keys.resolve(*keys)
        if source is None and (self._settings.unknown_key == "refuse" or not key):
            raise Unauthorized(
                "The write key is missing." if not key else "The write key is not known.",
                hint="Send it as the user name of Basic authentication or as writeKey in the body;"
                " `segment-do sources list` shows the keys there are.",
                code="missing_write_key" if not key else "unknown_write_key",
            )
        if source is not None:
            await self._bearers.admit(source, exchange.authorization)
        return source

    def _has_room(self, exchange: Exchange) -> bool:
        if self.inflight_bytes <= self._settings.max_inflight_bytes:
            return True
        self.refuse(exchange, Busy("Too many requests are in flight.", retry_after=1))
        return False

    def _store(self, exchange: Exchange, body: bytes, source: Source) -> None:
        caller = Caller(source.id, self._address(exchange), exchange.client_side)
        received_at = self._clock() // 1000
        intake: Intake
        if exchange.kind == "batch":
            intake = batch_intake(body, caller, received_at, self._new_id, self._limits)
        elif exchange.kind == "set":
            intake = object_intake(body, caller, received_at, self._new_id)
        else:
            intake = single_intake(body, exchange.kind, caller, received_at, self._new_id, self._limits)
        self.keep(exchange, source, intake)

    def _stored(
        self,
        exchange: Exchange,
        events: int,
        refused: list[Refused],
        told: dict[str, Any] | None,
        failed: StorageFailed | None,
    ) -> None:
        if failed is not None:
            self.refuse(exchange, failed)
            return
        self.counts.events += events
        self.counts.rejected_events += len(refused)
        origin = exchange.origin
        self.answer(exchange, 200, accepted_body(refused, told), cors(origin) if origin is not None else None)

    def answer(self, exchange: Exchange, status: int, body: bytes, headers: Headers | None) -> None:
        """Answer, and let go of the room that was kept for the body."""
        self.inflight_bytes -= exchange.reserved
        exchange.reserved = 0
        exchange.answer(status, body, headers)

    async def _ask(self, exchange: Exchange, body: bytes) -> None:
        """For a key not met before: find the source, then go on."""
        try:
            source = await self.source(exchange, body)
            if source is None:
                self.counts.unknown_keys += 1
                self.answer(exchange, 200, OK, cors(exchange.origin) if exchange.origin is not None else None)
                return
            self._store(exchange, body, source)
        except Exception as error:  # noqa: BLE001  # told to the client; nothing of it is stored
            self.refuse(exchange, error)

    def _known_source(self, exchange: Exchange, body: bytes) -> Source | None:
        """The sender's source where nobody has to be asked: header, body, then address."""
        header = exchange.authorization
        if header is not None:
            if source := self._keys.by_header(header) or self._bearers.source(header, body):
                return source
            if (key := basic_key(header)) and (source := self._open_source(key)):
                self._keys.remember(header, source)
                return source
        for key in (body_write_key(body), exchange.key):
            if key and (source := self._open_source(key)):
                return source
        return None

    def _open_source(self, key: str) -> Source | None:
        source = self._keys.known(key)
        return None if source is None or source.require_oauth else source

    def _address(self, exchange: Exchange) -> str | None:
        if exchange.forwarded is not None and self._settings.trust_forwarded_for:
            return exchange.forwarded.split(b",")[0].strip().decode("latin-1")[:64]
        return exchange.client
