"""Kinds of webhooks by name, and what is done with their settings: validate, mask, make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from segment_do.errors import InvalidRequest
from segment_do.functions import Functions
from segment_do.webhooks.call import Hook, WebhookConfig
from segment_do.webhooks.commercetools import CommercetoolsHook, CommercetoolsSettings
from segment_do.webhooks.custom import CustomHook, CustomSettings
from segment_do.webhooks.segment import SegmentHook, SegmentSettings

__all__ = ["KINDS", "Kind", "make_hook", "masked", "validated"]

_MASK: Final = "********"
_SECRET: Final = frozenset({"secret", "function_settings"})
_MOST_BYTES: Final = 256_000


class Kind(NamedTuple):
    """A kind of webhook."""

    name: str
    description: str
    settings: type[msgspec.Struct]
    make: Callable[[Any, Functions], Hook]


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("custom", "Any JSON, turned into events by a mapping or a function.", CustomSettings, CustomHook),
        Kind(
            "segment",
            "Segment's own webhooks: the events of another workspace, signed.",
            SegmentSettings,
            lambda settings, _functions: SegmentHook(settings),
        ),
        Kind(
            "commercetools",
            "commercetools' messages about customers, from any of its queues.",
            CommercetoolsSettings,
            lambda settings, _functions: CommercetoolsHook(settings),
        ),
    )
}


def validated(kind: str, settings: Mapping[str, Any]) -> WebhookConfig:
    """A webhook as it is stored.

    Raises:
        InvalidRequest: the kind is unknown, or a setting is unknown, missing or wrong. Never holds a value.
    """
    declared = _find(kind)
    read = _read(declared, settings)
    declared.make(read, Functions())  # mappings and functions are looked at; nothing starts
    plain = msgspec.to_builtins(read)
    if len(msgspec.json.encode(plain)) > _MOST_BYTES:
        raise InvalidRequest(f"A webhook's settings have at most {_MOST_BYTES:,} bytes.", code="invalid_webhook")
    return WebhookConfig(kind, plain)


def make_hook(config: WebhookConfig, functions: Functions) -> Hook:
    """What takes the calls of a stored webhook.

    Raises:
        InvalidRequest: it does not fit its kind as the kind is now.
    """
    declared = _find(config.kind)
    return declared.make(_read(declared, config.settings), functions)


def masked(config: WebhookConfig) -> dict[str, Any]:
    """Settings as they may be shown."""
    return {name: _masked(name, value) for name, value in config.settings.items()}


def _masked(name: str, value: Any) -> Any:
    if name in _SECRET and value:
        return _MASK
    if name == "signature" and isinstance(value, dict):
        return {inner: _masked(inner, given) for inner, given in value.items()}
    return value


def _find(kind: str) -> Kind:
    declared = KINDS.get(kind)
    if declared is None:
        raise InvalidRequest(f"There is no kind of webhook {kind[:64]!r}.", hint=f"Kinds: {', '.join(KINDS)}.")
    return declared


def _read(declared: Kind, settings: Mapping[str, Any]) -> msgspec.Struct:
    try:
        return msgspec.convert(dict(settings), declared.settings)
    except msgspec.ValidationError as error:
        names = ", ".join(field.name for field in msgspec.structs.fields(declared.settings))
        raise InvalidRequest(
            f"The settings of the {declared.name} webhook cannot be used: {error}.",
            hint=f"Settings: {names}. docs/webhooks.md has each.",
            code="invalid_webhook",
        ) from None
