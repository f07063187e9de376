"""Whose computed values change without an event: a file ``windows`` lies in the folder of each identity that has windows or sessions,
asleep or awake.

Its time is when the first of them may change: at midnight, or when a session is over. So whoever looks knows by names and times alone
whom to wake (:func:`due`); one that did not get so far before it was killed or put to sleep is found again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from segment_do.home import write_durably

__all__ = ["due", "mark_windows"]

_MARK: Final = "windows"


def mark_windows(folder: Path, identity: str, due_at: int | None) -> None:
    """Keep the mark: ``due_at`` is when something may change, microseconds since the epoch; None: it has no windows any more.

    Raises:
        OSError: the disk refused.
    """
    mark = folder / _MARK
    if due_at is None:
        mark.unlink(missing_ok=True)
        return
    if not mark.exists():
        write_durably(mark, identity.encode("utf-8", "surrogatepass"))
    os.utime(mark, ns=(due_at * 1000, due_at * 1000))


def due(root: Path, now: int) -> list[str]:
    """Identities below ``root`` in which something may have changed by ``now``, microseconds since the epoch; those that wait longest first."""
    found: list[tuple[int, str]] = []
    for mark in root.glob(f"*/{_MARK}"):
        try:
            due_at = mark.stat().st_mtime_ns // 1000
            if due_at <= now:
                found.append((due_at, mark.read_bytes().decode("utf-8", "surrogatepass")))
        except FileNotFoundError:
            continue  # it has none any more
    return [identity for _due_at, identity in sorted(found)]
