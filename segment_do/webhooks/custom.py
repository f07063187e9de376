"""The kind of webhook that its user describes: events by a mapping, or by a function."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from segment_do.errors import InvalidEvent, InvalidRequest
from segment_do.functions import Functions, PythonFunction, check_python
from segment_do.mapping import Mapping, compile_mapping
from segment_do.mapping.paths import look_up, steps_of
from segment_do.mapping.values import MISSING
from segment_do.webhooks.call import Call, Made, Unmapped, decoded, event_id
from segment_do.webhooks.signature import Signature
from segment_do.webhooks.wrappers import Message, unwrap

__all__ = ["CustomHook", "CustomSettings"]

_DELIVERY_HEADERS: Final = ("idempotency-key", "webhook-id", "x-github-delivery", "x-shopify-webhook-id")
"""Headers in which senders name a delivery, the same in each attempt."""
_MOST_EVENTS: Final = 2_500
_MOST_MAPPINGS: Final = 100
_FUNCTION: Final = "on_request"

_encode: Final = msgspec.json.Encoder().encode


class CustomSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of the kind ``custom``."""

    mapping: dict[str, Any] | list[dict[str, Any]] | None = None
    """Payload → event (docs/mapping.md), or several of them. An event whose ``type`` comes out empty is not made."""
    each: str | None = None
    """Path to a list in the payload: the mapping then makes an event of each of its items."""
    function: str | None = None
    """Python with ``on_request(request, settings)``, which returns an event or a list of them; instead of a mapping."""
    function_settings: dict[str, Any] = {}
    """Handed to the function as ``settings``."""
    unwrap: bool = False
    """Take wrappers of queues and event buses off first."""
    signature: Signature | None = None


class CustomHook:
    """Made from settings and the source's id; ``functions`` runs the function, where there is one."""

    def __init__(self, settings: CustomSettings, functions: Functions) -> None:
        """Raises InvalidRequest: the mapping, the function, or both or none of them."""
        if (settings.mapping is None) == (settings.function is None):
            raise InvalidRequest(
                "A custom webhook has either a mapping or a function.",
                hint="docs/webhooks.md shows both.",
                code="invalid_webhook",
            )
        self._settings = settings
        self._functions = functions
        self._function: PythonFunction | None = None
        self._mappings: list[Mapping] = []
        self._each = None if settings.each is None else steps_of(settings.each)
        if settings.function is not None:
            self._function = check_python(settings.function, _FUNCTION)
            return
        given = settings.mapping if isinstance(settings.mapping, list) else [settings.mapping]
        if not 1 <= len(given) <= _MOST_MAPPINGS:
            raise InvalidRequest(f"A webhook has 1 to {_MOST_MAPPINGS} mappings.", code="invalid_webhook")
        self._mappings = [compile_mapping(mapping) for mapping in given]

    @property
    def signed(self) -> bool:
        """Whether there is a secret."""
        return self._settings.signature is not None

    def verify(self, call: Call) -> None:
        """See :class:`~.call.Hook`."""
        if self._settings.signature is not None:
            self._settings.signature.verify(call)

    async def take(self, call: Call) -> Made:
        """See :class:`~.call.Hook`."""
        payload = decoded(call.body)
        reply: dict[str, Any] = {}
        messages = [Message(payload)]
        if self._settings.unwrap:
            messages, reply = unwrap(payload, call.headers)
        given = next((call.headers[name] for name in _DELIVERY_HEADERS if call.headers.get(name)), None)
        made = Made([], 0, reply)
        for index, message in enumerate(messages):
            delivery = message.delivery or (None if given is None else f"{given}:{index}")
            made = await self._take(call, message._replace(delivery=delivery), made)
        return made

    async def _take(self, call: Call, message: Message, made: Made) -> Made:
        if message.error is not None:
            made.events.append(Unmapped(_encode(message.payload), message.error))
            return made
        try:
            if self._function is not None:
                results = await self._called(call, message, self._function)
            else:
                results = self._mapped(message.payload)
        except InvalidEvent as error:
            made.events.append(Unmapped(_encode(message.payload), error))
            return made
        ignored = made.ignored + (0 if results else 1)
        for index, result in enumerate(results):
            if isinstance(result, Unmapped):
                made.events.append(result)
            elif _is_none(result):
                ignored += 1
            else:
                made.events.append(_event(result, call.source_id, message, index))
        return made._replace(ignored=ignored)

    def _mapped(self, payload: Any) -> list[Any]:
        items = [payload]
        if self._each is not None:
            found = look_up(payload, self._each)
            if found is MISSING or not isinstance(found, list):
                raise InvalidEvent(f"There is no list at {self._settings.each!r}.", code="mapping_failed")
            items = found
        if len(items) * len(self._mappings) > _MOST_EVENTS:
            raise InvalidEvent(f"One call makes at most {_MOST_EVENTS:,} events.", code="too_many_events")
        results: list[Any] = []
        for item in items:
            for mapping in self._mappings:
                try:
                    results.append(mapping.apply(item))
                except InvalidEvent as error:
                    results.append(Unmapped(_encode(item), error))
        return results

    async def _called(self, call: Call, message: Message, function: PythonFunction) -> list[Any]:
        request = {"body": message.payload, "headers": dict(call.headers), "query": dict(call.query)}
        returned = await self._functions.call(function, request, self._settings.function_settings)
        results = returned if isinstance(returned, list) else [] if returned is None else [returned]
        if len(results) > _MOST_EVENTS:
            raise InvalidEvent(f"One call makes at most {_MOST_EVENTS:,} events.", code="too_many_events")
        return results


def _is_none(result: Any) -> bool:
    return result is None or (isinstance(result, dict) and result.get("type") in (None, ""))


def _event(result: Any, source_id: str, message: Message, index: int) -> bytes | Unmapped:
    """A result as an event's JSON, with a message id where the delivery has a name that one can be made from."""
    if isinstance(result, dict) and message.delivery is not None and result.get("messageId") in (None, ""):
        result = {**result, "messageId": event_id(source_id, message.delivery, index)}
    try:
        return _encode(result)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        told = InvalidEvent(f"The function returned no JSON: {error}.", code="function_failed")
        return Unmapped(_encode(message.payload), told)
