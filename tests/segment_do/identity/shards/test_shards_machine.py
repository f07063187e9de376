"""Shards against plain dictionaries, step by step: events, letters handed over one at a time, processes killed, disks full."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from segment_do.errors import StorageFailed
from segment_do.events.record import EXTERNAL_ID, REJECTED, Record
from segment_do.identity.shards import Layout
from tests.segment_do.identity.events import TIGHT, TIGHT_LIMITS, meaning, record, shown
from tests.segment_do.identity.shards.sharded import Sharded
from tests.segment_do.identity.test_graph_machine import batches

USERS = [None, "u1", "u2", "u3"]


class ShardsMachine(RuleBasedStateMachine):
    @initialize(layout=st.sampled_from([Layout(2), Layout(3), Layout(granularity="profile")]))
    def start(self, layout: Layout) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="shards-machine-"))
        self.sharded = Sharded(self.base, layout, TIGHT)
        self.events: dict[tuple[str, bool], Record] = {}

    def teardown(self) -> None:
        if hasattr(self, "base"):
            self.settle()
            self.sharded.close()
            shutil.rmtree(self.base)

    @rule(batch=batches())
    def apply(self, batch: list[dict[str, Any]]) -> None:
        made = []
        for each in batch:
            number = each.pop("number")
            # A retry has the user of its first copy, or its anonymous id where it has none.
            ids = {"user": USERS[number % 4], "anonymous": each["anonymous"] if number % 4 else f"a{number % 3}"}
            made.append(record(f"m{number}", each.pop("kind"), **{**each, **ids}))
        self.sharded.apply(*made)
        for one in made:
            self.events.setdefault((one.message_id, one.type == REJECTED), one)

    @precondition(lambda self: self.sharded.waiting())
    @rule(pick=st.integers(0, 20), confirm=st.booleans(), full=st.booleans())
    def hand_over(self, pick: int, confirm: bool, full: bool) -> None:
        waiting = self.sharded.waiting()
        sender, receiver = waiting[pick % len(waiting)]
        if full:
            with self.sharded.full_disk(receiver), suppress(StorageFailed):
                self.sharded.hand_over(sender, receiver, confirm=confirm, max_bytes=1)
        else:
            self.sharded.hand_over(sender, receiver, confirm=confirm, max_bytes=1)

    @precondition(lambda self: self.sharded.graphs)
    @rule(pick=st.integers(0, 20))
    def kill(self, pick: int) -> None:
        shards = sorted(self.sharded.graphs)
        self.sharded.kill(shards[pick % len(shards)])

    @rule()
    def settle(self) -> None:
        """When nothing is on its way: profiles are those of the events, and each event came out once."""
        self.sharded.settle()
        expected = meaning(list(self.events.values()), TIGHT_LIMITS)
        assert {ids: shown(self.sharded.profile(*ids)) for ids in expected} == expected
        told = Counter(each.message_id for each in self.sharded.told() if each.type != EXTERNAL_ID)
        assert told == Counter(message_id for message_id, _rejected in self.events)


ShardsMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestShardsMachine = ShardsMachine.TestCase
