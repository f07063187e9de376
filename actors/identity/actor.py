"""Ray shell of identities: one actor for one (``dedicated``) or for many (``pool``)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import ray
import structlog

from actors.calls import Actors
from actors.logs import configure_logs
from actors.naming import NAMESPACE, QUEUE, WAREHOUSE, identity_actor
from actors.process import freeze_imports, give_way
from actors.queue.actor import make_queue
from actors.warehouse.actor import make_warehouse
from segment_do.computed import PastPart, PastWanted
from segment_do.identity.shards.letters import Envelope
from segment_do.settings import Settings

if TYPE_CHECKING:
    from actors.queue.log import Entry

__all__ = ["IdentityActor", "make_identity"]

log = structlog.get_logger(__name__)


class _Past:
    """The events of before, through the queue and the warehouse."""

    def __init__(self, actors: Actors) -> None:
        self._actors = actors

    async def end(self) -> int:
        return int(await self._actors.call(QUEUE, "end"))

    async def events(self, wanted: PastWanted) -> PastPart:
        told = await self._actors.call(WAREHOUSE, "past_events", msgspec.msgpack.encode(wanted))
        return msgspec.msgpack.decode(told, type=PastPart)


@ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=1000)
class IdentityActor:
    """Named ``identity:tom`` or ``identity-pool:3``. Wakes an identity at its first call, or where one was left unfinished."""

    async def __init__(self, settings: Settings, name: str) -> None:  # type: ignore[misc]  # Ray awaits it
        from actors.identity.household import Household  # here: who only calls this actor does not load what it needs

        configure_logs(settings, name)
        give_way()
        makers = {QUEUE: make_queue, WAREHOUSE: make_warehouse}
        self._actors = Actors(
            lambda other: makers[other](settings) if other in makers else make_identity(settings, other)
        )
        self._name = name
        self._name_for = identity_actor(settings.identity)
        self._household = Household(settings, self._hand_over, deliver=self._deliver, past=_Past(self._actors))
        # A pool's actors stay; a dedicated one leaves with its identity and comes back with the next event.
        self._leaves = settings.identity.placement == "dedicated"
        self._keeping = asyncio.create_task(self._keep_house(lambda unit: self._name_for(unit) == name))
        freeze_imports()

    async def apply(self, data: bytes) -> None:
        """Apply batches of events; returns when all are committed."""
        from actors.ingress.dispatcher import decode_batches

        await self._household.apply(decode_batches(data))

    async def receive(self, unit: str, letters: bytes) -> None:
        """Take in letters of other shards of an identity, as msgpack; returns when they are committed."""
        await self._household.receive(unit, msgspec.msgpack.decode(letters, type=list[Envelope]))

    async def ask(self, identity: str, question: str, arguments: bytes) -> bytes:
        """Ask an identity's graph; arguments and answer as msgpack. See the household."""
        told = await self._household.ask(identity, question, msgspec.msgpack.decode(arguments))
        return msgspec.msgpack.encode(told)

    async def status(self) -> list[dict[str, Any]]:
        """The identities that are awake here."""
        return self._household.status()

    async def _hand_over(self, entries: list[Entry]) -> None:
        await self._actors.call(QUEUE, "append", entries)

    async def _deliver(self, unit: str, letters: list[Envelope]) -> None:
        name = self._name_for(unit)
        if name == self._name:
            await self._household.receive(unit, letters)
        else:
            await self._actors.call(name, "receive", unit, msgspec.msgpack.encode(letters))

    async def _keep_house(self, mine: Any) -> None:
        await self._household.recover(mine)
        while True:
            await asyncio.sleep(1.0)
            try:
                await self._household.keep()
            except Exception:
                log.exception("housekeeping failed; it goes on")
            if self._leaves and self._household.empty:
                await self._household.close()
                ray.actor.exit_actor()


def make_identity(settings: Settings, name: str) -> Any:
    """The actor of this name, started where there is none."""
    return IdentityActor.options(  # type: ignore[attr-defined]
        name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(settings, name)
