"""Receipts: settled once, awaited anywhere."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings

import pytest

from segment_do.errors import Busy, SegmentDoError, Unavailable
from segment_do.sdk.receipt import BatchReceipt, Closing, Receipt, settle


def test_a_settled_receipt_needs_no_event_loop_and_no_waiting() -> None:
    """`wait` returns at once, `await` does not even yield."""
    receipt = Receipt("m")
    assert not receipt.done
    settle([(receipt, None)])
    receipt.wait(0)
    assert receipt.done
    assert receipt.error is None
    with pytest.raises(StopIteration):
        next(receipt.__await__())


def test_the_first_outcome_stays() -> None:
    """An event abandoned at close does not turn good when a late answer comes."""
    receipt = Receipt("m")
    settle([(receipt, Busy("full"))])
    settle([(receipt, None)])
    with pytest.raises(Busy):
        receipt.wait()


def test_each_waiter_gets_an_error_of_its_own() -> None:
    """One error fails a batch; its traceback must not grow with every raise."""
    error = Unavailable("down", hint="wait", retry_after=7)
    first, second = Receipt("1"), Receipt("2")
    settle([(first, error), (second, error)])
    caught: list[Unavailable] = []
    for receipt in (first, second):
        with pytest.raises(Unavailable) as info:
            receipt.wait()
        caught.append(info.value)
    assert caught[0] is not caught[1]
    assert [(one.message, one.hint, one.retry_after) for one in caught] == [("down", "wait", 7)] * 2
    assert error.__traceback__ is None


def test_waiting_too_long_leaves_the_receipt_as_it_is() -> None:
    """A timeout is the waiter's, not the event's."""
    receipt = Receipt("m")
    with pytest.raises(TimeoutError):
        receipt.wait(0)
    assert receipt._waiters == []
    settle([(receipt, None)])
    receipt.wait(0)


def test_a_dropped_receipt_warns_of_nothing() -> None:
    """Fire and forget is a way of using it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Receipt("m")
        gc.collect()


async def test_a_cancelled_waiter_costs_the_others_nothing() -> None:
    """Three tasks wait, one is cancelled, two get their news."""
    receipt = Receipt("m")
    tasks = [asyncio.ensure_future(receipt) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    assert len(receipt._waiters) == 2
    threading.Thread(target=settle, args=([(receipt, None)],)).start()
    await asyncio.gather(tasks[0], tasks[2])


async def test_cancelled_between_settling_and_waking() -> None:
    """The news is on its way to a task that is cancelled meanwhile: nothing breaks."""
    first, second = Receipt("1"), Receipt("2")
    tasks = [asyncio.ensure_future(receipt) for receipt in (first, second)]
    await asyncio.sleep(0)
    settle([(first, None), (second, None)])  # the wake-up is scheduled, not run
    tasks[0].cancel()
    await tasks[1]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_many_receipts_wake_their_loop_once() -> None:
    """A batch of answers is one wake-up, not one each."""
    receipts = [Receipt(str(n)) for n in range(50)]
    tasks = [asyncio.ensure_future(receipt) for receipt in receipts]
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    calls: list[object] = []
    original = loop.call_soon_threadsafe

    def counted(callback, *args, **keywords):  # type: ignore[no-untyped-def]
        calls.append(callback)
        return original(callback, *args, **keywords)

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
    settle((receipt, None) for receipt in receipts)
    await asyncio.gather(*tasks)
    assert len(calls) == 1


def test_a_loop_that_was_closed_meanwhile_is_nobodys_trouble() -> None:
    """Its tasks are gone; the other waiters still get their news."""
    receipt = Receipt("m")
    loop = asyncio.new_event_loop()
    task = loop.create_task(_await(receipt))
    loop.run_until_complete(asyncio.sleep(0))
    waiting = threading.Event()
    told = threading.Event()

    def other() -> None:
        waiting.set()
        receipt.wait(5)
        told.set()

    thread = threading.Thread(target=other)
    thread.start()
    waiting.wait(5)
    kept = list(receipt._waiters)
    loop.close()
    settle([(receipt, None)])
    assert told.wait(5)
    thread.join()
    assert kept
    task._log_destroy_pending = False  # type: ignore[attr-defined]


async def _await(receipt: Receipt) -> None:
    await receipt


def test_a_batch_waits_for_all_and_then_tells_the_first_failure() -> None:
    """A failure does not hide that others are still under way."""
    receipts = BatchReceipt([Receipt("1"), Receipt("2"), Receipt("3")])
    settle([(receipts[1], Busy("second")), (receipts[2], SegmentDoError("third"))])
    with pytest.raises(TimeoutError):
        receipts.wait(0)
    assert not receipts.done
    settle([(receipts[0], None)])
    with pytest.raises(Busy, match="second"):
        receipts.wait(0)
    with pytest.raises(Busy, match="second"):
        asyncio.run(_await_batch(receipts))
    assert receipts.message_ids == ("1", "2", "3")
    assert repr(receipts) == "<BatchReceipt 3/3 settled>"


async def _await_batch(receipts: BatchReceipt) -> None:
    await receipts


def test_a_closing_is_given_up_at_its_limit() -> None:
    """Nobody waits longer for a client's end than it was given."""
    closings: list[Closing] = []
    for use in (lambda closing: closing.wait(), lambda closing: closing.wait(60), _run_closing):
        closing = Closing(0.0, lambda: settle([(closings[-1], None)]))
        closings.append(closing)
        use(closing)
        assert closing.done


def _run_closing(closing: Closing) -> None:
    async def run() -> None:
        await closing

    asyncio.run(run())
