"""When a whole destination pauses, and how it comes back."""

from __future__ import annotations

import pytest

from actors.queue.circuit import FAILURES, Circuit, Kind, Ticket
from tests.actors.queue.rig import settings


class Rig:
    def __init__(self) -> None:
        self.circuit = Circuit(settings(retry_first_seconds=1, retry_max_seconds=8), lambda: 0.999999)
        self.now = 0.0

    def admitted(self, kind: Kind = "fresh") -> Ticket:
        ticket = self.circuit.admit(kind, self.now)
        assert ticket is not None
        return ticket

    def report(self, ticket: Ticket, *, failed: bool, asked: float | None = None) -> None:
        self.circuit.report(ticket, failed=failed, asked_seconds=asked, now=self.now)

    def trip(self) -> None:
        for _ in range(FAILURES):
            self.report(self.admitted(), failed=True)

    def pass_pause(self) -> float:
        seconds = self.circuit.wait_seconds("fresh", self.now)
        assert seconds
        self.now += seconds
        return seconds


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_pauses_after_failures_in_a_row(rig: Rig) -> None:
    """One failure fewer, or a success between them, does not pause it."""
    for _ in range(FAILURES - 1):
        rig.report(rig.admitted(), failed=True)
    rig.report(rig.admitted(), failed=False)
    for _ in range(FAILURES - 1):
        rig.report(rig.admitted(), failed=True)
    assert not rig.circuit.tripped
    rig.report(rig.admitted(), failed=True)
    assert rig.circuit.tripped
    assert rig.circuit.admit("fresh", rig.now) is None
    assert rig.circuit.admit("retry", rig.now) is None


def test_one_probe_of_each_kind_after_a_pause(rig: Rig) -> None:
    """After the pause one fresh event and one retry are tried, no more until they are reported."""
    rig.trip()
    rig.pass_pause()
    assert rig.admitted("fresh").probe
    assert rig.circuit.admit("fresh", rig.now) is None
    assert rig.circuit.wait_seconds("fresh", rig.now) is None
    assert rig.admitted("retry").probe
    assert rig.circuit.admit("retry", rig.now) is None


def test_pause_doubles_to_its_bound(rig: Rig) -> None:
    """Each failed probe makes the next pause twice as long, up to retry_max_seconds."""
    rig.trip()
    pauses = [rig.pass_pause()]
    for _ in range(5):
        rig.report(rig.admitted(), failed=True)
        pauses.append(rig.pass_pause())
    assert pauses == pytest.approx([1, 2, 4, 8, 8, 8], rel=1e-3)


def test_first_success_opens_it(rig: Rig) -> None:
    """One probe that comes through, and everything flows; the next pause is a short one again."""
    rig.trip()
    rig.pass_pause()
    rig.report(rig.admitted("retry"), failed=False)
    assert not rig.circuit.tripped
    assert [rig.admitted().probe for _ in range(20)] == [False] * 20
    rig.trip()
    assert rig.pass_pause() == pytest.approx(1, rel=1e-3)


def test_failures_from_before_the_pause_do_not_lengthen_it(rig: Rig) -> None:
    """Attempts under way when it tripped say nothing about what is true after it."""
    under_way = [rig.admitted() for _ in range(16)]
    rig.trip()
    for ticket in under_way:
        rig.report(ticket, failed=True)
    assert rig.pass_pause() == pytest.approx(1, rel=1e-3)
    assert rig.admitted().probe


def test_retry_after_outlasts_successes(rig: Rig) -> None:
    """A receiver that asked for quiet gets it, though another attempt came through meanwhile."""
    first, second = rig.admitted(), rig.admitted()
    rig.report(first, failed=True, asked=30)
    rig.report(second, failed=False)
    assert rig.circuit.wait_seconds("fresh", rig.now) == 30
    rig.now = 30
    assert not rig.admitted().probe


def test_withdrawn_probe_makes_room_for_another(rig: Rig) -> None:
    """An attempt that was cancelled does not keep the destination closed."""
    rig.trip()
    rig.pass_pause()
    rig.circuit.withdraw(rig.admitted())
    assert rig.admitted().probe
