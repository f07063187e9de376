"""Two activations never write one graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segment_do.errors import OwnershipLost
from segment_do.identity.ownership import FolderLock
from tests.segment_do.identity.events import apply, open_graph, outbox_ids, record


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    """In this process and in another, until the first one closes; the first goes on unharmed."""
    graph = open_graph(tmp_path)
    with pytest.raises(OwnershipLost):
        open_graph(tmp_path)
    script = (
        "import sys, pathlib\n"
        "from segment_do.errors import OwnershipLost\n"
        "from tests.segment_do.identity.events import open_graph\n"
        "try: open_graph(pathlib.Path(sys.argv[1]))\n"
        "except OwnershipLost: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=30).returncode == 7
    assert apply(graph, record("m", user="u")).accepted == 1
    graph.close()
    graph = open_graph(tmp_path)
    assert graph.epoch == 2
    graph.close()


def test_the_lock_alone_refuses_a_second_holder(tmp_path: Path) -> None:
    """Before the database is touched, and until it is released."""
    lock = FolderLock(tmp_path)
    with pytest.raises(OwnershipLost):
        FolderLock(tmp_path)
    lock.release()
    lock.release()
    FolderLock(tmp_path).release()


def test_losing_the_lock_file_does_not_let_a_second_owner_in(tmp_path: Path) -> None:
    """The database itself is held exclusively as well."""
    graph = open_graph(tmp_path)
    (tmp_path / "owner.lock").unlink()
    with pytest.raises(OwnershipLost):
        open_graph(tmp_path)
    assert apply(graph, record("m", user="u")).accepted == 1
    graph.close()


def test_a_stale_epoch_writes_nothing(tmp_path: Path) -> None:
    """Once a higher epoch is in the file, every later call of this activation is refused."""
    graph = open_graph(tmp_path)
    apply(graph, record("m1", user="u"))
    graph._database.connection.execute("UPDATE meta SET epoch = epoch + 1")
    for _ in range(2):
        with pytest.raises(OwnershipLost):
            apply(graph, record("m2", user="u"))
    with pytest.raises(OwnershipLost):
        graph.profile("user_id", "u")
    graph.close()
    graph = open_graph(tmp_path)
    assert (graph.epoch, outbox_ids(graph)) == (3, ["m1"])
    graph.close()


def test_a_failed_open_holds_nothing(tmp_path: Path) -> None:
    """After an open that raised, the right one succeeds at once."""
    open_graph(tmp_path).close()
    for _ in range(3):
        with pytest.raises(Exception, match="another identity"):
            open_graph(tmp_path, identity="ralph")
    open_graph(tmp_path).close()
