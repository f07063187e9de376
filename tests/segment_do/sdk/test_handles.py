"""The bounded map of agents' handles."""

from __future__ import annotations

import gc

from segment_do.sdk import handles
from segment_do.sdk.handles import Handles


class Handle:
    pass


def test_one_that_the_program_holds_stays_the_same_whatever_else_is_used() -> None:
    """The bound drops what nobody holds."""
    map_: Handles[Handle] = Handles()
    held = map_.get("held", Handle, lambda _: True)
    for n in range(handles.KEPT + 10):
        map_.get(n, Handle, lambda _: True)
    gc.collect()
    assert map_.get("held", Handle, lambda _: True) is held
    assert len(map_._recent) == handles.KEPT
    assert len(map_._held) == handles.KEPT
    assert 0 not in map_._held


def test_one_that_is_not_usable_is_replaced() -> None:
    """A closed handle is handed out no more."""
    map_: Handles[Handle] = Handles()
    first = map_.get("a", Handle, lambda _: True)
    second = map_.get("a", Handle, lambda _: False)
    assert second is not first
    assert map_.get("a", Handle, lambda _: True) is second
