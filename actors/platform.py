"""What the control API asks for, answered by the actors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from actors.calls import Actors
from actors.control.actor import make_control
from actors.control.model import Source
from actors.identity.actor import make_identity
from actors.ingress.identity_api import shown_profile
from actors.ingress.keys import KeySet
from actors.naming import CONTROL, QUEUE, WAREHOUSE, identity_actor
from actors.queue.actor import make_queue
from actors.warehouse.actor import make_warehouse
from destinations import registry
from destinations.base import Destination, DestinationConfig
from segment_do.errors import InvalidRequest, NotReady, SegmentDoError
from segment_do.events.record import NOT_EVENTS, decode_pack
from segment_do.events.timestamps import iso
from segment_do.events.whole import whole_event
from segment_do.identity import read_rules_file
from segment_do.identity.questions import CHANGES
from segment_do.identity.shards import layouts
from segment_do.identity.shards.asking import ask_shards
from segment_do.oauth import App
from segment_do.profile_api import EventsWanted, ProfileToken
from segment_do.settings import Settings
from segment_do.version import __version__
from segment_do.webhooks import WebhookConfig

__all__ = ["ActorPlatform"]

_TAIL_BYTES = 256 * 1024
_CALL_SECONDS = 30.0
_REPLAYS = frozenset({"set_rules", "propose_rules"})
_REPLAY_SECONDS = 600.0  # every profile of the graph is made anew


class Doorway(Protocol):
    """The replica's own side of the answers."""

    async def prove_ready(self) -> None:
        """Raise what stands in the way of storing an event."""

    def metrics(self) -> bytes:
        """Prometheus text."""

    def status(self) -> dict[str, Any]:
        """Counts and sizes."""


class ActorPlatform:
    """Implements ``actors.ingress.api.Platform`` for one ingress replica."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name_for = identity_actor(settings.identity)
        self._layouts = layouts(settings.identity)
        self._rules = read_rules_file(settings.identity.rules_file)
        self.actors = Actors(self._make)
        self._door: Doorway | None = None

    def attach(self, door: Doorway) -> None:
        """The replica that this belongs to."""
        self._door = door

    async def ready(self) -> None:
        """Prove that an event would be stored now."""
        assert self._door is not None
        await self._door.prove_ready()

    def metrics(self) -> bytes:
        """Prometheus text."""
        assert self._door is not None
        return self._door.metrics()

    async def key_set(self, since: int) -> KeySet:
        """Sources, OAuth apps and profile tokens, as a long poll."""
        version, sources, apps, profile_tokens = await self.actors.call(
            CONTROL, "key_set", since, 0.0 if since < 0 else 20.0, timeout_seconds=_CALL_SECONDS
        )
        return KeySet(version, sources, apps, profile_tokens)

    async def status(self) -> dict[str, Any]:
        """Everything that is known about the parts; a part that does not answer is told as such."""
        queue, warehouse = await asyncio.gather(self._part(QUEUE), self._part(WAREHOUSE))
        ingress = self._door.status() if self._door else {}
        return {
            "version": __version__,
            "home": str(self._settings.paths.root),
            "url": f"http://{self._settings.host}:{self._settings.port}",
            "ready": True,
            "components": [
                {"name": "ingress", "state": "ready"},
                {"name": QUEUE, "state": queue.pop("state")},
                {"name": WAREHOUSE, "state": warehouse.pop("state")},
            ],
            "ingress": ingress,
            "queue": queue,
            "warehouse": warehouse,
        }

    async def sources(self) -> list[Source]:
        """All sources."""
        return (await self.key_set(-1)).sources

    async def create_source(self, name: str, identity: str | None, ensure: bool) -> Source:
        """See the control store."""
        source: Source = await self._control("create_source", name, identity, ensure)
        return source

    async def rotate_source(self, source_id: str) -> Source:
        """See the control store."""
        source: Source = await self._control("rotate", source_id)
        return source

    async def delete_source(self, source_id: str) -> None:
        """See the control store."""
        await self._control("delete_source", source_id)

    async def require_oauth(self, source_id: str, required: bool) -> Source:
        """See the control store."""
        source: Source = await self._control("require_oauth", source_id, required)
        return source

    async def set_webhook(self, source_id: str, webhook: WebhookConfig | None) -> Source:
        """See the control store."""
        source: Source = await self._control("set_webhook", source_id, webhook)
        return source

    async def oauth_apps(self, source_id: str) -> list[App]:
        """See the control store."""
        apps: list[App] = await self._control("oauth_apps", source_id)
        return apps

    async def create_oauth_app(self, source_id: str, name: str, pem: str, kid: str | None) -> App:
        """See the control store."""
        app: App = await self._control("create_oauth_app", source_id, name, pem, kid)
        return app

    async def add_oauth_key(self, source_id: str, app_id: str, pem: str, kid: str | None) -> App:
        """See the control store."""
        app: App = await self._control("add_oauth_key", source_id, app_id, pem, kid)
        return app

    async def delete_oauth_key(self, source_id: str, app_id: str, kid: str) -> App:
        """See the control store."""
        app: App = await self._control("delete_oauth_key", source_id, app_id, kid)
        return app

    async def enable_oauth_app(self, source_id: str, app_id: str, enabled: bool) -> App:
        """See the control store."""
        app: App = await self._control("enable_oauth_app", source_id, app_id, enabled)
        return app

    async def delete_oauth_app(self, source_id: str, app_id: str) -> None:
        """See the control store."""
        await self._control("delete_oauth_app", source_id, app_id)

    async def profile_tokens(self, identity: str) -> list[ProfileToken]:
        """See the control store."""
        tokens: list[ProfileToken] = await self._control("profile_tokens", identity)
        return tokens

    async def create_profile_token(self, identity: str, name: str) -> tuple[ProfileToken, str]:
        """See the control store."""
        made: tuple[ProfileToken, str] = await self._control("create_profile_token", identity, name)
        return made

    async def revoke_profile_token(self, identity: str, token_id: str) -> None:
        """See the control store."""
        await self._control("revoke_profile_token", identity, token_id)

    async def redeem(self, app_id: str, jti: str, expires_at: float) -> None:
        """Use a client assertion up, for all replicas. See ``segment_do.oauth``."""
        await self._control("redeem", app_id, jti, expires_at)

    async def destinations(self) -> list[dict[str, Any]]:
        """All destinations with what their delivery is doing; secrets masked."""
        deliveries: dict[str, Any] = await self.actors.call(QUEUE, "deliveries", timeout_seconds=_CALL_SECONDS)
        return [{**_shown(config), "delivery": deliveries.get(config.id)} for config in await self._configs()]

    async def destination_types(self) -> list[dict[str, Any]]:
        """Declarations of all destinations there can be."""
        return [msgspec.to_builtins(_declared(registry.find(kind))) for kind in registry.types()]

    async def add_destination(
        self, kind: str, source_id: str | None, name: str | None, settings: dict[str, Any]
    ) -> dict[str, Any]:
        """Add one. It delivers what comes from now on.

        Raises:
            InvalidRequest: the type or a setting cannot be used.
            NotFound: there is no such source.
        """
        checked = registry.validate(
            kind, settings, allow_private_addresses=self._settings.delivery.allow_private_addresses
        )
        data = await self._control("add_destination", kind, source_id, name, checked)
        config = msgspec.msgpack.decode(data, type=DestinationConfig)
        # Known to the queue before the answer: an event sent after it will be delivered.
        await self.actors.call(QUEUE, "reload_destinations", timeout_seconds=_CALL_SECONDS)
        return _shown(config)

    async def test_destination(self, destination_id: str) -> dict[str, Any]:
        """Send one sample event."""
        tested: dict[str, Any] = await self.actors.call(
            QUEUE, "test_destination", destination_id, timeout_seconds=_CALL_SECONDS
        )
        return tested

    async def delete_destination(self, destination_id: str) -> None:
        """Remove one, with what it still had to deliver."""
        await self._control("delete_destination", destination_id)
        await self.actors.call(QUEUE, "reload_destinations", timeout_seconds=_CALL_SECONDS)

    async def dead_letters(self, destination_id: str, limit: int) -> list[dict[str, Any]]:
        """Events given up, newest first."""
        dead: list[dict[str, Any]] = await self.actors.call(
            QUEUE, "dead_letters", destination_id, limit, timeout_seconds=_CALL_SECONDS
        )
        return dead

    async def replay(self, destination_id: str, dead: bool, from_offset: int | None) -> int:
        """Deliver again: the dead letters, or the log from an offset on."""
        return int(
            await self.actors.call(QUEUE, "replay", destination_id, dead, from_offset, timeout_seconds=_CALL_SECONDS)
        )

    async def sql(self, sql: str) -> dict[str, Any]:
        """Run one query."""
        begun = time.perf_counter()
        answer: dict[str, Any] = await self.actors.call(WAREHOUSE, "sql", sql)
        return {**answer, "elapsedMs": round((time.perf_counter() - begun) * 1000, 1)}

    async def profile_events(self, wanted: EventsWanted) -> list[list[Any]]:
        """A page of a profile's events, rows of :data:`segment_do.profile_api.events.COLUMNS`."""
        rows: list[list[Any]] = await self.actors.call(
            WAREHOUSE, "profile_events", msgspec.msgpack.encode(wanted), timeout_seconds=_CALL_SECONDS
        )
        return rows

    async def rejected(self, limit: int) -> list[dict[str, Any]]:
        """Events set aside, newest first."""
        rejected: list[dict[str, Any]] = await self.actors.call(WAREHOUSE, "rejected", limit)
        return rejected

    async def trace(self, message_id: str) -> dict[str, Any]:
        """How far one event has come."""
        quoted = message_id.replace("'", "''")
        found = await self.sql(
            f"SELECT \"offset\", source_id, identity, profile_id FROM events WHERE message_id = '{quoted}'"  # noqa: S608
        )
        known = bool(found["rows"])
        stages: dict[str, Any] = {"accepted": known, "applied": known, "queryable": known, "delivered": {}}
        told: dict[str, Any] = {"messageId": message_id, "stages": stages}
        if found["rows"]:
            offset, source_id, identity, profile_id = found["rows"][0]
            stages["delivered"] = await self.actors.call(
                QUEUE, "delivered", offset, source_id, message_id, timeout_seconds=_CALL_SECONDS
            )
            told |= {"offset": offset, "sourceId": source_id, "identity": identity, "profileId": profile_id}
        return told

    async def ask(self, identity: str, question: str, arguments: dict[str, Any]) -> Any:
        """Ask an identity's graph; see :mod:`segment_do.identity.questions`."""
        try:
            asked = msgspec.msgpack.encode(arguments)
        except UnicodeEncodeError:
            raise InvalidRequest("An id holds what is no Unicode text.", code="invalid_id") from None
        layout = self._layouts.get(identity)
        if layout is None:
            return await self._ask_graph(identity, question, asked)

        async def ask_shard(unit: str, question: str, arguments: dict[str, Any]) -> Any:
            return await self._ask_graph(unit, question, msgspec.msgpack.encode(arguments))

        return await ask_shards(layout, identity, self._rules.of(identity), ask_shard, question, arguments)

    async def _ask_graph(self, unit: str, question: str, arguments: bytes) -> Any:
        seconds = _REPLAY_SECONDS if question in _REPLAYS else _CALL_SECONDS
        name = self.name_for(unit)
        if question in CHANGES:  # which nobody makes twice: that the actor is there is asked before
            await self.actors.ask(name, "__ray_ready__", timeout_seconds=_CALL_SECONDS)
            told: bytes = await self.actors.call(name, "ask", unit, question, arguments, timeout_seconds=seconds)
        else:
            told = await self.actors.ask(name, "ask", unit, question, arguments, timeout_seconds=seconds)
        return msgspec.msgpack.decode(told)

    async def profile(self, identity: str, kind: str, value: str) -> dict[str, Any]:
        """One profile, by one of its ids.

        Raises:
            NotFound: the id was never seen.
        """
        return shown_profile(await self.ask(identity, "profile", {"id": f"{kind}:{value}"}))

    async def tail(self, source: str | None, identity: str | None, after: int | None) -> AsyncIterator[bytes]:
        """Live events as server-sent events, from now on or after an offset; a comment every few seconds keeps the
        line open."""
        end = int(await self.actors.call(QUEUE, "end"))
        offset = end if after is None else min(after + 1, end)
        yield b": connected\n\n"
        while True:
            try:
                frames = await self.actors.call(QUEUE, "read", offset, _TAIL_BYTES, 5.0)
            except NotReady:
                yield b": waiting for the queue\n\n"
                await asyncio.sleep(0.5)
                continue
            if not frames:
                yield b": nothing new\n\n"
                continue
            for first_offset, count, owner, pack in frames:
                for position, record in enumerate(decode_pack(pack, count)):
                    at = first_offset + position
                    wanted = record.type not in NOT_EVENTS and source in (None, record.source_id)
                    if at >= offset and wanted and identity in (None, owner):
                        yield b"id: %d\nevent: event\ndata: %s\n\n" % (at, whole_event(record, owner))
                offset = max(offset, first_offset + count)

    async def _configs(self) -> list[DestinationConfig]:
        _version, data = await self.actors.call(CONTROL, "destinations", -1, 0.0, timeout_seconds=_CALL_SECONDS)
        return msgspec.msgpack.decode(data, type=list[DestinationConfig])

    async def _control(self, method: str, *arguments: Any) -> Any:
        return await self.actors.call(CONTROL, method, *arguments, timeout_seconds=_CALL_SECONDS)

    async def _part(self, name: str) -> dict[str, Any]:
        try:
            return {"state": "ready", **await self.actors.call(name, "status", timeout_seconds=5.0)}
        except SegmentDoError as error:
            return {"state": "not ready", "detail": error.message}

    def _make(self, name: str) -> Any:
        makers = {CONTROL: make_control, QUEUE: make_queue, WAREHOUSE: make_warehouse}
        maker = makers.get(name)
        return maker(self._settings) if maker else make_identity(self._settings, name)


def _declared(declared: Destination) -> dict[str, Any]:
    return {
        "type": declared.type,
        "name": declared.name,
        "description": declared.description,
        "fields": declared.fields,
    }


def _shown(config: DestinationConfig) -> dict[str, Any]:
    return {
        "id": config.id,
        "type": config.type,
        "sourceId": config.source_id,
        "name": config.name,
        "settings": registry.mask(config),
        "enabled": config.enabled,
        "createdAt": iso(config.created_at),
    }
