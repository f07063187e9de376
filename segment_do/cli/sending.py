"""Sends events in batches, says what became of each, and follows them where that is asked for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from segment_do.cli.batches import Outgoing, batches, body_of
from segment_do.cli.client import Client
from segment_do.cli.follow import Followed, follow
from segment_do.cli.output import note, print_json, print_text
from segment_do.errors import InvalidEvent, SegmentDoError, Unavailable

__all__ = ["Sending", "say_waiting"]

_PATIENCE_SECONDS: Final = 60.0
"""Longest that one batch is tried again."""
_MOST_FOLLOWED: Final = 1_000
"""Of more events, the last ones are followed."""


class Sending:
    """Sends chunks as they come, and says what became of each event."""

    def __init__(self, platform: Client, write_key: str, *, wait: bool, as_json: bool) -> None:
        self._platform = platform
        self._write_key = write_key
        self._wait = wait
        self._as_json = as_json
        self._sent = self._refused = 0
        self._last_refusal: SegmentDoError | None = None
        self._following: deque[Followed] = deque(maxlen=_MOST_FOLLOWED)

    def send(self, chunk: Sequence[Outgoing | InvalidEvent]) -> None:
        """Send what came together. Errors among the events are those that could not be read."""
        for one in chunk:
            if isinstance(one, InvalidEvent):
                self._say_refused(None, one)
        for batch in batches([one for one in chunk if isinstance(one, Outgoing)]):
            self._send(batch)

    def finish(self, timeout_seconds: float, *, many: bool) -> None:
        """Follow the events, where that was asked for.

        Raises:
            InvalidEvent: some were set aside (the one event's own error, where there was only one to send).
            Unavailable: not all got through in time (``wait_timed_out``).
            SegmentDoError: a destination gave one up.
        """
        if self._wait and self._following:
            self._follow(timeout_seconds)
        if self._last_refusal is not None and not many:
            raise self._last_refusal
        if self._refused:
            raise InvalidEvent(
                f"{self._refused:,} of {self._sent + self._refused:,} events were set aside; the others are stored.",
                hint="`segment-do rejected` shows those that the platform has set aside.",
            )

    def _send(self, batch: list[Outgoing]) -> None:
        began = time.monotonic()
        ids = [event.message_id for event in batch]
        found = self._platform.deliver(
            "/v1/batch", body_of(batch), self._write_key, ids, patience_seconds=_PATIENCE_SECONDS, on_wait=say_waiting
        )
        took = time.monotonic() - began
        for event, refused in zip(batch, found, strict=True):
            if refused is not None:
                self._say_refused(event, refused)
                continue
            self._sent += 1
            if self._wait:
                self._following.append(Followed(event.message_id, began, took))
            elif self._as_json:
                print_json({"messageId": event.message_id, "accepted": True})
            if not self._as_json:
                print_text(f"{event.message_id}  accepted  {took:.3f} s")

    def _follow(self, timeout_seconds: float) -> None:
        if self._sent > _MOST_FOLLOWED:
            note(f"Following the last {_MOST_FOLLOWED:,} of {self._sent:,} events.")

        def on_stage(event: Followed, stage: str, seconds: float) -> None:
            if not self._as_json:
                print_text(f"{event.message_id}  {stage}  {seconds:.3f} s")

        done = follow(self._platform, self._following, timeout_seconds=timeout_seconds, on_stage=on_stage)
        if self._as_json:
            print_json(*[event.as_dict() for event in self._following])
        if not done:
            raise Unavailable(_what_is_missing(list(self._following), timeout_seconds), code="wait_timed_out")
        dead = sorted({at for event in self._following for at, state in event.delivered.items() if state == "dead"})
        if dead:
            raise SegmentDoError(
                f"Given up by {', '.join(dead)}.", hint=f"`segment-do destinations dead {dead[0]}` shows why."
            )

    def _say_refused(self, event: Outgoing | None, error: SegmentDoError) -> None:
        self._refused += 1
        self._last_refusal = error
        message_id = None if event is None else event.message_id
        if self._as_json:
            told = {"messageId": message_id, "accepted": False, "code": error.code, "message": error.message}
            print_json({**told, "line": event.line} if event is not None and event.line else told)
        elif event is None:
            note(error.message)
        elif event.line:
            note(f"Line {event.line}: {error.message}")


def say_waiting(seconds: float, error: SegmentDoError) -> None:
    """Tell people why nothing moves."""
    note(f"{error.message} Trying again in {seconds:.1f} seconds.")


def _what_is_missing(events: list[Followed], timeout_seconds: float) -> str:
    waiting: dict[str, int] = {}
    for event in events:
        for stage in ("applied", "queryable"):
            if stage not in event.seconds:
                waiting[stage] = waiting.get(stage, 0) + 1
        for destination, state in event.delivered.items():
            if state is not True and state != "dead":
                label = f"delivered to {destination}" + (" (it is being tried again)" if state == "retrying" else "")
                waiting[label] = waiting.get(label, 0) + 1
    parts = ", ".join(f"{count:,} not {label}" for label, count in waiting.items())
    return f"After {timeout_seconds:g} seconds, of {len(events):,} events: {parts}."
