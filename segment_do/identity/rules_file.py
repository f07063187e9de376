"""The file of identity rules that the setting ``identity.rules_file`` names: one set of rules for all, or one for some by name.

    default: {types: {email: {limit: 1}}}
    identities: {tom: {alias: merge}}

An identity that is named has its own set alone, not the default beneath it. Rules given to an identity by hand win over the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from segment_do.errors import InvalidRequest, SettingsError
from segment_do.identity.rules import DEFAULT_RULES, Rules, read_rules

__all__ = ["RulesFile", "read_rules_file"]

_LARGEST_BYTES: Final = 4 * 2**20


class RulesFile(msgspec.Struct, frozen=True):
    """What the file says."""

    default: Rules = DEFAULT_RULES
    identities: dict[str, Rules] = {}

    def of(self, identity: str) -> Rules:
        """The rules of one identity."""
        return self.identities.get(identity, self.default)


def read_rules_file(path: Path | None) -> RulesFile:
    """The rules in a YAML or JSON file; without a file Segment's own for everyone.

    Raises:
        SettingsError: it cannot be read, or a rule cannot be used; names the place.
    """
    if path is None:
        return RulesFile()
    try:
        with path.expanduser().open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
        if len(text) > _LARGEST_BYTES:
            raise SettingsError(f"The identity rules in {path} are larger than {_LARGEST_BYTES:,} bytes.")
        given = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SettingsError(f"The identity rules in {path} cannot be read: {error}.", hint=_HINT) from None
    if isinstance(given, dict) and set(given) & {"default", "identities"}:
        return _several(path, given)
    return RulesFile(_rules(path, "", given if given is not None else {}))


def _several(path: Path, given: dict[Any, Any]) -> RulesFile:
    unknown = set(given) - {"default", "identities"}
    if unknown:
        raise _wrong(path, str(min(map(str, unknown))), "is neither `default` nor `identities`")
    named = given.get("identities") or {}
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named):
        raise _wrong(path, "identities", "has to be a mapping from names to rules")
    return RulesFile(
        _rules(path, "default", given.get("default") or {}),
        {name: _rules(path, f"identities.{name}", rules or {}) for name, rules in named.items()},
    )


def _rules(path: Path, where: str, given: Any) -> Rules:
    try:
        return read_rules(given)
    except InvalidRequest as error:
        raise _wrong(path, where, error.message) from None


def _wrong(path: Path, where: str, what: str) -> SettingsError:
    return SettingsError(
        f"The setting identity.rules_file cannot be used: {path}{f', at {where}' if where else ''}: {what.rstrip('.')}.",
        hint=_HINT,
    )


_HINT: Final = "docs/settings.md and docs/identity.md say what it may hold."
