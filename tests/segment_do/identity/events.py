"""Events for these tests, and what plain dictionaries say that a set of events means."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from segment_do.events.record import EXTERNAL_ID, REJECTED, Record, decode_pack, encode_pack
from segment_do.identity import Applied, Graph, Profile, profile_id
from segment_do.identity.rules import IdType, Rules

HOUR = 3_600_000_000
DAY = 24 * HOUR
NOON = 20_000 * DAY + 12 * HOUR
"""Some day at noon, microseconds since the epoch."""


def record(message_id: str, kind: str = "track", **given: Any) -> Record:
    """An event: ``user``, ``anonymous``, ``at``, ``received``, and ``body`` for its JSON."""
    body = given.get("body", {})
    return Record(
        message_id=message_id,
        type=kind,
        source_id="src",
        user_id=given.get("user"),
        anonymous_id=given.get("anonymous"),
        event="Tested" if kind == "track" else None,
        timestamp=given.get("at", NOON),
        received_at=given.get("received", NOON),
        sent_at=None,
        original_timestamp=None,
        ip=None,
        payload=body if isinstance(body, bytes) else msgspec.json.encode({"type": kind, **body}),
    )


def identify(message_id: str, traits: Any, **given: Any) -> Record:
    return record(message_id, "identify", body={"traits": traits}, **given)


def open_graph(folder: Path, *, identity: str = "tom", now: int = NOON, **given: Any) -> Graph:
    return Graph.open(folder, identity, dedupe_days=given.pop("days", 7), clock=lambda: now, **given)


def apply(graph: Graph, *records: Record, now: int | None = None) -> Applied:
    """One batch, as one pack."""
    return graph.apply([(encode_pack(records), len(records))], NOON if now is None else now)


def outbox_records(graph: Graph) -> list[Record]:
    """The events in the outbox; what it tells of ids is left out."""
    found = [each for entry in graph.outbox(2**40) for each in decode_pack(entry.pack, entry.count)]
    return [each for each in found if each.type != EXTERNAL_ID]


def outbox_ids(graph: Graph) -> list[str]:
    return [each.message_id for each in outbox_records(graph)]


LIMITS = {"user_id": 1}
TIGHT = Rules(types={"anonymous_id": IdType(limit=2), "email": IdType(limit=1, priority=2), "card": IdType(limit=1)})
TIGHT_LIMITS = {"user_id": 1, "anonymous_id": 2, "email": 1, "card": 1}
"""Limits so small that a few events meet them."""
PRIORITIES = ["user_id", "email"]


def ids_of(event: Record) -> list[tuple[str, str]]:
    """The ids of an event, the one of highest priority first."""
    body = msgspec.json.decode(event.payload)
    ids = {("user_id", event.user_id), ("anonymous_id", event.anonymous_id)}
    if event.type == "identify":
        ids.add(("email", (body.get("traits") or {}).get("email")))
    ids |= {(each["type"], each["id"]) for each in body.get("context", {}).get("externalIds", ())}
    known = [each for each in ids if each[1]]

    def priority(each: tuple[str, str]) -> tuple[int, str, str]:
        return (PRIORITIES.index(each[0]) if each[0] in PRIORITIES else 9, *each)

    return sorted(known, key=priority)


def partition(
    events: list[Record], limits: dict[str, int] = LIMITS
) -> dict[tuple[str, str], frozenset[tuple[str, str]]]:
    """Id → the ids that are one profile with it: Segment's rules, all events in the order of their times, plain sets."""
    profiles: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
    for event in sorted(events, key=lambda each: (each.timestamp, each.message_id, ids_of(each))):
        ids = ids_of(event)
        for each in ids:
            profiles.setdefault(each, frozenset([each]))
        while len(ids) > 1:
            union = frozenset().union(*(profiles[each] for each in ids))
            counts = Counter(kind for kind, _value in union)
            one = len({profiles[each] for each in ids}) == 1
            if one or all(count <= limits.get(kind, 5) for kind, count in counts.items()):
                profiles.update(dict.fromkeys(union, union))
                break
            ids.pop()
    return profiles


def meaning(events: list[Record], limits: dict[str, int] = LIMITS) -> dict[tuple[str, str], Any]:
    """Every profile that these events make, by external id, computed without any order of arrival."""
    events = [each for each in events if each.type != REJECTED]
    profiles = partition(events, limits)
    seen: dict[tuple[str, str], list[int]] = {}
    groups: dict[tuple[str, str], set[str]] = {}
    for event in events:
        body = msgspec.json.decode(event.payload)
        ids = ids_of(event)
        if event.type == "group":
            groups.setdefault(ids[0], set()).add(str(body["groupId"]))
            ids.append(("group_id", str(body["groupId"])))
        for each in ids:
            seen.setdefault(each, []).append(event.timestamp)
    traits = histories(events, limits)
    found: dict[tuple[str, str], Any] = {}
    for one in seen:
        inside = profiles.get(one, frozenset([one]))
        first = min(inside, key=lambda each: (PRIORITIES.index(each[0]) if each[0] in PRIORITIES else 9, *each))
        others = sorted(inside - {first}, key=lambda each: (min(seen[each]), *each))
        found[one] = (
            profile_id(*first),
            [(*each, min(seen[each]), max(seen[each]) // HOUR * HOUR) for each in [first, *others]],
            {name: values[0][0] for name, values in traits.get(one, {}).items()},
            sorted({group for each in inside for group in groups.get(each, ())}),
        )
    return found


def histories(
    events: list[Record], limits: dict[str, int] = LIMITS
) -> dict[tuple[str, str], dict[str, list[tuple[str, int, str]]]]:
    """Id → trait of its profile → its newest ten values, the newest first, each with time and message id of the last event that set it."""
    profiles = partition(events, limits)
    written: dict[tuple[str, str], dict[str, dict[str, tuple[int, str]]]] = {}
    for event in events:
        if event.type in {"identify", "group"}:
            body = msgspec.json.decode(event.payload)
            target = ("group_id", str(body["groupId"])) if event.type == "group" else ids_of(event)[0]
            for one in profiles.get(target, [target]):
                for name, value in (body.get("traits") or {}).items():
                    values = written.setdefault(one, {}).setdefault(name, {})
                    text, at = msgspec.json.encode(value).decode(), (event.timestamp, event.message_id)
                    values[text] = max(values.get(text, at), at)
    return {
        one: {
            name: [
                (text, *at)
                for text, at in sorted(values.items(), key=lambda each: (each[1], each[0]), reverse=True)[:10]
            ]
            for name, values in names.items()
        }
        for one, names in written.items()
    }


def shown_history(graph: Graph, ids: tuple[str, str]) -> dict[str, list[tuple[str, int, str]]]:
    """What a graph knows of traits, in the form of :func:`histories`."""
    found = graph.trait_history(ids)
    assert found is not None
    return {name: [(each.value, each.timestamp, each.message_id) for each in values] for name, values in found.items()}


def shown(profile: Profile | None) -> Any:
    """A profile in the form of :func:`meaning`."""
    if profile is None:
        return None
    ids = [(each.kind, each.value, each.first_seen, each.last_seen) for each in profile.external_ids]
    return profile.profile_id, ids, profile.traits, profile.groups
