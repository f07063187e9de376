"""Where ids belong never changes, and how an identity is laid out neither."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from segment_do.errors import InvalidRequest, SettingsError
from segment_do.events.record import decode_pack, encode_pack
from segment_do.identity import Rules, profile_id
from segment_do.identity.shards import Layout
from segment_do.identity.shards.begun import check_layouts
from segment_do.identity.shards.layout import order, split_pack
from segment_do.settings import IdentitySettings, Settings
from tests.segment_do.identity.events import record
from tests.segment_do.identity.shards.sharded import Sharded


def settings(home: Path, layouts: dict[str, Any], **identity: Any) -> Settings:
    return Settings(home=home, identity=IdentitySettings(layouts=layouts, **identity))


def test_ids_are_spread_and_stay() -> None:
    """By a hash that is the same for ever; a profile id says by itself which shard owns its id."""
    ids = [("user_id", f"u{number}") for number in range(4_000)]
    four = Counter(Layout(4).owner(each) for each in ids)
    assert min(four.values()) > 900
    assert Layout(4).owner(("user_id", "ada")) == "0"
    for each in ids[:100]:
        for layout in (Layout(4), Layout(granularity="profile")):
            assert layout.owner_of_profile(profile_id(*each)) == layout.owner(each)
    assert Layout(4).owner_of_profile("use_nonsense") is None


def test_the_order_has_users_first() -> None:
    """Of any ids one is the smallest: a user's, where there is one."""
    ids = [("email", "e"), ("user_id", "u2"), ("anonymous_id", "a"), ("user_id", "u1")]
    assert {each[0] for each in sorted(ids, key=order)[:2]} == {"user_id"}
    assert len({order(each) for each in ids}) == len(ids)


def test_a_retry_meets_its_first_copy() -> None:
    """A pack is split by user, else by anonymous id, else by message id: by what a retry has in common with it."""
    records = [record(f"m{number}", user=f"u{number % 5}") for number in range(20)]
    records += [record("n1", anonymous="a1"), record("n2")]
    for layout in (Layout(3), Layout(granularity="profile")):
        parts = split_pack(layout, "tom", len(records), encode_pack(records))
        found = {unit: [each.message_id for each in decode_pack(pack, count)] for unit, count, pack in parts}
        assert sorted(name for names in found.values() for name in names) == sorted(each.message_id for each in records)
        for names in found.values():
            assert names == sorted(names, key=[each.message_id for each in records].index), "in the order of the events"
        again = {unit for unit, _count, _pack in split_pack(layout, "tom", 1, encode_pack(records[:1]))}
        assert again < set(found)


@pytest.mark.parametrize("later", [{}, {"tom": {"shards": 4}}, {"tom": {"granularity": "profile"}}])
def test_a_layout_is_fixed(tmp_path: Path, later: dict[str, Any]) -> None:
    """Once a platform began with it, it starts with no other."""
    first = {"tom": {"shards": 3}}
    check_layouts(settings(tmp_path, first))
    check_layouts(settings(tmp_path, first | {"ralph": {"shards": 2}}))
    with pytest.raises(SettingsError, match="'tom' was begun with the layout '3'"):
        check_layouts(settings(tmp_path, {"ralph": {"shards": 2}} | later))


def test_so_many_shards_or_one_for_every_person(tmp_path: Path) -> None:
    """Both at once is refused, before anything is fixed."""
    with pytest.raises(SettingsError, match="'tom' has 4 shards and a shard for every person"):
        check_layouts(settings(tmp_path, {"tom": {"shards": 4, "granularity": "profile"}}))
    check_layouts(settings(tmp_path, {"tom": {"shards": 4}}))


def test_one_graph_cannot_become_several(tmp_path: Path) -> None:
    """Its events would be seen by nobody."""
    given = settings(tmp_path, {"tom": {"shards": 3}})
    given.paths.identity("tom").mkdir(parents=True)
    with pytest.raises(SettingsError, match="has events in one graph already"):
        check_layouts(given)


def test_arrival_needs_one_place(tmp_path: Path) -> None:
    """The order of arrival is no order over shards: refused in the settings, and by a shard, which promises no profiles by it either."""
    file = tmp_path / "rules.yaml"
    file.write_text("order: arrival\n")
    with pytest.raises(SettingsError, match="order: arrival needs one place"):
        check_layouts(settings(tmp_path, {"tom": {"shards": 3}}, rules_file=file))
    sharded = Sharded(tmp_path / "tom", Layout(2))
    with pytest.raises(InvalidRequest, match="order: arrival needs one place"):
        sharded.graph("0").revisions.set_rules(Rules(order="arrival"), Rules(), "tester")
    with pytest.raises(InvalidRequest, match="order: arrival needs one place"):
        sharded.graph("0").revisions.propose_rules(Rules(order="arrival"))


def test_a_file_knows_its_layout(tmp_path: Path) -> None:
    """Also where nobody looked before."""
    Sharded(tmp_path, Layout(2)).graph("0").close()
    with pytest.raises(SettingsError, match="begun under the layout '2'"):
        Sharded(tmp_path, Layout(3)).graph("0")
