"""`segment-do doctor`: whether this machine can run the platform, and whether the one that runs does its work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import typer

from segment_do.cli import checks
from segment_do.cli.batches import fresh_id
from segment_do.cli.checks import Finding
from segment_do.cli.client import Client, connect
from segment_do.cli.follow import Followed, follow
from segment_do.cli.options import HomeOption, JsonOption, TimeoutOption, chosen_home, use_home
from segment_do.cli.output import note, print_json, print_text
from segment_do.cli.sending import say_waiting
from segment_do.errors import PlatformNotRunning, SegmentDoError, SettingsError, Unavailable
from segment_do.home import Home
from segment_do.sdk.message import build

__all__ = ["register"]

_LEAST_DISK_BYTES: Final = 256 * 2**20
"""Where the settings cannot be read."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(timeout: TimeoutOption = 30.0, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Check this machine, and the platform if one runs.

    An event is sent through it and watched until it can be queried. Exit code 1 if a check fails; with --json one object a
    line.
    """
    use_home(home)
    failed = 0
    for found in _findings(timeout):
        failed += found.status == "fail"
        if as_json:
            print_json(found)
        else:
            took = "" if found.seconds is None else f"  {found.seconds:.3f} s"
            advice = f"  -> {found.advice}" if found.advice else ""
            print_text(f"{found.status:<4}  {found.check:<10}  {found.detail}{took}{advice}")
    if failed:
        note(f"{failed} {'check' if failed == 1 else 'checks'} failed.")
        raise typer.Exit(1)


def _findings(timeout_seconds: float) -> Iterator[Finding]:
    home = Home(chosen_home())
    yield checks.python()
    yield checks.packages()
    try:
        from segment_do.settings import load_settings  # brings pydantic

        settings = load_settings()
        host, number, least_disk_bytes = settings.host, settings.port, settings.journal.min_free_disk_bytes
        yield Finding("settings", "ok", f"home {home.root}")
    except SettingsError as error:
        host, number, least_disk_bytes = "127.0.0.1", 8000, _LEAST_DISK_BYTES
        yield Finding("settings", "fail", error.message, error.hint)
    except ModuleNotFoundError as error:
        host, number, least_disk_bytes = "127.0.0.1", 8000, _LEAST_DISK_BYTES
        yield Finding(
            "settings", "warn", f"not read: {error.name} is not installed", "Install the server, which brings it."
        )
    platform, answer = _reach()
    yield checks.port(home, host, number, ours=platform is not None)
    yield checks.disk(home, least_bytes=least_disk_bytes)
    yield checks.sync_latency(home)
    yield checks.memory()
    yield answer
    if platform is not None:
        with platform:
            yield from _round_trip(platform, timeout_seconds)


def _reach() -> tuple[Client | None, Finding]:
    try:
        platform = connect()
    except PlatformNotRunning:
        return None, Finding("platform", "ok", "none runs from here; `segment-do dev` starts one")
    except SettingsError as error:
        return None, Finding("platform", "fail", error.message, error.hint)
    try:
        found = platform.get("/api/status")
    except PlatformNotRunning:
        advice = "It was stopped without cleaning up, or is starting; `segment-do dev` starts it."
        found = None
        problem = Finding("platform", "warn", f"run.json names {platform.url}, where nobody answers", advice)
    except SegmentDoError as error:
        found = None
        problem = Finding("platform", "fail", f"{platform.url}: {error.message}", error.hint)
    if found is None:
        platform.__exit__(None, None, None)
        return None, problem
    return platform, Finding("platform", "ok", f"version {found.get('version')} at {platform.url}")


def _round_trip(platform: Client, timeout_seconds: float) -> Iterator[Finding]:
    """Each stage of one event. Times of later stages count from the moment it was sent."""
    began = time.monotonic()
    try:
        _wait_ready(platform, began + timeout_seconds)
        yield Finding("ready", "ok", "an event would be stored", seconds=_since(began))
        began = time.monotonic()
        source = platform.ensure_source("doctor")
        yield Finding("source", "ok", f"{source['id']} of identity {source['identity']}", seconds=_since(began))
        # Not meant for anybody's analytics: destinations are told to leave it.
        fields: dict[str, Any] = {
            "type": "track", "event": "Doctor Checked", "userId": "doctor", "integrations": {"All": False}
        }  # fmt: skip
        event = build(fields, speaker=None, now=time.time(), new_id=fresh_id)
        began = time.monotonic()
        refused = platform.deliver(
            "/v1/batch",
            b'{"batch":[%b]}' % event.data,
            str(source["writeKey"]),
            [event.message_id],
            patience_seconds=timeout_seconds,
            on_wait=say_waiting,
        )[0]
        if refused is not None:
            raise refused
        accepted = _since(began)
        yield Finding("accepted", "ok", "on disk", seconds=accepted)
        followed = Followed(event.message_id, began, accepted)
        follow(platform, [followed], timeout_seconds=timeout_seconds, on_stage=lambda *_: None, deliveries=False)
    except SegmentDoError as error:
        yield Finding("round trip", "fail", error.message, error.hint or "The platform's log says more.")
        return
    for stage, meaning in (("applied", "in the identity's graph"), ("queryable", "seen by SQL")):
        seconds = followed.seconds.get(stage)
        if seconds is None:
            detail = f"not {meaning} within {timeout_seconds:g} seconds"
            yield Finding(stage, "fail", detail, "`segment-do status` shows which part is behind.")
        else:
            yield Finding(stage, "ok", meaning, seconds=seconds)


def _wait_ready(platform: Client, deadline: float) -> None:
    while True:
        try:
            platform.get("/ready")
            return
        except Unavailable as error:
            wait = max(float(error.retry_after), 0.2)
            if time.monotonic() + wait > deadline:
                raise
            platform.pause(wait)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 4)
