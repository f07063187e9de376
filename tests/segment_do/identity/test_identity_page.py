"""The examples of docs/identity.md, run."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from segment_do.identity import Edge
from tests.segment_do.identity import events
from tests.segment_do.identity.events import NOON, open_graph, record

PAGE = Path(__file__).parents[3] / "docs" / "identity.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
KINDS = ("user_id", "anonymous_id", "email")


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_true(tmp_path: Path, example: str) -> None:
    """On a graph of its own; events are a second apart unless they say when they were."""
    graph = open_graph(tmp_path)
    numbers = itertools.count(1)

    def event(kind: str, given: dict[str, Any]) -> Any:
        number = next(numbers)
        traits = {name: given.pop(name) for name in ("email", "plan") if name in given}
        at = NOON + given.pop("at", number) * 1_000_000
        body = {"traits": traits} if traits else {}
        return record(given.pop("message_id", f"m{number}"), kind, at=at, body=body, **given)

    def named(value: str) -> tuple[str, str]:
        return next((kind, value) for kind in KINDS if graph.profile(kind, value) is not None)

    def profile(value: str) -> set[str]:
        found = graph.profile(*named(value))
        assert found is not None
        return {f"{each.kind}:{each.value}" for each in found.external_ids}

    def why(one: str, other: str) -> list[Edge]:
        chain = graph.why(named(one), named(other))
        assert chain is not None
        return chain

    def trait_history(value: str, name: str) -> list[str]:
        found = graph.trait_history(named(value), name)
        assert found is not None
        return [json.loads(each.value) for each in found[name]]

    exec(  # the page's own text
        example,
        {
            "apply": lambda each: events.apply(graph, each),
            "track": lambda **given: event("track", given),
            "identify": lambda **given: event("identify", given),
            "profile": profile,
            "why": why,
            "trait_history": trait_history,
            "unmerge": lambda one, other: graph.revisions.unmerge(why(one, other)[0].bond, "the page"),
        },
    )
    graph.close()


def test_the_page_has_examples() -> None:
    """Of which each is run above."""
    assert len(EXAMPLES) >= 4
