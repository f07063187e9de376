"""A window moves on while its identity sleeps: each day it is woken, looks at whom the day concerns, and sleeps again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.identity.household import Household
from actors.identity.windows import due, mark_windows
from actors.ingress import waking
from actors.ingress.waking import Waking
from actors.queue.log import Entry
from segment_do.computed import COMPUTED_SOURCE
from segment_do.errors import NotReady
from segment_do.events.record import Record, decode_pack, encode_pack
from segment_do.settings import IdentitySettings, Settings
from tests.actors.identity.dying import die
from tests.segment_do.identity.events import DAY, NOON

LATELY = {"class": "trait", "key": "lately", "kind": "event_count", "event": "E", "window_days": 1}
VISIT = {"class": "trait", "key": "visit", "kind": "event_count", "event": "E", "session_minutes": 30}
EVER = {"class": "trait", "key": "lately", "kind": "event_count", "event": "E"}


class Identities:
    """A household, its log, and both clocks."""

    def __init__(self, home: Path, **options: Any) -> None:
        self.settings = Settings(home=home, identity=IdentitySettings(**options))
        self.root = home / "identities"
        self.now = NOON
        self.seconds = 0.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.open()

    def open(self) -> None:
        self.household = Household(self.settings, self._take, lambda: self.seconds, now=lambda: self.now)

    async def seen(self, identity: str = "tom") -> None:
        record = Record(f"m{self.now}", "track", "src", "u", None, "E", self.now, self.now, None, None, None, b"{}")
        await self.household.apply([(identity, 1, encode_pack([record]))])

    async def define(self, definition: dict[str, Any], identity: str = "tom") -> None:
        await self.household.ask(identity, "set_computation", {"definition": definition, "by": "test"})

    async def wake(self, identity: str) -> None:
        await self.household.apply([(identity, 0, b"")])

    async def sleep(self, seconds: float) -> None:
        """All go to sleep that have nothing to do for so long."""
        self.seconds += seconds
        async with asyncio.timeout(20.0):
            while self.household.status():
                await self.household.keep()

    async def day(self) -> None:
        """One round of waking, and as long as it takes until all sleep again."""
        await one_round(self, self.wake)
        await self.sleep(0.001)

    async def _take(self, entries: list[Entry]) -> None:
        for entry in entries:
            for each in decode_pack(entry.pack, entry.events):
                if each.source_id == COMPUTED_SOURCE:
                    self.told.append((entry.identity, msgspec.json.decode(each.payload)["traits"]))


async def one_round(of: Identities, wake: Callable[[str], Awaitable[None]]) -> None:
    class RoundOver(Exception):
        pass

    async def wait(_seconds: float) -> None:
        raise RoundOver

    with pytest.raises(RoundOver):
        await Waking(of.settings, wake, lambda: of.now, wait).run()


async def test_it_is_woken_once_a_day(tmp_path: Path) -> None:
    """The value of yesterday is taken back at midnight without an event, and it sleeps at once; no day costs a second call."""
    here = Identities(tmp_path)
    await here.seen()
    await here.define(LATELY)
    await here.seen("ralph")
    here.now += 1
    await here.seen()
    await here.sleep(301)
    assert here.told == [("tom", {"lately": 1})]
    assert due(here.root, here.now) == []
    await here.day()
    here.now += DAY // 2 - 2
    assert due(here.root, here.now) == []
    here.now += 1  # midnight
    assert due(here.root, here.now) == ["tom"]
    await here.day()
    assert here.told[1:] == [("tom", {"lately": 0})]
    assert due(here.root, here.now) == []
    here.now += DAY
    await here.day()
    assert here.told[2:] == []
    assert due(here.root, here.now) == []
    await here.household.close()


async def test_it_is_woken_when_a_session_is_over(tmp_path: Path) -> None:
    """Half an hour after the last event, also of one that was put to sleep right after it; then not before midnight."""
    here = Identities(tmp_path)
    await here.seen()
    await here.define(VISIT)
    here.now += 1
    await here.seen()
    await here.household.close()
    here.open()
    await here.day()  # it had not looked at everything yet
    here.now += 30 * 60_000_000
    assert due(here.root, here.now) == []
    here.now += 1
    assert due(here.root, here.now) == ["tom"]
    await here.day()
    assert here.told == [("tom", {"visit": 1}), ("tom", {"visit": 0})]
    assert due(here.root, here.now) == []
    here.now += DAY // 2
    assert due(here.root, here.now) == ["tom"]
    await here.household.close()


async def test_one_that_is_awake_needs_no_event_either(tmp_path: Path) -> None:
    """What the day changed is told by itself."""
    here = Identities(tmp_path)
    await here.seen()
    await here.define(LATELY)
    here.now += 1
    await here.seen()
    for expected in (1, 0):
        async with asyncio.timeout(10.0):
            while ("tom", {"lately": expected}) not in here.told or not here.household._awake["tom"].settled:
                await here.household.keep()
        here.now += DAY
    assert len(here.told) == 2
    await here.household.close()


async def test_one_without_windows_is_left_asleep(tmp_path: Path) -> None:
    """Also one that had some."""
    here = Identities(tmp_path)
    await here.seen()
    await here.define(LATELY)
    await here.sleep(301)
    await here.define(EVER)
    await here.sleep(301)
    here.now += DAY
    assert due(here.root, here.now) == []
    await here.household.close()


@pytest.mark.parametrize("killed", [False, True])
async def test_one_that_did_not_get_so_far_is_woken_again(tmp_path: Path, killed: bool) -> None:
    """Put to sleep, or killed, before its windows moved on, or right after it got one."""
    here = Identities(tmp_path)
    await here.seen()
    await here.define(LATELY)

    async def stop() -> None:
        if killed:
            await die(here.household._awake.pop("tom"))
        await here.household.close()
        here.open()

    woken: list[str] = []

    async def wake(identity: str) -> None:
        woken.append(identity)

    await stop()
    await one_round(here, wake)
    assert set(woken) == {"tom"}
    await here.wake("tom")
    here.seconds += 1
    await here.sleep(1)
    assert due(here.root, here.now) == []
    here.now += DAY
    await here.wake("tom")
    await stop()
    assert due(here.root, here.now) == ["tom"]
    await here.household.close()


async def test_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some in a round, fewer at once; one that does not wake is tried again in the next round, and keeps nobody from waking."""
    monkeypatch.setitem(waking._A_ROUND, "dedicated", 6)
    here = Identities(tmp_path)
    for number in range(10):
        folder = here.root / f"i{number}"
        folder.mkdir(parents=True)
        mark_windows(folder, f"i{number}", NOON + 1 - number * DAY)
    (here.root / "none").mkdir()
    now_awake, most, woken = 0, 0, []

    async def wake(identity: str) -> None:
        nonlocal now_awake, most
        now_awake += 1
        most = max(most, now_awake)
        await asyncio.sleep(0)
        now_awake -= 1
        if identity == "i9":
            raise NotReady("Held elsewhere.")
        woken.append(identity)
        mark_windows(here.root / identity, identity, NOON + 1)

    await one_round(here, wake)
    assert (woken, most) == (["i8", "i7", "i6", "i5", "i4"], 4)
    await one_round(here, wake)
    assert sorted(woken) == [f"i{number}" for number in range(1, 9)]
    assert due(here.root, NOON) == ["i9"]
    mark_windows(here.root / "i9", "i9", None)
    assert due(here.root, NOON) == []


def test_any_name_and_time(tmp_path: Path) -> None:
    """The mark holds the name as it is; a time before the epoch's first day is due as well."""
    (tmp_path / "x").mkdir()
    mark_windows(tmp_path / "x", "\udc80/ü", 0)
    assert due(tmp_path, NOON) == ["\udc80/ü"]
    assert os.stat(tmp_path / "x" / "windows").st_mtime_ns == 0
