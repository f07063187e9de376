"""What a batch does: once per message id, in one transaction, in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment_do.errors import CorruptData, SettingsError
from segment_do.events.record import REJECTED, Record, encode_pack
from segment_do.identity import Applied, profile_id
from tests.segment_do.identity.events import (
    NOON,
    apply,
    identify,
    meaning,
    open_graph,
    outbox_ids,
    outbox_records,
    record,
    shown,
)


def test_counts_each_message_id_once(tmp_path: Path) -> None:
    """Within a batch, in a later batch and after a reopen, an event's repetition changes nothing."""
    graph = open_graph(tmp_path)
    assert apply(graph, record("m1", user="u"), record("m1", user="u"), record("m2", user="u")) == Applied(2, 1, seq=1)
    assert apply(graph, record("m2", user="u")) == Applied(0, 1)
    graph.close()
    graph = open_graph(tmp_path)
    assert apply(graph, record("m1", user="u"), record("m3", user="u")) == Applied(1, 1, seq=2)
    assert outbox_ids(graph) == ["m1", "m2", "m3"]
    graph.close()


def test_packs_of_one_call_are_one_batch_in_order(tmp_path: Path) -> None:
    """Several packs give one outbox entry with their records in the order given."""
    graph = open_graph(tmp_path)
    packs = [(encode_pack([record(f"{pack}{place}", user="u") for place in "ab"]), 2) for pack in "xyz"]
    assert graph.apply(packs, NOON) == Applied(6, 0, seq=1)
    assert outbox_ids(graph) == ["xa", "xb", "ya", "yb", "za", "zb"]
    graph.close()


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    """An empty call, and a call of duplicates only, write no outbox entry."""
    graph = open_graph(tmp_path)
    assert graph.apply([], NOON) == Applied()
    apply(graph, record("m", user="u"))
    assert apply(graph, record("m", user="u")).seq is None
    assert len(graph.outbox(2**40)) == 1
    graph.close()


def test_every_other_field_of_a_record_passes_unchanged(tmp_path: Path) -> None:
    """The graph sets ``profile_id`` and nothing else."""
    graph = open_graph(tmp_path)
    given_record = identify("m", {"a": 1}, user="u", anonymous="a", at=NOON - 5)
    apply(graph, given_record)
    given_record.profile_id = profile_id("user_id", "u")
    assert outbox_records(graph) == [given_record]
    graph.close()


def test_events_carry_the_profile_known_at_the_end_of_their_batch(tmp_path: Path) -> None:
    """An anonymous event before the linking one in a batch already belongs to the user; an earlier batch's did not."""
    graph = open_graph(tmp_path)
    apply(graph, record("m1", anonymous="a"))
    apply(graph, record("m2", anonymous="a"), record("m3", anonymous="a", user="u"), record("m4", anonymous="a"))
    user = profile_id("user_id", "u")
    assert [each.profile_id for each in outbox_records(graph)] == [profile_id("anonymous_id", "a"), user, user, user]
    graph.close()
    graph = open_graph(tmp_path)
    apply(graph, record("m5", anonymous="a"))
    assert outbox_records(graph)[-1].profile_id == user
    graph.close()


def test_rejected_records_are_deduplicated_and_touch_no_profile(tmp_path: Path) -> None:
    """A set-aside event goes on once, without a profile, and does not stand in the way of its corrected version."""
    graph = open_graph(tmp_path)
    refused = record("m", REJECTED, user="u", body=b"not even JSON")
    assert apply(graph, refused, refused) == Applied(1, 1, seq=1)
    assert graph.profile("user_id", "u") is None
    assert outbox_records(graph)[0].profile_id is None
    assert apply(graph, record("m", user="u")).accepted == 1
    graph.close()


@pytest.mark.parametrize(
    "poison",
    [
        record("p", "identify", user="u", body=b'{"traits": []}'),
        record("p", "identify", user="u", body=b'{"traits": {"a": 1}'),
        record("p", "identify", user="u", body=b"\xff"),
        record("p", "identify", user="u", body=b'{"traits": {"a": "\xff"}}'),
        record("p", "identify", user="u", body=b'{"traits": ' + b"[" * 20_000 + b"}"),
        record("p", "identify", user="u", body=b'{"traits": {"a": ' + b"[" * 15_000 + b"]" * 15_000 + b"}}"),
        record("p", "group", user="u", body={"traits": {}}),
        record("p", "group", user="u", body={"groupId": ""}),
        record("p", "group", user="u", body={"groupId": {"a": 1}}),
        record("p", user="u", at=2**63),
        identify("p", {"stray": 1}, user="u", at=2**63),
        record("p", "group", user="u", body={"groupId": "g", "traits": {"stray": 1}}, at=2**63),
        record("p", user="u", at=-(2**63)),
    ],
    ids=lambda poison: f"{poison.type}-{poison.payload[:24]!r}-{poison.timestamp}",
)
def test_an_unusable_event_goes_on_and_costs_its_neighbours_nothing(tmp_path: Path, poison: Record) -> None:
    """It is accepted and counted, touches no profile, and the events around it are applied."""
    graph = open_graph(tmp_path)
    before, after = identify("m1", {"a": 1}, user="v"), record("m2", user="v", at=NOON + 1)
    assert apply(graph, before, poison, after) == Applied(3, 0, unusable=1, seq=1)
    assert graph.profile("user_id", "u") is None
    assert graph.profile("group_id", "g") is None
    assert shown(graph.profile("user_id", "v")) == meaning([before, after])["user_id", "v"]
    assert [each.profile_id for each in outbox_records(graph)][1] == profile_id("user_id", "u")
    graph.close()


def test_a_pack_that_does_not_decode_changes_nothing(tmp_path: Path) -> None:
    """Bytes that are not the records they should be are refused before anything is written."""
    graph = open_graph(tmp_path)
    with pytest.raises(CorruptData):
        graph.apply([(encode_pack([record("m", user="u")]), 2)], NOON)
    assert apply(graph, record("m", user="u")).accepted == 1
    graph.close()


@settings(max_examples=40)
@given(
    message_ids=st.lists(st.text(max_size=120), max_size=30),
    identity=st.text(st.characters(), min_size=1, max_size=20),
)
def test_any_text_is_a_message_id(
    tmp_path_factory: pytest.TempPathFactory, message_ids: list[str], identity: str
) -> None:
    """Empty, NUL, astral, combining: distinct texts are distinct ids, equal ones are not."""
    graph = open_graph(tmp_path_factory.mktemp("graph"), identity=identity)
    applied = apply(graph, *(record(each, user=each or None) for each in message_ids))
    assert applied.accepted == len(set(message_ids))
    assert outbox_ids(graph) == list(dict.fromkeys(message_ids))
    graph.close()


def test_a_folder_belongs_to_one_identity(tmp_path: Path) -> None:
    """Opening it under another name is refused and leaves it as it was."""
    open_graph(tmp_path, identity="tom\ud800").close()
    with pytest.raises(SettingsError):
        open_graph(tmp_path, identity="tom")
    graph = open_graph(tmp_path, identity="tom\ud800")
    assert graph.epoch == 2
    graph.close()


def test_numpy_stays_unloaded_until_the_first_run() -> None:
    """A small identity does not pay for numpy."""
    script = (
        "import sys, tempfile, pathlib\n"
        "from tests.segment_do.identity.events import *\n"
        "graph = open_graph(pathlib.Path(tempfile.mkdtemp()))\n"
        "apply(graph, record('m', user='u')); graph.maintain(1); graph.close()\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
