"""Exit and fork: the two moments when a background thread has to be thought of.

At exit every client with unsettled events gets its bounded time (``exit_timeout_seconds``, all clients at once); what is
left then is told on the log, which is stderr where no logging is set up. In a forked child every client starts afresh.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from contextlib import suppress
from typing import Any, Final, Protocol

from segment_do.errors import SegmentDoError
from segment_do.sdk.receipt import Completion

__all__ = ["expect", "hold", "watch"]


class _Leaver(Protocol):
    @property
    def unsettled(self) -> int: ...
    @property
    def exit_timeout_seconds(self) -> float: ...
    def close(self, timeout_seconds: float) -> Completion: ...
    def finish_here(self) -> None: ...
    def start_afresh(self) -> None: ...


# A running thread keeps its client alive, so weak references find every client that is at work.
_all: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()
_stranded: Final[list[_Leaver]] = []
_prepared_for: list[int] = [0]


def watch(leaver: _Leaver) -> None:
    """Let ``leaver`` finish at exit, and start afresh in forked children."""
    _all[id(leaver)] = leaver


def hold(leaver: _Leaver) -> None:
    """No thread could be started for ``leaver``: keep it, the program's end delivers for it."""
    if leaver not in _stranded:
        _stranded.append(leaver)


def expect() -> None:
    """Events are about to be queued in this process. A forked multiprocessing child ends without ``atexit``; it has a
    list of last things of its own, emptied when it starts, so the entry is made with the first event.
    """
    if _prepared_for[0] != os.getpid():
        _prepared_for[0] = os.getpid()
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, _leave, exitpriority=100)


def _leave() -> None:
    found = [leaver for leaver in _living() if leaver.unsettled]
    closings = [leaver.close(leaver.exit_timeout_seconds) for leaver in found]
    for leaver in found:
        leaver.finish_here()
    for closing in closings:
        with suppress(SegmentDoError):
            closing.wait()
    _stranded.clear()


def _living() -> list[_Leaver]:
    # One atomic copy: other threads make clients meanwhile.
    return [leaver for leaver in (reference() for reference in _all.valuerefs()) if leaver is not None]


def _after_fork_in_child() -> None:
    _stranded.clear()
    for leaver in _living():
        leaver.start_afresh()


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
