"""Segment's Profile API over real sockets: each field, parameter and error of the contract, on real graphs and a real warehouse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from segment_do.identity import profile_id
from segment_do.settings import IngressSettings, ProfileSettings
from tests.actors.profiled import Profiled

ANN = "user_id:ann"
NOW = datetime.now(UTC).replace(microsecond=0)


def ago(**given: float) -> str:
    return (NOW - timedelta(**given)).isoformat().replace("+00:00", ".000Z")


def event(message_id: str, kind: str = "track", **fields: Any) -> dict[str, Any]:
    told = {"type": kind, "messageId": message_id, "userId": "ann", "timestamp": ago(hours=1), **fields}
    return {**({"event": "Tested"} if kind == "track" else {}), **{name: each for name, each in told.items() if each}}


class Space(Profiled):
    """The space ``tom`` with a token."""

    token: str

    async def start(self) -> None:
        await super().start()
        made = await self.told("POST", "/api/identities/tom/profile-tokens", {"name": "crm"})
        self.token = made["token"]

    async def ask(
        self, part: str, profile: str = ANN, *, collection: str = "users", method: str = "GET", **options: Any
    ) -> httpx.Response:
        path = f"/v1/spaces/tom/collections/{collection}/profiles/{quote(profile, safe=':')}/{part}"
        query = options.pop("query", None)
        auth = options.pop("auth", (self.token, ""))
        return await self.client.request(method, path, params=query, auth=auth, **options)

    async def get(self, part: str, profile: str = ANN, *, collection: str = "users", **query: Any) -> Any:
        answer = await self.ask(part, profile, collection=collection, query=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def error(self, part: str, profile: str = ANN, **options: Any) -> tuple[int, str, str]:
        answer = await self.ask(part, profile, **options)
        told = answer.json()
        assert set(told) == {"error"}
        assert set(told["error"]) == {"code", "message"}
        return answer.status_code, told["error"]["code"], told["error"]["message"]


@pytest.fixture
async def space(tmp_path: Path) -> AsyncIterator[Space]:
    running = Space(tmp_path)
    await running.start()
    yield running
    await running.stop()


async def test_traits(space: Space) -> None:
    """By user_id, by any other id and by profile id; values are as they were sent; verbose tells where each is from."""
    await space.send(
        event("m1", "identify", anonymousId="a1", traits={"email": "Ann@Example.com", "n": 1.50, "big": 2**60}),
        event("m2", "identify", timestamp=ago(minutes=30), traits={"plan": "pro", "none": None}),
    )
    expected = {"big": 2**60, "email": "Ann@Example.com", "n": 1.5, "none": None, "plan": "pro"}
    own = profile_id("user_id", "ann")
    for profile in (ANN, "anonymous_id:a1", "email:ann@example.com", own):
        found = await space.get("traits", profile)
        assert found["traits"] == expected
        assert found["cursor"] == {
            "url": f"/v1/spaces/tom/collections/users/profiles/{quote(profile, safe=':')}/traits",
            "has_more": False,
            "next": "",
            "limit": 10,
        }
    verbose = await space.get("traits", verbose="true", include="plan,big")
    assert verbose["traits"] == {
        "big": {"value": 2**60, "source_id": space.source.id, "updated_at": ago(hours=1)},
        "plan": {"value": "pro", "source_id": space.source.id, "updated_at": ago(minutes=30)},
    }
    for of_class in ("audience", "computed_trait"):
        assert (await space.get("traits", **{"class": of_class}))["traits"] == {}
    assert '"n":1.5,' in (await space.ask("traits")).text
    await space.send(event("m3", "identify", timestamp=ago(minutes=20), traits={"huge": 1}))
    assert list((await space.get("traits"))["traits"]) == ["big", "email", "huge", "n", "none", "plan"]


async def test_computed_traits_and_audiences(space: Space) -> None:
    """Among the traits, and by their class alone; verbose says when each changed; one that an event set, too, is the computed one."""
    await space.send(event("m1", "identify", traits={"orders": "many", "plan": "pro", "zip": "1"}))
    members = {"computed": "orders", "is": ">=", "value": 2}
    for key, definition in (
        ("orders", {"class": "trait", "kind": "event_count", "event": "Tested"}),
        ("buyers", {"class": "audience", "members": members}),
        ("others", {"class": "audience", "members": {"event": "Other"}}),
    ):
        await space.told("PUT", f"/api/identities/tom/computations/{key}", definition)
    await space.send(event("m2"), event("m3"))
    assert (await space.get("traits"))["traits"] == {"buyers": True, "orders": 2, "plan": "pro", "zip": "1"}
    assert list((await space.get("traits"))["traits"]) == ["buyers", "orders", "plan", "zip"]
    assert (await space.get("traits", **{"class": "audience"}))["traits"] == {"buyers": True}
    assert (await space.get("traits", **{"class": "computed_trait"}))["traits"] == {"orders": 2}
    assert (await space.get("traits", **{"class": "computed_trait", "include": "plan"}))["traits"] == {}
    verbose = (await space.get("traits", verbose="true", include="orders"))["traits"]["orders"]
    assert (verbose["value"], verbose["source_id"], set(verbose)) == (
        2,
        "computed",
        {"value", "source_id", "updated_at"},
    )
    page = await space.get("traits", limit=1)
    assert (page["traits"], page["cursor"]["has_more"]) == ({"buyers": True}, True)
    assert (await space.get("traits", limit=1, next=page["cursor"]["next"]))["traits"] == {"orders": 2}


async def test_traits_are_paged(space: Space) -> None:
    """Ten by default, at most two hundred; ``next`` leads through all of them, each once."""
    await space.send(event("m1", "identify", traits={f"t{number:03}": number for number in range(205)}))
    first = await space.get("traits")
    assert (len(first["traits"]), first["cursor"]["has_more"], first["cursor"]["limit"]) == (10, True, 10)
    assert len((await space.get("traits", limit=200))["traits"]) == 200
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 90}
    while True:
        page = await space.get("traits", **query)
        seen += page["traits"]
        if not page["cursor"]["has_more"]:
            break
        query["next"] = page["cursor"]["next"]
    assert page["cursor"]["next"] == ""
    assert seen == [f"t{number:03}" for number in range(205)]


async def test_external_ids(space: Space) -> None:
    """Every documented field; filtered by type, paged."""
    await space.send(
        event("m1", "identify", anonymousId="a1", traits={"email": "Ann@Example.com"}),
        event("m2", anonymousId="a2", timestamp=ago(minutes=5)),
    )
    found = await space.get("external_ids", verbose="true")
    common = {"source_id": space.source.id, "collection": "users", "encoding": "none"}
    assert found["data"] == [
        {**common, "id": "ann", "type": "user_id", "created_at": ago(hours=1), "first_message_id": "m1"},
        {**common, "id": "a1", "type": "anonymous_id", "created_at": ago(hours=1), "first_message_id": "m1"},
        {**common, "id": "ann@example.com", "type": "email", "created_at": ago(hours=1), "first_message_id": "m1"},
        {**common, "id": "a2", "type": "anonymous_id", "created_at": ago(minutes=5), "first_message_id": "m2"},
    ]
    assert (found["cursor"]["has_more"], found["cursor"]["next"], found["cursor"]["limit"]) == (False, "", 10)
    some = await space.get("external_ids", include="anonymous_id,phone")
    assert [one["id"] for one in some["data"]] == ["a1", "a2"]
    first = await space.get("external_ids", limit=3)
    rest = await space.get("external_ids", limit=3, next=first["cursor"]["next"])
    assert first["cursor"]["has_more"] is True
    assert first["data"] + rest["data"] == found["data"]


async def test_events(space: Space) -> None:
    """The newest first, of the last 14 days, of all ids of the profile and of nobody else."""
    await space.send(
        event("old", timestamp=ago(days=15)),
        event("m1", anonymousId="a1", userId=None, timestamp=ago(hours=3), properties={"n": 1.50}),
        event("m2", "identify", anonymousId="a1", timestamp=ago(hours=2), traits={"plan": "pro"}),
        event("m3", event="It's", timestamp=ago(hours=1), context={"ip": "1.2.3.4"}),
        event("other", userId="bob"),
    )
    found = await space.get("events")
    assert [one["message_id"] for one in found["data"]] == ["m3", "m2", "m1"]
    assert found["data"][0] == {
        "external_ids": [{"collection": "users", "type": "user_id", "id": "ann", "encoding": "none"}],
        "context": {"ip": "1.2.3.4"},
        "type": "track",
        "message_id": "m3",
        "source_id": space.source.id,
        "timestamp": ago(hours=1),
        "properties": {},
        "event": "It's",
        "related": {"users": [profile_id("user_id", "ann")]},
    }
    assert [one["type"] for one in found["data"][1]["external_ids"]] == ["user_id", "anonymous_id"]
    assert (found["data"][1]["properties"], found["data"][2]["properties"]) == ({"plan": "pro"}, {"n": 1.5})
    assert found["cursor"] == {
        "url": "/v1/spaces/tom/collections/users/profiles/user_id:ann/events",
        "has_more": False,
        "next": "",
        "limit": 10,
    }


async def test_events_are_chosen_and_paged(space: Space) -> None:
    """sort, limit, next, start, end, include and exclude."""
    await space.send(
        *(event(f"m{n}", event=f"E{n % 3}", timestamp=ago(hours=9 - n // 2)) for n in range(9)),
    )

    async def ids(**query: Any) -> list[str]:
        return [one["message_id"] for one in (await space.get("events", **query))["data"]]

    everything = [f"m{n}" for n in range(9)]
    for sort, expected in (("asc", everything), ("desc", everything[::-1])):
        query: dict[str, Any] = {"sort": sort, "limit": 4}
        seen: list[str] = []
        while True:
            page = await space.get("events", **query)
            seen += [one["message_id"] for one in page["data"]]
            if not page["cursor"]["has_more"]:
                break
            query["next"] = page["cursor"]["next"]
        assert seen == expected
    assert await ids(sort="asc", include="E0,E1,nothing") == ["m0", "m1", "m3", "m4", "m6", "m7"]
    assert await ids(sort="asc", exclude="E0,E1") == ["m2", "m5", "m8"]
    assert await ids(sort="asc", start=ago(hours=8), end=ago(hours=7)) == ["m2", "m3", "m4", "m5"]
    assert await ids(start="1970-01-01", end="1971-01-01") == []
    assert await ids(include="') OR true --") == []


async def test_metadata(space: Space) -> None:
    """The first message and its source, and the last, whatever came last."""
    await space.send(
        event("m1", timestamp=ago(hours=5)),
        event("m2", anonymousId="a1", timestamp=ago(hours=6)),
        event("m3", userId=None, anonymousId="a1", timestamp=ago(hours=5, minutes=1)),
    )
    assert await space.get("metadata") == {
        "metadata": {
            "created_at": ago(hours=6),
            "updated_at": ago(hours=5),
            "expires_at": None,
            "first_message_id": "m2",
            "first_source_id": space.source.id,
            "last_message_id": "m1",
            "last_source_id": space.source.id,
        }
    }


async def test_metadata_of_a_profile_that_is_quiet(space: Space) -> None:
    """Which message was the last of one without events in two weeks is not known, and then its time is known to the hour."""
    await space.send(event("m1", timestamp=ago(days=15)))
    found = (await space.get("metadata"))["metadata"]
    assert found["updated_at"] == found["created_at"] == ago(days=15), "never before it was made"
    await space.send(event("m0", timestamp=ago(days=16)))
    found = (await space.get("metadata"))["metadata"]
    hour = (NOW - timedelta(days=15)).replace(minute=0, second=0).isoformat().replace("+00:00", ".000Z")
    assert (found["first_message_id"], found["last_message_id"], found["last_source_id"]) == ("m0", None, None)
    assert found["updated_at"] == hour


async def test_accounts_and_links(space: Space) -> None:
    """From a user to accounts and back, at most twenty; an account is found in its own collection alone."""
    await space.send(
        *(event(f"g{n:02}", "group", groupId=f"acme{n:02}", traits={"n": n}) for n in range(25)),
        event("g99", "group", groupId="acme00", userId="bob", anonymousId="b1"),
    )
    links = (await space.get("links", limit=100))["data"]
    assert len(links) == 20
    assert links[0] == {
        "to_collection": "accounts",
        "external_ids": [
            {
                "id": "acme00",
                "type": "group_id",
                "source_id": space.source.id,
                "collection": "accounts",
                "created_at": ago(hours=1),
                "encoding": "none",
            }
        ],
    }
    assert len((await space.get("links", limit=3))["data"]) == 3
    users = (await space.get("links", "group_id:acme00", collection="accounts"))["data"]
    assert [[one["id"] for one in each["external_ids"]] for each in users] == [["ann"], ["bob", "b1"]]
    assert {each["to_collection"] for each in users} == {"users"}
    assert (await space.get("traits", "group_id:acme07", collection="accounts"))["traits"] == {"n": 7}
    events = (await space.get("events", "group_id:acme00", collection="accounts", sort="asc"))["data"]
    assert [one["message_id"] for one in events] == ["g00", "g99"]
    assert events[0]["external_ids"][1] == {
        "collection": "accounts",
        "type": "group_id",
        "id": "acme00",
        "encoding": "none",
    }
    own = profile_id("group_id", "acme00")
    assert own.startswith("acc_")
    assert (await space.get("external_ids", own, collection="accounts"))["data"][0]["collection"] == "accounts"
    for profile, collection in (("group_id:acme00", "users"), (ANN, "accounts")):
        told = await space.error("traits", profile, collection=collection)
        assert told == (404, "not_found", "Profile was not found.")


async def test_ids_are_decoded(space: Space) -> None:
    """Plus signs, slashes, colons, per cent signs and letters of any kind."""
    for number, value in enumerate(("a+b@example.com", "a/b", "a:b", "100%", "Ünïcødé 日本", "?x=1&y")):
        await space.send(event(f"m{number}", "identify", userId=value, traits={"n": number}))
        assert (await space.get("traits", f"user_id:{value}"))["traits"]["n"] == number
    path = "/v1/spaces/tom/collections/users/profiles/user_id:a%2Bb%40example.com/traits"
    assert (await space.client.get(path, auth=(space.token, ""))).json()["traits"]["n"] == 0


async def test_who_may_not(space: Space, tmp_path: Path) -> None:
    """No token, a wrong one, a token of another space, the admin token, a write key, a space that is not there: 401."""
    await space.send(event("m1"))
    other = (await space.told("POST", "/api/identities/ralph/profile-tokens", {}))["token"]
    for auth in (
        None,
        ("", ""),
        ("x", ""),
        (other, ""),
        (space.settings.paths.token(), ""),
        (space.source.write_key, ""),
    ):
        answer = await space.ask("traits", auth=auth)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "authentication_error")
    for header in ("Basic", "Basic ü", f"Bearer {space.token}", "Basic ====="):
        answer = await space.ask("traits", auth=None, headers={"authorization": header.encode("latin-1")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "authentication_error")
    answer = await space.client.get("/v1/spaces/nobody/collections/users/profiles/a:b/traits", auth=(space.token, ""))
    assert answer.status_code == 401
    answer = await space.client.get("/v1/spaces/ralph/collections/users/profiles/a:b/traits", auth=(other, ""))
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Profile was not found.")
    assert [each.name for each in (tmp_path / "identities").iterdir()] == ["tom"]


async def test_what_is_not_there(space: Space) -> None:
    """A 404 with Segment's words for a profile; nothing at other paths."""
    await space.send(event("m1"))
    unseen = (404, "not_found", "Profile was not found.")
    for part in ("traits", "external_ids", "events", "metadata", "links"):
        for profile in ("user_id:nobody", "use_nothing", profile_id("user_id", "nobody"), "user_id:ANN", "user_id:-1"):
            assert await space.error(part, profile) == unseen
    for path in (
        "/v1/spaces/tom",
        "/v1/spaces/tom/collections/users",
        "/v1/spaces/tom/collections/x/profiles/a:b/traits",
    ):
        answer = await space.client.get(path, auth=(space.token, ""))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert (await space.error("nothing"))[:2] == (404, "not_found")


async def test_values_that_cannot_be_used(space: Space) -> None:
    """A 400 with a validation_error and a sentence."""
    await space.send(event("m1", "identify", traits={"a": 1}))
    paged = ("traits", "external_ids", "events")
    for part, query in [
        *((part, {"limit": limit}) for part in paged for limit in ("0", "-1", "x", "1e1", "²", "")),
        ("traits", {"limit": 201}),
        ("external_ids", {"limit": 101}),
        ("events", {"limit": 101}),
        ("events", {"sort": "up"}),
        ("events", {"start": "yesterday"}),
        ("events", {"end": "x"}),
        ("traits", {"class": "x"}),
        ("traits", {"verbose": "yes"}),
        *((part, {"next": given}) for part in paged for given in ("x", "ü", "eA", "//8")),
        ("events", {"next": "IA"}),
        ("events", {"next": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5IDE"}),  # past all clocks
        ("events", {"include": ",".join(map(str, range(1001)))}),
    ]:
        status, code, message = await space.error(part, query=query)
        assert (status, code, message[-1]) == (400, "validation_error", "."), (part, query)


async def test_requests_that_cannot_be_used(space: Space) -> None:
    """A profile that is named by nothing, and other methods: 400 with an invalid_request_error, without CORS."""
    await space.send(event("m1"))
    for profile in ("ann", "user_id:", ":ann", "use"):
        assert (await space.error("traits", profile))[:2] == (400, "invalid_request_error")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await space.error("traits", method=method))[:2] == (400, "invalid_request_error")


async def test_every_answer_has_an_id_and_no_cors(space: Space) -> None:
    """Also those of preflights, and those that are refused."""
    await space.send(event("m1"))
    asked = {"origin": "https://example.com", "access-control-request-method": "GET"}
    seen = set()
    for method, auth in (("GET", (space.token, "")), ("GET", None), ("OPTIONS", None), ("OPTIONS", (space.token, ""))):
        answer = await space.ask("traits", method=method, auth=auth, headers=asked)
        assert answer.status_code == (200 if method == "GET" and auth else 400 if auth else 401)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["content-type"] == "application/json"
        seen.add(answer.headers["request-id"])
    assert len(seen) == 4


async def test_a_space_may_ask_so_often(tmp_path: Path) -> None:
    """Beyond a replica's share of the rate 429 with Retry-After, after which it may again; other spaces are not held up."""
    shared = IngressSettings(replicas=2)
    space = Space(tmp_path, profiles=ProfileSettings(requests_per_second=6), ingress=shared)
    await space.start()
    try:
        await space.send(event("m1"))
        # At once: however long an answer takes, none of the share has come back when the last one asks.
        answers = await asyncio.gather(*(space.ask("metadata") for _ in range(4)))
        answer = max(answers, key=lambda each: each.status_code)
        assert sorted(each.status_code for each in answers) == [200, 200, 200, 429]
        assert answer.json()["error"]["code"] == "rate_limit_error"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["request-id"]
        other = (await space.told("POST", "/api/identities/ralph/profile-tokens", {}))["token"]
        path = "/v1/spaces/ralph/collections/users/profiles/a:b/traits"
        assert (await space.client.get(path, auth=(other, ""))).status_code == 404
        until = time.monotonic() + 5
        while (answer := await space.ask("metadata")).status_code == 429 and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert answer.status_code == 200
    finally:
        await space.stop()


async def test_a_revoked_token_ends(space: Space) -> None:
    """Within a second; a new one works at once; the list shows no secret, and the file holds none."""
    await space.send(event("m1"))
    (listed,) = (await space.told("GET", "/api/identities/tom/profile-tokens"))["tokens"]
    assert set(listed) == {"id", "identity", "name", "createdAt"}
    assert space.token.encode() not in space.settings.paths.control.read_bytes()
    second = (await space.told("POST", "/api/identities/tom/profile-tokens", {"name": "b"}))["token"]
    assert (await space.ask("traits", auth=(second, ""))).status_code == 200
    await space.told("DELETE", f"/api/identities/tom/profile-tokens/{listed['id']}")
    async with asyncio.timeout(1.0):
        while (await space.ask("traits")).status_code != 401:
            await asyncio.sleep(0)
    assert (await space.ask("traits", auth=(second, ""))).status_code == 200
    again = await space.admin("DELETE", f"/api/identities/tom/profile-tokens/{listed['id']}")
    assert again.status_code == 404


async def test_tokens_go_on_working_when_control_is_away(space: Space) -> None:
    """A known token asks nobody; one that is not known cannot be judged then, and is not called wrong."""
    await space.send(event("m1"))
    assert (await space.ask("traits")).status_code == 200
    space.up = False
    assert (await space.ask("traits")).status_code == 200
    assert (await space.error("traits", auth=("x", "")))[:2] == (503, "api_error")


async def test_an_external_id_is_deleted(space: Space) -> None:
    """It is a profile of its own then, and stays so when the same event comes again; the audit knows."""
    await space.send(
        event("m1", "identify", anonymousId="a1", traits={"email": "x@y.z"}), event("m2", anonymousId="a2")
    )

    async def delete(*ids: Any, profile: str = ANN) -> httpx.Response:
        body = {"delete_external_ids": [dict(zip(("type", "id"), each, strict=True)) for each in ids]}
        return await space.ask("external_ids/delete", profile, method="POST", json=body)

    answer = await delete(("anonymous_id", "a1"))
    assert (answer.status_code, answer.json()) == (200, {"delete_external_ids": [{"type": "anonymous_id", "id": "a1"}]})
    ids = [one["id"] for one in (await space.get("external_ids"))["data"]]
    assert sorted(ids) == ["a2", "ann", "x@y.z"]
    assert [one["id"] for one in (await space.get("external_ids", "anonymous_id:a1"))["data"]] == ["a1"]
    lines = (await space.told("GET", "/api/identities/tom/audit"))["lines"]
    assert [(each["action"], each["detail"]) for each in lines] == [
        ("delete_id", {"id": ["user_id", "ann"], "deleted": ["anonymous_id", "a1"], "by": "profile api"})
    ]
    await space.send(event("m3", "identify", anonymousId="a1", traits={"email": "x@y.z"}))
    assert [one["id"] for one in (await space.get("external_ids", "anonymous_id:a1"))["data"]] == ["a1"]
    for given in (
        [("group_id", "g")],
        [("user_id", "ann")],
        [("anonymous_id", "nobody")],
        [("anonymous_id", "a2"), ("email", "x@y.z")],
        [],
        [("", "a2")],
        [("anonymous_id", 7)],
    ):
        answer = await delete(*given)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_error"), answer.text
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"delete_external_ids": 1}',
        b'{"delete_external_ids": [1]}',
        b"\xff",
        b"x" * 70_000,
    ):
        answer = await space.ask("external_ids/delete", method="POST", content=body)
        assert answer.status_code == 400, answer.text
    assert (await delete(("anonymous_id", "a2"), profile="anonymous_id:a2")).status_code == 400
    assert (await delete(("anonymous_id", "a2"), profile="user_id:nobody")).status_code == 404
    assert (await space.ask("external_ids/delete", method="GET")).status_code == 400


async def test_the_last_user_id_stays(space: Space) -> None:
    """Of two users joined by hand one may go, but not the one that was asked by."""
    await space.send(event("m1"), event("m2", userId="bob"))
    await space.told("POST", "/api/identities/tom/merge", {"ids": [ANN, "user_id:bob"]})
    for gone, status in (("ann", 400), ("bob", 200), ("ann", 400)):
        body = {"delete_external_ids": [{"type": "user_id", "id": gone}]}
        answer = await space.ask("external_ids/delete", method="POST", json=body)
        assert answer.status_code == status, answer.text
