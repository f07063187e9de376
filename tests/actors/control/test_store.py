"""The control store: sources, keys and destinations survive, and followers hear of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.control.model import slug
from actors.control.store import ControlStore
from segment_do.errors import Conflict, InvalidRequest, NotFound


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ControlStore]:
    opened = await ControlStore.open(tmp_path / "control.db")
    yield opened
    await opened.close()


async def test_sources_survive_a_restart(tmp_path: Path) -> None:
    """What was created is there again, with its key; the file is the owner's alone."""
    store = await ControlStore.open(tmp_path / "control.db")
    made = await store.create_source("Web site", None)
    await store.close()
    assert (tmp_path / "control.db").stat().st_mode & 0o077 == 0
    store = await ControlStore.open(tmp_path / "control.db")
    assert await store.sources() == [made]
    assert (made.identity, len(made.write_key)) == ("web-site", 32)
    await store.close()


async def test_a_name_is_taken_once_and_ensure_returns_it(store: ControlStore) -> None:
    """The same name and identity again is a conflict; with ensure it is the one there is, however many ask at once."""
    first = await store.create_source("tom", "tom")
    with pytest.raises(Conflict):
        await store.create_source("tom", "tom")
    again = await asyncio.gather(*(store.create_source("tom", "tom", ensure=True) for _ in range(10)))
    assert set(again) == {first}
    made = await asyncio.gather(*(store.create_source("new", "new", ensure=True) for _ in range(10)))
    assert len(set(made)) == 1
    assert len(await store.sources()) == 2


async def test_rotating_changes_the_key_alone(store: ControlStore) -> None:
    """The id stays, the old key is gone."""
    made = await store.create_source("tom", "tom")
    renewed = await store.rotate(made.id)
    assert (renewed.id, renewed.write_key != made.write_key) == (made.id, True)
    assert await store.sources() == [renewed]
    with pytest.raises(NotFound):
        await store.rotate("src_nobody")


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\nb", "\ud83d"])
async def test_odd_names_are_refused(store: ControlStore, name: str) -> None:
    """A name that cannot be shown or stored is a clear error."""
    with pytest.raises(InvalidRequest):
        await store.create_source(name, None)


async def test_followers_hear_of_every_change(store: ControlStore) -> None:
    """A long poll ends with the change, and at once where one was missed; without any it ends in time."""
    known = await store.wait_newer(-1, 0.0)
    waiting = asyncio.create_task(store.wait_newer(known, 30.0))
    await asyncio.sleep(0)
    source = await store.create_source("tom", "tom")
    assert await waiting > known
    assert await store.wait_newer(known, 30.0) == await waiting
    assert await store.wait_newer(await waiting, 0.01) == await waiting
    await store.delete_source(source.id)
    assert await store.wait_newer(await waiting, 30.0) > await waiting


async def test_destinations_come_and_go(store: ControlStore) -> None:
    """A destination for a source that is not there is refused; one that is removed is gone."""
    with pytest.raises(NotFound):
        await store.add_destination("webhook", "src_nobody", None, {"url": "http://x"})
    added = await store.add_destination("webhook", None, "My hook", {"url": "http://x", "secret": "s"})
    assert await store.destinations() == [added]
    assert "secret" not in repr(added) or "s'" not in repr(added)
    computed = await store.add_destination("webhook", "computed", None, {"url": "http://x"})
    assert [each.source_id for each in await store.destinations()] == [None, "computed"]
    for each in (added, computed):
        await store.delete_destination(each.id)
    assert await store.destinations() == []
    with pytest.raises(NotFound):
        await store.delete_destination(added.id)


def test_a_slug_is_an_identifier() -> None:
    """Any name gives a lowercase ASCII identifier."""
    assert [slug(name) for name in ("Web Site", "Größe 9!", "🙂", "--a--")] == ["web-site", "groe-9", "source", "a"]
