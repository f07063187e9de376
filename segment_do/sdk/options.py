"""How a client behaves: every option, its unit, its default and what happens at its bound, in one place."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict, get_args

from segment_do.errors import SegmentDoError, SettingsError

__all__ = ["SYSTEM", "OnError", "OnFull", "OptionKeywords", "Options", "Timing"]

OnFull = Literal["drop", "block", "raise"]
"""What a call does when the queue is at its bound.

``drop``: the new event is not taken; its receipt fails with :class:`~segment_do.errors.Busy`, and a warning is logged.
``block``: the call waits, on the calling thread, until there is room. Not for event loops: it stops them meanwhile.
``raise``: the call raises :class:`~segment_do.errors.Busy`.
"""

OnError = Callable[[SegmentDoError, list[str]], object]
"""Called on the sender's thread with what failed and the messageIds concerned. It must not wait for the same client."""

_MAX_BATCH_EVENTS: Final = 2_500


def _wait(condition: threading.Condition, seconds: float) -> object:
    return condition.wait(seconds)


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and chance as parameters, so that a test needs neither to wait nor to guess."""

    wall: Callable[[], float] = time.time
    """Epoch seconds: ``timestamp`` and ``sentAt``."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds: lingering, retrying, closing."""
    random: Callable[[], float] = random.random
    """Jitter, 0 up to 1."""
    wait: Callable[[threading.Condition, float], object] = _wait
    """Wait on a condition that is held, at most so many seconds."""


SYSTEM: Final = Timing()


class OptionKeywords(TypedDict, total=False):
    """The options as keyword arguments; :class:`Options` explains each."""

    on_full: OnFull
    queue_events: int
    queue_bytes: int
    batch_events: int
    linger_seconds: float
    gzip: bool
    timeout_seconds: float
    retry_seconds: float
    exit_timeout_seconds: float
    on_error: OnError | None
    timing: Timing


@dataclass(frozen=True, slots=True)
class Options:
    """Behaviour of one client. Frozen: make another client to behave otherwise."""

    on_full: OnFull = "drop"
    """What a call does when the queue is at its bound; see :data:`OnFull`."""
    queue_events: int = 10_000
    """Events not yet settled, those under way included; at the bound ``on_full`` decides."""
    queue_bytes: int = 32 * 2**20
    """The same in bytes of JSON."""
    batch_events: int = 100
    """Most events in one request, 1 to 2,500; so many waiting are sent at once."""
    linger_seconds: float = 0.2
    """Longest an event waits for company when nobody waits for it, seconds."""
    gzip: bool = True
    """Compress bodies over 1 KB."""
    timeout_seconds: float = 10.0
    """One request, seconds."""
    retry_seconds: float = 1_800.0
    """A batch that the platform has not taken for so long fails, seconds; the next one goes on."""
    exit_timeout_seconds: float = 5.0
    """Longest the end of the program waits for what is queued, seconds; what is left is told on the log and lost."""
    on_error: OnError | None = None
    """Told of every failure; failures are logged as well."""
    timing: Timing = SYSTEM

    def __post_init__(self) -> None:
        if self.on_full not in get_args(OnFull):
            raise SettingsError(f"on_full must be one of {', '.join(get_args(OnFull))}.")
        if not 1 <= self.batch_events <= _MAX_BATCH_EVENTS:
            raise SettingsError(f"batch_events must be from 1 to {_MAX_BATCH_EVENTS:,}.")
        for name in ("queue_events", "queue_bytes", "timeout_seconds"):
            _at_least(self, name, above=True)
        for name in ("linger_seconds", "retry_seconds", "exit_timeout_seconds"):
            _at_least(self, name, above=False)


def _at_least(options: Options, name: str, *, above: bool) -> None:
    value: Any = getattr(options, name)
    if not (value > 0 if above else value >= 0):
        raise SettingsError(f"{name} must be {'above' if above else 'at least'} 0.")
