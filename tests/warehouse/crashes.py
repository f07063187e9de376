"""Kills a writer at every step of its work, and looks at what is left: `python -m tests.warehouse.crashes commit DIR`.

Every run is a fork of this process, which loads everything and starts no thread, so that a hundred runs cost seconds.
A step is the moment before an output file is closed (its bytes may be there, its sync is not), and before and after the
catalog commits. The run that is to die kills itself at its step with SIGKILL; the next one opens what is left, goes on, and writes down what it found.
Prints one JSON line a step.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from sqlalchemy import event
from sqlalchemy.orm import Session

from segment_do.settings import WarehouseSettings
from tests.warehouse.samples import frame, moved, record, rejected
from warehouse import durable_io
from warehouse.columns import rows_of
from warehouse.maintenance import Maintenance
from warehouse.schema import TABLES, TableName
from warehouse.writer import Writer

SETTINGS = WarehouseSettings(compact_files=3, keep_snapshots=2)
GRACE_SECONDS = 900.0


def commit_range(writer: Writer, lo: int, hi: int, *, mixed: bool = True) -> None:
    """Where they are ``mixed``, of three records one was set aside, and one tells of an external id."""
    records = [
        (record(n), rejected(n), moved(n, "email", f"{n}@example.com"))[n % 3 if mixed else 0] for n in range(lo, hi)
    ]
    writer.commit(rows_of([frame(lo, records)], lo).tables(), hi)


def found(writer: Writer) -> dict[str, Any]:
    """What the tables hold: their offsets in order."""
    return {"committed": writer.committed} | {str(name): sorted(_offsets(writer, name)) for name in TABLES}


def _offsets(writer: Writer, name: TableName) -> list[int]:
    files = writer.snapshots()[1][name].files
    return [int(n or 0) for file in files for n in pq.read_table(file.path, columns=["offset"])["offset"].to_pylist()]


def steps(work: Callable[[], None], die_at: int | None) -> list[str]:
    """Run, naming every step; at step ``die_at`` the process is killed."""
    names: list[str] = []

    def step(name: str) -> None:
        names.append(name)
        if len(names) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    close = durable_io._SyncedFile.close

    def closing(file: Any) -> None:
        if file._handle >= 0:
            step(_kind(os.path.basename(file._path)))
        close(file)

    durable_io._SyncedFile.close = closing  # type: ignore[method-assign, assignment]
    event.listen(Session, "before_commit", lambda _session: step("before catalog"))
    event.listen(Session, "after_commit", lambda _session: step("after catalog"))
    work()
    return names


def _kind(file: str) -> str:
    if file.endswith(".avro"):
        return "manifest list" if file.startswith("snap-") else "manifest"
    return "data" if file.endswith(".parquet") else "metadata"


def forked(work: Callable[[], object]) -> tuple[bool, Any]:
    """The result of ``work`` in a fork of this process, and whether it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            json.dump(work(), out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status), json.loads(text) if text else None


def main(scenario: str, directory: Path) -> None:
    """One line for the run that is left alone, then one for each step at which a run is killed."""

    def before() -> None:
        writer = Writer.open(directory / "base", SETTINGS)
        for lo in range(0, 12 if scenario == "compact" else 4, 4):
            commit_range(writer, lo, lo + 4, mixed=scenario == "commit")
        writer.close()

    def run(home: Path, die_at: int | None) -> list[str]:
        writer = Writer.open(home, SETTINGS)
        if scenario == "commit":
            return steps(lambda: commit_range(writer, 4, 10), die_at)
        maintenance = Maintenance(writer, GRACE_SECONDS)
        return steps(lambda: maintenance.run(time.time()) and None, die_at)

    def after(home: Path) -> dict[str, Any]:
        writer = Writer.open(home, SETTINGS)
        left = found(writer)
        commit_range(writer, writer.committed, 20)  # other bounds than those of the run that died
        went_on = found(writer)
        maintenance = Maintenance(writer, GRACE_SECONDS)
        maintenance.run(time.time())
        maintenance.run(time.time() + GRACE_SECONDS + 1)
        maintenance.run(time.time() + 2 * GRACE_SECONDS + 2)
        live = {path for name in TABLES for path in maintenance._named(writer.tables[name])}
        on_disk = {str(path) for name in TABLES for path in (home / name).rglob("*") if path.is_file()}
        return {"left": left, "went_on": went_on, "maintained": found(writer), "dead": len(on_disk ^ live)}

    # Iceberg's paths are absolute: every run starts from a copy at the same place.
    home, kept = directory / "base", directory / "kept"
    forked(before)
    shutil.copytree(home, kept)
    _, names = forked(lambda: run(home, None))
    for die_at in (None, *range(1, len(names) + 1)):
        shutil.rmtree(home)
        shutil.copytree(kept, home)
        killed, _ = forked(partial(run, home, die_at))
        _, result = forked(lambda: after(home))
        step = "none" if die_at is None else names[die_at - 1]
        print(json.dumps({"step": step, "killed": killed, "result": result}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
