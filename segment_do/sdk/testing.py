"""Test mode: record events instead of sending them.

    from segment_do.sdk.testing import recording

    with recording() as events:
        Analytics.for_("tom").track("Code Review Completed", {"pr": 123})
        assert events.named("Code Review Completed")[0]["properties"] == {"pr": 123}

While a recording runs, every client of the process records, also those made before: no thread starts and nothing is
sent. Events are built and checked as ever, and kept as the JSON they would have been sent as. Receipts are settled at
once. Whom a handle speaks for (``identify``) is forgotten again when the recording ends. As a pytest fixture::

    @pytest.fixture
    def events():
        with recording() as events:
            yield events
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, overload

import msgspec

from segment_do.errors import Busy, SegmentDoError
from segment_do.sdk.receipt import settle

if TYPE_CHECKING:
    from segment_do.sdk.outbox import Entry

__all__ = ["Event", "Recording", "recording"]

Event = dict[str, Any]
"""An event as it would have been sent, parsed from its JSON."""

_MAX_EVENTS: Final = 100_000
_active: Final[list[Recording]] = []


class Recording(Sequence[Event]):
    """The events of one recording, in the order of the calls. Holds at most 100,000; then calls raise ``Busy``."""

    def __init__(self, error: SegmentDoError | None = None) -> None:
        self._error = error
        self._events: list[tuple[str | None, Event]] = []
        self.speakers: dict[object, str | None] = {}

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        return [event for _, event in self._events][index]

    def __len__(self) -> int:
        return len(self._events)

    def of_type(self, kind: str) -> list[Event]:
        """Events of one type: track, identify, page, screen, group, alias."""
        return [event for event in self if event["type"] == kind]

    def named(self, name: str) -> list[Event]:
        """Track events, pages and screens of one name."""
        return [event for event in self if (event.get("event") or event.get("name")) == name]

    def sent_by(self, agent: str) -> list[Event]:
        """Events that went through one agent's handle, whomever they speak of."""
        return [event for sender, event in self._events if sender == agent]

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self._events.clear()

    def __repr__(self) -> str:
        return f"<Recording of {len(self)} events: {[event.get('event') or event['type'] for event in self[:5]]}>"

    def take(self, agent: str | None, entries: Sequence[Entry]) -> None:
        if len(self._events) + len(entries) > _MAX_EVENTS:
            raise Busy(f"A recording holds at most {_MAX_EVENTS:,} events.", hint="Call clear() in between.")
        self._events += [(agent, msgspec.json.decode(entry.data)) for entry in entries]
        settle((entry.receipt, self._error) for entry in entries)


@contextmanager
def recording(*, error: SegmentDoError | None = None) -> Iterator[Recording]:
    """Record the events of every client in this process instead of sending them; the innermost recording gets them.

    Args:
        error: what every receipt fails with, to test what a program does then; None = all are acknowledged.
    """
    made = Recording(error)
    _active.append(made)
    try:
        yield made
    finally:
        _active.remove(made)


def active() -> Recording | None:
    """The recording that gets the events now; None = they are sent."""
    return _active[-1] if _active else None
