"""Exit and fork, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tests.segment_do.sdk.platform import Platform

ROOT = Path(__file__).parents[3]


def run(platform: Platform, script: str, file: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program, from a file where it needs one, that finds the platform's address in its environment."""
    if file is not None:
        file.write_text(textwrap.dedent(script))
    return subprocess.run(
        [sys.executable, "-W", "error", *(["-c", textwrap.dedent(script)] if file is None else [str(file)])],
        env={**os.environ, "SEGMENT_DO_URL": platform.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def names(platform: Platform) -> list[str]:
    return sorted(event["event"] for event in platform.events)


def test_a_script_delivers_what_it_queued_before_it_ends(platform: Platform) -> None:
    """No flush, no close, no await: the end of the program sees to it, without a warning."""
    done = run(
        platform,
        """
        from segment_do import Analytics
        client = Analytics("wk")
        for n in range(250):
            client.track(f"E{n:03}", user_id="u")
        Analytics("other").track("dropped client", user_id="u")
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(platform.distinct()) == len(platform.events) == 251


def test_an_asyncio_program_delivers_what_it_did_not_await(platform: Platform) -> None:
    """Dropped receipts are no forgotten coroutines."""
    done = run(
        platform,
        """
        import asyncio
        from segment_do import Analytics
        client = Analytics("wk")
        async def main():
            await client.track("awaited", user_id="u")
            client.track("dropped", user_id="u")
        asyncio.run(main())
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert names(platform) == ["awaited", "dropped"]


def test_the_end_is_bounded_and_tells_what_was_lost(platform: Platform) -> None:
    """A platform that does not answer holds a program up for `exit_timeout_seconds`, and no longer."""
    release = threading.Event()
    platform.answers.append((release, 200, {}, {}))
    done = run(
        platform,
        """
        from segment_do import Analytics
        client = Analytics("wk", exit_timeout_seconds=0.2, linger_seconds=0)
        for n in range(3):
            client.track("X", user_id="u")
        """,
    )
    release.set()
    assert done.returncode == 0
    assert "3 events were not delivered to http://127.0.0.1" in done.stderr
    assert "wk" not in done.stderr


def test_an_event_made_at_exit_is_delivered(platform: Platform) -> None:
    """From 3.12 no thread can be started then: the exit itself delivers."""
    done = run(
        platform,
        """
        import segment_do, atexit, threading
        client = segment_do.Analytics("wk")
        def start(self): raise RuntimeError("can't create new thread at interpreter shutdown")
        def last():
            threading.Thread.start = start
            client.track("last words", user_id="u")
        atexit.register(last)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert names(platform) == ["last words"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_with_an_empty_queue(platform: Platform) -> None:
    """Each process delivers its own events, once; the child's copy of a parent's receipt says whose it is."""
    done = run(
        platform,
        """
        import os, sys, warnings
        from segment_do import Analytics, NotDelivered
        warnings.simplefilter("ignore")
        client = Analytics("wk", linger_seconds=30)
        client.track("before", user_id="u").wait(5)
        queued = client.track("parent", user_id="u")
        child = os.fork()
        if child == 0:
            try:
                queued.wait(5)
            except NotDelivered as error:
                assert "forked" in str(error)
                client.track("child", user_id="u").wait(5)
                client.track("child at its end", user_id="u")
                sys.exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        queued.wait(5)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert names(platform) == ["before", "child", "child at its end", "parent"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_children_deliver_at_their_end(platform: Platform, tmp_path: Path, method: str) -> None:
    """A forked worker ends without atexit; its events are delivered all the same."""
    done = run(
        platform,
        f"""
        import multiprocessing
        from segment_do import Analytics
        client = Analytics("wk", linger_seconds=30)
        def work():
            client.track("worker", user_id="u")
        if __name__ == "__main__":
            client.track("main", user_id="u").wait(5)
            process = multiprocessing.get_context("{method}").Process(target=work)
            process.start()
            process.join(20)
        """,
        tmp_path / "program.py",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert names(platform) == ["main", "worker"]
