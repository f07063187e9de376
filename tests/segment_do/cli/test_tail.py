from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from segment_do.cli.sse import Message, MessageReader
from tests.segment_do.cli.api import Api
from tests.segment_do.cli.conftest import run


def event(n: int, **fields: object) -> bytes:
    told = {"type": "track", "event": "E", "userId": "u", "timestamp": "2026-01-02T03:04:05.678Z", "n": n, **fields}
    return b"id: %d\nevent: event\ndata: %b\n\n" % (n, json.dumps(told).encode())


def test_tail_goes_on_after_cuts(api: Api, pauses: list[float]) -> None:
    """Events come as raw lines; a stream that is cut, also in the middle of an event, is opened again where it was."""
    api.streams += [[event(1), event(2), event(3)[:20]], [b": heartbeat\n\n"], [event(3), event(4)]]
    ran = run("tail", "--json", "--limit", "4")
    assert (ran.code, [row["n"] for row in ran.rows]) == (0, [1, 2, 3, 4])
    assert len(pauses) == 2
    assert [headers.get("last-event-id") for _, _, headers in api.requests] == [None, "2", "2"]
    assert "Connecting again" in ran.err


def test_tail_filters(api: Api, pauses: list[float]) -> None:
    """--type and --event choose among events; --source and --identity are asked of the platform, a source by its id."""
    api.add_source("Web")
    api.streams.append(
        [event(1), event(2, type="page", event=None, name="Home"), event(3, event="X"), event(4, type="screen")]
    )
    ran = run("tail", "--json", "--limit", "1", "--event", "Home", "--source", "Web", "--identity", "tom")
    assert [row["n"] for row in ran.rows] == [2]
    api.streams.append([event(1), event(4, type="screen")])
    assert [row["n"] for row in run("tail", "--json", "--limit", "1", "--type", "screen").rows] == [4]


def test_tail_for_people(api: Api, pauses: list[float]) -> None:
    """One line an event: when, what, who, and its properties, without control characters."""
    api.streams.append(
        [event(1, event="A\nB\x1b", properties={"total": 5}), b"event: other\ndata: 1\n\n", event(2, userId=None)]
    )
    first, second = run("tail", "--limit", "2").out.splitlines()
    assert first.split("  ")[0] == "03:04:05.678"
    assert "A\\x0aB\\x1b" in first
    assert '{"total": 5}' in first
    assert "anonymous" in second


def test_tail_needs_a_platform_that_lets_it(api: Api) -> None:
    """A refusal ends the command; it is not asked again and again."""
    api.fail = 401, {"code": "admin_token", "message": "This path needs the admin token."}
    assert run("tail").code == 1
    assert len(api.requests) == 1


@given(st.lists(st.binary(max_size=30)), st.data())
def test_messages_however_they_are_cut(payloads: list[bytes], data: st.DataObject) -> None:
    """Cutting the stream anywhere changes nothing; every payload of one line comes out whole and once."""
    payloads = [payload.replace(b"\n", b"").replace(b"\r", b"") for payload in payloads]
    stream = b": c\n\n" + b"".join(b"event: event\r\n: heartbeat\ndata: %b\n\n" % payload for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    reader = MessageReader()
    found: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == [Message("event", payload, "") for payload in payloads]


def test_data_over_several_lines() -> None:
    """Data over several lines becomes one line, which in JSON means the same."""
    (message,) = MessageReader().feed(b'id: 7\ndata: {"a":\ndata: 1}\n\n')
    assert message == Message("message", b'{"a": 1}', "7")
