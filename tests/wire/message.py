"""A captured request as a file holds it, and as it went over the wire: each can be made from the other, byte for byte."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Capture", "Message", "dechunked", "read_capture", "write_capture"]


@dataclass(frozen=True)
class Message:
    """One request. Names, values and order of the headers are the client's."""

    method: str
    path: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    """As it was on the wire, the lengths of its chunks included where it came in chunks."""

    @property
    def wire(self) -> bytes:
        """The whole request."""
        lines = [f"{self.method} {self.path} {self.version}", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body

    @property
    def content(self) -> bytes:
        """The body without chunks and compression."""
        body = dechunked(self.body) if self.header("transfer-encoding") == "chunked" else self.body
        return gzip.decompress(body) if self.header("content-encoding") == "gzip" else body

    def header(self, wanted: str) -> str | None:
        """The first header of a name in lower case."""
        return next((value for name, value in self.headers if name.lower() == wanted), None)

    def to_json(self) -> dict[str, Any]:
        """Text as text; other bytes in base64, with what they say beside them for a reader."""
        said: dict[str, Any] = {"method": self.method, "path": self.path, "version": self.version}
        said["headers"] = [f"{name}: {value}" for name, value in self.headers]
        try:
            return said | {"body": self.body.decode()}
        except UnicodeDecodeError:
            encoded = base64.b64encode(self.body).decode()
            return said | {"bodyBase64": encoded, "decoded": self.content.decode("utf-8", "replace")}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Message:
        """What :meth:`to_json` made; ``decoded`` is not read."""
        body = said["body"].encode() if "body" in said else base64.b64decode(said["bodyBase64"])
        headers = [(name, value) for name, _, value in (header.partition(": ") for header in said["headers"])]
        return cls(said["method"], said["path"], said["version"], headers, body)


@dataclass(frozen=True)
class Capture:
    """What one run of a client sent, in the order in which it came."""

    client: str
    """Name and version, as its registry has them."""
    runtime: str
    options: str
    """How the client was set up, in a few words."""
    messages: list[Message]


def write_capture(file: Path, capture: Capture) -> None:
    """Make the file, and its folder."""
    said = {
        "client": capture.client,
        "runtime": capture.runtime,
        "options": capture.options,
        "requests": [message.to_json() for message in capture.messages],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_capture(file: Path) -> Capture:
    """What :func:`write_capture` made."""
    said = json.loads(file.read_text(encoding="utf-8"))
    messages = [Message.from_json(each) for each in said["requests"]]
    return Capture(said["client"], said["runtime"], said["options"], messages)


def dechunked(body: bytes) -> bytes:
    """A chunked body's content; trailers are not expected of any client."""
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            return content
        content, body = content + body[:length], body[length + 2 :]
