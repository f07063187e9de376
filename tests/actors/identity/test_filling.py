"""Backfill: a definition that comes late counts what was before it from a real warehouse, as if it had always been there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.identity import filling
from actors.identity.household import Household
from segment_do.computed import COMPUTED_SOURCE, PastPart, PastWanted
from segment_do.errors import NotFound, NotReady, QueryRefused
from segment_do.events.record import Record
from segment_do.settings import IdentitySettings, Settings
from tests.actors.identity.dying import die
from tests.actors.profiled import Profiled

NOW = datetime.now(UTC).replace(microsecond=0)
COUNT = {"class": "trait", "kind": "event_count", "event": "Order Completed", "destinations": ["Braze"]}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "orders": COUNT,
    "spent": {"class": "trait", "kind": "sum", "event": "Order Completed", "property": "price"},
    "colours": {"class": "trait", "kind": "unique_list", "event": "Order Completed", "property": "item.colour"},
    "lately": {"class": "trait", "kind": "event_count", "event": "Order Completed", "window_days": 7},
    "pages": {"class": "trait", "kind": "event_count", "call": "page"},
    "homes": {"class": "trait", "kind": "event_count", "call": "page", "event": "Home"},
    "rich": {"class": "audience", "members": {"computed": "spent", "is": ">", "value": 20}},
    "buyers": {
        "class": "audience",
        "output": "track",
        "members": {"all": [{"event": "Order Completed", "at_least": 2}, {"trait": "plan", "is": "exists"}]},
    },
}


@pytest.fixture
async def tom(tmp_path: Path) -> AsyncIterator[Profiled]:
    running = Profiled(tmp_path)
    await running.start()
    yield running
    await running.stop()


def event(number: int, kind: str = "track", *, days: float = 0.0, **fields: Any) -> dict[str, Any]:
    at = (NOW - timedelta(days=days)).isoformat().replace("+00:00", ".000Z")
    told = {"type": kind, "messageId": f"m{number}", "timestamp": at, **fields}
    return {**({"event": "Order Completed"} if kind == "track" else {}), **told}


def some_events() -> list[dict[str, Any]]:
    """Of three people: one known by an email alone, one who was a visitor first; old and new, with odd values among them."""
    return [
        event(1, anonymousId="a1", properties={"price": 10.5, "item": {"colour": "rot \" '\\ ü"}}),
        event(2, userId="ann", anonymousId="a1", days=30, properties={"price": "12", "item": {"colour": "blue"}}),
        event(3, "identify", userId="ann", traits={"plan": "pro", "email": "ann@example.com"}),
        event(4, userId="ann", event="Other", properties={"price": 1000}),
        event(5, "page", anonymousId="a1", name="Home", properties={"url": "/"}),
        event(6, "page", anonymousId="a2", context={"traits": {"email": "ANN@example.com"}}),
        event(7, anonymousId="a3", context={"traits": {"email": "bob@example.com"}}, properties={"price": 21}),
        event(8, userId="cleo", properties=None),
        event(9, "screen", userId="cleo", name="Home"),
        event(10, "group", userId="ann", groupId="acme"),
    ]


async def define(tom: Profiled, key: str, **more: Any) -> list[dict[str, Any]]:
    told = await tom.told("PUT", f"/api/identities/tom/computations/{key}", {**DEFINITIONS[key], **more})
    found: list[dict[str, Any]] = told["computations"]
    return found


async def until(holds: Callable[[], Awaitable[bool]], tom: Profiled) -> None:
    """Housekeeping goes on until it holds."""
    async with asyncio.timeout(60.0):
        while not await holds():
            await tom.household.keep()


async def settled(tom: Profiled) -> bool:
    """Everything is filled, looked at and handed over."""
    found = (await tom.told("GET", "/api/identities/tom/computations"))["computations"]
    activation = tom.household._awake["tom"]
    return (
        not any(each["filling"] for each in found)
        and activation.idle
        and activation.settled
        and not tom.household.status()[0]["outboxBytes"]
    )


async def values(tom: Profiled) -> dict[str, dict[str, Any]]:
    """What is computed of each."""
    return {
        name: {
            key: each["value"] for key, each in (await tom.told("GET", f"/api/profiles/tom/{name}"))["computed"].items()
        }
        for name in ("user_id:ann", "email:bob@example.com", "user_id:cleo")
    }


async def told(tom: Profiled) -> list[tuple[str | None, dict[str, Any], Any]]:
    """What was last said of each profile and key, from the log."""
    last: dict[tuple[str | None, str], tuple[str | None, dict[str, Any], Any]] = {}
    read = 0
    while read < tom.hub.end:
        for frame in await tom.hub.read(read, 1 << 20, 0.0):
            read += frame.count
            for each in _records(frame.pack, frame.count):
                if each.source_id == COMPUTED_SOURCE:
                    body = json.loads(each.payload)
                    said = body.get("traits") or body["properties"]
                    key = body["context"]["personas"]["computation_key"]
                    last[each.profile_id, key] = (each.profile_id, said, body["integrations"])
    return sorted(last.values(), key=str)


def _records(pack: bytes, count: int) -> list[Record]:
    from segment_do.events.record import decode_pack

    return decode_pack(pack, count)


async def declared_before(home: Path) -> tuple[Any, Any]:
    """Values and announcements where the definitions were there before the events."""
    tom = Profiled(home)
    await tom.start()
    await tom.send(event(0, userId="nobody", event="First"))
    for key in DEFINITIONS:
        await define(tom, key)
    await tom.send(*some_events())
    await until(lambda: settled(tom), tom)
    found = await values(tom), await told(tom)
    await tom.stop()
    return found


@pytest.mark.parametrize("rows", [2_000, 1])
async def test_it_is_as_if_they_had_always_been_there(
    tom: Profiled, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values in profiles and what was last told of them, of every kind, in parts of any size."""
    monkeypatch.setattr(filling, "_ROWS", rows)
    expected = await declared_before(tmp_path / "other")
    assert expected[0]["user_id:ann"] | {"colours": []} == {
        "orders": 2, "spent": 22.5, "colours": [], "lately": 1, "pages": 2, "homes": 1, "rich": True, "buyers": True,
    }  # fmt: skip
    await tom.send(event(0, userId="nobody", event="First"))
    await tom.send(*some_events())
    for key in DEFINITIONS:
        await define(tom, key, backfill=True)
    await until(lambda: settled(tom), tom)
    assert await values(tom) == expected[0]
    assert await told(tom) == expected[1]
    for each in (await tom.told("GET", "/api/identities/tom/computations"))["computations"]:
        assert "target" not in each


async def test_events_meanwhile_count_once(tom: Profiled) -> None:
    """Those that come while it is filled, before and after the warehouse has them."""
    await tom.send(*(event(number, userId="ann") for number in range(50)))
    await define(tom, "orders", backfill=True)
    for number in range(50, 60):
        await tom.send(event(number, userId="ann"))
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 60


class Held:
    """Past events that are given out one part at a time."""

    def __init__(self, tom: Profiled) -> None:
        self._past = tom.past
        self.parts = asyncio.Semaphore(0)
        self.failures: list[Exception] = []
        self.asked: list[PastWanted] = []

    async def end(self) -> int:
        assert self._past is not None
        return await self._past.end()

    async def events(self, wanted: PastWanted) -> PastPart:
        assert self._past is not None
        self.asked.append(wanted)
        if self.failures:
            raise self.failures.pop(0)
        await self.parts.acquire()
        return await self._past.events(wanted)


async def computation(tom: Profiled) -> dict[str, Any]:
    (found,) = (await tom.told("GET", "/api/identities/tom/computations"))["computations"]
    return dict(found)


async def test_it_goes_on_where_it_was(tom: Profiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity that loses its process in the middle is woken again, and counts each event once; how far it is can be seen."""
    monkeypatch.setattr(filling, "_SPAN", 4)
    monkeypatch.setattr(filling, "_MOST_SPAN", 4)
    held = Held(tom)
    tom.household._past = held
    await tom.send(*(event(number, userId="ann") for number in range(20)))
    target = tom.hub.end
    await define(tom, "orders", backfill=True)
    for _ in range(2):
        held.parts.release()

    async def half() -> bool:
        return (await computation(tom)).get("filled") == 8

    await until(half, tom)
    assert (await computation(tom)) | {"id": "", "since": "", "definition": {}} == {
        "id": "", "since": "", "definition": {}, "declared": False, "filling": True, "filled": 8, "target": target,
    }  # fmt: skip
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"] == {}
    assert not tom.household._awake["tom"].idle
    await die(tom.household._awake.pop("tom"))
    await tom.household.close()
    held.parts.release()
    tom.household = Household(tom.settings, tom.hub.append, past=held)
    await tom.household.recover(lambda _identity: True)
    for _ in range(10):
        held.parts.release()
    await until(lambda: settled(tom), tom)
    assert [each.begin for each in held.asked][-3:] == [8, 12, 16]
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 20


async def test_one_that_sleeps_in_the_middle_is_not_forgotten(tom: Profiled) -> None:
    """Put to sleep in order, as when others need its place: the mark stays, and whoever starts next goes on."""
    tom.household._past = Held(tom)
    await tom.send(event(1, userId="ann"))
    await define(tom, "orders", backfill=True)
    await tom.household.close()
    tom.household = Household(tom.settings, tom.hub.append, past=tom.past)
    await tom.household.recover(lambda _identity: True)
    assert tom.household.status() != []
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 1


async def test_a_warehouse_that_fails_costs_time_only(tom: Profiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away, broken, or with too little memory for so much at once: asked again, for less."""
    monkeypatch.setattr(filling, "_FIRST_WAIT_SECONDS", 0.0)
    held = Held(tom)
    tom.household._past = held
    await tom.send(*(event(number, userId="ann") for number in range(9)))
    held.failures = [NotReady("Away."), QueryRefused("Too much."), RuntimeError("Broken."), NotFound("Odd.")]
    for _ in range(100):
        held.parts.release()
    await define(tom, "orders", backfill=True)
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 9
    assert held.asked[2].limit < held.asked[1].limit


async def test_another_definition_in_the_middle_begins_anew(tom: Profiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that was read for the one before is not counted for it."""
    monkeypatch.setattr(filling, "_SPAN", 4)
    monkeypatch.setattr(filling, "_MOST_SPAN", 4)
    held = Held(tom)
    tom.household._past = held
    await tom.send(*(event(number, userId="ann", properties={"n": number}) for number in range(20)))
    await define(tom, "orders", backfill=True)
    held.parts.release()

    async def begun() -> bool:
        return (await computation(tom)).get("filled") == 4

    await until(begun, tom)
    await define(tom, "orders", where={"all": [{"property": "n", "is": "<", "value": 10}]}, backfill=True)
    for _ in range(20):
        held.parts.release()
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 10
    await define(tom, "orders", backfill=True)
    await tom.told("DELETE", "/api/identities/tom/computations/orders")
    for _ in range(20):
        held.parts.release()
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"] == {}


async def test_the_settings_may_ask_for_it(tom: Profiled, tmp_path: Path) -> None:
    """A definition in the file counts what was before its identity first woke with it, and cannot be changed over the API."""
    await tom.send(event(1, userId="ann"), event(2, userId="ann"))
    await tom.household.close()
    file = tmp_path / "computations.yaml"
    file.write_text(json.dumps({"identities": {"tom": [{**COUNT, "key": "orders", "backfill": True}]}}))
    settings = Settings(home=tom.settings.home, identity=IdentitySettings(computations_file=file))
    tom.household = Household(settings, tom.hub.append, past=tom.past)
    assert (await computation(tom))["declared"]
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 2
    for method, body in (("PUT", COUNT), ("DELETE", None)):
        answer = await tom.admin(method, "/api/identities/tom/computations/orders", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    await tom.send(event(3, userId="ann"))
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 3


async def test_it_can_be_posted_and_is_checked(tom: Profiled) -> None:
    """``POST`` takes the key from the body; `backfill` is true or false."""
    await tom.send(event(1, userId="ann"))
    path = "/api/identities/tom/computations"
    await tom.told("POST", path, {**COUNT, "key": "orders", "backfill": True})
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 1
    answer = await tom.admin("POST", path, {**COUNT, "key": "orders", "backfill": "yes"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_computation")
    assert (await tom.admin("POST", path, COUNT)).status_code == 400


async def test_the_command_waits(tom: Profiled, tmp_path: Path) -> None:
    """``--backfill`` counts, waits until that is done, and prints what there is then."""
    await tom.send(event(1, userId="ann"), event(2, userId="ann"))
    file = tmp_path / "orders.json"
    file.write_text(json.dumps({**COUNT, "key": "orders"}))

    async def keep() -> None:
        while True:
            await tom.household.keep()
            await asyncio.sleep(0)

    keeping = asyncio.create_task(keep())
    ran = await tom.cli("profile", "computations", "set", "tom", str(file), "--backfill", "--json")
    keeping.cancel()
    assert (ran.code, ran.rows[0]["filling"]) == (0, False), ran  # type: ignore[index,call-overload]
    await until(lambda: settled(tom), tom)
    assert (await tom.told("GET", "/api/profiles/tom/user_id:ann"))["computed"]["orders"]["value"] == 2
