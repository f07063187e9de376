"""Files that commands are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from segment_do.errors import InvalidRequest

__all__ = ["read_json", "read_object", "read_text"]


def read_text(file: Path) -> str:
    """A file's text.

    Raises:
        InvalidRequest: it cannot be read, or is no text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The file {file} cannot be read: {type(error).__name__}.") from None


def read_json(file: Path) -> Any:
    """A file's JSON.

    Raises:
        InvalidRequest: it cannot be read, or is no JSON.
    """
    try:
        return msgspec.json.decode(read_text(file))
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The file {file} is no JSON that can be read: {error}.") from None


def read_object(file: Path) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        InvalidRequest: it cannot be read, or is none.
    """
    found = read_json(file)
    if not isinstance(found, dict):
        raise InvalidRequest(f"The file {file} has to hold a JSON object.")
    return found
