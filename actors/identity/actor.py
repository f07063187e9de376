"""Ray shell of identities: one actor for one (``dedicated``) or for many (``pool``)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import ray

from actors.calls import Actors
from actors.identity.household import Household
from actors.ingress.dispatcher import decode_batches
from actors.logs import configure_logs
from actors.naming import NAMESPACE, QUEUE
from actors.process import freeze_imports, give_way
from actors.queue.actor import make_queue
from actors.queue.log import Entry
from segment_do.settings import Settings

__all__ = ["IdentityActor", "make_identity"]


@ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=1000)
class IdentityActor:
    """Named ``identity:tom`` or ``identity-pool:3``. Holds no identity before the first call for it."""

    async def __init__(self, settings: Settings, name: str) -> None:  # type: ignore[misc]  # Ray awaits it
        configure_logs(settings, name)
        give_way()
        self._actors = Actors(lambda _name: make_queue(settings))
        self._household = Household(settings, self._hand_over)
        # A pool's actors stay; a dedicated one leaves with its identity and comes back with the next event.
        self._leaves = settings.identity.placement == "dedicated"
        self._keeping = asyncio.create_task(self._keep_house())
        freeze_imports()

    async def apply(self, data: bytes) -> None:
        """Apply batches of events; returns when all are committed."""
        await self._household.apply(decode_batches(data))

    async def profile(self, identity: str, kind: str, value: str) -> bytes | None:
        """A profile as msgpack; None where the id was never seen."""
        found = await self._household.profile(identity, kind, value)
        return None if found is None else msgspec.msgpack.encode(found)

    async def status(self) -> list[dict[str, Any]]:
        """The identities that are awake here."""
        return self._household.status()

    async def _hand_over(self, entries: list[Entry]) -> None:
        await self._actors.call(QUEUE, "append", entries)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._household.keep()
            if self._leaves and self._household.empty:
                await self._household.close()
                ray.actor.exit_actor()


def make_identity(settings: Settings, name: str) -> Any:
    """The actor of this name, started where there is none."""
    return IdentityActor.options(  # type: ignore[attr-defined]
        name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(settings, name)
