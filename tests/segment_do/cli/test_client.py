from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segment_do import errors
from segment_do.cli.client import connect
from segment_do.errors import PlatformNotRunning, SegmentDoError, Unavailable
from tests.segment_do.cli.api import TOKEN, Api
from tests.segment_do.cli.conftest import run


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "query_refused", errors.QueryRefused),
        (400, "batch_too_large", errors.InvalidRequest),
        (401, "admin_token", errors.Unauthorized),
        (404, "not_found", errors.NotFound),
        (408, "query_timed_out", errors.QueryTimedOut),
        (409, "conflict", errors.Conflict),
        (413, "", errors.TooLarge),
        (429, "slow_down", errors.Unavailable),
        (500, "corrupt_data", errors.CorruptData),
        (500, "error", errors.SegmentDoError),
        (503, "storage_failed", errors.StorageFailed),
    ],
)
def test_errors_become_their_class(api: Api, status: int, code: str, kind: type[SegmentDoError]) -> None:
    """An error of the API is the class its code names, else its status; message, hint and Retry-After come along."""
    api.fail = status, {"code": code, "message": "It did not work.", "hint": "Try this."}
    with connect() as platform, pytest.raises(SegmentDoError) as raised:
        platform.get("/api/sources")
    assert type(raised.value) is kind
    assert (raised.value.message, raised.value.hint) == ("It did not work.", "Try this.")
    assert raised.value.code == (code or kind.code)
    if isinstance(raised.value, Unavailable):
        assert raised.value.retry_after == 7


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"[]", b'{"message": 5}', b"\xff"])
def test_strange_answers_are_told(api: Api, body: bytes) -> None:
    """An answer that the platform would not give is an error with one sentence, whatever it holds."""
    api.fail = body
    ran = run("sources", "list")
    assert ran.code == 1
    assert ran.err == f"Error: What runs at {api.url} answered 500, and not as the platform does.\n"


def test_no_platform(home: Path) -> None:
    """Without a platform: exit code 1, what is missing and what to do, no traceback."""
    ran = run("sql", "SELECT 1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        f"Error: No platform runs from {home}.",
        "  Start it with `segment-do dev`, or set SEGMENT_DO_HOME to its directory.",
    ]


def test_refused_connection(home: Path) -> None:
    """An address where nobody listens: exit code 1 and the way to start it."""
    (home / "run.json").write_text('{"url": "http://127.0.0.1:1"}')
    (home / "token").write_text("t")
    ran = run("send", "--event", "E", "--user-id", "u", "--write-key", "k")
    assert ran.code == 1
    assert ran.err.startswith("Error: No platform answers at http://127.0.0.1:1.\n  Start it with `segment-do dev`")


def test_token_is_sent_and_never_told(api: Api, home: Path) -> None:
    """A wrong token is told without showing it; `token` alone prints it."""
    assert run("token").out == f"{TOKEN}\n"
    assert run("token", "--json").rows == [{"token": TOKEN}]
    (home / "token").write_text("wrong-token-of-mine")
    ran = run("status")
    assert ran.code == 1
    assert "admin token" in ran.err
    assert "wrong-token-of-mine" not in ran.err


def test_redirects_are_not_followed(api: Api) -> None:
    """A redirect is an error: the token goes to the platform alone."""
    api.fail = 302, {}
    with connect() as platform, pytest.raises(SegmentDoError):
        platform.get("/api/sources")


def test_cut_connection_is_told(api: Api) -> None:
    """A connection that breaks is neither success nor a traceback."""
    api.sql = b"not json"
    ran = run("sql", "SELECT 1")
    assert ran.code == 1
    assert ran.err == "Error: What answers is not the platform: it did not send rows.\n"


def test_source_by_id_or_name(api: Api) -> None:
    """A source is named by id or by name; a name that two have is refused with their ids."""
    api.add_source("Web", "tom")
    api.add_source("Web", "ralph")
    api.add_source("src_1", "trap")
    with connect() as platform:
        assert platform.source("src_2")["identity"] == "ralph"
        assert platform.source("src_1")["identity"] == "tom"
        with pytest.raises(errors.Conflict, match="src_1, src_2"):
            platform.source("Web")
        with pytest.raises(errors.NotFound):
            platform.source("nobody")


def test_home_option(api: Api, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--home names the platform before or after the command, and what was typed wins over SEGMENT_DO_HOME."""
    monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path / "other"))
    for args in (["--home", str(home), "sources", "list"], ["sources", "list", "--home", str(home)]):
        monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path / "other"))
        ran = run(*args)
        assert ran.code == 0, ran
    monkeypatch.setenv("SEGMENT_DO_HOME", str(home))
    assert run("--home", str(tmp_path / "other"), "sources", "list").code == 1


def test_find_again_keeps_what_is_known(api: Api, home: Path) -> None:
    """A platform that moves is found at its new address; while none is written down, the old one stays."""
    with connect() as platform:
        (home / "run.json").write_text('{"url": "http://127.0.0.1:2"}')
        platform.find_again()
        assert platform.url == "http://127.0.0.1:2"
        (home / "run.json").unlink()
        platform.find_again()
        assert platform.url == "http://127.0.0.1:2"


def test_not_running_before_first_contact(home: Path) -> None:
    """Events are not retried against a platform that was never there."""
    (home / "run.json").write_text('{"url": "http://127.0.0.1:1"}')
    with connect() as platform, pytest.raises(PlatformNotRunning):
        platform.deliver("/v1/batch", b"{}", "k", [], patience_seconds=60, on_wait=lambda *_: pytest.fail("waited"))


def test_plain_commands_load_no_server(home: Path) -> None:
    """`segment-do sql` starts without Ray, the server's libraries, or the code of other packages."""
    code = (
        "import sys; sys.argv = ['segment-do', 'sql', 'SELECT 1']\n"
        "from segment_do.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if '.' not in name))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(eval(ran.stdout))
    assert "httpx" in loaded
    assert not loaded & {
        "ray",
        "actors",
        "warehouse",
        "destinations",
        "pyarrow",
        "duckdb",
        "fastapi",
        "pydantic_settings",
    }
