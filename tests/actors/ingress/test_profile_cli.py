"""`segment-do profile …` against the API in this process: tables for people, JSON for programs, one sentence for mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segment_do.identity import profile_id
from tests.actors.ingress.test_identity_api import ANN, event, tom
from tests.actors.profiled import Profiled

__all__ = ["tom"]  # a fixture


async def test_show_in_both_ways(tom: Profiled) -> None:
    """The short form and the long one, by an id and by the profile id."""
    for command in (["profile"], ["profile", "show"]):
        for name in ("user_id:ann", ANN):
            (found,) = (await tom.cli(*command, "tom", name, "--json")).rows
            assert found["profileId"] == ANN
    ran = await tom.cli("profile", "tom", "user_id:ann")
    assert (ran.code, "ann@example.com" in ran.out) == (0, True)
    assert (await tom.cli("profile", "--json", "tom", "user_id:ann")).rows[0]["profileId"] == ANN
    assert (await tom.cli("profile", "show", "why", "user_id:ann")).code == 1


async def test_why_history_and_changes(tom: Profiled) -> None:
    """A mistaken merge is found, undone and made again."""
    ran = await tom.cli("profile", "why", "tom", "anonymous_id:a1", "email:ann@example.com")
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert lines[0].split() == ["bond", "when", "rule", "message", "source", "ids"]
    assert [line.split()[3] for line in lines[2:]] == ["m2", "m3"]
    (told,) = (await tom.cli("profile", "why", "tom", "user_id:ann", "user_id:bob", "--json")).rows
    assert told == {"chain": None}
    assert "not one profile" in (await tom.cli("profile", "why", "tom", "user_id:ann", "user_id:bob")).err
    steps = (await tom.cli("profile", "history", "tom", "user_id:ann", "--json")).rows
    assert [step["merged"] for step in steps] == [2, 3]
    assert "anonymous_id:a1" in (await tom.cli("profile", "history", "tom", "user_id:ann")).out
    assert (await tom.cli("profile", "history", "tom", ANN, "--json")).rows == steps
    assert (await tom.cli("profile", "why", "tom", ANN, "email:ann@example.com")).out
    bond = str(steps[0]["edge"]["bond"])  # type: ignore[index]
    ran = await tom.cli("profile", "unmerge", "tom", bond)
    assert (ran.code, ran.out) == (0, f"Bond {bond} is undone.\n")
    ran = await tom.cli("profile", "merge", "tom", "user_id:ann", "anonymous_id:a1")
    assert ran.out == f"They are {ANN} now.\n"
    ran = await tom.cli("profile", "split", "tom", "anonymous_id:a2", "email:ann@example.com", "--json")
    assert set(ran.rows[0]["profileIds"]) == {"anonymous_id:a2", "email:ann@example.com"}  # type: ignore[call-overload]
    assert "profile now" in (await tom.cli("profile", "split", "tom", "anonymous_id:a1")).out
    actions = [line["action"] for line in (await tom.cli("profile", "audit", "tom", "--json")).rows]
    assert actions == ["split", "split", "merge", "unmerge"]
    assert "unmerge" in (await tom.cli("profile", "audit", "tom", "--limit", "4")).out
    assert (await tom.cli("profile", "unmerge", "tom", "999")).code == 1
    assert (await tom.cli("profile", "why", "tom", "ann", "user_id:bob")).code == 2


async def test_traits(tom: Profiled) -> None:
    """What a trait was before, for people and for programs; one sentence where there is none."""
    await tom.send(event("m5", "identify", userId="ann", traits={"plan": "free"}))
    ran = await tom.cli("profile", "traits", "tom", "user_id:ann")
    assert [line.split()[:2] for line in ran.out.splitlines()[2:]] == [
        ["email", "ann@example.com"],
        ["plan", "free"],
        ["plan", "pro"],
    ]
    (told,) = (await tom.cli("profile", "traits", "tom", ANN, "plan", "--json")).rows
    assert [each["messageId"] for each in told["values"]] == ["m5", "m2"]  # type: ignore[attr-defined]
    assert "never had" in (await tom.cli("profile", "traits", "tom", "user_id:ann", "never")).err
    assert "no traits" in (await tom.cli("profile", "traits", "tom", "user_id:bob")).err
    assert (await tom.cli("profile", "traits", "tom", "ann")).code == 2


async def test_simulate(tom: Profiled, tmp_path: Path) -> None:
    """An event as argument, from standard input and from a file."""
    told = json.dumps({"type": "track", "event": "E", "userId": "bob", "anonymousId": "b1"})
    file = tmp_path / "event.json"
    file.write_text(told)
    for ran in (
        await tom.cli("profile", "simulate", "tom", told, "--json"),
        await tom.cli("profile", "simulate", "tom", "--json", stdin=told),
        await tom.cli("profile", "simulate", "tom", "--file", str(file), "--json"),
    ):
        assert ran.rows[0]["profileId"] == profile_id("user_id", "bob")
    ran = await tom.cli("profile", "simulate", "tom", told)
    assert "b1" in ran.out
    assert "Nothing was stored." in ran.err
    for wrong in ("{", "[1]", '{"type": "track"}'):
        assert (await tom.cli("profile", "simulate", "tom", wrong)).code == 1
    ran = await tom.cli("profile", "simulate", "tom", '{"type": "track", "event": "E", "userId": "null"}')
    assert (ran.code, ran.out, "no id that counts" in ran.err) == (0, "", True)
    ran = await tom.cli("profile", "simulate", "tom", "--file", str(tmp_path / "nothing"))
    assert (ran.code, "cannot be read: FileNotFoundError" in ran.err) == (1, True)
    assert (await tom.cli("profile", "tom", "anonymous_id:b1")).code == 1


async def test_computations(tom: Profiled, tmp_path: Path) -> None:
    """Set, listed, counted, shown in the profile, and taken away; what cannot be used is said."""
    file = tmp_path / "orders.json"
    definition = {"class": "trait", "key": "orders", "kind": "event_count", "event": "Tested"}
    file.write_text(json.dumps(definition))
    ran = await tom.cli("profile", "computations", "list", "tom")
    assert (ran.out, "There are none" in ran.err) == ("", True)
    ran = await tom.cli("profile", "computations", "set", "tom", str(file))
    assert "orders" in ran.out, ran
    await tom.send(event("m8", userId="bob"), event("m9", userId="bob"))
    told = await tom.told("GET", "/api/profiles/tom/user_id:bob")
    assert (told["computed"]["orders"]["value"], told["computed"]["orders"]["class"]) == (2, "computed_trait")
    (listed,) = (await tom.cli("profile", "computations", "list", "tom", "--json")).rows
    assert listed["definition"]["kind"] == "event_count"  # type: ignore[index]
    ran = await tom.cli("profile", "computations", "remove", "tom", "orders")
    assert ran.out == "orders is no more.\n"
    assert (await tom.cli("profile", "computations", "remove", "tom", "orders")).code == 1
    for wrong in ("{", "[]", '{"class": "trait", "key": "x", "kind": "nope"}'):
        file.write_text(wrong)
        assert (await tom.cli("profile", "computations", "set", "tom", str(file))).code == 1
    lines = (await tom.told("GET", "/api/identities/tom/audit"))["lines"]
    assert [line["action"] for line in lines] == ["computation deleted", "computation"]


async def test_rules(tom: Profiled, tmp_path: Path) -> None:
    """Tried, set, shown and taken away."""
    file = tmp_path / "rules.json"
    file.write_text('{"types": {"anonymous_id": {"limit": 1}}}')
    ran = await tom.cli("profile", "rules", "set", "tom", str(file), "--dry-run")
    assert ran.out.startswith("profiles  2 now, 3 then\n"), ran
    assert (await tom.cli("profile", "rules", "show", "tom", "--json")).rows == [{"rules": {}, "own": False}]
    ran = await tom.cli("profile", "rules", "set", "tom", str(file))
    assert (json.loads(ran.out), ran.err) == (json.loads(file.read_text()), "They are the identity's own.\n")
    assert (await tom.cli("profile", "rules", "reset", "tom", "--json")).rows == [{"rules": {}, "own": False}]
    for wrong in ("{", "[]", '{"alias": "x"}'):
        file.write_text(wrong)
        assert (await tom.cli("profile", "rules", "set", "tom", str(file))).code == 1
    assert (await tom.cli("profile", "rules", "set", "tom", str(tmp_path / "nothing"))).code == 1


async def test_tokens(tom: Profiled) -> None:
    """Made, used, listed without its secret, revoked."""
    ran = await tom.cli("profile", "tokens", "create", "tom", "--name", "crm")
    token = ran.out.strip()
    path = "/v1/spaces/tom/collections/users/profiles/user_id:ann/traits"
    assert (await tom.client.get(path, auth=(token, ""))).json()["traits"] == {
        "email": "ann@example.com",
        "plan": "pro",
    }
    (listed,) = (await tom.cli("profile", "tokens", "list", "tom", "--json")).rows
    assert listed["name"] == "crm"
    assert token not in (await tom.cli("profile", "tokens", "list", "tom")).out
    assert (await tom.cli("profile", "tokens", "revoke", "tom", str(listed["id"]))).code == 0
    assert (await tom.cli("profile", "tokens", "revoke", "tom", str(listed["id"]))).code == 1
    assert "no tokens" in (await tom.cli("profile", "tokens", "list", "tom")).err


@pytest.mark.parametrize("args", [["why"], ["merge", "tom", "a:b"], ["unmerge", "tom", "0"], ["split", "tom"], ["x"]])
async def test_called_wrongly(args: list[str], tom: Profiled) -> None:
    """Exit code 2."""
    assert (await tom.cli("profile", *args)).code == 2


async def test_nothing_to_tell(tom: Profiled) -> None:
    """Is told in a sentence."""
    await tom.send(event("m5", userId="alone"))
    assert "Nothing was joined" in (await tom.cli("profile", "history", "tom", "user_id:alone")).err
    assert "same id" in (await tom.cli("profile", "why", "tom", "user_id:ann", "user_id:ann")).err
    assert "Nothing was changed by hand" in (await tom.cli("profile", "audit", "tom")).err
