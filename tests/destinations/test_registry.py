"""Types, their settings, and what is shown of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from destinations import registry
from destinations.base import Destination, DestinationConfig, Outcome, Request
from destinations.registry import MASK, find, make_sender, mask, types, validate
from segment_do.errors import InvalidRequest, SettingsError

URL = "https://example.com/hook"


@pytest.mark.parametrize("type_", types())
def test_declarations_are_complete(type_: str) -> None:
    """Every destination and every field says what it is: forms and docs are derived from that."""
    declared = find(type_)
    assert declared.type == type_
    assert declared.name
    assert declared.description.endswith(".")
    names = [field.name for field in declared.fields]
    assert len(set(names)) == len(names)
    for field in declared.fields:
        assert field.label
        assert field.description.endswith(".")
        assert (field.type == "choice") == bool(field.choices)
        assert not (field.required and field.default is not None)


def test_unknown_type_names_the_known_ones() -> None:
    """The answer to a wrong type says which there are."""
    with pytest.raises(InvalidRequest, match="webhook"):
        find("webhok")


def test_defaults_are_filled_in() -> None:
    """What is stored is complete, in the declaration's order."""
    assert validate("webhook", {"batch_size": 5, "url": URL, "secret": ""}) == {
        "url": URL,
        "method": "POST",
        "headers": {},
        "secret": None,
        "batch_size": 5,
    }


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": 5}, "url"),
        ({"url": URL, "colour": "red"}, "colour"),
        ({"url": URL, "method": "GET"}, "method"),
        ({"url": URL, "method": ["POST"]}, "method"),
        ({"url": URL, "batch_size": 0}, "batch_size"),
        ({"url": URL, "batch_size": 4001}, "batch_size"),
        ({"url": URL, "batch_size": "5"}, "batch_size"),
        ({"url": URL, "batch_size": True}, "batch_size"),
        ({"url": URL, "secret": 12345}, "secret"),
        ({"url": URL, "secret": "hunter2" * 2000}, "secret"),
        ({"url": URL, "headers": ["hunter2"]}, "headers"),
        ({"url": URL, "headers": {"X-Key": 5}}, "headers"),
        ({"url": URL, "headers": {f"X-{number}": "a" for number in range(65)}}, "headers"),
        ({"url": URL, "headers": {"X Key": "hunter2"}}, "X Key"),
        ({"url": URL, "headers": {"": "hunter2"}}, "header"),
        ({"url": URL, "headers": {"X-Key": "hunter2\r\nX-Signature: forged"}}, "X-Key"),
        ({"url": URL, "headers": {"X-Key": "hünter2"}}, "X-Key"),
        ({"url": URL, "headers": {"host": "hunter2"}}, "host"),
        ({"url": URL, "headers": {"X-SIGNATURE": "hunter2"}}, "X-SIGNATURE"),
        ({"url": URL, "headers": {"Transfer-Encoding": "chunked"}}, "Transfer-Encoding"),
    ],
)
def test_wrong_settings_are_named_and_not_shown(settings: dict[str, Any], named: str) -> None:
    """A refusal names the setting, and never repeats a value that may be secret."""
    with pytest.raises(InvalidRequest) as refused:
        validate("webhook", settings)
    assert named in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_guard_applies_to_settings() -> None:
    """Where private addresses are switched off, a URL with one is refused when it is set."""
    with pytest.raises(InvalidRequest, match="url"):
        validate("webhook", {"url": "http://127.0.0.1/"}, allow_private_addresses=False)


def stored(type_: str, settings: dict[str, Any]) -> DestinationConfig:
    return DestinationConfig(id="d1", type=type_, source_id=None, name="", settings=settings)


def test_secrets_are_masked() -> None:
    """Secret texts and the values of secret mappings are never shown again; the rest is."""
    settings = validate("webhook", {"url": URL, "secret": "hunter2", "headers": {"Authorization": "Bearer hunter2"}})
    assert mask(stored("webhook", settings)) == {
        "url": URL,
        "method": "POST",
        "headers": {"Authorization": MASK},
        "secret": MASK,
        "batch_size": 1,
    }


def test_what_is_not_known_is_masked() -> None:
    """Settings of a type that is gone, or that the type no longer has, are treated as secrets."""
    assert mask(stored("gone", {"key": "hunter2", "none": None})) == {"key": MASK, "none": None}
    assert mask(stored("webhook", {"old_token": "hunter2"})) == {"old_token": MASK}


async def test_sender_comes_from_stored_settings() -> None:
    """A stored configuration makes a sender that uses the one way to the network it was given."""
    asked: list[Request] = []

    async def exchange(request: Request) -> Outcome:
        asked.append(request)
        return Outcome(200)

    sender = make_sender(stored("webhook", {"url": URL}), exchange)
    assert sender.batch_size == 1
    with pytest.raises(InvalidRequest):
        make_sender(stored("webhook", {}), exchange)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, EntryPoint]]:
    found: dict[str, EntryPoint] = {}
    monkeypatch.setattr(registry, "_plugins", lambda: found)
    registry.find.cache_clear()
    yield found
    registry.find.cache_clear()


THIRD_PARTY = Destination(type="third", name="Third", description="Theirs.", fields=(), make=lambda *_: None)  # type: ignore[arg-type,return-value]


def test_third_parties_add_types(plugins: dict[str, EntryPoint]) -> None:
    """An entry point in the group is a type like any other, loaded when it is asked for."""
    plugins["third"] = EntryPoint("third", f"{__name__}:THIRD_PARTY", registry.GROUP)
    assert types() == ["third", "webhook"]
    assert find("third") is THIRD_PARTY


def test_third_parties_cannot_replace_a_built_in_type(plugins: dict[str, EntryPoint]) -> None:
    """A package that declares `webhook` changes nothing."""
    plugins["webhook"] = EntryPoint("webhook", f"{__name__}:THIRD_PARTY", registry.GROUP)
    assert find("webhook").name == "Webhook"


@pytest.mark.parametrize("value", ["no_such_package:X", "destinations.registry:MASK", "destinations.registry:nothing"])
def test_broken_third_party_is_named(plugins: dict[str, EntryPoint], value: str) -> None:
    """A type whose package cannot be loaded, or that is no destination, says so; others go on."""
    plugins["broken"] = EntryPoint("broken", value, registry.GROUP)
    with pytest.raises(SettingsError, match="broken"):
        find("broken")
    assert find("webhook").name == "Webhook"
