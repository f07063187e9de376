"""The rules that every middleware shares: what is told of which request, and that telling never hurts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest

from segment_do import Analytics, SettingsError
from segment_do.sdk.served import Head, Teller, anonymous_id
from segment_do.sdk.testing import Recording

HEAD = Head("GET", "/users/7", "/users/{id}", "browser/1", "https://a.example/?q=1", "", "10.0.0.1")


@pytest.fixture
def events() -> Iterator[Recording]:
    with Analytics.testing() as recording:
        yield recording


def tell(head: Head = HEAD, client: Analytics | None = None, **options: Any) -> None:
    teller: Teller[Head] = Teller(client or Analytics("wk"), new_id=lambda: "made", **options)
    if teller.wants(head.path):
        teller.tell(head, lambda request: request, 200, 0.0123456)


def test_a_request_becomes_a_track_event(events: Recording) -> None:
    """Method, route, status and milliseconds are properties; user agent and referrer are where Segment has them."""
    tell()
    (event,) = events
    assert (event["type"], event["event"]) == ("track", "Request Served")
    assert event["properties"] == {
        "method": "GET",
        "path": "/users/{id}",
        "status": 200,
        "duration_ms": 12.346,
        "referrer": "https://a.example/?q=1",
    }
    assert event["context"]["userAgent"] == "browser/1"
    assert event["context"]["page"] == {"path": "/users/{id}", "referrer": "https://a.example/?q=1"}
    assert "ip" not in event["context"]


def test_options_change_what_is_told(events: Recording) -> None:
    """A name of one's own, a page event, and the address only when asked for."""
    tell(event="API Called")
    tell(page=True, ip=True)
    named, page = events
    assert named["event"] == "API Called"
    assert (page["type"], page["name"]) == ("page", "/users/{id}")
    assert page["context"]["ip"] == "10.0.0.1"


def test_without_a_template_the_path_itself_is_told(events: Recording) -> None:
    """And what a request has none of is left out."""
    tell(Head("GET", "/x", "", "", "", "", ""), ip=True)
    (event,) = events
    assert event["properties"]["path"] == "/x"
    assert "referrer" not in event["properties"]
    assert event["context"].keys() == {"library"}


def test_whose_event_it_is(events: Recording) -> None:
    """The user that `identify` names, the visitor of the cookie, or both, which joins them; else a new anonymous id."""
    cookie = HEAD._replace(cookies="a=b; ajs_anonymous_id=%22visitor%22")
    tell(cookie, identify=lambda _: 7)
    tell(cookie)
    tell(identify=lambda _: None)
    tell(client=Analytics.for_("tom"))
    assert [(event.get("userId"), event.get("anonymousId")) for event in events] == [
        ("7", "visitor"),
        (None, "visitor"),
        (None, "made"),
        ("tom", None),
    ]


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        ("ajs_anonymous_id=v", "v"),
        ("x=1;ajs_anonymous_id = v ; y=2", "v"),
        ("ajs_anonymous_id=%22v%22", "v"),
        ('ajs_anonymous_id="v"', "v"),
        ("my_ajs_anonymous_id=v", ""),
        ("ajs_anonymous_id", ""),
        ("ajs_anonymous_id=", ""),
        ("", ""),
    ],
)
def test_the_visitors_cookie_is_read(cookies: str, found: str) -> None:
    """As analytics.js writes it now (plain) and wrote it before (JSON text, URL-encoded)."""
    assert anonymous_id(cookies) == found


def test_skipped_requests_are_not_told(events: Recording) -> None:
    """By the beginning of their path, one or several, or by a function of the request."""
    for skip in ("/users", ("/health", "/users/"), lambda request: request.method == "GET"):
        tell(skip=skip)
    assert len(events) == 0
    for skip in ("/health", (), lambda request: False):
        tell(skip=skip)
    assert len(events) == 3


def test_a_sample_is_told(events: Recording) -> None:
    """The share of requests that was asked for: all at 1, none at 0."""
    for chance in (0.0, 0.09, 0.1, 0.99):
        tell(sample=0.1, chance=lambda chance=chance: chance)
    tell(sample=0.0, chance=lambda: 0.0)
    tell(sample=1.0, chance=lambda: 0.999)
    assert len(events) == 3


def test_what_a_client_chooses_is_cut(events: Recording) -> None:
    """Headers and paths of any length and content still make an event within its bound."""
    long = "\x00é\ud800" * 20_000
    tell(Head(long, long, "", long, long, f"ajs_anonymous_id={'v' * 9_000}", ""))
    (event,) = events
    assert len(event["anonymousId"]) == len(event["properties"]["path"]) == 1_000


def test_nothing_that_fails_reaches_the_request(caplog: pytest.LogCaptureFixture) -> None:
    """A failing client, `identify` or `skip` costs the event alone, and is on the log once a minute."""

    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("broken")

    class Broken:
        agent = None
        track = broken

    now = 1_000.0
    teller: Teller[Head] = Teller(cast(Analytics, Broken()), clock=lambda: now)
    with caplog.at_level(logging.WARNING, "segment_do"):
        for now in (1_000.0, 1_001.0, 1_059.0, 1_060.0):  # noqa: B007  # the clock reads it
            teller.tell(HEAD, lambda request: request, 200, 0.0)
        assert len(caplog.records) == 2
        with Analytics.testing() as events:
            tell(identify=broken)
            tell(skip=broken)
            assert len(events) == 0
        assert len(caplog.records) == 4


def test_what_cannot_work_is_refused_at_once() -> None:
    """A share outside of 0 to 1, and a client that would have requests wait."""
    for sample in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="sample"):
            Teller(Analytics("wk"), sample=sample)
    with pytest.raises(SettingsError, match="block"):
        Teller(Analytics("wk", on_full="block"))
