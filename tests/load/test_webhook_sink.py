"""The sink counts what its sender may forget, and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.load.webhook_sink import Faults, WebhookSink


async def test_only_what_was_answered_with_200_counts(tmp_path: Path) -> None:
    """Errors and cut connections do not count; single events and arrays do; the file has a line for each."""
    sink = WebhookSink(tmp_path / "delivered", seed=1, faults=Faults(error=0.3, cut=0.3))
    await sink.start()
    accepted = []
    async with httpx.AsyncClient() as client:
        for number in range(60):
            event = {"messageId": f"m{number}"}
            try:
                answer = await client.post(sink.url, json=event if number % 2 else [event])
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                accepted.append(event["messageId"])
    await sink.close()
    assert sorted(sink.delivered) == sorted(accepted)
    assert 0 < len(accepted) < 60
    assert sink.faults_made["error"]
    assert sink.faults_made["cut"]
    assert (tmp_path / "delivered").read_text().split() == accepted
