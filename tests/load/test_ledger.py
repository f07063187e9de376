"""The ledger knows everything that was sent, whatever dies."""

from __future__ import annotations

from pathlib import Path

from tests.load.ledger import ACKNOWLEDGED, REFUSED, SET_ASIDE, UNKNOWN, Fact, Ledger, read_ledger


def test_fates_of_ids(tmp_path: Path) -> None:
    """An id sent several times is acknowledged if any request was, else unknown if any was."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.outcome(ledger.sent(["a", "b"]), UNKNOWN, "cut")
    ledger.outcome(ledger.sent(["a"]), ACKNOWLEDGED)
    ledger.outcome(ledger.sent(["b"]), REFUSED, "503 two\nlines")
    ledger.outcome(ledger.sent(["c"]), REFUSED)
    request = ledger.sent(["d", "e"])
    ledger.set_aside(["e"])
    ledger.outcome(request, ACKNOWLEDGED)
    ledger.fact(Fact("d", "acme", "u1", "a1", "t0", 1))
    ledger.close()
    tally = read_ledger(ledger.path)
    fates = {each: tally.fate(each) for each in "abcde"}
    assert fates == {"a": ACKNOWLEDGED, "b": UNKNOWN, "c": REFUSED, "d": ACKNOWLEDGED, "e": SET_ASIDE}
    assert tally.facts == [Fact("d", "acme", "u1", "a1", "t0", 1)]
    assert tally.summary()["repeated"] == 2


def test_a_request_without_an_outcome_is_unknown(tmp_path: Path) -> None:
    """What was sent when the sender died may or may not be there; a torn last line is not believed."""
    ledger = Ledger(tmp_path / "ledger")
    ledger.sent(["a"])
    ledger.close()
    with ledger.path.open("a") as file:
        file.write("A 1")
    assert read_ledger(ledger.path).fate("a") == UNKNOWN


def test_a_second_writer_goes_on_counting(tmp_path: Path) -> None:
    """Requests of two rounds in one file keep apart."""
    for name in ("a", "b"):
        ledger = Ledger(tmp_path / "ledger")
        request = ledger.sent([name])
        if name == "b":
            ledger.outcome(request, ACKNOWLEDGED)
        ledger.close()
    tally = read_ledger(tmp_path / "ledger")
    assert (tally.fate("a"), tally.fate("b")) == (UNKNOWN, ACKNOWLEDGED)
