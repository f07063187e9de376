"""What each actor's process does for speed, once, when it has started.

The door goes first: a client waits for the answer, nobody waits for what is behind the journal. So the actors behind it
give way to the ingress when the processors are busy, and catch up when there is time (niceness is a weight, not a queue).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from typing import Final

__all__ = ["freeze_imports", "give_back_memory", "give_way"]

_NICENESS: Final = 10
_COLLECT_AFTER_OBJECTS: Final = 20_000


def give_way() -> None:
    """Lower this process's share of a busy processor to about a tenth of the ingress's.

    On Linux each thread has a niceness of its own, and hands it on to those that it starts. Ray's are there before any of our code runs.
    """
    threads = [0]
    with contextlib.suppress(FileNotFoundError):  # no Linux: the process has one
        threads = [int(name) for name in os.listdir("/proc/self/task")]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            os.setpriority(os.PRIO_PROCESS, thread, max(os.getpriority(os.PRIO_PROCESS, thread), _NICENESS))


def freeze_imports() -> None:
    """Take what the imports made out of the garbage collector's rounds.

    Some 300,000 objects of libraries never become garbage; walking them now and then stops everything for tens of
    milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 20, 20)


def give_back_memory() -> None:
    """Give to the system what is free by now; some ten milliseconds, on whatever thread.

    The C library keeps what was freed for the next allocation, up to all that was ever needed at once.
    """
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library without it gives back as it sees fit
        ctypes.CDLL(None).malloc_trim(0)
