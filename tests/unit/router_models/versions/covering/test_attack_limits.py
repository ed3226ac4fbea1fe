"""Limits on parts are set by attacks on TUNE: tight enough that rewriting wins nothing, and no tighter than that."""

from dataclasses import replace

import numpy as np
import pytest

from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers import ConstantRouter, LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import OperatingPoint, Prompts
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import Attacked, TextCoverage
from router_models.versions.covering.attack_limits import ATTACKS, FIRST_HARD, attack_limits, certified_coverage
from router_models.versions.covering.covered_rows import covered_rows, usual_of
from router_models.versions.covering.perturbations import PERTURBATIONS
from router_models.versions.covering.rewriting import easiest, rewritten_rows
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion, Stage

EPSILON = 0.1
EASY = [f"What is the easy easy easy easy answer to easy matter {i}?" for i in range(60)]
HARD = [f"Prove that nobody finds the reason for hard matter number {i}." for i in range(120)]
BOTH = [f"{easy} {hard}" for easy, hard in zip(EASY, reversed(HARD), strict=False)]


class Easy(ConstantRouter):
    """A router that is taken in by easy words."""

    def predict(self, X: Prompts) -> np.ndarray:
        return np.array([min(1.0, 0.05 + 2 * text.count("easy") / (1 + len(text.split()))) for text in X.texts])


def table(texts: list[str], right: list[bool]) -> OutcomeTable:
    grade = np.array(right, dtype=np.float64)
    grades = {"cheap": grade, "top": np.ones(len(texts))}
    return OutcomeTable(Prompts(tuple(texts)), tuple(texts), ("cheap", "top"), grades, np.arange(len(texts)), {})


VERSION = RouterVersion(
    Policy(("cheap", "top"), {"cheap": OperatingPoint(0.3, 0.5)}),
    {"cheap": Stage(Easy(0.0), None, NonEmptyVerifier(), None)},
)
TRAIN = table(EASY, [True] * len(EASY))
TUNE = table([*HARD, *EASY, *BOTH[:9]], [False] * len(HARD) + [True] * (len(EASY) + 9))
"""One in twenty is an easy question before a hard one: what is usual among such prompts excludes none of them."""


def moved(coverage: Coverage, way: str) -> float:
    """The share of other hard prompts that are sent down, and covered, once they are rewritten."""
    other = table([hard.replace("number", "of") for hard in HARD], [False] * len(HARD))
    rewritten = rewritten_rows(other, PERTURBATIONS[way], easiest([VERSION], TRAIN))
    return float((VERSION.sent_down(rewritten.prompts) & covered_rows(coverage, VERSION, rewritten)).mean())


def test_limits_are_tightened_until_no_attack_on_tune_wins_more_than_epsilon() -> None:
    usual = replace(certified_coverage(VERSION, TRAIN, TUNE, TUNE, EPSILON), text=usual_of(VERSION, TUNE))
    hardened = certified_coverage(VERSION, TRAIN, TUNE, TUNE, EPSILON)
    assert moved(usual, "one easy question before") > 0.9, "the control: what is usual lets it through"
    assert max(moved(hardened, way) for way in ATTACKS) <= EPSILON
    found = hardened.text.attacked
    assert found is not None
    assert found.held
    assert found.rise <= found.high <= EPSILON
    assert found.price == pytest.approx(9 / (len(EASY) + 9)), "the prompts with a hard question in them, and no others"
    assert dict(hardened.left_out)["parts"] == 9
    assert "of 120 hard prompts" in hardened.summary()


def test_limits_that_hold_already_stay_what_is_usual() -> None:
    clean = table([*HARD, *EASY], [False] * len(HARD) + [True] * len(EASY))
    usual = usual_of(VERSION, clean)
    found = attack_limits(VERSION, Coverage(text=usual), TRAIN, clean, EPSILON)
    assert found.attacked is not None
    assert found.attacked.price == 0
    assert replace(found, attacked=None) == usual


def test_a_router_by_length_is_said_to_send_no_more_down_whatever_is_added() -> None:
    """Every hard prompt is short and sent down as it is; any rewriting makes it longer than what is sent down."""
    router = LengthRouter().fit(TUNE.prompts, TUNE.grade("cheap"))
    longest = Prompts((max(HARD, key=len),))
    policy = Policy(("cheap", "top"), {"cheap": OperatingPoint(float(router.predict(longest)[0]), 0.5)})
    version = RouterVersion(policy, {"cheap": Stage(router, None, NonEmptyVerifier(), None)})
    found = attack_limits(version, Coverage(text=usual_of(version, TUNE)), TRAIN, TUNE, EPSILON).attacked
    assert found is not None
    assert (found.rise, found.held) == (-1, True)
    assert found.summary().startswith("rewritten: no larger share of 120 hard prompts sent down, 100.0 points less (")


def test_a_policy_that_sends_nothing_down_loses_none_of_what_it_sends_down() -> None:
    never = Policy(("cheap", "top"), {"cheap": OperatingPoint(2.0, 0.5)})
    version = replace(VERSION, policy=never)
    found = attack_limits(version, Coverage(text=usual_of(version, TUNE)), TRAIN, TUNE, EPSILON).attacked
    assert found is not None
    assert found.price == 0
    assert found.summary().startswith("rewritten: no larger share of 120 hard prompts sent down, up to +3.6% (")


def test_where_no_limit_holds_the_certificate_says_so() -> None:
    """No part of a prompt of one sentence is anything: an epsilon below what chance leaves open cannot be met."""
    found = attack_limits(VERSION, Coverage(text=usual_of(VERSION, TUNE)), TRAIN, TUNE, 0.001).attacked
    assert found is not None
    assert not found.held
    assert "NOT HELD within 0.001" in found.summary()
    assert Coverage(text=TextCoverage(9, attacked=found)).to_json()["text"]["attacked"]["held"] is False


def test_of_few_hard_prompts_the_certificate_says_that_nothing_is_known() -> None:
    """Of 20 none that is moved leaves 14 in 100 open."""
    tune = TUNE.take(np.arange(100, len(TUNE)))
    found = attack_limits(VERSION, Coverage(text=usual_of(VERSION, tune)), TRAIN, tune, EPSILON).attacked
    assert found is not None
    assert found.prompts == 20
    assert not found.held
    assert "NOT HELD" in found.summary()


class Asked(Easy):
    """Keeps what it was asked to estimate."""

    def predict(self, X: Prompts) -> np.ndarray:
        ASKED.extend(X.texts)
        return super().predict(X)


ASKED: list[str] = []


def test_a_way_that_wins_nothing_of_the_first_prompts_is_not_simulated_on_all() -> None:
    version = replace(VERSION, stages={"cheap": replace(VERSION.stages["cheap"], router=Asked(0.0))})
    usual = Coverage(text=usual_of(version, TUNE))
    ASKED.clear()
    attack_limits(version, usual, TRAIN, TUNE, EPSILON)
    polite = {text for text in ASKED if text.startswith("Hello! I hope") and "hard" in text}
    easy = {text for text in ASKED if text.startswith("What is the easy") and "\nProve" in text}
    assert len({text.split("Prove")[1] for text in polite}) == FIRST_HARD
    assert len({text.split("Prove")[1] for text in easy}) == len(HARD)


@pytest.mark.parametrize("case", ["no hard prompt", "no easy question", "no label"])
def test_where_nothing_can_be_simulated_the_certificate_says_that_too(case: str) -> None:
    tune = TUNE.take(np.arange(120, 180)) if case == "no hard prompt" else TUNE
    if case == "no label":
        tune = replace(tune, grades={"top": tune.grades["top"]}, tiers=("top",))
    train = TRAIN.take(np.arange(3)) if case == "no easy question" else TRAIN
    coverage = Coverage(text=usual_of(VERSION, tune))
    found = attack_limits(VERSION, coverage, train, tune, EPSILON)
    assert replace(found, attacked=None) == coverage.text
    assert found.attacked is not None
    assert not found.attacked.held
    assert "NOT HELD within 0.1 where rewritten: nothing was simulated" in found.attacked.summary()
    kept = Coverage(text=found)
    assert Coverage.from_json(kept.to_json()) == kept


def test_where_no_tier_is_tried_and_no_router_speaks_nothing_is_simulated() -> None:
    for version in (
        replace(VERSION, policy=Policy(("cheap", "top"), {"top": OperatingPoint(np.inf, -np.inf)})),
        replace(VERSION, stages={"cheap": Stage(None, None, NonEmptyVerifier(), None)}),
    ):
        text = usual_of(VERSION, TUNE)
        assert attack_limits(version, Coverage(text=text), TRAIN, TUNE, EPSILON) == text


def test_limits_and_what_was_simulated_are_kept_as_json() -> None:
    attacked = Attacked(120, 0.1, "junk before", 0.02, 0.07, 0.2)
    text = TextCoverage(75, 0.8, 0.1, 0.2, 1.0, sent_down=True, averaged=True, shortfall=0.2, cut_shortfall=0.1)
    coverage = Coverage(text=replace(text, attacked=attacked))
    assert Coverage.from_json(coverage.to_json()) == coverage
    within = {"drop": 0.8, "unfamiliar": 0.1, "cut_drop": 1.0, "shortfall": 0.2, "cut_shortfall": 0.1}
    assert coverage.unlike(**within) is None  # type: ignore[arg-type]
    for name in ("shortfall", "cut_shortfall"):
        why = coverage.unlike(**{**within, name: 0.3})  # type: ignore[arg-type]
        assert why is not None
        assert (why.reason, "below the threshold" in why.why) == ("parts", True)
    with pytest.raises(ValueError, match="coverage cannot be read"):
        Coverage.from_json({**coverage.to_json(), "text": {**text.to_json(), "attacked": {"prompts": 3}}})
