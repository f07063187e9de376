"""A disk that is full or fails: nothing is acknowledged, and memory does not believe what was undone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segment_do.errors import StorageFailed
from segment_do.identity import seen as seen_module
from tests.segment_do.identity.events import apply, identify, meaning, open_graph, outbox_ids, record, shown


def test_a_full_disk_undoes_the_whole_batch_and_the_graph_goes_on(tmp_path: Path) -> None:
    """SQLITE_FULL: ids, links, traits, keys and outbox are as before; with room again the same batch is applied."""
    graph = open_graph(tmp_path)
    before = [record("m1", user="u", anonymous="a", at=5), identify("m2", {"plan": "old"}, user="u", at=5)]
    apply(graph, *before)
    size = graph.outbox_bytes
    execute = graph._database.connection.execute
    (pages,) = execute("PRAGMA page_count").fetchone()
    execute(f"PRAGMA max_page_count = {pages}")
    batch = [
        record("m3", user="early", anonymous="a", at=1, body={"fill": "x" * 30_000}),
        identify("m4", {"plan": "new"}, user="u", at=9),
        record("m5", user="new", anonymous="a2", at=2),
    ]
    for _ in range(2):
        with pytest.raises(StorageFailed, match="full"):
            apply(graph, *batch)
        assert outbox_ids(graph) == ["m1", "m2"]
        assert graph.outbox_bytes == size
        assert graph.profile("user_id", "new") is None
        assert shown(graph.profile("user_id", "u")) == meaning(before)["user_id", "u"]
    # Small enough to fit: what it says must not rest on the undone batch.
    assert apply(graph, record("m6", anonymous="a", at=5)).accepted == 1
    assert shown(graph.profile("anonymous_id", "a")) == meaning(before)["user_id", "u"]
    execute("PRAGMA max_page_count = 1073741823")
    assert apply(graph, *batch).accepted == 3
    for ids, expected in meaning([*before, *batch, record("m6", anonymous="a", at=5)]).items():
        assert shown(graph.profile(*ids)) == expected
    assert outbox_ids(graph) == ["m1", "m2", "m6", "m3", "m4", "m5"]
    graph.close()


def test_forgetting_makes_room_on_a_full_disk(tmp_path: Path) -> None:
    """The rows of forgotten entries go in the transaction that needs their space."""
    graph = open_graph(tmp_path)
    fill = {"fill": "x" * 30_000}
    apply(graph, record("m1", user="u", body=fill))
    execute = graph._database.connection.execute
    (pages,) = execute("PRAGMA page_count").fetchone()
    execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFailed):
        apply(graph, record("m2", user="u", body=fill))
    graph.forget(1)
    assert apply(graph, record("m2", user="u", body=fill)).accepted == 1
    assert outbox_ids(graph) == ["m2"]
    graph.close()


FILE_LIMIT = """
import pathlib, resource, sys
from segment_do.errors import StorageFailed
from segment_do.identity import seen
from tests.segment_do.identity.events import *

folder = pathlib.Path(sys.argv[1])
graph = open_graph(folder)
first = [record(f"a{n}", user="u", body={"fill": "x" * 500}) for n in range(100)]
second = [record(f"b{n}", user="v", body={"fill": "x" * 500}) for n in range(100)]
assert apply(graph, *first).accepted == 100
limit = (folder / "graph.db-wal").stat().st_size + 20_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        apply(graph, *second)
    except StorageFailed as failure:
        print(failure)
    else:
        raise SystemExit("no failure")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
# A write that failed otherwise than by a full disk is not retried on the same connection.
try:
    apply(graph, *second)
except StorageFailed:
    pass
else:
    raise SystemExit("went on")
graph.close()
graph = open_graph(folder)
assert outbox_ids(graph) == [each.message_id for each in first]
assert graph.profile("user_id", "v") is None
assert apply(graph, *first, *second).accepted == 100

seen.RECENT_KEYS = 50
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        graph.maintain(30)
    except StorageFailed as failure:
        print(failure)
    else:
        raise SystemExit("a run was written")
    assert list((folder / "seen").iterdir()) == []
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert apply(graph, *first, *second).accepted == 0
assert graph.maintain(30)
assert len(list((folder / "seen").iterdir())) == 1
assert apply(graph, *first, *second).accepted == 0
graph.close()
"""


def test_a_file_that_may_not_grow_fails_the_batch_and_the_run(tmp_path: Path) -> None:
    """A real limit of the kernel on real files: I/O errors in the WAL and in a run file, and recovery from both."""
    done = subprocess.run([sys.executable, "-c", FILE_LIMIT, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing of it was stored") == 2
    assert done.stdout.count("could not be written") == 2


def test_a_disk_that_fills_in_the_middle_of_a_run_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys stay where they were, and the next call tries again."""
    monkeypatch.setattr(seen_module, "RECENT_KEYS", 10)
    graph = open_graph(tmp_path)
    batch = [record(f"m{number}", user="u") for number in range(11)]
    apply(graph, *batch)

    def full(handle: int, data: memoryview, at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StorageFailed, match="No space left"):
            graph.maintain(30)
    assert list((tmp_path / "seen").iterdir()) == []
    assert apply(graph, *batch).accepted == 0
    assert graph.maintain(30)
    assert apply(graph, *batch).accepted == 0
    graph.close()


def test_a_run_that_cannot_be_registered_is_registered_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file stays until it is, and its keys are known all the time."""
    monkeypatch.setattr(seen_module, "RECENT_KEYS", 10)
    graph = open_graph(tmp_path)
    batch = [record(f"m{number}", user="u") for number in range(11)]
    apply(graph, *batch)
    execute = graph._database.connection.execute
    execute("CREATE TRIGGER refuse BEFORE INSERT ON seen_run BEGIN SELECT raise(ABORT, 'not now'); END")
    graph.maintain(0.0)
    assert graph._seen._flush is not None
    assert graph._seen._flush.wait(30)
    with pytest.raises(StorageFailed):
        graph.maintain(30)
    graph.close()
    graph = open_graph(tmp_path)
    assert list((tmp_path / "seen").iterdir()) == []
    assert apply(graph, *batch).accepted == 0
    graph._database.connection.execute("DROP TRIGGER refuse")
    assert graph.maintain(30)
    assert apply(graph, *batch).accepted == 0
    graph.close()
