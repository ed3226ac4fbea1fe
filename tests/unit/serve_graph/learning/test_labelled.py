"""Which labels count for a promise, and what they show."""

from dataclasses import replace
from typing import Any

import pytest

from router_models.monitoring.promise_watch import LabelMark, WatchedPromise
from serve_graph.learning.labelled import marks_of, up_for_labelling
from serve_graph.records.feedback import Feedback

PROMISED = {"promised": 0.9, "promised_of": "accepted cheap answers"}
RIGHTS = WatchedPromise(0.1)
HUMAN = ("human", "programmatic")


def label(decision: str = "dec-1", right: bool = False, source: str = "human", **fields: Any) -> Feedback:
    return Feedback(decision, "label", source, "2026-03-01", float(right), by_admin=True, **fields)


@pytest.mark.parametrize(
    ("evidence", "source", "promise", "counts"),
    [
        (PROMISED, "human", RIGHTS, True),
        (PROMISED, "programmatic", RIGHTS, True),
        (PROMISED, "judge:m", RIGHTS, False),
        (PROMISED, "judge:m", WatchedPromise(0.1, judge="judge:m"), True),
        (PROMISED, "human", WatchedPromise(0.1, judge="judge:m"), False),
        ({"promised": None, "promised_of": "accepted cheap answers"}, "human", RIGHTS, False),
        ({"promised": 0.8, "promised_of": "answers served on overload"}, "human", RIGHTS, False),
        ({"promised": 0.8, "promised_of": "cheap answers accepted by their first tokens"}, "human", RIGHTS, False),
        ({}, "human", RIGHTS, False),
    ],
)
def test_only_labels_of_answers_of_which_something_was_promised_count(
    evidence: dict[str, Any], source: str, promise: WatchedPromise, counts: bool
) -> None:
    assert bool(marks_of([(label(source=source), evidence)], promise, HUMAN, 1.0)) is counts


def test_a_source_that_is_not_configured_does_not_count() -> None:
    assert marks_of([(label(), PROMISED)], RIGHTS, ("programmatic",), 1.0) == []


def test_labels_of_decisions_that_somebody_picked_out_do_not_count() -> None:
    names = [f"dec-{i}" for i in range(4000)]
    drawn = [name for name in names if up_for_labelling(name, 0.05)]
    assert 120 <= len(drawn) <= 280
    assert set(drawn) <= {name for name in names if up_for_labelling(name, 0.2)}
    marks = marks_of([(label(name), PROMISED) for name in names], RIGHTS, HUMAN, 0.05)
    assert len(marks) == len(drawn)


def test_labels_of_known_tasks_do_not_count_since_traffic_is_not_made_of_them_alone() -> None:
    by_program = replace(label(), source="programmatic", detail={"mode": "program", "task": "q1"})
    assert marks_of([(by_program, PROMISED)], RIGHTS, ("human", "programmatic"), 1.0) == []
    assert marks_of([(replace(by_program, detail={}), PROMISED)], RIGHTS, ("programmatic",), 1.0) != []


def test_one_decision_is_one_mark_whoever_labels_it_how_often() -> None:
    said = [label(labeller=who, right=right) for who, right in (("ann", False), ("bob", True), ("cy", False))]
    assert marks_of([(one, PROMISED) for one in said], RIGHTS, HUMAN, 1.0) == [LabelMark(1.0, 1.0)]
    assert marks_of([(one, PROMISED) for one in said[:2]], RIGHTS, HUMAN, 1.0) == [LabelMark(0.0, 0.0)]  # a draw


@pytest.mark.parametrize(
    ("harm", "means", "mark"),
    [
        (True, {"wrong": 0.5, "harm": 0.5}, LabelMark(0.5, 0.5)),
        (True, {"wrong": 0.5, "harm": 0.0}, LabelMark(0.0, 0.5)),
        (False, {"wrong": 0.5, "harm": 0.0}, LabelMark(0.5, 0.5)),
        (True, {}, LabelMark(0.0, 0.0)),
    ],
    ids=["harm in one order", "of both or neither", "every wrong answer counts", "of releases before"],
)
def test_a_judges_tie_counts_for_what_it_said_in_both_orders(
    harm: bool, means: dict[str, float], mark: LabelMark
) -> None:
    promise = WatchedPromise(0.1, harm=harm, judge="judge:m")
    tie = label(right=True, source="judge:m", detail={"verdict": "tie", "tie_means": means})
    assert marks_of([(tie, PROMISED)], promise, HUMAN, 1.0) == [mark]
    said = label(right=False, source="judge:m", last_tier_right=True, labeller="again")
    assert marks_of([(tie, PROMISED), (said, PROMISED)], promise, HUMAN, 1.0)[0].happened == float(bool(means))


def test_marks_come_in_the_order_of_first_labels_with_their_slices() -> None:
    given = [(label("dec-2"), PROMISED | {"slice": "fr"}), (label("dec-1", True), PROMISED)]
    assert marks_of(given, RIGHTS, HUMAN, 1.0) == [LabelMark(1.0, 1.0, "fr"), LabelMark(0.0, 0.0)]


@pytest.mark.parametrize(("last", "mark"), [(True, 1.0), (False, 0.0), (None, 0.0)])
def test_of_harm_a_wrong_answer_counts_only_where_the_last_tiers_is_known_to_be_right(
    last: bool | None, mark: float
) -> None:
    given = [(label(last_tier_right=last), PROMISED)]
    assert marks_of(given, WatchedPromise(0.1, harm=True), HUMAN, 1.0) == [LabelMark(mark, 1.0)]
