"""The page at /demo in a real browser, against the running platform: every control, what is stored, and how it looks."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Chromium, Page, Visitor
from tests.browser.recorder import recording
from tests.load.platform import Platform

pytestmark = pytest.mark.platform

AUDIT = Path(__file__).with_name("page_audit.js").read_text()
IMAGE = '<img src=x onerror="window.hit = 1">'
SCRIPT = '"><script>window.hit = 2</script>'
LONG = "a-word-without-an-end-" * 4
STORED = "document.querySelectorAll('.steps span:nth-child(3).done').length"
OWN_PAGE_VIEW = """[...document.querySelectorAll("#events > li")].some((row) =>
    row.querySelector(".steps").textContent === "queuedaccepted 200stored" && row.querySelectorAll(".done").length === 3)"""
PLACES = """[...document.querySelectorAll("h2, .card, #order")].map((element) => {
    const box = element.getBoundingClientRect();
    return [Math.round(box.left), Math.round(box.top + scrollY), Math.round(box.height)];
})"""


COLOURS = """async (encoded) => {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], {type: "image/png"}));
    const {width, height} = bitmap;
    const canvas = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
    canvas.drawImage(bitmap, 0, 0);
    const all = new Set(), bands = [];
    let sum = 0;
    for (let top = 0; top < height; top += 300) {
        const {data} = canvas.getImageData(0, top, width, Math.min(300, height - top));
        const band = new Set();
        for (let at = 0; at < data.length; at += 4) {
            band.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
            sum += (data[at] + data[at + 1] + data[at + 2]) / 3;
        }
        bands.push(band.size);
        for (const colour of band) all.add(colour);
    }
    return {width, height, colours: all.size, emptiest: Math.min(...bands), brightness: sum / (width * height)};
}"""


@pytest.fixture
def visitor(chromium: Chromium, platform: Platform) -> Iterator[Visitor]:
    """Its pages asked no other host for anything, and nothing went wrong in them."""
    someone = Visitor(chromium)
    someone.allow("clipboard-read", "clipboard-write")
    yield someone
    hosts, errors, console = someone.hosts(), someone.errors(), someone.console()
    someone.close()
    assert hosts == {platform.url.removeprefix("http://")}
    assert errors == []
    assert console == []


class Demo:
    """The page, opened, with its first page view stored."""

    def __init__(self, visitor: Visitor, platform: Platform) -> None:
        self.page: Page = visitor.page()
        self.page.show(1440, 900, "light")
        self.page.goto(f"{platform.url}/demo")
        self.page.see(f"document.querySelector('#status').classList.contains('on') && {OWN_PAGE_VIEW}")
        # Shown from the moment it is opened; an earlier test's events may be there as well.
        self.before = int(self.page.evaluate(STORED))

    def stored(self, more: int) -> None:
        """Wait until so many more events are shown as stored, each with the platform's 200 told by the SDK."""
        self.page.see(f"{STORED} === {self.before + more}")

    def shown(self) -> list[dict[str, Any]]:
        """Every event that the page shows, as it says it is stored, newest first."""
        found: list[dict[str, Any]] = self.page.evaluate(
            """[...document.querySelectorAll("#events > li")].map((row) => ({
                id: row.querySelector(".id").textContent,
                steps: [...row.querySelectorAll(".steps span")].map(({textContent}) => textContent),
                done: row.querySelectorAll(".steps .done").length,
                ...JSON.parse(row.querySelector("pre")?.textContent ?? "{}"),
            }))"""
        )
        return found

    def answers_its_query(self, platform: Platform) -> None:
        """Wait until the table has what the query that is shown beside it gives now."""
        rows = platform.sql(self.text("#query"))
        assert rows
        wanted = [
            ["-" if value is None else value if isinstance(value, str) else f"{value:g}" for value in row]
            for row in rows
        ]
        told = (
            "[...document.querySelectorAll('#result tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        self.page.see(f"JSON.stringify({told}) === JSON.stringify({json.dumps(wanted)})")

    def text(self, selector: str) -> str:
        found: str = self.page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
        return found


def test_every_control_stores_its_event_once_and_shows_it(platform: Platform, visitor: Visitor) -> None:
    """Clicked through from top to bottom, with markup in every field; what is shown is what SQL has, and nothing has moved."""
    begun = platform.sql('SELECT coalesce(max("offset"), -1) FROM events')[0][0]
    demo = Demo(visitor, platform)
    page = demo.page
    page.evaluate("document.fonts.ready.then(() => true)")
    places = page.evaluate(PLACES)
    anonymous = demo.text("#anonymous-id")
    expected: list[tuple[str, str]] = [("page", "Start")]

    for product in ("notebook", "mug", "pencil"):
        page.click(f"[data-product={product}]")
        expected.append(("track", "Product Added"))
    assert demo.text("#cart") == "3 items, €31"
    page.click("#order")
    expected.append(("track", "Order Completed"))
    assert demo.text("#cart") == "The cart is empty."
    page.fill("#identify [name=id]", "ada<b>")
    page.fill("#identify [name=name]", IMAGE)
    page.fill("#identify [name=email]", SCRIPT)
    page.click("#identify [type=submit]")
    expected.append(("identify", ""))
    page.fill("#group [name=id]", "<i>acme</i>")
    page.click("#group [type=submit]")
    expected.append(("group", ""))
    page.fill("#page [name=category]", LONG)
    page.fill("#page [name=name]", IMAGE)
    page.click("#page [type=submit]")
    expected.append(("page", IMAGE))
    page.click("#newsletter [type=submit]")
    expected.append(("track", "Newsletter Subscribed"))
    page.click("#link")
    expected.append(("track", "Link Clicked"))
    assert page.evaluate("location.hash") == "#use"
    demo.stored(9)

    # Consent: what is called without it waits here, in order, and is stored once it is given.
    page.click("#allow")
    page.click("[data-product=mug]")
    page.fill("#page [name=name]", "Held")
    page.click("#page [type=submit]")
    waiting = "[...document.querySelectorAll('.steps .held')].map(({textContent}) => textContent)"
    page.see(f"{waiting}.length === 2")
    assert page.evaluate(waiting) == ["waiting for consent"] * 2
    assert page.evaluate("analytics.flush()") is True  # nothing is queued
    page.click("#marketing")
    page.click("#allow")
    expected += [("track", "Product Added"), ("page", "Held")]
    demo.stored(11)

    assert demo.text("#user-id") == "ada<b>"
    page.see(f"document.querySelector('#profile').textContent.includes({json.dumps(SCRIPT)})")
    demo.answers_its_query(platform)
    profile = demo.text("#profile")
    for part in (IMAGE, "ada<b>", "<i>acme</i>", anonymous):
        assert part in profile
    page.evaluate("scrollTo(0, 0)")
    assert page.evaluate(PLACES) == places  # at its fullest

    page.click("#reset")
    page.see("document.querySelector('#user-id').textContent === 'none'")
    assert demo.text("#anonymous-id") != anonymous
    page.see("document.querySelector('#profile').textContent.includes('not seen yet')")
    page.click("[data-product=pencil]")
    expected.append(("track", "Product Added"))
    demo.stored(12)

    rows = platform.sql(
        f"""SELECT message_id, type, coalesce(event, name, ''), context FROM events
        WHERE identity = 'demo-page' AND "offset" > {begun}"""
    )
    assert sorted((row[1], row[2]) for row in rows) == sorted(expected)
    shown = [event for event in demo.shown() if event["steps"][0] == "queued"]  # not what earlier tests have sent
    assert sorted(event["messageId"] for event in shown) == sorted(row[0] for row in rows)
    assert all(event["id"] == event["messageId"] for event in shown)
    assert all(event["steps"] == ["queued", "accepted 200", "stored"] and event["done"] == 3 for event in shown)
    consent = {row[2]: json.loads(row[3])["consent"]["categoryPreferences"] for row in rows}
    assert consent["Order Completed"] == {"analytics": True, "marketing": False}
    assert consent["Held"] == {"analytics": True, "marketing": True}

    # Markup is text, wherever it is shown.
    assert (
        page.evaluate("window.hit === undefined && document.querySelectorAll('main img, main script, main i').length")
        == 0
    )
    assert IMAGE in demo.text("#events")
    demo.answers_its_query(platform)
    assert {cookie["path"] for cookie in visitor.cookies().values()} == {
        "/demo"
    }  # no other program's page is disturbed
    page.evaluate("scrollTo(0, 0)")
    assert page.evaluate(PLACES) == places


def test_what_is_copied_works_and_is_seen(platform: Platform, visitor: Visitor, chromium: Chromium) -> None:
    """The lines for curl, Python and any page, as the clipboard has them; and other sources' events are not seen."""
    demo = Demo(visitor, platform)
    page = demo.page
    copied = {}
    for name in ("snippet", "npm", "curl", "python"):
        page.click(f"[data-copy={name}]")
        page.see(f"document.querySelector('[data-copy={name}]').textContent === 'Copied'")
        copied[name] = page.evaluate("navigator.clipboard.readText()")
        assert copied[name] == demo.text(f"#{name}")
    other = platform.create_source("not-for-the-page", "not-for-the-page")
    curl = copied["curl"].replace("Order Completed", "By curl")
    key = next(word for word in curl.split() if word.endswith(":")).removesuffix(":")
    assert f'"{key}"' in copied["npm"]
    assert f'cdnURL: "{platform.url}"' in copied["npm"]
    for command in (curl.replace(key, other["writeKey"]).replace("By curl", "Private"), curl):
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
        assert json.loads(done.stdout) == {"success": True}
    python = copied["python"].replace("Order Completed", "By Python")
    subprocess.run([sys.executable, "-c", python], env=platform.env, check=True, timeout=60)
    elsewhere = Visitor(chromium)
    with recording() as site:
        site.serve("/favicon.ico", "", "image/x-icon")
        elsewhere.page(site.serve("/", f"<!doctype html><title>By snippet</title>{copied['snippet']}"))
        demo.stored(3)
    elsewhere.close()
    shown = demo.shown()
    assert {"By curl", "By Python"} <= {event.get("event") for event in shown}
    assert any(event.get("context", {}).get("page", {}).get("title") == "By snippet" for event in shown)
    assert [event["steps"][0] for event in shown[:3]] == ["sent elsewhere"] * 3
    assert "Private" not in page.evaluate("document.body.textContent")
    assert platform.sql("SELECT count(*) FROM events WHERE identity = 'not-for-the-page'") == [[1]]


def test_it_can_be_used_by_keyboard(platform: Platform, visitor: Visitor) -> None:
    """The first stop leads to the controls; each stop is seen; Enter sends a form and Space opens an event."""
    demo = Demo(visitor, platform)
    page = demo.page
    focused = "document.activeElement"
    page.press("Tab")
    assert page.evaluate(f"{focused}.className") == "skip"
    assert page.evaluate(f"{focused}.getBoundingClientRect().top") >= 0
    page.press("Enter")
    page.press("Tab")
    assert page.evaluate(f"{focused}.dataset.product") == "notebook"
    page.press("Space")
    demo.stored(1)
    stops: list[str] = []
    for _ in range(60):
        page.press("Tab")
        stop = page.evaluate(f"{focused}.id || {focused}.name || {focused}.className || {focused}.tagName")
        outline = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
        assert outline != "none", stop
        if stop == "BODY":
            break
        stops.append(stop)
        if stop == "email":
            page.press("Enter")
            demo.stored(2)
        if stop == "SUMMARY":
            page.press("Space")
            page.see(f"{focused}.parentElement.open")
            break
    assert stops[0:2] == ["BUTTON", "BUTTON"]
    assert {"order", "email", "reset", "plan", "category", "topic", "link", "allow", "marketing"} <= set(stops)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_how_it_looks(platform: Platform, visitor: Visitor, tmp_path: Path, width: int, scheme: str) -> None:
    """Nothing overflows, overlaps or is cut; text is legible in both schemes; empty, in use, and with an event opened."""
    demo = Demo(visitor, platform)
    page = demo.page
    page.show(width, 900, scheme)
    assert page.evaluate(AUDIT) == []
    page.fill("#identify [name=id]", LONG)
    page.fill("#page [name=name]", f"{LONG}{IMAGE}")
    for control in (
        "[data-product=mug]",
        "#identify [type=submit]",
        "#page [type=submit]",
        "#order",
        "#group [type=submit]",
    ):
        page.click(control)
    page.fill("#identify [name=id]", "ada")
    page.fill("#page [name=name]", "Pricing")
    demo.stored(5)
    page.click("#allow")
    page.click("[data-product=pencil]")
    page.see("document.querySelectorAll('.steps .held').length === 1")
    page.see("document.querySelectorAll('#profile dt').length > 4")
    page.evaluate("document.querySelectorAll('#events details')[1].open = true; scrollTo(0, 0)")
    assert page.evaluate(AUDIT) == []
    shot = tmp_path / f"{width}-{scheme}.png"
    page.screenshot(shot)
    picture = seen_colours(visitor, shot)
    assert picture["width"] == width
    assert picture["height"] > 1500
    assert picture["colours"] > 200  # letters have soft edges
    assert picture["emptiest"] > 1  # no band of it is blank
    assert (picture["brightness"] > 200) is (scheme == "light")
    assert (picture["brightness"] < 60) is (scheme == "dark")


def seen_colours(visitor: Visitor, shot: Path) -> dict[str, float]:
    """What is in a picture: its size, how many colours, how many at least in any band of 300 px, mean brightness to 255."""
    page = visitor.page()
    encoded = base64.b64encode(shot.read_bytes()).decode()
    found: dict[str, float] = page.evaluate(f"({COLOURS})({json.dumps(encoded)})")
    page.close()
    return found


def test_dev_says_where_it_is(platform: Platform) -> None:
    """The address is printed once the platform is ready: a moment after the first event would be taken."""
    told = f"See it in a browser: {platform.url}/demo"
    for _ in range(1000):
        if told in platform.tail_of_printed():
            return
        platform.api("GET", "/api/status")
    raise AssertionError(platform.tail_of_printed())
