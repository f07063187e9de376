"""What a measurement comes to: figures with their limits and targets, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

__all__ = ["Figure", "table"]


@dataclass
class Figure:
    """One number, the median of ``runs``. ``limit``: what the machine can do at best, in the same unit."""

    name: str
    unit: str
    runs: Sequence[float]
    limit: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    least_ratio: float | None = None
    """Target as a share of the limit."""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.runs) if self.runs else float("nan")

    @property
    def ratio(self) -> float | None:
        """Share of the limit."""
        return self.value / self.limit if self.limit else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.least_ratio is not None and self.ratio is not None:
            return self.ratio >= self.least_ratio
        return None

    @property
    def target(self) -> str:
        """The target as text."""
        if self.at_least is not None:
            return f"≥ {_shown(self.at_least)}"
        if self.at_most is not None:
            return f"≤ {_shown(self.at_most)}"
        return f"≥ {self.least_ratio} of limit" if self.least_ratio is not None else ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "runs": list(self.runs),
            "limit": self.limit,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "detail": self.detail,
        }


def table(title: str, figures: Sequence[Figure]) -> Table:
    """For people."""
    shown = Table(title=title, title_justify="left")
    for name in ("figure", "median", "unit", "runs", "limit", "ratio", "target", ""):
        shown.add_column(name, justify="left" if name in ("figure", "unit", "target") else "right", overflow="fold")
    for each in figures:
        runs = f"{_shown(min(each.runs))}..{_shown(max(each.runs))}" if len(each.runs) > 1 else ""
        shown.add_row(
            each.name,
            _shown(each.value),
            each.unit,
            runs,
            _shown(each.limit) if each.limit else "",
            f"{each.ratio:.2f}" if each.ratio is not None else "",
            each.target,
            {True: "[green]met[/]", False: "[red]short[/]", None: ""}[each.met],
        )
    return shown


def _shown(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
