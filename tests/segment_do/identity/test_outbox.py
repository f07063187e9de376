"""The outbox: oldest first, bounded reads, each entry until it is forgotten, no seq twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segment_do.events.record import encode_record
from segment_do.identity import outbox as outbox_module
from tests.segment_do.identity.events import apply, open_graph, outbox_ids, record


def test_reads_oldest_first_up_to_a_size(tmp_path: Path) -> None:
    """At least one entry, however large; ``after`` goes on from there."""
    graph = open_graph(tmp_path)
    for number in range(4):
        apply(graph, record(f"m{number}", user="u"))
    size = len(graph.outbox(1)[0].pack)
    assert [each.seq for each in graph.outbox(0)] == [1]
    assert [each.seq for each in graph.outbox(2 * size)] == [1, 2]
    assert [each.seq for each in graph.outbox(2 * size, after=2)] == [3, 4]
    assert graph.outbox_bytes == 4 * size
    graph.close()


def test_forgotten_entries_are_gone_at_once_and_for_good(tmp_path: Path) -> None:
    """From reads and from the size at once, from the file with the next batch or at close."""
    graph = open_graph(tmp_path)
    for number in range(3):
        apply(graph, record(f"m{number}", user="u"))
    graph.forget(2)
    graph.forget(1)
    assert outbox_ids(graph) == ["m2"]
    assert graph.outbox_bytes == len(graph.outbox(1)[0].pack)
    graph.close()
    graph = open_graph(tmp_path)
    assert outbox_ids(graph) == ["m2"]
    assert graph.outbox_bytes == len(graph.outbox(1)[0].pack)
    graph.close()


def test_a_crash_may_bring_back_what_was_forgotten_since_the_last_batch(tmp_path: Path) -> None:
    """Under its old seq, so that the queue knows it; and nothing older."""
    graph = open_graph(tmp_path / "live")
    apply(graph, record("m1", user="u"))
    graph.forget(1)
    apply(graph, record("m2", user="u"))
    graph.forget(2)
    shutil.copytree(tmp_path / "live", tmp_path / "image")
    graph.close()
    graph = open_graph(tmp_path / "image")
    assert [each.seq for each in graph.outbox(2**20)] == [2]
    graph.close()


def test_a_seq_is_never_used_twice(tmp_path: Path) -> None:
    """Also when the outbox was emptied and the graph reopened."""
    graph = open_graph(tmp_path)
    assert apply(graph, record("m1", user="u")).seq == 1
    graph.forget(1)
    graph.close()
    graph = open_graph(tmp_path)
    assert apply(graph, record("m2", user="u")).seq == 2
    with pytest.raises(ValueError, match="no entry 3"):
        graph.forget(3)
    graph.close()


def test_a_large_batch_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No entry passes the limit unless one record does; nothing is lost or reordered; the last seq is returned."""
    records = [record(f"m{number}", user="u", body={"x": "y" * (10_000 if number == 3 else 10)}) for number in range(9)]
    limit = 3 * len(encode_record(records[0])) + 100
    monkeypatch.setattr(outbox_module, "ENTRY_BYTES", limit)
    graph = open_graph(tmp_path)
    assert apply(graph, *records).seq == 4
    entries = graph.outbox(2**40)
    assert [each.count for each in entries] == [3, 1, 3, 2]
    assert all(len(each.pack) <= limit or each.count == 1 for each in entries)
    assert outbox_ids(graph) == [each.message_id for each in records]
    assert graph.outbox_bytes == sum(len(each.pack) for each in entries)
    graph.close()
