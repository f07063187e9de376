"""Time, as the delivery engine takes it: two clocks and one way to wait. Tests bring their own."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where an engine's time comes from."""

    def now(self) -> int:
        """Microseconds since the epoch: for times that are stored."""
        ...

    def monotonic(self) -> float:
        """Seconds from some start: for pauses, which a corrected clock must not stretch."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return when ``event`` is set or ``seconds`` have passed (None = only the event counts)."""
        ...


class SystemClock:
    """The machine's time."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
