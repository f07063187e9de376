"""The event by which destinations and the warehouse learn of a value that changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from segment_do.computed.definition import Audience, Definition
from segment_do.events.record import Record

__all__ = ["COMPUTED_SOURCE", "Space", "announcement", "computation_id"]

COMPUTED_SOURCE: Final = "computed"
"""``source_id`` of these events: they come from no source of the identity's."""


class Space(NamedTuple):
    """Whose computations these are."""

    namespace: str
    """Name of the identity."""

    @property
    def space_id(self) -> str:
        """``spa_`` and 24 characters, the same for the same name."""
        return "spa_" + _digest(24, self.namespace)


def computation_id(space: Space, key: str, number: int) -> str:
    """``cmp_`` and 24 characters; another one when a definition is replaced by one that counts anew."""
    return "cmp_" + _digest(24, space.namespace, key, str(number))


def announcement(
    definition: Definition,
    computation: str,
    space: Space,
    profile_id: str,
    ids: Sequence[tuple[str, str]],
    value: str,
    trigger: str,
    now: int,
) -> Record:
    """An identify or a track call that says the new value; for an account a group call instead of the first.

    ``ids``: external ids of the profile, (type, value), the one that names it first. ``value``: JSON text. ``trigger``: message id of
    the event that made the difference. The message id is made of all of these, so that the same change has the same.
    """
    key = definition.key
    audience = isinstance(definition, Audience)
    told = {key: msgspec.Raw(value.encode())}
    message_id = "cmp-" + _digest(32, profile_id, key, computation, value, trigger)
    of_account = definition.collection == "accounts"
    user, anonymous = _sender(ids, profile_id)
    context: dict[str, Any] = {
        "personas": {
            "computation_class": "audience" if audience else "trait",
            "computation_id": computation,
            "computation_key": key,
            "namespace": space.namespace,
            "space_id": space.space_id,
        }
    }
    kind, named = ids[0]
    if kind not in ("user_id", "anonymous_id"):
        context["externalIds"] = [{"id": named, "type": kind, "collection": definition.collection, "encoding": "none"}]
        if kind in ("email", "phone"):
            context["traits"] = {kind: named}
    if kind == "group_id":
        context["groupId"] = named
    event = None
    call = "group" if of_account and definition.output == "identify" else definition.output
    body: dict[str, Any] = {"type": call, "context": context}
    if call == "group":
        body["groupId"] = named
    if definition.output == "track":
        event = ("Audience Entered" if value == "true" else "Audience Exited") if audience else "Trait Computed"
        body |= {"event": event, "properties": {"audience_key" if audience else "trait_key": key, **told}}
    else:
        body["traits"] = told
    body["integrations"] = {"All": False, **dict.fromkeys(definition.destinations, True)}
    return Record(
        message_id, call, COMPUTED_SOURCE, user, anonymous, event,
        now, now, None, None, None, msgspec.json.encode(body), profile_id,
    )  # fmt: skip


def _sender(ids: Sequence[tuple[str, str]], profile_id: str) -> tuple[str | None, str | None]:
    """userId and anonymousId: an event needs one of them, and profiles of an email alone have neither."""
    for wanted in ("user_id", "anonymous_id"):
        values = [value for kind, value in ids if kind == wanted]
        if values:
            chosen = values[0] if ids[0][0] == wanted else min(values)
            return (chosen, None) if wanted == "user_id" else (None, chosen)
    return None, profile_id


def _digest(chars: int, *parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=chars // 2).hexdigest()
