"""The Python SDK: `Analytics`, what its calls return, and its test mode (`segment_do.sdk.testing`)."""

from __future__ import annotations

from segment_do.sdk.analytics import Analytics
from segment_do.sdk.options import Options, Timing
from segment_do.sdk.outbox import ClientClosed, NotDelivered
from segment_do.sdk.profile import Answer, Profile
from segment_do.sdk.receipt import BatchReceipt, Completion, Receipt

__all__ = [
    "Analytics",
    "Answer",
    "BatchReceipt",
    "ClientClosed",
    "Completion",
    "NotDelivered",
    "Options",
    "Profile",
    "Receipt",
    "Timing",
]
