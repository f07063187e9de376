from __future__ import annotations

import json

from tests.segment_do.cli.api import Api
from tests.segment_do.cli.conftest import run


def test_create_prints_one_object(api: Api) -> None:
    """`sources create --json` prints exactly one JSON object, on one line, with the write key."""
    ran = run("sources", "create", "Web", "--identity", "tom", "--json")
    assert ran.code == 0
    assert ran.out.count("\n") == 1
    assert json.loads(ran.out) == {
        "id": "src_1",
        "name": "Web",
        "identity": "tom",
        "writeKey": "wk_1",
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    assert ran.err == ""


def test_list_prints_one_object_a_line(api: Api) -> None:
    """`sources list --json` prints one object a line; without --json a table with the same."""
    api.add_source("Web")
    api.add_source("Phone", "tom")
    assert [row["name"] for row in run("sources", "list", "--json").rows] == ["Web", "Phone"]
    table = run("sources", "list").out
    assert "wk_1" in table
    assert "Phone" in table


def test_no_sources_is_no_data(api: Api) -> None:
    """An empty list prints nothing on stdout, and a word for people on stderr."""
    for args in (["sources", "list"], ["destinations", "list"]):
        ran = run(*args)
        assert (ran.code, ran.out) == (0, "")
        assert "There are no" in ran.err


def test_rotate_and_delete(api: Api) -> None:
    """`rotate` prints the source with its new key; `delete` removes it."""
    api.add_source("Web")
    assert run("sources", "rotate", "src_1", "--json").rows[0]["writeKey"] == "wk_new"
    assert run("sources", "delete", "src_1", "--json").rows == [{"deleted": "src_1"}]
    assert api.sources == {}


def test_conflict_is_one_sentence(api: Api) -> None:
    """A name that is taken: the platform's sentence on stderr, nothing on stdout, exit code 1."""
    api.add_source("Web")
    ran = run("sources", "create", "Web", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "Error: There is a source 'Web' already.\n"
