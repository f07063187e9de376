"""The example of docs/shards.md, run over three shards."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from segment_do.identity.names import named_id
from segment_do.identity.shards import Layout
from tests.segment_do.identity.events import NOON, record
from tests.segment_do.identity.shards.sharded import Sharded

PAGE = Path(__file__).parents[4] / "docs" / "shards.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_example_is_true(tmp_path: Path) -> None:
    """Letters are handed over after each event."""
    sharded = Sharded(tmp_path, Layout(3))
    numbers = itertools.count(1)

    def event(kind: str, given: dict[str, Any]) -> Any:
        number = next(numbers)
        return record(f"m{number}", kind, at=NOON + number, body={"traits": {}}, **given)

    def apply(each: Any) -> None:
        sharded.apply(each)
        sharded.settle()

    def profile(one: str) -> set[str]:
        found = sharded.profile(*named_id(one))
        assert found is not None
        return {f"{each.kind}:{each.value}" for each in found.external_ids}

    def shard(one: str) -> str:
        graph, _hops = sharded.owner(named_id(one))
        return next(name for name, each in sharded.graphs.items() if each is graph)

    (example,) = EXAMPLES
    exec(  # the page's own text
        example,
        {
            "apply": apply,
            "track": lambda **given: event("track", given),
            "identify": lambda **given: event("identify", given),
            "profile": profile,
            "shard": shard,
            "owner": lambda one: sharded.layout.owner(named_id(one)),
        },
    )
    sharded.close()
