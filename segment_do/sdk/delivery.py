"""One batch to its end: attempts, waits, and what became of each event.

The same events with the same messageIds go out on every attempt, so that the platform stores each once whatever was cut
off in between. Only ``sentAt`` and ``X-Retry-Count`` differ.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from segment_do.errors import SegmentDoError, Unauthorized, Unavailable
from segment_do.sdk.answers import Refusal, outcomes, refusal
from segment_do.sdk.options import Options
from segment_do.sdk.outbox import Entry, NotDelivered
from segment_do.sdk.receipt import Outcome
from segment_do.sdk.retry import wait_seconds
from segment_do.sdk.source import Endpoint, Source
from segment_do.sdk.transport import Transport, TransportFailed

__all__ = ["Delivery"]

_GZIP_ABOVE_BYTES: Final = 1_024
_GZIP_LEVEL: Final = 1  # on event JSON nearly as small as 6, at a third of the time
_LEAST_TIMEOUT_SECONDS: Final = 0.05

logger = logging.getLogger("segment_do")


class Pause(Protocol):
    """Waits; says whether there is time for another attempt."""

    def __call__(self, seconds: float, *, demanded: bool) -> bool: ...


class Delivery:
    """Delivers batches one after another, for one source, on one thread.

    ``time_left()`` are the seconds until the client's end, None while it is not closing.
    """

    def __init__(
        self,
        source: Source,
        transport: Transport,
        options: Options,
        pause: Pause,
        time_left: Callable[[], float | None],
    ) -> None:
        self._source = source
        self._transport = transport
        self._options = options
        self._pause = pause
        self._time_left = time_left
        self._in_trouble = False

    def deliver(self, batch: list[Entry]) -> list[Outcome]:
        """Try until the platform has answered for good, or time is up. One outcome an event, in order; never raises
        for what the network or the platform does.
        """
        timing = self._options.timing
        started = timing.monotonic()
        failures = 0
        sent = 0
        renewed = False
        while True:
            found = self._source.endpoint(self._transport, self._timeout(), timing.wall())
            if isinstance(found, Endpoint):
                result = self._send(found, batch, sent)
                sent += 1
            else:
                result = found
            if isinstance(result, list):
                self._recovered()
                return result
            if isinstance(result.error, Unauthorized) and not renewed and self._source.forget():
                renewed = True  # the key was rotated, or the platform is another one now: look again, once
                continue
            if not result.retryable:
                return [result.error] * len(batch)
            failures += 1
            self._troubled(result.error, len(batch))
            wait = wait_seconds(failures, result.retry_after, timing.random(), soon=result.soon)
            if timing.monotonic() + wait - started > self._options.retry_seconds:
                return [self._out_of_time(result.error)] * len(batch)
            if not self._pause(wait, demanded=bool(result.retry_after)):
                told = NotDelivered(
                    f"The client was closed before the platform acknowledged the event. {result.error.message}"
                )
                return [told] * len(batch)

    def _send(self, endpoint: Endpoint, batch: list[Entry], retry: int) -> list[Outcome] | Refusal:
        timing = self._options.timing
        sent_at = datetime.fromtimestamp(timing.wall(), UTC).isoformat(timespec="milliseconds")[:-6]
        body = b'{"batch":[%b],"sentAt":"%bZ"}' % (b",".join([entry.data for entry in batch]), sent_at.encode())
        headers = {"Authorization": endpoint.authorization, "Content-Type": "application/json"}
        if self._options.gzip and len(body) > _GZIP_ABOVE_BYTES:
            body = gzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        if retry:
            headers["X-Retry-Count"] = str(retry)
        try:
            answer = self._transport.post(f"{endpoint.url}/v1/batch", headers, body, self._timeout())
        except TransportFailed as error:
            self._source.forget()  # a platform that was restarted may have another address
            return Refusal(Unavailable(f"The platform at {endpoint.url} cannot be reached ({error})."), True)
        refused = refusal(answer, timing.wall())
        if refused is not None:
            return refused
        return outcomes(answer, [entry.receipt.message_id for entry in batch])

    def _timeout(self) -> float:
        left = self._time_left()
        limit = self._options.timeout_seconds
        return limit if left is None else max(_LEAST_TIMEOUT_SECONDS, min(limit, left))

    def _out_of_time(self, last: SegmentDoError) -> Unavailable:
        return Unavailable(
            f"The platform did not take the event within {self._options.retry_seconds:g} seconds. Last: {last.message}",
            hint=last.hint,
            code="retries_exhausted",
        )

    def _troubled(self, error: SegmentDoError, waiting: int) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            logger.warning("%s Events are kept and tried again (%d in this batch).", error, waiting)

    def _recovered(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            logger.info("Events are delivered again to %s.", self._source)
