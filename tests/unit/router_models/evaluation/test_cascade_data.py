"""Contenders of a cascade: fitted on other folds only, ordered within theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from router_models.data.outcomes import OutcomeTable, group_duplicates, prompt_id
from router_models.errors import DataError
from router_models.estimators.routers.text.linear import SurfaceRouter
from router_models.estimators.signals import TierKind
from router_models.estimators.verifiers.learned.logistic import folds_by_prompt
from router_models.evaluation.cascade_data import (
    COMBINED,
    FITTED,
    PROMPT,
    RAW,
    CascadeData,
    CascadeScores,
    cascade_data,
    contenders,
    cross_fitted_router,
    cross_validate_cascade,
    measured_contenders,
    served_contenders,
    with_measured,
    with_one_token_logprobs,
)
from router_models.metrics import auc_weighted
from router_models.types import Answers, FloatArray, Prompts
from router_models.types.exchange import LOGPROB_NAMES


def test_grades_of_the_held_out_fold_do_not_reach_its_scores(drawn: Callable[..., CascadeData]) -> None:
    data = drawn(300, seed=2)
    entered = {name: c for name, c in contenders(SurfaceRouter).items() if name in (FITTED, COMBINED)}
    dealt = folds_by_prompt(data.answers.prompts.texts, data.cheap, 5, 0)

    def seen(train: CascadeData, test: Answers) -> FloatArray:
        assert not set(train.answers.prompts.texts) & set(test.prompts.texts)
        return np.full(len(test), train.cheap.mean())

    cross_validate_cascade(data, {"spy": seen})
    assert set(np.unique(dealt)) == set(range(5))
    router, crossed = cross_fitted_router(SurfaceRouter, data.answers, data.cheap, dealt)
    held = dealt == 0
    alone = SurfaceRouter().fit(data.answers.prompts.take(~held), data.cheap[~held])
    np.testing.assert_allclose(crossed[held], alone.predict(data.answers.prompts.take(held)))
    assert not np.allclose(crossed, router.predict(data.answers.prompts))
    assert set(cross_validate_cascade(data, entered).by_name) == {FITTED, COMBINED}


def test_domains_kept_together_are_never_on_both_sides(drawn: Callable[..., CascadeData]) -> None:
    data = drawn(200, seed=3)
    domain = [str(i % 10) for i in range(200)]
    of = dict(zip(data.answers.prompts.texts, domain, strict=True))

    def spy(train: CascadeData, test: Answers) -> FloatArray:
        assert not {of[p] for p in train.answers.prompts.texts} & {of[p] for p in test.prompts.texts}
        return np.zeros(len(test))

    cross_validate_cascade(data, {"spy": spy}, together=domain)
    with pytest.raises(DataError, match="separate groups"):
        cross_validate_cascade(data, {"spy": spy}, together=["one"] * 200)


def test_a_token_probability_is_read_as_a_one_token_answer() -> None:
    answers = Answers(Prompts(("a", "b", "c")), ("", "", ""), ("stop",) * 3)
    given = replace(answers, signals={"max_token_confidence": np.array([0.5, np.nan, 0.0])})
    read = with_one_token_logprobs(given).signals
    assert read["lp_mean"][0] == pytest.approx(np.log(0.5))
    assert np.isnan(read["lp_mean"][1])
    assert read["lp_mean"][2] < -20
    assert with_one_token_logprobs(answers) is answers


def test_missing_grades_are_refused(drawn: Callable[..., CascadeData]) -> None:
    data = drawn(60, seed=4)
    with pytest.raises(DataError, match="graded for both"):
        cross_validate_cascade(replace(data, dear=np.where(np.arange(60) == 0, np.nan, data.dear)), {})


def test_a_tier_of_whose_certainty_nothing_is_known_makes_no_cascade() -> None:
    texts = ("one", "two", "three")
    grades = {"small": np.array([1.0, 0.0, 1.0]), "large": np.ones(3)}
    table = OutcomeTable(
        Prompts(texts), tuple(map(prompt_id, texts)), ("small", "large"), grades, group_duplicates(texts)
    )
    with pytest.raises(DataError, match="logprobs of 'small'"):
        cascade_data(table, "small", "large")


def test_of_recorded_signals_contenders_are_given_those_that_are_served() -> None:
    texts = ("one", "two", "three")
    tiers = ("small", "large")
    told = {f"small|{name}": np.full(3, -0.5) for name in (*LOGPROB_NAMES, "p_true", "somebodys_score")}
    table = OutcomeTable(
        Prompts(texts), tuple(map(prompt_id, texts)), tiers, dict.fromkeys(tiers, np.ones(3)),
        group_duplicates(texts), confidences=told,
    )  # fmt: skip
    data = cascade_data(table, *tiers)
    assert set(data.answers.signals) == set(LOGPROB_NAMES)
    assert [why.partition(" would need ")[0] for why in data.not_served] == ["the signal somebodys_score"]
    assert data.costs == {"p_true": "one more call"}
    hosted = cascade_data(table, *tiers, TierKind.HOSTED)
    assert "the signal p_true" in [why.partition(" would need ")[0] for why in hosted.not_served]
    assert hosted.costs == {}
    assert set(data.measured) == {"p_true"}, "a contender of its own shows what it would be worth"
    without = {name: column for name, column in told.items() if "p_true" not in name}
    with pytest.raises(DataError, match="a cascade from tier 'small': the signal lp_mean would need"):
        cascade_data(replace(table, confidences=without), *tiers, TierKind.HOSTED)


@pytest.mark.parametrize("logprobs", [True, False])
def test_a_recorded_p_true_is_compared_and_of_no_served_contender(
    logprobs: bool, drawn: Callable[..., CascadeData]
) -> None:
    """It tells right from wrong almost alone, which the contenders that are served must not know."""
    data, rng = drawn(300, seed=6), np.random.default_rng(0)
    answers = replace(data.answers, signals=data.answers.signals if logprobs else {})
    data = replace(data, answers=answers, measured={"p_true": np.clip(0.5 + 0.4 * (data.cheap - 0.5), 0, 1)})
    data.measured["p_true"][:] += rng.normal(0, 0.05, 300)
    served, more = served_contenders(data, SurfaceRouter), measured_contenders(data, SurfaceRouter)
    assert set(served) == ({RAW, FITTED, PROMPT, COMBINED} if logprobs else {PROMPT, COMBINED})
    assert list(more) == ["p_true, not served", "combined and p_true, not served"]
    priced = replace(data, costs={"p_true": "one more call"})
    named = ["p_true, one more call", "combined and p_true, one more call"]
    assert list(measured_contenders(priced, SurfaceRouter)) == named
    before = cross_validate_cascade(data, served, folds=3)
    beside = cross_validate_cascade(with_measured(data), more, folds=3)
    np.testing.assert_array_equal(before.fold, beside.fold)

    def area(scores: CascadeScores, name: str) -> float:
        return float(auc_weighted(scores.ordered(name), data.cheap)(np.ones((1, 300)))[0])

    assert area(beside, "p_true, not served") > 0.95
    assert area(beside, "combined and p_true, not served") > 0.95
    assert max(area(before, name) for name in served) < 0.95


def test_order_is_taken_within_folds_whatever_their_scales() -> None:
    """A monotone change of one fold's scores, as any refit makes it, changes nothing; pooled it would."""
    fold = np.array([0, 0, 0, 1, 1, 1])
    raw = np.array([0.1, 0.5, 0.9, 0.2, 0.6, 0.6])
    scores = CascadeScores({"as it is": raw, "refitted": np.where(fold == 0, raw / 100, 0.5 + raw / 2)}, fold)
    np.testing.assert_allclose(scores.ordered("as it is"), [1 / 3, 2 / 3, 1, 1 / 3, 2.5 / 3, 2.5 / 3])
    np.testing.assert_array_equal(scores.ordered("as it is"), scores.ordered("refitted"))


def test_every_contender_scores_every_prompt(drawn: Callable[..., CascadeData]) -> None:
    scores = cross_validate_cascade(drawn(120, seed=5), contenders(SurfaceRouter), folds=3)
    assert list(scores.by_name) == [RAW, FITTED, PROMPT, COMBINED]
    assert all(((p >= 0) & (p <= 1)).all() for p in scores.by_name.values())
