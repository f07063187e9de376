"""The control API's part for OAuth: apps of a source and their public keys, below ``/api/sources/{id}/oauth-apps``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.params import Depends
from pydantic import BaseModel, ConfigDict, Field

from segment_do.oauth import App

__all__ = ["OAuthPlatform", "add_oauth_paths"]


class OAuthPlatform(Protocol):
    """What stands behind these paths, and behind ``/token``."""

    async def oauth_apps(self, source_id: str) -> list[App]: ...
    async def create_oauth_app(self, source_id: str, name: str, pem: str, kid: str | None) -> App: ...
    async def add_oauth_key(self, source_id: str, app_id: str, pem: str, kid: str | None) -> App: ...
    async def delete_oauth_key(self, source_id: str, app_id: str, kid: str) -> App: ...
    async def enable_oauth_app(self, source_id: str, app_id: str, enabled: bool) -> App: ...
    async def delete_oauth_app(self, source_id: str, app_id: str) -> None: ...
    async def redeem(self, app_id: str, jti: str, expires_at: float) -> None: ...


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class NewKey(_Body):
    """Body of ``POST …/{app}/keys``: a PEM, and what to call it; by default a part of its fingerprint."""

    public_key: str = Field(alias="publicKey", max_length=16_384)
    kid: str | None = Field(None, max_length=200)


class NewApp(NewKey):
    """Body of ``POST …/oauth-apps``: a name, and its first key."""

    name: str = Field(max_length=200)


class ChangedApp(_Body):
    """Body of ``PATCH …/{app}``."""

    enabled: bool


def add_oauth_paths(api: FastAPI, platform: OAuthPlatform, guarded: Sequence[Depends]) -> None:
    """Add the paths; ``guarded`` lets only the admin in."""
    below = "/api/sources/{source_id}/oauth-apps"

    @api.get(below, dependencies=guarded)
    async def oauth_apps(source_id: str) -> dict[str, Any]:
        return {"apps": [_shown(app) for app in await platform.oauth_apps(source_id)]}

    @api.post(below, dependencies=guarded)
    async def create_oauth_app(source_id: str, new: NewApp) -> dict[str, Any]:
        return _shown(await platform.create_oauth_app(source_id, new.name, new.public_key, new.kid))

    @api.patch(below + "/{app_id}", dependencies=guarded)
    async def change_oauth_app(source_id: str, app_id: str, changed: ChangedApp) -> dict[str, Any]:
        return _shown(await platform.enable_oauth_app(source_id, app_id, changed.enabled))

    @api.delete(below + "/{app_id}", dependencies=guarded)
    async def delete_oauth_app(source_id: str, app_id: str) -> dict[str, Any]:
        await platform.delete_oauth_app(source_id, app_id)
        return {"deleted": app_id}

    @api.post(below + "/{app_id}/keys", dependencies=guarded)
    async def add_oauth_key(source_id: str, app_id: str, new: NewKey) -> dict[str, Any]:
        return _shown(await platform.add_oauth_key(source_id, app_id, new.public_key, new.kid))

    @api.delete(below + "/{app_id}/keys/{kid}", dependencies=guarded)
    async def delete_oauth_key(source_id: str, app_id: str, kid: str) -> dict[str, Any]:
        return _shown(await platform.delete_oauth_key(source_id, app_id, kid))


def _shown(app: App) -> dict[str, Any]:
    return {
        "id": app.id,
        "name": app.name,
        "sourceId": app.source_id,
        "scopes": list(app.scopes),
        "enabled": app.enabled,
        "createdAt": app.created_at,
        "keys": [
            {"kid": key.kid, "fingerprint": key.fingerprint, "createdAt": key.created_at, "publicKey": key.pem}
            for key in app.keys
        ],
    }
