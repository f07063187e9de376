"""The file of identity rules: both forms, in YAML and JSON; whatever cannot be used is said with its place, at the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segment_do.errors import SettingsError
from segment_do.identity import DEFAULT_RULES, read_rules_file
from segment_do.settings import load_settings


def written(folder: Path, text: str) -> Path:
    file = folder / "rules.yaml"
    file.write_text(text)
    return file


def test_one_set_is_for_everyone(tmp_path: Path) -> None:
    """No file: Segment's own. An empty one: the same."""
    assert read_rules_file(None).of("tom") == DEFAULT_RULES
    assert read_rules_file(written(tmp_path, "")).of("tom") == DEFAULT_RULES
    found = read_rules_file(written(tmp_path, json.dumps({"alias": "merge"})))
    assert {found.of(name).alias for name in ("tom", "ralph")} == {"merge"}


def test_sets_by_name(tmp_path: Path) -> None:
    """A named identity has its own set alone."""
    text = "default: {alias: merge}\nidentities:\n  tom: {types: {email: {limit: 1}}}\n  ann:\n"
    found = read_rules_file(written(tmp_path, text))
    assert (found.of("ralph").alias, found.of("tom").alias, found.of("tom").limit("email")) == ("merge", "ignore", 1)
    assert found.of("ann") == DEFAULT_RULES


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "rules.yaml"),
        ("[1]", "rules.yaml"),
        ("\x00", "rules.yaml"),
        ("types: {email: {limit: 0}}", "email"),
        ("default: {alias: perhaps}", "at default"),
        ("identities: {tom: {types: {email: {blocked_patterns: ['(']}}}}", "at identities.tom"),
        ("identities: [tom]", "at identities"),
        ("identities: {1: {}}", "at identities"),
        ("default: {}\nothers: {}", "at others"),
    ],
)
def test_what_cannot_be_used_is_told_at_the_start(
    tmp_path: Path, text: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file and the place in it."""
    monkeypatch.setenv("SEGMENT_DO_HOME", str(tmp_path))
    monkeypatch.setenv("SEGMENT_DO_IDENTITY__RULES_FILE", str(written(tmp_path, text)))
    with pytest.raises(SettingsError, match=r"rules\.yaml") as raised:
        load_settings()
    assert place in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is told too."""
    with pytest.raises(SettingsError, match=r"nothing\.yaml"):
        read_rules_file(tmp_path / "nothing.yaml")
