"""/metrics: what a replica has counted, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["METRICS", "metrics_text"]

METRICS: dict[str, tuple[str, str, str]] = {
    "requests": ("counter", "segment_do_requests", "Tracking requests received."),
    "retried_requests": ("counter", "segment_do_retried_requests", "Requests that said they were sent before."),
    "events": ("counter", "segment_do_events", "Events on disk, those set aside among them."),
    "rejected_events": ("counter", "segment_do_rejected_events", "Events set aside because they break the contract."),
    "refused_requests": ("counter", "segment_do_refused_requests", "Requests answered with 4xx or 5xx."),
    "unknown_keys": ("counter", "segment_do_unknown_keys", "Requests with an unknown write key, answered 200."),
    "failed": ("counter", "segment_do_failed_requests", "Requests whose client left, or that failed inside."),
    "journal_unappliedBytes": ("gauge", "segment_do_journal_unapplied_bytes", "Journal not yet applied, bytes."),
    "journal_waitingBytes": ("gauge", "segment_do_journal_waiting_bytes", "Bytes waiting for a sync."),
    "journal_segments": ("gauge", "segment_do_journal_segments", "Journal files with something to apply."),
    "journal_syncs": ("counter", "segment_do_journal_syncs", "Grouped syncs of the journal."),
    "journal_failures": ("counter", "segment_do_journal_failures", "Writes or syncs that the disk refused."),
    "applied_events": ("counter", "segment_do_applied_events", "Events confirmed by their identity."),
    "failed_calls": ("counter", "segment_do_failed_calls", "Calls to identities that had to be made again."),
    "adopted_events": ("counter", "segment_do_adopted_events", "Events taken over from journals of dead replicas."),
    "bulk_openSyncs": ("gauge", "segment_do_bulk_open_syncs", "Syncs that clients have not finished."),
    "bulk_finishedSyncs": ("gauge", "segment_do_bulk_finished_syncs", "Finished syncs that are not stored yet."),
    "bulk_damagedSyncs": ("gauge", "segment_do_bulk_damaged_syncs", "Finished syncs whose files cannot be read."),
    "bulk_waitingBytes": ("gauge", "segment_do_bulk_waiting_bytes", "Uploads on disk, bytes."),
    "bulk_parts": ("counter", "segment_do_bulk_parts", "Files uploaded."),
    "bulk_refused": ("counter", "segment_do_bulk_refused", "Bulk requests answered with 4xx or 5xx."),
    "bulk_storedSyncs": ("counter", "segment_do_bulk_stored_syncs", "Syncs stored."),
    "bulk_objects": ("counter", "segment_do_bulk_objects", "Objects of syncs stored."),
    "bulk_rejectedLines": ("counter", "segment_do_bulk_rejected_lines", "Lines of syncs that broke a rule."),
    "issued_tokens": ("counter", "segment_do_issued_tokens", "Access tokens issued."),
    "refused_tokens": ("counter", "segment_do_refused_tokens", "Requests for an access token that got none."),
}
"""Field of the replica's status → (kind, metric, help)."""


class _Snapshot:
    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        for field, (kind, name, described) in METRICS.items():
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            yield family(name, described, value=self._status[field])


def metrics_text(status: dict[str, Any]) -> bytes:
    """The replica's status as Prometheus text."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(status))
    return generate_latest(registry)
