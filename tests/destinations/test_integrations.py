"""The integrations object, as Segment's spec has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from destinations.integrations import is_for


@pytest.mark.parametrize(
    ("integrations", "expected"),
    [
        (None, True),
        ({}, True),
        ({"All": True}, True),
        ({"All": False}, False),
        ({"All": False, "Webhook": True}, True),
        ({"All": False, "Webhook": {"option": False}}, True),
        ({"Webhook": False}, False),
        ({"All": True, "Webhook": False}, False),
        ({"webhook": False}, True),
        ({"Slack": False}, True),
        ({"All": False, "Slack": True}, False),
        ({"all": False}, False),
        ({"all": False, "Webhook": True}, True),
        ({"all": False, "All": True}, True),
        ("false", True),
    ],
)
def test_the_senders_word_counts(integrations: Any, expected: bool) -> None:
    """All is true by default, a name beats it, names are case-sensitive but for Go's all, an odd value forbids nothing."""
    payload = json.dumps({"event": "false", "integrations": integrations}).encode()
    assert is_for(payload, ["Webhook", "My hook"]) is expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"_metadata": {"bundled": ["Webhook"]}}, False),
        ({"_metadata": {"bundled": ["Segment.io"], "unbundled": ["Webhook"]}}, True),
        ({"_metadata": {"bundled": []}, "integrations": {"Webhook": False}}, False),
        ({"_metadata": {"bundled": ["My hook"]}, "integrations": {"My hook": True}}, False),
        ({"_metadata": {"bundled": "Webhook"}}, True),
        ({"_metadata": ["bundled"]}, True),
        ({"properties": {"bundled": ["Webhook"]}}, True),
    ],
)
def test_what_the_browser_served_is_not_served_again(event: dict[str, Any], expected: bool) -> None:
    """`_metadata.bundled` names them; whatever else it is forbids nothing."""
    assert is_for(json.dumps(event).encode(), ["Webhook", "My hook"]) is expected


def test_what_cannot_be_read_forbids_nothing() -> None:
    """A payload that only looks like it says something is delivered."""
    assert is_for(b'{"x": "\\"integrations\\" false"}', ["Webhook"])
    assert is_for(b'"integrations" false', ["Webhook"])
