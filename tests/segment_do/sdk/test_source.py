"""How an agent's handle finds its platform and its write key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segment_do import Analytics, SettingsError, Unauthorized
from segment_do.sdk.options import Timing
from tests.segment_do.sdk.platform import TOKEN, FakeTime, Platform, running


def home_of(platform: Platform, path: Path, token: str = TOKEN) -> Path:
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text(json.dumps({"url": platform.url, "pid": 1, "startedAt": "2026-01-01T00:00:00Z"}))
    (path / "token").write_text(token + "\n")
    return path


def test_the_source_is_made_once_at_the_first_event(platform: Platform) -> None:
    """`for_` sends nothing; the first event brings one idempotent request; the key it gives is used from then on."""
    with Analytics.for_("tom", host=platform.url, token=TOKEN) as tom:
        assert platform.ensured == []
        tom.track("1").wait(5)
        tom.track("2").wait(5)
    assert platform.ensured == [{"name": "tom", "identity": "tom", "ensure": True}]
    assert [request.write_key for request in platform.requests] == ["key-of-tom", "key-of-tom"]


def test_found_by_home_directory(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEGMENT_DO_HOME alone is enough; the argument comes before the environment."""
    monkeypatch.setenv("SEGMENT_DO_HOME", str(home_of(platform, tmp_path / "a")))
    with Analytics.for_("tom") as tom:
        tom.track("1").wait(5)
    monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path / "nowhere"))
    with Analytics.for_("tom", home=tmp_path / "a") as tom:
        tom.track("2").wait(5)
    assert len(platform.events) == 2


def test_found_by_url_and_token(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEGMENT_DO_URL and SEGMENT_DO_TOKEN, where the platform runs elsewhere."""
    monkeypatch.setenv("SEGMENT_DO_URL", platform.url)
    monkeypatch.setenv("SEGMENT_DO_TOKEN", TOKEN)
    with Analytics.for_("tom") as tom:
        tom.track("1").wait(5)


def test_a_refused_token_is_a_clear_error(platform: Platform, timing: Timing, fake: FakeTime) -> None:
    """Not retried, and it says what to set; the token itself is not in it."""
    tom = Analytics.for_("tom", host=platform.url, token="wrong-secret", timing=timing, linger_seconds=0)
    with tom, pytest.raises(Unauthorized, match=r"refused the admin token.*SEGMENT_DO_TOKEN") as caught:
        tom.track("1").wait(5)
    assert "wrong-secret" not in str(caught.value)
    assert fake.waits == []


def test_this_machines_token_is_not_sent_to_strangers(tmp_path: Path, platform: Platform) -> None:
    """An address elsewhere needs a token of its own."""
    home = home_of(platform, tmp_path / "a")
    tom = Analytics.for_("tom", host="http://platform.invalid", home=home)
    with tom, pytest.raises(SettingsError, match=r"no admin token for http://platform\.invalid"):
        tom.track("1").wait(5)


def test_a_token_that_no_header_takes_is_refused_without_telling_it() -> None:
    """An HTTP library would put it into its error."""
    with pytest.raises(SettingsError) as caught:
        Analytics.for_("tom", host="http://127.0.0.1:1", token="secret\nvalue")
    assert "secret" not in str(caught.value)


def test_events_wait_for_a_platform_that_is_not_there_yet(tmp_path: Path, platform: Platform, fake: FakeTime) -> None:
    """No home, then a home: looked for again within two seconds, nothing lost."""
    home = tmp_path / "later"

    def wait(condition: object, seconds: float) -> None:
        fake.waits.append(seconds)
        fake.now += seconds
        if len(fake.waits) == 6:
            home_of(platform, home)

    timing = Timing(wall=fake.wall, monotonic=fake.monotonic, random=fake.random, wait=wait)
    with Analytics.for_("tom", home=home, timing=timing, linger_seconds=0) as tom:
        tom.track("1").wait(5)
    assert fake.waits == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert "x-retry-count" not in platform.requests[0].headers


def test_a_platform_that_came_back_elsewhere_is_found_again(tmp_path: Path, timing: Timing) -> None:
    """Restarted on another port, or with other keys: the handle looks again and loses nothing."""
    with running() as first:
        home = home_of(first, tmp_path / "a")
        tom = Analytics.for_("tom", home=home, timing=timing, linger_seconds=0)
        tom.track("1").wait(5)
    with running() as second:
        home_of(second, home)
        tom.track("2").wait(5)
        second.answers.append((401, {}, {"code": "unauthorized", "message": "Unknown key."}))
        second.keys["tom"] = "rotated"
        tom.track("3").wait(5)
        tom.close(2).wait()
    assert [event["event"] for event in second.distinct()] == ["2", "3"]
    assert [request.write_key for request in second.requests] == ["key-of-tom", "key-of-tom", "rotated"]


def test_a_key_that_stays_refused_is_told(platform: Platform) -> None:
    """One more look, then the error: no endless asking."""
    platform.answers.extend([(401, {}, {"message": "Unknown key."})] * 2)
    with Analytics.for_("tom", host=platform.url, token=TOKEN) as tom, pytest.raises(Unauthorized):
        tom.track("1").wait(5)
    assert len(platform.ensured) == 2


def test_the_control_api_may_be_late(platform: Platform, timing: Timing, fake: FakeTime) -> None:
    """503 while the platform starts, or something else on its port: kept and tried again."""
    platform.source_answers.extend([(503, {"Retry-After": "3"}, {}), (200, {}, b"<html>"), (200, {}, {"id": "x"})])
    with Analytics.for_("tom", host=platform.url, token=TOKEN, timing=timing, linger_seconds=0) as tom:
        tom.track("1").wait(5)
    assert fake.waits == [3.5, 1.0, 2.0]
