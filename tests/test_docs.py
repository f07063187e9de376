"""What the documentation says is so: settings, metrics, and the code in the README."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from actors.ingress.metrics import METRICS
from segment_do.settings import Settings
from segment_do.version import __version__

ROOT = Path(__file__).parent.parent


def settings() -> Iterator[tuple[str, object, str | None]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for inner, of_section in field.annotation.model_fields.items():
                yield f"{name}.{inner}", of_section.default, of_section.description
        else:
            yield name, field.default, field.description


@pytest.mark.parametrize(("name", "default", "described"), list(settings()))
def test_every_setting_has_its_line(name: str, default: object, described: str | None) -> None:
    """docs/settings.md tells each setting with its default and what it is, in the words of the code."""
    shown = "" if default is None else default
    assert f"| `{name}` | `{shown}` | {described} |" in (ROOT / "docs" / "settings.md").read_text()


def test_no_setting_is_told_that_does_not_exist() -> None:
    """And no more than those."""
    told = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(name for name, _default, _described in settings())


def test_every_metric_is_told() -> None:
    """docs/operations.md names each metric of /metrics."""
    text = (ROOT / "docs" / "operations.md").read_text()
    assert [name for _kind, name, _help in METRICS.values() if f"`{name}" not in text] == []


def test_the_changelog_knows_the_version() -> None:
    """The version is in one place, and the CHANGELOG has an entry for it."""
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_links_lead_somewhere() -> None:
    """Every relative link of the README and the docs names a file that is there."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_python_in_the_docs_compiles() -> None:
    """No example has a slip that the compiler would find; those of the README also run, against a platform."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)):
            flags = 0x2000  # top-level await, as in a notebook
            compile(code, f"{page.name}:{number}", "exec", flags=flags)
