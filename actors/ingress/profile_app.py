"""Segment's Profile API at ``/v1/spaces/{space}/…``: a space is an identity, and its name the space's.

For servers alone: no answer has a CORS header, preflights are refused like any other method. Each request is proven by a token of its space
(Basic, the token as user name), counted against the space's rate, then read, and asked of the identity's graph or the warehouse. Every
answer has a ``Request-Id``; what goes wrong is ``{"error": {"code", "message"}}``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

import msgspec
import structlog
import uuid_utils

from actors.ingress.answers import Headers, Send, send_answer
from actors.ingress.body import ClientGone, Receive, read_body
from actors.ingress.keys import Keys, basic_key
from segment_do.errors import NotFound, NotReady, SegmentDoError, Unauthorized, Unavailable
from segment_do.profile_api import (
    DELETED_IDS,
    Call,
    EventsWanted,
    Rates,
    error_answer,
    events_answer,
    external_ids_answer,
    links_data,
    metadata_answer,
    read_call,
    read_deletion,
    traits_answer,
)
from segment_do.profile_api.call import space_of
from segment_do.settings import Settings

__all__ = ["ProfileApp", "Profiles"]

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LARGEST_BODY_BYTES: Final = 65_536
_BY: Final = "profile api"


class Profiles(Protocol):
    """What stands behind the answers."""

    async def ask(self, identity: str, question: str, arguments: dict[str, Any]) -> Any: ...
    async def profile_events(self, wanted: EventsWanted) -> list[list[Any]]: ...


class ProfileApp:
    """ASGI application; what is not for it goes ``elsewhere``. One event loop uses it."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        profiles: Profiles,
        elsewhere: App,
        *,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: str(uuid_utils.uuid7()),
    ) -> None:
        self._body_seconds = settings.ingress.body_timeout_seconds
        self._keys = keys
        self._profiles = profiles
        self._elsewhere = elsewhere
        self._rates = Rates(settings.profiles.requests_per_second, settings.ingress.replicas)
        self._clock = clock
        self._monotonic = monotonic
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not scope.get("path", "").startswith("/v1/spaces/"):
            await self._elsewhere(scope, receive, send)
            return
        headers: Headers = [(b"request-id", self._new_id().encode()), (b"cache-control", b"no-store")]
        try:
            status, body = 200, msgspec.json.encode(await self._answer(scope, receive))
        except ClientGone:
            return
        except SegmentDoError as error:
            status, body = error_answer(error)
            if isinstance(error, Unavailable):
                headers.append((b"retry-after", str(error.retry_after).encode()))
        except Exception:
            log.exception("a profile could not be told")
            status, body = error_answer(SegmentDoError(""))
        await send_answer(send, status, body, headers)

    async def _answer(self, scope: Scope, receive: Receive) -> Any:
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        space = space_of(path)
        if space is None:
            raise NotFound("There is nothing at this path.")
        await self._prove(space, dict(scope["headers"]).get(b"authorization", b""))
        self._rates.spend(space, self._monotonic())
        call = read_call(scope["method"], path, scope["query_string"].decode("latin-1"))
        try:
            if call.part == "delete":
                return await self._delete(call, receive)
            return await _READERS[call.part](self, call)
        except NotFound:
            raise NotFound("Profile was not found.") from None  # also where the identity was never seen

    async def _prove(self, space: str, header: bytes) -> None:
        if not self._keys.loaded:
            raise NotReady("The platform is starting: tokens are not loaded yet.", retry_after=1)
        token = basic_key(header)
        if token is None or not await self._keys.opens(space, token):
            # The same for a space that is not there: who has no token learns nothing.
            raise Unauthorized("The token is missing or does not open this space.")

    async def _profile(self, call: Call, question: str = "profile") -> Any:
        found = await self._profiles.ask(call.space, question, {"id": call.profile})
        if found["collection"] != call.collection:
            raise NotFound("Profile was not found.")
        return found

    async def _traits(self, call: Call) -> Any:
        return traits_answer(call, await self._profile(call, "traits"))

    async def _external_ids(self, call: Call) -> Any:
        return external_ids_answer(call, await self._profile(call))

    async def _events(self, call: Call) -> Any:
        wanted = EventsWanted.asked(call, await self._profile(call), self._clock() // 1000)
        return events_answer(call, await self._profiles.profile_events(wanted))

    async def _metadata(self, call: Call) -> Any:
        profile = await self._profile(call)
        newest = EventsWanted.of(call.space, profile, self._clock() // 1000, limit=1)
        return metadata_answer(profile, await self._profiles.profile_events(newest))

    async def _links(self, call: Call) -> Any:
        return {"data": links_data(await self._profile(call, "links"))[: call.limit]}

    async def _delete(self, call: Call, receive: Receive) -> Any:
        body = await read_body(receive, max_bytes=_LARGEST_BODY_BYTES, timeout_seconds=self._body_seconds)
        gone = read_deletion(body)
        told = await self._profiles.ask(call.space, "delete_id", {"id": call.profile, "delete": gone, "by": _BY})
        return {DELETED_IDS: [told]}


_READERS: Final[dict[str, Callable[[ProfileApp, Call], Awaitable[Any]]]] = {
    "traits": ProfileApp._traits,
    "external_ids": ProfileApp._external_ids,
    "events": ProfileApp._events,
    "metadata": ProfileApp._metadata,
    "links": ProfileApp._links,
}
