"""External ids that events carry inside: emails, phones, devices, push tokens, ``context.externalIds``, configured keys.

Rules: Unify's list of identifiers (contract, section 3.1). ``userId`` and ``anonymousId`` are not read here: the door has them already.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

from segment_do.events.record import Record
from segment_do.identity.rules import ACCOUNT_TYPES, Rules

__all__ = ["Identifiers", "Reader", "people_of"]

_MOST: Final = 50
"""Ids that one event may carry; further ones are not promoted."""
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9_.]{0,99}")


class _Context(msgspec.Struct, gc=False, rename="camel"):
    traits: Any = None
    external_ids: Any = None
    device: Any = None
    integrations: Any = None
    group_id: Any = None


class _Event(msgspec.Struct, gc=False):
    context: Any = None
    traits: Any = None
    properties: Any = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class Identifiers(NamedTuple):
    """What an event carries beside its userId and anonymousId: (type, value), each once, normalised, none of them blocked."""

    people: list[tuple[str, str]]
    accounts: list[tuple[str, str]]
    """Groups that it names in its context, and accounts among ``context.externalIds``."""


class Reader:
    """Reads by one identity's rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._keys = _keys(rules)
        names = {
            "email",
            "phone",
            "externalIds",
            "device",
            "clientId",
            "groupId",
            *(name for name, _kind in self._keys),
        }
        marks = {msgspec.json.encode(name) for name in names}
        if not all(map(str.isascii, names)):
            marks.add(rb"\u")  # many write such letters as escapes
        self._marks = tuple(sorted(marks))

    def read(self, record: Record) -> Identifiers | None:
        """The ids inside a record's payload; None where there are none."""
        payload = record.payload
        # Most events have none; looking for the names costs a tenth of parsing.
        for mark in self._marks:
            if mark in payload:
                break
        else:
            return None
        try:
            event = _decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return None
        context = event.context if isinstance(event.context, dict) else {}
        traits = [event.traits if record.type == "identify" else None, context.get("traits")]
        people: dict[tuple[str, str], None] = {}
        accounts: dict[tuple[str, str], None] = {}
        for holder in traits:
            if isinstance(holder, dict):
                self._take(people, "email", holder.get("email"))
                self._take(people, "phone", holder.get("phone"))
        if record.type == "page" and isinstance(event.properties, dict):
            self._take(people, "email", event.properties.get("email"))
        for holder in (*traits, event.properties):
            if isinstance(holder, dict):
                for name, kind in self._keys:
                    self._take(accounts if kind in ACCOUNT_TYPES else people, kind, holder.get(name))
        self._take_device(people, context.get("device"))
        integrations = context.get("integrations")
        if isinstance(integrations, dict) and isinstance(analytics := integrations.get("Google Analytics"), dict):
            self._take(people, "ga_client_id", analytics.get("clientId"))
        if record.type != "group":
            self._take(accounts, "group_id", context.get("groupId"))
        self._take_external(people, accounts, context.get("externalIds"))
        return Identifiers(list(people), list(accounts)) if people or accounts else None

    def _take(self, into: dict[tuple[str, str], None], kind: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, str | int) or len(into) >= _MOST:
            return
        accepted = self._rules.accepted(kind, str(value))
        if accepted is not None:
            into[kind, accepted] = None

    def _take_device(self, people: dict[tuple[str, str], None], device: object) -> None:
        if not isinstance(device, dict) or not isinstance(device.get("type"), str):
            return
        system = device["type"].lower()
        if system not in ("android", "ios"):
            return
        self._take(people, f"{system}.id", device.get("id"))
        self._take(people, f"{system}.push_token", device.get("token"))
        if device.get("adTrackingEnabled") is True:
            self._take(people, f"{system}.idfa", device.get("advertisingId"))

    def _take_external(
        self, people: dict[tuple[str, str], None], accounts: dict[tuple[str, str], None], given: object
    ) -> None:
        for each in given if isinstance(given, list) else ():
            if not isinstance(each, dict) or each.get("encoding") != "none":
                continue
            kind, collection = each.get("type"), each.get("collection")
            if isinstance(kind, str) and _TYPE.fullmatch(kind):
                # A type says by itself whose it is: people are never joined by an account.
                if collection == "users" and kind not in ACCOUNT_TYPES:
                    self._take(people, kind, each.get("id"))
                elif collection == "accounts" and kind in ACCOUNT_TYPES:
                    self._take(accounts, kind, each.get("id"))


def people_of(record: Record, inside: Identifiers | None, rules: Rules) -> list[tuple[str, str]]:
    """All ids of people that an event carries, those that the rules refuse left out, the one of highest priority first."""
    named = [("user_id", record.user_id), ("anonymous_id", record.anonymous_id), *(inside.people if inside else ())]
    accepted = {(kind, found) for kind, value in named if value and (found := rules.accepted(kind, value)) is not None}
    return sorted(accepted, key=lambda each: (rules.rank(each[0]), each[1]))


def _keys(rules: Rules) -> list[tuple[str, str]]:
    """Names to look for, in both spellings, and the type that each holds."""
    found = []
    for kind, each in rules.types.items():
        for name in each.keys:
            spelled = {name, re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()}
            spelled.add(re.sub(r"_([a-z0-9])", lambda letter: letter[1].upper(), name))
            found += [(one, kind) for one in sorted(spelled)]
    return found
