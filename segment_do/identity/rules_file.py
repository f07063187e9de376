"""The file of identity rules that the setting ``identity.rules_file`` names: one set of rules for all, or one for some by name.

    default: {types: {email: {limit: 1}}}
    identities: {tom: {alias: merge}}

Rules given to an identity by hand win over the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from segment_do.identity.by_identity import ByIdentity, SettingsFile
from segment_do.identity.rules import Rules, read_rules

__all__ = ["read_rules_file"]

_FILE: Final = SettingsFile(
    "identity.rules_file",
    "identity rules",
    {},
    read_rules,
    "docs/settings.md and docs/identity.md say what it may hold.",
)


def read_rules_file(path: Path | None) -> ByIdentity[Rules]:
    """The rules in a YAML or JSON file; without a file Segment's own for everyone.

    Raises:
        SettingsError: it cannot be read, or a rule cannot be used; names the place.
    """
    return _FILE.load(path)
