"""Records what an unmodified client sends: ``python -m tests.wire.capture --help``.

Runs a command with the address and write key of a server that writes down each request byte for byte and answers as the
platform does, waits for the command to end, and makes one file of what came. By hand, when a client's new version is to be
added; no test runs it. A request that names this machine (its host name, its users' folders) is not kept: the command fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

from tests.certificates import make_certificate
from tests.wire.message import Capture, Message, dechunked, write_capture

WRITE_KEY = "wire-write-key"
HERE = Path(__file__).parent
_ENOUGH_SECONDS = 120.0


class Recording:
    """Everything that connections have brought, in the order in which the requests were whole."""

    def __init__(self, address: str, protocol: str) -> None:
        self.messages: list[Message] = []
        self._settings = {
            "integrations": {
                "Segment.io": {
                    "apiKey": WRITE_KEY,
                    "apiHost": f"{address}/v1",
                    "protocol": protocol,
                    "unbundledIntegrations": [],
                }
            },
            "metrics": {"sampleRate": 0},
            "plan": {},
            "edgeFunction": {},
            "middlewareSettings": {},
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept open as long as the client wants it."""
        try:
            while head := await _head(reader):
                message = await self._whole(head, reader, writer)
                self.messages.append(message)
                writer.write(self._answer(message))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _whole(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, path, version = first.split(" ")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        bare = Message(method, path, version, headers, b"")
        assert bare.wire == head, f"a head that the file's form cannot hold: {head!r}"
        if (bare.header("expect") or "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if bare.header("transfer-encoding") == "chunked":
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                size = await reader.readuntil(b"\r\n")
                body += size + await reader.readexactly(int(size.partition(b";")[0], 16) + 2)
            dechunked(body)
        else:
            body = await reader.readexactly(int(bare.header("content-length") or 0))
        return Message(method, path, version, headers, body)

    def _answer(self, message: Message) -> bytes:
        body = '{"success": true}'
        if message.method == "OPTIONS":
            body = "{}"
        elif message.method == "GET":
            body = json.dumps(self._settings)
        lines = ["HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(body)}"]
        if origin := message.header("origin"):
            lines += [f"access-control-allow-origin: {origin}", "access-control-allow-credentials: true"]
            lines.append(f"access-control-allow-headers: {message.header('access-control-request-headers') or ''}")
            lines.append("access-control-allow-methods: POST, GET, OPTIONS")
        return "\r\n".join([*lines, "", body]).encode()


async def record(command: list[str], port: int, secured: bool) -> list[Message]:
    """Run the command, ``{url}``, ``{host}``, ``{port}``, ``{key}`` and ``{certificate}`` filled in, and return what it sent.

    Raises:
        SystemExit: the command failed, or sent nothing.
    """
    address = f"127.0.0.1:{port}"
    protocol = "https" if secured else "http"
    recording = Recording(address, protocol)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder), "capture", "127.0.0.1")
        tls = None
        if secured:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, key)
        server = await asyncio.start_server(recording.serve, "127.0.0.1", port, ssl=tls, limit=1 << 20)
        given = {"url": f"{protocol}://{address}", "host": address, "port": str(port), "key": WRITE_KEY}
        filled = fill(command, given | {"certificate": str(certificate)})
        async with server:
            ended = await asyncio.to_thread(subprocess.run, filled, timeout=_ENOUGH_SECONDS)
    if ended.returncode or not recording.messages:
        raise SystemExit(f"the command ended with {ended.returncode}; {len(recording.messages)} requests came")
    return recording.messages


def fill(command: list[str], given: dict[str, str]) -> list[str]:
    """The command with ``{name}`` replaced by what is given for it, anywhere in a word."""
    for name, value in given.items():
        command = [word.replace("{" + name + "}", value) for word in command]
    return command


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as ended:
        if ended.partial:  # as of a client that speaks TLS where none is spoken
            raise SystemExit(f"half a request came: {ended.partial[:40]!r}") from None
        return b""


def _names_this_machine(message: Message) -> str | None:
    said = (message.wire + message.content).decode("utf-8", "replace")
    private = {socket.gethostname(), str(Path.home()), str(Path.cwd()), tempfile.gettempdir() + "/", "/home/"}
    return next((name for name in sorted(private) if name and name in said), None)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Record what an unmodified client sends into requests/FOLDER/CASE.json."
    )
    parser.add_argument("folder", help="client and version, as segment-analytics-python-2.4.0")
    parser.add_argument("case", help="how it was set up, in a word: batched, single, gzip")
    parser.add_argument("--client", required=True, help="name and version for a reader")
    parser.add_argument("--runtime", required=True, help="what ran it, with its version")
    parser.add_argument("--options", required=True, help="how it was set up, in a few words")
    parser.add_argument("--port", type=int, default=8765, help="of the recording server; it shows in the Host header")
    parser.add_argument("--tls", action="store_true", help="speak https, with {certificate}")
    parser.add_argument(
        "command",
        nargs="+",
        help="after --: the client's program; {url}, {host}, {port}, {key} and {certificate} are filled in",
    )
    given = parser.parse_args()
    messages = asyncio.run(record(given.command, given.port, given.tls))
    for message in messages:
        if found := _names_this_machine(message):
            raise SystemExit(f"{message.method} {message.path} names this machine: {found!r}")
    file = HERE / "requests" / given.folder / f"{given.case}.json"
    write_capture(file, Capture(given.client, given.runtime, given.options, messages))
    print(f"{file.relative_to(HERE)}: {len(messages)} requests")  # noqa: T201  # a program for the terminal


if __name__ == "__main__":
    main()
