"""The ledger: durable, exclusive, and right about every offset below a cursor."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.queue.ledger import Counts, DeadLetter, Ledger, Retry
from segment_do.errors import CorruptData, OwnershipLost, StorageFailed


def retry(offset: int, next_at: int = 10, attempts: int = 1) -> Retry:
    return Retry(offset, f"m{offset}", attempts, 5, next_at, 503, "status_503", b'{"o":%d}' % offset)


def letter(offset: int) -> DeadLetter:
    return DeadLetter(offset, f"m{offset}", 7, 1, 400, "no", "status_400", b'{"o":%d}' % offset)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(tmp_path / "ledger.db")
    yield opened
    await opened.close()


async def passed(
    ledger: Ledger,
    start: int,
    end: int,
    retries: list[Retry] | None = None,
    dead: list[DeadLetter] | None = None,
    most: int = 100,
    destination: str = "d1",
) -> Counts:
    retries, dead = retries or [], dead or []
    delivered = end - start - len(retries) - len(dead)
    return await ledger.passed(
        destination, start, end, delivered=delivered, retries=retries, dead=dead, max_dead_letters=most
    )


async def test_outcome_is_one_transaction_and_survives(tmp_path: Path) -> None:
    """Cursor, retries, dead letters and counters are there after opening again, with the events' bytes."""
    first = await Ledger.open(tmp_path / "ledger.db")
    assert await passed(first, 0, 5, [retry(1)], [letter(3)]) == Counts(delivered=3, retrying=1, dead=1)
    await first.close()
    second = await Ledger.open(tmp_path / "ledger.db")
    assert await second.cursors() == {"d1": 5}
    assert await second.counts("d1") == Counts(delivered=3, retrying=1, dead=1)
    assert await second.due("d1", 10, 99) == [retry(1)]
    assert await second.dead("d1", 99) == [letter(3)]
    await second.close()


async def test_failure_in_the_middle_stores_nothing(ledger: Ledger) -> None:
    """When one row cannot be stored, the cursor, the counters and all other rows stay as they were."""
    await passed(ledger, 0, 1)
    with pytest.raises(StorageFailed):
        await passed(ledger, 1, 5, [retry(2), retry(2)], [letter(3)])
    assert await ledger.cursors() == {"d1": 1}
    assert await ledger.counts("d1") == Counts(delivered=1)
    assert await ledger.dead("d1", 9) == []
    await passed(ledger, 1, 5)


async def test_full_disk_is_named_and_passes(ledger: Ledger) -> None:
    """A disk that is full is StorageFailed; nothing was stored, and it works again when there is room."""
    (pages,) = (await ledger._rows("PRAGMA page_count"))[0]
    await ledger._rows(f"PRAGMA max_page_count = {pages}")
    large = [Retry(n, f"m{n}", 1, 5, 10, 503, "status_503", b"x" * 10_000) for n in range(50)]
    with pytest.raises(StorageFailed):
        await passed(ledger, 0, 50, large)
    assert await ledger.cursors() == {}
    await ledger._rows("PRAGMA max_page_count = 1000000")
    await passed(ledger, 0, 50, large)


async def test_cancelled_caller_leaves_no_transaction_open(ledger: Ledger) -> None:
    """A transaction whose caller is gone is finished or undone; the next one finds the file in order."""
    for turns in range(30):
        task = asyncio.create_task(passed(ledger, turns, turns + 1, [retry(turns)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        await passed(ledger, 1000 + turns, 1001 + turns, destination="d2")
    assert (await ledger.cursors())["d2"] == 1030
    due = await ledger.due("d1", 10, 99)
    assert (await ledger.counts("d1")).retrying == len(due)


async def test_file_is_synced_at_every_commit(ledger: Ledger, tmp_path: Path) -> None:
    """WAL, FULL, exclusive: no shared memory file is there, and nobody else can read or write."""
    assert await ledger._rows("PRAGMA synchronous") == [(2,)]
    assert await ledger._rows("PRAGMA journal_mode") == [("wal",)]
    await passed(ledger, 0, 1)
    assert not (tmp_path / "ledger.db-shm").exists()
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600
    other = sqlite3.connect(tmp_path / "ledger.db", timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM cursors")
    other.close()


async def test_second_owner_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    """While one process has the ledger, opening it is OwnershipLost."""
    with pytest.raises(OwnershipLost):
        await Ledger.open(tmp_path / "ledger.db", wait_seconds=0)


async def test_commits_survive_a_killed_process(tmp_path: Path) -> None:
    """What passed() returned for is there after kill -9."""
    program = (
        "import asyncio, os, signal, sys\n"
        "from actors.queue.ledger import Ledger\n"
        "async def main():\n"
        "    ledger = await Ledger.open(sys.argv[1])\n"
        "    await ledger.passed('d1', 0, 5, delivered=5, retries=[], dead=[], max_dead_letters=9)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "ledger.db")], check=False)
    assert done.returncode == -9
    ledger = await Ledger.open(tmp_path / "ledger.db")
    assert await ledger.cursors() == {"d1": 5}
    await ledger.close()


async def test_files_that_are_no_ledger(tmp_path: Path) -> None:
    """Another file, or a newer version's, is refused and left as it is."""
    (tmp_path / "text").write_bytes(b"not a database" * 1000)
    with pytest.raises(CorruptData):
        await Ledger.open(tmp_path / "text")
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(CorruptData, match="99"):
        await Ledger.open(tmp_path / "newer.db")
    with pytest.raises(StorageFailed):
        await Ledger.open(tmp_path / "no such folder" / "ledger.db")


async def test_due_in_order(ledger: Ledger) -> None:
    """The longest due come first, of one destination only, and next_due is the earliest."""
    await passed(ledger, 0, 4, [retry(0, 30), retry(1, 10), retry(2, 10), retry(3, 99)])
    await passed(ledger, 0, 1, [retry(0, 1)], destination="d2")
    assert [row.offset for row in await ledger.due("d1", 30, 99)] == [1, 2, 0]
    assert [row.offset for row in await ledger.due("d1", 30, 2)] == [1, 2]
    assert await ledger.next_due("d1") == 10
    assert await ledger.next_due("d3") is None


async def test_oldest_dead_letters_are_dropped_and_counted(ledger: Ledger) -> None:
    """At the bound the newest stay; how many went is known. Another destination's are its own."""
    await passed(ledger, 0, 2, dead=[letter(0), letter(1)], destination="d2")
    await passed(ledger, 0, 3, dead=[letter(0), letter(1), letter(2)], most=4)
    counts = await passed(ledger, 3, 6, dead=[letter(3), letter(4), letter(5)], most=4)
    assert counts == Counts(dropped=2, dead=4)
    assert [row.offset for row in await ledger.dead("d1", 99)] == [5, 4, 3, 2]
    await passed(ledger, 6, 7, [retry(6)])
    counts = await ledger.retried("d1", delivered=[], again=[], dead=[letter(6)], max_dead_letters=4)
    assert counts == Counts(dropped=3, dead=4)
    assert (await ledger.counts("d2")).dead == 2


async def test_replay_of_dead_letters_keeps_the_bound(ledger: Ledger) -> None:
    """Oldest first, only as many as may wait; their attempts and hours start anew."""
    await passed(ledger, 0, 4, [retry(3)], dead=[letter(0), letter(1), letter(2)])
    replayed, counts = await ledger.replay_dead("d1", 50, 3)
    assert (replayed, counts) == (2, Counts(retrying=3, dead=1))
    assert await ledger.due("d1", 50, 9) == [
        retry(3),
        Retry(0, "m0", 0, 50, 50, 400, "status_400", b'{"o":0}'),
        Retry(1, "m1", 0, 50, 50, 400, "status_400", b'{"o":1}'),
    ]
    assert await ledger.replay_dead("d1", 50, 3) == (0, counts)
    assert await ledger.replay_dead("nobody", 50, 3) == (0, Counts())


async def test_replayed_range_replaces_what_was_there(ledger: Ledger) -> None:
    """When the cursor passes offsets again, the new outcome counts; outside the range nothing changes."""
    await passed(ledger, 0, 6, [retry(1), retry(4)], [letter(2), letter(5)])
    await ledger.move_cursor("d1", 1)
    counts = await passed(ledger, 1, 4, dead=[letter(1)])
    assert (counts.retrying, counts.dead) == (1, 2)
    assert [row.offset for row in await ledger.due("d1", 99, 9)] == [4]
    assert sorted(row.offset for row in await ledger.dead("d1", 9)) == [1, 5]


async def test_late_outcome_of_a_replaced_retry_changes_nothing(ledger: Ledger) -> None:
    """An attempt that was under way when a replay delivered the event does not bring it back."""
    await passed(ledger, 0, 2, [retry(0), retry(1)])
    await ledger.move_cursor("d1", 0)
    await passed(ledger, 0, 2)
    counts = await ledger.retried("d1", delivered=[], again=[retry(0, 99, 2)], dead=[letter(1)], max_dead_letters=9)
    assert (counts.retrying, counts.dead) == (0, 0)


async def test_event_is_found_by_its_message_id(ledger: Ledger) -> None:
    """For tracing: where an event waits or is dead."""
    await passed(ledger, 0, 2, [retry(1)])
    await passed(ledger, 0, 2, dead=[letter(1)], destination="d2")
    assert await ledger.find("m1") == {"d1": "retrying", "d2": "dead"}
    assert await ledger.find("m0") == {}


async def test_deleted_destination_leaves_nothing(ledger: Ledger) -> None:
    """All four tables forget it, and no other."""
    for name in ("d1", "d2"):
        await passed(ledger, 0, 3, [retry(1)], [letter(2)], destination=name)
    await ledger.forget("d1")
    assert await ledger.cursors() == {"d2": 3}
    assert await ledger.counts("d1") == Counts()
    assert await ledger.find("m1") == {"d2": "retrying"}
    assert await ledger.find("m2") == {"d2": "dead"}
    assert (await ledger.counts("d2")) == Counts(delivered=1, retrying=1, dead=1)


async def test_first_cursor_stays(ledger: Ledger) -> None:
    """ensure_cursor sets a cursor once; afterwards it only tells it."""
    assert await ledger.ensure_cursor("d1", 7) == 7
    assert await ledger.ensure_cursor("d1", 99) == 7


fates = st.lists(st.sampled_from(["delivered", "retry", "dead"]), min_size=1, max_size=6)
MAX_DEAD, MAX_RETRYING = 5, 8


class LedgerAgainstModel(RuleBasedStateMachine):
    """Whatever happens, every offset below the cursor is delivered, waits, is dead, was dropped or skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        self.runner = asyncio.Runner()
        self.ledger = self.runner.run(Ledger.open(self.path))
        self.cursor = 0
        self.fate: dict[int, str] = {}
        self.dead: list[int] = []  # oldest first
        self.dropped = self.skipped = 0

    def teardown(self) -> None:
        self.runner.run(self.ledger.close())
        self.runner.close()
        self.folder.cleanup()

    def _dies(self, offset: int) -> None:
        self.fate[offset] = "dead"
        self.dead.append(offset)

    def _bound(self) -> None:
        while len(self.dead) > MAX_DEAD:
            self.fate[self.dead.pop(0)] = "dropped"
            self.dropped += 1

    @rule(outcome=fates)
    def passes(self, outcome: list[str]) -> None:
        start, end = self.cursor, self.cursor + len(outcome)
        self.dead = [offset for offset in self.dead if not start <= offset < end]
        retries, letters = [], []
        for offset, fate in enumerate(outcome, start):
            self.fate[offset] = fate
            if fate == "retry":
                retries.append(retry(offset))
            elif fate == "dead":
                letters.append(letter(offset))
                self._dies(offset)
        self._bound()
        self.cursor = end
        self.runner.run(passed(self.ledger, start, end, retries, letters, most=MAX_DEAD))

    @rule(outcome=fates)
    def retries(self, outcome: list[str]) -> None:
        due = self.runner.run(self.ledger.due("d1", 10, len(outcome)))
        delivered, again, letters = [], [], []
        for row, fate in zip(due, outcome, strict=False):
            self.fate[row.offset] = fate
            if fate == "delivered":
                delivered.append(row.offset)
            elif fate == "retry":
                again.append(retry(row.offset, 10, row.attempts + 1))
            else:
                letters.append(letter(row.offset))
                self._dies(row.offset)
        if letters:
            self._bound()
        self.runner.run(
            self.ledger.retried("d1", delivered=delivered, again=again, dead=letters, max_dead_letters=MAX_DEAD)
        )

    @rule(back=st.integers(0, 10))
    def moves_back(self, back: int) -> None:
        self.cursor = max(0, self.cursor - back)
        self.runner.run(self.ledger.move_cursor("d1", self.cursor))

    @rule(events=st.integers(1, 5))
    def skips(self, events: int) -> None:
        for offset in range(self.cursor, self.cursor + events):
            self.fate.setdefault(offset, "skipped")
        self.skipped += events
        self.runner.run(self.ledger.skipped("d1", self.cursor, self.cursor + events))
        self.cursor += events

    @rule()
    def replays_dead(self) -> None:
        waiting = sum(fate == "retry" for fate in self.fate.values())
        chosen = self.dead[: max(0, MAX_RETRYING - waiting)]
        del self.dead[: len(chosen)]
        self.fate.update(dict.fromkeys(chosen, "retry"))
        replayed, _ = self.runner.run(self.ledger.replay_dead("d1", 10, MAX_RETRYING))
        assert replayed == len(chosen)

    @rule()
    def restarts(self) -> None:
        self.runner.run(self.ledger.close())
        self.ledger = self.runner.run(Ledger.open(self.path))

    @invariant()
    def agrees(self) -> None:
        counts = self.runner.run(self.ledger.counts("d1"))
        waiting = {row.offset for row in self.runner.run(self.ledger.due("d1", 10, 9999))}
        dead = [row.offset for row in self.runner.run(self.ledger.dead("d1", 9999))]
        assert waiting == {offset for offset, fate in self.fate.items() if fate == "retry"}
        assert dead[::-1] == self.dead
        assert (counts.retrying, counts.dead) == (len(waiting), len(dead))
        assert (counts.dropped, counts.skipped) == (self.dropped, self.skipped)
        assert self.runner.run(self.ledger.cursors()).get("d1", 0) == self.cursor
        assert set(range(self.cursor)) <= set(self.fate)


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = hypothesis_settings(max_examples=15, stateful_step_count=15)
