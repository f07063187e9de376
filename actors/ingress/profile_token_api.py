"""The control API's part for tokens of the Profile API, at ``/api/identities/{identity}/profile-tokens``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.params import Depends
from pydantic import BaseModel, ConfigDict, Field

from actors.ingress.path_names import Name
from segment_do.profile_api import ProfileToken

__all__ = ["ProfileTokenPlatform", "add_profile_token_paths"]


class ProfileTokenPlatform(Protocol):
    """What stands behind these paths."""

    async def profile_tokens(self, identity: str) -> list[ProfileToken]: ...
    async def create_profile_token(self, identity: str, name: str) -> tuple[ProfileToken, str]: ...
    async def revoke_profile_token(self, identity: str, token_id: str) -> None: ...


class NewToken(BaseModel):
    """Body of ``POST``: what to call it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("token", max_length=200)


def add_profile_token_paths(api: FastAPI, platform: ProfileTokenPlatform, guarded: Sequence[Depends]) -> None:
    """Add the paths; ``guarded`` lets only the admin in."""
    below = "/api/identities/{identity}/profile-tokens"

    @api.get(below, dependencies=guarded)
    async def profile_tokens(identity: Name) -> dict[str, Any]:
        return {"tokens": [_shown(each) for each in await platform.profile_tokens(identity)]}

    @api.post(below, dependencies=guarded)
    async def create_profile_token(identity: Name, new: NewToken) -> dict[str, Any]:
        made, secret = await platform.create_profile_token(identity, new.name)
        return {**_shown(made), "token": secret}

    @api.delete(below + "/{token_id}", dependencies=guarded)
    async def revoke_profile_token(identity: Name, token_id: Name) -> dict[str, Any]:
        await platform.revoke_profile_token(identity, token_id)
        return {"revoked": token_id}


def _shown(token: ProfileToken) -> dict[str, Any]:
    return {"id": token.id, "identity": token.identity, "name": token.name, "createdAt": token.created_at}
