"""The file of computed traits and audiences that the setting ``identity.computations_file`` names: a list for all, or one for some by name.

    default:
      - {class: trait, key: orders, kind: event_count, event: Order Completed, backfill: true}
    identities: {tom: []}

An identity takes up what the file says when it wakes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from segment_do.computed import MAX_DEFINITIONS, Audience, ComputedTrait, check_audience, read_definition, wrong
from segment_do.errors import InvalidRequest
from segment_do.identity.by_identity import ByIdentity, SettingsFile
from segment_do.identity.computation import Declared

__all__ = ["read_computations_file"]


def read_computations_file(path: Path | None) -> ByIdentity[tuple[Declared, ...]]:
    """The definitions in a YAML or JSON file; without a file none.

    Raises:
        SettingsError: it cannot be read, or a definition cannot be used, alone or beside the others; names the place.
    """
    return _FILE.load(path)


def _read(given: Any) -> tuple[Declared, ...]:
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise wrong("the file has to hold lists of definitions")
    if len(given) > MAX_DEFINITIONS:
        raise wrong(f"there are more than {MAX_DEFINITIONS}")
    found: dict[str, Declared] = {}
    for number, each in enumerate(given, 1):
        try:
            one = _declared(each)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"{error.message.rstrip('.')} (number {number} of the list).", hint=error.hint
            ) from None
        if one.definition.key in found:
            raise wrong(f"there are two of the key {one.definition.key!r}")
        found[one.definition.key] = one
    definitions = [each.definition for each in found.values()]
    traits = {each.key: each for each in definitions if isinstance(each, ComputedTrait)}
    for definition in definitions:
        if isinstance(definition, Audience):
            check_audience(definition, traits)
    return tuple(found.values())


def _declared(given: dict[str, Any]) -> Declared:
    backfill = given.get("backfill", False)
    if not isinstance(backfill, bool):
        raise wrong("`backfill` has to be true or false")
    return Declared(read_definition({name: value for name, value in given.items() if name != "backfill"}), backfill)


_FILE: Final = SettingsFile(
    "identity.computations_file",
    "computations",
    [],
    _read,
    "docs/settings.md and docs/computed-traits.md say what it may hold.",
)
