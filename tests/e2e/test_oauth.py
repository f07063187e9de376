"""Unmodified Segment clients with their OAuth options alone, against a platform whose tokens live two seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from segment.analytics.client import Client  # type: ignore[import-untyped]
from segment.analytics.request import APIError  # type: ignore[import-untyped]

from tests.e2e.test_clients import CLIENTS, TYPES, stored
from tests.load.platform import Platform, running_platform
from tests.segment_do.oauth.signing import private_pem, public_pem

pytestmark = [
    pytest.mark.platform,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning"),
]
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="needs Node.js and npm"
)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """Clients renew a token after half of its life: here each second."""
    with running_platform(settings={"OAUTH__TOKEN_SECONDS": "2"}) as started:
        yield started


class Guarded:
    """A source that requires OAuth, with an app whose key is registered by the command line."""

    def __init__(self, platform: Platform, name: str, folder: Path) -> None:
        self.platform = platform
        self.name = name
        self.source = platform.create_source(name, name)
        self.public = folder / "public.pem"
        self.public.write_text(public_pem())
        self.private = folder / "private.pem"
        self.private.write_text(private_pem())
        self.app = self.cli("add", self.source["id"], "--key", str(self.public), "--kid", "k1", "--json")
        self.cli("require", self.source["id"], "--json")

    def cli(self, *args: str) -> dict[str, Any]:
        command = [str(self.platform.command[0]), "sources", "oauth", *args]
        ran = subprocess.run(command, env=self.platform.env, check=True, capture_output=True, text=True, timeout=60)
        told: dict[str, Any] = json.loads(ran.stdout)
        return told

    def revoke(self) -> None:
        self.cli("revoke", self.source["id"], self.app["id"], "--kid", "k1", "--json")

    def register_again(self) -> None:
        self.cli("add", self.source["id"], "--app", self.app["id"], "--key", str(self.public), "--kid", "k1", "--json")

    def python(self, **options: Any) -> Client:
        return Client(
            self.source["writeKey"],
            host=self.platform.url,
            oauth_client_id=self.app["id"],
            oauth_client_key=private_pem(),
            oauth_key_id="k1",
            oauth_auth_server=self.platform.url,
            **options,
        )

    def node(self) -> subprocess.Popen[str]:
        if not (CLIENTS / "node_modules").exists():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=CLIENTS, check=True, capture_output=True)
        return subprocess.Popen(
            ["node", "send_oauth.mjs", self.platform.url, self.source["writeKey"], self.app["id"], "k1", str(self.private)],
            cwd=CLIENTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tokens(self) -> int:
        """Tokens issued so far, to whomever."""
        return int(self.platform.api("GET", "/api/status")["ingress"]["issued_tokens"])

    def refused(self) -> int:
        """Requests for a token that got none."""
        return int(self.platform.api("GET", "/api/status")["ingress"]["refused_tokens"])

    def ids(self, events: int) -> list[str]:
        return sorted(row[0] for row in stored(self.platform, self.name, events))


def send(client: subprocess.Popen[str], message_id: str) -> str | None:
    """One event through the Node client; None when it was delivered, else why not."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(message_id + "\n")
    client.stdin.flush()
    told = json.loads(client.stdout.readline())
    assert told["messageId"] == message_id
    failed: str | None = told["failed"]
    return failed


def refusal(client: Client, message_id: str) -> APIError | None:
    """One event through the Python client; None when it was delivered."""
    try:
        client.track("ada", "E", message_id=message_id)
    except APIError as error:
        return error
    return None


def test_a_bare_key_is_refused(platform: Platform, tmp_path: Path) -> None:
    """The source requires OAuth: the same client without its options hears 401."""
    guarded = Guarded(platform, "oauth-bare", tmp_path)
    client = Client(guarded.source["writeKey"], host=platform.url, sync_mode=True)
    with pytest.raises(APIError) as refused:
        client.track("ada", "E")
    assert (refused.value.status, refused.value.code) == (401, "oauth_required")


@pytest.mark.parametrize(
    ("name", "options"), [("batched", {}), ("gzip", {"gzip": True}), ("single", {"sync_mode": True})]
)
def test_segment_analytics_python(platform: Platform, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    """All six calls arrive once, and go on arriving while tokens end and the client fetches new ones."""
    guarded = Guarded(platform, f"oauth-python-{name}", tmp_path)
    errors: list[Any] = []
    client = guarded.python(on_error=lambda *error: errors.append(error), **options)
    client.identify("ada", {"email": "py@example.com"})
    client.track("ada", "Order Completed", {"revenue": 12.5})
    client.page("ada", None, "Home", {"path": "/"})
    client.screen("ada", None, "Start")
    client.group("ada", "acme", {"plan": "pro"})
    client.alias("before", "ada")
    sent = 6
    first = guarded.tokens()
    deadline = time.monotonic() + 30
    while guarded.tokens() < first + 3:  # three tokens of two seconds: longer than the first one lives
        assert time.monotonic() < deadline
        client.track("ada", "Again", {"n": sent})
        sent += 1
        if not options.get("sync_mode"):
            client.flush()
    if not options.get("sync_mode"):
        client.join()
    assert errors == []
    rows = stored(platform, guarded.name, sent)
    assert len(rows) == len({row[0] for row in rows}) == sent
    assert sorted({row[1] for row in rows}) == TYPES
    client.oauth_manager.thread.cancel()


def test_a_revoked_key_stops_the_python_client(platform: Platform, tmp_path: Path) -> None:
    """Its events are refused and it gets no new token; with the key registered again the same client goes on."""
    guarded = Guarded(platform, "oauth-python-revoked", tmp_path)
    client = guarded.python(sync_mode=True)
    client.track("ada", "E", message_id="before")
    guarded.revoke()
    deadline = time.monotonic() + 30
    while (refused := refusal(client, "before")) is None:  # the revocation takes a moment to be heard of
        assert time.monotonic() < deadline
    assert refused.status == 401
    denied = refusal(client, "never")
    assert denied is not None
    assert (denied.status, denied.code) == (401, "invalid_client")
    guarded.register_again()
    while (refused := refusal(client, "after")) is not None:  # it may still hear what it was told before
        assert refused.status == 401
        assert time.monotonic() < deadline
    assert guarded.ids(2) == ["after", "before"]
    client.oauth_manager.thread.cancel()


@needs_node
def test_analytics_node(platform: Platform, tmp_path: Path) -> None:
    """Events arrive once while tokens end and are renewed; refused when the key is revoked, and taken again with it."""
    guarded = Guarded(platform, "oauth-node", tmp_path)
    with guarded.node() as client:
        sent = []
        assert send(client, "n0") is None
        sent.append("n0")
        first = guarded.tokens()
        deadline = time.monotonic() + 60
        while guarded.tokens() < first + 3:
            assert time.monotonic() < deadline
            message_id = f"n{len(sent)}"
            assert send(client, message_id) is None
            sent.append(message_id)
        guarded.revoke()
        while (failed := send(client, f"n{len(sent)}")) is None:
            assert time.monotonic() < deadline
            sent.append(f"n{len(sent)}")
        assert "401" in failed
        guarded.register_again()
        while send(client, "after") is not None:
            assert time.monotonic() < deadline
        sent.append("after")
        assert client.stdin is not None
        client.stdin.close()
        assert client.wait(30) == 0
    assert guarded.ids(len(sent)) == sorted(sent)


def test_clocks_that_differ_are_corrected_by_our_date(platform: Platform, tmp_path: Path) -> None:
    """A Python client whose clock is two minutes ahead is refused once, reads the Date, and gets its token."""
    guarded = Guarded(platform, "oauth-skew", tmp_path)
    client = guarded.python(sync_mode=True)
    client.oauth_manager.clock_skew = -120  # what it believes; nothing of the client is replaced
    before = guarded.refused()
    client.track("ada", "E", message_id="skewed")
    assert guarded.refused() == before + 1
    assert guarded.ids(1) == ["skewed"]
    client.oauth_manager.thread.cancel()


def test_a_token_is_for_its_source_alone(platform: Platform, tmp_path: Path) -> None:
    """A client that is given another source's write key is refused."""
    guarded = Guarded(platform, "oauth-mine", tmp_path)
    other = Guarded(platform, "oauth-other", tmp_path)
    guarded.source = {**guarded.source, "writeKey": other.source["writeKey"]}
    client = guarded.python(sync_mode=True)
    with pytest.raises(APIError) as refused:
        client.track("ada", "E")
    assert (refused.value.status, refused.value.code) == (401, "wrong_access_token")
    client.oauth_manager.thread.cancel()
