"""``/webhooks/{source}``: any program's calls, turned into events by the webhook of the source.

The order: source by its id in the path → body, within the door's bounds → proven by signature or write key → events → journal → 200 once they are on
disk. The answer says how many events were made, how many parts of the call were ignored, and what was set aside, why; a call that is
not understood is a 4xx with a code and a sentence. With ``?dryRun=true`` the answer holds the events, and nothing is stored.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec
import uuid_utils

from actors.control.model import Source
from actors.ingress.answers import Send, error_body, send_answer
from actors.ingress.awaited import AwaitedExchange, admitted_body
from actors.ingress.bearer import Bearers
from actors.ingress.body import ClientGone, Receive
from actors.ingress.door import Door
from actors.ingress.keys import Keys, basic_key
from segment_do.errors import MalformedBody, NotFound, NotReady, Unauthorized
from segment_do.events.intake import Caller, Limits, made_intake
from segment_do.functions import Functions
from segment_do.settings import IngressSettings
from segment_do.webhooks import Call, Hook, Made, Unmapped, WebhookConfig, make_hook

__all__ = ["WebhookApp"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PREFIX: Final = "/webhooks/"
_MOST_HOOKS: Final = 1_000
"""Mappings made ready and kept; at the bound all are made again when they are needed."""


class WebhookApp:
    """ASGI application; what is not for it goes ``elsewhere``. One event loop uses it; :meth:`close` it at the end."""

    def __init__(
        self,
        settings: IngressSettings,
        door: Door,
        keys: Keys,
        bearers: Bearers,
        elsewhere: App,
        *,
        clock: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = lambda: str(uuid_utils.uuid7()),
    ) -> None:
        self._settings = settings
        self._door = door
        self._keys = keys
        self._bearers = bearers
        self._elsewhere = elsewhere
        self._clock = clock
        self._new_id = new_id
        self._limits = Limits(settings.max_event_bytes, settings.max_batch_events)
        self._functions = Functions()
        self._hooks: dict[str, tuple[WebhookConfig, Hook]] = {}

    async def close(self) -> None:
        """End the workers of functions."""
        await self._functions.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if not path.startswith(_PREFIX):
            await self._elsewhere(scope, receive, send)
        elif scope["method"] == "POST":
            await self._take(unquote(path.removeprefix(_PREFIX).strip("/")), scope, receive, send)
        else:
            await _answer_others(scope, send)

    async def _take(self, source_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = AwaitedExchange("webhook", False, scope)
        exchange.origin = None  # no CORS: a webhook's sender is a server
        try:
            body = await admitted_body(self._door, exchange, receive, self._settings)
        except ClientGone:
            return
        if body is not None:
            try:
                await self._keep(exchange, source_id, body, scope)
            except Exception as error:  # noqa: BLE001  # told to the caller; nothing of it is stored
                self._door.refuse(exchange, error)
        await send_answer(send, *await exchange.answered)

    async def _keep(self, exchange: AwaitedExchange, source_id: str, body: bytes, scope: Scope) -> None:
        if not self._keys.loaded:
            raise NotReady("The platform is starting: sources are not loaded yet.", retry_after=1)
        source = await self._keys.webhook_source(source_id)
        if source is None or source.webhook is None:
            raise NotFound(
                "There is no webhook at this path." if source is None else "This source takes no webhook.",
                hint="`segment-do sources webhook set` makes one.",
                code="no_webhook",
            )
        query = _query(scope["query_string"])
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        call = Call(source.id, self._door.decoded(exchange, body), headers, query)
        hook = self._hook(source.id, source.webhook)
        dry = query.get("dryRun") == "true"
        await self._prove(hook, call, source, exchange.authorization, dry)
        made = await hook.take(call)
        if dry:
            self._door.answer(exchange, 200, _shown(made), None)
            return
        intake = made_intake(made.events, Caller(source.id), self._clock() // 1000, self._new_id, self._limits)
        told = {"events": intake.events - len(intake.refused), "ignored": made.ignored, **made.reply}
        self._door.keep(exchange, source, intake, told)

    async def _prove(self, hook: Hook, call: Call, source: Source, header: bytes | None, dry: bool) -> None:
        """Raises Unauthorized: the call has neither a good signature nor, where none is expected, the source's key."""
        if hook.signed and not dry:
            hook.verify(call)
            return
        key = basic_key(header or b"") or call.query.get("writeKey")
        token = header is not None and header[:7].lower() == b"bearer "
        if (source.require_oauth and not dry) or (token and not key):
            if not token:
                raise Unauthorized("This source takes calls with an access token only.", code="oauth_required")
            await self._bearers.admit(msgspec.structs.replace(source, require_oauth=True), header)
        elif key is None or not hmac.compare_digest(key.encode(), source.write_key.encode()):
            raise Unauthorized(
                "The write key is missing." if key is None else "The write key is not this source's.",
                hint="Send it as the user name of Basic authentication, or as ?writeKey= in the address.",
                code="missing_write_key" if key is None else "unknown_write_key",
            )

    def _hook(self, source_id: str, config: WebhookConfig) -> Hook:
        kept = self._hooks.get(source_id)
        if kept is not None and kept[0] == config:
            return kept[1]
        if len(self._hooks) >= _MOST_HOOKS:
            self._hooks.clear()
        hook = make_hook(config, self._functions)
        self._hooks[source_id] = (config, hook)
        return hook


async def _answer_others(scope: Scope, send: Send) -> None:
    """CloudEvents' handshake (its webhook specification, section 4): may this origin send? Others are told what goes."""
    asked = dict(scope["headers"]).get(b"webhook-request-origin")
    if scope["method"] == "OPTIONS" and asked is not None:
        await send_answer(send, 200, b"{}", [(b"webhook-allowed-origin", asked), (b"webhook-allowed-rate", b"*")])
        return
    error = MalformedBody("This path takes POST.", code="method_not_allowed")
    await send_answer(send, 405, error_body(error), [(b"allow", b"POST")])


def _shown(made: Made) -> bytes:
    events = [
        {"rejected": {"code": one.error.code, "message": one.error.message}}
        if isinstance(one, Unmapped)
        else msgspec.Raw(one)
        for one in made.events
    ]
    return msgspec.json.encode(
        {"success": True, "dryRun": True, "events": events, "ignored": made.ignored, **made.reply}
    )


def _query(query: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise MalformedBody(f"The query cannot be read: {error}.") from None
