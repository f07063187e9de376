"""The window: the cursor moves over finished parts only, in order, whatever order they finish in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.queue.ledger import Retry
from actors.queue.window import Part, Window


def retry(offset: int) -> Retry:
    return Retry(offset, f"m{offset}", 1, 0, 0, None, "timeout", b"{}")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30), st.randoms(use_true_random=False))
def test_finished_parts_leave_in_order(shape: list[tuple[int, int]], order: object) -> None:
    """What is taken joins up without holes or overlaps, holds finished parts only, and in the end all of them."""
    window = Window()
    parts: list[Part] = []
    offset = 0
    for events, others in shape:
        parts.append(window.start(offset, offset + events + others + 1, events))
        offset = parts[-1].end
    unfinished = [part for part in parts if not part.finished]
    order.shuffle(unfinished)  # type: ignore[attr-defined]
    cursor = delivered = retried = 0
    for part in [None, *unfinished]:
        if part is not None:
            window.finish(part, part.events - 1, [retry(part.start)], [])
        open_from = next((each.start for each in parts if not each.finished), offset)
        events, offsets = window.ready()
        passed = window.front()
        if passed is None:
            assert (events, offsets) == (0, 0)
            continue
        assert events == passed.delivered + len(passed.retries)
        assert offsets == passed.end - passed.start
        assert window.front() == passed
        window.drop(passed)
        assert window.front() is None
        assert window.first_event(offset) >= open_from
        assert passed.start == cursor
        cursor, delivered, retried = passed.end, delivered + passed.delivered, retried + len(passed.retries)
        assert cursor == open_from
    assert cursor == offset
    assert delivered + retried == sum(part.events for part in parts)
    assert window.events == 0


def test_every_event_has_one_fate() -> None:
    """A part cannot finish with an event unaccounted for, and parts leave no offset out."""
    window = Window()
    part = window.start(0, 3, 3)
    with pytest.raises(AssertionError):
        window.finish(part, 2, [], [])
    with pytest.raises(AssertionError):
        window.start(4, 5, 1)
