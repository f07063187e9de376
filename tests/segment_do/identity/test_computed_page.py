"""The examples of docs/computed-traits.md, run."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from segment_do.computed import COMPUTED_SOURCE, read_definition
from segment_do.computed.conditions import Operator
from segment_do.computed.definition import ComputedTrait, Kind
from tests.segment_do.identity import events
from tests.segment_do.identity.events import NOON, open_graph, outbox_records, record

PAGE = Path(__file__).parents[3] / "docs" / "computed-traits.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_true(tmp_path: Path, example: str) -> None:
    """On a graph of its own; events are a second apart where nothing is said."""
    graph = open_graph(tmp_path)
    numbers = itertools.count(1)

    def event(kind: str, name: str, given: dict[str, Any]) -> Any:
        number = next(numbers)
        ids = {each: given.pop(each) for each in ("user", "anonymous") if each in given}
        body = {"traits" if kind == "identify" else "properties": given}
        at = NOON + (given.pop("minute") * 60 if "minute" in given else number) * 1_000_000
        made = record(f"m{number}", kind, at=at, body=body, **ids)
        made.event = name or None
        return made

    def computed(user: str) -> dict[str, Any]:
        found = graph.profile("user_id", user)
        assert found is not None
        return {key: msgspec.json.decode(each.value) for key, each in found.computed.items()}

    def told(user: str) -> list[dict[str, Any]]:
        found = [each for each in outbox_records(graph) if each.source_id == COMPUTED_SOURCE]
        return [msgspec.json.decode(each.payload) for each in found if each.user_id == user]

    exec(  # the page's own text
        example,
        {
            "define": lambda given: graph.computations.put(read_definition(given), "the page"),
            "apply": lambda each: events.apply(graph, each),
            "track": lambda name, **given: event("track", name, given),
            "page": lambda name, **given: event("page", name, given),
            "identify": lambda **given: event("identify", "", given),
            "computed": computed,
            "told": told,
        },
    )
    graph.close()


def test_the_page_has_examples() -> None:
    """Of which each is run above."""
    assert len(EXAMPLES) >= 3


def test_every_field_has_its_line() -> None:
    """The page names each field of a computed trait, each kind and each operator."""
    names = [*ComputedTrait.__struct_fields__, *Kind.__args__, *Operator.__args__]
    assert [name for name in names if f"`{name}`" not in PAGE.read_text()] == []
