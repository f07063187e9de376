from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segment_do.errors import PlatformNotRunning, QueryRefused, QueryTimedOut, SegmentDoError, Unauthorized, Unavailable
from warehouse import query


class Platform(ThreadingHTTPServer):
    """Answers every request with ``answer``, and keeps what was asked."""

    answer: tuple[int, Any] = (200, {"columns": [], "rows": [], "truncated": False})
    asked: list[tuple[str, str | None, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Platform

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        status, answer = self.server.answer
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    server = Platform(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    (tmp_path / "run.json").write_text(json.dumps({"url": f"http://127.0.0.1:{server.server_port}/", "pid": 1}))
    (tmp_path / "token").write_text("admin-token\n")
    monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def test_rows_are_dictionaries(platform: Platform) -> None:
    """The platform is found by its home, asked with its token, and answers with one dictionary a row."""
    platform.answer = (200, {"columns": ["event", "n"], "rows": [["A", 2], ["B", 2**70]], "truncated": True})
    rows = await query.sql("SELECT 1")
    assert rows == [{"event": "A", "n": 2}, {"event": "B", "n": 2**70}]
    assert rows.truncated
    assert platform.asked == [("/api/sql", "Bearer admin-token", {"sql": "SELECT 1"})]


def test_without_an_event_loop(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sql_sync` does the same in a plain program; the home can be given."""
    monkeypatch.delenv("SEGMENT_DO_HOME")
    assert query.sql_sync("SELECT 1", home=tmp_path) == []
    assert not query.sql_sync("SELECT 1", home=str(tmp_path)).truncated


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, {"code": "query_refused", "message": "No.", "hint": "Do."}, QueryRefused),
        (503, {"code": "query_timed_out", "message": "No.", "hint": "Do."}, QueryTimedOut),
        (401, {"code": "unauthorized", "message": "No.", "hint": "Do."}, Unauthorized),
        (503, {"code": "storage_failed", "message": "No.", "hint": "Do."}, Unavailable),
    ],
)
async def test_errors_come_back_as_they_were_raised(
    platform: Platform, status: int, answer: dict[str, str], error: type[SegmentDoError]
) -> None:
    """The platform's refusal is the caller's exception, with its message and hint."""
    platform.answer = (status, answer)
    with pytest.raises(error) as caught:
        await query.sql("SELECT 1")
    assert type(caught.value) is error
    assert (caught.value.message, caught.value.hint) == ("No.", "Do.")
    with pytest.raises(error):
        query.sql_sync("SELECT 1")


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (502, Unavailable), (404, QueryRefused)])
def test_answers_that_are_not_the_platforms(platform: Platform, status: int, error: type[SegmentDoError]) -> None:
    """A proxy's page is an error of the right kind, too."""
    platform.answer = (status, b"<html>")
    with pytest.raises(error, match=str(status)):
        query.sql_sync("SELECT 1")


async def test_no_platform(tmp_path: Path) -> None:
    """No run.json, no token, nobody listening: each says that no platform runs there."""
    with pytest.raises(PlatformNotRunning, match="No platform runs"):
        await query.sql("SELECT 1", home=tmp_path)
    (tmp_path / "run.json").write_text('{"url": "http://127.0.0.1:9"}')
    with pytest.raises(PlatformNotRunning, match="no admin token"):
        query.sql_sync("SELECT 1", home=tmp_path)
    (tmp_path / "token").write_text("t")
    with pytest.raises(PlatformNotRunning, match="does not answer"):
        await query.sql("SELECT 1", home=tmp_path)
    with pytest.raises(PlatformNotRunning, match="does not answer"):
        query.sql_sync("SELECT 1", home=tmp_path)


def test_importing_it_loads_no_engine() -> None:
    """A program that only asks loads neither Arrow nor Iceberg nor DuckDB."""
    program = (
        "import sys; from warehouse import query; query.sql;"
        "print([m for m in ('pyarrow', 'duckdb', 'pyiceberg', 'sqlalchemy', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
