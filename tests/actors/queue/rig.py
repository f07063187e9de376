"""What the engine's tests stand on: a log in memory, a clock that is moved by hand, events and settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from actors.queue.frame import Frame
from destinations.base import DestinationConfig
from segment_do.events.record import Record, encode_pack
from segment_do.settings import DeliverySettings

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


class ManualClock:
    """Time stands still until :meth:`advance`."""

    def __init__(self) -> None:
        self._now = START
        self._waiting: list[tuple[int, asyncio.Event]] = []
        self.waits = 0

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / SECOND

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        self.waits += 1
        over = asyncio.Event()
        if seconds is not None:
            self._waiting.append((self._now + round(seconds * SECOND), over))
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(over.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def advance(self, seconds: float) -> None:
        """Let time pass; whoever's wait is over by then goes on."""
        self._now += round(seconds * SECOND)
        for until, over in self._waiting:
            if until <= self._now:
                over.set()
        self._waiting = [entry for entry in self._waiting if not entry[1].is_set()]

    @property
    def next_seconds(self) -> float | None:
        """Until the nearest wait is over; None when nobody waits for time."""
        return min(((until - self._now) / SECOND for until, _ in self._waiting), default=None)


class MemoryLog:
    """A log as readers see it."""

    def __init__(self, floor: int = 0) -> None:
        self.frames: list[Frame] = []
        self.end = floor
        self.floor = floor
        self._more = asyncio.Event()

    def append(self, records: Iterable[Record], identity: str = "tom") -> None:
        some = list(records)
        self.frames.append(Frame(self.end, len(some), identity, encode_pack(some)))
        self.end += len(some)
        self._more.set()

    def forget_below(self, offset: int) -> None:
        self.frames = [frame for frame in self.frames if frame.first_offset + frame.count > offset]
        self.floor = self.frames[0].first_offset if self.frames else self.end

    async def read(self, offset: int, max_bytes: int) -> list[Frame]:
        while self.end <= offset:
            self._more.clear()
            await self._more.wait()
        found: list[Frame] = []
        size = 0
        for frame in self.frames:
            if frame.first_offset + frame.count > offset and (not found or size + len(frame.pack) <= max_bytes):
                found.append(frame)
                size += len(frame.pack)
        return found


def record(name: str, **changed: Any) -> Record:
    given: dict[str, Any] = {
        "message_id": name,
        "type": "track",
        "source_id": "s1",
        "user_id": "u1",
        "anonymous_id": None,
        "event": "E",
        "timestamp": START,
        "received_at": START,
        "sent_at": None,
        "original_timestamp": None,
        "ip": None,
        "payload": b'{"properties":{}}',
        **changed,
    }
    return Record(**given)


def records(*names: object, **changed: Any) -> list[Record]:
    return [record(f"m{name}", **changed) for name in names]


def settings(**given: Any) -> DeliverySettings:
    return DeliverySettings(**{"concurrency": 4, "timeout_seconds": 5.0, **given})


def config(destination: str = "d1", source_id: str | None = None) -> DestinationConfig:
    return DestinationConfig(id=destination, type="webhook", source_id=source_id, name="Hook", settings={})


async def settle_down(turns: int = 300) -> None:
    """Let the loop turn a while, for things that must not happen to have their chance."""
    for _ in range(turns):
        await asyncio.sleep(0)
