"""Described traffic: the written-out prompts have the stated shares, accuracies, tokens and scores."""

from decimal import Decimal

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.metrics import auc, smooth_calibration_error
from router_models.planning.traffic_mix import TrafficSlice, posterior, with_verifier, workload_of_mix
from router_models.planning.workload import Workload
from router_models.pricing.prices import Price
from router_models.pricing.tier_costs import TierCosts

TERMS = {
    "cheap": TierCosts(Price(Decimal("0.1"), Decimal("0.4")), latency_p50_s=0.5, latency_p95_s=2.0),
    "frontier": TierCosts(Price(Decimal(2), Decimal(8), Decimal(1)), token_ratio=1.5, cached_share=0.5),
}
EASY = TrafficSlice("easy", 0.75, 0.9, 0.96, 400, 100)
HARD = TrafficSlice("hard", 0.25, 0.4, 0.9, 200, 300, strong_right_when_weak_wrong=0.85)


def written(*slices: TrafficSlice) -> Workload:
    return workload_of_mix(
        slices or (EASY, HARD), "cheap", "frontier", TERMS, router_auc=0.6, verifier_auc=0.8, prompts=8000
    )


def test_shares_and_accuracies_are_the_stated_ones() -> None:
    work = written()
    hard = np.array(work.slices["slice"]) == "hard"
    assert hard.mean() == pytest.approx(0.25, abs=0.001)
    assert work.seen.grades[:, 0][hard].mean() == pytest.approx(0.4, abs=0.001)
    assert work.seen.grades[:, -1][hard].mean() == pytest.approx(0.9, abs=0.001)
    wrong = hard & (work.seen.grades[:, 0] == 0)
    assert work.seen.grades[:, -1][wrong].mean() == pytest.approx(0.85, abs=0.001)


def test_tokens_are_priced_by_each_tiers_own_tokenizer_and_cache() -> None:
    work = written(TrafficSlice("all", 1.0, 0.8, 0.9, 400, 100))
    assert work.seen.cost_usd[:, 0][0] == pytest.approx((400 * 0.1 + 100 * 0.4) / 1e6)
    assert work.seen.cost_usd[:, -1][0] == pytest.approx((300 * 2 + 300 * 1 + 150 * 8) / 1e6)


def test_latencies_are_known_only_where_stated() -> None:
    work = written()
    assert work.cheap_s is not None
    assert np.median(work.cheap_s) == pytest.approx(0.5, rel=0.01)
    assert work.frontier_s is None


def test_the_verifier_adds_to_what_the_router_knows() -> None:
    work = written(TrafficSlice("all", 1.0, 0.8, 0.9, 400, 100))
    assert auc(work.seen.p_route[:, 0], work.seen.grades[:, 0]) == pytest.approx(0.6, abs=0.02)
    assert auc(work.seen.p_ok[:, 0], work.seen.grades[:, 0]) > 0.8


def test_a_better_imagined_verifier_separates_better() -> None:
    work = written()
    found = [auc(with_verifier(work, a, 0).seen.p_ok[:, 0], work.seen.grades[:, 0]) for a in (0.6, 0.8, 0.95)]
    assert found == sorted(found)


def test_scores_of_a_mix_have_the_stated_auc_and_are_calibrated() -> None:
    chance = np.random.default_rng(0)
    right = (chance.random(20_000) < 0.7).astype(float)
    p = posterior(np.full(20_000, 0.7), right, 0.8, chance)
    assert auc(p, right) == pytest.approx(0.8, abs=0.01)
    assert smooth_calibration_error(p, right) < 0.02


def test_contradicting_accuracies_of_a_slice_are_refused() -> None:
    with pytest.raises(DataError, match="contradict"):
        TrafficSlice("x", 1.0, 0.5, 0.95, 1, 1, strong_right_when_weak_wrong=0.1)


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    part = TrafficSlice("x", 0.5, 0.9, 0.95, 1, 1)
    with pytest.raises(DataError, match="sum to 1"):
        workload_of_mix([part], "cheap", "frontier", TERMS, router_auc=0.6, verifier_auc=0.7)
