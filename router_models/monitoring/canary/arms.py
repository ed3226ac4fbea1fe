"""Tests of two arms: units that one version served each. Errors, slow answers, and whether the split is as assigned.

A unit is assigned by chance: to the candidate with probability w, which is known. With A = 1 there and x = 1 where
the unit failed (or was slow), Z = A·x/w - (1-A)·x/(1-w) has the mean P(x | candidate) - P(x | stable), whatever the
hour, the traffic and w, which may change from unit to unit (inverse propensity weighting). Z ≥ -1/(1-w), so that
K_t = mean_j Π(1 + λ_j(Z_i - m)) with λ_j = g_j/(1/(1-w) + m) stays above 0, and where the candidate's rate is never
higher by more than m, P(K ever reaches 1/α_r) ≤ α_r (Ville). Two rates that are compared as totals would not do: at a
higher weight in a bad hour, an equal candidate looks worse.

The split itself (Lindon and Malek 2020, arXiv 2011.03567): the arm of the next unit is predicted from those before at
the same weight, as a Dirichlet mixture does, (k·w + candidates)/(k + units) for several k, and this is set against w.
Where units are assigned and recorded as they should be, P(the product over all units ever reaches 1/α_r) ≤ α_r.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from router_models.errors import DataError
from router_models.monitoring.canary.findings import CanaryFinding
from router_models.monitoring.canary.observations import ArmOutcome
from router_models.monitoring.canary_limits import CanaryLimits
from router_models.monitoring.promise_watch import OVERALL
from router_models.risk_control.paired import BETS
from router_models.types import BoolArray, FloatArray

CONCENTRATIONS = (2.0, 100.0, 1000.0, 10_000.0)
"""How close to w the mixtures expect the split to be, in units: together they find a gross error at once, a small one
sooner."""


def arm_findings(outcomes: Sequence[ArmOutcome], limits: CanaryLimits) -> list[CanaryFinding]:
    """Every test of the arms, units in their order of arrival; DataError for values that cannot be observed."""
    weight = np.array([unit.weight for unit in outcomes], dtype=np.float64)
    latency = np.array([unit.latency_s for unit in outcomes], dtype=np.float64)
    if not ((weight >= 0) & (weight <= 1)).all() or not (latency >= 0).all():
        raise DataError("weights must lie in [0, 1] and latencies be 0 or more, without NaN")
    if not {unit.arm for unit in outcomes} <= {"stable", "candidate"}:
        raise DataError("an arm is `stable` or `candidate`")
    candidate = np.array([unit.arm == "candidate" for unit in outcomes], dtype=np.bool_)
    failed = np.array([unit.failed for unit in outcomes], dtype=np.bool_)
    split = log_split_wealth(candidate, weight)
    off = (candidate - weight).astype(np.float64)
    alpha = limits.alpha_rollback
    found = [CanaryFinding.of_wealth("sample_ratio", OVERALL, split, alpha, "roll_back", off)]
    marks = [("errors_worse", failed, limits.error_margin)]
    if limits.latency_limit_s is not None:
        marks.append(("latency_worse", failed | (latency > limits.latency_limit_s), limits.latency_margin))
    chance = (weight > 0) & (weight < 1)  # where one arm was certain, nothing is compared
    arms, propensity = candidate[chance], weight[chance]
    for name, mark, margin in marks:
        z = weighted_difference(arms, propensity, mark[chance])
        wealth = log_arm_wealth(z, propensity, margin)
        found.append(CanaryFinding.of_wealth(name, OVERALL, wealth, alpha, "roll_back", -z))
    return found


def weighted_difference(candidate: BoolArray, weight: FloatArray, mark: BoolArray) -> FloatArray:
    """Z of each unit, (n,): its mean is the candidate's rate less the stable version's. 0 < w < 1."""
    return np.asarray(np.where(candidate, 1 / weight, -1 / (1 - weight)) * mark, dtype=np.float64)


def log_arm_wealth(z: FloatArray, weight: FloatArray, margin: float) -> FloatArray:
    """ln K_t against "the candidate's rate is higher by `margin` at most", after each unit in order of arrival."""
    bets = np.array(BETS) / (1 / (1 - weight) + margin)[:, None]
    paths = np.cumsum(np.log1p(bets * (z - margin)[:, None]), axis=0)
    return np.asarray(np.logaddexp.reduce(paths, axis=1) - math.log(len(BETS)), dtype=np.float64)


def log_split_wealth(candidate: BoolArray, weight: FloatArray) -> FloatArray:
    """ln of the e-process of the sample ratio after each unit; inf from a unit on whose arm could not be."""
    k = np.array(CONCENTRATIONS)[:, None]
    log_ratios = np.zeros((len(CONCENTRATIONS), len(weight)))
    for w in np.unique(weight):
        rows = weight == w
        arm = candidate[rows]
        before, candidates = np.arange(len(arm)), np.cumsum(arm) - arm
        predicted = np.where(arm, k * w + candidates, k * (1 - w) + before - candidates) / (k + before)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_ratios[:, rows] = np.log(np.where(arm, predicted / w, predicted / (1 - w)))
        if w in (0.0, 1.0):
            log_ratios[:, rows] = np.where(arm == (w == 1.0), 0.0, np.inf)
    paths = np.cumsum(log_ratios, axis=1)
    return np.asarray(np.logaddexp.reduce(paths, axis=0) - math.log(len(CONCENTRATIONS)), dtype=np.float64)
