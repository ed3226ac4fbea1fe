"""How far judges agree with people, and what the intervals are worth."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from router_models.training.labelling.votes import cohens_kappa
from router_models.types import DecisionRecord
from serve_graph.learning.agreement import JudgeAgreement, judge_agreements
from serve_graph.records.feedback import Feedback, FeedbackTable
from serve_graph.records.store import DecisionStore


def label(decision: int, right: bool, source: str = "human", **fields: Any) -> Feedback:
    given = {"value": float(right), "labeller": source, "by_admin": True}
    return Feedback(f"dec-{decision}", "label", source, "2026-03-01", **given | fields)


def test_answers_that_both_labelled_are_counted_and_no_others() -> None:
    people = [label(0, True), label(1, True), label(2, False), label(3, False), label(4, True)]
    judges = [label(i, right, "judge:m") for i, right in enumerate((True, False, True, False))]
    beside = [
        label(4, True, "judge:m", detail={"verdict": "tie"}),
        label(9, True, "judge:m"),  # nobody else labelled it
        label(0, False, "judge:other"),
        label(0, False, "programmatic"),
        label(1, False, "human", value=None, labeller="bob"),  # taken back
    ]
    mine, other = judge_agreements([*people, *judges, *beside])
    assert mine == JudgeAgreement("judge:m", 1, 1, 1, 1, ties=1)
    assert (other.judge, other.n, other.people_alone) == ("judge:other", 1, 1)


def test_of_ties_is_said_how_often_people_found_both_answers_equally_good() -> None:
    people = [label(i, right, last_tier_right=last) for i, (right, last) in enumerate([(True, True), (False, False)])]
    people += [label(2, False, last_tier_right=True), label(3, True), label(4, True, last_tier_right=True)]
    ties = [label(i, True, "judge:m", detail={"verdict": "tie", "route": "accepted"}) for i in range(4)]
    rejected = label(4, True, "judge:m", detail={"verdict": "tie", "route": "escalated"})
    [found] = judge_agreements([*people, *ties, rejected])
    assert (found.n, found.ties, found.ties_graded, found.ties_alike) == (0, 5, 3, 2)
    counted = JudgeAgreement("judge:m", 9, ties=5, ties_graded=3, ties_alike=2)
    assert "ties left out 5, of which people graded both answers of 3 and found 2 equally good" in counted.lines()[1]
    assert counted.shown()["ties_alike"] == 2


def test_of_several_people_the_majority_counts_and_a_draw_does_not() -> None:
    said = [label(0, right, labeller=who) for who, right in (("ann", True), ("bob", False), ("cy", False))]
    said += [label(1, right, labeller=who) for who, right in (("ann", True), ("bob", False))]
    [found] = judge_agreements([*said, label(0, False, "judge"), label(1, True, "judge")])
    assert (found.n, found.both_wrong) == (1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_labellers(seed: int) -> None:
    chance = random.Random(seed)
    pairs = [(chance.random() < 0.7, chance.random() < 0.6) for _ in range(60)]
    labels = [label(i, person) for i, (_, person) in enumerate(pairs)]
    [found] = judge_agreements([*labels, *(label(i, judge, "judge") for i, (judge, _) in enumerate(pairs))])
    kappa, agree = found.kappa(), found.agree()
    assert kappa is not None
    assert agree is not None
    assert kappa.value == pytest.approx(cohens_kappa([a for a, _ in pairs], [b for _, b in pairs]))
    assert agree.value == sum(a == b for a, b in pairs) / 60
    assert kappa.low < kappa.value < kappa.high


def test_without_answers_nothing_is_said_and_where_both_say_one_word_kappa_is_not_defined() -> None:
    nothing, same = JudgeAgreement("judge"), JudgeAgreement("judge", both_right=20)
    assert (nothing.agree(), nothing.kappa()) == (None, None)
    assert same.kappa() is None
    agree = same.agree()
    assert agree is not None
    assert (agree.value, agree.high) == (1.0, pytest.approx(1.0, abs=0.01))
    assert agree.low < 0.92, "twenty answers prove no complete agreement"
    assert "not defined" in same.lines()[0]


def test_the_interval_of_kappa_holds_the_true_one_about_as_often_as_it_says() -> None:
    shares = np.array([0.55, 0.15, 0.08, 0.22])
    judge, person = shares[0] + shares[1], shares[0] + shares[2]
    chance = judge * person + (1 - judge) * (1 - person)
    true = (shares[0] + shares[3] - chance) / (1 - chance)
    draws = np.random.default_rng(7).multinomial(60, shares, 300)
    found = [JudgeAgreement("judge", *map(int, cells)).kappa() for cells in draws]
    held = np.mean([one is not None and one.low <= true <= one.high for one in found])
    assert 0.90 <= held <= 0.99


async def test_labels_are_read_of_the_decisions_that_people_labelled(
    made_store_url: str, a_record: Callable[..., DecisionRecord]
) -> None:
    store = DecisionStore(made_store_url)
    table = FeedbackTable(store)
    await store.write_many([a_record(f"dec-{i}", version=f"router/{i % 2}") for i in range(4)])
    await table.write([label(i, True, "judge:m", probability=0.05) for i in range(4)])
    await table.write([label(0, True), label(1, False), label(2, True, value=None)])
    both = await table.labels_beside_people()
    assert {(one.decision, one.source) for one in both} == {
        (f"dec-{i}", source) for i in (0, 1) for source in ("human", "judge:m")
    }
    assert {one.decision for one in await table.labels_beside_people("router/1")} == {"dec-1"}
    assert [one.probability for one in both if one.source == "judge:m"] == [0.05, 0.05]
    await store.close()


@pytest.fixture(autouse=True)
async def _threads(sqlite_threads_end: None) -> None:
    return None
