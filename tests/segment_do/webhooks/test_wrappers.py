"""What queues and event buses put around a message: each of `wrappers/*.json` holds the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.webhooks.wrappers import unwrap

FILES = sorted((Path(__file__).parent / "wrappers").glob("*.json"))
INNER = {"message": "Ünwrapped", "n": 1}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_message_is_taken_out(file: Path) -> None:
    """With its wrapper's own id, which names the delivery."""
    ((message,), reply) = unwrap(json.loads(file.read_text()), {})
    assert (message.payload, message.error, reply) == (INNER, None, {})
    assert message.delivery == (None if file.stem == "none" else "d1")


def test_a_binary_cloud_event_is_named_by_its_header() -> None:
    """The event's attributes are headers; the body is the message."""
    assert unwrap(INNER, {"ce-id": "d1"}).messages[0].delivery == "d1"


def test_several_messages_come_out_in_order() -> None:
    """Queues deliver batches."""
    records = [{"messageId": f"d{n}", "body": json.dumps({"n": n})} for n in range(3)]
    messages = unwrap({"Records": records}, {}).messages
    assert [(message.delivery, message.payload["n"]) for message in messages] == [("d0", 0), ("d1", 1), ("d2", 2)]


def test_one_that_cannot_be_read_costs_no_other() -> None:
    """It is told, with what it held."""
    records = [{"messageId": "d0", "body": "no JSON"}, {"messageId": "d1", "body": json.dumps(INNER)}]
    bad, good = unwrap({"Records": records}, {}).messages
    assert bad.error is not None
    assert (bad.error.code, bad.payload, good.payload) == ("wrapper_unreadable", "no JSON", INNER)


@pytest.mark.parametrize("data", ["%%%", 7, None, "bm8gSlNPTg=="])
def test_pushed_data_that_is_no_base64_of_json_is_told(data: Any) -> None:
    """Not raised."""
    (message,) = unwrap({"message": {"data": data, "messageId": "1"}, "subscription": "s"}, {}).messages
    assert message.error is not None


def test_event_grids_question_is_answered() -> None:
    """The code comes back in the answer, and makes no message."""
    asked = {
        "id": "1",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "subject": "",
        "data": {"validationCode": "512d38b6", "validationUrl": "https://example.com"},
    }
    assert unwrap([asked], {}) == ([], {"validationResponse": "512d38b6"})


def test_a_subscription_to_confirm_is_told_and_not_visited() -> None:
    """SubscribeURL is anybody's text; a person may visit it."""
    asked = {
        "Type": "SubscriptionConfirmation",
        "TopicArn": "a",
        "MessageId": "1",
        "SubscribeURL": "http://169.254.169.254/",
    }
    (message,) = unwrap(asked, {}).messages
    assert message.error is not None
    assert message.error.code == "confirm_subscription"


def test_wrappers_within_wrappers_have_an_end() -> None:
    """The fifth level is told."""
    payload: Any = INNER
    for _ in range(10):
        payload = {"specversion": "1.0", "type": "t", "id": "d", "data": payload}
    (message,) = unwrap(payload, {}).messages
    assert message.error is not None


# fmt: off
_NAMES = [
    "Records", "Sns", "Type", "TopicArn", "Message", "message", "data", "subscription", "specversion", "type",
    "data_base64", "detail", "detail-type", "eventType", "subject", "body", "messageId", "x",
]
# fmt: on
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=15,
)


@given(_JSON)
def test_nothing_posted_makes_it_raise(payload: Any) -> None:
    """Whatever it is, messages come out."""
    for message in unwrap(payload, {}).messages:
        assert message.delivery is None or isinstance(message.delivery, str)
