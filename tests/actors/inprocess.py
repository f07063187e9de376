"""The path from HTTP to the log in one process and one event loop: every real component, no Ray.

What the Ray shells do between processes is here a function call; everything else (sockets, journal, SQLite, log) is real.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from actors.control.model import Source
from actors.identity.filling import Past
from actors.identity.household import Household
from actors.ingress.dispatcher import Batch
from actors.ingress.keys import KeySet
from actors.ingress.replica import Replica
from actors.naming import identity_actor
from actors.queue.hub import Hub
from segment_do.errors import NotReady
from segment_do.events.record import EXTERNAL_ID, Record, decode_pack
from segment_do.settings import Settings
from tests.waiting import until

SOURCES = [
    Source("src_tom", "web", "tom", "key-tom", "2026-01-01T00:00:00.000Z"),
    Source("src_ralph", "app", "ralph", "key-ralph", "2026-01-01T00:00:00.000Z"),
]


class NoPlatform:
    """The control API has tests of its own."""

    def __init__(self) -> None:
        self.replica: Replica | None = None

    async def ready(self) -> None:
        assert self.replica is not None
        await self.replica.prove_ready()

    def metrics(self) -> bytes:
        assert self.replica is not None
        return self.replica.metrics()

    async def redeem(self, app_id: str, jti: str, expires_at: float) -> None:
        raise NotReady("Nothing is redeemed here.")

    def __getattr__(self, name: str) -> Any:
        raise NotReady(f"{name} is not here.")


class RunningPath:
    """Replica, identities and queue, wired as the actors are."""

    def __init__(self, home: Path, platform: NoPlatform | None = None, **sections: Any) -> None:
        self.settings = Settings(home=home, port=0, **sections)
        self.settings.paths.create()
        self.up = True
        self.sources = list(SOURCES)
        self.platform = platform or NoPlatform()
        self.past: Past | None = None

    async def start(self) -> None:
        self.hub = await Hub.open(self.settings)
        self.household = Household(self.settings, self.hub.append, past=self.past)
        self.replica = Replica(
            self.settings,
            self._keys,
            self._apply,
            identity_actor(self.settings.identity),
            self.platform,  # type: ignore[arg-type]
        )
        self.platform.replica = self.replica
        await self.replica.start()
        self.url = f"http://127.0.0.1:{self.replica.port}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=20.0)
        await until(lambda: self.replica.keys.loaded)

    async def stop(self) -> None:
        await self.client.aclose()
        await self.replica.stop()
        await self.household.close()
        await self.hub.close()

    async def post(self, path: str, body: Any = None, key: str | None = "key-tom", **options: Any) -> httpx.Response:
        if body is not None:
            options["content" if isinstance(body, (bytes, str)) else "json"] = body
        return await self.client.post(path, auth=(key, "") if key else None, **options)

    async def logged(self, events: int) -> list[Record]:
        """The log's records once there are so many, without what it tells of ids."""
        found: list[Record] = []
        read = 0
        async with asyncio.timeout(20.0):
            while len(found) < events or read < self.hub.end:
                for frame in await self.hub.read(read, 1 << 20, 1.0):
                    read += frame.count
                    found += [each for each in decode_pack(frame.pack, frame.count) if each.type != EXTERNAL_ID]
        assert len(found) == events
        return found

    async def _keys(self, since: int) -> KeySet:
        if not self.up:
            raise NotReady("The control actor is away.")
        if since >= len(self.sources):
            await asyncio.Event().wait()
        return KeySet(len(self.sources), self.sources)

    async def _apply(self, _name: str, batches: list[Batch]) -> None:
        await self.household.apply(batches)


@contextlib.asynccontextmanager
async def path(home: Path, platform: NoPlatform | None = None, **sections: Any) -> AsyncIterator[RunningPath]:
    """A started path, stopped in order at the end."""
    running = RunningPath(home, platform, **sections)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
