"""What graphs cost in memory: pages of all files of a process within one bound, and an account of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from segment_do.events.record import Record, encode_pack
from segment_do.identity import Graph

NOW = 20_000 * 86_400 * 1_000_000

GROWN = """
import sys
from pathlib import Path
import segment_do.identity.database as database
database.HEAP_BYTES = int(sys.argv[2])

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

begun, opened = resident(), []
for number in range(8):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    one = database.Database(folder / "graph.db", "tom", 0)
    with one.transaction() as connection:
        connection.executemany("INSERT INTO outbox (count, pack) VALUES (1, ?)", ((bytes(3000),) for _ in range(2000)))
    opened.append(one)
for one in opened:
    with one.reading() as connection:
        connection.execute("SELECT sum(length(hex(pack))) FROM outbox").fetchone()
print(resident() - begun)
"""


def grown(folder: Path, bound: int) -> int:
    """Bytes by which a process grows that reads eight files of eight megabytes."""
    folder.mkdir()
    command = [sys.executable, "-c", GROWN, str(folder), str(bound)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_pages_of_all_files_share_one_bound(tmp_path: Path) -> None:
    """Each file may have sixteen megabytes of its pages in memory, and all together no more than the process's bound."""
    assert grown(tmp_path / "wide", 2**30) > 48 * 2**20
    assert grown(tmp_path / "narrow", 8 * 2**20) < 24 * 2**20


def test_memory_is_told_by_what_is_held(tmp_path: Path) -> None:
    """Ids and keys of message ids, as they come, and not again when they come again."""
    graph = Graph.open(tmp_path / "tom", "tom", dedupe_days=7, clock=lambda: NOW)
    assert graph.memory_bytes == 0

    def come(tag: str) -> int:
        records = [
            Record(f"{tag}{n}", "track", "src", f"u{n}", f"a{n}", "E", NOW, NOW, None, 1, None, b"{}")
            for n in range(1000)
        ]
        graph.apply([(encode_pack(records), len(records))], NOW)
        return graph.memory_bytes

    first, second = come("m"), come("n")
    assert 1000 * 1024 < first < 4000 * 1024
    assert first < second < first + 1000 * 1024
    graph.close()
