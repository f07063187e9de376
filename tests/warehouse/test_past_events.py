"""Events of before a definition, from files and the tail: the same ones, with all that a graph reads of them, however they are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from segment_do.computed import PastPart, PastWanted, read_definition, read_properties
from segment_do.errors import NotReady
from segment_do.events.record import Record, decode_pack
from segment_do.identity.identifiers import Reader
from segment_do.identity.rules import Rules
from segment_do.settings import WarehouseSettings
from tests.warehouse.samples import DAY, NOON, frame, record, rejected
from warehouse import WarehouseStore
from warehouse.past_events import past_part

COUNT = {"class": "trait", "key": "orders", "kind": "event_count", "event": "Order Completed"}
ODD = "It's \" \\ ü \u2028 \0"
PAYLOADS: list[dict[str, Any] | bytes] = [
    {"properties": {"price": 1.50, "big": 2**60, "name": ODD, "list": [1, {"a": None}]}},
    {"properties": None, "context": {"traits": {"email": "Ann@Example.com"}, "device": {"type": "ios", "id": "d"}}},
    {"context": {"externalIds": [{"id": "7", "type": "card", "collection": "users", "encoding": "none"}]}},
    {"properties": [], "context": [], "surprise": 1, "channel": "web"},
    b'{"properties": {"a": 1e400}, "context": {"groupId": "g"}}',
    b"{",
]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[WarehouseStore]:
    found = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings(compact_files=2))
    yield found
    await found.close()


def wanted(begin: int, end: int, **given: Any) -> PastWanted:
    definition = read_definition(given.pop("definition", COUNT))
    options = {"received_before": NOON + 10 * DAY, "today": NOON // DAY, "limit": 2_000, **given}
    return PastWanted.of("tom", definition, begin=begin, end=end, **options)


def ordered(number: int, **changes: Any) -> Record:
    payload = changes.pop("payload", PAYLOADS[number % len(PAYLOADS)])
    return record(number, payload, event="Order Completed", **changes)


def read(part: PastPart) -> list[Record]:
    return decode_pack(part.pack, part.count)


def seen(each: Record) -> tuple[Any, ...]:
    """What a graph and its computations read of an event."""
    return (
        each.message_id, each.type, each.source_id, each.user_id, each.anonymous_id, each.event, each.timestamp,
        each.received_at, read_properties(each.payload), Reader(Rules()).read(each),
    )  # fmt: skip


async def test_they_come_back_as_they_were(opened: WarehouseStore) -> None:
    """From files, compacted ones, and the tail, in parts of any size; others' events and what is no event stay out."""
    events: list[Record] = []
    for offset in range(0, 120, 12):
        some = [ordered(number, anonymous_id=f"{ODD}{number}") for number in range(offset, offset + 10)]
        opened.take([frame(offset, some)])
        opened.take(
            [frame(offset + 10, [rejected(900 + offset)]), frame(offset + 11, [ordered(901 + offset)], "ralph")]
        )
        events += some
        if offset in (24, 48, 60, 96):
            await opened.commit()
            await opened.maintain()
    assert opened.status()["tables"]["events"]["files"] >= 1
    assert opened.pending_events == 12
    for limit in (2_000, 7, 1):
        found: list[Record] = []
        begin = 0
        while begin < 120:
            part = await opened.past_events(wanted(begin, min(begin + 50, 120), limit=limit))
            assert part.position >= begin
            found += read(part)
            begin = part.position + 1
        assert [seen(each) for each in found] == [seen(each) for each in events]
    with pytest.raises(NotReady):
        await opened.past_events(wanted(0, 121))


async def test_only_what_a_definition_needs(opened: WarehouseStore) -> None:
    """Of its calls and names, received before it, and not older than its windows."""
    days = NOON // DAY * DAY
    events = [
        ordered(0),
        record(1),
        record(2, {}, type="page", event="Home"),
        record(3, {}, type="page", event=None),
        record(3, {"name": "Home"}, type="page", event="Home"),
        ordered(5, received_at=NOON + 10 * DAY),
        ordered(6, timestamp=days - 7 * DAY - 1),
        ordered(7, timestamp=days - 7 * DAY),
        record(8, {"traits": {"a": 1}}, type="identify", event=None),
    ]
    opened.take([frame(0, events)])

    async def found(**definition: Any) -> list[str]:
        trait = {} if "members" in definition else COUNT
        part = await opened.past_events(wanted(0, 9, definition={**trait, **definition}))
        assert part.position == 8
        return [each.message_id for each in read(part)]

    assert await found() == ["m0", "m6", "m7"]
    assert await found(window_days=7) == ["m0", "m7"]
    assert await found(call="page", event="Home") == ["m3"]
    assert await found(call="page", event=None) == ["m2", "m3", "m3"]
    members = {"any": [{"event": ODD}, {"call": "page"}, {"event": "Signed Up"}]}
    assert await found(**{"class": "audience"}, key="some", members=members) == ["m1", "m2", "m3", "m3"]
    names = [*(f"{ODD * 30}{number}" for number in range(90)), "Signed Up"]  # more than a query may hold
    members = {"any": [{"event": each} for each in names]}
    assert await found(**{"class": "audience"}, key="many", members=members) == ["m0", "m1", "m6", "m7"]


async def test_a_part_opens_only_its_files(opened: WarehouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bounds of offsets that the manifests have."""
    for offset in range(0, 50, 10):
        opened.take([frame(offset, [ordered(number) for number in range(offset, offset + 10)])])
        await opened.commit()
    views: list[Any] = []
    run = opened._engine.run

    async def watched(sql: str, view: Any) -> Any:
        views.append(view)
        return await run(sql, view)

    monkeypatch.setattr(opened._engine, "run", watched)
    for begin, end in ((0, 10), (9, 11), (15, 40), (49, 50)):
        assert (await opened.past_events(wanted(begin, end))).count == end - begin
    assert [len(view.files["events"]) for view in views] == [1, 2, 3, 1]


async def test_an_answer_that_is_cut_ends_the_part(tmp_path: Path) -> None:
    """With its last row; one that was cut before its first row ends before it began."""
    small = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings(sql_max_rows=4))
    small.take([frame(0, [ordered(number) for number in range(10)])])
    part = await small.past_events(wanted(3, 10))
    assert (part.count, part.position) == (4, 6)
    await small.close()
    none = past_part(wanted(3, 10), [], truncated=True)
    assert (none.count, none.position) == (0, 2)
