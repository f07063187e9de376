"""SQL from a program of yours, against the platform that runs from ``SEGMENT_DO_HOME``.

    from warehouse import query

    rows = await query.sql("SELECT event, count(*) AS n FROM events GROUP BY event ORDER BY n DESC")

The platform is found through its home directory (``SEGMENT_DO_HOME``, else ``~/.segment_do``): the address in
``run.json``, the admin token in ``token``. What was accepted a moment ago is in the answer.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

import httpx
import msgspec

from segment_do.errors import (
    Busy,
    NotReady,
    PlatformNotRunning,
    QueryRefused,
    QueryTimedOut,
    SegmentDoError,
    Unauthorized,
    Unavailable,
)
from segment_do.home import Home

__all__ = ["Rows", "sql", "sql_sync"]

_TIMEOUT = httpx.Timeout(10.0, read=600.0)  # the platform ends a query long before
_ERRORS: dict[str, type[SegmentDoError]] = {
    error.code: error for error in (QueryRefused, QueryTimedOut, Unauthorized, Busy, NotReady, Unavailable)
}


class Rows(list[dict[str, Any]]):
    """Rows as dictionaries, column to value. Of columns with one name the last counts."""

    truncated: bool = False
    """Whether there were more rows than ``warehouse.sql_max_rows`` allows."""


async def sql(text: str, *, home: str | os.PathLike[str] | None = None) -> Rows:
    """Run one SELECT over ``events``, ``rejected``, ``objects``, the views of profiles and what they are made of.

    Values are JSON's: times are ISO-8601 text in UTC, JSON columns are text.

    Raises:
        QueryRefused: it may not run, or does not bind; the message says why.
        QueryTimedOut: it ran past ``warehouse.sql_timeout_seconds``.
        Unauthorized: the token in the home directory is not the platform's.
        PlatformNotRunning: no platform answers for this home.
        Unavailable: it cannot answer now; try again.
    """
    url, headers, body = _request(text, home)
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
            response = await client.post(url, headers=headers, content=body)
    except httpx.TransportError as error:
        raise _unreachable(url) from error
    return _rows(response)


def sql_sync(text: str, *, home: str | os.PathLike[str] | None = None) -> Rows:
    """As :func:`sql`, for programs without an event loop."""
    url, headers, body = _request(text, home)
    try:
        with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
            response = client.post(url, headers=headers, content=body)
    except httpx.TransportError as error:
        raise _unreachable(url) from error
    return _rows(response)


def _request(text: str, home: str | os.PathLike[str] | None) -> tuple[str, dict[str, str], bytes]:
    found = Home(os.fspath(home or os.environ.get("SEGMENT_DO_HOME") or "~/.segment_do"))
    url = f"{str(found.address()['url']).rstrip('/')}/api/sql"
    headers = {"Authorization": f"Bearer {found.token()}", "Content-Type": "application/json"}
    return url, headers, msgspec.json.encode({"sql": text})


def _unreachable(url: str) -> PlatformNotRunning:
    return PlatformNotRunning(
        f"The platform at {url.removesuffix('/api/sql')} does not answer.",
        hint="It may have stopped: start it with `segment-do dev`, or set SEGMENT_DO_HOME to its directory.",
    )


def _rows(response: httpx.Response) -> Rows:
    try:
        answer = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        answer = {}
    if response.status_code != 200 or "rows" not in answer:
        _refuse(response.status_code, answer)
    columns = answer["columns"]
    rows = Rows(dict(zip(columns, row, strict=True)) for row in answer["rows"])
    rows.truncated = bool(answer.get("truncated"))
    return rows


def _refuse(status: int, answer: dict[str, Any]) -> NoReturn:
    code = str(answer.get("code", ""))
    message = str(answer.get("message") or f"The platform answered with HTTP status {status}.")
    kind = _ERRORS.get(code)
    if kind is None:
        kind = Unauthorized if status in (401, 403) else Unavailable if status == 429 or status >= 500 else QueryRefused
    raise kind(message, hint=str(answer.get("hint") or ""))
