"""What a consumer sees of the log: frames, and how they are read. The log itself is elsewhere."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Frame", "Reader"]


class Frame(NamedTuple):
    """A run of events of one identity, as it lies in the log."""

    first_offset: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    """At least 1. The frame's events have the offsets ``first_offset`` to ``first_offset + count - 1``."""
    identity: str
    pack: bytes
    """``count`` records (``segment_do.events.record``)."""


class Reader(Protocol):
    """The log, as a consumer reads it."""

    @property
    def end(self) -> int:
        """Offset that the next event will get."""
        ...

    @property
    def floor(self) -> int:
        """Lowest offset that the log still has; ``end`` when it has none."""
        ...

    async def read(self, offset: int, max_bytes: int) -> list[Frame]:
        """Frames that contain or follow ``offset``, in order; at least one, then as many as fit ``max_bytes``.

        Waits until there is something at ``offset``. May be cancelled at any time.
        """
        ...
