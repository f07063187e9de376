"""The checker sees each way in which the platform can break its promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.load.check import (
    Violation,
    check_delivered,
    check_profile,
    check_stored,
    expected_rows,
    profile_facts,
    stored_ids,
    wait_until_quiet,
)
from tests.load.ledger import Fact, Tally

LINES = [
    'P ["a1", "acme", "u1", "anon1", "t0", 7]\n',
    'P ["u1", "acme", "u1", "anon1", "t1", 8]\n',
    "S 1 a1 a2\n",
    "A 1 \n",
    "S 2 r1\n",
    "R 2 503\n",
    "S 3 u1\n",
    "U 3 cut\n",
    "S 4 a3 x1\n",
    "X x1\n",
    "A 4 \n",
]
GOOD = Counter({"a1": 1, "a2": 1, "a3": 1})


def promises(found: list[Violation]) -> dict[str, list[str]]:
    return {each.promise: each.ids for each in found}


def test_what_the_ledger_says_is_no_violation() -> None:
    """All acknowledged once, unknown absent: nothing is flagged."""
    tally = Tally(LINES)
    assert check_stored(tally, GOOD) == []
    assert check_delivered(tally, GOOD, GOOD) == []
    assert expected_rows(tally) == (3, 4)


def test_an_unknown_event_may_be_stored_and_delivered_once() -> None:
    """A cut connection leaves either outcome open, but both sides must agree."""
    tally = Tally(LINES)
    stored = GOOD | Counter({"u1": 1})
    assert check_stored(tally, stored) == []
    assert check_delivered(tally, stored, stored) == []
    assert promises(check_delivered(tally, stored, GOOD)) == {"in SQL but never at the webhook": ["u1"]}
    assert promises(check_delivered(tally, GOOD, stored)) == {"at the webhook but not in SQL": ["u1"]}


@pytest.mark.parametrize(
    ("stored", "flagged"),
    [
        (GOOD - Counter({"a2": 1}), {"acknowledged but not in SQL": ["a2"]}),
        (GOOD + Counter({"a2": 1}), {"in SQL more than once": ["a2"]}),
        (GOOD + Counter({"u1": 2}), {"in SQL more than once": ["u1"]}),
        (GOOD + Counter({"r1": 1}), {"refused but in SQL": ["r1"]}),
        (GOOD + Counter({"x1": 1}), {"set aside but in SQL": ["x1"]}),
        (GOOD + Counter({"ghost": 1}), {"in SQL but never sent": ["ghost"]}),
    ],
)
def test_sql_is_held_against_the_ledger(stored: Counter[str], flagged: dict[str, list[str]]) -> None:
    """A lost, doubled, refused, set-aside or invented row is named."""
    assert promises(check_stored(Tally(LINES), stored)) == flagged


@pytest.mark.parametrize(
    ("delivered", "flagged"),
    [
        (GOOD - Counter({"a3": 1}), {"acknowledged but never at the webhook": ["a3"]}),
        (GOOD + Counter({"a3": 5}), {}),
        (
            GOOD + Counter({"r1": 1}),
            {"refused but at the webhook": ["r1"], "at the webhook but not in SQL": ["r1"]},
        ),
        (GOOD + Counter({"ghost": 1}), {"at the webhook but never sent": ["ghost"]}),
    ],
)
def test_deliveries_are_held_against_the_ledger(delivered: Counter[str], flagged: dict[str, list[str]]) -> None:
    """A missing delivery, or one of what was refused or never sent, is named; several deliveries are not."""
    assert promises(check_delivered(Tally(LINES), GOOD, delivered)) == flagged


def test_profiles_show_acknowledged_identifies_only() -> None:
    """Facts of unknown events are not demanded; a missing trait, a missing link and a missing profile are named."""
    facts = profile_facts(Tally(LINES))["acme", "u1"]
    assert facts == [Fact("a1", "acme", "u1", "anon1", "t0", 7)]
    ids = [{"type": "user_id", "id": "u1"}, {"type": "anonymous_id", "id": "anon1"}]
    assert check_profile(facts, {"externalIds": ids, "traits": {"t0": 7}}) == []
    assert promises(check_profile(facts, {"externalIds": ids, "traits": {"t0": 6}})) == {
        "trait missing in profile": ["a1"]
    }
    assert promises(check_profile(facts, {"externalIds": ids[:1], "traits": {"t0": 7}})) == {
        "anonymous id not linked in profile": ["a1"]
    }
    assert promises(check_profile(facts, None)) == {"acknowledged but no profile": ["a1"]}


def test_ids_are_read_in_pages_that_must_add_up() -> None:
    """Pages that hold fewer rows than the table are an error, not an answer."""

    def sql(query: str, *, lost: int = 0) -> list[list[Any]]:
        if "GROUP BY" not in query:
            return [[90_000]]
        page = int(query.rpartition(" = ")[2].split()[0])
        return [[f"m{n}", 1] for n in range(page, 90_000 - lost, 3)]

    assert len(stored_ids(sql)) == 90_000
    with pytest.raises(AssertionError, match="89999"):
        stored_ids(lambda query: sql(query, lost=1))


def test_quiet_means_steady_and_idle() -> None:
    """Not quiet while rows still come, while work is left, or while a part does not answer; and it gives up in time."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    rows: Iterator[int | OSError] = iter([1, 2, OSError(), 3, 3, 3, 4])

    def count() -> int:
        found = next(rows, 4)
        if isinstance(found, OSError):
            raise found
        return found

    def quiet(expected: int, busy: int, timeout_seconds: float) -> bool:
        return wait_until_quiet(
            count,
            lambda: busy,
            expected,
            timeout_seconds=timeout_seconds,
            steady_seconds=2.0,
            clock=lambda: now,
            sleep=sleep,
        )

    assert quiet(3, 0, 60.0)
    assert now == pytest.approx(6 * 0.25 + 2.0)
    assert not quiet(5, 0, 10.0)
    assert not quiet(4, 1, 10.0)
