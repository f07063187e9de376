"""Ray shell of the control store."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import ray

from actors.control.model import Source
from actors.logs import configure_logs
from actors.naming import CONTROL, NAMESPACE
from actors.process import freeze_imports
from segment_do.oauth import App, Redemptions
from segment_do.profile_api import ProfileToken
from segment_do.settings import Settings
from segment_do.webhooks import WebhookConfig

__all__ = ["ControlActor", "make_control"]


@ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=1000)
class ControlActor:
    """Named ``control``: the one owner of sources and destinations."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        from actors.control.store import ControlStore

        configure_logs(settings, "control")
        settings.paths.create()
        self._store = await ControlStore.open(settings.paths.control)
        self._redemptions = Redemptions(settings.oauth.tokens_per_minute)
        freeze_imports()

    async def key_set(self, since: int, wait_seconds: float) -> tuple[int, list[Source], list[App], list[ProfileToken]]:
        """All sources, OAuth apps and profile tokens once the store is newer than ``since``; a long poll."""
        version = await self._store.wait_newer(since, wait_seconds)
        store = self._store
        return version, await store.sources(), await store.oauth.all(), await store.profile_tokens.all()

    async def destinations(self, since: int, wait_seconds: float) -> tuple[int, bytes]:
        """All destinations (msgpack) once the store is newer than ``since``; a long poll."""
        version = await self._store.wait_newer(since, wait_seconds)
        return version, msgspec.msgpack.encode(await self._store.destinations())

    async def create_source(self, name: str, identity: str | None, ensure: bool) -> Source:
        """See the store."""
        return await self._store.create_source(name, identity, ensure=ensure)

    async def rotate(self, source_id: str) -> Source:
        """See the store."""
        return await self._store.rotate(source_id)

    async def delete_source(self, source_id: str) -> None:
        """See the store."""
        await self._store.delete_source(source_id)

    async def require_oauth(self, source_id: str, required: bool) -> Source:
        """See the store."""
        return await self._store.require_oauth(source_id, required)

    async def set_webhook(self, source_id: str, webhook: WebhookConfig | None) -> Source:
        """See the store."""
        return await self._store.set_webhook(source_id, webhook)

    async def oauth_apps(self, source_id: str) -> list[App]:
        """See the store."""
        return await self._store.oauth_apps(source_id)

    async def create_oauth_app(self, source_id: str, name: str, pem: str, kid: str | None) -> App:
        """See the store."""
        return await self._store.create_oauth_app(source_id, name, pem, kid)

    async def add_oauth_key(self, source_id: str, app_id: str, pem: str, kid: str | None) -> App:
        """See the store."""
        return await self._store.oauth.add_key(source_id, app_id, pem, kid)

    async def delete_oauth_key(self, source_id: str, app_id: str, kid: str) -> App:
        """See the store."""
        return await self._store.oauth.delete_key(source_id, app_id, kid)

    async def enable_oauth_app(self, source_id: str, app_id: str, enabled: bool) -> App:
        """See the store."""
        return await self._store.oauth.enable(source_id, app_id, enabled)

    async def delete_oauth_app(self, source_id: str, app_id: str) -> None:
        """See the store."""
        await self._store.oauth.delete(source_id, app_id)

    async def redeem(self, app_id: str, jti: str, expires_at: float) -> None:
        """Use a client assertion up, for all replicas."""
        self._redemptions.redeem(app_id, jti, expires_at, time.time())

    async def profile_tokens(self, identity: str) -> list[ProfileToken]:
        """See the store."""
        return await self._store.profile_tokens.all(identity)

    async def create_profile_token(self, identity: str, name: str) -> tuple[ProfileToken, str]:
        """See the store."""
        return await self._store.create_profile_token(identity, name)

    async def revoke_profile_token(self, identity: str, token_id: str) -> None:
        """See the store."""
        await self._store.profile_tokens.revoke(identity, token_id)

    async def add_destination(
        self, kind: str, source_id: str | None, name: str | None, settings: dict[str, Any]
    ) -> bytes:
        """See the store."""
        return msgspec.msgpack.encode(await self._store.add_destination(kind, source_id, name, settings))

    async def delete_destination(self, destination_id: str) -> None:
        """See the store."""
        await self._store.delete_destination(destination_id)


def make_control(settings: Settings) -> Any:
    """The control actor, started where there is none."""
    return ControlActor.options(  # type: ignore[attr-defined]
        name=CONTROL, namespace=NAMESPACE, lifetime="detached", get_if_exists=True
    ).remote(settings)
