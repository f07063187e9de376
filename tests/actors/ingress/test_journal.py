"""The journal: durable, read back by run, adopted when its owner is dead, bounded."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.ingress.journal import Journal, Run, abandoned, adopt, open_entries
from segment_do.errors import Busy, StorageFailed
from segment_do.settings import JournalSettings
from tests.actors.ingress.storing import stored

SMALL = JournalSettings(segment_bytes=4096, max_bytes=1 << 20)


def read(run: Run) -> list[tuple[str, int, bytes]]:
    return [(name, count, bytes(pack)) for name, count, pack in open_entries(run.segment.read(run.start, run.end))]


async def test_a_run_reads_back_what_was_stored(tmp_path: Path) -> None:
    """What follows an append is a run whose bytes are exactly the events that were stored."""
    runs: list[Run] = []
    journal = Journal(tmp_path, SMALL, runs.append)
    await stored(journal, "tom", b"one")
    await stored(journal, "räuber\U0001f600", b"two", 2)
    assert [read(run) for run in runs] == [[("tom", 1, b"one")], [("räuber\U0001f600", 2, b"two")]]


async def test_neighbours_of_one_identity_join(tmp_path: Path) -> None:
    """Requests that lie side by side in one file are read in one go."""
    runs: list[Run] = []
    journal = Journal(tmp_path, SMALL, runs.append)
    await stored(journal, "tom", b"one")
    await stored(journal, "tom", b"two")
    assert runs[0].absorb(runs[1])
    assert read(runs[0]) == [("tom", 1, b"one"), ("tom", 1, b"two")]
    assert runs[0].packs() == [b"one", b"two"]
    assert runs[0].events == 2


async def test_beyond_its_memory_the_journal_is_read_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog costs no memory: what is over the bound comes from the file, the same; confirmed runs make room again."""
    monkeypatch.setattr("actors.ingress.journal.LIVE_BYTES", 100)
    runs: list[Run] = []
    journal = Journal(tmp_path, SMALL, runs.append)
    for number in range(4):
        await stored(journal, "tom", b"%d" % number * 40)
    assert [run.rows is not None for run in runs] == [True, False, False, False]
    assert not runs[0].absorb(runs[1])
    assert [bytes(pack) for run in runs for pack in run.packs()] == [b"%d" % number * 40 for number in range(4)]
    journal.confirm(runs[0])
    await stored(journal, "tom", b"again")
    assert runs[-1].rows == [b"again"]


async def test_files_go_when_all_in_them_is_confirmed(tmp_path: Path) -> None:
    """A closed file is deleted with its last confirmation, not before; the folder stays small."""
    runs: list[Run] = []
    journal = Journal(tmp_path, SMALL, runs.append)
    for number in range(30):
        await stored(journal, "tom", b"%03d" % number * 200)
    files = len(list(journal.folder.glob("*.seg")))
    assert files > 3
    for run in runs[1:]:
        journal.confirm(run)
    assert (journal.folder / "00000000000000000001.seg").exists()
    journal.confirm(runs[0])
    assert len(list(journal.folder.glob("*.seg"))) == 1
    assert journal.unapplied_bytes == 0


async def test_a_living_journal_cannot_be_adopted_a_dead_one_can(tmp_path: Path) -> None:
    """The lock decides: while its owner lives nobody takes a journal; afterwards exactly one does, and finds everything."""
    journal = Journal(tmp_path, SMALL, lambda run: None)
    await stored(journal, "tom", b"one")
    await stored(journal, "ralph", b"two")
    await journal.prove()
    await stored(journal, "tom", b"three")
    assert [adopt(folder) for folder in abandoned(tmp_path)] == [None]
    os.close(journal._lock)  # as the kernel does when the process dies
    (folder,) = abandoned(tmp_path)
    adopted = adopt(folder)
    assert adopted is not None
    assert adopt(folder) is None
    runs = list(adopted.runs())
    assert [part for run in runs for part in read(run)] == [
        ("tom", 1, b"one"),
        ("ralph", 1, b"two"),
        ("tom", 1, b"three"),
    ]
    for run in runs:
        adopted.confirm(run)
    assert adopted.unapplied_bytes == 0
    adopted.close(remove=True)
    assert abandoned(tmp_path) == []


async def test_an_orderly_end_with_nothing_left_leaves_nothing(tmp_path: Path) -> None:
    """A journal whose events are all confirmed removes its folder; one with events left keeps it for the next start."""
    runs: list[Run] = []
    journal = Journal(tmp_path, SMALL, runs.append)
    await stored(journal, "tom", b"one")
    journal.confirm(runs[0])
    await asyncio.to_thread(journal.close)
    assert abandoned(tmp_path) == []
    journal = Journal(tmp_path, SMALL, runs.append)
    await stored(journal, "tom", b"two")
    await asyncio.to_thread(journal.close)
    (folder,) = abandoned(tmp_path)
    assert adopt(folder) is not None


async def test_the_bound_is_busy_and_confirmations_lift_it(tmp_path: Path) -> None:
    """At max_bytes nothing more is taken; when the identities have caught up it is, without a restart."""
    runs: list[Run] = []
    journal = Journal(tmp_path, JournalSettings(segment_bytes=4096, max_bytes=5000), runs.append)
    with pytest.raises(Busy):
        for _ in range(100):
            await stored(journal, "tom", b"x" * 500)
    for run in runs:
        journal.confirm(run)
    await stored(journal, "tom", b"y")


async def test_a_nearly_full_disk_is_said(tmp_path: Path) -> None:
    """Below the free space that is to be kept, requests and the readiness proof are refused before anything is written."""
    journal = Journal(tmp_path, JournalSettings(min_free_disk_bytes=1 << 60), lambda run: None)
    with pytest.raises(StorageFailed):
        await stored(journal, "tom", b"x")
    with pytest.raises(StorageFailed):
        await journal.prove()


class JournalMachine(RuleBasedStateMachine):
    """Appends, confirmations and crashes in any order: what was acknowledged and not confirmed is always found again."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp())
        self.number = 0
        self.unconfirmed: dict[bytes, Run] = {}
        self.acknowledged: set[bytes] = set()
        self.confirmed: set[bytes] = set()
        self.open()

    def open(self) -> None:
        async def make() -> Journal:
            return Journal(self.root, JournalSettings(segment_bytes=600), self.arrived)

        self.journal = self.loop.run_until_complete(make())

    def arrived(self, run: Run) -> None:
        for _name, _count, pack in read(run):
            self.unconfirmed[pack] = run

    @rule(size=st.integers(1, 300), identity=st.sampled_from(["tom", "ralph"]))
    def append(self, size: int, identity: str) -> None:
        self.number += 1
        pack = b"%06d" % self.number + b"." * size
        self.loop.run_until_complete(stored(self.journal, identity, pack))
        self.acknowledged.add(pack)

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        if self.unconfirmed:
            pack = data.draw(st.sampled_from(sorted(self.unconfirmed)))
            self.journal.confirm(self.unconfirmed.pop(pack))
            self.confirmed.add(pack)

    @rule(torn=st.binary(max_size=40))
    def crash(self, torn: bytes) -> None:
        """kill -9, perhaps in the middle of a write; then a new replica adopts."""
        folder = self.journal.folder
        self.journal._appender.close()  # its thread would go on here, as it does not when the process is dead
        os.close(self.journal._lock)
        last = max(folder.glob("*.seg"))
        with last.open("ab") as stream:
            stream.write(torn)
        self.unconfirmed = {}
        self.open()
        adopted = adopt(folder)
        assert adopted is not None
        found = {pack for run in adopted.runs() for _name, _count, pack in read(run)}
        assert self.acknowledged - self.confirmed <= found <= self.acknowledged
        for pack in sorted(found - self.confirmed):  # their identities get them; here they move to the new journal
            self.loop.run_until_complete(stored(self.journal, "tom", pack))
        adopted.close(remove=True)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        if hasattr(self, "journal"):
            assert self.journal.unapplied_bytes == sum(run.end - run.start for run in self.unconfirmed.values())

    def teardown(self) -> None:
        self.journal._appender.close()
        self.loop.close()


JournalMachine.TestCase.settings = hypothesis_settings(max_examples=40, stateful_step_count=30)
TestJournalMachine = JournalMachine.TestCase
