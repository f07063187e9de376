"""One attempt at one destination: send, judge, settle. Whatever a sender does, it ends as an outcome for each event.

Never touches the log or the ledger, and never raises for what a destination does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from actors.queue.circuit import Circuit, Ticket
from actors.queue.clock import Clock
from actors.queue.settle import Attempted, Settled, all_failed, asked_pause_seconds, settle
from destinations.base import Outcome, Sender, WholeEvent
from destinations.retry import reason_of, verdict
from segment_do.events.record import Record
from segment_do.events.whole import whole_event
from segment_do.settings import DeliverySettings

__all__ = ["Attempts"]

TOO_LARGE = 413
SHOWN_RESPONSE_BYTES = 200

_SAMPLE = (
    b'{"messageId":"","type":"track","event":"Test Event","userId":"","properties":'
    b'{"sample":true,"note":"Sent to check that this destination can be reached."},'
    b'"context":{"library":{"name":"segment_do"}},"integrations":{}}'
)

log = structlog.get_logger(__name__)


class Attempts:
    """Makes attempts with one sender, and reports each to the destination's circuit."""

    def __init__(
        self,
        destination_id: str,
        sender: Sender,
        settings: DeliverySettings,
        circuit: Circuit,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._destination_id = destination_id
        self._sender = sender
        self._settings = settings
        self._circuit = circuit
        self._clock = clock
        self._random = random
        self.last_failure = ""
        """Reason of the last event that was not delivered."""

    async def make(self, events: Sequence[Attempted], ticket: Ticket) -> Settled:
        """Attempt the events (none is lawful), in one request where the receiver takes them so."""
        if not events:
            return Settled([], [], [], "")
        outcomes = await self._send(events)
        now = self._clock.now()
        self._circuit.report(
            ticket,
            failed=all_failed(outcomes),
            asked_seconds=asked_pause_seconds(outcomes, now, self._settings),
            now=self._clock.monotonic(),
        )
        settled = settle(events, outcomes, now=now, settings=self._settings, random=self._random)
        self.last_failure = settled.failure or self.last_failure
        return settled

    async def test(self) -> dict[str, Any]:
        """Send one sample event. ``{"ok", "status", "detail"}``; the circuit does not hear of it."""
        moment = self._clock.now()
        name = f"test-{moment}"
        sample = Record(
            name, "track", "test", "test-user", None, "Test Event", moment, moment, moment, moment, None, _SAMPLE
        )
        (outcome,) = await self._send([Attempted(0, name, whole_event(sample, "test"))])
        said = outcome.response[:SHOWN_RESPONSE_BYTES].decode("utf-8", "replace").strip()
        return {
            "ok": verdict(outcome) == "ok",
            "status": outcome.status,
            "detail": f"{outcome.detail} {said}".strip() or reason_of(outcome),
        }

    async def _send(self, events: Sequence[Attempted]) -> Sequence[Outcome]:
        outcomes = await self._ask_sender(events)
        if len(events) > 1 and all(outcome.status == TOO_LARGE for outcome in outcomes):
            # Smaller requests may fit; an event that is too large alone is given up like any refused one.
            half = len(events) // 2
            return [*await self._send(events[:half]), *await self._send(events[half:])]
        return outcomes

    async def _ask_sender(self, events: Sequence[Attempted]) -> Sequence[Outcome]:
        whole = [WholeEvent(event.message_id, event.event) for event in events]
        try:
            # Twice the timeout: a sender keeps its own; this is for one that does not.
            async with asyncio.timeout(2 * self._settings.timeout_seconds):
                outcomes = await self._sender.send(whole)
            if len(outcomes) == len(events):
                return outcomes
            fault = Outcome(error="sender_failed", detail=f"{len(outcomes)} outcomes for {len(events)} events.")
        except TimeoutError:
            fault = Outcome(error="timeout", detail="The sender did not come back in time.")
        except Exception as error:  # noqa: BLE001  # a destination's fault stops neither the engine nor other events
            # Its message is not shown: it may hold what the settings hold.
            fault = Outcome(error="sender_failed", detail=f"The sender failed ({type(error).__name__}).")
            log.warning("sender failed", destination=self._destination_id, error=type(error).__name__)
        return [fault] * len(events)
