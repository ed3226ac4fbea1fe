"""Figures of routers on recorded outcomes: baselines, gaps, certified points, costs."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from router_models.data.outcomes import read_outcomes
from router_models.errors import DataError
from router_models.evaluation.certified_point import PromiseTerms, certification_rows, certified_point
from router_models.evaluation.cross_validation import costs_of
from router_models.evaluation.figures import baselines, evaluate
from router_models.evaluation.held_out import (
    HeldOutScores,
)
from router_models.evaluation.intervals import aiq_interval
from router_models.evaluation.page import evaluation_page
from router_models.evaluation.plots import draw_cost, draw_evaluation_deferral
from router_models.metrics import aiq, cost_quality
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts
from tests.unit.router_models.evaluation.drawn_outcomes import NOW, drawn, table, terms

MMLU = Path(__file__).parents[4] / "../shared/data/routellm_mmlu.parquet"


def test_baselines_stand_beside_every_router_and_bound_it() -> None:
    t, ease = drawn()
    found = evaluate(t, "weak", "strong", [HeldOutScores("mine", "known", ease)], terms(t), NOW)
    random, length, oracle, mine = found.rows
    assert [r.method for r in found.rows] == ["random", "length", "oracle", "mine"]
    assert random.apgr.value == pytest.approx(0.5)
    assert random.apgr.low == pytest.approx(random.apgr.high)
    assert random.cpt_80.value == pytest.approx(0.8)
    assert 0.5 < mine.apgr.value < oracle.apgr.value
    assert mine.apgr.low < mine.apgr.value < mine.apgr.high
    assert mine.over_length.low > 0
    assert length.over_length.value == length.over_length.low == length.over_length.high == 0.0


def test_the_oracle_may_recover_more_than_the_whole_gap() -> None:
    t, _ = drawn()
    oracle = evaluate(t, "weak", "strong", [], terms(t), NOW).rows[2]
    assert oracle.apgr.value > 1
    assert oracle.pgr_half.value > 1


def test_tied_scores_are_averaged_not_broken_by_order() -> None:
    t = table([0, 0, 0, 1, 1, 1] * 20, [1] * 120)
    found = evaluate(t, "weak", "strong", [HeldOutScores("tied", "x", np.full(120, 0.3))], terms(t), NOW)
    assert found.rows[3].apgr.value == pytest.approx(0.5)
    assert found.rows[3].certified is not None
    assert found.rows[3].certified.threshold is None


def test_two_models_of_equal_quality_leave_no_gap_to_recover() -> None:
    t = table([1, 0] * 50, [0, 1] * 50)
    with pytest.raises(DataError, match="no gap to recover"):
        evaluate(t, "weak", "strong", [], terms(t), NOW)


def test_a_weak_model_that_is_better_is_named() -> None:
    t = table([1] * 100, [0, 1] * 50)
    with pytest.raises(DataError, match="is not better than the weak one"):
        evaluate(t, "weak", "strong", [], terms(t), NOW)


def test_both_cpt_are_shown_where_quality_is_not_monotone() -> None:
    # Half of the gap is recovered with a fifth of the calls, lost again to prompts that only weak answers, and rewon.
    gain = np.repeat([1.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0], 20)
    t = table((gain < 0).astype(float).tolist(), (gain > 0).astype(float).tolist())
    scores = np.linspace(0, 1, 200)
    found = evaluate(t, "weak", "strong", [HeldOutScores("crooked", "x", scores)], terms(t), NOW)
    first, interpolated = found.rows[3].deciles_cpt[0.5]
    assert first == pytest.approx(0.2, abs=0.02)
    assert interpolated > 0.6
    assert "crooked CPT(50)" in evaluation_page(found)
    assert "Not monotone" in evaluation_page(found)


def test_a_score_that_is_missing_is_refused() -> None:
    t, ease = drawn()
    with pytest.raises(DataError, match="1 of 600 prompts have no score"):
        evaluate(
            t, "weak", "strong", [HeldOutScores("mine", "x", np.where(ease == ease[3], np.nan, ease))], terms(t), NOW
        )


def test_a_certified_point_costs_less_and_keeps_its_budget_on_the_certification_rows() -> None:
    t, ease = drawn(4000)
    rows = certification_rows(t, 0)
    point = certified_point(ease, t.grade("weak"), t.grade("strong"), terms(t, epsilon=0.2), rows, NOW, 0)
    assert point.threshold is not None
    assert 0.1 < point.strong_share < 0.9
    assert point.cost == pytest.approx(point.strong_share)
    assert point.cost < point.cost_of_strong


def test_prompts_that_would_not_be_covered_are_no_evidence_and_go_to_strong() -> None:
    """Ten prompts had a temperature of their own: what their answers are worth changes nothing."""
    points = []
    for right in (0.0, 1.0):
        t, _ = drawn(800)
        odd = np.arange(len(t)) < 10
        hot = ['{"temperature":1.9}' if one else "" for one in odd]
        weak, strong = (np.where(odd, right, t.grade(tier)).tolist() for tier in ("weak", "strong"))
        made = table(weak, strong, decoding=hot)
        scores = HeldOutScores("mine", "k-fold", np.where(odd, 0.999, drawn(800)[1]))
        points.append(evaluate(made, "weak", "strong", [scores], terms(made, epsilon=0.3), NOW).rows[3].certified)
    wrong, correct = points
    assert wrong is not None and correct is not None  # noqa: PT018 (both, for mypy)
    assert wrong.threshold is not None
    assert (wrong.threshold, wrong.why, wrong.strong_share) == (correct.threshold, correct.why, correct.strong_share)


def test_where_nothing_can_be_certified_the_reason_is_given() -> None:
    t, _ = drawn()
    point = certified_point(
        np.random.default_rng(1).random(600), t.grade("weak"), t.grade("strong"), terms(t, epsilon=0.01),
        certification_rows(t, 0), NOW, 0,
    )  # fmt: skip
    assert point.threshold is None
    assert point.strong_share == 1.0
    assert "infeasible" in point.why


def test_scores_of_one_to_ten_are_certified_only_with_an_acceptable_grade() -> None:
    chance = np.random.default_rng(0)
    t = table(chance.random(400).tolist(), np.clip(chance.random(400) + 0.3, 0, 1).tolist())
    point = evaluate(t, "weak", "strong", [], terms(t), NOW).rows[1].certified
    assert point is not None
    assert "from which grade on an answer is acceptable" in point.why
    told = PromiseTerms(np.zeros(400), np.ones(400), False, 0.1, 0.1, acceptable=0.5)
    point = evaluate(t, "weak", "strong", [], told, NOW).rows[1].certified
    assert point is not None
    assert "acceptable" not in point.why


def test_aiq_is_the_metrics_own_and_lies_in_its_interval() -> None:
    t, ease = drawn()
    w, s = t.grade("weak"), t.grade("strong")
    costs = (np.full(600, 0.1), np.linspace(0.5, 1.5, 600))
    seen = aiq_interval(ease, w, s, costs, seed=0)
    cost, quality = cost_quality(ease, w, s, *costs)
    assert seen.value == pytest.approx(aiq(cost, quality, max(float(cost.max()), 1.0)))
    assert seen.low < seen.value < seen.high


def test_dollars_are_used_where_prices_are_given() -> None:
    t, _ = drawn()
    prices = tuple(TierCosts(Price(p, p), input_tokens=1000, output_tokens=0) for p in map(Decimal, ("1", "10")))
    seen = costs_of(t, "weak", "strong", (prices[0], prices[1]), epsilon=0.1, delta=0.1)
    assert seen.usd
    assert seen.weak_cost == pytest.approx([0.001] * 600)
    assert not costs_of(t, "weak", "strong", None, epsilon=0.1, delta=0.1).usd


def test_the_pictures_are_drawn(tmp_path: Path) -> None:
    t, ease = drawn()
    held = [*baselines(t, "weak", "strong"), HeldOutScores("mine", "x", ease)]
    draw_evaluation_deferral(tmp_path / "a.png", held, t.grade("weak"), t.grade("strong"), "title")
    draw_cost(tmp_path / "b.png", held, t.grade("weak"), t.grade("strong"), terms(t), "title")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("a.png", "b.png"))


@pytest.mark.full  # the figures alone: `test_metrics.py::test_published_mmlu_outcomes_give_the_known_figures`
@pytest.mark.skipif(not MMLU.is_file(), reason="../shared/data is not here")
def test_prompt_length_and_the_oracle_are_what_was_measured_on_mmlu() -> None:
    t = read_outcomes(MMLU).only("mixtral-8x7b", "gpt-4-1106")
    found = evaluate(t, "mixtral-8x7b", "gpt-4-1106", [], terms(t), NOW)
    assert found.rows[1].apgr.value == pytest.approx(0.579, abs=0.01)
    assert found.rows[1].deciles_apgr == pytest.approx(0.579, abs=0.01)
    assert found.rows[2].apgr.value == pytest.approx(1.183, abs=0.005)  # 1.268 on all 57 subjects, 38 are here
