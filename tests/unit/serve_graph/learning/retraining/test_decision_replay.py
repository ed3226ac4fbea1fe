"""What a replay comes to: flips, grades, cost and slices of decisions whose path is known, and what is missing."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve_graph.learning.retraining.decision_replay import (
    DecisionReplay,
    ReplayedDecision,
    ReplayedPart,
    grades_by_labels,
)
from serve_graph.records.feedback import Feedback

CHEAP, LAST = ("cheap", "accepted"), ("frontier", "routed")


def replayed(**fields: Any) -> ReplayedDecision:
    made: dict[str, Any] = {
        "decision": "dec-1", "before": CHEAP, "after": CHEAP, "missing": None, "usd": (0.001, 0.002),
        "right": (None, None), "slice_name": "en", "prompt": "why?",
    }  # fmt: skip
    return ReplayedDecision(**made | fields)


def test_flips_grades_and_cost_are_of_decisions_that_are_known_to_their_end() -> None:
    found = [
        replayed(),
        replayed(after=LAST, right=(0.0, 1.0), usd=(0.001, 0.01)),
        replayed(after=LAST, right=(1.0, 0.0), slice_name="de", usd=(0.001, 0.01)),
        replayed(right=(1.0, 1.0)),
        replayed(after=LAST, missing="missing", usd=(5.0, 5.0)),
    ]
    replay = DecisionReplay("router/2", tuple(found), Counter())
    whole = replay.whole()
    assert (whole.n, whole.known, whole.flips, whole.missing) == (5, 4, 2, 1)
    assert (whole.graded, whole.gained, whole.lost) == (3, 1, 1)
    assert whole.usd == (0.001, 0.006)
    share, change = whole.flip_share(), whole.difference()
    assert share is not None
    assert change is not None
    assert (share.value, change.value) == (0.5, 0.0)
    assert share.low < 0.5 < share.high
    assert [(part.name, part.n) for part in replay.slices()] == [("en", 4), ("de", 1)]
    assert replay.missing() == {("frontier", "missing"): 1}
    assert replay.flips() == {(CHEAP, LAST): 2}


def test_without_known_paths_or_grades_nothing_is_said_of_them() -> None:
    part = ReplayedPart.of("all", [replayed(missing="missing")])
    assert (part.flip_share(), part.difference(), part.usd) == (None, None, (0.0, 0.0))
    assert part.shown()["flip_share"] is None


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_an_interval_holds_what_was_seen_however_little_that_is(gained: int, lost: int, same: int) -> None:
    found = [replayed(after=LAST, right=(0.0, 1.0))] * gained + [replayed(right=(1.0, 0.0))] * lost
    part = ReplayedPart.of("all", [*found, *[replayed(right=(1.0, 1.0))] * same])
    if (share := part.flip_share()) is not None:
        assert 0 <= share.low <= share.value <= share.high <= 1
    if (change := part.difference()) is not None:
        assert -1 <= change.low < change.high <= 1
        assert change.low <= change.value + 0.15
        assert change.value - 0.15 <= change.high


def label(value: float | None, source: str = "human", last: bool | None = None) -> Feedback:
    return Feedback("dec-1", "label", source, "2026-03-01", value, last_tier_right=last, by_admin=True)


def test_grades_are_the_majority_of_people_and_programs_and_never_a_judges() -> None:
    assert grades_by_labels([label(1.0), label(0.0), label(0.0, "programmatic")], "cheap", "frontier") == {
        "cheap": 0.0
    }
    assert grades_by_labels([label(1.0), label(0.0)], "cheap", "frontier") == {}, "a draw"
    assert grades_by_labels([label(0.0, "judge:m"), label(None)], "cheap", "frontier") == {}
    assert grades_by_labels([label(0.0, last=True)], "cheap", "frontier") == {"cheap": 0.0, "frontier": 1.0}
    assert grades_by_labels([label(0.0, last=False)], "frontier", "frontier") == {"frontier": 0.0}
