"""Tests of what paired requests cost by each version: "the candidate's mean cost is `cost_ceiling` times the stable
version's", at least (promotes where it is contradicted) and at most (rolls back).

With a stated bound B of what a request can cost this is tested in money. A stable version's cost beyond B is counted
as B for promotion, which is to the candidate's disadvantage; a candidate's beyond B could only be counted to its
advantage, so it blocks promotion instead. For rolling back it is the other way round, and a stable version's beyond B
means that nothing is proved.

Without a bound no test of a mean of money holds: one bill in ten thousand may outweigh the rest. But both versions
answer the same request, and what they differ by is the tiers that they ask. Each request's costs are therefore taken
as shares of the dearest that is known of it, M = max(the last tier's answer, stable, candidate), and
(ceiling·stable - candidate) / M, which lies in [-1, ceiling], is what is tested. Every request counts alike in it,
whatever its length; cheap tiers count by their price, so that a cent more in a thousand is a cent more in a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_models.errors import DataError
from router_models.monitoring.canary.findings import CanaryFinding
from router_models.monitoring.canary.observations import PairedRequest
from router_models.monitoring.canary_limits import CanaryLimits
from router_models.monitoring.promise_watch import OVERALL
from router_models.risk_control.paired import log_wealth
from router_models.types import FloatArray


def cost_findings(pairs: Sequence[PairedRequest], limits: CanaryLimits) -> list[CanaryFinding]:
    """The tests of cost, in order of arrival; DataError for costs below 0 or without end."""
    stable = np.array([p.stable_usd for p in pairs], dtype=np.float64)
    alike = np.array([p.alike for p in pairs], dtype=np.bool_)
    candidate = np.where(alike, stable, np.array([p.candidate_usd for p in pairs], dtype=np.float64))
    for usd in (stable, candidate, [p.last_usd or 0.0 for p in pairs]):
        if not np.isfinite(usd).all() or (np.asarray(usd) < 0).any():
            raise DataError("costs of paired requests must be 0 or more, without NaN")
    if limits.cost_bound_usd is None:
        return _relative(pairs, stable, candidate, limits)
    return _bounded(stable, candidate, limits, limits.cost_bound_usd)


def _relative(
    pairs: Sequence[PairedRequest], stable: FloatArray, candidate: FloatArray, limits: CanaryLimits
) -> list[CanaryFinding]:
    last = np.array([p.last_usd or 0.0 for p in pairs], dtype=np.float64)
    most, ceiling = np.maximum(np.maximum(stable, candidate), last), limits.cost_ceiling
    left = (ceiling * stable - candidate) / np.where(most > 0, most, 1.0)
    left = np.where(most > 0, left, ceiling - 1)  # what is free by both versions costs the same
    wealth, against = (log_wealth(sign * left / max(ceiling, 1.0), 0.0) for sign in (1, -1))
    return [
        CanaryFinding.of_wealth("relative_cost", OVERALL, wealth, limits.alpha, "promote", left),
        CanaryFinding.of_wealth("relative_cost_worse", OVERALL, against, limits.alpha_rollback, "roll_back", left),
    ]


def _bounded(stable: FloatArray, candidate: FloatArray, limits: CanaryLimits, bound: float) -> list[CanaryFinding]:
    most, overruns = bound * max(limits.cost_ceiling, 1.0), int((candidate > bound).sum())
    usd = limits.cost_ceiling * np.minimum(stable, bound) - np.minimum(candidate, bound)
    wealth, against = log_wealth(usd / most, 0.0), log_wealth(-usd / most, 0.0)
    dearer = CanaryFinding.of_wealth("cost_worse", OVERALL, against, limits.alpha_rollback, "roll_back", usd)
    if (stable > bound).any():
        dearer = CanaryFinding("cost_worse", OVERALL, 1.0, dearer.limit, False, len(stable), "roll_back")
    return [
        CanaryFinding.of_wealth("cost", OVERALL, wealth, limits.alpha, "promote", usd),
        dearer,
        CanaryFinding("cost_overrun", OVERALL, float(overruns), 1.0, overruns > 0, len(stable), "block"),
    ]
