"""The data directory: where everything durable lies, and how a running platform is found.

Two platforms with two homes never meet. A program needs only the home to find the platform: its
address is in ``run.json``, its admin token in ``token`` (readable by the owner alone).
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any, Final

import msgspec

from segment_do.errors import PlatformNotRunning, SettingsError

__all__ = ["Home", "folder_name", "sync_directory", "write_durably"]

_SECRET_BYTES: Final = 32


class Home:
    """Paths under one data directory. Creating a ``Home`` touches nothing on disk."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()

    @property
    def journal(self) -> Path:
        """Ingress journals, one folder a replica."""
        return self.root / "journal"

    @property
    def syncs(self) -> Path:
        """Files uploaded with the bulk Object API, a folder a source, in it a folder a sync."""
        return self.root / "syncs"

    @property
    def log(self) -> Path:
        """The queue's log segments."""
        return self.root / "queue" / "log"

    @property
    def queue(self) -> Path:
        """The queue's cursors, retries and dead letters."""
        return self.root / "queue"

    @property
    def warehouse(self) -> Path:
        """Iceberg catalog and tables."""
        return self.root / "warehouse"

    @property
    def control(self) -> Path:
        """Sources, write keys, destinations."""
        return self.root / "control.db"

    @property
    def logs(self) -> Path:
        """What the components print."""
        return self.root / "logs"

    @property
    def running(self) -> Path:
        """Address of the platform that runs from here; absent when none does."""
        return self.root / "run.json"

    @property
    def token_file(self) -> Path:
        """Admin token, mode 0600."""
        return self.root / "token"

    @property
    def oauth_secret_file(self) -> Path:
        """Key under which access tokens are signed, mode 0600."""
        return self.root / "oauth_secret"

    @property
    def lock(self) -> Path:
        """Held by the one platform that runs from this home."""
        return self.root / "lock"

    def identity(self, identity: str) -> Path:
        """Folder of one identity's graph. Any text is a lawful identity; the folder name is escaped."""
        return self.root / "identities" / folder_name(identity)

    def create(self) -> None:
        """Make the directory, readable by its owner alone.

        Raises:
            SettingsError: it cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"The data directory {self.root} cannot be used: {error.strerror}.",
                hint="Set SEGMENT_DO_HOME to a directory that you may write.",
            ) from error

    def token(self) -> str:
        """The admin token.

        Raises:
            PlatformNotRunning: no platform was ever started from this home.
        """
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise PlatformNotRunning(
                f"There is no admin token in {self.root}.",
                hint="Start the platform once with `segment-do dev`, or set SEGMENT_DO_HOME.",
            ) from error

    def ensure_token(self) -> str:
        """The admin token, made at the first start. Written once, atomically, mode 0600."""
        if not self.token_file.exists():
            write_durably(self.token_file, secrets.token_urlsafe(32).encode() + b"\n", mode=0o600)
        return self.token()

    def ensure_oauth_secret(self) -> bytes:
        """The key under which access tokens are signed, made where there is none: of several who ask at once one makes it,
        and all get the same. Without it (deleted, lost) every token of before ends.

        Raises:
            SettingsError: the file is not what was written.
        """
        path = self.oauth_secret_file
        if not path.exists():
            made = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            write_durably(made, secrets.token_hex(_SECRET_BYTES).encode() + b"\n", mode=0o600)
            try:
                os.link(made, path)  # fails where another was quicker, and leaves its file as it is
                sync_directory(path.parent)
            except FileExistsError:
                pass
            finally:
                os.unlink(made)
        try:
            secret = bytes.fromhex(path.read_text().strip())
        except ValueError:
            secret = b""
        if len(secret) < _SECRET_BYTES:
            raise SettingsError(
                f"The file {path} does not hold a key.",
                hint="Delete it: a new one is made, and clients ask for new tokens.",
            )
        return secret

    def address(self) -> dict[str, Any]:
        """``run.json`` of the platform running from here: ``url``, ``pid``, ``startedAt``.

        Raises:
            PlatformNotRunning: there is none.
        """
        try:
            found: dict[str, Any] = msgspec.json.decode(self.running.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError) as error:
            raise PlatformNotRunning(
                f"No platform runs from {self.root}.",
                hint="Start it with `segment-do dev`, or set SEGMENT_DO_HOME to its directory.",
            ) from error
        return found


def folder_name(identity: str) -> str:
    """A file name for any identity: plain names stay themselves, other bytes become %XX, long ones a hash.

    Distinct identities get distinct names, also where a file system folds case.
    """
    escaped = re.sub(
        rb"[^a-z0-9_.-]", lambda match: b"%%%02x" % match.group()[0], identity.encode("utf-8", "surrogatepass")
    ).decode("ascii")
    if escaped.startswith("."):
        escaped = "%2e" + escaped[1:]
    if len(escaped) > 120:
        import hashlib

        digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        escaped = f"{escaped[:60]}%-{digest}"
    return escaped


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` with ``data`` so that after any crash it holds the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(handle)
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
