"""Experiment 4: the thresholds of three tiers certified together; the best-looking configuration breaks the budget."""

import numpy as np
import pytest

from router_models.calibration.joint import run_path
from router_models.calibration.ladder import Ladder, play
from router_models.calibration.scores import PlattCalibrator
from router_models.calibration.tuning import pareto_path
from router_models.errors import NotCertifiedError

pytestmark = pytest.mark.statistical
DELTA = 0.1


def synthetic() -> Ladder:
    """Three tiers whose skill and cost grow; router and verifiers see the difficulty through noise."""
    rng = np.random.default_rng(21)
    n = 12_000
    difficulty = rng.normal(0, 1.5, n)
    logits = np.column_stack([skill - difficulty for skill in (1.0, 1.9, 3.2)])
    right = rng.random((n, 3)) < 1 / (1 + np.exp(-logits))
    p_ok = 1 / (1 + np.exp(-(logits * 0.6 + 1.1 * (right - 0.5) + rng.normal(0, 0.9, (n, 3)) + 0.3)))
    p_route = 1 / (1 + np.exp(-(logits[:, :2] * 0.5 + rng.normal(0, 0.8, (n, 2)))))
    return calibrated(("small", "medium", "large"), p_route, p_ok, (1.0, 6.0, 30.0), right, rng)


def calibrated(tiers, p_route, p_ok, cost, right, rng) -> Ladder:
    """Calibrate every column on 300 prompts of their own, as TUNE would, and keep the others as the population."""
    fit = np.zeros(len(p_ok), dtype=bool)
    fit[rng.permutation(len(p_ok))[:300]] = True
    columns = {}
    for key, scores in (("route", p_route), ("ok", p_ok)):
        columns[key] = np.column_stack(
            [PlattCalibrator().fit(s[fit], right[fit, i]).predict(s)[~fit] for i, s in enumerate(scores.T)]
        )
    return Ladder.of(tiers, columns["route"], columns["ok"], cost, right[~fit])


@pytest.fixture(scope="module")
def ladder(request):
    if request.param == "synthetic":
        return synthetic()
    table = request.getfixturevalue("qa_table")
    models = ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct", "gpt-4o")
    kinds = ("max_token_confidence", "max_token_confidence", "stated_confidence")
    names = [f"{m}|{k}" for m, k in zip(models, kinds, strict=True)]
    table = table[[*models, *names, "prompt"]].dropna()
    length = 1 / (1 + table["prompt"].str.len().to_numpy() / 300)
    right = table[list(models)].to_numpy() > 0.5
    p_route = np.column_stack([length, length])
    return calibrated(models, p_route, table[names].to_numpy(), (1.0, 8.0, 30.0), right, np.random.default_rng(22))


def truth(pool: Ladder, thresholds) -> tuple[float, float, float]:
    """True P(wrong | answered), P(abstain), and cost as a share of always-top's."""
    played = play(pool, thresholds)
    answered = ~played.abstained
    risk = played.wrong(pool.right).sum() / max(answered.sum(), 1)
    return risk, 1 - answered.mean(), played.cost_usd.mean() / pool.cost_usd[:, -1].mean()


@pytest.mark.parametrize(
    ("ladder", "epsilon", "abstain", "runs_quick"),
    [("synthetic", 0.15, 0.0, 60), ("qa", 0.15, 0.0, 60), ("synthetic", 0.12, 0.1, 25)],
    indirect=["ladder"],
)
def test_the_certified_configuration_keeps_both_budgets_and_saves(
    ladder, epsilon, abstain, runs_quick, size, allowed, measured
):
    runs = size(runs_quick, 500)
    rng = np.random.default_rng(23)
    broken = picked_broken = none = 0
    costs = []
    for _ in range(runs):
        tune, cert = (ladder.take(rng.integers(0, len(ladder), n)) for n in (500, 1000))
        try:
            path = run_path(tune, cert, epsilon=epsilon, level=DELTA, abstain_share=abstain)
        except NotCertifiedError:
            none += 1
            costs.append(1.0)
            continue
        cost = np.array([c.cost_usd for c in path.configurations])
        # The uncertified pick: the cheapest configuration whose error on the same labels is within the budget.
        looks_fine = path.wrong <= epsilon * path.answered
        if looks_fine.any():
            pick = path.configurations[int(np.argmin(np.where(looks_fine, cost, np.inf)))]
            picked_broken += truth(ladder, pick.thresholds)[0] > epsilon
        if path.rejected.any():
            chosen = path.configurations[int(np.argmin(np.where(path.rejected, cost, np.inf)))]
            risk, silent, share = truth(ladder, chosen.thresholds)
            broken += risk > epsilon or silent > max(abstain, 0)
            costs.append(share)
        else:
            none += 1
            costs.append(1.0)
    known = [truth(ladder, c.thresholds) for c in pareto_path(ladder, abstain_share=abstain)]
    oracle = min(cost for risk, silent, cost in known if risk <= epsilon and silent <= abstain)
    limit = allowed(runs, DELTA)
    measured(
        f"ε={epsilon} a={abstain} B={runs}: broken {broken} (≤ {limit}), uncertified pick {picked_broken}, no certificate "
        f"{none}; cost {np.mean(costs):.2f} of always-top's (knowing all labels: {oracle:.2f})"
    )
    assert broken <= limit
    assert picked_broken > limit, "the negative control must fail"
    assert 1 - np.mean(costs) >= 0.5 * (1 - oracle), "at least half of the possible saving is kept"
