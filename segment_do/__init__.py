"""A customer data platform for AI agents and the products they run.

    from segment_do import Analytics

    tom = Analytics.for_("tom")
    tom.track("Code Review Completed", {"pr": 123})

This facade is what programs need: the client, its receipts, and the errors they catch. It imports msgspec and the standard
library; httpx comes with the first event that is sent.
"""

from __future__ import annotations

from segment_do.errors import (
    Busy,
    InvalidEvent,
    InvalidRequest,
    PlatformNotRunning,
    SegmentDoError,
    SettingsError,
    Unauthorized,
    Unavailable,
)
from segment_do.sdk import Analytics, ClientClosed, NotDelivered, Receipt
from segment_do.version import __version__

__all__ = [
    "Analytics",
    "Busy",
    "ClientClosed",
    "InvalidEvent",
    "InvalidRequest",
    "NotDelivered",
    "PlatformNotRunning",
    "Receipt",
    "SegmentDoError",
    "SettingsError",
    "Unauthorized",
    "Unavailable",
    "__version__",
]
