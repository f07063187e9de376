"""Files that are on disk before the catalog names them.

pyiceberg writes data files, manifests, manifest lists and ``metadata.json`` through one seam, ``FileIO.new_output``,
and never syncs any of them: after a power cut the catalog could name empty files. :class:`DurableFileIO` closes that
gap. A local output is synced when it is closed: first the file, then its folder; a folder made for it has been synced
into its parent before. The catalog's own transaction comes after all of them, so whatever it names can be read.

Used through the catalog property ``py-io-impl``. Locations with another scheme (``s3://``) are left to pyiceberg:
an object store has no such gap. Reads are pyiceberg's own.
"""

from __future__ import annotations

import os
from types import TracebackType

import pyarrow as pa
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from segment_do.home import sync_directory

__all__ = ["DurableFileIO", "make_directories"]


class DurableFileIO(PyArrowFileIO):  # type: ignore[misc]  # pyiceberg is not typed for us
    """``PyArrowFileIO`` whose local outputs are durable once closed."""

    def new_output(self, location: str) -> PyArrowFile:
        """The output at ``location``; local ones sync on close, and are never written over."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return _LocalOutput(location=location, path=path, fs=self.fs_by_scheme(scheme, netloc))


class _LocalOutput(PyArrowFile):  # type: ignore[misc]
    def create(self, overwrite: bool = False) -> _SyncedFile:
        # Every name that Iceberg makes carries a UUID: a file that exists already is a bug, whatever was asked for.
        make_directories(os.path.dirname(self._path))
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return _SyncedFile.over(handle, self._path)
        except BaseException:
            os.close(handle)
            raise


class _SyncedFile(pa.OSFile):
    """A local file that is on disk, with its name, when ``close`` returns.

    Raises ``OSError`` from ``close`` when a sync fails; nothing has named the file then.
    """

    _handle = -1
    _path = ""

    @classmethod
    def over(cls, handle: int, path: str) -> _SyncedFile:
        # The descriptor was opened before the first byte was written: Linux reports a failed write-back to it.
        file = cls(path, mode="wb")
        file._handle, file._path = handle, path
        return file

    def close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle < 0:
            return
        try:
            super().close()
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_directory(os.path.dirname(self._path))  # type: ignore[arg-type]  # a str is as good as a Path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_directories(path: str) -> None:
    """Make a folder and those above it, each synced into its parent."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directories(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    sync_directory(parent)  # type: ignore[arg-type]
