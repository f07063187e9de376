"""The Python SDK: `Analytics`, what its calls return, and its test mode (`segment_do.sdk.testing`)."""

from __future__ import annotations

from segment_do.sdk.analytics import Analytics
from segment_do.sdk.options import Options, Timing
from segment_do.sdk.outbox import ClientClosed, NotDelivered
from segment_do.sdk.receipt import BatchReceipt, Completion, Receipt

__all__ = [
    "Analytics",
    "BatchReceipt",
    "ClientClosed",
    "Completion",
    "NotDelivered",
    "Options",
    "Receipt",
    "Timing",
]
