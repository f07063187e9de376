"""Whose computed values change with the day: a file ``windows`` lies in the folder of each identity that has windows, asleep or awake.

Its time is when its windows had last all moved on. So whoever looks after midnight knows by names and times alone whom to wake
(:func:`due`); one that did not get so far before it was killed or put to sleep is found again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from segment_do.computed import DAY_MICROSECONDS
from segment_do.home import write_durably

__all__ = ["due", "mark_windows"]

_MARK: Final = "windows"


def mark_windows(folder: Path, identity: str, moved_at: int | None) -> None:
    """Keep the mark: ``moved_at`` is when all windows had moved on, microseconds since the epoch; None: it has no windows any more.

    Raises:
        OSError: the disk refused.
    """
    mark = folder / _MARK
    if moved_at is None:
        mark.unlink(missing_ok=True)
        return
    if not mark.exists():
        write_durably(mark, identity.encode("utf-8", "surrogatepass"))
    os.utime(mark, ns=(moved_at * 1000, moved_at * 1000))


def due(root: Path, now: int) -> list[str]:
    """Identities below ``root`` whose windows have not moved on this UTC day yet, those that wait longest first."""
    today = now // DAY_MICROSECONDS
    found: list[tuple[int, str]] = []
    for mark in root.glob(f"*/{_MARK}"):
        try:
            moved_at = mark.stat().st_mtime_ns // 1000
            if moved_at // DAY_MICROSECONDS < today:
                found.append((moved_at, mark.read_bytes().decode("utf-8", "surrogatepass")))
        except FileNotFoundError:
            continue  # it has none any more
    return [identity for _moved_at, identity in sorted(found)]
