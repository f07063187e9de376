"""Unmodified clients when something goes wrong on the way: each event is stored once, and they say how often they tried."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from segment.analytics.client import Client  # type: ignore[import-untyped]

from tests.browser.chromium import Chromium, Visitor
from tests.browser.recorder import Recorder
from tests.e2e.fault_proxy import CUT, NO_CORS, FaultProxy, fault_proxy
from tests.e2e.test_browsers import bundle, site  # noqa: F401  # fixtures
from tests.e2e.test_clients import CLIENTS, stored
from tests.load.platform import Platform

pytestmark = pytest.mark.platform

FAULTS = [
    ("busy", (429, {"Retry-After": "1"})),
    ("unavailable", (503, {})),
    ("cut", CUT),
]


@pytest.fixture
def proxy(platform: Platform) -> Iterator[FaultProxy]:
    with fault_proxy(platform.url) as started:
        yield started


def held(platform: Platform, proxy: FaultProxy, identity: str, events: int, retries: list[str | None]) -> None:
    """Each event was sent as often as expected, said so, and is stored once."""
    rows = stored(platform, identity, events)
    assert len({row[0] for row in rows}) == len(rows) == events
    assert {tuple(tries) for tries in proxy.attempts().values()} == {tuple(retries)}


@pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning")
@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_segment_analytics_python(platform: Platform, proxy: FaultProxy, name: str, fault: Any) -> None:
    """It sends the batch again, with the same ids; after a Retry-After it counts anew."""
    source = platform.create_source(f"python-fault-{name}", f"python-fault-{name}")
    proxy.faults.append(fault)
    client = Client(source["writeKey"], host=proxy.url)
    for number in range(3):
        client.track("ada", "Order Completed", {"number": number})
    client.flush()
    client.join()
    held(platform, proxy, f"python-fault-{name}", 3, [None, None if name == "busy" else "1"])


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_analytics_node(platform: Platform, proxy: FaultProxy, chromium: Chromium, name: str, fault: Any) -> None:
    """It sends the batch again, with the same ids, and says that it does."""
    if not (CLIENTS / "node_modules").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=CLIENTS, check=True, capture_output=True)
    source = platform.create_source(f"node-fault-{name}", f"node-fault-{name}")
    proxy.faults.append(fault)
    subprocess.run(
        ["node", "send_all.mjs", proxy.url, source["writeKey"], "15", f"fault-{name}"],
        cwd=CLIENTS, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    held(platform, proxy, f"node-fault-{name}", 6, [None, "1"])


@pytest.mark.parametrize(("name", "fault"), [*FAULTS, ("no-cors", NO_CORS)])
def test_analytics_next(
    platform: Platform,
    proxy: FaultProxy,
    chromium: Chromium,
    site: Recorder,  # noqa: F811
    bundle: Path,  # noqa: F811
    name: str,
    fault: Any,
) -> None:
    """The browser tries again, also where it was answered and may not read it: stored once all the same."""
    source = platform.create_source(f"next-fault-{name}", f"next-fault-{name}")
    proxy.faults.append(fault)
    site.serve_file("/bundle.js", bundle)
    page = site.serve(
        "/",
        f"""<!doctype html><title>A page</title><script src="/bundle.js"></script><script>
        window.analytics = AnalyticsBrowser.load({{writeKey: "{source["writeKey"]}", cdnURL: "{proxy.url}"}});
        analytics.track("Order Completed", {{revenue: 42}});</script>""",
    )
    visitor = Visitor(chromium)
    opened = visitor.page(page)
    # Closed with an attempt unanswered, it sends that once more, as it should: so its answer is waited for.
    opened.until(
        "performance.getEntriesByType('resource').some((each) => each.name.endsWith('/v1/t') && each.responseStatus === 200)"
    )
    assert visitor.hosts() <= {proxy.host, site.host}
    visitor.close()
    held(platform, proxy, f"next-fault-{name}", 1, [None, "1"])
