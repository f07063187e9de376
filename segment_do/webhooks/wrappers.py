"""What queues and event buses put around a message before they post it, taken off again.

Amazon SNS, SQS and EventBridge, Google Pub/Sub, Azure Event Grid, CloudEvents (structured and binary). What has no wrapper is a
message itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from segment_do.errors import InvalidEvent

__all__ = ["Message", "Unwrapped", "unwrap"]

_DEEPEST: Final = 4
"""Wrappers within wrappers: a notification of SNS in a queue of SQS has two."""


class Message(NamedTuple):
    """One message. ``delivery`` is its wrapper's own id, the same in each attempt to deliver it."""

    payload: Any
    delivery: str | None = None
    error: InvalidEvent | None = None
    """Why it could not be taken out."""


class Unwrapped(NamedTuple):
    """The messages of a call, and what its sender wants to see in the answer."""

    messages: list[Message]
    reply: dict[str, Any]


def unwrap(payload: Any, headers: Mapping[str, str]) -> Unwrapped:
    """The messages of a posted JSON value."""
    reply: dict[str, Any] = {}
    return Unwrapped(_messages(payload, headers.get("ce-id"), reply, 0), reply)


def _messages(payload: Any, delivery: str | None, reply: dict[str, Any], depth: int) -> list[Message]:
    if depth > _DEEPEST:
        return [Message(payload, delivery, InvalidEvent("There are too many wrappers.", code="wrapper_unreadable"))]
    if isinstance(payload, list):
        return [message for one in payload for message in _messages(one, None, reply, depth + 1)]
    if not isinstance(payload, dict):
        return [Message(payload, delivery)]

    def inside(inner: Any, inner_id: Any) -> list[Message]:
        return _messages(inner, inner_id if isinstance(inner_id, str) else None, reply, depth + 1)

    if isinstance(payload.get("Records"), list):  # queues and topics of AWS, as functions get them
        return _messages(payload["Records"], None, reply, depth + 1)
    if isinstance(payload.get("Sns"), dict):
        return _messages(payload["Sns"], None, reply, depth + 1)
    if "TopicArn" in payload and "Type" in payload:
        return _notification(payload, reply, depth)
    if isinstance(payload.get("message"), dict) and isinstance(payload.get("subscription"), str):
        return _pushed(payload["message"], reply, depth)
    if "specversion" in payload and "type" in payload:  # CloudEvents
        if "data_base64" in payload:
            return _decoded(payload["data_base64"], payload.get("id"), reply, depth)
        return inside(payload.get("data"), payload.get("id"))
    if "detail-type" in payload and "detail" in payload:  # EventBridge
        return inside(payload["detail"], payload.get("id"))
    if "eventType" in payload and "subject" in payload and "data" in payload:  # Event Grid
        return _grid_event(payload, reply, inside(payload["data"], payload.get("id")))
    if isinstance(payload.get("body"), str) and "messageId" in payload:  # SQS
        return _text(payload["body"], payload["messageId"], reply, depth)
    return [Message(payload, delivery)]


def _notification(payload: dict[str, Any], reply: dict[str, Any], depth: int) -> list[Message]:
    if payload["Type"] == "Notification":
        return _text(payload.get("Message"), payload.get("MessageId"), reply, depth)
    # Visiting an address because a stranger wrote it is not for a server to do.
    asked = InvalidEvent(
        "The topic asks to confirm its subscription: visit SubscribeURL in the payload, once.",
        code="confirm_subscription",
    )
    return [Message(payload, None, asked)]


def _pushed(message: dict[str, Any], reply: dict[str, Any], depth: int) -> list[Message]:
    return _decoded(message.get("data"), message.get("messageId", message.get("message_id")), reply, depth)


def _grid_event(payload: dict[str, Any], reply: dict[str, Any], messages: list[Message]) -> list[Message]:
    if payload["eventType"] != "Microsoft.EventGrid.SubscriptionValidationEvent":
        return messages
    data = payload["data"]
    if isinstance(data, dict) and isinstance(data.get("validationCode"), str):
        reply["validationResponse"] = data["validationCode"]
    return []


def _decoded(text: Any, delivery: Any, reply: dict[str, Any], depth: int) -> list[Message]:
    try:
        return _text(base64.b64decode(text, validate=True), delivery, reply, depth)
    except (binascii.Error, ValueError, TypeError):
        return [Message(text, None, InvalidEvent("The wrapper's data is not base64.", code="wrapper_unreadable"))]


def _text(text: Any, delivery: Any, reply: dict[str, Any], depth: int) -> list[Message]:
    try:
        inner = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        kept = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return [Message(kept, None, InvalidEvent("The wrapper's message is no JSON.", code="wrapper_unreadable"))]
    return _messages(inner, delivery if isinstance(delivery, str) else None, reply, depth + 1)
