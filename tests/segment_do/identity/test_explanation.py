"""Why two ids are one person, what made a profile, and how it is undone: Segment's worked examples as named cases."""

from __future__ import annotations

import base64
import hashlib
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from segment_do.errors import InvalidRequest, NotFound
from segment_do.events.record import EXTERNAL_ID, Record, decode_pack, encode_pack
from segment_do.identity import Graph, profile_id, read_rules
from tests.segment_do.identity.events import DAY, NOON, apply, identify, open_graph, record


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return open_graph(tmp_path)


def ids(graph: Graph, kind: str, value: str) -> set[str]:
    found = graph.profile(kind, value)
    assert found is not None
    return {f"{each.kind}:{each.value}" for each in found.external_ids}


def test_a_profile_id_never_changes() -> None:
    """What was handed out and stored goes on meaning the same: BLAKE2b of 16 bytes in the base 32 of RFC 4648."""
    for number in range(2_000):
        kind, value = ("user_id", "group_id", "email")[number % 3], f"{number}é" * (number % 5)
        digest = hashlib.blake2b(f"{kind}\0{value}".encode(), digest_size=16).digest()
        text = base64.b32encode(digest).decode().rstrip("=").lower()
        assert profile_id(kind, value) == ("acc_" if kind == "group_id" else "use_") + text
    assert profile_id("user_id", "ada") == "use_5mss7z5n3g6esjrtjdd7fxtfly"


def told(graph: Graph) -> dict[str, str]:
    """The id map, as the outbox tells it: the last word on each id."""
    found = {}
    for entry in graph.outbox(2**40):
        for each in decode_pack(entry.pack, entry.count):
            if each.type == EXTERNAL_ID:
                body = msgspec.json.decode(each.payload)
                found[f"{body['type']}:{body['id']}"] = body["canonical_segment_id"]
    return found


def email(message_id: str, user: str | None, address: str, at: int = NOON, **given: Any) -> Record:
    return identify(message_id, {"email": address}, user=user, at=at, **given)


def test_an_email_conflict_gives_two_profiles(graph: Graph) -> None:
    """Segment's own example: the email stays with the first user, the second gets a profile without it."""
    apply(graph, email("m1", "A", "e@example.com", NOON))
    apply(graph, email("m2", "B", "e@example.com", NOON + 1))
    assert ids(graph, "user_id", "A") == {"user_id:A", "email:e@example.com"}
    assert ids(graph, "user_id", "B") == {"user_id:B"}
    (step,) = graph.history("user_id", "B")
    assert (step.edge.message_id, step.left_out) == ("m2", (("email", "e@example.com"),))


def test_anonymous_then_known_is_one(graph: Graph) -> None:
    """The id map tells the anonymous id's new name; its old profile id goes on resolving."""
    apply(graph, record("m1", anonymous="a"))
    before = graph.profile("anonymous_id", "a")
    assert before is not None
    apply(graph, record("m2", anonymous="a", user="u", at=NOON + 1))
    assert told(graph) == {"anonymous_id:a": profile_id("user_id", "u")}
    now = graph.profile_by_id(before.profile_id)
    assert now is not None
    assert now.profile_id == profile_id("user_id", "u")
    assert graph.profile_by_id("use_nonsense") is None
    assert graph.profile_by_id(profile_id("user_id", "nobody")) is None


def test_alias_alone_merges_none_and_does_by_a_setting(tmp_path: Path) -> None:
    """`alias("user_123", "previous_anonymous_id")` for cross-device; a self-alias is nothing; two users by it, too."""
    alias = record("m2", "alias", user="user_123", body={"userId": "user_123", "previousId": "previous_anonymous_id"})
    own = record("m3", "alias", user="user_123", body={"userId": "user_123", "previousId": "user_123"})
    plain = open_graph(tmp_path / "plain")
    merging = open_graph(tmp_path / "merging", rules=read_rules({"alias": "merge"}))
    for graph in (plain, merging):
        apply(graph, record("m1", anonymous="previous_anonymous_id"), alias, own)
    assert ids(plain, "user_id", "user_123") == {"user_id:user_123"}
    assert ids(merging, "user_id", "user_123") == {"user_id:user_123", "anonymous_id:previous_anonymous_id"}
    apply(merging, record("m4", user="old"))
    apply(merging, record("m5", "alias", user="new", body={"userId": "new", "previousId": "old"}))
    assert ids(merging, "user_id", "old") == {"user_id:old", "user_id:new"}


@pytest.mark.parametrize("value", ["", "-1", "null", "anonymous", "0", "00000000-0000-0000-0000-000000000000", "-"])
def test_blocked_values_never_merge(graph: Graph, value: str) -> None:
    """They stay in the payload; nobody is found by them, and events with nothing else belong to nobody."""
    apply(graph, record("m1", anonymous=value, user="a"), record("m2", anonymous=value, user="b"))
    apply(graph, record("m3", anonymous=value))
    assert ids(graph, "user_id", "a") == {"user_id:a"}
    assert graph.profile("anonymous_id", value) is None


def test_every_place_that_ids_are_taken_from(graph: Graph) -> None:
    """Traits, context, device, push token, analytics, context.externalIds; spelling made one."""
    body = {
        "traits": {"email": " Ada@Example.COM ", "phone": "+44 20 7946-0000"},
        "context": {
            "traits": {"email": "second@example.com"},
            "device": {"type": "iOS", "id": "d1", "token": "t1", "advertisingId": "ad1", "adTrackingEnabled": True},
            "integrations": {"Google Analytics": {"clientId": "ga1"}},
            "externalIds": [
                {"id": "c1", "type": "card", "collection": "users", "encoding": "none"},
                {"id": "c2", "type": "card", "collection": "users"},
                {"id": "c3", "type": "Card", "collection": "users", "encoding": "none"},
            ],
        },
    }
    apply(graph, record("m1", "identify", user="ada", anonymous="a", body=body))
    assert ids(graph, "email", "ADA@example.com") == {
        "user_id:ada",
        "anonymous_id:a",
        "email:ada@example.com",
        "email:second@example.com",
        "phone:+442079460000",
        "ios.id:d1",
        "ios.push_token:t1",
        "ios.idfa:ad1",
        "ga_client_id:ga1",
        "card:c1",
    }


def test_configured_keys_in_both_spellings(tmp_path: Path) -> None:
    """`loyaltyNumber` is found as `loyalty_number`, in traits, context.traits and properties."""
    graph = open_graph(tmp_path, rules=read_rules({"types": {"loyalty": {"keys": ["loyaltyNumber"]}}}))
    apply(
        graph,
        record("m1", user="u", body={"properties": {"loyalty_number": 7}}),
        record("m2", anonymous="a", body={"context": {"traits": {"loyaltyNumber": "7"}}}),
    )
    assert ids(graph, "loyalty", "7") == {"user_id:u", "anonymous_id:a", "loyalty:7"}


@pytest.mark.parametrize("sent", [b'"gr\\u00f6\\u00dfe"', b'"gr\\u00F6\\u00dFe"', '"größe"'.encode()])
def test_configured_keys_are_found_however_they_are_escaped(tmp_path: Path, sent: bytes) -> None:
    """Letters beyond ASCII come as they are, or as escapes."""
    graph = open_graph(tmp_path, rules=read_rules({"types": {"size": {"keys": ["größe"]}}}))
    apply(graph, record("m1", user="u", body=b'{"type":"track","properties":{' + sent + b':"xl"}}'))
    assert ids(graph, "user_id", "u") == {"user_id:u", "size:xl"}


def test_why_two_ids_are_one_person(graph: Graph) -> None:
    """The shortest chain of events, not one over a bond that a limit refused."""
    apply(graph, record("m1", anonymous="a1", user="u"), email("m2", "u", "e@example.com", NOON + 1))
    apply(graph, email("m3", None, "e@example.com", NOON + 2, anonymous="a2"))
    chain = graph.why(("anonymous_id", "a1"), ("anonymous_id", "a2"))
    assert chain is not None
    assert [(edge.message_id, edge.rule) for edge in chain] == [("m1", "track"), ("m2", "identify"), ("m3", "identify")]
    assert chain[0].ids == (("user_id", "u"), ("anonymous_id", "a1"))
    assert graph.why(("user_id", "u"), ("user_id", "u")) == []
    apply(graph, email("m4", "other", "e@example.com", NOON + 3))
    assert graph.why(("user_id", "u"), ("user_id", "other")) is None
    with pytest.raises(NotFound):
        graph.why(("user_id", "u"), ("user_id", "nobody"))


def test_a_merge_is_taken_back(graph: Graph) -> None:
    """`unmerge` rebuilds the component without the edge; the same event again does not bring it back; the audit says who did it."""
    apply(graph, record("m1", anonymous="a", user="u"), email("m2", None, "e@example.com", NOON + 1, anonymous="a"))
    (bond,) = [step.edge.bond for step in graph.history("user_id", "u") if step.edge.message_id == "m1"]
    graph.revisions.unmerge(bond, "ada")
    assert ids(graph, "user_id", "u") == {"user_id:u"}
    assert ids(graph, "anonymous_id", "a") == {"anonymous_id:a", "email:e@example.com"}
    assert told(graph)["anonymous_id:a"] == profile_id("email", "e@example.com")
    apply(graph, record("m3", anonymous="a", user="u", at=NOON + 9))
    assert ids(graph, "user_id", "u") == {"user_id:u"}
    (line,) = graph.revisions.audit(10)
    assert (line.action, line.detail) == ("unmerge", {"bond": bond, "by": "ada"})
    with pytest.raises(NotFound):
        graph.revisions.unmerge(99, "ada")


def test_what_was_undone_stays_undone_when_an_earlier_event_says_it_again(graph: Graph) -> None:
    """Also where a limit keeps something else apart, so that late events are decided one by one."""
    apply(graph, email("m1", "A", "e@example.com", NOON + 1), email("m2", "B", "e@example.com", NOON + 2))
    apply(graph, record("m3", user="A", anonymous="a", at=NOON + 3))
    [edge] = graph.why(("user_id", "A"), ("anonymous_id", "a")) or []
    graph.revisions.unmerge(edge.bond, by="tester")
    for message_id, at in (("m4", NOON), ("m5", NOON - 1)):
        apply(graph, record(message_id, user="A", anonymous="a", at=at))
        assert ids(graph, "user_id", "A") == {"user_id:A", "email:e@example.com"}
        assert ids(graph, "anonymous_id", "a") == {"anonymous_id:a"}


def test_what_was_undone_stays_undone_on_another_day(tmp_path: Path) -> None:
    """Where a limit holds for some time only, each day's events count by themselves; what is undone is undone for all of them."""
    graph = open_graph(tmp_path, rules=read_rules({"types": {"anonymous_id": {"window": "weekly"}}}))
    apply(graph, *(record(f"m{day}", user="u", anonymous="a", at=NOON + day * DAY) for day in (0, 3)))
    [edge] = graph.why(("user_id", "u"), ("anonymous_id", "a")) or []
    graph.revisions.unmerge(edge.bond, by="tester")
    assert ids(graph, "user_id", "u") == {"user_id:u"}
    for day in (-1, 1, 3, 9):
        apply(graph, record(f"n{day}", user="u", anonymous="a", at=NOON + day * DAY))
        assert ids(graph, "user_id", "u") == {"user_id:u"}
    apply(graph, record("o1", user="u", anonymous="b", at=NOON))
    assert ids(graph, "user_id", "u") == {"user_id:u", "anonymous_id:b"}
    graph.revisions.merge(("user_id", "u"), ("anonymous_id", "a"), by="tester")
    assert ids(graph, "user_id", "u") == {"user_id:u", "anonymous_id:a", "anonymous_id:b"}
    graph.close()


def test_split_and_merge_by_hand(tmp_path: Path) -> None:
    """A split takes ids out together; a merge joins what limits would keep apart; both outlive the process."""
    graph = open_graph(tmp_path)
    apply(graph, record("m1", anonymous="a1", user="u"), record("m2", anonymous="a2", user="u"))
    apply(graph, email("m3", None, "e@example.com", NOON + 1, anonymous="a2"))
    graph.revisions.split([("anonymous_id", "a2"), ("email", "e@example.com")], "ada")
    assert ids(graph, "user_id", "u") == {"user_id:u", "anonymous_id:a1"}
    assert ids(graph, "anonymous_id", "a2") == {"anonymous_id:a2", "email:e@example.com"}
    apply(graph, record("m4", user="v"))
    graph.revisions.merge(("user_id", "u"), ("user_id", "v"), "ada")
    assert ids(graph, "user_id", "v") == {"user_id:u", "user_id:v", "anonymous_id:a1"}
    graph.close()
    graph = open_graph(tmp_path)
    assert ids(graph, "user_id", "v") == {"user_id:u", "user_id:v", "anonymous_id:a1"}
    assert [line.action for line in graph.revisions.audit(10)] == ["merge", "split"]
    for wrong in ([("user_id", "u"), ("anonymous_id", "a2")],):
        with pytest.raises(InvalidRequest):
            graph.revisions.split(wrong, "ada")
    with pytest.raises(InvalidRequest):
        graph.revisions.merge(("user_id", "u"), ("user_id", "u"), "ada")
    graph.close()


def test_a_previous_id_of_an_alias_is_known_in_every_spelling(tmp_path: Path) -> None:
    """As the rules write user ids, so they are looked for."""
    rules = read_rules({"alias": "merge", "types": {"user_id": {"normalise": ["lowercase"], "priority": 1}}})
    graph = open_graph(tmp_path, rules=rules)
    apply(graph, record("m1", user="bob"), record("m2", "alias", user="rob", body={"previousId": "BOB"}))
    assert ids(graph, "user_id", "rob") == {"user_id:bob", "user_id:rob"}


def test_a_person_and_an_account_are_never_one(graph: Graph) -> None:
    """Not by hand either: who is looked for among people would be gone. Two accounts may be one."""
    apply(
        graph,
        record("m1", "group", user="u", body={"groupId": "g1"}),
        record("m2", "group", user="u", body={"groupId": "g2"}),
    )
    for one, other in ((("user_id", "u"), ("group_id", "g1")), (("group_id", "g1"), ("user_id", "u"))):
        with pytest.raises(InvalidRequest, match="a person, the other of an account"):
            graph.revisions.merge(one, other, "ada")
    assert ids(graph, "user_id", "u") == {"user_id:u"}
    graph.revisions.merge(("group_id", "g1"), ("group_id", "g2"), "ada")
    assert ids(graph, "group_id", "g2") == {"group_id:g1", "group_id:g2"}


def test_an_id_is_told_with_an_event_of_its_own_profile(graph: Graph) -> None:
    """In a batch of many people's events, each change names the last event of whom it is about."""
    apply(
        graph,
        record("m1", anonymous="a", user="u"),
        record("m2", anonymous="b", user="v", at=NOON + 1),
        record("m3", anonymous="a", user="u", at=NOON + 2),
        record("m4", user="w", at=NOON + 3),
    )
    triggers = {
        body["id"]: body["event"]["message_id"]
        for entry in graph.outbox(2**40)
        for each in decode_pack(entry.pack, entry.count)
        if each.type == EXTERNAL_ID and (body := msgspec.json.decode(each.payload))
    }
    assert triggers == {"a": "m3", "b": "m2"}


def test_an_id_that_is_no_column_of_events_is_told_when_it_is_new(graph: Graph) -> None:
    """An email that names a profile, or is alone because another's limit refused it, never moves: the map knows it anyway."""
    apply(graph, identify("m1", {"email": "e@example.com"}, anonymous="a"))
    own = profile_id("email", "e@example.com")
    assert told(graph) == {"anonymous_id:a": own, "email:e@example.com": own}
    apply(graph, record("m2", anonymous="b", at=NOON + 1))
    assert "anonymous_id:b" not in told(graph)


def test_what_was_undone_can_be_done_again_by_hand(graph: Graph) -> None:
    """Whether an event's bond was undone, a limit refused it, or it was done by hand before."""
    apply(graph, record("m1", anonymous="a", user="u"))
    for _ in range(2):
        (step,) = [step for step in graph.history("user_id", "u") if step.merged > 1]
        graph.revisions.unmerge(step.edge.bond, "ada")
        assert ids(graph, "user_id", "u") == {"user_id:u"}
        graph.revisions.merge(("user_id", "u"), ("anonymous_id", "a"), "ada")
        assert ids(graph, "user_id", "u") == {"user_id:u", "anonymous_id:a"}
    apply(graph, email("m2", "u", "e@example.com"), email("m3", "v", "e@example.com", NOON + 1))
    graph.revisions.merge(("user_id", "v"), ("email", "e@example.com"), "ada")
    assert {"user_id:u", "user_id:v"} <= ids(graph, "email", "e@example.com")


def test_what_is_joined_by_hand_again_puts_nobody_out(tmp_path: Path) -> None:
    """It counts from now on: whoever came between the two times stays in the profile, whatever the limits say."""
    graph = open_graph(tmp_path, now=NOON)
    apply(graph, record("m1", user="A", at=NOON - 1), email("m2", None, "e@example.com", NOON - 1, anonymous="a"))
    graph.revisions.merge(("user_id", "A"), ("email", "e@example.com"), "ada")
    [edge] = graph.why(("user_id", "A"), ("email", "e@example.com")) or []
    graph.revisions.unmerge(edge.bond, "ada")
    apply(graph, email("m3", "B", "e@example.com", NOON + 1))
    graph.close()
    graph = open_graph(tmp_path, now=NOON + 2)
    graph.revisions.merge(("user_id", "A"), ("email", "e@example.com"), "ada")
    assert ids(graph, "user_id", "A") == {"user_id:A", "user_id:B", "email:e@example.com", "anonymous_id:a"}
    graph.close()


def test_an_alias_that_merges_does_so_in_any_order(tmp_path: Path) -> None:
    """Also where an event carried the same two ids before it, and a limit refused them."""
    events = [
        record("m1", anonymous="a", user="first"),
        record("m2", anonymous="a", user="second", at=NOON + 1),
        record("m3", "alias", user="second", body={"userId": "second", "previousId": "a"}, at=NOON + 2),
    ]
    for order in itertools.permutations(events):
        graph = open_graph(tmp_path / "".join(each.message_id for each in order), rules=read_rules({"alias": "merge"}))
        for each in order:
            apply(graph, each)
        assert ids(graph, "user_id", "second") == {"user_id:first", "user_id:second", "anonymous_id:a"}
        graph.close()


def test_a_simulation_tells_and_keeps_nothing(graph: Graph) -> None:
    """What an event would do, before it is sent: whose it would be, and which ids would move."""
    apply(graph, record("m1", anonymous="a"))
    event = record("m2", anonymous="a", user="u", at=NOON + 1)
    outcome = graph.simulate([(encode_pack([event]), 1)], NOON)
    assert [(each.type, each.profile_id) for each in outcome] == [
        ("track", profile_id("user_id", "u")),
        (EXTERNAL_ID, profile_id("user_id", "u")),
    ]
    assert graph.profile("user_id", "u") is None
    assert ids(graph, "anonymous_id", "a") == {"anonymous_id:a"}
    assert told(graph) == {}
    assert apply(graph, event).accepted == 1
    assert ids(graph, "user_id", "u") == {"user_id:u", "anonymous_id:a"}


def test_other_rules_are_tried_and_then_hold_for_the_past_as_well(tmp_path: Path) -> None:
    """A dry run says how many profiles there would be; set, they outlive the process; taken away, all is as before."""
    graph = open_graph(tmp_path)
    for number in range(4):
        apply(graph, record(f"m{number}", anonymous=f"a{number}", user="u", at=NOON + number))
    rules = read_rules({"types": {"anonymous_id": {"limit": 2, "blocked": ["a0"]}}})
    proposal = graph.revisions.propose_rules(rules)
    assert (proposal.profiles_before, proposal.profiles_after, proposal.ids_moved) == (1, 3, 2)
    assert ("anonymous_id", "a3", profile_id("anonymous_id", "a3")) in proposal.examples
    assert len(ids(graph, "user_id", "u")) == 5
    graph.revisions.set_rules(rules, read_rules({}), "ada")
    graph.close()
    graph = open_graph(tmp_path)
    assert ids(graph, "user_id", "u") == {"user_id:u", "anonymous_id:a1", "anonymous_id:a2"}
    assert graph.profile("anonymous_id", "a0") is None
    graph.revisions.set_rules(None, read_rules({}), "ada")
    assert len(ids(graph, "user_id", "u")) == 5
    assert graph.revisions.audit(1)[0].detail == {"rules": None, "by": "ada"}
    graph.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"colour": 1}, "unknown field"),
        ({"types": {"Email": {}}}, "lower case"),
        ({"types": {"email": {"limit": 0}}}, "limit of email"),
        ({"types": {"phone": {}, "email": {"window": "daily"}}}, "at `$.window` of the type 'email'"),
        ({"types": {"phone": 5}}, "of the type 'phone'"),
        ({"types": []}, "at `$.types`"),
        ({"types": {"email": {"blocked_patterns": ["("]}}}, "no regular expression"),
        ({"blocked": ["x"] * 1_001}, "more than"),
        ({"types": {f"t{n}": {} for n in range(101)}}, "more than 100 types"),
    ],
)
def test_rules_that_cannot_be_used_are_refused(given: Any, said: str) -> None:
    """With the place."""
    with pytest.raises(InvalidRequest) as caught:
        read_rules(given)
    assert caught.value.code == "invalid_rules"
    assert said in caught.value.message
