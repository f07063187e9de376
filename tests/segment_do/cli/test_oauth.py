from __future__ import annotations

from pathlib import Path

import pytest

from tests.segment_do.cli.api import Api
from tests.segment_do.cli.conftest import run


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "public.pem"
    path.write_text("-----BEGIN PUBLIC KEY-----\n")
    return path


def test_an_app_is_added_with_its_key(api: Api, key: Path) -> None:
    """`sources oauth add` sends the file's text and prints what the client needs: client id and key id."""
    api.add_source("Web")
    ran = run("sources", "oauth", "add", "src_1", "--name", "checkout", "--key", str(key))
    assert ran.code == 0
    assert "client id  oap_1" in ran.out
    assert "key id     key_made" in ran.out
    assert api.apps["oap_1"]["keys"][0]["publicKey"] == key.read_text()
    ran = run("sources", "oauth", "add", "src_1", "--app", "oap_1", "--key", str(key), "--kid", "k2", "--json")
    assert [each["kid"] for each in ran.rows[0]["keys"]] == ["key_made", "k2"]  # type: ignore[attr-defined]


def test_apps_are_listed(api: Api, key: Path) -> None:
    """One object a line with --json, a table without; no apps, no data."""
    api.add_source("Web")
    ran = run("sources", "oauth", "list", "src_1")
    assert (ran.code, ran.out) == (0, "")
    assert "There are no" in ran.err
    for name in ("a", "b"):
        run("sources", "oauth", "add", "src_1", "--name", name, "--key", str(key))
    assert [row["name"] for row in run("sources", "oauth", "list", "src_1", "--json").rows] == ["a", "b"]
    assert "key_made" in run("sources", "oauth", "list", "src_1").out


def test_a_key_is_revoked_or_the_whole_app(api: Api, key: Path) -> None:
    """`revoke --kid` takes one key away, `revoke` the app."""
    api.add_source("Web")
    run("sources", "oauth", "add", "src_1", "--key", str(key), "--kid", "k1")
    assert run("sources", "oauth", "revoke", "src_1", "oap_1", "--kid", "k1").out == "Revoked the key k1 of oap_1.\n"
    assert api.apps["oap_1"]["keys"] == []
    assert run("sources", "oauth", "revoke", "src_1", "oap_1", "--json").rows == [{"deleted": "oap_1"}]
    assert run("sources", "oauth", "revoke", "src_1", "oap_1").code == 1


def test_a_source_requires_it(api: Api) -> None:
    """`require` and `require --off`."""
    api.add_source("Web")
    assert run("sources", "oauth", "require", "src_1").out == "src_1 takes access tokens only.\n"
    assert api.sources["src_1"]["requireOAuth"] is True
    assert run("sources", "oauth", "require", "src_1", "--off", "--json").rows[0]["requireOAuth"] is False


def test_a_key_file_that_is_not_there(api: Api, tmp_path: Path) -> None:
    """One sentence, exit code 1, no request."""
    before = len(api.requests)
    ran = run("sources", "oauth", "add", "src_1", "--key", str(tmp_path / "nowhere"))
    assert (ran.code, ran.out) == (1, "")
    assert "cannot be read" in ran.err
    assert len(api.requests) == before
