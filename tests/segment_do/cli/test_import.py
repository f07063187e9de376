from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.cli.batches import outgoing
from segment_do.cli.history import state_path
from segment_do.cli.lines import read_lines
from segment_do.errors import InvalidEvent
from tests.segment_do.cli.api import CUT, Api
from tests.segment_do.cli.conftest import Ran, run


def line(n: int, **fields: object) -> str:
    told = {"type": "track", "event": "E", "userId": "u", "timestamp": "2020-01-01T00:00:00Z", "n": n}
    return json.dumps({**told, **fields}) + "\n"


def write(path: Path, count: int, *, gz: bool = False) -> Path:
    data = "".join(line(n) for n in range(count)).encode()
    path.write_bytes(gzip.compress(data) if gz else data)
    return path


def numbers(api: Api) -> list[object]:
    return sorted(event["n"] for event in api.events.values())


@pytest.mark.parametrize("gz", [False, True])
def test_import_keeps_history(api: Api, tmp_path: Path, gz: bool) -> None:
    """Every line arrives once, through /v1/import, with its own timestamp and without any sentAt."""
    file = tmp_path / "history"
    data = line(0, messageId="mine", sentAt="2026-01-01T00:00:00Z", x=1.0) + "\n" + line(1).strip()
    file.write_bytes(gzip.compress(data.encode()) if gz else data.encode())
    ran = run("import", str(file), "--json")
    assert ran.code == 0, ran
    (row,) = ran.rows
    assert (row["accepted"], row["lines"], row["unreadable"], row["undated"]) == (2, 3, 0, 0)
    assert row["bytes"] == len(data)
    first, second = api.events.values()
    assert (first["messageId"], first["timestamp"], first["x"]) == ("mine", "2020-01-01T00:00:00Z", 1.0)
    assert second["messageId"].startswith("import-")
    assert b"sentAt" not in b"".join(api.bodies)
    assert {path for _, path, _ in api.requests if path.startswith("/v1")} == {"/v1/import"}


def test_second_run_sends_nothing(api: Api, tmp_path: Path) -> None:
    """A file that was imported is not sent again; with --restart it is, under the same messageIds, from a copy too."""
    file = write(tmp_path / "events.jsonl", 250)
    assert run("import", str(file)).code == 0
    ran = run("import", str(file), "--json")
    assert "was imported before" in ran.err
    assert ran.rows[0]["accepted"] == 250
    assert api.received == 250
    copy = tmp_path / "copy" / file.name
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes() + line(250).encode())
    assert run("import", str(file), "--restart").code == 0
    assert run("import", str(copy)).code == 0
    assert (api.received, len(api.events)) == (751, 251)


def test_ids_differ_where_events_do(api: Api, tmp_path: Path) -> None:
    """Equal lines of one file, of another file, and of another source are different events."""
    api.add_source("Web")
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(line(0) * 3)
        assert run("import", str(tmp_path / name)).code == 0
    assert run("import", str(tmp_path / "a.jsonl"), "--source", "Web", "--restart").code == 0
    assert len(api.events) == 9


def test_bad_lines_are_told_at_the_end(api: Api, tmp_path: Path) -> None:
    """Bad lines stop nothing: they are told with their number on stderr, and all of them in the errors file."""
    file, errors = tmp_path / "events.jsonl", tmp_path / "errors.jsonl"
    bad = [*["nonsense\n"] * 30, line(1, userId=None), "[]\n", "x" * 480_000 + "\n", line(2, timestamp=None)]
    file.write_text("".join([line(0), *bad, "\n", line(3)]))
    ran = run("import", str(file), "--errors", str(errors), "--json")
    assert ran.code == 0
    (row,) = ran.rows
    assert (row["accepted"], row["setAside"], row["unreadable"], row["undated"], row["lines"]) == (3, 1, 32, 1, 37)
    assert "Line 2: The line is not a JSON object" in ran.err
    assert "33 bad lines in all." in ran.err
    assert "1 events have no timestamp" in ran.err
    told = [json.loads(one) for one in errors.read_text().splitlines()]
    assert sorted(one["line"] for one in told) == list(range(2, 35))
    assert {one["code"] for one in told} == {"malformed_event", "no_user_anon_id", "event_too_large"}


def test_platform_that_is_busy(api: Api, tmp_path: Path, pauses: list[float]) -> None:
    """Busy answers and cut connections are waited out; nothing is lost, nothing counts twice."""
    file = write(tmp_path / "events.jsonl", 300)
    api.misbehave += [(503, {"retry-after": "2"}), CUT, (429, {}), CUT]
    assert run("import", str(file)).code == 0
    assert numbers(api) == list(range(300))
    assert api.received == 500


def test_refusal_stops_and_is_resumed(api: Api, tmp_path: Path, pauses: list[float]) -> None:
    """A platform that refuses ends the run with its sentence; the next run goes on after what was acknowledged."""
    file = write(tmp_path / "events.jsonl", 300)
    api.misbehave += [None, (400, {})]
    ran = run("import", str(file))
    assert ran.code == 1
    assert "Stopped after line 100. Run the same command again" in ran.err
    ran = run("import", str(file), "--json")
    assert "Going on after line 100." in ran.err
    assert ran.rows[0]["accepted"] == api.received == 300


@pytest.mark.parametrize(
    ("gz", "kill_at", "answered"),
    [(False, 1, True), (False, 4, False), (False, 7, True), (True, 5, True), (True, 3, False)],
)
def test_killed_anywhere(api: Api, tmp_path: Path, gz: bool, kill_at: int, answered: bool) -> None:
    """After kill -9 in the middle, before or after the platform has stored a batch, a second run completes the file: every
    line once, every bad line told once, counts as if nothing had happened."""
    file, errors = tmp_path / "events.jsonl", tmp_path / "errors.jsonl"
    data = "".join(line(n) if n % 7 else f"bad {n}\n" for n in range(1000)).encode()
    file.write_bytes(gzip.compress(data) if gz else data)
    command = ["import", str(file), "--errors", str(errors), "--json"]
    # The place is stored after every batch, so that there is one to go on from.
    code = "from segment_do.cli import history, main; history._STORE_SECONDS = 0.0; main()"
    calls: list[None] = []
    killed = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:

        def kill() -> None:
            calls.append(None)
            if len(calls) == kill_at:
                if not answered:
                    api.misbehave.append((503, {}))
                process.send_signal(signal.SIGKILL)
                killed.set()

        api.on_batch = kill
        process.communicate(timeout=20)
    assert killed.is_set()
    assert process.returncode == -signal.SIGKILL
    api.on_batch = lambda: None
    with errors.open("a") as opened:
        opened.write('{"line": 9')  # what had reached the disk of lines behind the stored place
    ran = run(*command)
    assert ran.code == 0, ran
    assert ("Going on after line" in ran.err) == (kill_at > 1)
    assert numbers(api) == [n for n in range(1000) if n % 7]
    told = [json.loads(one)["line"] for one in errors.read_text().splitlines()]
    assert sorted(told) == [n + 1 for n in range(1000) if n % 7 == 0]
    (row,) = ran.rows
    assert (row["accepted"], row["unreadable"], row["lines"]) == (857, 143, 1000)


def changed(file: Path) -> Ran:
    file.write_text(file.read_text() + line(7))
    return run("import", str(file))


def other_source(file: Path) -> Ran:
    run("sources", "create", "Web")
    return run("import", str(file), "--source", "Web")


def broken_state(file: Path) -> Ran:
    state_path(file).write_text("{")
    return run("import", str(file))


@pytest.mark.parametrize("how", [changed, other_source, broken_state])
def test_state_of_something_else(api: Api, tmp_path: Path, how: object) -> None:
    """The state of another file, source or program is not gone on from: the error names --restart, and that works."""
    file = write(tmp_path / "events.jsonl", 5)
    assert run("import", str(file)).code == 0
    assert callable(how)
    ran = how(file)
    assert ran.code == 1
    assert "--restart begins anew." in ran.err
    assert run("import", str(file), "--restart").code == 0


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("missing", None, "cannot be read: No such file or directory."),
        ("cut.gz", gzip.compress(line(0).encode())[:-12], "is not whole gzip"),
        (".", None, "cannot be read: Is a directory."),
    ],
)
def test_files_that_cannot_be_read(api: Api, tmp_path: Path, name: str, data: bytes | None, told: str) -> None:
    """A file that cannot be read is told in a sentence, exit code 1."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    ran = run("import", str(tmp_path / name))
    assert ran.code == 1
    assert told in ran.err


def test_progress_on_a_terminal(api: Api, tmp_path: Path) -> None:
    """On a terminal a bar shows on stderr; stdout stays pure data."""
    file = write(tmp_path / "events.jsonl", 300)
    ours, theirs = os.openpty()
    process = subprocess.run(
        [sys.executable, "-m", "segment_do.cli", "import", str(file), "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=20,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert json.loads(process.stdout)["accepted"] == 300
    assert "events/s" in shown
    assert "0 set aside" in shown


@given(st.lists(st.binary(max_size=12), max_size=8), st.integers(1, 9), st.integers(0, 3))
def test_lines_however_they_are_read(parts: list[bytes], step: int, limit: int) -> None:
    """However reads cut the bytes: all lines, in order, with the offsets after them; those too long without their text."""
    data = b"\n".join(parts)
    place = 0

    def read(_size: int) -> bytes:
        nonlocal place
        place += step
        return data[place - step : place]

    found = [one for chunk in read_lines(read, max_bytes=limit) for one in chunk]
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [one.number for one in found] == list(range(1, len(expected) + 1))
    for one, text in zip(found, expected, strict=True):
        if one.number > 1 or not text.startswith(b"\xef\xbb\xbf"):
            assert one.text == (text.removesuffix(b"\r") if len(text) <= limit else None)
    ends = [one.end for one in found]
    assert ends == [min(sum(len(text) + 1 for text in expected[: n + 1]), len(data)) for n in range(len(expected))]


def test_byte_order_mark_is_no_event() -> None:
    """A byte order mark at the start is not part of the first line; offsets count it."""
    chunks = iter([b"\xef\xbb\xbf{}\r\n{}", b""])
    found = [one for chunk in read_lines(lambda _: next(chunks), max_bytes=10) for one in chunk]
    assert [(one.text, one.end) for one in found] == [(b"{}", 7), (b"{}", 9)]


@pytest.mark.parametrize(
    ("text", "message_id", "data"),
    [
        (b'{"a": 1.0}', "new", b'{"messageId":"new","a":1.0}'),
        (b'{"messageId": null, "a":1}', "new", b'{"messageId":"new","a":1}'),
        (b'{"messageId": ""}', "new", b'{"messageId":"new"}'),
        (b' {"messageId": "m", "a" : 1} ', "m", b' {"messageId": "m", "a" : 1} '),
        (
            b'{"messageId": 7, "n": 123456789012345678901234567890}',
            "7",
            b'{"messageId": 7, "n": 123456789012345678901234567890}',
        ),
        (b'{"messageId": "m", "s": "\\ud83d"}', "m", None),
        (b'{"messageId": "m", "s": "\xff"}', "m", None),
    ],
)
def test_events_stay_as_they_came(text: bytes, message_id: str, data: bytes | None) -> None:
    """An event keeps its bytes; only a missing messageId is added. Repairable text is no reason to lose it."""
    event = outgoing(text, lambda: "new")
    assert event.message_id == message_id
    assert data is None or event.data == data


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"1", b'"x"', b'{"a":}', b"{} {}", b'{"messageId": true}', b"[" * 100_000]
)
def test_what_is_no_event(text: bytes) -> None:
    """Anything that is not one JSON object is refused."""
    with pytest.raises(InvalidEvent):
        outgoing(text, lambda: "new")
