"""The directive that chooses: ``@if``."""

from __future__ import annotations

from typing import Any

from segment_do.mapping.place import Place
from segment_do.mapping.values import MISSING, Budget, Resolver

__all__ = ["choice"]


def choice(place: Place) -> Resolver:
    """``{"@if": {"exists" | "blank": value, "then"?: value, "else"?: value}}``.

    ``exists``: ``then`` where the value is neither missing nor null. ``blank`` (Segment's name for it): ``then`` where the value is
    not blank; missing, null, an empty text or list, ``0`` and ``false`` are. A branch that is not given leaves the field out.
    """
    options = place.options()
    name = "exists" if "exists" in options else "blank"
    if name not in options:
        place.wrong('needs "exists" or "blank"')
    asked = place.at(name, options[name]).compile()
    then, otherwise = (_branch(place, branch) for branch in ("then", "else"))
    holds = _exists if name == "exists" else _not_blank

    def resolve(payload: Any, budget: Budget) -> Any:
        return (then if holds(asked(payload, budget)) else otherwise)(payload, budget)

    return resolve


def _branch(place: Place, name: str) -> Resolver:
    options = place.options()
    return place.at(name, options[name]).compile() if name in options else lambda payload, budget: MISSING


def _exists(value: Any) -> bool:
    return value is not MISSING and value is not None


def _not_blank(value: Any) -> bool:
    return _exists(value) and value not in ("", 0, False, [])
