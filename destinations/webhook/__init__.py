"""Webhook: every event to a URL of one's own, as JSON, signed."""

from __future__ import annotations

from destinations.base import Destination, Field
from destinations.webhook.send import MAX_BATCH, METHODS, WebhookSender, check_headers

__all__ = ["DESTINATION"]

DESTINATION = Destination(
    type="webhook",
    name="Webhook",
    description="Sends every event as JSON to a URL, signed so that the receiver can tell who sent it.",
    fields=(
        Field(
            name="url",
            label="URL",
            description="Where events are sent: http or https. Redirects are not followed.",
            type="url",
            required=True,
        ),
        Field(
            name="method",
            label="Method",
            description="HTTP method of the requests.",
            type="choice",
            choices=METHODS,
            default="POST",
        ),
        Field(
            name="headers",
            label="Headers",
            description="Headers added to every request, such as Authorization. Values are never shown again.",
            type="mapping",
            secret=True,
            default={},
        ),
        Field(
            name="secret",
            label="Shared secret",
            description="Signs every request: X-Signature is the hex HMAC-SHA1 of the body (of a batch: of its first event).",
            type="text",
            secret=True,
        ),
        Field(
            name="batch_size",
            label="Batch size",
            description="Most events a request. 1 sends one JSON object; more sends a JSON array, even of one.",
            type="integer",
            minimum=1,
            maximum=MAX_BATCH,
            default=1,
        ),
    ),
    make=WebhookSender,
    check=check_headers,
)
