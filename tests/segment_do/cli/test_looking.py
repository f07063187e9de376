"""`status`, `rejected` and `profile`."""

from __future__ import annotations

from tests.segment_do.cli.api import Api
from tests.segment_do.cli.conftest import run


def test_status_prints_the_object(api: Api) -> None:
    """`status --json` prints the API's object, asked for once."""
    (row,) = run("status", "--json").rows
    assert (row["version"], row["ready"], row["url"]) == ("0.1.0", True, api.url)
    assert len(api.requests) == 1


def test_status_for_people(api: Api, pauses: list[float]) -> None:
    """A table of components, counts with rates between two looks, and the parts that are lists."""
    ran = run("status", "--over", "2")
    assert pauses == [2]
    assert ran.out.startswith(f"segment_do 0.1.0  {api.url}  ready  home /data\n")
    (events,) = (words for words in map(str.split, ran.out.splitlines()) if words[:2] == ["ingress", "events"])
    assert events[2] == "2,000"
    assert int(events[3].replace(",", "")) > 0
    assert "dst_1" in ran.out
    assert run("status", "--over", "0").code == 0
    assert pauses == [2]


def test_rejected(api: Api) -> None:
    """Events set aside: JSON lines, or a table without their control characters."""
    assert run("rejected", "--json", "--limit", "5").rows[0]["code"] == "missing_event"
    ran = run("rejected")
    assert "No name.\\x1b[31m" in ran.out


def test_profile(api: Api) -> None:
    """A profile by one of its ids; an id never seen is an error."""
    assert run("profile", "tom", "user_id:u1", "--json").rows[0]["profileId"] == "p1"
    ran = run("profile", "tom", "user_id:u1")
    assert ran.out.startswith("profileId  p1\ncreatedAt  2026\nupdatedAt  2027\n")
    assert "plan" in ran.out
    assert run("profile", "tom", "user_id:x/../u1").code == 1
    assert api.requests[-1][1] == "/api/profiles/tom/user_id:x/../u1"
