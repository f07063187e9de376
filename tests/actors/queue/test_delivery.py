"""One destination's engine, against a real receiver and a real ledger. Time is moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actors.queue.circuit import FAILURES
from actors.queue.delivery import Delivery
from actors.queue.frame import Frame
from actors.queue.ledger import Ledger
from destinations.base import Outcome, Sender, WholeEvent
from destinations.http import Http
from destinations.registry import validate
from destinations.webhook.send import WebhookSender
from segment_do.errors import CorruptData, InvalidRequest, StorageFailed
from segment_do.events.record import EXTERNAL_ID, OBJECT, REJECTED
from segment_do.settings import DeliverySettings
from tests.actors.queue.rig import ManualClock, MemoryLog, config, record, records, settings, settle_down
from tests.destinations.receiver import HANG, RESET, Answer, Got, Receiver, Reply
from tests.waiting import until


class Bench:
    """A receiver, a log and a ledger; deliveries between them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = MemoryLog()
        self.clock = ManualClock()
        self.receiver = Receiver()
        self.runs: dict[Delivery, asyncio.Task[None]] = {}
        self.https: list[Http] = []

    async def __aenter__(self) -> Bench:
        self.ledger = await Ledger.open(self.path)
        await self.ledger.ensure_cursor("d1", 0)
        await self.receiver.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.runs.values():
            task.cancel()
        await asyncio.gather(*self.runs.values(), return_exceptions=True)
        for http in self.https:
            await http.close()
        await self.receiver.__aexit__()
        await self.ledger.close()

    def make(
        self,
        *,
        sender: Sender | None = None,
        destination: str = "d1",
        source_id: str | None = None,
        given: DeliverySettings | None = None,
        **webhook: Any,
    ) -> Delivery:
        given = given or settings()
        if sender is None:
            self.https.append(Http(given))
            sender = WebhookSender(validate("webhook", {"url": self.receiver.url, **webhook}), self.https[-1])
        return Delivery(
            config(destination, source_id),
            sender,
            self.log,
            self.ledger,
            given,
            clock=self.clock,
            random=lambda: 0.5,
        )

    def start(self, **given: Any) -> Delivery:
        delivery = self.make(**given)
        self.runs[delivery] = asyncio.create_task(delivery.run())
        return delivery

    async def kill(self, delivery: Delivery) -> None:
        """As a crash would, at this point: cancel, and open the ledger anew."""
        task = self.runs.pop(delivery)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.ledger.close()
        self.ledger = await Ledger.open(self.path)

    async def stop(self, delivery: Delivery) -> None:
        await delivery.stop()
        await self.runs.pop(delivery)

    def failing(self, *ids: str, reply: Reply = Answer(503)) -> None:  # noqa: B008  # an answer is immutable
        """From now on events with these ids get ``reply``; no ids: all."""
        self.receiver.reply = lambda got: reply if not ids or set(got.ids) & set(ids) else Answer()

    async def advance_until(self, condition: Any) -> None:
        """Move the clock from wait to wait until the condition holds."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "the condition never came to hold"
            await settle_down(30)
            if self.clock.next_seconds is not None:
                self.clock.advance(max(self.clock.next_seconds, 0.001))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(tmp_path / "ledger.db") as made:
        yield made


def behind(delivery: Delivery, end: int) -> Any:
    return lambda: delivery.status()["cursor"] == end


# What is delivered


async def test_every_event_once_in_order(bench: Bench) -> None:
    """With one request at a time, a healthy receiver gets the log: each event once, in order."""
    bench.log.append(records(*range(50)))
    delivery = bench.start(given=settings(concurrency=1))
    await until(behind(delivery, 50))
    bench.log.append(records(*range(50, 80)), "ralph")
    await until(behind(delivery, 80))
    assert bench.receiver.ids == [f"m{number}" for number in range(80)]
    assert delivery.status() == {
        "cursor": 80,
        "lag": 0,
        "delivered": 80,
        "skipped": 0,
        "dropped": 0,
        "retrying": 0,
        "dead": 0,
        "state": "delivering",
        "lastFailure": "",
    }


async def test_body_is_the_whole_event(bench: Bench) -> None:
    """What arrives is the event with the platform's fields laid over."""
    bench.log.append([record("m1", payload=b'{"writeKey":"k","properties":{"a":1.0}}')])
    bench.start()
    await bench.receiver.until(lambda: len(bench.receiver.got) == 1)
    event = msgspec.json.decode(bench.receiver.got[0].body)
    assert event["messageId"] == "m1"
    assert event["userId"] == "u1"
    assert event["receivedAt"] == "2023-11-14T22:13:20.000Z"
    assert "writeKey" not in event


async def test_only_its_source_and_nothing_rejected(bench: Bench) -> None:
    """Events of other sources, what was set aside, objects and changes of external ids pass by; the cursor passes them too."""
    bench.log.append([*records(1, 2, source_id="s1"), *records(3, source_id="s2"), *records(4, type=REJECTED)])
    bench.log.append([*records(7, source_id="s1", type=OBJECT), *records(5, source_id="s2")])
    bench.log.append(records(6, source_id="s1"))
    bench.log.append(records(8, 9, source_id="s1", type=EXTERNAL_ID))
    mine = bench.start(source_id="s1")
    await until(lambda: mine.status()["lag"] == 0)
    assert sorted(bench.receiver.ids) == ["m1", "m2", "m6"]
    await bench.stop(mine)
    assert (await bench.ledger.cursors())["d1"] == 9
    await bench.ledger.ensure_cursor("d2", 0)
    everything = bench.start(destination="d2")
    await until(lambda: everything.status()["lag"] == 0)
    assert sorted(bench.receiver.ids[3:]) == ["m1", "m2", "m3", "m5", "m6"]


async def test_new_destination_starts_at_the_end(bench: Bench) -> None:
    """What was there before it is not for it, and its place is kept from the moment it is loaded."""
    bench.log.append(records(1, 2))
    delivery = bench.make(destination="new")
    await delivery.load()
    bench.log.append(records(3))
    bench.runs[delivery] = asyncio.create_task(delivery.run())
    await until(behind(delivery, 3))
    assert bench.receiver.ids == ["m3"]


async def test_requests_at_once_are_bounded(bench: Bench) -> None:
    """Fresh events and retries together never have more than `concurrency` requests under way."""
    bench.log.append(records(*range(40)))
    poison = {f"m{n}" for n in range(1, 9)}

    async def slowly(got: Got) -> Reply:
        await settle_down(20)
        return Answer(503 if poison & set(got.ids) else 200)

    bench.receiver.reply = slowly
    delivery = bench.start(given=settings(concurrency=3, retry_first_seconds=1))
    await until(behind(delivery, 40))
    bench.log.append(records(*range(40, 80)))
    bench.clock.advance(1)
    await until(behind(delivery, 80))
    await until(lambda: len(bench.receiver.got) == 88)
    assert bench.receiver.most_at_once == 3


# What fails


async def test_failing_event_is_set_aside_and_tried_again(bench: Bench) -> None:
    """Nobody waits for it; it comes again at its time, with the same idempotency key and the same bytes."""
    bench.log.append(records(*range(10)))
    bench.failing("m3")
    delivery = bench.start(secret="s")
    await until(behind(delivery, 10))
    assert delivery.status()["retrying"] == 1
    assert delivery.status()["lastFailure"] == "status_503"
    await settle_down()
    assert bench.receiver.ids.count("m3") == 1
    bench.clock.advance(1)
    await until(lambda: bench.receiver.ids.count("m3") == 2)
    bench.receiver.reply = lambda got: Answer()
    await bench.advance_until(lambda: delivery.status()["retrying"] == 0)
    tries = [got for got in bench.receiver.got if got.ids == ["m3"]]
    assert len(tries) == 3
    assert {got.headers["idempotency-key"] for got in tries} == {"m3"}
    assert len({got.body for got in tries}) == 1
    assert len({got.headers["x-signature"] for got in tries}) == 1
    assert delivery.status()["delivered"] == 10


async def test_time_that_passes_while_the_ledger_is_asked_counts(bench: Bench) -> None:
    """An event that falls due while the ledger is asked when the next one is due is tried at once, not a wait later."""
    bench.log.append(records(*range(3)))
    bench.failing("m1")
    asked = bench.ledger.next_due

    async def slowly(destination: str) -> int | None:
        found = await asked(destination)
        bench.clock.advance(1)
        return found

    bench.ledger.next_due = slowly  # type: ignore[method-assign]
    bench.start()
    await until(lambda: bench.receiver.ids.count("m1") == 2)


@pytest.mark.parametrize(
    ("reply", "reason"), [(RESET, "connection_reset"), (HANG, "timeout"), (Answer(408), "status_408")]
)
async def test_other_failures_are_tried_again(bench: Bench, reply: Reply, reason: str) -> None:
    """Cut connections, silence and 408 all come again."""
    bench.log.append(records(1, 2))
    bench.failing("m1", reply=reply)
    delivery = bench.start(given=settings(timeout_seconds=0.2))
    await until(behind(delivery, 2))
    assert delivery.status()["lastFailure"] == reason
    bench.receiver.reply = lambda got: Answer()
    await bench.advance_until(lambda: delivery.status()["delivered"] == 2)


async def test_refused_event_is_a_dead_letter(bench: Bench) -> None:
    """A 4xx is not tried again: payload, answer and reason are kept, and found by message id."""
    bench.log.append(records(1, 2))
    bench.failing("m1", reply=Answer(422, (), b'{"error":"no such field"}'))
    delivery = bench.start()
    await until(behind(delivery, 2))
    (letter,) = await bench.ledger.dead("d1", 10)
    assert (letter.offset, letter.message_id, letter.attempts) == (0, "m1", 1)
    assert (letter.status, letter.reason, letter.response) == (422, "status_422", '{"error":"no such field"}')
    assert letter.event == next(got.body for got in bench.receiver.got if got.ids == ["m1"])
    assert await bench.ledger.find("m1") == {"d1": "dead"}
    assert delivery.status()["dead"] == 1


async def test_redirect_is_a_dead_letter(bench: Bench) -> None:
    """A redirect is not followed: the event is given up with that as its reason."""
    bench.log.append(records(1))
    bench.failing(reply=Answer(302, (("Location", "http://127.0.0.1:1/"),)))
    delivery = bench.start()
    await until(behind(delivery, 1))
    assert (await bench.ledger.dead("d1", 1))[0].reason == "redirect"


async def test_event_is_given_up_after_the_hours(bench: Bench) -> None:
    """It is tried until retry_hours are over, once more then, and becomes a dead letter."""
    bench.log.append(records(1))
    bench.failing()
    delivery = bench.start(given=settings(retry_hours=0.01, retry_first_seconds=4, retry_max_seconds=16))
    began = bench.clock.now()
    await bench.advance_until(lambda: delivery.status()["dead"] == 1)
    (letter,) = await bench.ledger.dead("d1", 1)
    assert letter.reason == "gave_up:status_503"
    assert letter.attempts == len(bench.receiver.got) > 3
    assert 36 <= (letter.at - began) / 1_000_000 < 60
    assert delivery.status()["retrying"] == 0


async def test_dead_letters_are_replayed(bench: Bench) -> None:
    """They are due at once, and gone when they are delivered; all without the log."""
    bench.log.append(records(*range(6)))
    bench.failing("m1", "m4", reply=Answer(400))
    delivery = bench.start()
    await until(behind(delivery, 6))
    bench.log.forget_below(6)
    bench.receiver.reply = lambda got: Answer()
    assert await delivery.replay_dead() == 2
    await until(lambda: delivery.status()["delivered"] == 6)
    assert (delivery.status()["dead"], delivery.status()["retrying"]) == (0, 0)
    assert Counter(bench.receiver.ids) == Counter([f"m{n}" for n in range(6)] + ["m1", "m4"])


async def test_event_that_cannot_be_put_together(bench: Bench) -> None:
    """Its bytes are kept as a dead letter; its neighbours in the same batch go on."""
    bench.log.append([*records(1), record("m2", payload=b"[not an object]"), *records(3)])
    delivery = bench.start(batch_size=10)
    await until(behind(delivery, 3))
    assert bench.receiver.ids == ["m1", "m3"]
    (letter,) = await bench.ledger.dead("d1", 1)
    assert (letter.message_id, letter.reason, letter.event) == ("m2", "unreadable", b"[not an object]")


async def test_room_for_retries_is_bounded(bench: Bench) -> None:
    """At max_retrying the cursor waits, though the log has more; it goes on when retries are through."""
    bench.log.append(records(*range(30)))
    bench.receiver.reply = lambda got: Answer(503 if int(got.ids[0][1:]) % 2 else 200)
    delivery = bench.start(given=settings(max_retrying=5))
    await until(lambda: delivery.status()["retrying"] == 5)
    await settle_down()
    assert delivery.status()["retrying"] == 5
    assert delivery.status()["lag"] > 0
    bench.receiver.reply = lambda got: Answer()
    await bench.advance_until(lambda: delivery.status()["delivered"] == 30)
    assert set(bench.receiver.ids) == {f"m{n}" for n in range(30)}


async def test_slow_event_holds_up_no_later_one(bench: Bench) -> None:
    """While one attempt hangs, those behind it, and events that arrive meanwhile, are sent."""
    bench.log.append(records(*range(10)))
    bench.failing("m0", reply=HANG)
    delivery = bench.start()
    await bench.receiver.until(lambda: len(bench.receiver.got) == 10)
    bench.log.append(records(*range(10, 20)))
    await bench.receiver.until(lambda: len(bench.receiver.got) == 20)
    assert delivery.status()["cursor"] == 0
    assert delivery.status()["lag"] == 20


# When the whole destination fails


async def test_destination_that_is_down_is_left_alone(bench: Bench) -> None:
    """After failures in a row nothing is sent, the cursor stays, and each pause is followed by one event of a kind."""
    bench.log.append(records(*range(1000)))
    bench.failing()
    delivery = bench.start(given=settings(concurrency=4))
    await until(lambda: delivery.status()["state"] == "paused")
    await settle_down(1000)
    tried = len(bench.receiver.got)
    assert FAILURES <= tried < FAILURES + 4
    await until(behind(delivery, tried))
    assert delivery.status()["retrying"] == tried
    for pause in (1.0, 2.0, 4.0):
        at = delivery.status()["cursor"]
        bench.clock.advance(pause)
        await until(behind(delivery, at + 1))
        await settle_down(1000)
        assert delivery.status()["cursor"] == delivery.status()["retrying"] == at + 1
        assert len(bench.receiver.got) - tried in (1, 2)  # one from the log, and perhaps one of those that wait
        tried = len(bench.receiver.got)
    waits = bench.clock.waits
    await settle_down(1000)
    assert bench.clock.waits - waits < 5, "it waits, it does not spin"


async def test_destination_that_comes_back_gets_everything(bench: Bench) -> None:
    """The first probe that comes through opens it; nothing was lost meanwhile."""
    bench.log.append(records(*range(200)))
    bench.failing()
    delivery = bench.start()
    await until(lambda: delivery.status()["state"] == "paused")
    bench.receiver.reply = lambda got: Answer()
    await bench.advance_until(lambda: delivery.status()["delivered"] == 200)
    assert set(bench.receiver.ids) == {f"m{n}" for n in range(200)}
    assert delivery.status()["state"] == "delivering"


async def test_nobody_listening(bench: Bench) -> None:
    """A port without a listener is the same: a few attempts, then a pause."""
    bench.log.append(records(*range(100)))
    delivery = bench.start(url="http://127.0.0.1:1/")
    await until(lambda: delivery.status()["state"] == "paused")
    assert delivery.status()["lastFailure"] == "connection_refused"
    assert delivery.status()["cursor"] < FAILURES + 4


async def test_events_that_never_succeed_block_nobody(bench: Bench) -> None:
    """A run of events that the receiver always fails trips the pause; the events behind them still get through."""
    poison = [f"m{n}" for n in range(3 * FAILURES)]
    bench.log.append(records(*range(100)))
    bench.failing(*poison)
    delivery = bench.start(given=settings(retry_max_seconds=30))
    await bench.advance_until(lambda: delivery.status()["delivered"] == 70)
    assert delivery.status()["retrying"] == len(poison)


async def test_retry_after_of_429_pauses_the_destination(bench: Bench) -> None:
    """All of it is left alone for the time asked, no event is lost, and then it goes on."""
    bench.log.append(records(*range(20)))
    bench.failing(reply=Answer(429, (("Retry-After", "30"),)))
    delivery = bench.start(given=settings(concurrency=2))
    await until(lambda: delivery.status()["state"] == "paused")
    await until(lambda: delivery.status()["cursor"] > 0)
    await settle_down()
    tried = len(bench.receiver.got)
    assert tried <= 2
    bench.receiver.reply = lambda got: Answer()
    bench.clock.advance(29.9)
    await settle_down(1000)
    assert len(bench.receiver.got) == tried
    bench.clock.advance(5)
    await until(lambda: delivery.status()["delivered"] == 20)


async def test_slow_destination_never_delays_another(bench: Bench) -> None:
    """One that hangs and one that is healthy share the log and the ledger, and nothing else."""
    bench.log.append(records(*range(300)))
    await bench.ledger.ensure_cursor("slow", 0)
    async with Receiver(lambda got: HANG) as hanging:
        slow = bench.start(destination="slow", url=hanging.url)
        await hanging.until(lambda: len(hanging.got) == 4)
        healthy = bench.start()
        await until(behind(healthy, 300))
        assert len(hanging.got) == 4
        assert slow.status()["cursor"] == 0


# Batches


async def test_batches_are_arrays_in_order(bench: Bench) -> None:
    """Up to batch_size events a request, in the log's order; none waits for a batch to fill."""
    bench.log.append(records(*range(25)))
    delivery = bench.start(batch_size=10, given=settings(concurrency=1))
    await until(behind(delivery, 25))
    assert [len(got.ids) for got in bench.receiver.got] == [10, 10, 5]
    assert bench.receiver.ids == [f"m{n}" for n in range(25)]


async def test_failed_batch_comes_back_with_its_key(bench: Bench) -> None:
    """The same events in the same order, under the same idempotency key."""
    bench.log.append(records(*range(10)))
    bench.failing()
    delivery = bench.start(batch_size=10)
    await until(lambda: delivery.status()["retrying"] == 10)
    bench.receiver.reply = lambda got: Answer()
    await bench.advance_until(lambda: delivery.status()["delivered"] == 10)
    first, second = bench.receiver.got
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_probe_is_one_event(bench: Bench) -> None:
    """A destination that takes batches is probed with single events: few are set aside while it is down."""
    bench.log.append(records(*range(500)))
    bench.failing()
    delivery = bench.start(batch_size=10)
    await until(lambda: delivery.status()["state"] == "paused")
    await until(lambda: not delivery._window.events)  # whatever was under way when it paused is over
    tried = len(bench.receiver.got)
    bench.clock.advance(1)
    await until(lambda: len(bench.receiver.got) > tried)
    assert {len(got.ids) for got in bench.receiver.got[:tried]} == {10}
    assert {len(got.ids) for got in bench.receiver.got[tried:]} == {1}


async def test_batch_that_is_too_large_is_halved(bench: Bench) -> None:
    """413 sends the halves; only an event that is too large alone is given up."""
    bench.log.append(records(*range(10)))
    bench.receiver.reply = lambda got: Answer(413 if len(got.ids) > 2 or "m7" in got.ids else 200)
    delivery = bench.start(batch_size=10)
    await until(behind(delivery, 10))
    assert (delivery.status()["delivered"], delivery.status()["dead"]) == (9, 1)
    assert await bench.ledger.find("m7") == {"d1": "dead"}


# Stops, crashes, restarts


async def test_stop_finishes_what_is_under_way(bench: Bench) -> None:
    """After a stop nothing that was sent is sent again, and the rest is delivered by the next run."""
    release = asyncio.Event()

    async def slowly(got: Got) -> Reply:
        await release.wait()
        return Answer()

    bench.receiver.reply = slowly
    bench.log.append(records(*range(100)))
    first = bench.start()
    await until(lambda: bench.receiver.most_at_once == 4)
    stopping = asyncio.create_task(first.stop())
    await settle_down()
    assert not stopping.done()
    release.set()
    await stopping
    await bench.runs.pop(first)
    assert len(bench.receiver.got) == 4
    assert first.status()["state"] == "stopped"
    second = bench.start()
    await until(behind(second, 100))
    assert Counter(bench.receiver.ids) == Counter(f"m{n}" for n in range(100))


async def test_stop_of_an_idle_or_paused_delivery(bench: Bench) -> None:
    """Waiting for the log or for a pause to end, it stops at once; never started, it has nothing to stop."""
    await bench.make().stop()
    idle = bench.start()
    await settle_down()
    await bench.stop(idle)
    bench.log.append(records(*range(50)))
    bench.failing()
    paused = bench.start()
    await until(lambda: paused.status()["state"] == "paused")
    await bench.stop(paused)


@hypothesis_settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    crashes=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    replies=st.lists(st.sampled_from([200, 200, 200, 503, 400, 413, RESET]), min_size=1, max_size=20),
    batch_size=st.sampled_from([1, 1, 3]),
    turns=st.integers(0, 80),
)
async def test_killed_at_any_point_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
    crashes: list[int],
    replies: Sequence[int | str],
    batch_size: int,
    turns: int,
) -> None:
    """Whenever it is killed, every event ends delivered or dead; what comes twice had not been stored yet."""
    async with Bench(tmp_path_factory.mktemp("kill") / "ledger.db") as bench:
        bench.log.append(records(*range(40)))
        bench.log.append(records(*range(40, 60)))
        answered = iter(range(10**9))
        accepted: Counter[str] = Counter()

        def reply(got: Got) -> Reply:
            number = next(answered)
            said = replies[number % len(replies)] if number < 50 else 200
            if said == 200:
                accepted.update(got.ids)
            return RESET if said == RESET else Answer(int(said))

        bench.receiver.reply = reply
        forgotten = 0  # accepted by the receiver, and not stored as delivered when it was killed
        for after in crashes:
            delivery = bench.start(batch_size=batch_size)
            seen = len(bench.receiver.got) + after
            await bench.advance_until(
                lambda seen=seen, now=delivery: (
                    len(bench.receiver.got) >= seen or (now.status()["cursor"] == 60 and now.status()["retrying"] == 0)
                )
            )
            await settle_down(turns)
            await bench.kill(delivery)
            await settle_down()
            forgotten = sum(accepted.values()) - (await bench.ledger.counts("d1")).delivered
        last = bench.start(batch_size=batch_size)
        await bench.advance_until(lambda: last.status()["cursor"] == 60 and last.status()["retrying"] == 0)
        dead = {letter.message_id for letter in await bench.ledger.dead("d1", 999)}
        assert set(accepted) | dead == {f"m{n}" for n in range(60)}
        assert last.status()["cursor"] == 60
        assert sum(accepted.values()) - len(accepted) <= forgotten
        assert sum(accepted.values()) - last.status()["delivered"] == forgotten


async def test_crash_repeats_only_what_was_not_stored(bench: Bench) -> None:
    """Killed with attempts hanging, the next run sends those again and nothing that is below the cursor."""
    bench.log.append(records(*range(200)))
    bench.failing("m150", "m151", "m152", "m153", reply=HANG)
    first = bench.start(given=settings(concurrency=4))
    await bench.receiver.until(lambda: len(bench.receiver.got) >= 154)
    await until(lambda: first.status()["cursor"] >= 128)
    await bench.kill(first)
    bench.receiver.reply = lambda got: Answer()
    second = bench.start()
    await until(behind(second, 200))
    counted = Counter(bench.receiver.ids)
    assert set(counted) == {f"m{n}" for n in range(200)}
    assert {name for name, times in counted.items() if times > 1} <= {f"m{n}" for n in range(128, 154)}


async def test_full_disk_loses_and_repeats_nothing(bench: Bench) -> None:
    """While outcomes cannot be stored they are kept and tried again; no event is sent a second time for it."""
    (pages,) = (await bench.ledger._rows("PRAGMA page_count"))[0]
    await bench.ledger._rows(f"PRAGMA max_page_count = {pages}")
    bench.log.append(records(*range(40), payload=b'{"x":"%b"}' % (b"x" * 3000)))
    bench.failing("m1", "m2", "m3", "m4", "m5", reply=Answer(400))
    delivery = bench.start()
    await bench.receiver.until(lambda: len(bench.receiver.got) == 40)
    await until(lambda: bench.clock.next_seconds is not None)
    assert delivery.status()["cursor"] == 0
    await bench.ledger._rows("PRAGMA max_page_count = 1000000")
    await bench.advance_until(behind(delivery, 40))
    assert len(bench.receiver.got) == 40
    assert delivery.status()["dead"] == 5


async def test_stop_on_a_full_disk_leaves_it_to_be_redone(bench: Bench) -> None:
    """A stop does not wait for a disk that stays full: the run ends with the error, and the next sends again."""
    (pages,) = (await bench.ledger._rows("PRAGMA page_count"))[0]
    await bench.ledger._rows(f"PRAGMA max_page_count = {pages}")
    bench.log.append(records(*range(5), payload=b'{"x":"%b"}' % (b"x" * 3000)))
    bench.failing(reply=Answer(400))
    delivery = bench.start()
    await until(lambda: bench.clock.next_seconds is not None)
    await delivery.stop()
    with pytest.raises(StorageFailed):
        await bench.runs.pop(delivery)
    await bench.ledger._rows("PRAGMA max_page_count = 1000000")
    assert (await bench.ledger.cursors())["d1"] == 0
    again = bench.start()
    await until(behind(again, 5))
    assert again.status()["dead"] == 5


# The log's own limits


async def test_log_that_forgot(bench: Bench) -> None:
    """A cursor below what the log still has goes on there; what is gone is counted."""
    bench.log.append(records(*range(10)))
    bench.log.append(records(*range(10, 15)))
    bench.log.forget_below(10)
    delivery = bench.start()
    await until(behind(delivery, 15))
    assert delivery.status()["skipped"] == 10
    assert sorted(bench.receiver.ids) == sorted(f"m{n}" for n in range(10, 15))
    assert (await bench.ledger.counts("d1")).skipped == 10


async def test_log_that_lost_its_tail(bench: Bench) -> None:
    """A cursor behind the log's end would step over new events: it goes back to the end."""
    bench.log.append(records(*range(5)))
    await bench.ledger.move_cursor("d1", 50)
    delivery = bench.start()
    await until(behind(delivery, 5))
    bench.log.append(records(*range(5, 8)))
    await until(behind(delivery, 8))
    assert sorted(bench.receiver.ids) == ["m5", "m6", "m7"]


async def test_cursor_inside_a_frame(bench: Bench) -> None:
    """Of a frame that the cursor stands in, only what is not behind it is sent."""
    bench.log.append(records(*range(10)))
    await bench.ledger.move_cursor("d1", 7)
    delivery = bench.start()
    await until(behind(delivery, 10))
    assert sorted(bench.receiver.ids) == ["m7", "m8", "m9"]


async def test_frame_that_cannot_be_read_stops_the_run(bench: Bench) -> None:
    """Corruption is for a human: the run ends with it, what was before is stored, nothing is stepped over."""
    bench.log.append(records(*range(3)))
    delivery = bench.start()
    await until(behind(delivery, 3))
    bench.log.frames.append(Frame(3, 2, "tom", b"\xc1\xc1"))
    bench.log.end = 5
    bench.log._more.set()
    with pytest.raises(CorruptData, match="offset 3"):
        await bench.runs.pop(delivery)
    assert (await bench.ledger.cursors())["d1"] == 3


# Replay


async def test_replay_from_an_offset(bench: Bench) -> None:
    """Everything from there is delivered again; dead letters it passes are replaced by the new outcome."""
    bench.log.append(records(*range(10)))
    bench.failing("m2", "m8", reply=Answer(400))
    delivery = bench.start()
    await until(behind(delivery, 10))
    bench.failing("m2", reply=Answer(400))
    assert await delivery.replay_from(5) == 5
    await until(lambda: len(bench.receiver.got) == 15)
    await until(behind(delivery, 10))
    assert {name for name, times in Counter(bench.receiver.ids).items() if times == 2} == {
        f"m{n}" for n in range(5, 10)
    }
    assert [letter.message_id for letter in await bench.ledger.dead("d1", 9)] == ["m2"]


async def test_replay_while_sending(bench: Bench) -> None:
    """What is under way is stored first; several replays at once go back to the lowest."""
    bench.log.append(records(*range(100)))
    delivery = bench.start()
    await bench.receiver.until(lambda: len(bench.receiver.got) >= 30)
    await asyncio.gather(delivery.replay_from(10), delivery.replay_from(3), delivery.replay_from(7))
    await until(behind(delivery, 100))
    counted = Counter(bench.receiver.ids)
    assert set(counted) == {f"m{n}" for n in range(100)}
    assert [counted[f"m{n}"] for n in range(3)] == [1, 1, 1]
    assert counted["m3"] == 2
    assert max(counted.values()) == 2


async def test_replay_of_a_delivery_that_does_not_run(bench: Bench) -> None:
    """The cursor is moved back in the ledger; the next run delivers from there. Below the log's floor is its floor."""
    bench.log.append(records(*range(10)))
    first = bench.start()
    await until(behind(first, 10))
    await bench.stop(first)
    bench.log.append(records(*range(10, 12)))
    assert await first.replay_from(8) == 2
    second = bench.start()
    await until(behind(second, 12))
    assert Counter(bench.receiver.ids)["m8"] == 2
    bench.log.forget_below(10)
    assert await second.replay_from(0) == 2
    await until(lambda: Counter(bench.receiver.ids)["m11"] == 2)
    assert second.status()["skipped"] == 0


async def test_replay_ahead_is_refused(bench: Bench) -> None:
    """Moving a cursor forwards would lose events."""
    bench.log.append(records(*range(10)))
    delivery = bench.start()
    await until(behind(delivery, 10))
    for offset in (11, -1):
        with pytest.raises(InvalidRequest):
            await delivery.replay_from(offset)
    await bench.stop(delivery)
    with pytest.raises(InvalidRequest):
        await delivery.replay_from(11)


# Tests by hand, and senders that misbehave


async def test_test_event(bench: Bench) -> None:
    """One sample event goes out, signed like any other; nothing about it is stored."""
    delivery = bench.make(secret="s")
    assert await delivery.deliver_test() == {"ok": True, "status": 200, "detail": "Answered 200. {}"}
    (got,) = bench.receiver.got
    assert "x-signature" in got.headers
    event = msgspec.json.decode(got.body)
    assert (event["type"], event["event"], event["userId"]) == ("track", "Test Event", "test-user")
    bench.failing(reply=Answer(403, (), b"who are you?"))
    assert await delivery.deliver_test() == {"ok": False, "status": 403, "detail": "Answered 403. who are you?"}
    unreachable = await bench.make(url="http://127.0.0.1:1/").deliver_test()
    assert (unreachable["ok"], unreachable["status"]) == (False, None)
    assert "refuses" in unreachable["detail"]
    assert (await bench.ledger.counts("d1")).delivered == 0


class BadSender:
    """A third party's sender with faults."""

    batch_size = 2

    def __init__(self, fault: str) -> None:
        self.fault = fault

    async def send(self, events: Sequence[WholeEvent]) -> Sequence[Outcome]:
        if self.fault == "raises":
            raise RuntimeError("token hunter2 is wrong")
        if self.fault == "hangs":
            await asyncio.Event().wait()
        return [Outcome(200)]


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [("raises", "dead", "sender_failed"), ("short", "dead", "sender_failed"), ("hangs", "retrying", "timeout")],
)
async def test_sender_with_faults(
    bench: Bench, capsys: pytest.CaptureFixture[str], fault: str, status: str, reason: str
) -> None:
    """Its fault costs the events of that attempt, not the engine; what it raised is not shown."""
    bench.log.append(records(1, 2))
    delivery = bench.start(sender=BadSender(fault), given=settings(timeout_seconds=0.05))
    await until(behind(delivery, 2))
    assert delivery.status()[status] == 2
    assert delivery.status()["lastFailure"] == reason
    for letter in await bench.ledger.dead("d1", 9):
        assert "hunter2" not in letter.response
    assert "hunter2" not in "".join(capsys.readouterr())
