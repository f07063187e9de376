"""The control API: what the CLI, the SDK and programs ask of the platform, under ``/api`` on the same port.

Every path but ``/health``, ``/ready`` and ``/metrics`` wants the admin token. Answers are JSON; errors have the shape of
``answers.error_body``. Secrets (write keys apart, which are what sources are for) come back masked. No CORS: not for browsers of
other origins.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from actors.control.model import Source
from actors.ingress.answers import error_body, status_of
from actors.ingress.identity_api import IdentityPlatform, add_identity_paths, shown_profile
from actors.ingress.oauth_api import OAuthPlatform, add_oauth_paths
from actors.ingress.path_names import Name, PathsAsSent
from actors.ingress.profile_token_api import ProfileTokenPlatform, add_profile_token_paths
from actors.ingress.webhook_api import WebhookPlatform, add_webhook_paths
from segment_do.errors import Busy, InvalidRequest, NotFound, NotReady, SegmentDoError, Unauthorized, Unavailable
from segment_do.version import __version__

__all__ = ["Platform", "control_api"]


class Platform(OAuthPlatform, WebhookPlatform, IdentityPlatform, ProfileTokenPlatform, Protocol):
    """What stands behind the API. The real one calls actors; see ``actors/platform.py``."""

    async def ready(self) -> None:
        """Prove that an event would be stored now; raises what stands in the way."""

    def metrics(self) -> bytes:
        """Prometheus text."""

    async def status(self) -> dict[str, Any]: ...
    async def create_source(self, name: str, identity: str | None, ensure: bool) -> Source: ...
    async def rotate_source(self, source_id: str) -> Source: ...
    async def require_oauth(self, source_id: str, required: bool) -> Source: ...
    async def delete_source(self, source_id: str) -> None: ...
    async def destinations(self) -> list[dict[str, Any]]: ...
    async def destination_types(self) -> list[dict[str, Any]]: ...
    async def add_destination(
        self, kind: str, source_id: str | None, name: str | None, settings: dict[str, Any]
    ) -> dict[str, Any]: ...
    async def test_destination(self, destination_id: str) -> dict[str, Any]: ...
    async def delete_destination(self, destination_id: str) -> None: ...
    async def dead_letters(self, destination_id: str, limit: int) -> list[dict[str, Any]]: ...
    async def replay(self, destination_id: str, dead: bool, from_offset: int | None) -> int: ...
    async def sql(self, sql: str) -> dict[str, Any]: ...
    async def rejected(self, limit: int) -> list[dict[str, Any]]: ...
    async def trace(self, message_id: str) -> dict[str, Any]: ...
    async def profile(self, identity: str, kind: str, value: str) -> dict[str, Any]: ...
    def tail(self, source: str | None, identity: str | None, after: int | None) -> AsyncIterator[bytes]: ...


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class NewSource(_Body):
    """Body of ``POST /api/sources``."""

    name: str = Field(max_length=200)
    identity: str | None = Field(None, max_length=200)
    ensure: bool = False


class ChangedSource(_Body):
    """Body of ``PATCH /api/sources/{id}``."""

    require_oauth: bool = Field(alias="requireOAuth")


class NewDestination(_Body):
    """Body of ``POST /api/destinations``."""

    type: str
    source_id: str | None = Field(None, alias="sourceId")
    name: str | None = None
    settings: dict[str, Any] = {}


class Replay(_Body):
    """Body of ``POST /api/destinations/{id}/replay``: dead letters, or the log from an offset on."""

    dead: bool = False
    from_offset: int | None = Field(None, alias="fromOffset", ge=0)


class Sql(_Body):
    """Body of ``POST /api/sql``."""

    sql: str = Field(max_length=100_000)


Limit = Annotated[int, Query(ge=1, le=10_000)]


def control_api(platform: Platform, token: str) -> FastAPI:
    """The application; ``token`` is the admin token."""
    api = FastAPI(title="segment_do control API", version=__version__, docs_url=None, redoc_url=None)
    expected = f"Bearer {token}".encode()

    def admin(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, expected):
            raise Unauthorized(
                "This path needs the admin token.",
                hint="Send `Authorization: Bearer <token>`; `segment-do token` prints it.",
                code="admin_token",
            )

    api.add_middleware(PathsAsSent)
    _answers_errors(api)
    _public(api, platform)
    guarded = [Depends(admin)]

    @api.get("/api/status", dependencies=guarded)
    async def status() -> dict[str, Any]:
        return await platform.status()

    @api.get("/api/sources", dependencies=guarded)
    async def sources() -> dict[str, Any]:
        return {"sources": [_source(source) for source in await platform.sources()]}

    @api.post("/api/sources", dependencies=guarded)
    async def create_source(new: NewSource) -> dict[str, Any]:
        return _source(await platform.create_source(new.name, new.identity, new.ensure))

    @api.post("/api/sources/{source_id}/rotate", dependencies=guarded)
    async def rotate_source(source_id: str) -> dict[str, Any]:
        return _source(await platform.rotate_source(source_id))

    @api.patch("/api/sources/{source_id}", dependencies=guarded)
    async def change_source(source_id: str, changed: ChangedSource) -> dict[str, Any]:
        return _source(await platform.require_oauth(source_id, changed.require_oauth))

    @api.delete("/api/sources/{source_id}", dependencies=guarded)
    async def delete_source(source_id: str) -> dict[str, Any]:
        await platform.delete_source(source_id)
        return {"deleted": source_id}

    add_oauth_paths(api, platform, guarded)
    add_webhook_paths(api, platform, guarded)
    add_identity_paths(api, platform, guarded)
    add_profile_token_paths(api, platform, guarded)

    @api.get("/api/destinations", dependencies=guarded)
    async def destinations() -> dict[str, Any]:
        return {"destinations": await platform.destinations()}

    @api.get("/api/destination-types", dependencies=guarded)
    async def destination_types() -> dict[str, Any]:
        return {"types": await platform.destination_types()}

    @api.post("/api/destinations", dependencies=guarded)
    async def add_destination(new: NewDestination) -> dict[str, Any]:
        return await platform.add_destination(new.type, new.source_id, new.name, new.settings)

    @api.post("/api/destinations/{destination_id}/test", dependencies=guarded)
    async def test_destination(destination_id: str) -> dict[str, Any]:
        return await platform.test_destination(destination_id)

    @api.delete("/api/destinations/{destination_id}", dependencies=guarded)
    async def delete_destination(destination_id: str) -> dict[str, Any]:
        await platform.delete_destination(destination_id)
        return {"deleted": destination_id}

    @api.get("/api/destinations/{destination_id}/dead", dependencies=guarded)
    async def dead_letters(destination_id: str, limit: Limit = 100) -> dict[str, Any]:
        return {"dead": await platform.dead_letters(destination_id, limit)}

    @api.post("/api/destinations/{destination_id}/replay", dependencies=guarded)
    async def replay(destination_id: str, wanted: Replay) -> dict[str, Any]:
        if wanted.dead == (wanted.from_offset is not None):
            raise InvalidRequest("Say what to replay: `dead: true` or `fromOffset`, one of the two.")
        return {"replayed": await platform.replay(destination_id, wanted.dead, wanted.from_offset)}

    @api.post("/api/sql", dependencies=guarded)
    async def sql(wanted: Sql) -> Response:
        return _json(await platform.sql(wanted.sql))

    @api.get("/api/rejected", dependencies=guarded)
    async def rejected(limit: Limit = 100) -> Response:
        return _json({"rejected": await platform.rejected(limit)})

    @api.get("/api/trace/{message_id:path}", dependencies=guarded)
    async def trace(message_id: str) -> dict[str, Any]:
        return await platform.trace(message_id)

    @api.get("/api/profiles/{identity}/{external_id:path}", dependencies=guarded)
    async def profile(identity: Name, external_id: Annotated[Name, Path()]) -> Response:
        return _json(shown_profile(await platform.ask(identity, "profile", {"id": external_id})))

    @api.get("/api/tail", dependencies=guarded)
    async def tail(request: Request, source: str | None = None, identity: str | None = None) -> StreamingResponse:
        last = request.headers.get("last-event-id", "")  # a reader that comes back goes on where it was
        return StreamingResponse(
            platform.tail(source, identity, int(last) if last.isdecimal() and len(last) < 19 else None),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return api


def _public(api: FastAPI, platform: Platform) -> None:
    @api.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "alive", "version": __version__}

    @api.get("/ready")
    async def ready() -> dict[str, Any]:
        try:
            await platform.ready()
        except Busy as error:
            raise NotReady(error.message, retry_after=error.retry_after) from error
        return {"status": "ready"}

    @api.get("/metrics")
    async def metrics() -> Response:
        return Response(platform.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _answers_errors(api: FastAPI) -> None:
    @api.exception_handler(SegmentDoError)
    async def known(_request: Request, error: SegmentDoError) -> Response:
        headers = {"retry-after": str(error.retry_after)} if isinstance(error, Unavailable) else None
        return Response(error_body(error), status_of(error), headers, "application/json")

    @api.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            told = InvalidRequest("The body is no JSON that can be read.")
            return Response(error_body(told), 400, media_type="application/json")
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        told = InvalidRequest(f"{where or 'The body'}: {first['msg']}.")
        return Response(error_body(told), 400, media_type="application/json")

    @api.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        told: SegmentDoError = InvalidRequest(error.detail)
        if error.status_code == 404:
            told = NotFound("There is nothing at this path.")
        elif error.status_code == 405:
            told = InvalidRequest(f"This path does not take {request.method}.", code="method_not_allowed")
        return Response(error_body(told), error.status_code, error.headers, "application/json")

    @api.exception_handler(Exception)
    async def unknown(_request: Request, _error: Exception) -> Response:
        told = SegmentDoError("The request failed inside the platform.", hint="The log says why.")
        return Response(error_body(told), 500, media_type="application/json")


def _source(source: Source) -> dict[str, Any]:
    return {
        "id": source.id,
        "name": source.name,
        "identity": source.identity,
        "writeKey": source.write_key,
        "createdAt": source.created_at,
        "requireOAuth": source.require_oauth,
        "webhook": None if source.webhook is None else source.webhook.kind,
    }


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json")
