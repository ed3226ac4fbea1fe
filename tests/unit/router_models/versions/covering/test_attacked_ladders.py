"""Every tier of a ladder is attacked, with the prompts that it answers wrong, also where thresholds are to come."""

from dataclasses import replace

import numpy as np
import pytest

from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers import ConstantRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint, Prompts
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import TextCoverage
from router_models.versions.covering.attack_limits import attack_limits
from router_models.versions.covering.covered_rows import covered_rows, usual_of
from router_models.versions.covering.perturbations import PERTURBATIONS
from router_models.versions.covering.rewriting import easiest, rewritten_rows
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

EPSILON = 0.1
TIERS = ("small", "medium", "large")
EASY = [f"What is the easy easy easy easy answer to easy matter {i}?" for i in range(60)]
HARD = [f"Prove that nobody finds the reason for hard matter number {i}." for i in range(120)]
BOTH = [f"{easy} {hard}" for easy, hard in zip(EASY, reversed(HARD), strict=False)]
WAY = "one easy question before"


class TakenIn(ConstantRouter):
    """A router that is taken in by easy words."""

    def predict(self, X: Prompts) -> np.ndarray:
        return np.array([min(0.45, 0.05 + 2 * text.count("easy") / (1 + len(text.split()))) for text in X.texts])


class NotTakenIn(ConstantRouter):
    """A router that sees every hard prompt, whatever stands around it."""

    def predict(self, X: Prompts) -> np.ndarray:
        return np.array([0.1 if "hard" in text else 0.9 for text in X.texts])


def table(texts: list[str], right: list[bool]) -> OutcomeTable:
    """The medium tier's answers; the small one's are never right but to easy questions."""
    grades = {
        "small": np.array([text in EASY for text in texts], dtype=np.float64),
        "medium": np.array(right, dtype=np.float64),
        "large": np.ones(len(texts)),
    }
    return OutcomeTable(Prompts(tuple(texts)), tuple(texts), TIERS, grades, np.arange(len(texts)), {})


STAGES = {
    "small": Stage(NotTakenIn(0.0), None, NonEmptyVerifier(), None),
    "medium": Stage(TakenIn(0.0), None, NonEmptyVerifier(), None),
}
TRAIN = table(EASY, [True] * len(EASY))
TUNE = table([*HARD, *EASY, *BOTH[:9]], [False] * len(HARD) + [True] * (len(EASY) + 9))
LADDER = RouterVersion(Policy(TIERS, {"small": OperatingPoint(0.9, 0.5), "medium": OperatingPoint(0.3, 0.5)}), STAGES)
"""Only the tier in the middle is reached by what is written around a hard prompt."""
TOGETHER = replace(LADDER, policy=Policy(TIERS, {}))


def moved(version: RouterVersion, text: TextCoverage) -> float:
    """The share of other hard prompts that reach the medium tier, and are covered, once they are rewritten."""
    other = table([hard.replace("number", "of") for hard in HARD], [False] * len(HARD))
    rewritten = rewritten_rows(other, PERTURBATIONS[WAY], EASY)
    return float((LADDER.sent_down(rewritten.prompts) & covered_rows(Coverage(text=text), version, rewritten)).mean())


@pytest.mark.parametrize("version", [LADDER, TOGETHER], ids=["placed", "together"])
def test_a_tier_in_the_middle_is_attacked_with_what_it_answers_wrong(version: RouterVersion) -> None:
    usual = usual_of(version, TUNE)
    assert moved(version, usual) > 0.9, "the control: what is usual lets it through"
    text = attack_limits(version, Coverage(text=usual), TRAIN, TUNE, EPSILON)
    found = text.attacked
    assert found is not None
    assert found.held
    assert found.prompts == len(HARD)
    assert moved(version, text) <= EPSILON
    if version is TOGETHER:
        assert text.shortfall is text.cut_shortfall is None, "thresholds are not known yet: nothing lies below them"
        assert found.price == pytest.approx(9 / len(TUNE)), "of all prompts: parts are compared of all"


def test_the_worst_attack_is_said_with_the_tier_that_it_reaches() -> None:
    for version, said in ((LADDER, ", to "), (TOGETHER, ", tried for ")):
        found = attack_limits(version, Coverage(text=usual_of(version, TUNE)), TRAIN, TUNE, 0.001).attacked
        assert found is not None
        assert not found.held
        assert said in found.way


def test_prompts_that_a_tier_answers_wrong_and_a_cheaper_one_right_count_for_the_dearer_alone() -> None:
    """Ten hard prompts of the medium tier are too few to know anything, however many the small one has."""
    few = replace(TUNE, grades={**TUNE.grades, "medium": np.r_[np.zeros(10), np.ones(len(TUNE) - 10)]})
    found = attack_limits(LADDER, Coverage(text=usual_of(LADDER, few)), TRAIN, few, EPSILON).attacked
    assert found is not None
    assert found.prompts == 10
    assert not found.held
    assert found.way.endswith(", to medium")


def test_easy_questions_are_those_of_the_cheapest_tier_with_a_router() -> None:
    assert set(easiest([LADDER], TRAIN)) == set(EASY)
