"""Identities over several actors on the running platform: the same people in SQL, with processes killed on the way."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.load.platform import Platform, running_platform

pytestmark = pytest.mark.platform

PEOPLE = 12
LAYOUTS = '{"crowd": {"shards": 3}, "persons": {"granularity": "profile"}}'


@pytest.fixture(scope="module")
def sharded() -> Iterator[Platform]:
    with running_platform(settings={"IDENTITY__PLACEMENT": "pool", "IDENTITY__LAYOUTS": LAYOUTS}) as started:
        yield started


@pytest.mark.parametrize("identity", ["crowd", "persons"])
def test_people_come_together_over_shards(sharded: Platform, identity: str) -> None:
    """Devices before users, users before devices, actors killed in between: each event once, each person one profile."""
    key = sharded.create_source(identity, identity)["writeKey"]
    chosen = random.Random(identity)
    events = [
        {"type": "track", "event": "Seen", "anonymousId": f"phone{person}", "messageId": f"{identity}-phone{person}"}
        for person in range(PEOPLE)
    ]
    events += [
        {
            "type": "identify",
            "userId": f"user{person}",
            "anonymousId": f"{device}{person}",
            "traits": {"email": f"{person}@example.com"},
            "messageId": f"{identity}-{device}-user{person}",
        }
        for person in range(PEOPLE)
        for device in ("phone", "laptop")
    ]
    chosen.shuffle(events)
    with httpx.Client(base_url=sharded.url, timeout=30.0) as http:
        for at in range(0, len(events), 9):
            sent = http.post("/v1/batch", json={"batch": events[at : at + 9]}, auth=(key, ""))
            assert sent.status_code == 200, sent.text
            if at == 18:
                sharded.kill("identity", chosen.choice)
    expected = [[PEOPLE, PEOPLE * 4, len(events)]]
    people = (
        "SELECT count(DISTINCT canonical_segment_id), count(*), (SELECT count(DISTINCT message_id) + count(*) FROM"
        f" events WHERE identity = '{identity}') / 2 FROM user_identifiers WHERE identity = '{identity}'"
    )
    until = time.monotonic() + 60
    while (found := sharded.sql(people)) != expected and time.monotonic() < until:
        pass
    assert found == expected
    # The id map has a device's person as soon as the person's shard knows; the device's own shard may yet have to hear of it.
    profile = f"/api/profiles/{identity}/anonymous_id:laptop3"
    why = f"/api/identities/{identity}/why?from=anonymous_id:laptop3&to=anonymous_id:phone3"
    while (chain := sharded.api("GET", why)["chain"]) is None and time.monotonic() < until:
        pass
    assert {edge["messageId"] for edge in chain} == {f"{identity}-{device}-user3" for device in ("phone", "laptop")}
    found = {each["id"] for each in sharded.api("GET", profile)["externalIds"]}
    assert found == {"user3", "phone3", "laptop3", "3@example.com"}


def test_how_an_identity_is_laid_out_is_fixed(sharded: Platform) -> None:
    """A home that was begun with three shards does not start with four; what is said names the identity."""
    sharded.kill_everything()
    sharded.env["SEGMENT_DO_IDENTITY__LAYOUTS"] = LAYOUTS.replace("3", "4")
    with pytest.raises(AssertionError, match="'crowd' was begun with the layout '3'"):
        sharded.start()
