"""Tests of what paired requests cost by each version.

With a stated bound B of what a request can cost: "the candidate's mean cost is `cost_ceiling` times the stable
version's", at least (promotes where it is contradicted) and at most (rolls back). A stable version's cost beyond B is
counted as B for promotion, which is to the candidate's disadvantage; a candidate's beyond B could only be counted to
its advantage, so it blocks promotion instead. For rolling back it is the other way round, and a stable version's
beyond B means that nothing is proved.

Without a bound no test of a mean holds. Then the relative difference r = (candidate - stable) / (candidate + stable)
of each request, which lies in [-1, 1] whatever they cost, must on average be below that of a request at the ceiling.
Large bills count no more in it than small ones: it can keep a candidate from being promoted, and rolls none back.
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
    for usd in (stable, candidate):
        if not np.isfinite(usd).all() or (usd < 0).any():
            raise DataError("costs of paired requests must be 0 or more, without NaN")
    if limits.cost_bound_usd is None:
        return [_relative(stable, candidate, limits)]
    return _bounded(stable, candidate, limits, limits.cost_bound_usd)


def _relative(stable: FloatArray, candidate: FloatArray, limits: CanaryLimits) -> CanaryFinding:
    both = stable + candidate
    saved = (stable - candidate) / np.where(both > 0, both, 1.0)
    wealth = log_wealth(saved, (limits.cost_ceiling - 1) / (limits.cost_ceiling + 1))
    return CanaryFinding.of_wealth("relative_cost", OVERALL, wealth, limits.alpha, "promote", saved)


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
