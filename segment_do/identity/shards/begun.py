"""Under which layouts the identities of a home were begun. A shard's place means nothing under another, so they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from segment_do.errors import SettingsError
from segment_do.home import Home, write_durably
from segment_do.identity.rules import NO_ARRIVAL
from segment_do.identity.rules_file import read_rules_file
from segment_do.identity.shards.layout import layouts
from segment_do.settings import Settings

__all__ = ["check_layouts"]

_FILE: Final = "layouts.json"
_HINT: Final = (
    "How an identity is laid out is fixed with its first event; set it back, or give the events another identity."
)


def check_layouts(settings: Settings) -> None:
    """Before the platform starts: the settings say of every identity what they said when it began. New ones are noted.

    Raises:
        SettingsError: they do not, or say two things of one identity.
    """
    for name, each in settings.identity.layouts.items():
        if each.granularity == "profile" and each.shards > 1:
            raise SettingsError(
                f"In identity.layouts {name!r} has {each.shards} shards and a shard for every person.",
                hint="Name one of `shards` and `granularity`; which is meant is fixed with the first event.",
            )
    given = {name: layout.text for name, layout in layouts(settings.identity).items()}
    rules = read_rules_file(settings.identity.rules_file)
    for name in given:
        if rules.of(name).order == "arrival":
            raise SettingsError(
                f"The identity {name!r} has several graphs: {NO_ARRIVAL}.", hint="docs/shards.md says why."
            )
    begun = _read(settings.paths)
    for name, text in begun.items():
        if given.get(name) != text:
            raise SettingsError(
                f"The identity {name!r} was begun with the layout {text!r}, and identity.layouts says"
                f" {given.get(name, 'nothing')!r}.",
                hint=_HINT,
            )
    for name in given.keys() - begun.keys():
        if settings.paths.identity(name).exists():
            raise SettingsError(f"The identity {name!r} has events in one graph already.", hint=_HINT)
    if given.keys() - begun.keys():
        (settings.paths.root / "identities").mkdir(exist_ok=True, mode=0o700)
        write_durably(_path(settings.paths), msgspec.json.encode(begun | given))


def _path(home: Home) -> Path:
    return home.root / "identities" / _FILE


def _read(home: Home) -> dict[str, str]:
    try:
        return msgspec.json.decode(_path(home).read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
