"""Events for these tests, and what plain dictionaries say that a set of events means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from segment_do.events.record import REJECTED, Record, decode_pack, encode_pack
from segment_do.identity import Applied, Graph, Profile, profile_id

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
    return [each for entry in graph.outbox(2**40) for each in decode_pack(entry.pack, entry.count)]


def outbox_ids(graph: Graph) -> list[str]:
    return [each.message_id for each in outbox_records(graph)]


def meaning(events: list[Record]) -> dict[tuple[str, str], Profile]:
    """Every profile that these events make, by external id, computed without any order of arrival."""
    events = [each for each in events if each.type != REJECTED]
    seen: dict[tuple[str, str], list[int]] = {}
    links: dict[str, tuple[int, str, str]] = {}
    traits: dict[tuple[str, str], dict[str, tuple[int, str, str]]] = {}
    groups: dict[tuple[str, str], set[str]] = {}
    for event in events:
        body = msgspec.json.decode(event.payload)
        ids = [("user_id", event.user_id)] if event.user_id else []
        ids += [("anonymous_id", event.anonymous_id)] if event.anonymous_id else []
        owner: tuple[str, str] = ids[0]
        target = owner
        if event.type == "group":
            target = ("group_id", str(body["groupId"]))
            groups.setdefault(owner, set()).add(target[1])
            ids.append(target)
        for each in ids:
            seen.setdefault(each, []).append(event.timestamp)
        if event.user_id and event.anonymous_id:
            link = (event.timestamp, event.message_id, event.user_id)
            links[event.anonymous_id] = min(links.get(event.anonymous_id, link), link)
        if event.type in {"identify", "group"}:
            for name, value in (body.get("traits") or {}).items():
                written = (event.timestamp, event.message_id, msgspec.json.encode(value).decode())
                held = traits.setdefault(target, {})
                held[name] = max(held.get(name, written), written)
    profiles = {}
    for kind, value in seen:
        root = ("user_id", links[value][2]) if kind == "anonymous_id" and value in links else (kind, value)
        joined = [(*link, anonymous) for anonymous, link in links.items() if ("user_id", link[2]) == root]
        members = [root] + [("anonymous_id", link[3]) for link in sorted(joined)]
        merged: dict[str, tuple[int, str, str]] = {}
        for member in members:
            for name, written in traits.get(member, {}).items():
                merged[name] = max(merged.get(name, written), written)
        profiles[kind, value] = (
            profile_id(*root),
            [(*each, min(seen[each]), max(seen[each]) // HOUR * HOUR) for each in members],
            {name: written[2] for name, written in merged.items()},
            sorted({group for each in members for group in groups.get(each, ())}),
        )
    return profiles  # type: ignore[return-value]


def shown(profile: Profile | None) -> Any:
    """A profile in the form of :func:`meaning`."""
    if profile is None:
        return None
    ids = [(each.kind, each.value, each.first_seen, each.last_seen) for each in profile.external_ids]
    return profile.profile_id, ids, profile.traits, profile.groups
