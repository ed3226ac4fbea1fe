"""What rewriting hard prompts does to a version, counted; and that every way of rewriting is repeatable."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.evaluation.benchmarks.misrouting.attack import measure_misrouting
from router_models.evaluation.benchmarks.misrouting.page import misrouting_page
from router_models.evaluation.benchmarks.misrouting.results import Misrouting
from router_models.types import Answers, OperatingPoint, Prompts
from router_models.types.conditions import Conditions
from router_models.types.text_coverage import NOT_COMPARED, TextCoverage
from router_models.versions.covering.covered_conditions import covered_conditions
from router_models.versions.covering.perturbations import ANSWER_PERTURBATIONS, PERTURBATIONS
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

EASY = [f"easy question {word} so easy that an easy answer is easy for any easy one" for word in "abcdefgh"]
HARD = tuple(f"hard matter number {i}, in which nobody finds any answer or reason whatever" for i in range(40))
COVERED = TextCoverage(60, drop=0.9, unfamiliar=0.3, cut_drop=0.9)


class Easy(ConstantRouter):
    """A router that is taken in by easy words."""

    def predict(self, X: Prompts) -> np.ndarray:
        return np.array([min(1.0, 0.05 + 2 * text.count("easy") / (1 + len(text.split()))) for text in X.texts])


def measured(
    text: TextCoverage, texts: tuple[str, ...] = HARD, right: float = 0.0, route_at: float = 0.3
) -> Misrouting:
    prompts, grade = Prompts(texts), np.full(len(texts), right)
    answers = Answers(prompts, ("No.",) * len(texts), ("stop",) * len(texts))
    table = OutcomeTable(
        prompts, texts, ("cheap", "top"), {"cheap": grade, "top": grade + 1}, np.arange(len(texts)), {"cheap": answers}
    )
    version = RouterVersion(
        Policy(("cheap", "top"), {"cheap": OperatingPoint(route_at, 0.5)}),
        {"cheap": Stage(Easy(0.0), None, NonEmptyVerifier(), None)},
        spelling=Spelling().fit([*EASY, *HARD]),
    )
    coverage = replace(covered_conditions([Conditions(turns=i % 3 + 1) for i in range(60)]), text=text)
    return measure_misrouting(version, coverage, table, EASY, name="it", epsilon=0.1, most=30)


def test_padding_moves_hard_prompts_unless_their_parts_are_compared() -> None:
    before, after = measured(NOT_COMPARED), measured(COVERED)
    assert (before.prompts, before.routed, before.accepted) == (30, 0.0, 0.0)
    assert {"five easy questions before", "one easy question after"} <= {row.name for row in before.beyond}
    assert before.any_moved == 1
    assert not after.beyond
    padded = next(row for row in after.rows if row.name == "five easy questions before")
    assert padded.alone == padded.not_covered == 1
    assert padded.moved.value == 0
    assert padded.moved.high < 0.15, "of thirty prompts none moved"
    assert next(row for row in before.rows if row.name == padded.name).rise.low == 1
    assert after.most_risen.rise.value == 0


def test_of_a_version_that_sends_nothing_down_no_way_is_said_to_send_most() -> None:
    never = measured(NOT_COMPARED, route_at=2.0)
    rise = never.most_risen.rise
    assert (rise.value, rise.high) == (0, pytest.approx(1 - 0.025 ** (1 / 30))), (
        "of thirty prompts none: some are left"
    )
    line = misrouting_page([never, measured(NOT_COMPARED)]).splitlines()[4]
    assert "| 0.0% | none | +0.0% (-11.6% to +11.6%) | none |" in line


def test_turns_and_answers_count_as_they_would_be_served() -> None:
    rows = {row.name: row for row in measured(NOT_COMPARED).rows}
    assert rows["easy questions as earlier turns"].not_covered == 1, "six turns, and three were certified"
    assert rows["one easy question as an earlier turn"].not_covered == 0
    assert rows["base64"].accepted is None, "the recorded answer is none to it"
    assert rows["thanks after"].accepted is not None
    assert {name for name, row in rows.items() if row.kind == "answer"} == set(ANSWER_PERTURBATIONS)


def test_an_easy_question_under_another_role_is_another_condition_and_parts_are_read_as_one_text() -> None:
    rows = measured(NOT_COMPARED).rows
    assert {row.not_covered for row in rows if row.kind == "roles"} == {1.0}
    (parts, turns) = (
        next(row for row in rows if row.name == name)
        for name in ("an easy question as a part of its own", "one easy question before")
    )
    assert (parts.alone, parts.not_covered) == (turns.alone, turns.not_covered)


def test_the_page_names_what_lies_beyond_epsilon() -> None:
    page = misrouting_page([measured(NOT_COMPARED), measured(COVERED)], "Made today.")
    assert "Beyond ε = 0.1: five easy questions before" in page
    assert "Beyond ε = 0.1: none" in page
    beside = 3
    assert page.count("\n| ") == beside + 2 * (1 + len(PERTURBATIONS) + len(ANSWER_PERTURBATIONS))


def test_without_a_hard_prompt_there_is_nothing_to_measure() -> None:
    with pytest.raises(DataError, match="0 prompts that 'cheap' answers wrong"):
        measured(NOT_COMPARED, right=1.0)


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=80))
def test_every_perturbation_is_repeatable_and_says_something(question: str) -> None:
    for name, perturbation in PERTURBATIONS.items():
        turns = perturbation.rewrite(question, EASY)
        assert turns == perturbation.rewrite(question, EASY), name
        assert any(turns), name
