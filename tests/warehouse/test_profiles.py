"""Profiles in SQL: each change of the id map once, and views that read past events under the profile of today."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.orm import Session

from segment_do.errors import QueryRefused, StorageFailed
from segment_do.events.record import EXTERNAL_ID, Record
from segment_do.identity.profile import profile_id
from segment_do.settings import WarehouseSettings
from tests.warehouse.samples import NOON, frame, moved, record, rejected
from warehouse import WarehouseStore
from warehouse.columns import rows_of
from warehouse.engine import _ipc
from warehouse.profile_views import PROFILE_VIEWS, named_views
from warehouse.sandbox import Sandbox, _tables_read
from warehouse.schema import COLUMNS, TABLES
from warehouse.wire import Ask, Batch, Limits, Table
from warehouse.writer import Writer

ADA = ("user_id", "ada")
PHONE, LAPTOP = ("anonymous_id", "phone"), ("anonymous_id", "laptop")
MAIL = ("email", "ada@example.com")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[WarehouseStore]:
    opened = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings())
    yield opened
    await opened.close()


async def rows(store: WarehouseStore, sql: str) -> list[list[Any]]:
    found: list[list[Any]] = (await store.sql(sql))["rows"]
    return found


def track(number: int, anonymous: str, **properties: Any) -> Record:
    """By somebody unknown, stored under the profile of the anonymous id alone."""
    payload = {"type": "track", "properties": properties}
    own = profile_id("anonymous_id", anonymous)
    return record(number, payload, user_id=None, anonymous_id=anonymous, profile_id=own)


def identify(number: int, traits: Any, anonymous: str | None = None, user: str = "ada", at: int = 0) -> Record:
    return record(
        number, {"type": "identify", "traits": traits}, type="identify", event=None, user_id=user,
        anonymous_id=anonymous, profile_id=profile_id("user_id", user), timestamp=NOON + (at or number),
    )  # fmt: skip


def story() -> list[Record]:
    """Unknown on a phone, then known there by a user id and an email; a laptop joined later by the email alone."""
    by_mail = record(
        5, {"type": "identify", "traits": {"email": MAIL[1]}}, type="identify", event=None, user_id=None,
        anonymous_id="laptop", profile_id=profile_id(*ADA),
    )  # fmt: skip
    return [
        track(0, "phone", plan="free"),
        track(1, "laptop", plan="pro"),
        identify(2, {"email": MAIL[1], "age": 36}, "phone"),
        moved(2, *PHONE, ADA),
        moved(2, *MAIL, ADA),
        by_mail,
        moved(5, *LAPTOP, ADA),
        track(7, "stranger"),
    ]


def test_a_change_becomes_one_row() -> None:
    """The id from the payload, times and source from the envelope, in a table of its own."""
    told = rows_of([frame(7, [record(0), moved(1, *PHONE, ADA), rejected(2)], "ralph")], 7)
    (row,) = told.external_id_changes.to_pylist()
    assert [row.pop(name).timestamp() for name in ("timestamp", "received_at")] == [(NOON + 1) / 1e6] * 2
    assert row == {
        "identity": "ralph",
        "source_id": "src",
        "external_id_type": "anonymous_id",
        "external_id_value": "phone",
        "segment_id": profile_id(*PHONE),
        "canonical_segment_id": profile_id(*ADA),
        "triggering_event_type": "identify",
        "triggering_event_id": "m1",
        "triggering_event_name": None,
        "offset": 8,
        "generation": 0,
    }
    assert (told.events["offset"].to_pylist(), told.rejected["offset"].to_pylist()) == ([7], [9])
    assert (told.properties, told.traits, told.object_changes.num_rows) == ([], [], 0)


@pytest.mark.parametrize("payload", [b"not json", b"{}", b"[1]", b'{"type": 7}', b'{"type":"email","id":["\xff"]}'])
async def test_an_odd_record_holds_nothing_up(store: WarehouseStore, payload: bytes) -> None:
    """What the identity would never write is a row that no view shows, and queries go on."""
    store.take([frame(0, [record(0, payload, type=EXTERNAL_ID, event="email"), *story()])])
    assert await rows(store, 'SELECT external_id_type, segment_id FROM external_id_changes WHERE "offset" = 0') == [
        ["email", None]
    ]
    for view in PROFILE_VIEWS:
        expected = sum(each.type != EXTERNAL_ID for each in story()) if view == "profile_events" else None
        found = await rows(store, f"SELECT * FROM {view}")
        assert expected in (None, len(found))
        assert "not json" not in str(found)


async def test_past_events_are_read_under_the_profile_of_today(store: WarehouseStore) -> None:
    """From the tail and from files, an anonymous event counts for whom it was found to be; the event itself is unchanged."""
    store.take([frame(0, story())])
    by_profile = "SELECT canonical_profile_id, count(*) FROM profile_events GROUP BY 1 ORDER BY 2 DESC"
    for _ in range(2):
        assert await rows(store, by_profile) == [[profile_id(*ADA), 4], [profile_id("anonymous_id", "stranger"), 1]]
        stored = "SELECT count(*) FROM events WHERE profile_id = '" + profile_id(*ADA) + "'"
        assert await rows(store, stored) == [[2]]
        await store.commit()


async def test_every_id_is_listed_once(store: WarehouseStore) -> None:
    """Those that moved, those that name a profile, and those that are alone; each with its hash and the graph's edge."""
    store.take([frame(0, story())])
    await store.commit()
    ids = [ADA, PHONE, LAPTOP, MAIL, ("anonymous_id", "stranger")]
    expected = sorted(
        [
            *each,
            hashlib.sha1(":".join(each).encode()).hexdigest(),
            profile_id(*each),
            profile_id(*(each if each[1] == "stranger" else ADA)),
        ]
        for each in ids
    )
    columns = "external_id_type, external_id_value, external_id_hash, segment_id, canonical_segment_id"
    assert await rows(store, f"SELECT {columns} FROM user_identifiers ORDER BY ALL") == expected
    edges = sorted(each[3:] for each in expected)
    assert await rows(store, "SELECT segment_id, canonical_segment_id FROM id_graph ORDER BY ALL") == edges
    assert await rows(store, f"SELECT {columns} FROM external_id_mapping_updates ORDER BY ALL") == [
        each for each in expected if each[1] not in ("ada", "stranger")
    ]
    merges = [each for each in edges if each[0] != each[1]]
    for view in ("profile_merges", "id_graph_updates"):
        assert await rows(store, f"SELECT segment_id, canonical_segment_id FROM {view} ORDER BY ALL") == merges


async def test_the_last_change_is_current(store: WarehouseStore) -> None:
    """The highest offset decides, whatever the times say: a merge, then another, then an unmerge by hand."""
    old, boss = ("user_id", "old"), ("user_id", "boss")
    store.take([frame(0, [track(0, "phone"), moved(9, *PHONE, old), moved(1, *PHONE, boss, source_id="")])])
    who = "SELECT canonical_profile_id FROM profile_events WHERE message_id = 'm0'"
    mapped = (
        "SELECT canonical_segment_id, seq FROM user_identifiers WHERE external_id_type || external_id_value = '"
        + "".join(PHONE)
        + "'"
    )
    assert await rows(store, who) == [[profile_id(*boss)]]
    assert await rows(store, mapped) == [[profile_id(*boss), 2]]
    await store.commit()
    store.take([frame(3, [moved(0, *PHONE)])])
    assert await rows(store, who) == [[profile_id(*PHONE)]]
    assert await rows(store, mapped) == [[profile_id(*PHONE), 3]]
    assert await rows(store, "SELECT count(*) FROM id_graph_updates") == [[3]]
    assert await rows(store, "SELECT count(*) FROM profile_merges") == [[2]]


async def test_a_higher_generation_is_current(store: WarehouseStore) -> None:
    """Shards reach the log in any order: what the shard that had an id before says of it comes later, and does not count."""
    boss = ("user_id", "boss")
    store.take([frame(0, [track(0, "phone"), moved(1, *PHONE, ADA, generation=1), moved(2, *PHONE, boss)])])
    assert await rows(store, "SELECT canonical_profile_id FROM profile_events") == [[profile_id(*ADA)]]
    mapped = "SELECT canonical_segment_id, seq FROM user_identifiers WHERE external_id_type = 'anonymous_id'"
    assert await rows(store, mapped) == [[profile_id(*ADA), 1]]


async def test_identities_have_maps_of_their_own(store: WarehouseStore) -> None:
    """The same ids in another identity are other people: one's merge is not the other's."""
    store.take([frame(0, [track(0, "phone"), moved(1, *PHONE, ADA)]), frame(2, [track(2, "phone")], "ralph")])
    by_identity = "SELECT identity, canonical_profile_id FROM profile_events ORDER BY identity"
    assert await rows(store, by_identity) == [["ralph", profile_id(*PHONE)], ["tom", profile_id(*ADA)]]
    listed = "SELECT identity, canonical_segment_id FROM user_identifiers ORDER BY identity"
    assert await rows(store, listed) == [["ralph", profile_id(*PHONE)], ["tom", profile_id(*ADA)]]


async def test_a_value_that_the_rules_refuse_is_no_id(store: WarehouseStore) -> None:
    """An event with a blocked user id is stored under its anonymous id: only that one is an id."""
    refused = record(0, user_id="null", anonymous_id="phone", profile_id=profile_id(*PHONE))
    store.take([frame(0, [refused, record(1, user_id="-1", profile_id=None)])])
    listed = "SELECT external_id_type, external_id_value FROM user_identifiers"
    assert await rows(store, listed) == [[*PHONE]]
    assert await rows(store, "SELECT count(*), count(canonical_profile_id) FROM profile_events") == [[2, 1]]


async def test_traits_are_the_last_written(store: WarehouseStore) -> None:
    """By the event's own time, then by its id, across all of a profile's ids; null is a value, and only identify sets any."""
    anonymous = identify(1, {"plan": "free", "seen": 1})
    anonymous.user_id, anonymous.anonymous_id, anonymous.profile_id = None, "phone", profile_id(*PHONE)
    group = record(9, {"type": "group", "traits": {"plan": "acme"}}, type="group", profile_id=profile_id(*ADA))
    store.take(
        [
            frame(
                0,
                [
                    anonymous,
                    identify(4, {"plan": "pro", "a": {"b": [1.0]}}, at=50),
                    identify(3, {"plan": "old", "age": 7, "it's \"": "x"}, at=20),
                    identify(5, {"plan": None, "a": "tie"}, at=50),
                    identify(2, {"a": "early tie"}, at=50),
                    moved(3, *PHONE, ADA),
                    group,
                    identify(6, ["no object"]),
                    identify(7, {}),
                ],
            )
        ]
    )
    for _ in range(2):
        found = await rows(store, "SELECT canonical_segment_id, name, value FROM user_traits ORDER BY name")
        assert {profile for profile, _name, _value in found} == {profile_id(*ADA)}
        assert [each[1:] for each in found] == [
            ["a", '"tie"'],
            ["age", "7"],
            ["it's \"", '"x"'],
            ["plan", "null"],
            ["seen", "1"],
        ]
        updates = "SELECT segment_id, traits.plan FROM profile_traits_updates ORDER BY seq LIMIT 2"
        assert await rows(store, updates) == [[profile_id(*PHONE), '"free"'], [profile_id(*ADA), '"pro"']]
        await store.commit()


async def test_properties_are_columns_of_profile_events(store: WarehouseStore) -> None:
    """As they are of `events`, in joins too; a star is the fixed columns, whatever the rest of the query names."""
    store.take([frame(0, story())])
    plans = (
        "SELECT list(plan ORDER BY plan) FILTER (WHERE plan IS NOT NULL) FROM profile_events"
        f" WHERE canonical_profile_id = '{profile_id(*ADA)}'"
    )
    assert await rows(store, plans) == [[["free", "pro"]]]
    answer = await store.sql("SELECT * FROM profile_events WHERE plan = 'pro'")
    assert answer["columns"] == [*(column.name for column in COLUMNS["events"]), "canonical_profile_id"]
    joined = (
        "SELECT e.plan, t.value->>'$' FROM profile_events e JOIN user_traits t"
        " ON t.canonical_segment_id = e.canonical_profile_id AND t.name = 'age' WHERE e.plan IS NOT NULL ORDER BY 1"
    )
    assert await rows(store, joined) == [["free", "36"], ["pro", "36"]]
    assert await rows(store, "SELECT properties.plan FROM profile_events WHERE message_id = 'm0'") == [['"free"']]


async def test_the_views_are_listed_and_described(store: WarehouseStore) -> None:
    """SHOW TABLES and a refusal's hint name them; what they are made of underneath cannot be reached."""
    names = {name for (name,) in await rows(store, "SHOW TABLES")}
    assert names == {*TABLES, "objects", *PROFILE_VIEWS}
    for name in names:
        assert await rows(store, f"DESCRIBE {name}")
        assert "identity" in [row[0] for row in await rows(store, f"DESCRIBE {name}")]
    for hidden in ("id_map", "store.id_map", "store.external_id_changes", "tail_of_external_id_changes"):
        with pytest.raises(QueryRefused) as refused:
            await store.sql(f"SELECT * FROM {hidden}, user_identifiers")
        assert "user_identifiers" in (refused.value.hint or "")


def test_a_query_binds_what_it_names() -> None:
    """No view and no further table for a query that reads events; with a view all that it reads, in order."""
    assert named_views("SELECT count(*) FROM events -- id graph") == {}
    assert _tables_read("SELECT count(*) FROM events") == ["events"]
    assert list(named_views('SELECT * FROM "User_Traits"')) == [
        "id_map",
        "profile_events",
        "profile_traits_updates",
        "user_traits",
    ]
    assert list(named_views("FROM main.id_graph")) == ["id_map", "user_identifiers", "id_graph"]
    assert _tables_read("FROM main.id_graph") == ["external_id_changes", "events"]
    assert _tables_read("FROM objects") == ["object_changes", "events"]
    assert _tables_read("SELECT (SELECT count(*) FROM Rejected), external_id_changes.* FROM external_id_changes") == [
        "rejected",
        "external_id_changes",
        "events",
    ]


async def test_a_warehouse_of_the_version_before_gets_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without the table, with events in it, opens, goes on where it was, and keeps the map from there on."""
    before = tuple(name for name in TABLES if name != "external_id_changes")
    with monkeypatch.context() as older:
        older.setattr("warehouse.writer.TABLES", before)
        writer = Writer.open(tmp_path / "warehouse", WarehouseSettings())
        writer.commit({"events": rows_of([frame(0, [track(0, "phone")])], 0).events}, 1)
        writer.close()
    assert not (tmp_path / "warehouse" / "external_id_changes").exists()
    for number in range(2):
        store = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings())
        assert store.committed == 1 + number
        assert await rows(store, "SELECT count(*) FROM id_graph_updates") == [[number]]
        store.take([frame(1, [moved(1, *PHONE, ADA)])])
        assert await rows(store, "SELECT canonical_profile_id FROM profile_events") == [[profile_id(*ADA)]]
        assert await store.commit() == 2
        await store.maintain()
        await store.close()


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
async def test_each_change_is_stored_once_through_failures(tmp_path: Path, fails_at: int) -> None:
    """Whichever table's commit fails, and after a restart that reads the log again, every row is there once."""
    log = [frame(0, [rejected(0), *story(), moved(9, *LAPTOP)])]
    opened = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings())
    opened.take(log)
    commits: list[int] = []

    def fail(_session: Session) -> None:
        commits.append(1)
        if len(commits) == fails_at:
            raise OSError(28, "No space left on device")

    event.listen(Session, "before_commit", fail)
    try:
        if fails_at < 4:
            with pytest.raises(StorageFailed):
                await opened.commit()
        else:
            assert await opened.commit() == 10  # three tables have rows, so there is no fourth commit
    finally:
        event.remove(Session, "before_commit", fail)
    seen = (
        'SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM rejected), count(*), count(DISTINCT "offset")'
        " FROM external_id_changes"
    )
    laptop = f"SELECT canonical_segment_id FROM user_identifiers WHERE segment_id = '{profile_id(*LAPTOP)}'"
    assert await rows(opened, seen) == [[5, 1, 4, 4]]
    await opened.close()
    opened = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings())
    opened.take(log)
    for _ in range(2):
        assert await rows(opened, seen) == [[5, 1, 4, 4]]
        assert await rows(opened, laptop) == [[profile_id(*LAPTOP)]]
        assert await opened.commit() == 10
    await opened.close()


async def test_a_log_of_changes_alone_is_committed_and_compacted(tmp_path: Path) -> None:
    """The log moves on though no event came, as after a change of rules; maintenance makes one file of many."""
    store = await WarehouseStore.open(tmp_path / "warehouse", WarehouseSettings(compact_files=3))
    for offset in range(3):
        store.take([frame(offset, [moved(offset, *PHONE, ("user_id", f"u{offset}"))])])
        assert await store.commit() == offset + 1
    assert store.status()["tables"]["external_id_changes"]["files"] == 3
    assert (await store.maintain()).compacted_files == 3
    assert await rows(store, "SELECT canonical_segment_id FROM id_graph") == [[profile_id("user_id", "u2")]]
    assert store.status()["tables"]["external_id_changes"] | {"bytes": 0} == {"rows": 3, "files": 1, "bytes": 0}
    await store.close()


NAMES = st.sampled_from([ADA, PHONE, LAPTOP, MAIL, ("user_id", "bob")])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["tom", "ralph"]), NAMES, NAMES), min_size=1, max_size=15))
def test_the_map_is_what_a_dictionary_would_do(changes: list[tuple[str, tuple[str, str], tuple[str, str]]]) -> None:
    """Each change writes its id's entry, the log's order is the order: SQL says the same, wherever the cut between takes."""
    expected = {(identity, *one): profile_id(*to) for identity, one, to in changes}
    packs = [frame(n, [moved(n, *one, to)], identity) for n, (identity, one, to) in enumerate(changes)]
    half = len(packs) // 2
    tails = [rows_of(packs[:half], 0).external_id_changes, rows_of(packs[half:], half).external_id_changes]
    tables = {name: Table([], []) for name in TABLES}
    tables["external_id_changes"].tail.extend([Batch(1), Batch(2)])
    sql = (
        "SELECT identity, external_id_type, external_id_value, canonical_segment_id FROM user_identifiers JOIN id_graph"
        " USING (identity, segment_id, canonical_segment_id)"
    )
    ask = Ask(sql, tables, Limits(1_000, 256 * 2**20, 1), {"properties": {}, "traits": {}})
    answer = Sandbox().answer(ask, {n: memoryview(_ipc(tail)) for n, tail in enumerate(tails, 1)})
    assert answer.failure is None, answer.failure
    assert {tuple(row[:3]): row[3] for row in answer.rows} == expected
    assert len(answer.rows) == len(expected)
