"""Webhook sources: any program's JSON, posted to ``/webhooks/{source}``, becomes events.

A kind of webhook says what its sender's calls look like, how they are known to be his, and which events they make. Promised: a call that
is not understood becomes a value that says why, never an exception of another kind; one part of a call that cannot be mapped costs no
other part anything. Nothing here opens a socket or a file.
"""

from segment_do.webhooks.call import Call, Hook, Made, Unmapped, WebhookConfig
from segment_do.webhooks.kinds import KINDS, Kind, make_hook, masked, validated

__all__ = ["KINDS", "Call", "Hook", "Kind", "Made", "Unmapped", "WebhookConfig", "make_hook", "masked", "validated"]
