"""The public surface as a type checker sees it. Never run: it has to pass ``mypy --strict``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, assert_type
from uuid import UUID

from segment_do import Analytics, Receipt, SegmentDoError
from segment_do.sdk import BatchReceipt, Completion, Options, Timing
from segment_do.sdk.testing import Recording, recording


class Agent:
    id = "tom"


async def agents() -> None:
    tom = Analytics.for_("tom")
    assert_type(tom, Analytics)
    Analytics.for_(Agent(), host="http://127.0.0.1:8000", token="t", on_full="block", queue_events=5)
    assert_type(await tom.track("Code Review Completed", {"pr": 123}), None)
    receipt = tom.track("X", {"nested": {"list": [1, None]}}, user_id=7, timestamp=datetime.now(UTC))
    assert_type(receipt, Receipt)
    assert_type(receipt.message_id, str)
    assert_type(receipt.done, bool)
    assert_type(receipt.error, SegmentDoError | None)
    receipt.wait(1.5)
    tom.identify("ralph@agents.do", {"role": "developer"})
    tom.identify(traits={"model": "x"})
    tom.page("Pricing", {"path": "/"}, category="Docs")
    tom.screen("Main", anonymous_id=UUID(int=1))
    tom.group(7, {"name": "Seven"}, context={"ip": "1.2.3.4"}, integrations={"All": False})
    tom.alias("new", "old")
    tom.alias(previous_id="old")
    assert_type(await tom.profile("user_id:u1").traits(), dict[str, Any])
    assert_type(await tom.profile("user_id:u1").trait_history("plan"), list[dict[str, Any]])
    assert_type(tom.profile("user_id:u1").why("email:x@y.z").wait(timeout=1.5), list[dict[str, Any]] | None)
    batch = tom.batch([{"type": "track", "event": "X"}])
    assert_type(batch, BatchReceipt)
    assert_type(await batch, None)
    one_by_one: Sequence[Receipt] = batch
    assert_type(one_by_one[0], Receipt)
    tom.reset()
    assert_type(tom.flush(), Completion)
    assert_type(await tom.close(), None)
    tom.close(2).wait()


def clients() -> None:
    def on_error(error: SegmentDoError, message_ids: list[str]) -> None: ...

    with Analytics(write_key="wk", host="http://127.0.0.1:8000", on_error=on_error, gzip=False) as client:
        assert_type(client, Analytics)
        client.track(event="X", properties=None, user_id="u", message_id="m")
    Analytics("wk", on_full="explode")  # type: ignore[arg-type]
    Analytics("wk", unknown=1)  # type: ignore[call-arg]
    client.track("X", ["not", "an", "object"])  # type: ignore[arg-type]
    Options(timing=Timing(wall=lambda: 0.0))


async def async_clients() -> None:
    async with Analytics("wk") as client:
        assert_type(client, Analytics)
        await client.flush()


def tests() -> None:
    with recording() as events:
        assert_type(events, Recording)
    with Analytics.testing() as events:
        assert_type(len(events.named("X")), int)
