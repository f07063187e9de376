"""Runs SQL in processes of their own, and ends them when they take too long.

Two worker processes at most, started when they are needed (one is warmed up at the start); each keeps the tail's rows
that it was sent, so a query sends only what is new. A query that passes its time, a caller that goes away and a crash
all end the worker, and the next query starts another. At most 32 callers wait for a worker; more are told to come
back (``Busy``). Waiting counts towards a query's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from segment_do.errors import Busy, NotReady, QueryRefused, QueryTimedOut
from segment_do.settings import WarehouseSettings
from warehouse.catalogue import SqlType
from warehouse.schema import TableName
from warehouse.wire import ANSWER_BYTES_MAX, READY, Answer, Ask, Batch, Limits, Table

__all__ = ["Engine", "View"]

_WORKERS_MAX = 2
_WAITING_MAX = 32
_THREADS_MAX = 4


class View(NamedTuple):
    """What a query shall see. Plain values: a commit that goes on meanwhile does not change it."""

    files: Mapping[TableName, Sequence[str]]
    tail: Mapping[TableName, Sequence[tuple[int, pa.Table]]]
    """Rows that are not in the files, as ``(id, rows)``; an id always means the same rows."""
    catalogue_version: int
    catalogue: Mapping[str, Mapping[str, SqlType]]


class Engine:
    """The way to ask the tables. Belongs to one event loop."""

    def __init__(self, settings: WarehouseSettings) -> None:
        self._limits = Limits(
            rows=settings.sql_max_rows,
            memory_bytes=settings.sql_memory_bytes,
            threads=min(os.cpu_count() or 1, _THREADS_MAX),
        )
        self._timeout_seconds = settings.sql_timeout_seconds
        self._free = asyncio.Semaphore(_WORKERS_MAX)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._closed = False

    async def warm(self) -> None:
        """Start one worker, so that the first query does not wait for it."""
        if not self._idle and not self._closed:
            self._idle.append(await _Worker.start())

    async def run(self, sql: str, view: View) -> dict[str, Any]:
        """``{"columns": [name], "types": [DuckDB's type], "rows": [[value]], "truncated": bool}``, JSON-ready.

        Raises:
            QueryRefused: the text may not run, does not bind, failed while it ran, or needs too much memory.
            QueryTimedOut: it took longer than ``sql_timeout_seconds``.
            Busy: too many queries wait already.
        """
        if self._closed:
            raise NotReady("The warehouse is closing.")
        if not sql.isascii() and sql != sql.encode("utf-8", "replace").decode():
            raise QueryRefused("The SQL is not Unicode text.")
        if self._waiting >= _WAITING_MAX:
            raise Busy(f"{_WAITING_MAX} queries wait already.", hint="Try again in a second.")
        self._waiting += 1
        waits = True
        try:
            async with asyncio.timeout(self._timeout_seconds):
                async with self._free:
                    self._waiting -= 1
                    waits = False
                    answer = await self._ask(sql, view)
        except TimeoutError:
            raise QueryTimedOut(
                f"The query ran longer than {self._timeout_seconds:g} s and was stopped.",
                hint="Read less of the table, or raise warehouse.sql_timeout_seconds.",
            ) from None
        finally:
            if waits:
                self._waiting -= 1
        if answer.failure is not None:
            raise QueryRefused(answer.failure.message, hint=answer.failure.hint)
        return {
            "columns": answer.columns,
            "types": answer.types,
            "rows": answer.rows,
            "truncated": answer.truncated,
        }

    async def _ask(self, sql: str, view: View) -> Answer:
        worker = self._idle.pop() if self._idle else await _Worker.start()
        self._busy.add(worker)
        try:
            answer = await worker.ask(sql, view, self._limits)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            self._end(worker)
            if self._closed:
                raise NotReady("The warehouse is closing.") from error
            raise QueryRefused(
                "The query ended its process.", hint="It may have used too much memory; read less at once."
            ) from error
        except BaseException:
            self._end(worker)
            raise
        if self._closed or answer.spent:
            self._end(worker)
        else:
            self._busy.discard(worker)
            self._idle.append(worker)
        return answer

    def _end(self, worker: _Worker) -> None:
        self._busy.discard(worker)
        task = asyncio.ensure_future(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End the workers; queries that run end with ``NotReady``."""
        self._closed = True
        for worker in [*self._idle, *self._busy]:
            self._end(worker)
        self._idle.clear()
        while self._ending:
            await asyncio.wait(self._ending)


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ready = False
        self._has: set[int] = set()
        self._catalogue_version = -1

    @classmethod
    async def start(cls) -> _Worker:
        package = Path(__file__).resolve().parent.parent
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "warehouse.sandbox",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**20,
            cwd="/",
            # Nothing of the platform's environment: no tokens, no settings.
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": str(package),
                "PYTHONDONTWRITEBYTECODE": "1",
                "LANG": "C.UTF-8",
                "TZ": "UTC",
                # Allocators that reserve gigabytes at once would meet the process's limit for nothing.
                "ARROW_DEFAULT_MEMORY_POOL": "system",
                "MALLOC_ARENA_MAX": "2",
            },
            start_new_session=True,
        )
        return cls(process)

    async def ask(self, sql: str, view: View, limits: Limits) -> Answer:
        blobs: list[pa.Buffer] = []
        tables: dict[TableName, Table] = {}
        live: set[int] = set()
        for name, files in view.files.items():
            batches = []
            for number, rows in view.tail[name]:
                live.add(number)
                if number in self._has:
                    batches.append(Batch(number))
                else:
                    blobs.append(_ipc(rows))
                    batches.append(Batch(number, blobs[-1].size))
            tables[name] = Table(list(files), batches)
        new = view.catalogue_version != self._catalogue_version
        catalogue = {kind: dict(types) for kind, types in view.catalogue.items()} if new else None
        header = msgspec.json.encode(Ask(sql, tables, limits, catalogue))
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if not self._ready:
            await self._loaded(stdout)
        stdin.write(struct.pack("<Q", len(header)) + header)
        for blob in blobs:
            stdin.write(memoryview(blob))
            await stdin.drain()
        await stdin.drain()
        self._has, self._catalogue_version = live, view.catalogue_version
        (length,) = struct.unpack("<Q", await stdout.readexactly(8))
        if length > 2 * ANSWER_BYTES_MAX:
            raise EOFError("more than any answer may have")
        return msgspec.json.decode(await stdout.readexactly(length), type=Answer)

    async def _loaded(self, stdout: asyncio.StreamReader) -> None:
        if await stdout.read(len(READY)) != READY:
            raise NotReady("The query process could not start.", hint="Its reason is in the log of the warehouse.")
        self._ready = True

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _ipc(rows: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue()
