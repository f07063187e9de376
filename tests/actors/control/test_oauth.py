"""OAuth apps in the control store: they survive, followers hear of every change, and nothing of them is left behind."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from actors.control.store import ControlStore
from segment_do.errors import Conflict, InvalidRequest, NotFound
from segment_do.oauth import SCOPE
from tests.segment_do.oauth.signing import public_pem


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ControlStore]:
    opened = await ControlStore.open(tmp_path / "control.db")
    yield opened
    await opened.close()


async def test_apps_survive_a_restart(tmp_path: Path) -> None:
    """An app, its keys, and what its source requires are there again, in order."""
    store = await ControlStore.open(tmp_path / "control.db")
    source = await store.create_source("tom", "tom")
    app = await store.create_oauth_app(source.id, "  checkout ", public_pem())
    app = await store.oauth.add_key(source.id, app.id, public_pem("second"), "k2")
    app = await store.oauth.enable(source.id, app.id, False)
    assert (await store.require_oauth(source.id, True)).require_oauth
    await store.close()
    store = await ControlStore.open(tmp_path / "control.db")
    assert await store.oauth_apps(source.id) == [app]
    assert (app.name, app.source_id, app.scopes, app.enabled) == ("checkout", source.id, (SCOPE,), False)
    assert [key.kid for key in app.keys] == [f"key_{app.keys[0].fingerprint[:16]}", "k2"]
    assert (await store.source(source.id)).require_oauth
    await store.close()


async def test_a_store_of_before_is_taken_over(tmp_path: Path) -> None:
    """A file that knows nothing of OAuth opens, with its sources as they were."""
    store = await ControlStore.open(tmp_path / "control.db")
    source = await store.create_source("tom", "tom")
    await store.close()
    with sqlite3.connect(tmp_path / "control.db") as database:
        for table in ("oauth_keys", "oauth_apps", "oauth_required"):
            database.execute(f"DROP TABLE {table}")
    database.close()
    store = await ControlStore.open(tmp_path / "control.db")
    assert await store.sources() == [source]
    assert await store.oauth_apps(source.id) == []
    await store.close()


async def test_followers_hear_of_every_change(store: ControlStore) -> None:
    """Each change raises the version: also what a running replica has to refuse from now on."""
    source = await store.create_source("tom", "tom")
    app = await store.create_oauth_app(source.id, "app", public_pem(), "k1")
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: store.create_oauth_app(source.id, "app", public_pem(), "k1"),
        lambda: store.oauth.add_key(source.id, app.id, public_pem("second"), "k2"),
        lambda: store.oauth.delete_key(source.id, app.id, "k1"),
        lambda: store.oauth.enable(source.id, app.id, False),
        lambda: store.oauth.delete(source.id, app.id),
        lambda: store.require_oauth(source.id, True),
        lambda: store.require_oauth(source.id, False),
    ]
    for change in changes:
        known = await store.wait_newer(-1, 0.0)
        await change()
        assert await store.wait_newer(known, 0.0) > known


async def test_keys_come_and_go(store: ControlStore) -> None:
    """A kid is an app's own and taken once; revoked it is free again; the other keys stay."""
    source = await store.create_source("tom", "tom")
    app = await store.create_oauth_app(source.id, "app", public_pem(), "k1")
    other = await store.create_oauth_app(source.id, "other", public_pem(), "k1")
    with pytest.raises(Conflict):
        await store.oauth.add_key(source.id, app.id, public_pem("second"), "k1")
    await store.oauth.add_key(source.id, app.id, public_pem("second"), "k2")
    assert [key.kid for key in (await store.oauth.delete_key(source.id, app.id, "k1")).keys] == ["k2"]
    with pytest.raises(NotFound):
        await store.oauth.delete_key(source.id, app.id, "k1")
    await store.oauth.add_key(source.id, app.id, public_pem(), "k1")
    assert [[key.kid for key in each.keys] for each in await store.oauth_apps(source.id)] == [["k2", "k1"], ["k1"]]
    await store.oauth.delete(source.id, app.id)
    assert await store.oauth_apps(source.id) == [other]


async def test_an_app_is_its_sources_own(store: ControlStore) -> None:
    """Through another source, or none, it cannot be seen or changed."""
    source = await store.create_source("tom", "tom")
    other = await store.create_source("ralph", "ralph")
    app = await store.create_oauth_app(source.id, "app", public_pem(), "k1")
    assert await store.oauth_apps(other.id) == []
    for wrong in (
        store.oauth_apps("src_nobody"),
        store.create_oauth_app("src_nobody", "app", public_pem()),
        store.require_oauth("src_nobody", True),
        store.oauth.add_key(other.id, app.id, public_pem("second"), None),
        store.oauth.delete_key(other.id, app.id, "k1"),
        store.oauth.enable(other.id, app.id, False),
        store.oauth.delete(other.id, app.id),
    ):
        with pytest.raises(NotFound):
            await wrong
    assert await store.oauth_apps(source.id) == [app]


async def test_a_source_takes_its_apps_along(store: ControlStore) -> None:
    """After a source is deleted nothing of its apps, keys and requirement is left."""
    source = await store.create_source("tom", "tom")
    await store.create_oauth_app(source.id, "app", public_pem())
    await store.require_oauth(source.id, True)
    await store.delete_source(source.id)
    assert await store.oauth.all() == []
    for table in ("oauth_apps", "oauth_keys", "oauth_required"):
        assert list(await store._database.execute_fetchall(f"SELECT * FROM {table}")) == []


async def test_there_is_a_bound(store: ControlStore) -> None:
    """Keys of an app: every replica keeps all of them in memory."""
    source = await store.create_source("tom", "tom")
    app = await store.create_oauth_app(source.id, "app", public_pem(), "k0")
    for number in range(1, 16):
        await store.oauth.add_key(source.id, app.id, public_pem(), f"k{number}")
    with pytest.raises(InvalidRequest):
        await store.oauth.add_key(source.id, app.id, public_pem(), "k16")
    with pytest.raises(InvalidRequest):
        await store.create_oauth_app(source.id, "a\nb", public_pem())
