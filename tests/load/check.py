"""What must hold between a ledger and what the platform has, as plain functions over sets, and the reading of it by SQL.

The rules (fault matrix I1 to I6): acknowledged → exactly once in SQL and at least once at the webhook; refused or set aside →
nowhere; unknown → at most once; nothing that was not sent; profiles show what acknowledged identifies said.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from tests.load.ledger import ACKNOWLEDGED, REFUSED, SET_ASIDE, UNKNOWN, Fact, Tally

__all__ = [
    "Violation",
    "check_delivered",
    "check_profile",
    "check_stored",
    "profile_facts",
    "stored_ids",
    "wait_until_quiet",
]

_PAGE_ROWS = 40_000
_SHOWN = 20

Sql = Callable[[str], list[list[Any]]]


class Violation(NamedTuple):
    """A broken promise, the ids that show it (all of them)."""

    promise: str
    ids: list[str]

    def __str__(self) -> str:
        shown = ", ".join(self.ids[:_SHOWN])
        return f"{self.promise}: {len(self.ids)} ({shown}{', …' if len(self.ids) > _SHOWN else ''})"


def _violations(*found: tuple[str, Iterable[str]]) -> list[Violation]:
    return [Violation(promise, ids) for promise, each in found if (ids := sorted(each))]


def check_stored(tally: Tally, stored: Mapping[str, int]) -> list[Violation]:
    """``stored``: how many rows of ``events`` each message id has."""
    known = set(tally.sent)
    return _violations(
        ("acknowledged but not in SQL", (each for each in tally.ids(ACKNOWLEDGED) if each not in stored)),
        ("in SQL more than once", (each for each, rows in stored.items() if rows > 1)),
        ("refused but in SQL", (each for each in tally.ids(REFUSED) if each in stored)),
        ("set aside but in SQL", (each for each in tally.ids(SET_ASIDE) if each in stored)),
        ("in SQL but never sent", (each for each in stored if each not in known)),
    )


def check_delivered(tally: Tally, stored: Collection[str], delivered: Collection[str]) -> list[Violation]:
    """``delivered``: message ids that the webhook took. What is stored must be delivered, and nothing else."""
    known = set(tally.sent)
    acknowledged = tally.ids(ACKNOWLEDGED)
    return _violations(
        ("acknowledged but never at the webhook", (each for each in acknowledged if each not in delivered)),
        (
            "in SQL but never at the webhook",
            (each for each in stored if each not in acknowledged and each not in delivered),
        ),
        ("refused but at the webhook", (each for each in tally.ids(REFUSED) if each in delivered)),
        ("set aside but at the webhook", (each for each in tally.ids(SET_ASIDE) if each in delivered)),
        ("at the webhook but never sent", (each for each in delivered if each not in known)),
        ("at the webhook but not in SQL", (each for each in delivered if each not in stored and each in known)),
    )


def profile_facts(tally: Tally) -> dict[tuple[str, str], list[Fact]]:
    """Facts of acknowledged identifies by (identity, user id)."""
    acknowledged = tally.ids(ACKNOWLEDGED)
    facts: dict[tuple[str, str], list[Fact]] = {}
    for fact in tally.facts:
        if fact.message_id in acknowledged:
            facts.setdefault((fact.identity, fact.user_id), []).append(fact)
    return facts


def check_profile(facts: Iterable[Fact], profile: Mapping[str, Any] | None) -> list[Violation]:
    """``profile``: the answer of the profile API for these facts' user, None where there is none."""
    facts = list(facts)
    if profile is None:
        return _violations(("acknowledged but no profile", (each.message_id for each in facts)))
    ids = {(each["type"], each["id"]) for each in profile["externalIds"]}
    traits = profile["traits"]
    return _violations(
        ("trait missing in profile", (each.message_id for each in facts if traits.get(each.trait) != each.value)),
        (
            "anonymous id not linked in profile",
            (each.message_id for each in facts if ("anonymous_id", each.anonymous_id) not in ids),
        ),
    )


def stored_ids(sql: Sql) -> Counter[str]:
    """Rows of ``events`` by message id, read page by page (an answer has a bound).

    Raises:
        AssertionError: the pages together do not have as many rows as the table.
    """
    rows = int(sql("SELECT count(*) FROM events")[0][0])
    pages = rows // _PAGE_ROWS + 1
    stored: Counter[str] = Counter()
    for page in range(pages):
        stored.update(
            {
                str(message_id): int(count)
                for message_id, count in sql(
                    "SELECT message_id, count(*) AS n FROM events"
                    f" WHERE hash(message_id) % {pages} = {page} GROUP BY message_id"
                )
            }
        )
    assert sum(stored.values()) == rows, f"pages hold {sum(stored.values())} rows, the table {rows}"
    return stored


def sampled_profiles(
    api: Callable[[str, str], Any], facts: Mapping[tuple[str, str], list[Fact]], keys: Iterable[tuple[str, str]]
) -> list[Violation]:
    """Read these users' profiles and check each."""
    found: dict[str, list[str]] = {}
    for identity, user in keys:
        path = f"/api/profiles/{quote(identity, safe='')}/user_id:{quote(user, safe='')}"
        try:
            profile = api("GET", path)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            profile = None
        for violation in check_profile(facts[identity, user], profile):
            found.setdefault(violation.promise, []).extend(violation.ids)
    return _violations(*found.items())


def wait_until_quiet(
    rows: Callable[[], int],
    at_work: Callable[[], int],
    expected_rows: int,
    *,
    timeout_seconds: float,
    steady_seconds: float = 3.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Poll until ``expected_rows`` are there, ``at_work`` (events on their way) is 0, and nothing changed for
    ``steady_seconds`` (longer than it takes to adopt a dead replica's journal).

    Returns whether that came before the time was up; what is missing then is for the checks to say. A look that fails
    (a part is still coming back) counts as not quiet.
    """
    deadline = clock() + timeout_seconds
    steady_since = clock()
    last = -1
    while clock() < deadline:
        try:
            found, busy = rows(), at_work()
        except (httpx.HTTPError, OSError):
            found, busy = -1, 1
        if found != last or found < expected_rows or busy:
            steady_since = clock()
        elif clock() - steady_since >= steady_seconds:
            return True
        last = found
        sleep(0.25)
    return False


def expected_rows(tally: Tally) -> tuple[int, int]:
    """Fewest and most rows there may be: every acknowledged id, and perhaps the unknown ones."""
    fewest = len(tally.ids(ACKNOWLEDGED))
    return fewest, fewest + len(tally.ids(UNKNOWN))
