"""OAuth over real sockets: tokens for assertions, events for tokens, and an end to both as soon as it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.control.model import Source
from actors.control.store import ControlStore
from actors.ingress import bearer
from actors.ingress.bearer import Bearers
from actors.ingress.keys import Keys, KeySet
from segment_do.errors import NotReady, SettingsError, Unauthorized
from segment_do.home import Home
from segment_do.oauth import SCOPE, App, Redemptions, Verified, issue_token
from segment_do.settings import OAuthSettings
from tests.actors.inprocess import NoPlatform, RunningPath
from tests.segment_do.oauth.signing import app, claims, form, private_pem, public_pem, sign
from tests.waiting import until

EVENT = {"type": "track", "event": "E", "userId": "ada", "messageId": "m1"}


class ControlHere(NoPlatform):
    """The control API in front of a real store, in this process."""

    def __init__(self, store: ControlStore, redemptions: Redemptions) -> None:
        super().__init__()
        self.store = store
        self.require_oauth = store.require_oauth
        self.oauth_apps = store.oauth_apps
        self.create_oauth_app = store.create_oauth_app
        self.add_oauth_key = store.oauth.add_key
        self.delete_oauth_key = store.oauth.delete_key
        self.enable_oauth_app = store.oauth.enable
        self.delete_oauth_app = store.oauth.delete
        self.redemptions = redemptions

    async def redeem(self, app_id: str, jti: str, expires_at: float) -> None:
        self.redemptions.redeem(app_id, jti, expires_at, time.time())


class Guarded(RunningPath):
    """A path whose sources and apps come from a control store."""

    store: ControlStore
    source: Source
    other: Source
    app: dict[str, Any]

    async def start(self) -> None:
        self.store = await ControlStore.open(self.settings.paths.control)
        self.platform = ControlHere(self.store, Redemptions(self.settings.oauth.tokens_per_minute))
        self.source = await self.store.create_source("web", "tom")
        self.other = await self.store.create_source("app", "ralph")
        await super().start()
        self.app = await self.api("POST", "", name="an app", publicKey=public_pem(), kid="k1")

    async def stop(self) -> None:
        await super().stop()
        await self.store.close()

    async def api(self, method: str, below: str, **told: Any) -> Any:
        answer = await self.admin(method, f"/api/sources/{self.source.id}/oauth-apps{below}", told)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def admin(self, method: str, path: str, told: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.settings.paths.token()}"}
        return await self.client.request(method, path, json=told or None, headers=headers)

    async def ask(self, assertion: str | None = None, **changed: str) -> httpx.Response:
        return await self.client.post("/token", data=form(assertion or self.assertion(), **changed))

    def assertion(self, kid: str = "k1", name: str = "first", now: float | None = None, **changed: Any) -> str:
        return sign(claims(now or time.time(), sub=self.app["id"], **changed), kid, name)

    async def token(self) -> str:
        answer = await self.ask()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def track(self, token: str | None, key: str | None = None, message_id: str = "m1") -> httpx.Response:
        """One event with a token, or else with the bare key."""
        key = key or self.source.write_key
        body = {"batch": [{**EVENT, "messageId": message_id}], "writeKey": key}
        if token is None:
            return await self.post("/v1/batch", body, key=key)
        return await self.post("/v1/batch", body, key=None, headers={"authorization": f"Bearer {token}".encode()})

    async def require(self, required: bool = True) -> None:
        answer = await self.admin("PATCH", f"/api/sources/{self.source.id}", {"requireOAuth": required})
        assert answer.json()["requireOAuth"] is required
        await self.heard()

    async def heard(self) -> None:
        """The replica has taken over what the store has."""
        version = await self.store.wait_newer(-1, 0.0)
        await until(lambda: self.replica.keys.version >= version)

    async def _keys(self, since: int) -> KeySet:
        if not self.up:
            raise NotReady("The control actor is away.")
        version = await self.store.wait_newer(since, 20.0 if since >= 0 else 0.0)
        return KeySet(version, await self.store.sources(), await self.store.oauth.all())


@contextlib.asynccontextmanager
async def guarded(home: Path, **oauth: Any) -> AsyncIterator[Guarded]:
    running = Guarded(home, oauth=OAuthSettings(**oauth))
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def test_an_assertion_buys_a_token_and_a_token_stores_events(tmp_path: Path) -> None:
    """The whole way, at a source that requires it: 200 with what clients read, then 200 for the events, each once."""
    async with guarded(tmp_path) as running:
        await running.require()
        answer = await running.ask()
        told = answer.json()
        assert (answer.status_code, told["token_type"], told["expires_in"], told["scope"]) == (
            200,
            "Bearer",
            3600,
            SCOPE,
        )
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
        for number in range(3):  # the first is looked at closely, the others take the short way
            stored = await running.track(told["access_token"], message_id=f"m{number}")
            assert (stored.status_code, stored.json()) == (200, {"success": True})
        records = await running.logged(3)
        assert [record.message_id for record in records] == ["m0", "m1", "m2"]
        assert {record.source_id for record in records} == {running.source.id}
        assert (tmp_path / "oauth_secret").stat().st_mode & 0o777 == 0o600
        text = (await running.client.get("/metrics")).text
        assert "segment_do_issued_tokens_total 1.0" in text


async def test_every_answer_of_token_has_a_date_and_the_names_of_oauth(tmp_path: Path) -> None:
    """Clients correct their clocks by the one and decide by the other; a thread of the Python client dies without them."""
    async with guarded(tmp_path) as running:
        late, early = time.time() - 120, time.time() + 120
        for answer, status, error, code in (
            (await running.ask(running.assertion(now=late)), 400, "invalid_request", "assertion_expired"),
            (await running.ask(running.assertion(now=early)), 400, "invalid_request", "assertion_too_early"),
            (await running.ask("x"), 400, "invalid_request", "malformed_assertion"),
            (await running.ask(grant_type="password"), 400, "unsupported_grant_type", "unsupported_grant_type"),
            (await running.ask(scope="admin"), 400, "invalid_scope", "unknown_scope"),
            (await running.ask(running.assertion("k9")), 401, "invalid_client", "invalid_client"),
            (await running.ask(running.assertion(name="second")), 401, "invalid_client", "invalid_client"),
            (await running.ask(client_id="somebody"), 401, "invalid_client", "invalid_client"),
            (await running.client.get("/token"), 405, "invalid_request", "method_not_allowed"),
            (await running.client.post("/token", content=b"x" * 70_000), 400, "invalid_request", "body_too_large"),
        ):
            told = answer.json()
            assert (answer.status_code, told["error"], told["code"]) == (status, error, code)
            assert told["error_description"] == told["message"]
            assert answer.headers["date"].endswith("GMT")
            assert answer.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in answer.headers
        running.up = False
        away = await running.ask(sign(claims(time.time(), sub="oap_unknown")))
        assert (away.status_code, away.json()["error"]) == (503, "temporarily_unavailable")
        assert away.headers["retry-after"] == away.headers["x-ratelimit-reset"]


async def test_an_assertion_is_used_once(tmp_path: Path) -> None:
    """The second time it is refused, whoever sends it."""
    async with guarded(tmp_path) as running:
        assertion = running.assertion()
        assert (await running.ask(assertion)).status_code == 200
        again = await running.ask(assertion)
        assert (again.status_code, again.json()["error"], again.json()["code"]) == (401, "invalid_client", "replayed")


async def test_an_app_has_a_rate(tmp_path: Path) -> None:
    """429 with both headers in seconds; the other clients' ways of asking for events are not held up."""
    async with guarded(tmp_path, tokens_per_minute=2) as running:
        token = await running.token()
        await running.token()
        limited = await running.ask()
        assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(limited.headers["retry-after"]) <= 30
        assert limited.headers["x-ratelimit-reset"] == limited.headers["retry-after"]
        assert (await running.track(token)).status_code == 200


async def test_a_source_that_requires_oauth_refuses_its_bare_key(tmp_path: Path) -> None:
    """In the header, in the body, and also where that key was let in a moment before; other sources go on as they were."""
    async with guarded(tmp_path) as running:
        assert (await running.track(None)).status_code == 200
        await running.require()
        for answer in (
            await running.track(None),
            await running.post("/v1/track", {**EVENT, "writeKey": running.source.write_key}, key=None),
            await running.post("/v1/t", {**EVENT, "writeKey": running.source.write_key}, key=None),
            await running.post(f"/v1/track?writeKey={running.source.write_key}", EVENT, key=None),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "oauth_required")
            assert running.source.write_key not in answer.text
        stored = running.replica.door.counts.events
        pixel = await running.client.get(f"/v1/pixel/track?writeKey={running.source.write_key}&userId=u&event=E")
        assert (pixel.status_code, running.replica.door.counts.events) == (200, stored)
        assert (await running.track(None, running.other.write_key)).status_code == 200
        await running.require(False)
        assert (await running.track(None)).status_code == 200


async def test_a_token_that_is_no_good_is_401_where_it_is_required(tmp_path: Path) -> None:
    """Not ours, tampered with, or another source's: each has its code. Elsewhere the key is enough, whatever is beside it."""
    async with guarded(tmp_path) as running:
        token = await running.token()
        for bad in ("x", token[:-1], "é"):
            assert (await running.track(bad)).status_code == 200
        assert (await running.track(token, running.other.write_key)).status_code == 200
        await running.require()
        await running.admin("PATCH", f"/api/sources/{running.other.id}", {"requireOAuth": True})
        await running.heard()
        for bad, key, code in (
            ("x", None, "invalid_access_token"),
            (token[:-1], None, "invalid_access_token"),
            (token, running.other.write_key, "wrong_access_token"),
            (token, "nobody", "unknown_write_key"),
        ):
            assert (await running.track(token)).status_code == 200  # so that it is remembered
            answer = await running.track(bad, key)
            assert (answer.status_code, answer.json()["code"]) == (401, code)
            assert token not in answer.text


async def test_an_expired_token_is_401(tmp_path: Path) -> None:
    """Also one that was good, and remembered as such, a moment ago."""
    async with guarded(tmp_path) as running:
        await running.require()
        key = running.app["keys"][0]
        registered = (await running.store.oauth_apps(running.source.id))[0]
        verified = Verified(registered, key["kid"], key["fingerprint"], "j", 0.0)
        secret = running.settings.paths.ensure_oauth_secret()
        old = issue_token(secret, verified, SCOPE, time.time() - 100, 60)
        answer = await running.track(old)
        assert (answer.status_code, answer.json()["code"]) == (401, "expired_access_token")


@pytest.mark.parametrize(
    ("method", "below", "told"),
    [
        ("DELETE", "/{app}/keys/k1", {}),
        ("DELETE", "/{app}", {}),
        ("PATCH", "/{app}", {"enabled": False}),
    ],
    ids=["key", "app", "disabled"],
)
async def test_what_is_revoked_ends_at_once(tmp_path: Path, method: str, below: str, told: dict[str, Any]) -> None:
    """No new token, and those there are are refused, also where they were remembered as good."""
    async with guarded(tmp_path) as running:
        await running.require()
        token = await running.token()
        for _ in range(2):
            assert (await running.track(token)).status_code == 200
        await running.api(method, below.format(app=running.app["id"]), **told)
        await running.heard()
        refused = await running.track(token)
        assert (refused.status_code, refused.json()["code"]) == (401, "revoked_access_token")
        assert (await running.ask()).status_code == 401


async def test_a_key_is_changed_without_a_gap(tmp_path: Path) -> None:
    """A second key beside the first; then the first goes, and what the second has bought stays. A kid that comes back with
    another key does not bring old tokens back."""
    async with guarded(tmp_path) as running:
        await running.require()
        first = await running.token()
        added = await running.api("POST", f"/{running.app['id']}/keys", publicKey=public_pem("second"), kid="k2")
        assert [key["kid"] for key in added["keys"]] == ["k1", "k2"]
        second = (await running.ask(running.assertion("k2", "second"))).json()["access_token"]
        await running.api("DELETE", f"/{running.app['id']}/keys/k1")
        await running.api("POST", f"/{running.app['id']}/keys", publicKey=public_pem("third"), kid="k1")
        await running.heard()
        assert (await running.track(first)).json()["code"] == "revoked_access_token"
        assert (await running.track(second)).status_code == 200
        (listed,) = (await running.api("GET", ""))["apps"]
        assert [key["kid"] for key in listed["keys"]] == ["k2", "k1"]


async def test_a_new_app_works_at_once(tmp_path: Path) -> None:
    """Before any replica has heard of it: it is looked up before it is called unknown, and so is the app of a token."""
    async with guarded(tmp_path) as running:
        await running.require()
        fresh = await running.store.create_oauth_app(running.source.id, "new", public_pem("second"), "k")
        answer = await running.ask(sign(claims(time.time(), sub=fresh.id), "k", "second"))
        assert answer.status_code == 200
        assert (await running.track(answer.json()["access_token"])).status_code == 200


async def test_tokens_go_on_working_when_control_is_away(tmp_path: Path) -> None:
    """Checking a token asks nobody."""
    async with guarded(tmp_path) as running:
        await running.require()
        token = await running.token()
        running.up = False
        assert (await running.track(token)).status_code == 200


async def test_the_api_says_what_is_wrong(tmp_path: Path) -> None:
    """Statuses and codes; the admin token is needed; a private key is not taken."""
    async with guarded(tmp_path) as running:
        at = f"/api/sources/{running.source.id}/oauth-apps"
        assert (await running.client.get(at)).status_code == 401
        for method, path, told, status, code in (
            ("POST", at, {"name": "x", "publicKey": private_pem()}, 400, "private_key"),
            ("POST", at, {"name": "x", "publicKey": "x"}, 400, "unusable_key"),
            ("POST", at, {"publicKey": public_pem()}, 400, "invalid_request"),
            ("POST", f"{at}/{running.app['id']}/keys", {"publicKey": public_pem(), "kid": "k1"}, 409, "conflict"),
            ("POST", f"{at}/oap_nobody/keys", {"publicKey": public_pem()}, 404, "not_found"),
            ("DELETE", f"{at}/{running.app['id']}/keys/k9", None, 404, "not_found"),
            ("GET", "/api/sources/src_nobody/oauth-apps", None, 404, "not_found"),
            ("PATCH", "/api/sources/src_nobody", {"requireOAuth": True}, 404, "not_found"),
        ):
            answer = await running.admin(method, path, told)
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_two_replicas_take_each_others_tokens(tmp_path: Path) -> None:
    """The secret is made once, whoever asks first, and read by all; what is not one is said."""
    homes = [Home(tmp_path) for _ in range(8)]
    secrets = await asyncio.gather(*(asyncio.to_thread(home.ensure_oauth_secret) for home in homes))
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 32
    assert [each.name for each in tmp_path.iterdir()] == ["oauth_secret"]
    (tmp_path / "oauth_secret").write_text("short")
    with pytest.raises(SettingsError):
        homes[0].ensure_oauth_secret()


class Judged:
    """Bearers at a clock of the test's."""

    def __init__(self, registered: App) -> None:
        self.now = 1000.0
        self.source = Source("src_tom", "web", "tom", "key-tom", "", require_oauth=True)
        self.version = 1
        self.registered = [registered]
        self.keys = Keys(self._fetch, refresh_seconds=0.0)
        self.bearers = Bearers(self.keys, b"s" * 32, clock=lambda: self.now)
        self.body = b'{"writeKey": "key-tom"}'

    async def _fetch(self, _since: int) -> KeySet:
        return KeySet(self.version, [self.source], self.registered)

    def header(self) -> bytes:
        known = self.registered[0]
        verified = Verified(known, "k1", known.keys[0].fingerprint, "j", 0.0)
        return b"Bearer " + issue_token(b"s" * 32, verified, SCOPE, self.now, 60).encode()


async def test_a_remembered_token_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its end, at any change of the control store, and at the bound; it is remembered for its own source alone."""
    judged = Judged(app())
    await judged.keys.resolve("key-tom")
    header = judged.header()
    assert judged.bearers.source(header, judged.body) is None
    await judged.bearers.admit(judged.source, header)
    assert judged.bearers.source(header, judged.body) == judged.source
    assert judged.bearers.source(header, b'{"writeKey": "nobody"}') is None
    assert judged.bearers.source(header, b"{}") is None
    assert judged.bearers.source(header, b"no json") is None

    judged.version += 1
    await judged.keys.resolve("unknown")
    assert judged.bearers.source(header, judged.body) is None
    await judged.bearers.admit(judged.source, header)
    assert judged.bearers.source(header, judged.body) == judged.source

    monkeypatch.setattr(bearer, "_MOST_TOKENS", 2)
    for _ in range(5):
        judged.now += 1
        await judged.bearers.admit(judged.source, judged.header())
        assert len(judged.bearers._good) <= 2

    await judged.bearers.admit(judged.source, header)
    judged.now += 66
    assert judged.bearers.source(header, judged.body) is None
    with pytest.raises(Unauthorized) as refused:
        await judged.bearers.admit(judged.source, header)
    assert refused.value.code == "expired_access_token"
