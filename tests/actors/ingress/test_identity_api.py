"""`/api/identities/…` over real sockets, and the command line and the SDK against them: why, history, and changes by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from segment_do.identity import profile_id
from tests.actors.profiled import Profiled

BASE = "/api/identities/tom"
ANN = profile_id("user_id", "ann")


@pytest.fixture
async def tom(tmp_path: Path) -> AsyncIterator[Profiled]:
    """An identity that saw a visitor become Ann, on two devices."""
    running = Profiled(tmp_path)
    await running.start()
    await running.send(event("m1", anonymousId="a1"))
    await running.send(
        event("m2", "identify", userId="ann", anonymousId="a1", traits={"plan": "pro"}),
        event("m3", "identify", userId="ann", anonymousId="a2", traits={"email": "ann@example.com"}),
        event("m4", userId="bob"),
    )
    yield running
    await running.stop()


def event(message_id: str, kind: str = "track", **fields: Any) -> dict[str, Any]:
    hour = int(message_id[1:])
    told = {"type": kind, "messageId": message_id, "timestamp": f"2026-01-01T{hour:02}:00:00.000Z", **fields}
    return {**({"event": "Tested"} if kind == "track" else {}), **told}


async def test_why(tom: Profiled) -> None:
    """The chain with all that is known of each event; null where they are not one; 404 for an id that nobody sent."""
    told = await tom.told("GET", f"{BASE}/why?from=anonymous_id:a1&to=email:ann@example.com")
    first, second = told["chain"]
    assert first == {
        "bond": first["bond"],
        "rule": "identify",
        "timestamp": "2026-01-01T02:00:00.000Z",
        "messageId": "m2",
        "sourceId": tom.source.id,
        "ids": ["user_id:ann", "anonymous_id:a1"],
    }
    assert second["messageId"] == "m3"
    assert await tom.told("GET", f"{BASE}/why?from=user_id:ann&to=user_id:bob") == {"chain": None}
    assert await tom.told("GET", f"{BASE}/why?from=user_id:ann&to=user_id:ann") == {"chain": []}


async def test_an_identity_of_any_name(tom: Profiled) -> None:
    """A slash in it, or in an id, is none of the path's, and what looks encoded is not decoded twice."""
    name, user = "team/50% %2F+ü?", "user_id:a/b%2F#"
    tom.source = await tom.store.create_source("team", name)
    await tom.send(event("m5", userId=user.removeprefix("user_id:")))
    below, one = f"/api/identities/{quote(name, safe='')}", quote(user, safe="")
    shown = await tom.told("GET", f"/api/profiles/{quote(name, safe='')}/{one}")
    assert shown["profileId"] == profile_id("user_id", "a/b%2F#")
    assert await tom.told("GET", f"{below}/history?id={one}") == {"steps": []}
    definition = {"class": "trait", "key": "n", "kind": "event_count", "event": "Tested"}
    assert (await tom.told("PUT", f"{below}/computations/n", definition))["computations"]
    assert await tom.told("DELETE", f"{below}/computations/n") == {"deleted": "n"}
    made = await tom.told("POST", f"{below}/profile-tokens", {})
    assert made["identity"] == name
    path = f"/v1/spaces/{quote(name, safe='')}/collections/users/profiles/{one}/traits"
    assert (await tom.client.get(path, auth=(made["token"], ""))).json()["traits"] == {}
    assert await tom.told("DELETE", f"{below}/profile-tokens/{made['id']}") == {"revoked": made["id"]}
    assert (await tom.cli("profile", name, user, "--json")).rows == [shown]


async def test_what_a_path_does_not_take(tom: Profiled) -> None:
    """Is told in a sentence: the method, or a body that is no JSON."""
    answer = await tom.admin("POST", f"{BASE}/why")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert (answer.json()["code"], answer.json()["message"]) == ("method_not_allowed", "This path does not take POST.")
    headers = {"authorization": f"Bearer {tom.settings.paths.token()}", "content-type": "application/json"}
    answer = await tom.client.post(f"{BASE}/merge", content=b"{", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (400, "The body is no JSON that can be read.")


async def test_history_unmerge_and_audit(tom: Profiled) -> None:
    """A step is undone by its bond, and the profile is another; the audit says so, the newest first."""
    told = await tom.told("GET", f"{BASE}/history?id=user_id:ann")
    assert [set(step) for step in told["steps"]] == [{"edge", "joined", "leftOut", "merged"}] * 2
    first = told["steps"][0]
    assert (first["joined"], first["leftOut"], first["merged"]) == (["user_id:ann", "anonymous_id:a1"], [], 2)
    bond = {"bond": first["edge"]["bond"]}
    assert await tom.told("POST", f"{BASE}/unmerge", bond) == bond
    alone = await tom.told("GET", "/api/profiles/tom/anonymous_id:a1")
    assert alone["externalIds"] == [{"type": "anonymous_id", "id": "a1"}]
    merged = await tom.told("POST", f"{BASE}/merge", {"ids": ["user_id:ann", "user_id:bob"]})
    lines = (await tom.told("GET", f"{BASE}/audit"))["lines"]
    assert [line["action"] for line in lines] == ["merge", "unmerge"]
    assert {line["detail"]["by"] for line in lines} == {"api"}
    assert lines[1]["detail"]["bond"] == first["edge"]["bond"]
    assert len((await tom.told("GET", f"{BASE}/audit?limit=1"))["lines"]) == 1
    assert merged == {"profileId": ANN}


async def test_split(tom: Profiled) -> None:
    """Ids leave their profile together."""
    told = await tom.told("POST", f"{BASE}/split", {"ids": ["anonymous_id:a2", "email:ann@example.com"]})
    left = told["profileIds"]
    assert set(left) == {"anonymous_id:a2", "email:ann@example.com"}
    assert ANN not in left.values()


async def test_a_profile_by_its_id(tom: Profiled) -> None:
    """The id that it had before it became part of another goes on naming it."""
    for name in (ANN, profile_id("anonymous_id", "a1"), "user_id:ann"):
        assert (await tom.told("GET", f"/api/profiles/tom/{name}"))["profileId"] == ANN
    answer = await tom.admin("GET", "/api/profiles/tom/use_nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_simulate_stores_nothing(tom: Profiled) -> None:
    """Who an event would belong to, and what would become of ids: twice the same answer, the profiles as before."""
    before = await tom.told("GET", "/api/profiles/tom/user_id:bob")
    end = tom.hub.end
    asked = {"event": {"type": "track", "event": "E", "userId": "ann", "anonymousId": "new"}}
    for _ in range(2):
        told = await tom.told("POST", f"{BASE}/simulate", asked)
        assert told == {"profileId": ANN, "moved": [{"type": "anonymous_id", "id": "new", "to": ANN}]}
    email = {"type": "identify", "userId": "bob", "anonymousId": "b1", "traits": {"email": "bob@example.com"}}
    told = await tom.told("POST", f"{BASE}/simulate", {"event": email})
    assert {each["id"] for each in told["moved"]} == {"b1", "bob@example.com"}
    await tom.send(event("m5", anonymousId="late"))
    told = await tom.told("POST", f"{BASE}/simulate", {"event": {**email, "anonymousId": "late", "traits": {}}})
    moved = {"from": profile_id("anonymous_id", "late"), "to": profile_id("user_id", "bob")}
    assert told["moved"] == [{"type": "anonymous_id", "id": "late", **moved}]
    assert await tom.told("GET", "/api/profiles/tom/user_id:bob") == before
    assert tom.hub.end == end + 1
    answer = await tom.admin("POST", f"{BASE}/simulate", {"event": {"type": "track", "userId": "x"}})
    assert (answer.status_code, answer.json()["code"]) == (400, "missing_event")


async def test_rules(tom: Profiled) -> None:
    """A proposal changes nothing; set rules make the profiles anew; taken away, all is as before."""
    tight = {"types": {"anonymous_id": {"limit": 1}}}
    assert await tom.told("GET", f"{BASE}/rules") == {"rules": {}, "own": False}
    proposal = await tom.told("PUT", f"{BASE}/rules?dryRun=true", tight)
    assert set(proposal) == {"profilesBefore", "profilesAfter", "idsMoved", "examples"}
    assert (proposal["profilesBefore"], proposal["profilesAfter"]) == (2, 3)
    assert proposal["examples"][0].keys() == {"type", "id", "to"}
    assert await tom.told("GET", f"{BASE}/rules") == {"rules": {}, "own": False}
    assert await tom.told("PUT", f"{BASE}/rules", tight) == {"rules": tight, "own": True}
    assert await tom.told("GET", f"{BASE}/why?from=user_id:ann&to=anonymous_id:a2") == {"chain": None}
    assert await tom.told("DELETE", f"{BASE}/rules") == {"rules": {}, "own": False}
    assert (await tom.told("GET", f"{BASE}/why?from=user_id:ann&to=anonymous_id:a2"))["chain"]
    audit = (await tom.told("GET", f"{BASE}/audit"))["lines"]
    assert [line["detail"]["rules"] for line in audit] == [None, tight]


async def test_events_and_links(tom: Profiled) -> None:
    """For the SDK: the items of the Profile API."""
    await tom.send(
        {"type": "group", "userId": "ann", "groupId": "acme", "messageId": "g1"},
    )
    (only,) = (await tom.told("GET", f"{BASE}/events?id={ANN}&limit=1"))["events"]
    assert (only["message_id"], only["type"]) == ("g1", "group")
    (link,) = (await tom.told("GET", f"{BASE}/links?id=user_id:ann"))["links"]
    assert link["external_ids"][0]["id"] == "acme"


async def test_trait_history(tom: Profiled) -> None:
    """The values of a trait, the newest first, with the events that they are from, each in the text in which it came."""
    await tom.send(event("m6", "identify", userId="ann", traits={"plan": None, "n": 12345678901234567890}))
    await tom.send(event("m5", "identify", userId="ann", traits={"plan": "free"}))
    told = await tom.told("GET", f"{BASE}/trait-history?id=user_id:ann&name=plan")
    (plan,) = told["traits"]
    assert (plan["name"], [each["value"] for each in plan["values"]]) == ("plan", [None, "free", "pro"])
    assert plan["values"][2] == {
        "value": "pro",
        "timestamp": "2026-01-01T02:00:00.000Z",
        "messageId": "m2",
        "sourceId": tom.source.id,
    }
    told = await tom.told("GET", f"{BASE}/trait-history?id={ANN}")
    assert [each["name"] for each in told["traits"]] == ["email", "n", "plan"]
    assert '"value":12345678901234567890' in (await tom.admin("GET", f"{BASE}/trait-history?id={ANN}&name=n")).text
    assert await tom.told("GET", f"{BASE}/trait-history?id={ANN}&name=never") == {"traits": []}


@pytest.mark.parametrize("token", [None, "Bearer x"])
async def test_all_of_it_needs_the_admin_token(tom: Profiled, token: str | None) -> None:
    """401 for everyone else."""
    for method, path in (
        ("GET", "why?from=a:b&to=c:d"),
        ("GET", "history?id=a:b"),
        ("GET", "trait-history?id=a:b"),
        ("GET", "audit"),
        ("GET", "rules"),
        ("PUT", "rules"),
        ("DELETE", "rules"),
        ("POST", "unmerge"),
        ("POST", "merge"),
        ("POST", "split"),
        ("POST", "simulate"),
        ("GET", "events?id=a:b"),
        ("GET", "links?id=a:b"),
        ("GET", "profile-tokens"),
        ("POST", "profile-tokens"),
        ("DELETE", "profile-tokens/x"),
    ):
        headers = {"authorization": token} if token else {}
        answer = await tom.client.request(method, f"{BASE}/{path}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "admin_token"), path


async def test_what_cannot_be_done_is_said(tom: Profiled, tmp_path: Path) -> None:
    """Statuses and codes; never a 500, and no identity is made by asking."""
    for method, path, body, status, code in (
        ("GET", "why?from=user_id:ann", None, 400, "invalid_request"),
        ("GET", "why?from=ann&to=user_id:bob", None, 400, "invalid_id"),
        ("GET", "why?from=user_id:ann&to=user_id:nobody", None, 404, "not_found"),
        ("GET", "history?id=user_id:", None, 400, "invalid_id"),
        ("GET", "history?id=user_id:nobody", None, 404, "not_found"),
        ("GET", "trait-history?id=user_id:nobody", None, 404, "not_found"),
        ("GET", "trait-history?id=ann", None, 400, "invalid_id"),
        ("GET", "audit?limit=0", None, 400, "invalid_request"),
        ("GET", "events?id=user_id:nobody", None, 404, "not_found"),
        ("GET", "links?id=user_id:nobody", None, 404, "not_found"),
        ("POST", "unmerge", {"bond": 999}, 404, "not_found"),
        ("POST", "unmerge", {"bond": 2**63}, 400, "invalid_request"),
        ("POST", "unmerge", {"bond": -1}, 400, "invalid_request"),
        ("POST", "merge", {"ids": ["user_id:ann"]}, 400, "invalid_request"),
        ("POST", "merge", {"ids": ["user_id:ann", "user_id:ann"]}, 400, "nothing_to_join"),
        ("POST", "merge", {"ids": ["user_id:ann", "user_id:nobody"]}, 404, "not_found"),
        ("POST", "split", {"ids": []}, 400, "invalid_request"),
        ("POST", "split", {"ids": ["user_id:ann", "user_id:bob"]}, 400, "nothing_to_split"),
        ("POST", "split", {"ids": ["user_id:\ud800"]}, 400, None),
        ("POST", "simulate", {"event": []}, 400, "invalid_request"),
        ("POST", "simulate", {"event": {"type": "track", "event": "\ud800", "userId": "u"}}, 200, None),
        ("PUT", "rules", {"types": {"email": {"limit": 0}}}, 400, "invalid_rules"),
        ("PUT", "rules", [1], 400, "invalid_request"),
        ("POST", "profile-tokens", {"name": ""}, 400, "invalid_request"),
    ):
        headers = {"authorization": f"Bearer {tom.settings.paths.token()}", "content-type": "application/json"}
        content = None if body is None else json.dumps(body)
        answer = await tom.client.request(method, f"{BASE}/{path}", content=content, headers=headers)
        assert answer.status_code == status, (path, answer.text)
        assert code is None or answer.json()["code"] == code, (path, answer.text)
    for path, body in (("merge", {"ids": ["a:b", "c:d"]}), ("unmerge", {"bond": 1})):
        assert (await tom.admin("POST", f"/api/identities/nobody/{path}", body)).status_code == 404
    assert (await tom.admin("PUT", "/api/identities/nobody/rules", {})).status_code == 404
    assert [each.name for each in (tmp_path / "identities").iterdir()] == ["tom"]
