"""Destination types by name, and what is done with their settings: validate, mask, make a sender.

A type is loaded when it is first asked for. Others add theirs from their own packages with an entry point in the
group ``segment_do.destinations``: its name is the type, its object a :class:`~destinations.base.Destination`. A
built-in type cannot be replaced that way.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from destinations.address import check_url
from destinations.base import Destination, DestinationConfig, Exchange, Field, Sender
from segment_do.errors import InvalidRequest, SettingsError

__all__ = ["MASK", "find", "make_sender", "mask", "types", "validate"]

GROUP = "segment_do.destinations"
BUILT_IN = {"webhook": "destinations.webhook"}
"""Module of each type; it has a ``DESTINATION``."""

MASK = "********"
MAX_TEXT_CHARS = 8192
MAX_MAPPING_ENTRIES = 64


def types() -> list[str]:
    """All types that can be set up, sorted. Loads none of them."""
    return sorted({*BUILT_IN, *_plugins()})


@cache
def find(type_: str) -> Destination:
    """The declaration of a type.

    Raises:
        InvalidRequest: there is no such type.
        SettingsError: a package declares the type, and it cannot be loaded.
    """
    if type_ in BUILT_IN:
        found: object = import_module(BUILT_IN[type_]).DESTINATION
    else:
        plugin = _plugins().get(type_)
        if plugin is None:
            raise InvalidRequest(f"There is no destination type {type_!r}.", hint=f"Types: {', '.join(types())}.")
        try:
            found = plugin.load()
        except Exception as error:  # somebody else's import may raise anything
            raise SettingsError(
                f"The destination type {type_!r} ({plugin.value}) cannot be loaded: {type(error).__name__}: {error}."
            ) from error
    if not isinstance(found, Destination):
        raise SettingsError(f"The entry point of destination type {type_!r} is not a destinations.base.Destination.")
    return found


def validate(type_: str, settings: Mapping[str, Any], *, allow_private_addresses: bool = True) -> dict[str, Any]:
    """Settings as they are stored: each one checked, defaults filled in, in the declaration's order.

    Raises:
        InvalidRequest: the type is unknown, or a setting is unknown, missing or wrong. The message names it and
            never holds its value.
    """
    declared = find(type_)
    unknown = sorted(str(name) for name in settings if name not in {field.name for field in declared.fields})
    if unknown:
        names = ", ".join(field.name for field in declared.fields)
        raise InvalidRequest(f"{declared.name} has no setting {unknown[0][:64]!r}.", hint=f"Settings: {names}.")
    valid: dict[str, Any] = {}
    for field in declared.fields:
        value = settings.get(field.name)
        if value is None or value == "":
            if field.required:
                raise InvalidRequest(f"{declared.name} needs the setting {field.name!r}: {field.label}.")
            value = field.default
        if value is not None:
            value = _checked(field, value, allow_private_addresses)
        valid[field.name] = value
    if declared.check is not None:
        declared.check(valid)
    return valid


def mask(config: DestinationConfig) -> dict[str, Any]:
    """Settings as they may be shown. What is not known to be harmless is masked, also of a type that is gone."""
    try:
        fields = {field.name: field for field in find(config.type).fields}
    except (InvalidRequest, SettingsError):
        fields = {}
    return {name: _masked(fields.get(name), value) for name, value in config.settings.items()}


def make_sender(config: DestinationConfig, exchange: Exchange) -> Sender:
    """The sender of a configured destination; ``exchange`` is its :class:`~destinations.http.Http`.

    Raises:
        InvalidRequest: the stored settings do not fit the type as it is now.
        SettingsError: the type cannot be loaded.
    """
    return find(config.type).make(validate(config.type, config.settings), exchange)


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _checked(field: Field, value: Any, allow_private_addresses: bool) -> Any:
    def wrong(expected: str) -> InvalidRequest:
        return InvalidRequest(f"The setting {field.name!r} must be {expected}.", hint=field.description)

    if field.type == "url":
        try:
            return check_url(value, allow_private_addresses=allow_private_addresses)
        except InvalidRequest as error:
            raise InvalidRequest(f"The setting {field.name!r}: {error.message}", hint=error.hint) from None
    if field.type == "boolean":
        if not isinstance(value, bool):
            raise wrong("true or false")
    elif field.type == "integer":
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong("a whole number")
        if field.minimum is not None and value < field.minimum:
            raise wrong(f"at least {field.minimum}")
        if field.maximum is not None and value > field.maximum:
            raise wrong(f"at most {field.maximum}")
    elif field.type == "choice":
        if value not in field.choices:
            raise wrong(f"one of {', '.join(field.choices)}")
    elif field.type == "mapping":
        if not isinstance(value, Mapping) or not all(_is_text(part) for pair in value.items() for part in pair):
            raise wrong("an object of texts")
        if len(value) > MAX_MAPPING_ENTRIES:
            raise wrong(f"of at most {MAX_MAPPING_ENTRIES} entries")
        return dict(value)
    elif not _is_text(value):
        raise wrong(f"text of at most {MAX_TEXT_CHARS} characters")
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT_CHARS


def _masked(field: Field | None, value: Any) -> Any:
    if value is None or (field is not None and not field.secret):
        return value
    if isinstance(value, Mapping):
        return dict.fromkeys(value, MASK)
    return MASK
