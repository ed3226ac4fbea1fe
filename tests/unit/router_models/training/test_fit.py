"""What a candidate is fitted on: tables with gaps, without answers, with signals that no server has."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, prompt_id, table_of
from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.reports.sections import choice_section
from router_models.training.candidate import Candidate, Settings
from router_models.training.certify import certify_candidate
from router_models.training.fit import fit_candidate
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import Completion, Decision, Query

PRICES = {"cheap": Price(Decimal("0.1"), Decimal("0.4")), "frontier": Price(Decimal(2), Decimal(8))}
SETTINGS = Settings(("cheap", "frontier"), PRICES, router="surface")
Frame = dict[str, Any]


class Given(Encoder):
    """Vectors of one number: nothing is loaded."""

    def encode(self, texts: object, batch_size: int = 32) -> np.ndarray:
        return np.ones((len(texts), 1), dtype=np.float32)  # type: ignore[arg-type]


def frame(n: int = 300) -> Frame:
    """Grades alone: long prompts are hard for the cheap tier."""
    chance = np.random.default_rng(0)
    easy = np.arange(n) % 2 == 0
    right = chance.random(n) < np.where(easy, 0.9, 0.4)
    columns: Frame = {
        "prompt": [f"{'short' if e else 'rather long and winding'} question number {i}" for i, e in enumerate(easy)],
        "cheap": right.astype(float),
        "frontier": (chance.random(n) < 0.95).astype(float),
    }
    for tier in ("cheap", "frontier"):
        columns |= {f"{tier}_prompt_tokens": np.full(n, 50.0), f"{tier}_completion_tokens": np.full(n, 20.0)}
    return columns


def table(**changes: Any) -> OutcomeTable:
    return table_of(parse_columns(pd.DataFrame(frame() | changes), SETTINGS.tiers))


def parts_of(given: OutcomeTable) -> LabelledSplits:
    return split_outcomes(given, SETTINGS.tiers, SETTINGS.seed).with_embeddings(Given())


@pytest.fixture
def fitted() -> Callable[..., Candidate]:
    return lambda **changes: fit_candidate(parts_of(table(**changes)), SETTINGS, Given())


def test_outcomes_without_answers_and_logprobs_are_learned_from(fitted: Callable[..., Candidate]) -> None:
    families = [scored.family for scored in fitted().verifiers["cheap"]]
    assert families == ["router_score", "combined"]


def test_a_verifier_does_not_lean_on_signals_that_no_server_has(fitted: Callable[..., Candidate]) -> None:
    version = fitted(**{"cheap|max_token_confidence": 0.5 + 0.4 * frame()["cheap"]}).version
    query = Query.from_prompt("short question number 1")
    verdict = version.judge(query, Completion("An answer."), version.decide(query))
    assert verdict.p_ok is not None


@pytest.mark.parametrize("column", ["cheap_prompt_tokens", "frontier_completion_tokens"])
def test_gaps_in_the_token_counts_are_not_free_calls(fitted: Callable[..., Candidate], column: str) -> None:
    gaps = np.where(np.arange(300) % 3 == 0, np.nan, 20.0)
    with pytest.raises(DataError, match=r"100 of 300 outcomes of tier .* carry no token counts"):
        fitted(**{column: gaps})


def test_domains_that_are_all_right_or_all_wrong_do_not_stop_the_fit(fitted: Callable[..., Candidate]) -> None:
    grades = frame()["cheap"]
    scored = fitted(domain=np.where(grades > 0, "easy", "hard")).routers["cheap"]
    assert scored[-1].out_of_domain_auc == 0.0  # each domain gets the other's level


def test_prompts_without_a_domain_are_left_out_of_the_domains_held_out(fitted: Callable[..., Candidate]) -> None:
    domains = np.array(["art", "law", "physics", None] * 75, dtype=object)
    assert all(scored.out_of_domain_auc is not None for scored in fitted(domain=domains).routers["cheap"])


def test_a_last_tier_that_is_never_wrong_in_tune_is_judged_by_what_train_said(
    fitted: Callable[..., Candidate],
) -> None:
    wrong = set(parts_of(table()).train.prompt_ids[:6])
    seldom = [0.0 if prompt_id(prompt) in wrong else 1.0 for prompt in frame()["prompt"]]
    made = fitted(frontier=np.array(seldom)).version
    query = Query.from_prompt(str(frame()["prompt"][0]))
    verdict = made.judge(query, Completion("Yes."), Decision("frontier", "routed"))
    assert verdict.p_ok is not None
    assert 0 < verdict.p_ok < 1


@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize("promise", ["harm", "accepted", "answered"])
def test_a_last_tier_that_is_hardly_ever_wrong_needs_no_variety(wrong: int, promise: str) -> None:
    """The cheap tier's models learn what they ever did; the last tier abstains only from what it knows."""
    learned = parts_of(table()).train.prompts.texts[:wrong]
    graded = table(frontier=np.array([0.0 if prompt in learned else 1.0 for prompt in frame()["prompt"]]))
    settings = replace(SETTINGS, epsilon=0.3, promise=promise)
    splits = parts_of(graded)
    candidate = fit_candidate(splits, settings, Given())
    assert candidate.routers["cheap"][-1].auc > 0.6
    assert bool(candidate.verifiers["frontier"]) is (wrong > 0)
    certified = certify_candidate(candidate, splits, settings, datetime(2026, 1, 5, tzinfo=UTC))
    version = certified.version
    routed = ((query, version.decide(query)) for query in map(Query.from_prompt, splits.cert.prompts.texts))
    query, decision = next((query, decision) for query, decision in routed if decision.tier == "cheap")
    assert version.judge(query, Completion("Yes."), decision).p_ok is not None
    if not wrong:
        assert not version.policy.judges_top
        page = choice_section("verifier", candidate.verifiers)
        assert "No verifier of frontier: every answer that it could be fitted on is right" in page


@pytest.mark.parametrize(
    ("tier", "grade", "remedy"),
    [
        ("cheap", 1.0, "serve 'cheap' alone"),
        ("cheap", 0.0, "leave 'cheap' out"),
        ("frontier", 0.0, "leave 'frontier'"),
    ],
)
def test_what_cannot_be_learned_is_said_with_the_remedy(
    fitted: Callable[..., Candidate], tier: str, grade: float, remedy: str
) -> None:
    with pytest.raises(DataError, match=f"every grade of tier '{tier}' is {grade:g}.*{remedy}"):
        fitted(**{tier: np.full(300, grade)})


def test_a_part_without_both_right_and_wrong_answers_is_named(fitted: Callable[..., Candidate]) -> None:
    tune = parts_of(table()).tune.prompts.texts
    grades = [1.0 if text in tune else grade for text, grade in zip(frame()["prompt"], frame()["cheap"], strict=True)]
    with pytest.raises(DataError, match="prompts to calibrate routers on, tier 'cheap' answered all alike"):
        fitted(cheap=np.array(grades))


@pytest.mark.parametrize("family", ["p-yes", "probe", "oracle"])
def test_a_family_that_no_server_can_feed_makes_no_version(family: str) -> None:
    """With the column there too: a request's own metadata must never stand for what a model was asked."""
    labelled = table(p_yes=["0.5"] * 300, oracle=["1"] * 300)
    with pytest.raises(DataError, match=rf"router {family}: the (signal \w+ would need|outcomes hold no p_yes)"):
        fit_candidate(parts_of(labelled), replace(SETTINGS, router=family), Given())
