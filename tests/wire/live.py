"""Runs clients against a platform started for it, and counts what SQL finds: ``python -m tests.wire.live < COMMANDS``.

By hand, for clients that CI has not got. Each line is a name, a space and a command, in which ``{url}``, ``{host}``, ``{port}``
(or ``{tls_url}``, ``{tls_host}``, ``{tls_port}`` with ``{certificate}``) and ``{key}`` are filled in, the key of a source
of the line's own. Prints a line for each: whether the command ended well, and the calls that were stored, each once or not.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.certificates import make_certificate
from tests.load.platform import Platform, free_port, running_platform
from tests.wire.capture import fill

_ENOUGH_SECONDS = 120.0
CALLS = ["alias", "group", "identify", "page", "screen", "track", "track"]


def run(platform: Platform, given: dict[str, str], name: str, command: list[str]) -> bool:
    """One client's run, reported; whether all calls are stored exactly once (Kotlin has no page)."""
    source = platform.create_source(name, name)
    ended = subprocess.run(
        fill(command, given | {"key": source["writeKey"]}), timeout=_ENOUGH_SECONDS, capture_output=True, text=True
    )
    wanted = [call for call in CALLS if call != "page" or "kotlin" not in name]
    rows: list[list[str]] = []
    for _ in range(100):  # each look waits for the newest event
        rows = platform.sql(f"SELECT type, message_id FROM events WHERE identity = '{name}' ORDER BY type")
        if len(rows) >= len(wanted):
            break
    calls, ids = [row[0] for row in rows], {row[1] for row in rows}
    good = ended.returncode == 0 and calls == wanted and len(ids) == len(rows)
    print(f"{'ok  ' if good else 'FAIL'} {name}: exit {ended.returncode}, {len(rows)} events, {len(ids)} ids, {calls}")  # noqa: T201
    if not good:
        print(ended.stdout[-2000:], ended.stderr[-2000:])  # noqa: T201
    return good


def main() -> None:
    """Exit status 1 where any line failed."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder), "live", "127.0.0.1")
        tls_port = free_port()
        settings = {
            "TLS__CERTIFICATE": str(certificate),
            "TLS__KEY": str(key),
            "TLS__PORT": str(tls_port),
        }
        with running_platform(settings=settings) as platform:
            given = {"url": platform.url, "host": f"127.0.0.1:{platform.port}", "port": str(platform.port)}
            given |= {"tls_url": f"https://127.0.0.1:{tls_port}", "tls_host": f"127.0.0.1:{tls_port}"}
            given |= {"tls_port": str(tls_port), "certificate": str(certificate)}
            lines = [line.split(" ", 1) for line in sys.stdin if line.strip()]
            good = [run(platform, given, name, shlex.split(command)) for name, command in lines]
    raise SystemExit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
