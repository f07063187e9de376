"""The load tells the truth about what a server answered, and sends what it says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.load.ledger import ACKNOWLEDGED, REFUSED, UNKNOWN, Ledger, read_ledger
from tests.load.platform import free_port
from tests.load.sender import Load, Prober, Target


class Server:
    """Stores what it reads; answers the n-th request as ``behaviour`` says: 200, 503, or cut (after storing, or before)."""

    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.stored: Counter[str] = Counter()
        self.requests = 0
        self.enough = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r")[0])
                body = json.loads(await reader.readexactly(length))
                answer = self.behaviour[self.requests % len(self.behaviour)]
                self.requests += 1
                if self.requests == 60:
                    self.enough.set()
                if answer in "2s":
                    self.stored.update({each["messageId"] for each in body.get("batch", [body])})
                if answer in "sc":
                    return
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
                    if answer == "2"
                    else b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}"
                )
        except EOFError:
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("behaviour", ["2", "25", "2s5c"])
async def test_the_ledger_agrees_with_the_server(tmp_path: Path, behaviour: str) -> None:
    """Acknowledged ids are stored, refused ones are not, whatever the server does with each request."""
    server = Server(behaviour)
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    ledger = Ledger(tmp_path / "ledger")
    load = Load(port, [Target("acme", "key")], ledger, seed=1, tag="t", connections=4, events_per_second=5000.0)
    load.start()
    await asyncio.wait_for(server.enough.wait(), 20)
    await load.stop()
    ledger.close()
    listening.close()
    tally = read_ledger(tmp_path / "ledger")
    assert tally.ids(ACKNOWLEDGED) <= set(server.stored)
    assert not tally.ids(REFUSED) & set(server.stored)
    assert set(server.stored) <= set(tally.sent)
    assert bool(tally.ids(UNKNOWN)) == ("s" in behaviour)
    assert tally.summary()["repeated"]


async def test_no_connection_is_a_refusal(tmp_path: Path) -> None:
    """Where nobody listens nothing was sent, so nothing may be stored."""
    ledger = Ledger(tmp_path / "ledger")
    prober = Prober(free_port(), Target("acme", "key"), ledger, tag="t", every_seconds=0.001)
    prober.start()
    async with asyncio.timeout(10):
        while ledger.counts[REFUSED] < 3:
            await asyncio.sleep(0.005)
    await prober.stop()
    ledger.close()
    assert len(read_ledger(tmp_path / "ledger").ids(REFUSED)) >= 3
    assert prober.gap_seconds(1.0, 3.5) == 2.5
