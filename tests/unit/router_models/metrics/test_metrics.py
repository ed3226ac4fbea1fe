"""Metrics of routers and probabilities: exact on small cases, equal to published definitions, honest about ties."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from router_models.errors import DataError
from router_models.metrics import (
    RoutingSums,
    aiq,
    apgr,
    auc,
    bootstrap,
    bootstrap_values,
    brier,
    cost_quality,
    cpt,
    cpt_interpolated,
    gap_of,
    interval_of,
    log_loss,
    oracle_scores,
    pgr,
    random_curve,
    reliability,
    risk_by_coverage,
    routellm_curve,
    routing_curve,
    selective_accuracy,
    smooth_calibration_error,
    smooth_calibration_error_weighted,
)
from router_models.metrics.probability import auc_weighted

MMLU = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "routellm_mmlu.parquet"


@pytest.fixture
def pair():
    """400 prompts: the strong model right on 75 %, the weak on 60 %, independently."""
    rng = np.random.default_rng(0)
    return (rng.random(400) < 0.6).astype(float), (rng.random(400) < 0.75).astype(float)


# --- routing


def test_a_hand_computed_curve_has_the_hand_computed_figures():
    # Order of strong calls: prompts 3, 2, 1, 0. Gains by prompt: 0, 1, 0, 1; gap = 2 of 4.
    curve = routing_curve([0.9, 0.6, 0.4, 0.1], weak=[1, 0, 1, 0], strong=[1, 1, 1, 1])
    assert curve.strong_share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.pgr == pytest.approx([0, 0.5, 0.5, 1, 1])
    assert apgr(curve) == pytest.approx(0.25 * (0.25 + 0.5 + 0.75 + 1))
    assert cpt(curve, 0.5) == pytest.approx(0.25)
    assert cpt(curve, 0.8) == pytest.approx(0.5 + 0.25 * 0.6)


def test_a_constant_score_is_worth_exactly_random(pair):
    curve = routing_curve(np.full(400, 0.3), *pair)
    assert apgr(curve) == pytest.approx(0.5)
    assert cpt(curve, 0.8) == pytest.approx(0.8)
    assert apgr(random_curve(*pair)) == pytest.approx(0.5)


def test_tied_scores_give_the_average_over_their_orders(pair):
    rng = np.random.default_rng(1)
    tied = np.round(rng.random(400), 1)
    broken = [apgr(routing_curve(tied + 1e-6 * rng.random(400), *pair)) for _ in range(400)]
    assert apgr(routing_curve(tied, *pair)) == pytest.approx(np.mean(broken), abs=4 * np.std(broken) / 20)


@given(st.integers(0, 10_000))
def test_tie_averaging_does_not_depend_on_the_order_of_the_rows(seed):
    rng = np.random.default_rng(seed)
    p, w, s = rng.integers(0, 4, 30) / 4, rng.integers(0, 2, 30), np.ones(30)
    if w.all():
        return
    order = rng.permutation(30)
    assert apgr(routing_curve(p, w, s)) == pytest.approx(apgr(routing_curve(p[order], w[order], s[order])))


def test_the_oracle_is_above_one_where_the_weak_model_knows_what_the_strong_does_not(pair):
    oracle = apgr(routing_curve(oracle_scores(*pair), *pair))
    assert oracle > 1
    rng = np.random.default_rng(2)
    assert all(apgr(routing_curve(rng.random(400), *pair)) < oracle for _ in range(50))
    assert apgr(routing_curve(1 - oracle_scores(*pair), *pair)) < 0


def test_cpt_takes_the_first_crossing_where_quality_is_not_monotone():
    # Gains in calling order, ten prompts each: + - + + - +. The gap is recovered, half lost, and recovered again.
    strong = np.repeat([1, 0, 1, 1, 0, 1], 10)
    curve = routing_curve(np.arange(60) / 60, 1 - strong, strong)
    assert curve.pgr[::10] == pytest.approx([0, 0.5, 0, 0.5, 1, 0.5, 1])
    assert cpt(curve, 0.8) == pytest.approx(36 / 60)
    assert cpt_interpolated(curve, 0.8) == pytest.approx(56 / 60)


def test_the_routellm_curve_follows_its_eleven_thresholds(pair):
    p = np.random.default_rng(3).random(400)
    curve = routellm_curve(p, *pair)
    score = 1 - p
    edges = np.quantile(score, np.linspace(0, 1, 11))
    for i, edge in enumerate(edges):
        to_strong = score >= edge if i < 10 else score > edge
        at = 10 - i
        assert curve.strong_share[at] == pytest.approx(to_strong.mean())
        assert curve.quality[at] == pytest.approx(np.where(to_strong, pair[1], pair[0]).mean())
    assert apgr(curve) == pytest.approx(apgr(routing_curve(p, *pair)), abs=0.05)


def test_routellm_curves_survive_ties_that_merge_their_thresholds(pair):
    assert apgr(routellm_curve(np.full(400, 0.5), *pair)) == pytest.approx(0.5)
    coarse = routellm_curve(np.repeat([0.1, 0.9], 200), *pair)
    assert coarse.strong_share[0] == 0
    assert coarse.strong_share[-1] == 1


@pytest.mark.parametrize("strong", [[0, 1, 1, 0], [0, 0, 1, 0]])
def test_no_gap_between_the_tiers_is_named_as_the_reason(strong):
    for call in (
        lambda: routing_curve([0.1, 0.2, 0.3, 0.4], [1, 0, 0, 1], strong),
        lambda: gap_of([1, 0, 0, 1], strong),
        lambda: pgr(0.5, 0.5, float(np.mean(strong))),
    ):
        with pytest.raises(DataError, match="no gap"):
            call()


def test_unusable_columns_are_refused():
    with pytest.raises(DataError, match="alike"):
        routing_curve([0.1], [0, 0], [1, 1])
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        routing_curve([0.1, np.nan], [0, 0], [1, 1])


def test_aiq_of_one_point_of_two_and_of_a_hull():
    assert aiq([2.0], [0.8]) == 0.0
    assert aiq([1.0, 2.0], [0.4, 0.8]) == pytest.approx(0.6 / 2)
    # the point below the line and the worse, dearer one do not count; past the best the hull is level
    assert aiq([1, 2, 3, 4], [0.4, 0.5, 0.8, 0.7]) == pytest.approx((2 * 0.6 + 0.8) / 4)
    assert aiq([1.0, 2.0], [0.4, 0.8], greatest_cost=4.0) == pytest.approx((0.6 + 2 * 0.8) / 4)
    with pytest.raises(DataError, match="greatest cost"):
        aiq([0.0, 0.0], [0.1, 0.2])


def test_cost_and_quality_start_at_always_weak_and_end_at_always_strong(pair):
    rng = np.random.default_rng(4)
    weak_cost, strong_cost = rng.random(400), 5 + rng.random(400)
    cost, quality = cost_quality(rng.random(400), *pair, weak_cost, strong_cost)
    assert (cost[0], quality[0]) == (pytest.approx(weak_cost.mean()), pytest.approx(pair[0].mean()))
    assert (cost[-1], quality[-1]) == (pytest.approx(strong_cost.mean()), pytest.approx(pair[1].mean()))


@pytest.mark.skipif(not MMLU.exists(), reason="shared/data is not present")
def test_published_mmlu_outcomes_give_the_known_figures():
    import pandas as pd

    table = pd.read_parquet(MMLU)
    weak, strong = table["mixtral-8x7b"].to_numpy(float), table["gpt-4-1106"].to_numpy(float)
    length = 1 / (1 + table["prompt"].str.len().to_numpy())
    assert apgr(routing_curve(length, weak, strong)) == pytest.approx(0.579, abs=0.002)
    assert apgr(routellm_curve(length, weak, strong)) == pytest.approx(0.579, abs=0.002)
    oracle = apgr(routing_curve(oracle_scores(weak, strong), weak, strong))
    assert oracle > 1.1
    random = [apgr(routing_curve(np.random.default_rng(s).random(len(weak)), weak, strong)) for s in range(20)]
    assert np.mean(random) == pytest.approx(0.5, abs=0.01)


# --- intervals


def test_weights_of_one_reproduce_every_figure(pair):
    p = np.round(np.random.default_rng(5).random(400), 2)
    sums, ones = RoutingSums(p, *pair), np.ones((1, 400))
    assert sums.apgr(ones)[0] == pytest.approx(apgr(routing_curve(p, *pair)))
    for x in (0.2, 0.5, 0.8, 1.0):
        assert sums.cpt(ones, x)[0] == pytest.approx(cpt(routing_curve(p, *pair), x))


def test_resampled_rows_and_weights_agree(pair):
    rng = np.random.default_rng(6)
    p, rows = np.round(rng.random(400), 2), rng.integers(0, 400, 400)
    weights = np.bincount(rows, minlength=400)[None].astype(float)
    direct = routing_curve(p[rows], pair[0][rows], pair[1][rows])
    assert RoutingSums(p, *pair).apgr(weights)[0] == pytest.approx(apgr(direct))
    assert RoutingSums(p, *pair).cpt(weights, 0.5)[0] == pytest.approx(cpt(direct, 0.5))
    assert auc_weighted(p, pair[0])(weights)[0] == pytest.approx(auc(p[rows], pair[0][rows]))
    q = np.clip(p, 0, 1)
    assert smooth_calibration_error_weighted(q, pair[0])(weights)[0] == pytest.approx(
        smooth_calibration_error(q[rows], pair[0][rows]), abs=0.002
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.random(150) < 0.3
        interval = bootstrap(lambda w, x=x: w @ x / w.sum(axis=1), 150, draws=500, seed=seed)
        hits += interval.low <= 0.3 <= interval.high
    assert 86 <= hits <= 100


def test_equal_seeds_pair_the_draws_of_two_routers(pair):
    p = np.random.default_rng(7).random(400)
    same = bootstrap_values(RoutingSums(p, *pair).apgr, 400, draws=50)
    better = bootstrap_values(RoutingSums(0.5 * p + 0.5 * oracle_scores(*pair), *pair).apgr, 400, draws=50)
    assert (same == bootstrap_values(RoutingSums(p, *pair).apgr, 400, draws=50)).all()
    assert interval_of(float(np.mean(better - same)), better - same).low > 0


def test_a_statistic_undefined_on_some_draws_never_narrows_its_interval():
    values = np.concatenate([np.full(5, np.nan), np.linspace(0, 1, 95)])
    interval = interval_of(0.5, values)
    assert interval.low == -np.inf
    assert interval.high == np.inf


# --- probabilities


def test_probability_figures_equal_scikit_learns():
    rng = np.random.default_rng(8)
    p = np.round(rng.random(500), 2)
    y = (rng.random(500) < p).astype(int)
    assert auc(p, y) == pytest.approx(roc_auc_score(y, p))
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p))
    assert log_loss(np.clip(p, 0.01, 0.99), y) == pytest.approx(sklearn_log_loss(y, np.clip(p, 0.01, 0.99)))
    with pytest.raises(DataError, match="right and wrong"):
        auc(p, np.ones(500))


@pytest.mark.parametrize("bias", [0.0, 0.02, 0.4])
def test_smooth_calibration_error_is_that_of_residuals_smoothed_by_hand(bias: float) -> None:
    chance = np.random.default_rng(1)
    p = chance.random(60)
    residuals = (chance.random(60) < p) - np.clip(p + bias, 0, 1)
    edges = np.linspace(0, 1, 4001)
    middles, width = (edges[:-1] + edges[1:]) / 2, 1 / 4000

    def excess(sigma: float) -> float:
        images = np.concatenate([2 * k + s * np.clip(p + bias, 0, 1) for k in (-1, 0, 1) for s in (-1, 1)])
        bells = np.exp(-0.5 * ((middles[:, None] - images) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        return float(np.abs(bells @ np.tile(residuals, 6)).sum() * width / 60 - sigma)

    found = smooth_calibration_error(np.clip(p + bias, 0, 1), residuals + np.clip(p + bias, 0, 1))
    assert excess(found - 0.0008) > 0 > excess(found + 0.0008)


def test_smooth_calibration_error_is_small_when_calibrated_and_near_the_bias_when_not():
    rng = np.random.default_rng(9)
    p = rng.random(20_000)
    y = rng.random(20_000)
    assert smooth_calibration_error(p, y < p) < 0.02
    assert smooth_calibration_error(np.full(5000, 0.7), y[:5000] < 0.5) == pytest.approx(0.2, abs=0.02)
    shifted = smooth_calibration_error(np.clip(p + 0.1, 0, 1), y < p)
    assert 0.07 < shifted < 0.11
    with pytest.raises(DataError, match="lie in"):
        smooth_calibration_error([1.2, 0.1], [1, 0])


def test_reliability_bins_hold_everybody_once_and_keep_ties_together():
    p = np.repeat([0.1, 0.5, 0.9], [50, 30, 20])
    y = np.concatenate([np.zeros(45), np.ones(5), np.ones(15), np.zeros(15), np.ones(20)])
    bins = reliability(p, y, bins=5)
    assert [b.n for b in bins] == [50, 30, 20]
    assert [b.share_right for b in bins] == [0.1, 0.5, 1.0]
    assert all(b.low <= b.share_right <= b.high for b in bins)


def test_selective_accuracy_averages_the_tie_at_the_edge():
    scores, right = [0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]
    assert selective_accuracy(scores, right, 0.25) == 1.0
    assert selective_accuracy(scores, right, 0.5) == pytest.approx(0.75)
    assert selective_accuracy(scores, right, 1.0) == pytest.approx(0.5)
    coverage, risk = risk_by_coverage(scores, right)
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 1 / 3, 0.5])
    with pytest.raises(DataError, match="coverage"):
        selective_accuracy(scores, right, 0.0)
