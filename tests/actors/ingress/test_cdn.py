"""What browsers and phones fetch before they send."""

from __future__ import annotations

from pathlib import Path

import pytest

from segment_do.settings import BrowserSettings
from tests.actors.inprocess import path

ORIGIN = {"origin": "https://shop.example"}


@pytest.mark.parametrize("spelled", ["/v1/projects/key-tom/settings", "/projects/key-tom/settings/"])
async def test_settings_send_events_to_where_they_were_fetched(tmp_path: Path, spelled: str) -> None:
    """The host that was asked is the host to send to; one integration, no telemetry to anyone, open to any origin."""
    async with path(tmp_path) as running:
        answer = await running.client.get(spelled, headers={**ORIGIN, "host": "data.shop.example:8080"})
        assert answer.status_code == 200
        told = answer.json()
        assert list(told["integrations"]) == ["Segment.io"]
        sending = told["integrations"]["Segment.io"]
        assert (sending["apiKey"], sending["apiHost"], sending["protocol"]) == (
            "key-tom",
            "data.shop.example:8080/v1",
            "http",
        )
        assert told["metrics"] == {"sampleRate": 0}
        assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
        assert int(answer.headers["content-length"]) == len(answer.content)
        for name in ("plan", "edgeFunction", "middlewareSettings", "metrics"):
            assert isinstance(told[name], dict)  # Kotlin cannot read lists there


async def test_settings_name_the_consent_categories(tmp_path: Path) -> None:
    """Where there are some; an object, as Kotlin reads it."""
    async with path(tmp_path, browser=BrowserSettings(consent_categories=["ads", "analytics"])) as running:
        told = (await running.client.get("/v1/projects/key-tom/settings")).json()
        assert told["consentSettings"] == {"allCategories": ["ads", "analytics"], "hasUnmappedDestinations": True}


async def test_settings_of_an_unknown_key_are_not_there(tmp_path: Path) -> None:
    """404 with a sentence, readable from a page."""
    async with path(tmp_path) as running:
        answer = await running.client.get("/v1/projects/who/settings", headers=ORIGIN)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
        assert "who" not in answer.json()["message"].split()


async def test_behind_a_proxy_the_public_address_is_told(tmp_path: Path) -> None:
    """Where the host that a proxy asks for is not the one that browsers know."""
    async with path(tmp_path, browser=BrowserSettings(public_url="https://data.shop.example/")) as running:
        sending = (await running.client.get("/v1/projects/key-tom/settings")).json()["integrations"]["Segment.io"]
        assert (sending["apiHost"], sending["protocol"]) == ("data.shop.example/v1", "https")


@pytest.mark.parametrize("host", ["a b", 'x"y', "<script>", "x/y"])
async def test_a_host_that_is_none_is_not_repeated(tmp_path: Path, host: str) -> None:
    """Nothing that could end up as an address or markup in somebody's page."""
    async with path(tmp_path) as running:
        answer = await running.client.get("/v1/projects/key-tom/settings", headers={"host": host})
        assert answer.status_code == 400 or host not in answer.text


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "standalone.js").write_text("/* the whole of it */" * 50)
    (folder / "ajs-destination.bundle.abc123.js").write_text("/* a chunk */")
    (tmp_path / "secret.js").write_text("never")
    return folder


@pytest.mark.parametrize(
    "spelled",
    [
        "/analytics.js/v1/key-tom/analytics.min.js",
        "/analytics.js/v1/key-tom/platform/analytics.min.js",
        "/news/key-tom.js",
        "/news/analytics.js/v1/key-tom/analytics.min.js",
    ],
)
async def test_the_script_is_where_snippets_look_for_it(tmp_path: Path, scripts: Path, spelled: str) -> None:
    """And under the operator's own path; gzipped where wanted, with a validator, open to any origin."""
    browser = BrowserSettings(script_directory=scripts, prefix="/news")
    async with path(tmp_path, browser=browser) as running:
        answer = await running.client.get(spelled, headers=ORIGIN)
        assert answer.status_code == 200
        assert answer.text == "/* the whole of it */" * 50
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-type"].startswith("application/javascript")
        assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
        again = await running.client.get(spelled, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = await running.client.get(spelled, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers


async def test_chunks_are_served_and_nothing_else_of_the_disk(tmp_path: Path, scripts: Path) -> None:
    """Only scripts of the folder, by their plain names."""
    async with path(tmp_path, browser=BrowserSettings(script_directory=scripts)) as running:
        chunk = "/analytics-next/bundles/ajs-destination.bundle.abc123.js"
        assert (await running.client.get(chunk)).text == "/* a chunk */"
        for wanted in ("../secret.js", "%2e%2e/secret.js", "..%2fsecret.js", "secret.js", ".js"):
            answer = await running.client.get(f"/analytics-next/bundles/{wanted}")
            assert answer.status_code == 404, wanted
        gone = await running.client.get("/next-integrations/integrations/x/1/x.dynamic.js.gz", headers=ORIGIN)
        assert (gone.status_code, gone.headers["access-control-allow-origin"]) == (404, ORIGIN["origin"])


async def test_everything_for_browsers_is_under_the_prefix_as_well(tmp_path: Path) -> None:
    """Settings there point there, and events sent there are stored."""
    async with path(tmp_path, browser=BrowserSettings(prefix="/news")) as running:
        told = (await running.client.get("/news/v1/projects/key-tom/settings")).json()
        assert told["integrations"]["Segment.io"]["apiHost"].endswith("/news/v1")
        body = {"writeKey": "key-tom", "userId": "u", "event": "E"}
        assert (await running.post("/news/v1/t", body, key=None)).status_code == 200
        await running.logged(1)
        assert (await running.client.get("/newsroom/v1/projects/key-tom/settings")).status_code == 404


async def test_preflights_of_what_is_fetched(tmp_path: Path) -> None:
    """A page may ask before it fetches; other methods are told what there is."""
    async with path(tmp_path) as running:
        url = "/v1/projects/key-tom/settings"
        asked = await running.client.options(url, headers={**ORIGIN, "access-control-request-headers": "x-own"})
        assert (asked.status_code, asked.headers["access-control-allow-headers"]) == (200, "x-own")
        assert (await running.client.post(url)).status_code == 405


@pytest.mark.parametrize(
    ("cookie", "kept"),
    [("", False), ("a=b; ajs_anonymous_id=known-1; c=d", True), ("ajs_anonymous_id=%22old-style%22", True)],
)
async def test_the_server_keeps_the_anonymous_id(tmp_path: Path, scripts: Path, cookie: str, kept: bool) -> None:
    """Where a domain is set: the id that is there for another year, or a new one; and no cache keeps it for others."""
    browser = BrowserSettings(script_directory=scripts, cookie_domain="shop.example")
    async with path(tmp_path, browser=browser) as running:
        headers = {"cookie": cookie} if cookie else {}
        answer = await running.client.get("/analytics.js/v1/key-tom/analytics.min.js", headers=headers)
        given = answer.headers["set-cookie"]
        name, _, rest = given.partition("=")
        assert name == "ajs_anonymous_id"
        assert "Domain=shop.example" in rest
        assert "Max-Age=31536000" in rest
        if kept:
            assert rest.split(";")[0] in cookie
        else:
            assert len(rest.split(";")[0]) == 36
        assert "private" in answer.headers["cache-control"]


async def test_without_a_domain_no_cookie_is_set(tmp_path: Path, scripts: Path) -> None:
    """Nobody is followed who was not asked to be."""
    async with path(tmp_path, browser=BrowserSettings(script_directory=scripts)) as running:
        answer = await running.client.get("/analytics.js/v1/key-tom/analytics.min.js")
        assert "set-cookie" not in answer.headers
        assert "public" in answer.headers["cache-control"]
