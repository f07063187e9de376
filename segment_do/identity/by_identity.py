"""Files named by a setting that say something for every identity, or for some by name.

    default: …
    identities: {tom: …}

or what ``default`` would be, alone. An identity that is named has its own alone, not the default beneath it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import yaml

from segment_do.errors import InvalidRequest, SettingsError

__all__ = ["ByIdentity", "SettingsFile"]

T = TypeVar("T")
_LARGEST_BYTES: Final = 4 * 2**20


@dataclass(frozen=True)
class ByIdentity(Generic[T]):
    """What a file says."""

    default: T
    identities: Mapping[str, T] = field(default_factory=dict)

    def of(self, identity: str) -> T:
        """What holds for one identity."""
        return self.identities.get(identity, self.default)


@dataclass(frozen=True)
class SettingsFile(Generic[T]):
    """How the file of one setting is read. ``read`` makes a part of it what it means, or raises InvalidRequest."""

    setting: str
    what: str
    """In the plural, for people."""
    empty: Any
    """What a part without anything in it stands for."""
    read: Callable[[Any], T]
    hint: str

    def load(self, path: Path | None) -> ByIdentity[T]:
        """Read a YAML or JSON file; without one, what an empty one says.

        Raises:
            SettingsError: it cannot be read, or something in it cannot be used; names the place.
        """
        if path is None:
            return ByIdentity(self.read(self.empty))
        try:
            with path.expanduser().open("rb") as file:
                text = file.read(_LARGEST_BYTES + 1)
            if len(text) > _LARGEST_BYTES:
                raise SettingsError(f"The {self.what} in {path} are larger than {_LARGEST_BYTES:,} bytes.")
            given = yaml.safe_load(text)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise SettingsError(f"The {self.what} in {path} cannot be read: {error}.", hint=self.hint) from None
        if isinstance(given, dict) and set(given) & {"default", "identities"}:
            return self._several(path, given)
        return ByIdentity(self._part(path, "", given))

    def _several(self, path: Path, given: dict[Any, Any]) -> ByIdentity[T]:
        unknown = set(given) - {"default", "identities"}
        if unknown:
            raise self._wrong(path, str(min(map(str, unknown))), "is neither `default` nor `identities`")
        named = given.get("identities") or {}
        if not isinstance(named, dict) or not all(isinstance(name, str) for name in named):
            raise self._wrong(path, "identities", f"has to be a mapping from names to {self.what}")
        return ByIdentity(
            self._part(path, "default", given.get("default")),
            {name: self._part(path, f"identities.{name}", part) for name, part in named.items()},
        )

    def _part(self, path: Path, where: str, given: Any) -> T:
        try:
            return self.read(self.empty if given is None else given)
        except InvalidRequest as error:
            raise self._wrong(path, where, error.message) from None

    def _wrong(self, path: Path, where: str, what: str) -> SettingsError:
        place = f", at {where}" if where else ""
        return SettingsError(
            f"The setting {self.setting} cannot be used: {path}{place}: {what.rstrip('.')}.", hint=self.hint
        )
