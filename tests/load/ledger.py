"""What was sent and what became of it, kept outside the platform in one append-only file.

A request's ids are in the file before the request's first byte goes out, its outcome before the sender goes on. So
whatever dies, nothing was sent that the file does not know; a request without an outcome is *unknown*. The file is
synced at least every ``sync_seconds`` and at the end.

Outcomes of a request: ``acknowledged`` (200), ``set_aside`` (named as rejected in a 200), ``refused`` (4xx, 429, 503, or
no connection was made), ``unknown`` (cut, timed out, another 5xx). An id may be sent several times, on purpose: see
:meth:`Tally.fate`.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["ACKNOWLEDGED", "REFUSED", "SET_ASIDE", "UNKNOWN", "Ledger", "Tally", "read_ledger"]

ACKNOWLEDGED: Final = "acknowledged"
SET_ASIDE: Final = "set_aside"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"
_LETTERS: Final = {"A": ACKNOWLEDGED, "X": SET_ASIDE, "R": REFUSED, "U": UNKNOWN}
_LETTER_OF: Final = {outcome: letter for letter, outcome in _LETTERS.items()}


class Fact(NamedTuple):
    """Something an acknowledged event must have done to a profile."""

    message_id: str
    identity: str
    user_id: str
    anonymous_id: str
    trait: str
    value: int


class Ledger:
    """The writer. Ids hold no white space."""

    def __init__(self, path: Path, *, sync_seconds: float = 0.2) -> None:
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._requests = sum(1 for line in path.read_bytes().splitlines() if line.startswith(b"S "))
        self._closing = threading.Event()
        self._sync_seconds = sync_seconds
        self._syncing = threading.Thread(target=self._sync, name="ledger", daemon=True)
        self._syncing.start()
        self.counts: Counter[str] = Counter()
        """Requests by outcome, for the display."""

    def sent(self, message_ids: Iterable[str]) -> int:
        """About to send these; returns the request's number."""
        self._requests += 1
        self._write(f"S {self._requests} {' '.join(message_ids)}\n")
        return self._requests

    def outcome(self, request: int, outcome: str, detail: str = "") -> None:
        """What became of a request."""
        self.counts[outcome] += 1
        self._write(f"{_LETTER_OF[outcome]} {request} {detail.replace(chr(10), ' ')}\n")

    def set_aside(self, message_ids: Iterable[str]) -> None:
        """These were named as rejected in a 200 (to be written before the request's own outcome)."""
        self._write("".join(f"X {each}\n" for each in message_ids))

    def fact(self, fact: Fact) -> None:
        """What a profile must show once this event is acknowledged."""
        self._write(f"P {json.dumps(fact)}\n")

    def close(self) -> None:
        """Everything is on disk afterwards."""
        self._closing.set()
        self._syncing.join()
        os.fsync(self._handle)
        os.close(self._handle)

    def _write(self, line: str) -> None:
        os.write(self._handle, line.encode())

    def _sync(self) -> None:
        while not self._closing.wait(self._sync_seconds):
            os.fdatasync(self._handle)


class Tally:
    """A ledger, read: the fate of every id."""

    def __init__(self, lines: Iterable[str]) -> None:
        requests: dict[int, list[str]] = {}
        self.sent: Counter[str] = Counter()
        self._outcomes: dict[str, set[str]] = {}
        self.requests: Counter[str] = Counter()
        self.facts: list[Fact] = []
        set_aside: set[str] = set()
        for line in lines:
            letter, _space, rest = line.rstrip("\n").partition(" ")
            if letter == "S":
                number, *ids = rest.split(" ")
                requests[int(number)] = ids
                self.sent.update(ids)
            elif letter == "X":
                set_aside.add(rest)
            elif letter == "P":
                self.facts.append(Fact(*json.loads(rest)))
            elif letter in _LETTERS:
                ids = requests.pop(int(rest.partition(" ")[0]))
                self.requests[_LETTERS[letter]] += 1
                for each in ids:
                    self._outcomes.setdefault(each, set()).add(_LETTERS[letter])
        for ids in requests.values():  # the sender died before it could say
            self.requests[UNKNOWN] += 1
            for each in ids:
                self._outcomes.setdefault(each, set()).add(UNKNOWN)
        for each in set_aside:
            self._outcomes[each] = {SET_ASIDE}

    def fate(self, message_id: str) -> str:
        """Of an id sent several times: acknowledged if any request was, else unknown if any was, else refused."""
        outcomes = self._outcomes[message_id]
        return next(each for each in (SET_ASIDE, ACKNOWLEDGED, UNKNOWN, REFUSED) if each in outcomes)

    def ids(self, fate: str) -> set[str]:
        """All ids with this fate."""
        return {each for each in self._outcomes if self.fate(each) == fate}

    def summary(self) -> dict[str, Any]:
        """Ids by fate, requests by outcome."""
        fates = Counter(self.fate(each) for each in self._outcomes)
        return {
            "ids": dict(fates),
            "requests": dict(self.requests),
            "repeated": sum(1 for n in self.sent.values() if n > 1),
        }


def read_ledger(path: Path) -> Tally:
    """The tally of a file. A torn last line (the sender was killed) is left out."""
    return Tally(_whole_lines(path))


def _whole_lines(path: Path) -> Iterator[str]:
    with path.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield line
