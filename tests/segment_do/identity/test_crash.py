"""Killed at any moment: what was acknowledged is there once, the rest is there once or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.segment_do.identity.events import apply, meaning, open_graph, outbox_ids, outbox_records, record, shown

WORKER = """
import pathlib, sys
from segment_do.identity import seen
from tests.segment_do.identity.events import *

seen.RECENT_KEYS = 64
graph = open_graph(pathlib.Path(sys.argv[1]))
for batch in range(10_000):
    made = [record(f"{batch}-{n}", user=f"u{n % 7}", anonymous=f"a{batch % 5}", at=batch) for n in range(20)]
    assert apply(graph, *made).accepted == 20
    print(batch, flush=True)
    graph.maintain(0.0)
"""


@pytest.mark.parametrize("acknowledged", [0, 3, 17, 60])
def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    """SIGKILL while batches, runs and merges are under way; then every batch once more."""
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    last = -1
    while last < acknowledged:
        last = int(worker.stdout.readline())
    worker.send_signal(signal.SIGKILL)
    rest = worker.stdout.read().split()
    worker.stdout.close()
    worker.wait(30)
    last = int(rest[-1]) if rest and len(rest[-1]) >= len(str(last)) else last
    graph = open_graph(tmp_path)
    held = outbox_ids(graph)
    batches = len(held) // 20
    assert batches >= last + 1
    assert held == [f"{batch}-{n}" for batch in range(batches) for n in range(20)]
    again = [
        record(f"{batch}-{n}", user=f"u{n % 7}", anonymous=f"a{batch % 5}", at=batch)
        for batch in range(batches + 1)
        for n in range(20)
    ]
    assert apply(graph, *again).accepted == 20
    assert graph.maintain(30)
    events = outbox_records(graph)
    assert {ids: shown(graph.profile(*ids)) for ids in meaning(events)} == meaning(events)
    graph.close()
