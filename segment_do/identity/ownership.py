"""One activation at a time may hold an identity's folder.

The lock is ``flock`` on a file of its own. It is not on the database file, because closing any other
descriptor of that file would drop the locks that SQLite itself holds there. The kernel releases it when
the process dies, however it dies. Never put the folder on a network file system.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from segment_do.errors import OwnershipLost, StorageFailed

__all__ = ["FolderLock"]


class FolderLock:
    """Held from construction until :meth:`release`.

    Raises:
        OwnershipLost: another activation holds it.
        StorageFailed: the lock file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "owner.lock"
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageFailed(f"The lock {path} cannot be opened: {error.strerror}.") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise OwnershipLost(
                f"Another activation holds {folder}.", hint="It goes on; this one must not write."
            ) from error

    def release(self) -> None:
        """Let another activation in. Calling it again does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
