"""Experiment 4: the thresholds of three tiers certified together; the best-looking configuration breaks the budget.

Answers that are rejected go to the last tier, or along a chain to the next one.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from router_models.errors import NotCertifiedError
from router_models.estimators.calibrators.scores import PlattCalibrator
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.joint_path import run_path
from router_models.risk_control.ladder.tuning import pareto_path

DELTA = 0.1


@dataclass(frozen=True)
class RawLadder:
    """A labelled population with uncalibrated scores: every run calibrates on its own TUNE rows."""

    tiers: tuple[str, ...]
    route: np.ndarray
    ok: np.ndarray
    cost: tuple[float, ...]
    right: np.ndarray

    def calibrated_on(self, rows: np.ndarray) -> CascadeEvidence:
        def columns(scores: np.ndarray) -> np.ndarray:
            fitted = [PlattCalibrator().fit(s[rows], self.right[rows, i]) for i, s in enumerate(scores.T)]
            return np.column_stack([c.predict(s) for c, s in zip(fitted, scores.T, strict=True)])

        return CascadeEvidence.of(self.tiers, columns(self.route), columns(self.ok), self.cost, self.right)


def synthetic() -> RawLadder:
    """Three tiers whose skill and cost grow; router and verifiers see the difficulty through noise."""
    rng = np.random.default_rng(21)
    n = 6000
    logits = np.array([1.0, 1.9, 3.2]) - rng.normal(0, 1.5, n)[:, None]
    right = rng.random((n, 3)) < 1 / (1 + np.exp(-logits))
    ok = 1 / (1 + np.exp(-(0.6 * logits + 1.1 * (right - 0.5) + rng.normal(0.3, 0.9, (n, 3)))))
    route = 1 / (1 + np.exp(-(0.5 * logits[:, :2] + rng.normal(0, 0.8, (n, 2)))))
    return RawLadder(("small", "medium", "large"), route, ok, (1.0, 6.0, 30.0), right)


def answers_of_three_models(table) -> RawLadder:
    """Llama 8B → 70B → gpt-4o: answer-token confidence, what gpt-4o says of itself, and prompt length as router."""
    models = ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct", "gpt-4o")
    kinds = ("max_token_confidence", "max_token_confidence", "stated_confidence")
    names = [f"{m}|{k}" for m, k in zip(models, kinds, strict=True)]
    table = table[[*models, *names, "prompt"]].dropna()
    length = 1 / (1 + table["prompt"].str.len().to_numpy() / 300)
    right = table[list(models)].to_numpy() > 0.5
    return RawLadder(models, np.column_stack([length, length]), table[names].to_numpy(), (1.0, 8.0, 30.0), right)


@pytest.fixture(scope="module")
def population(request):
    if request.param == "synthetic":
        return synthetic()
    return answers_of_three_models(request.getfixturevalue("qa_table"))


def truth(whole: CascadeEvidence, thresholds: Thresholds) -> tuple[float, float, float]:
    """True P(wrong | answered), P(abstain), and cost as a share of always-top's."""
    replayed = replay_policy(whole, thresholds)
    answered = ~replayed.abstained
    risk = replayed.wrong(whole.right).sum() / max(answered.sum(), 1)
    return risk, 1 - answered.mean(), replayed.cost_usd.mean() / whole.cost_usd[:, -1].mean()


@pytest.mark.sampled("population", "escalation")
@pytest.mark.parametrize(
    ("population", "epsilon", "abstain", "quick", "escalation"),
    [
        ("synthetic", 0.15, 0.0, 60, "top"),
        ("synthetic", 0.12, 0.1, 60, "top"),
        ("qa", 0.15, 0.0, 60, "top"),
        ("synthetic", 0.15, 0.0, 60, "next"),
        ("synthetic", 0.12, 0.1, 60, "next"),
    ],
    indirect=["population"],
)
def test_the_certified_configuration_keeps_both_budgets_and_saves(
    population, epsilon, abstain, quick, escalation, size, allowed, measured
):
    runs, n = size(quick, 500), len(population.right)
    rng = np.random.default_rng(23)
    broken = picked_broken = none = 0
    saved, could_save = [], []
    for _ in range(runs):
        rows, fresh = rng.integers(0, n, 200), rng.integers(0, n, 1500)
        whole = population.calibrated_on(rows)
        try:
            path = run_path(
                whole.take(rows),
                whole.take(fresh),
                epsilon=epsilon,
                level=DELTA,
                abstain_share=abstain,
                escalation=escalation,
            )
        except NotCertifiedError:
            none += 1
            continue
        cost = np.array([c.cost_usd for c in path.configurations])
        true = [truth(whole, c.thresholds) for c in path.configurations]
        # The uncertified pick: the cheapest configuration that keeps the budget on the labels it was tuned on.
        looks_fine = np.array([truth(whole.take(rows), c.thresholds)[0] <= epsilon for c in path.configurations])
        picked_broken += looks_fine.any() and true[int(np.argmin(np.where(looks_fine, cost, np.inf)))][0] > epsilon
        could_save.append(max(1 - c for risk, silent, c in true if risk <= epsilon and silent <= abstain))
        if path.rejected.any():
            risk, silent, share = true[int(np.argmin(np.where(path.rejected, cost, np.inf)))]
            broken += risk > epsilon or silent > abstain
            saved.append(1 - share)
        else:
            none += 1
            saved.append(0.0)
    limit = allowed(runs, DELTA)
    measured(
        f"ε={epsilon} a={abstain} rejected to {escalation} B={runs}: broken {broken} (≤ {limit}), "
        f"uncertified pick {picked_broken}, none certified {none}; saved {np.mean(saved):.0%} of the cost, "
        f"{np.mean(could_save):.0%} knowing all labels"
    )
    assert broken <= limit
    assert picked_broken > limit, "the negative control must fail"
    assert np.mean(saved) >= 0.5 * np.mean(could_save), "at least half of the possible saving is kept"


def test_the_path_of_a_ladder_reaches_what_full_knowledge_could_save():
    population = synthetic()
    whole = population.calibrated_on(np.arange(len(population.right)))
    path = pareto_path(whole)
    risks = [truth(whole, c.thresholds)[0] for c in path]
    costs = [truth(whole, c.thresholds)[2] for c in path]
    # Beside it: two thresholds alone (small → large), on a fine grid, as a lower bound on what a path must reach.
    pair = Thresholds((-np.inf, np.inf), (0.0, np.inf), (-np.inf,) * 3)
    for at in np.quantile(whole.p_ok[:, 0], np.linspace(0.1, 0.9, 9)):
        risk, _, cost = truth(whole, Thresholds(pair.route_at, (float(at), np.inf), pair.abstain_below))
        assert min(c for r, c in zip(risks, costs, strict=True) if r <= risk + 0.01) <= cost + 0.05
