"""A graph of its own in an empty folder, made of what shards know, to try something on that would concern several of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from segment_do.identity.graph import Graph
from segment_do.identity.rules import Rules
from segment_do.identity.shards.layout import Layout
from segment_do.identity.shards.letters import Absorb, Cause, Envelope, encode_letters
from segment_do.units import unit_name

__all__ = ["scratch_graph"]

_ONE: Final = Layout(1)


@contextmanager
def scratch_graph(rules: Rules, facts: Sequence[bytes], now: int) -> Iterator[Graph]:
    """It is gone at the end. ``now``: microseconds since the epoch.

    Raises:
        StorageFailed: the disk is full or fails.
    """
    with TemporaryDirectory(prefix="scratch-") as folder:
        graph = Graph.open(
            Path(folder), unit_name("scratch", "0"), dedupe_days=7, clock=lambda: now, rules=rules, layout=_ONE
        )
        try:
            cause = Cause("", "", "", None, now, now)
            letters = [Absorb(("facts", str(number)), each, cause) for number, each in enumerate(facts)]
            graph.apply([], now, [Envelope("facts", 1, 1, encode_letters(letters))])
            yield graph
        finally:
            graph.close()
