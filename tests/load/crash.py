"""Rounds of load and kill -9, then the ledger against what the platform has. ``python -m tests.load.crash --help``.

A violation keeps the home, prints the seed, the promise and the ids, and ends with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from tests.load.check import (
    Violation,
    check_delivered,
    check_stored,
    expected_rows,
    profile_facts,
    sampled_profiles,
    stored_ids,
    wait_until_quiet,
)
from tests.load.killer import Killer
from tests.load.ledger import Ledger, Tally, read_ledger
from tests.load.platform import PARTS, Platform
from tests.load.sender import Load, Prober, Target
from tests.load.webhook_sink import Faults, WebhookSink

__all__ = ["Plan", "Round", "crash"]

_FAULTS = Faults(error=0.02, slow=0.002, cut=0.01)


@dataclass(frozen=True)
class Plan:
    """What a run does; everything random follows from the seed."""

    seed: int = 1
    rounds: int = 1
    seconds: float = 30.0
    parts: Sequence[str] = PARTS
    gap_seconds: tuple[float, float] = (1.0, 6.0)
    events_per_second: float = 400.0
    connections: int = 16
    identities: int = 3
    profiles: int = 50
    webhook_batch: int = 1
    """Events a webhook request."""
    quiet_seconds: float = 180.0


@dataclass
class Round:
    """What one round found."""

    number: int
    summary: dict[str, Any]
    kills: list[dict[str, Any]]
    stored: int = 0
    delivered: int = 0
    quiet_after_seconds: float | None = None
    supervisor_deaths: int = 0
    resident_bytes: int = 0
    descriptors: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        told = dict(vars(self))
        told["violations"] = [{"promise": each.promise, "ids": each.ids} for each in self.violations]
        return told


async def crash(
    plan: Plan, platform: Platform, folder: Path, console: Console, *, until: float | None = None
) -> list[Round]:
    """Run the rounds on a started platform. ``folder`` (outside its home) gets the ledger and the sink's file.

    With ``until`` (monotonic seconds) rounds go on until then. Stops at the first violation.
    """
    rng = random.Random(plan.seed)
    sink = WebhookSink(folder / "delivered.txt", seed=plan.seed, faults=_FAULTS)
    await sink.start()
    try:
        targets = []
        for number in range(plan.identities):
            source = await asyncio.to_thread(platform.create_source, f"Crash {number}", f"crash-{number}")
            targets.append(Target(source["identity"], source["writeKey"]))
        await asyncio.to_thread(platform.add_webhook, sink.url, batch_size=plan.webhook_batch)
        rounds: list[Round] = []
        while len(rounds) < plan.rounds if until is None else time.monotonic() < until:
            done = await _round(len(rounds) + 1, plan, platform, folder / "ledger.txt", sink, targets, rng, console)
            rounds.append(done)
            _show(console, done)
            if done.violations:
                break
        return rounds
    finally:
        await sink.close()


async def _round(
    number: int,
    plan: Plan,
    platform: Platform,
    path: Path,
    sink: WebhookSink,
    targets: list[Target],
    rng: random.Random,
    console: Console,
) -> Round:
    loop = asyncio.get_running_loop()
    tag = f"s{plan.seed}r{number}"
    ledger = Ledger(path)
    load = Load(
        platform.port,
        targets,
        ledger,
        seed=plan.seed,
        tag=tag,
        connections=plan.connections,
        events_per_second=plan.events_per_second,
    )
    prober = Prober(platform.port, targets[0], ledger, tag=tag)
    killer = Killer(platform, plan.parts, random.Random(rng.random()), plan.gap_seconds)
    sink.misbehave(_FAULTS)
    began = loop.time()
    console.print(f"round {number}: load for {plan.seconds:.0f} s, seed {plan.seed}")
    load.start()
    prober.start()
    try:
        await killer.run(began + plan.seconds)
        await killer.revive()
        await _one_more_accepted(prober)
    finally:
        ended = loop.time()
        await prober.stop()
        await load.stop()
        ledger.close()
    killer.measure(prober, ended)
    sink.misbehave(Faults())
    tally = await asyncio.to_thread(read_ledger, path)
    done = Round(number, tally.summary(), [kill.as_json(began) for kill in killer.kills])
    done.supervisor_deaths = killer.supervisor_deaths
    if killer.supervisor_deaths:
        done.violations.append(
            Violation("the supervisor ended although it was not killed", [platform.tail_of_printed(600)])
        )
    waited_from = loop.time()
    quiet = await asyncio.to_thread(_quiet, platform, expected_rows(tally)[0], plan.quiet_seconds)
    done.quiet_after_seconds = round(loop.time() - waited_from, 1) if quiet else None
    if not quiet:
        done.violations.append(Violation("not quiet in time", [json.dumps(_at_work(platform))]))
    await asyncio.to_thread(_check, done, plan, platform, tally, sink, rng)
    done.faults = dict(sink.faults_made)
    return done


async def _one_more_accepted(prober: Prober, *, timeout_seconds: float = 60.0) -> None:
    """Ready is what it says only if an event is accepted after it."""
    before = len(prober.accepted_at)
    async with asyncio.timeout(timeout_seconds):
        while len(prober.accepted_at) == before:
            await asyncio.sleep(0.05)


def _quiet(platform: Platform, rows: int, timeout_seconds: float) -> bool:
    def count() -> int:
        return int(platform.sql("SELECT count(*) FROM events")[0][0])

    return wait_until_quiet(count, lambda: sum(_at_work(platform).values()), rows, timeout_seconds=timeout_seconds)


def _at_work(platform: Platform) -> dict[str, int]:
    """Events that are on their way somewhere, by where."""
    try:
        status = platform.api("GET", "/api/status")
        found = {"journal bytes": int(status["ingress"].get("journal_unappliedBytes", 0))}
        for each in platform.api("GET", "/api/destinations")["destinations"]:
            delivery = each["delivery"] or {"lag": 1, "retrying": 0}
            found[each["id"]] = int(delivery["lag"]) + int(delivery["retrying"])
        return found
    except httpx.HTTPError as error:
        return {type(error).__name__: 1}


def _check(done: Round, plan: Plan, platform: Platform, tally: Tally, sink: WebhookSink, rng: random.Random) -> None:
    stored: Counter[str] = stored_ids(platform.sql)
    done.stored, done.delivered = sum(stored.values()), len(sink.delivered)
    done.violations += check_stored(tally, stored)
    done.violations += check_delivered(tally, stored, sink.delivered)
    facts = profile_facts(tally)
    sample = rng.sample(sorted(facts), min(plan.profiles, len(facts)))
    done.violations += sampled_profiles(platform.api, facts, sample)
    processes = [each.process for each in platform.processes()]
    for process in processes:
        try:
            done.resident_bytes += process.memory_info().rss
            done.descriptors += process.num_fds()
        except Exception:
            continue


def _show(console: Console, done: Round) -> None:
    table = Table(title=f"round {done.number}: kills", title_justify="left")
    for name in ("part", "at s", "processes", "ready after s", "without a 200 s"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for kill in done.kills:
        ready = "" if kill["readySeconds"] is None else f"{kill['readySeconds']:.1f}"
        table.add_row(
            kill["part"], f"{kill['atSeconds']:.1f}", str(kill["processes"]), ready, f"{kill['awaySeconds']:.2f}"
        )
    console.print(table)
    console.print(
        f"ids {done.summary['ids']}, requests {done.summary['requests']}, sent again {done.summary['repeated']}"
    )
    quiet = "NOT QUIET" if done.quiet_after_seconds is None else f"quiet after {done.quiet_after_seconds} s"
    console.print(
        f"rows {done.stored}, delivered {done.delivered}, {quiet}, faults made {done.faults},"
        f" {done.resident_bytes / 2**20:.0f} MiB resident, {done.descriptors} descriptors"
    )
    for violation in done.violations:
        console.print(f"[bold red]VIOLATION[/] {violation}")
    if not done.violations:
        console.print("[green]every acknowledged event exactly once, delivered, and in its profile[/]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="rounds until so long has passed, instead of --rounds")
    parser.add_argument("--seconds", type=float, default=60.0, help="load in a round, seconds")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is killed, comma separated")
    parser.add_argument("--gap", default="1,6", help="seconds between kills: from,to")
    parser.add_argument("--rate", type=float, default=400.0, help="events a second")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--identities", type=int, default=3)
    parser.add_argument(
        "--shards", type=int, default=0, help="lay each identity out over so many graphs, in a pool; 0: one graph"
    )
    parser.add_argument("--webhook-batch", type=int, default=1, help="events a webhook request")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    parser.add_argument("--keep", action="store_true", help="keep the home in any case")
    given = parser.parse_args(arguments)
    gap_from, gap_to = (float(each) for each in given.gap.split(","))
    parts = tuple(each.strip() for each in given.parts.split(",") if each.strip())
    unknown = set(parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    plan = Plan(
        seed=given.seed,
        rounds=given.rounds,
        seconds=given.seconds,
        parts=parts,
        gap_seconds=(gap_from, gap_to),
        events_per_second=given.rate,
        connections=given.connections,
        identities=given.identities,
        webhook_batch=given.webhook_batch,
    )
    console = Console(stderr=True)
    folder = Path(tempfile.mkdtemp(prefix="segment_do-crash-"))
    platform = Platform(folder / "home", settings=_layouts(given.shards, given.identities))
    (folder / "home").mkdir()
    held = False
    try:
        console.print(f"home {platform.home}; ready after {platform.start():.1f} s")
        until = time.monotonic() + given.minutes * 60 if given.minutes else None
        rounds = asyncio.run(crash(plan, platform, folder, console, until=until))
        held = not any(each.violations for each in rounds)
        if given.json:
            told = {
                "seed": plan.seed,
                "held": held,
                "folder": str(folder),
                "rounds": [each.as_json() for each in rounds],
            }
            sys.stdout.write(json.dumps(told) + "\n")
        return 0 if held else 1
    finally:
        platform.close(keep_home=True)
        if held and not given.keep:
            _remove(folder)
        else:
            console.print(f"kept {folder} (home, ledger.txt, delivered.txt); seed {plan.seed}")


def _layouts(shards: int, identities: int) -> dict[str, str]:
    if not shards:
        return {}
    named = {f"crash-{number}": {"shards": shards} for number in range(identities)}
    return {"IDENTITY__PLACEMENT": "pool", "IDENTITY__LAYOUTS": json.dumps(named)}


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
