"""Facts of one graph added to another's: each counts as if its events had come there."""

from __future__ import annotations

from pathlib import Path

import pytest

from segment_do.identity import Graph
from segment_do.identity.shards import Layout
from segment_do.identity.shards.letters import Absorb, Cause, Envelope, encode_letters
from segment_do.units import unit_name
from tests.segment_do.identity.events import NOON, apply, identify


def opened(folder: Path) -> Graph:
    return Graph.open(folder, unit_name("tom", "0"), dedupe_days=7, clock=lambda: NOON, layout=Layout(1))


@pytest.mark.parametrize(("here", "elsewhere", "owner"), [(10, 1, "u1"), (1, 10, "u1"), (10, 7, "u2"), (7, 10, "u2")])
def test_the_earliest_of_a_bond_counts_wherever_it_came(tmp_path: Path, here: int, elsewhere: int, owner: str) -> None:
    """Two graphs know that u1 and an email came together, at different times; u2 claims the email in between."""
    one, other = opened(tmp_path / "one"), opened(tmp_path / "other")
    apply(
        one,
        identify("m2", {"email": "e"}, user="u2", at=NOON + 5),
        identify("m1", {"email": "e"}, user="u1", at=NOON + here),
    )
    apply(other, identify("m0", {"email": "e"}, user="u1", at=NOON + elsewhere))
    assert other.shard is not None
    letter = Absorb(
        ("user_id", "u1"), other.shard.facts(("user_id", "u1")), Cause("m0", "identify", "src", None, NOON, NOON)
    )
    one.apply([], NOON, [Envelope("other", 1, 1, encode_letters([letter]))])
    found = one.profile("email", "e")
    assert found is not None
    assert found.external_ids[0].value == owner
    for graph in (one, other):
        graph.close()
