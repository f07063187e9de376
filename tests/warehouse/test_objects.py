"""Objects in the warehouse: every change once in `object_changes`, every object once in `objects`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.orm import Session

from segment_do.errors import StorageFailed
from segment_do.events.record import OBJECT, Record
from segment_do.settings import WarehouseSettings
from tests.warehouse.samples import NOON, frame, record, rejected
from warehouse import WarehouseStore
from warehouse.columns import rows_of
from warehouse.engine import _ipc
from warehouse.sandbox import Sandbox
from warehouse.schema import TABLES
from warehouse.wire import Ask, Batch, Limits, Table


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WarehouseStore]:
    opened = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings())
    yield opened
    await opened.close()


def change(object_id: str, properties: Any, *, at: int = 0, collection: str = "rooms", **more: Any) -> Record:
    """Properties set on an object, ``at`` microseconds after noon."""
    payload = properties if isinstance(properties, bytes) else msgspec.json.encode(properties)
    return record(
        payload=b'{"id":%s,"properties":%s}' % (msgspec.json.encode(object_id), payload),
        type=OBJECT, event=collection, user_id=None, received_at=NOON + at, **more,
    )  # fmt: skip


async def rows(store: WarehouseStore, sql: str) -> list[list[Any]]:
    found: list[list[Any]] = (await store.sql(sql))["rows"]
    return found


MERGED = "SELECT identity, collection, id, properties FROM objects ORDER BY 1, 2, 3"


async def test_changes_merge_key_by_key(store: WarehouseStore) -> None:
    """The newest value of each property counts, from the tail, from files, and from both; null is a value."""
    store.take([frame(0, [change("1", {"name": "Blue", "seats": 4, "tv": True}), change("2", {})])])
    assert await rows(store, MERGED) == [
        ["tom", "rooms", "1", '{"name":"Blue","seats":4,"tv":true}'],
        ["tom", "rooms", "2", "{}"],
    ]
    await store.commit()
    store.take([frame(2, [change("1", {"seats": 6, "tv": None, "floor": {"nr": 1}}, at=1)])])
    for _ in range(2):
        assert await rows(store, MERGED) == [
            ["tom", "rooms", "1", '{"floor":{"nr":1},"name":"Blue","seats":6,"tv":null}'],
            ["tom", "rooms", "2", "{}"],
        ]
        assert await rows(store, 'SELECT object_id, properties FROM object_changes ORDER BY "offset"') == [
            ["1", '{"name":"Blue","seats":4,"tv":true}'],
            ["2", "{}"],
            ["1", '{"seats":6,"tv":null,"floor":{"nr":1}}'],
        ]
        await store.commit()


async def test_objects_are_kept_apart(store: WarehouseStore) -> None:
    """By identity, by collection, and by id."""
    store.take([frame(0, [change("1", {"a": 1}), change("1", {"a": 2}, collection="beds")])])
    store.take([frame(2, [change("1", {"a": 3})], "ralph")])
    assert await rows(store, MERGED) == [
        ["ralph", "rooms", "1", '{"a":3}'],
        ["tom", "beds", "1", '{"a":2}'],
        ["tom", "rooms", "1", '{"a":1}'],
    ]


async def test_later_received_wins_whatever_the_log_has_first(store: WarehouseStore) -> None:
    """What was received later wins though it lies before in the log; within one moment the log's order decides."""
    store.take([frame(0, [change("1", {"a": "new"}, at=5), change("1", {"a": "old", "b": 1}, at=4)])])
    store.take([frame(2, [change("2", {"a": 1}), change("2", {"a": 2})])])
    found = await rows(store, "SELECT id, properties, received_at FROM objects ORDER BY id")
    assert [row[:2] for row in found] == [["1", '{"a":"new","b":1}'], ["2", '{"a":2}']]
    assert found[0][2] == "2026-11-02T12:00:00.000005Z"


async def test_values_stay_as_they_were_written(store: WarehouseStore) -> None:
    """Numbers, names with quotes and stars, and text of any kind come out as they went in."""
    sent = b'{"a.b":1.0,"big":123456789012345678901234567890,"q\\"*\'":"\xc3\xa9\\u0000","$":[1.50,null],"\\u00e9":2}'
    store.take([frame(0, [change("1", sent)])])
    ((properties,),) = await rows(store, "SELECT properties FROM objects")
    assert msgspec.json.decode(properties) == msgspec.json.decode(sent)
    assert '"a.b":1.0' in properties
    assert "123456789012345678901234567890" in properties


async def test_properties_are_read_as_json(store: WarehouseStore) -> None:
    """A key by arrow or by dot, and joins with events."""
    store.take([frame(0, [change("1", {"name": "Blue"}), record(1, {"type": "track", "properties": {"room": "1"}})])])
    assert await rows(store, "SELECT properties->>'name' FROM objects") == [["Blue"]]
    assert await rows(store, "SELECT o.properties.name FROM objects o") == [['"Blue"']]
    joined = "SELECT o.properties->>'name' FROM events e JOIN objects o ON o.id = e.properties->>'room'"
    assert await rows(store, joined) == [["Blue"]]
    names = [name for (name,) in await rows(store, "SHOW TABLES")]
    assert {"events", "object_changes", "objects", "rejected"} < set(names)


async def test_an_object_is_neither_an_event_nor_rejected(store: WarehouseStore) -> None:
    """Each record is in one table alone, and its properties are no columns of `events`."""
    store.take([frame(0, [record(0), change("1", {"secret": 1}), rejected(2)])])
    await store.commit()
    for table in ("events", "rejected", "object_changes", "objects"):
        assert await rows(store, f'SELECT count(*), max("offset") FROM {table}') == [
            [1, ["events", "object_changes", "rejected"].index(table.replace("objects", "object_changes"))]
        ]
    assert store.status()["properties"] == 3  # those that every catalogue has


@pytest.mark.parametrize("fails_at", [1, 2, 3])
async def test_each_change_is_stored_once_through_failures(tmp_path: Path, fails_at: int) -> None:
    """Whichever table's commit fails, and after a restart that reads the log again, every row is there once."""
    log = [frame(0, [record(0), change("1", {"a": 1}), rejected(2), change("1", {"a": 2})])]
    opened = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings())
    opened.take(log)
    commits: list[int] = []

    def fail(_session: Session) -> None:
        commits.append(1)
        if len(commits) == fails_at:
            raise OSError(28, "No space left on device")

    event.listen(Session, "before_commit", fail)
    try:
        with pytest.raises(StorageFailed):
            await opened.commit()
    finally:
        event.remove(Session, "before_commit", fail)
    assert opened.committed == 0
    await opened.close()
    opened = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings())
    opened.take(log)
    for _ in range(2):
        counts = 'SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected), count(*), count(DISTINCT "offset") FROM object_changes'
        assert await rows(opened, counts) == [[1, 1, 2, 2]]
        assert await rows(opened, "SELECT properties FROM objects") == [['{"a":2}']]
        assert await opened.commit() == 4
    await opened.close()


async def test_a_log_of_objects_alone_is_committed(store: WarehouseStore) -> None:
    """The log moves on though no event came; maintenance runs over the table as over the others."""
    for offset in range(3):
        store.take([frame(offset, [change("1", {"a": offset}, at=offset)])])
        assert await store.commit() == offset + 1
    await store.maintain()
    assert await rows(store, "SELECT properties FROM objects") == [['{"a":2}']]
    assert store.status()["tables"]["object_changes"]["rows"] == 3


async def test_a_record_that_is_no_object_holds_nothing_up(store: WarehouseStore) -> None:
    """What the door would never write is kept whole, and queries go on."""
    odd = record(0, b"not json", message_id="m-odd", type=OBJECT, event="rooms", user_id=None)
    store.take([frame(0, [odd, change("1", b"[1]"), change("2", b"7"), change("3", {"a": 1})])])
    found = await rows(store, "SELECT id, properties FROM objects ORDER BY id")
    assert found[-1] == ["m-odd", '{"payload":"not json"}']
    assert ["3", '{"a":1}'] in found


changes = st.lists(
    st.tuples(
        st.sampled_from(["1", "2"]),
        st.dictionaries(
            st.sampled_from("abc"), st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9)), max_size=3
        ),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40)
@given(changes)
def test_the_merge_is_what_a_dictionary_would_do(given_changes: list[tuple[str, dict[str, Any], int]]) -> None:
    """Sorted by the moment of receipt, each change updates its object: SQL says the same."""
    records = [change(object_id, properties, at=at) for object_id, properties, at in given_changes]
    expected: dict[str, dict[str, Any]] = {}
    for object_id, properties, _at in sorted(given_changes, key=lambda one: one[2]):
        expected.setdefault(object_id, {}).update(properties)
    tables = {name: Table([], []) for name in TABLES}
    tables["object_changes"].tail.append(Batch(1))
    tail = rows_of([frame(0, records)], 0).object_changes
    ask = Ask(
        "SELECT id, properties FROM objects", tables, Limits(1_000, 256 * 2**20, 1), {"properties": {}, "traits": {}}
    )
    answer = Sandbox().answer(ask, {1: memoryview(_ipc(tail))})
    assert answer.failure is None, answer.failure
    assert {object_id: msgspec.json.decode(properties) for object_id, properties in answer.rows} == expected


def test_commits_see_every_table() -> None:
    """`events` is written last, for its mark says what is committed."""
    assert TABLES[-1] == "events"
    assert set(rows_of([], 0).tables()) == set(TABLES)
