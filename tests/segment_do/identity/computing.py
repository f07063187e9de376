"""What tests of computed traits and audiences say: definitions, events, and what became of them."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from segment_do.computed import COMPUTED_SOURCE, read_definition
from segment_do.events.record import Record
from segment_do.identity import Graph
from tests.segment_do.identity.events import DAY, NOON, outbox_records, record

BLANK: list[Any] = [0, None, [], False]
COUNT = {"class": "trait", "key": "orders", "kind": "event_count", "event": "Tested", "destinations": ["Braze"]}
BUYERS = {
    "class": "audience",
    "key": "buyers",
    "members": {"all": [{"event": "Tested", "at_least": 2}, {"trait": "plan", "is": "equals", "value": "pro"}]},
    "output": "track",
}


def ordered(message_id: str, price: Any = None, **given: Any) -> Record:
    return record(message_id, body={"properties": {"p": price}}, **given)


def told(graph: Graph) -> list[Record]:
    return [each for each in outbox_records(graph) if each.source_id == COMPUTED_SOURCE]


def said(each: Record) -> dict[str, Any]:
    """What an announcement says: key → value."""
    body = msgspec.json.decode(each.payload)
    return {name: value for name, value in body.get("traits", body.get("properties", {})).items() if "_key" not in name}


def values(graph: Graph, kind: str, value: str) -> dict[str, Any]:
    found = graph.profile(kind, value)
    assert found is not None
    return {key: msgspec.json.decode(each.value) for key, each in found.computed.items()}


def define(graph: Graph, *definitions: dict[str, Any], **given: Any) -> None:
    for each in definitions:
        graph.computations.put(read_definition(each), "test", **given)


def settle(graph: Graph) -> None:
    """All that maintenance has to do, in its bounded steps."""
    for _ in range(1_000):
        if graph.maintain(30):
            return
    raise AssertionError("maintenance never ends")


def named(message_id: str, *groups: str, price: int = 1, **given: Any) -> Record:
    """An event that names accounts in its context."""
    others = [{"id": each, "type": "group_id", "collection": "accounts", "encoding": "none"} for each in groups[1:]]
    context = {"groupId": groups[0], "externalIds": others} if groups else {}
    return record(message_id, body={"properties": {"p": price}, "context": context}, **given)


ACCOUNT_DEFINITIONS = [
    {**COUNT, "collection": "accounts"},
    {**COUNT, "key": "spent", "kind": "sum", "property": "p", "collection": "accounts", "output": "track"},
    {
        "class": "audience",
        "key": "big",
        "collection": "accounts",
        "members": {
            "all": [{"computed": "orders", "is": ">=", "value": 3}, {"trait": "plan", "is": "equals", "value": "pro"}]
        },
    },
    {**COUNT, "key": "own"},
]


def some_events(random: Random) -> list[Record]:
    users, ids, others = random.choice([(2, 2, 1), (2, 3, 2), (4, 6, 3), (3, 12, 4)])
    events = []
    for number in range(random.choice([5, 15, 40])):
        user = f"u{random.randrange(users)}" if random.random() < 0.5 else None
        anonymous = f"a{random.randrange(ids)}" if user is None or random.random() < 0.6 else None
        traits = {"email": f"e{random.randrange(others)}"} if random.random() < 0.5 else {"plan": "pro"}
        cards = [
            {"id": str(random.randrange(1, others + 1)), "type": "card", "collection": "users", "encoding": "none"}
            for _ in range(random.choice([0, 0, 1, 2]))
        ]
        kind = random.choice(["identify", "track", "track"])
        body: dict[str, Any] = {"properties": {"p": random.choice([1, 2.5, "red", "blue", None])}}
        body = {**(body if kind == "track" else {"traits": traits}), "context": {"externalIds": cards}}
        at = NOON + random.randrange(-3 * DAY, DAY)
        events.append(record(f"m{number:02}", kind, user=user, anonymous=anonymous, at=at, body=body))
    return events
