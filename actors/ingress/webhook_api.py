"""The control API's part for webhooks: what a source makes of the calls it takes, at ``/api/sources/{id}/webhook``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from fastapi import FastAPI
from fastapi.params import Depends
from pydantic import BaseModel, ConfigDict, Field

from actors.control.model import Source
from segment_do.errors import NotFound
from segment_do.webhooks import KINDS, WebhookConfig, masked, validated

__all__ = ["WebhookPlatform", "add_webhook_paths"]


class WebhookPlatform(Protocol):
    """What stands behind these paths."""

    async def sources(self) -> list[Source]: ...
    async def set_webhook(self, source_id: str, webhook: WebhookConfig | None) -> Source: ...


class NewWebhook(BaseModel):
    """Body of ``PUT``: a kind, and its settings (docs/webhooks.md)."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(max_length=100)
    settings: dict[str, Any] = {}


def add_webhook_paths(api: FastAPI, platform: WebhookPlatform, guarded: Sequence[Depends]) -> None:
    """Add the paths; ``guarded`` lets only the admin in."""
    path = "/api/sources/{source_id}/webhook"

    @api.get(path, dependencies=guarded)
    async def webhook(source_id: str) -> dict[str, Any]:
        for source in await platform.sources():
            if source.id == source_id and source.webhook is not None:
                return _shown(source)
        raise NotFound(f"The source {source_id!r} takes no webhook.", code="no_webhook")

    @api.put(path, dependencies=guarded)
    async def set_webhook(source_id: str, new: NewWebhook) -> dict[str, Any]:
        return _shown(await platform.set_webhook(source_id, validated(new.kind, new.settings)))

    @api.delete(path, dependencies=guarded)
    async def delete_webhook(source_id: str) -> dict[str, Any]:
        await platform.set_webhook(source_id, None)
        return {"deleted": source_id}

    @api.get("/api/webhook-kinds", dependencies=guarded)
    async def webhook_kinds() -> dict[str, Any]:
        return {
            "kinds": [
                {
                    "kind": kind.name,
                    "description": kind.description,
                    "settings": [field.name for field in msgspec.structs.fields(kind.settings)],
                }
                for kind in KINDS.values()
            ]
        }


def _shown(source: Source) -> dict[str, Any]:
    webhook = source.webhook
    return {
        "sourceId": source.id,
        "path": f"/webhooks/{source.id}",
        "kind": None if webhook is None else webhook.kind,
        "settings": {} if webhook is None else masked(webhook),
    }
