from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.cli.destinations import parse_settings
from segment_do.computed import COMPUTED_SOURCE
from segment_do.errors import InvalidRequest
from tests.segment_do.cli.api import WEBHOOK, Api
from tests.segment_do.cli.conftest import run

FIELDS: Any = WEBHOOK["fields"]


@pytest.mark.parametrize(
    ("given_", "settings"),
    [
        (["url=http://h/?a=b"], {"url": "http://h/?a=b"}),
        (["batch_size=10"], {"batch_size": 10}),
        (["batch_size=ten"], {"batch_size": "ten"}),
        (["verify=false"], {"verify": False}),
        (["secret=123"], {"secret": "123"}),
        (['secret={"a":1}'], {"secret": '{"a":1}'}),
        (["secret="], {"secret": ""}),
        (['headers={"A": "1"}'], {"headers": {"A": "1"}}),
        (["headers.X-Token=abc", "headers.B=2"], {"headers": {"X-Token": "abc", "B": "2"}}),
        (["headers.X.Y=1", 'headers={"A": "1"}'], {"headers": {"X.Y": "1", "A": "1"}}),
        (['headers={"A": "1"}', "headers.A=2"], {"headers": {"A": "2"}}),
        (["url=a", "url=b"], {"url": "b"}),
    ],
)
def test_settings(given_: list[str], settings: dict[str, Any]) -> None:
    """Values are JSON where the field's type wants it and they are some, else text; dots build mappings."""
    assert parse_settings(given_, FIELDS) == settings


@pytest.mark.parametrize("given_", ["url", "=x", "nonsense=topsecret", "url.a=topsecret", "headers.=topsecret"])
def test_wrong_settings(given_: str) -> None:
    """What is no setting is refused, without showing its value: it may be a secret."""
    with pytest.raises(InvalidRequest) as raised:
        parse_settings([given_], FIELDS)
    assert "topsecret" not in str(raised.value)


def test_mapping_given_as_text() -> None:
    """An entry cannot be added to something that is no mapping."""
    with pytest.raises(InvalidRequest, match="not a mapping"):
        parse_settings(["headers=abc", "headers.A=1"], FIELDS)


@given(st.lists(st.text(max_size=20), max_size=4))
def test_any_text_is_settings_or_refused(texts: list[str]) -> None:
    """Whatever is typed, it is either settings of the type or an InvalidRequest."""
    try:
        found = parse_settings(texts, FIELDS)
    except InvalidRequest:
        return
    assert set(found) <= {field["name"] for field in FIELDS}


def test_add(api: Api) -> None:
    """`add --json` prints one object with the id; --source takes a name."""
    api.add_source("Web")
    settings = ["--set", "url=http://h", "--set", "headers.X-Token=abc", "--set", "batch_size=5"]
    ran = run("destinations", "add", "webhook", *settings, "--source", "Web", "--name", "Hook", "--json")
    (row,) = ran.rows
    assert (row["id"], row["sourceId"], row["name"]) == ("dst_1", "src_1", "Hook")
    assert COMPUTED_SOURCE == "computed"
    ran = run("destinations", "add", "webhook", *settings, "--source", COMPUTED_SOURCE, "--json")
    assert ran.rows[0]["sourceId"] == "computed"
    assert row["settings"] == {"url": "http://h", "headers": {"X-Token": "abc"}, "batch_size": 5}


def test_unknown_type(api: Api) -> None:
    """A type that does not exist is refused with those that do."""
    ran = run("destinations", "add", "fax")
    assert (ran.code, ran.err) == (1, "Error: There is no destination type 'fax'.\n  Types: webhook.\n")


def test_list_and_types(api: Api) -> None:
    """Lists are tables for people and JSON lines for programs."""
    run("destinations", "add", "webhook", "--set", "url=http://h")
    assert run("destinations", "list", "--json").rows[0]["id"] == "dst_1"
    assert "all" in run("destinations", "list").out
    assert run("destinations", "types", "--json").rows == [WEBHOOK]
    assert "batch_size" in run("destinations", "types").out


def test_test(api: Api) -> None:
    """`test` prints what came of it; exit code 1 where it failed, with --json too."""
    ran = run("destinations", "test", "dst_1", "--json")
    assert (ran.code, ran.rows[0]["ok"]) == (1, False)
    assert "did not take the event (status 500): It said no." in ran.err
    run("destinations", "add", "webhook", "--set", "url=http://h")
    ran = run("destinations", "test", "dst_1")
    assert (ran.code, ran.out) == (0, "The destination took the event (status 200).\n")


def test_dead_and_replay_and_remove(api: Api) -> None:
    """Dead letters are shown and replayed; an offset replays the log; a destination is removed."""
    run("destinations", "add", "webhook", "--set", "url=http://h")
    assert run("destinations", "dead", "dst_1", "--json").rows[0]["offset"] == 3
    assert "gave_up:status_500" in run("destinations", "dead", "dst_1").out
    assert run("destinations", "replay", "dst_1", "--dead", "--json").rows == [{"replayed": 3}]
    assert run("destinations", "replay", "dst_1", "--from-offset", "0").out == "0 events will be delivered again.\n"
    assert run("destinations", "remove", "dst_1", "--json").rows == [{"deleted": "dst_1"}]
    assert run("destinations", "remove", "dst_1").code == 1
