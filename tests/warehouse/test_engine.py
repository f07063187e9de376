"""The engine with its real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest

from segment_do.errors import Busy, NotReady, QueryRefused, QueryTimedOut
from segment_do.settings import WarehouseSettings
from tests.waiting import until
from tests.warehouse.samples import track_frames
from warehouse.columns import rows_of
from warehouse.engine import Engine, View
from warehouse.schema import ARROW

BOMB = "SELECT count(*) FROM range(10000000) a, range(10000000) b, range(10000000) c WHERE a.range % 7 = c.range % 5"


def view(rows: pa.Table | None = None, number: int = 1, version: int = 1) -> View:
    tail = [] if rows is None else [(number, rows)]
    return View(
        files={"events": [], "rejected": []},
        tail={"events": tail, "rejected": []},
        catalogue_version=version,
        catalogue={"properties": {"n": "BIGINT"} if version > 1 else {}, "traits": {}},
    )


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(WarehouseSettings(sql_timeout_seconds=10, sql_memory_bytes=256 * 2**20))
    yield engine
    await engine.close()
    assert not children()


def children() -> set[int]:
    """The query processes of this test process."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == os.getpid() and b"warehouse.sandbox" in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


async def test_answers_and_keeps_the_tail(engine: Engine) -> None:
    """Rows are sent once; new rows, rows that left and new names in the catalogue are seen by the next query."""
    one, two = (rows_of(track_frames(range(lo, lo + 2), n=lo), lo).events for lo in (0, 2))
    count = "SELECT count(*), min(message_id) FROM events"
    assert (await engine.run(count, view(one)))["rows"] == [[2, "m0"]]
    both = view(one)._replace(tail={"events": [(1, one), (2, two)], "rejected": []})
    assert (await engine.run(count, both))["rows"] == [[4, "m0"]]
    assert (await engine.run(count, view(two, 2)))["rows"] == [[2, "m2"]]
    assert (await engine.run(count, view(one)))["rows"] == [[2, "m0"]]
    with pytest.raises(QueryRefused, match="n"):
        await engine.run("SELECT sum(n) FROM events", view(two, 2))
    answer = await engine.run("SELECT sum(n) FROM events", view(two, 2, version=2))
    assert answer == {"columns": ["sum(n)"], "types": ["HUGEINT"], "rows": [[4]], "truncated": False}
    assert len(children()) == 1


async def test_text_that_is_no_unicode_is_refused(engine: Engine) -> None:
    """A lone surrogate cannot be sent to anybody."""
    with pytest.raises(QueryRefused, match="Unicode"):
        await engine.run("SELECT '\ud83d'", view())
    assert (await engine.run("SELECT 'ü\U0001f600'", view()))["rows"] == [["ü\U0001f600"]]


async def test_two_run_at_once_and_the_others_wait(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two workers at most; callers beyond the bound of waiting ones are told to come back."""
    monkeypatch.setattr("warehouse.engine._WAITING_MAX", 2)
    running = [asyncio.ensure_future(engine.run("SELECT 1", view())) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await engine.run("SELECT 1", view())
    assert [answer["rows"] for answer in await asyncio.gather(*running)] == [[[1]]] * 4
    assert len(children()) == 2


async def test_a_bomb_is_killed_at_its_time() -> None:
    """A cross join without end is stopped by killing its process; the next query has another."""
    engine = Engine(WarehouseSettings(sql_timeout_seconds=1))
    await engine.run("SELECT 1", view())
    (first,) = children()
    started = time.monotonic()
    with pytest.raises(QueryTimedOut, match="longer than 1 s"):
        await engine.run(BOMB, view())
    assert time.monotonic() - started < 3
    await until(lambda: first not in children())
    assert (await engine.run("SELECT 2", view()))["rows"] == [[2]]
    await engine.close()


async def test_a_caller_that_goes_away_stops_its_query(engine: Engine) -> None:
    """A cancelled query does not go on burning the machine."""
    await engine.run("SELECT 1", view())
    (worker,) = children()
    query = asyncio.ensure_future(engine.run(BOMB, view()))
    await until(lambda: engine._busy)
    query.cancel()
    with pytest.raises(asyncio.CancelledError):
        await query
    await until(lambda: worker not in children())


async def test_a_crash_is_an_answer(engine: Engine) -> None:
    """A process that dies in a query refuses that query, and nothing else."""
    rows = rows_of(track_frames(range(2)), 0).events
    await engine.run("SELECT 1", view(rows))
    (worker,) = children()
    query = asyncio.ensure_future(engine.run(BOMB, view(rows)))
    await until(lambda: engine._busy)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(QueryRefused, match="ended its process"):
        await query
    assert (await engine.run("SELECT count(*) FROM events", view(rows)))["rows"] == [[2]]


@pytest.mark.parametrize("sql", ["SELECT repeat('x', 2000000000)", "SELECT list(range) FROM range(200000000)"])
async def test_memory_is_bounded(engine: Engine, sql: str) -> None:
    """Also memory that DuckDB does not count is bounded; the query is refused and the next one runs."""
    with pytest.raises(QueryRefused, match="memory"):
        await engine.run(sql, view())
    assert (await engine.run("SELECT 1", view()))["rows"] == [[1]]


async def test_the_process_has_nothing_of_the_platform(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment of the platform and no descriptor of it reaches the process."""
    monkeypatch.setenv("SEGMENT_DO_TOKEN", "SECRET")
    await engine.run("SELECT 1", view())
    (worker,) = children()
    assert b"SECRET" not in Path(f"/proc/{worker}/environ").read_bytes()
    opened = {os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")}
    ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)}
    assert all(path.startswith(("pipe:", "socket:", "/dev/", "anon_inode:")) for path in opened - ours), opened


async def test_a_process_that_cannot_start_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is not blamed on the query."""
    monkeypatch.setattr("warehouse.engine.sys.executable", "/bin/false")
    with pytest.raises(NotReady, match="could not start"):
        await engine.run("SELECT 1", view())


async def test_closing_ends_what_runs() -> None:
    """After close there is no process, and the query that ran says why it ended."""
    engine = Engine(WarehouseSettings())
    await engine.warm()
    query = asyncio.ensure_future(engine.run(BOMB, view(ARROW["events"].empty_table())))
    await until(lambda: engine._busy)
    await engine.close()
    with pytest.raises(NotReady):
        await query
    with pytest.raises(NotReady):
        await engine.run("SELECT 1", view())
    assert not children()
