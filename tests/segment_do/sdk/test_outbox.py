"""The queue between calls and sender: bounds, order, batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment_do.errors import Busy
from segment_do.sdk.options import Options, Timing
from segment_do.sdk.outbox import BATCH_BYTES, ENVELOPE_BYTES, ClientClosed, Entry, NotDelivered, Outbox
from segment_do.sdk.receipt import Receipt
from tests.segment_do.sdk.platform import FakeTime


def entry(size: int = 10, name: str = "m") -> Entry:
    return Entry(b"x" * size, Receipt(name))


def outbox(**options: Any) -> Outbox:
    return Outbox(Options(**{"linger_seconds": 0, **options}))


def take(box: Outbox) -> list[Entry]:
    batch = box.take(0)
    assert batch is not None
    return batch


def test_drop_fails_the_new_event_and_keeps_the_old_ones() -> None:
    """At the bound nothing is taken; the receipt says so, and so does the counter."""
    box = outbox(queue_events=2)
    kept = [entry(), entry()]
    box.put(kept)
    late = entry()
    assert box.put([late]) is False
    assert isinstance(late.receipt.error, Busy)
    assert late.receipt.error.code == "queue_full"
    assert box.dropped == 1
    assert take(box) == kept


def test_raise_raises() -> None:
    """The caller decides."""
    box = outbox(queue_bytes=25, on_full="raise")
    box.put([entry(20)])
    with pytest.raises(Busy):
        box.put([entry(6)])
    box.put([entry(5)])


def test_events_count_until_they_are_settled() -> None:
    """What is under way is still in memory, so it is still in the bound."""
    box = outbox(queue_events=1, on_full="raise")
    box.put([entry()])
    batch = take(box)
    with pytest.raises(Busy):
        box.put([entry()])
    box.settle(batch, [None])
    box.put([entry()])


def _in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except ClientClosed as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def _blocked(box: Outbox) -> None:
    """Return once a thread waits for room."""
    for _ in range(1_000_000):
        with box._lock:
            if box._room._waiters:  # type: ignore[attr-defined]
                return
    raise AssertionError("nobody waits")


def test_block_waits_for_room() -> None:
    """The call goes on when an event is settled, and the order stays."""
    box = outbox(queue_events=1, on_full="block")
    box.put([entry()])
    late = entry(name="late")
    thread, _ = _in_thread(lambda: box.put([late]))
    _blocked(box)
    box.settle(take(box), [None])
    thread.join(5)
    assert take(box) == [late]


def test_close_frees_a_blocked_call() -> None:
    """A client that is closed leaves nobody hanging."""
    box = outbox(queue_events=1, on_full="block")
    box.put([entry()])
    thread, outcome = _in_thread(lambda: box.put([entry()]))
    _blocked(box)
    box.close(5, lambda: None)
    thread.join(5)
    assert isinstance(outcome[0], ClientClosed)


def test_what_can_never_fit_is_refused_even_when_blocking() -> None:
    """Waiting for room that will not come is a deadlock."""
    box = outbox(queue_events=2, on_full="block")
    with pytest.raises(Busy):
        box.put([entry(), entry(), entry()])


def test_many_events_are_taken_together_or_not_at_all() -> None:
    """A batch call has one outcome at the queue."""
    box = outbox(queue_events=3, on_full="raise")
    box.put([entry(), entry()])
    with pytest.raises(Busy):
        box.put([entry(), entry()])
    assert box.unsettled == 2


@settings(max_examples=60)
@given(st.lists(st.integers(2, 32_768), min_size=1, max_size=120), st.integers(1, 60))
def test_batches_keep_order_and_limits(sizes: list[int], most: int) -> None:
    """Whatever the sizes: every event once, in order, no body of 475,000 bytes or more."""
    box = outbox(batch_events=most)
    entries = [entry(size, str(index)) for index, size in enumerate(sizes)]
    box.put(entries)
    taken: list[Entry] = []
    while len(taken) < len(entries):
        batch = take(box)
        assert 1 <= len(batch) <= most
        assert ENVELOPE_BYTES + sum(len(one.data) + 1 for one in batch) < BATCH_BYTES
        taken += batch
        box.settle(batch, [None] * len(batch))
    assert taken == entries
    assert (box.unsettled, box._bytes, box._queued_bytes) == (0, 0, 0)


def test_an_event_lingers_for_company_unless_somebody_waits() -> None:
    """0.2 s when nobody does; not at all when somebody does, or when a batch is full."""
    fake = FakeTime()
    timing = Timing(monotonic=fake.monotonic, wait=fake.wait)
    box = outbox(linger_seconds=0.25, batch_events=2, timing=timing)
    box.put([entry()])
    box.settle(take(box), [None])
    assert fake.waits == [0.25]
    box.put([entry()])
    box.hurry()
    box.settle(take(box), [None])
    box.put([entry(), entry()])
    box.settle(take(box), [None, None])
    assert fake.waits == [0.25]


def test_flush_sends_at_once() -> None:
    """Nobody flushes to wait for company."""
    fake = FakeTime()
    box = outbox(linger_seconds=30, timing=Timing(monotonic=fake.monotonic, wait=fake.wait))
    box.put([entry()])
    box.flush()
    take(box)
    assert fake.waits == []


def test_flush_is_settled_by_what_was_queued_before_it() -> None:
    """Not by what comes later, and however it ended."""
    box = outbox(batch_events=1)
    box.put([entry()])
    mark = box.flush()
    box.put([entry()])
    box.settle(take(box), [Busy("failed")])
    assert mark.done
    mark.wait(0)
    assert box.unsettled == 1
    assert outbox().flush().done


def test_abandoned_events_fail_and_late_answers_change_nothing() -> None:
    """Queued and under way alike; the books stay right."""
    box = outbox(batch_events=1)
    entries = [entry(), entry()]
    box.put(entries)
    batch = take(box)
    mark = box.close(5, lambda: None)
    assert box.holds(batch)
    assert box.abandon(NotDelivered("closed")) == entries
    assert mark.done
    assert not box.holds(batch)
    assert not box.pause(1.0, demanded=False)
    box.settle(batch, [None])
    assert all(isinstance(one.receipt.error, NotDelivered) for one in entries)
    assert box.unsettled == 0
    assert box.take(0) is None


def test_after_a_fork_the_child_starts_with_nothing() -> None:
    """The parent delivers what it had; the child's copies of its receipts say so."""
    box = outbox(batch_events=1)
    entries = [entry(), entry()]
    box.put(entries)
    take(box)
    mark = box.flush()
    thread, _ = _in_thread(box._lock.acquire)  # another thread of the parent holds the lock
    thread.join()
    box.start_afresh()
    assert all(isinstance(one.receipt.error, NotDelivered) for one in entries)
    assert mark.done
    assert box.unsettled == 0
    assert box.put([entry()]) is True


def test_a_signal_handler_may_track_while_its_thread_is_in_the_queue() -> None:
    """The lock is the thread's own; a deadlock there would be the program's end."""
    box = outbox()
    with box._lock:
        box.put([entry()])
    assert box.unsettled == 1


def test_a_closed_queue_takes_nothing() -> None:
    """And says which call was too late."""
    box = outbox()
    assert box.close(1, lambda: None).done
    with pytest.raises(ClientClosed):
        box.put([entry()])


@pytest.mark.parametrize("demanded", [True, False])
def test_a_backoff_is_cut_short_by_closing_but_a_servers_wish_is_not(demanded: bool) -> None:
    """At the end, half a second is the longest backoff; what Retry-After asked for is kept to or given up."""
    fake = FakeTime()
    box = outbox(timing=Timing(monotonic=fake.monotonic, wait=fake.wait))
    box.put([entry()])
    take(box)
    box.close(5, lambda: None)
    assert box.pause(20.0, demanded=demanded) is not demanded
    assert fake.waits == ([] if demanded else [0.5])
