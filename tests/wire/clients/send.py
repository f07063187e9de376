"""All six calls with everything that a caller may say, and one with nothing but the defaults, by Segment's Python clients.

``python send.py URL KEY MODE RUN``, with ``segment-analytics-python`` or the older ``analytics-python`` importable.
MODE: batched, gzip, single.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

try:
    from segment.analytics.client import Client
except ImportError:
    from analytics.client import Client

url, key, mode, run = sys.argv[1:]
options = {"batched": {}, "gzip": {"gzip": True}, "single": {"sync_mode": True}}[mode]
failed: list[object] = []
client = Client(key, host=url, on_error=lambda *error: failed.append(error), **options)
common = {
    "anonymous_id": f"anon-{run}",
    "timestamp": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    "context": {"ip": "203.0.113.7", "locale": "nl-NL", "campaign": {"name": "spring", "source": "news"}},
    "integrations": {"All": True, "Mixpanel": False, "Amplitude": {"session_id": 1767323045678}},
}
user = f"user-{run}"


def said(call: str) -> dict[str, object]:
    return {**common, "message_id": f"{run}-{call}"}


traits = {"name": "Zoë Ångström ☕", "email": "zoe@example.com", "age": 36, "address": {"city": "Gent", "zip": None}}
order = {
    "revenue": 42.5,
    "currency": "EUR",
    "products": [{"sku": "a-1", "n": 2}],
    "gift": True,
    "when": common["timestamp"],
}
client.identify(user, traits, **said("identify"))
client.track(user, "Order Completed 🎉", order, **said("track"))
client.page(user, "Docs", "Home", {"path": "/docs", "title": 'A "quoted" \\ title'}, **said("page"))
client.screen(user, "App", "Start", {"build": 7}, **said("screen"))
client.group(user, f"group-{run}", {"plan": "pro", "employees": 12}, **said("group"))
del common["anonymous_id"]  # alias takes none
client.alias(f"before-{run}", user, **said("alias"))
client.track(user, "Plain")
if mode != "single":
    client.flush()
    client.join()
sys.exit(1 if failed else 0)
