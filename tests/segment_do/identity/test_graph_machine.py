"""A graph against plain dictionaries, through batches, files, full disks, crashes and reopens.

A crash is a copy of the folder as it lies on disk at that moment, opened in place of the live one: what
SIGKILL leaves, at points that are chosen and can be replayed. (``test_crash`` kills real processes.)
"""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from segment_do.computed import COMPUTED_SOURCE, read_definition
from segment_do.errors import StorageFailed
from segment_do.events.record import EXTERNAL_ID, REJECTED, Record, decode_pack, encode_pack
from segment_do.identity import Graph
from segment_do.identity import ids as ids_module
from segment_do.identity import seen as seen_module
from tests.segment_do.identity.events import (
    DAY,
    HOUR,
    NOON,
    TIGHT,
    TIGHT_LIMITS,
    histories,
    ids_of,
    meaning,
    partition,
    record,
    shown,
    shown_history,
)

WINDOW = 7
STEPS = ["run written", "run registered", "merge registered", "day expired"]


EXTERNAL_IDS = st.builds(
    lambda kind, value: {"id": value, "type": kind, "collection": "users", "encoding": "none"},
    st.sampled_from(["card", "phone"]),
    st.sampled_from(["1", "2"]),
)


@st.composite
def batches(draw: st.DrawFn) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 12))
    return [
        {
            "number": draw(st.integers(0, 80)),
            "kind": draw(st.sampled_from(["track", "identify", "identify", "group", "alias", REJECTED])),
            "user": draw(st.sampled_from([None, "u1", "u2", "u3"])),
            "anonymous": draw(st.sampled_from(["a1", "a2", "a3", "a4"])),
            "at": NOON + draw(st.integers(-3, 3)) * HOUR // 2,
            "body": {
                "groupId": "g",
                "traits": {
                    **draw(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2))),
                    **draw(st.sampled_from([{}, {"email": "e1"}, {"email": "e2"}])),
                },
                "context": {"externalIds": draw(st.lists(EXTERNAL_IDS, max_size=2))},
            },
        }
        for _ in range(count)
    ]


class GraphMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(seen_module, "RECENT_KEYS", 4)
        self.patch.setattr(ids_module, "GENERATION_IDS", {"user_id": 1, "anonymous_id": 2, "other": 1})
        self.base = Path(tempfile.mkdtemp(prefix="graph-machine-"))
        self.images = 0
        self.folder = self.base / "0"
        self.now = NOON
        self.crash_at: str | None = None
        self.image: Path | None = None
        # The model: accepted events, when each message id was last accepted, what the queue has not got.
        self.events: list[Record] = []
        self.accepted_on: dict[tuple[str, bool], int] = {}
        self.pending: list[tuple[int, list[str]]] = []
        self.returned: list[tuple[int, list[str]]] = []
        self.last_seq = 0
        self.epoch = 0
        self.daily = 0
        self.open()
        self.graph.computations.put(
            read_definition({"class": "trait", "key": "tested", "kind": "event_count", "event": "Tested"}), "test"
        )

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.graph.close()
            self.patch.undo()
            shutil.rmtree(self.base)

    def open(self) -> None:
        self.graph = Graph.open(
            self.folder, "tom", dedupe_days=WINDOW, clock=lambda: self.now, rules=TIGHT, probe=self.probe
        )
        assert self.graph.epoch == self.epoch + 1
        self.epoch += 1

    def probe(self, step: str) -> None:
        # The owner waits for its helper here, so nothing else is writing.
        if step == self.crash_at and self.image is None:
            self.image = self.snapshot()

    def snapshot(self) -> Path:
        self.images += 1
        image = self.base / str(self.images)
        shutil.copytree(self.folder, image)
        return image

    def become(self, image: Path) -> None:
        """The machine died when the image was taken."""
        self.graph.close()
        shutil.rmtree(self.folder)
        self.folder = image
        self.open()
        # What was forgotten since the last batch may come again: it is pending once more.
        back = [entry.seq for entry in self.graph.outbox(2**40)]
        self.pending = [each for each in self.returned if each[0] in back] + self.pending
        self.returned = []

    @rule(
        batch=batches(),
        cuts=st.sets(st.integers(1, 11)),
        received_days_ago=st.sampled_from([0, 0, 1, 2]),
        full=st.booleans(),
    )
    def apply(self, batch: list[dict[str, Any]], cuts: set[int], received_days_ago: int, full: bool) -> None:
        received = self.now - received_days_ago * DAY
        records = [record(f"m{each.pop('number')}", each.pop("kind"), received=received, **each) for each in batch]
        bounds = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
        packs = [(encode_pack(records[low:high]), high - low) for low, high in pairwise(bounds)]
        if full:
            execute = self.graph._database.connection.execute
            (pages,) = execute("PRAGMA page_count").fetchone()
            execute(f"PRAGMA max_page_count = {pages}")
        try:
            applied = self.graph.apply(packs, self.now)
        except StorageFailed:
            assert full
            return
        finally:
            if full:
                execute("PRAGMA max_page_count = 1073741823")
        fresh = []
        for each in records:
            key = (each.message_id, each.type == REJECTED)
            if self.accepted_on.get(key, -1) < received // DAY - WINDOW:
                self.accepted_on[key] = self.now // DAY
                fresh.append(each)
        assert (applied.accepted, applied.duplicates) == (len(fresh), len(records) - len(fresh))
        if fresh:
            assert applied.seq is not None
            assert applied.seq > self.last_seq
            self.last_seq = applied.seq
            self.pending.append((applied.seq, [each.message_id for each in fresh]))
            self.events += fresh
            self.returned = []
        else:
            assert applied.seq is None

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.pending)))
        self.graph.forget(self.pending[count - 1][0])
        self.returned += self.pending[:count]
        self.pending = self.pending[count:]

    @rule(days=st.integers(1, 3))
    def wait(self, days: int) -> None:
        self.now += days * DAY

    @rule(days=st.integers(6, 12))
    def live_on(self, days: int) -> None:
        """Something every day, so that days expire."""
        for _ in range(days):
            self.now += DAY
            self.daily += 1
            made = record(f"daily-{self.daily}", user="u1", received=self.now)
            applied = self.graph.apply([(encode_pack([made]), 1)], self.now)
            assert applied.seq is not None
            self.last_seq = applied.seq
            self.pending.append((applied.seq, [made.message_id]))
            self.events.append(made)
            self.returned = []
            self.graph.maintain(30)

    @rule()
    def maintain(self) -> None:
        assert self.graph.maintain(30)

    @rule()
    def maintain_a_little(self) -> None:
        self.graph.maintain(0.0)

    @rule(step=st.sampled_from(STEPS))
    def crash_in_maintenance(self, step: str) -> None:
        self.crash_at = step
        assert self.graph.maintain(30)
        self.crash_at = None
        image, self.image = self.image, None
        if image is not None:
            self.become(image)

    @rule()
    def crash(self) -> None:
        self.become(self.snapshot())

    @rule()
    def reopen(self) -> None:
        self.graph.close()
        self.returned = []
        self.open()

    @invariant()
    def outbox_holds_each_accepted_event_until_forgotten(self) -> None:
        entries = self.graph.outbox(2**40)
        held = [
            (
                each.seq,
                [
                    r.message_id
                    for r in decode_pack(each.pack, each.count)
                    if r.type != EXTERNAL_ID and r.source_id != COMPUTED_SOURCE
                ],
            )
            for each in entries
        ]
        assert held == self.pending
        assert self.graph.outbox_bytes == sum(len(each.pack) for each in entries)

    @invariant()
    def profiles_are_those_of_the_accepted_events(self) -> None:
        expected = meaning(self.events, TIGHT_LIMITS)
        assert {ids: shown(self.graph.profile(*ids)) for ids in expected} == expected
        earlier = histories([each for each in self.events if each.type != REJECTED], TIGHT_LIMITS)
        assert {ids: shown_history(self.graph, ids) for ids in expected} == {
            ids: earlier.get(ids, {}) for ids in expected
        }

    @invariant()
    def values_are_those_of_the_accepted_events(self) -> None:
        events = [each for each in self.events if each.type != REJECTED]
        for ids, inside in partition(events, TIGHT_LIMITS).items():
            count = sum(each.type == "track" and ids_of(each)[0] in inside for each in events)
            profile = self.graph.profile(*ids)
            assert profile is not None
            found = {key: each.value for key, each in profile.computed.items()}
            assert found == ({"tested": str(count)} if count else {})


GraphMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
TestGraphMachine = GraphMachine.TestCase
