"""A path in one process with its control store and warehouse behind the API, as the actors wire them: for what tells of profiles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from actors.control.model import Source
from actors.control.store import ControlStore
from actors.ingress.identity_api import shown_profile
from actors.ingress.keys import KeySet
from actors.queue.frame import Frame
from actors.warehouse.consumer import Consumer
from segment_do.computed import PastPart, PastWanted
from segment_do.errors import InvalidRequest, NotReady
from segment_do.profile_api import EventsWanted
from tests.actors.inprocess import NoPlatform, RunningPath
from tests.segment_do.cli.conftest import Ran, run
from warehouse import WarehouseStore


class Log:
    """The hub's log as the warehouse reads it."""

    def __init__(self, running: RunningPath) -> None:
        self._running = running

    async def read(self, offset: int, max_bytes: int, wait_seconds: float) -> Sequence[Frame]:
        return await self._running.hub.read(offset, max_bytes, wait_seconds)

    async def end(self) -> int:
        return self._running.hub.end

    async def advance(self, offset: int) -> None:
        """Nothing is forgotten in a test."""


class Warehoused:
    """The events of before, as the identity's actor asks for them."""

    def __init__(self, running: Profiled) -> None:
        self._running = running

    async def end(self) -> int:
        return self._running.hub.end

    async def events(self, wanted: PastWanted) -> PastPart:
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(wanted), type=PastWanted)
        part = await self._running.consumer.past_events(sent)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=PastPart)


class ProfilePlatform(NoPlatform):
    """What ``ActorPlatform`` does by calls, done here."""

    def __init__(self, running: Profiled) -> None:
        super().__init__()
        self._running = running

    async def ask(self, identity: str, question: str, arguments: dict[str, Any]) -> Any:
        try:
            asked = msgspec.msgpack.encode(arguments)
        except UnicodeEncodeError:
            raise InvalidRequest("An id holds what is no Unicode text.", code="invalid_id") from None
        told = await self._running.household.ask(identity, question, msgspec.msgpack.decode(asked))
        return msgspec.msgpack.decode(msgspec.msgpack.encode(told))

    async def profile(self, identity: str, kind: str, value: str) -> dict[str, Any]:
        return shown_profile(await self.ask(identity, "profile", {"id": f"{kind}:{value}"}))

    async def profile_events(self, wanted: EventsWanted) -> list[list[Any]]:
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(wanted), type=EventsWanted)
        return await self._running.consumer.profile_events(sent)

    async def create_source(self, name: str, identity: str | None, ensure: bool) -> Source:
        return await self._running.store.create_source(name, identity, ensure=ensure)

    async def profile_tokens(self, identity: str) -> Any:
        return await self._running.store.profile_tokens.all(identity)

    async def create_profile_token(self, identity: str, name: str) -> Any:
        return await self._running.store.create_profile_token(identity, name)

    async def revoke_profile_token(self, identity: str, token_id: str) -> None:
        await self._running.store.profile_tokens.revoke(identity, token_id)


class Profiled(RunningPath):
    """Sources and tokens come from a control store, events from a warehouse; the source ``web`` feeds the identity ``tom``."""

    store: ControlStore
    source: Source

    def __init__(self, home: Path, **sections: Any) -> None:
        super().__init__(home, ProfilePlatform(self), **sections)
        self.past = Warehoused(self)

    async def start(self) -> None:
        self.store = await ControlStore.open(self.settings.paths.control)
        self.source = await self.store.create_source("web", "tom")
        self._warehouse = await WarehouseStore.open(self.settings.paths.warehouse, self.settings.warehouse)
        await super().start()
        self.consumer = Consumer(self._warehouse, Log(self), self.settings.warehouse)
        self._consuming = asyncio.create_task(self.consumer.run())

    async def stop(self) -> None:
        self._consuming.cancel()
        await asyncio.wait({self._consuming})
        await super().stop()
        await self._warehouse.close()
        await self.store.close()

    async def send(self, *events: dict[str, Any]) -> None:
        """Send events with the source's key; they are in the graph, and in the log, when it returns."""
        answer = await self.post("/v1/batch", {"batch": list(events)}, self.source.write_key)
        assert answer.json() == {"success": True}, answer.text
        async with asyncio.timeout(20.0):
            while not await self.replica.dispatcher.drained(1.0):
                pass
            await self.household.rest()

    async def admin(self, method: str, path: str, told: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.settings.paths.token()}"}
        return await self.client.request(method, path, json=told, headers=headers)

    async def told(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the control API, which has to be a good one."""
        answer = await self.admin(method, path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def cli(self, *arguments: str, stdin: str | None = None) -> Ran:
        environment = {"SEGMENT_DO_URL": self.url, "SEGMENT_DO_TOKEN": self.settings.paths.token() or ""}
        return await asyncio.to_thread(run, *arguments, stdin=stdin, environment=environment)

    async def _keys(self, since: int) -> KeySet:
        if not self.up:
            raise NotReady("The control actor is away.")
        version = await self.store.wait_newer(since, 60.0 if since >= 0 else 0.0)
        store = self.store
        return KeySet(version, await store.sources(), await store.oauth.all(), await store.profile_tokens.all())
