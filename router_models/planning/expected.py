"""Estimate what a policy costs and yields: figures over its prompts with 95 % paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_models.data.groups import one_of_each
from router_models.metrics import Interval, bootstrap_values, interval_of
from router_models.planning.patterns import Outcomes, RiskBudget
from router_models.planning.workload import Workload
from router_models.risk_control.sequence import upper_bound
from router_models.types import BoolArray, FloatArray

PLAN_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Expected:
    """Hold one policy's figures.

    Intervals are 95 % bootstrap over prompts, draws shared by all policies; shares are of all prompts.

    Parameters
    ----------
    name : str
        The policy.
    what : str
        What it does, in words.
    tried, kept : float
        The shares tried and kept on the cheap tier.
    usd_per_1000 : Interval
        US dollars per 1,000 requests.
    saving : Interval
        1 - cost / always-frontier's cost.
    right : Interval
        The share of right answers.
    drop : Interval
        Always-frontier's share right less this one's.
    kept_risk, kept_risk_upper : float, optional
        The risk of what is kept (`RiskBudget.what`), and its 95 % upper bound (one-sided Clopper-Pearson); None where
        nothing is kept.
    p50_s, p95_s : float, optional
        Latency in seconds; None = not known.
    usd_draws, right_draws : array of float, (draws,)
        Resampled dollars per 1,000 requests and shares right, for paired comparisons.
    """

    name: str
    what: str
    tried: float
    kept: float
    usd_per_1000: Interval
    saving: Interval
    right: Interval
    drop: Interval
    kept_risk: float | None
    kept_risk_upper: float | None
    p50_s: float | None
    p95_s: float | None
    usd_draws: FloatArray
    right_draws: FloatArray


def expected(
    work: Workload, policies: Sequence[tuple[str, str, Outcomes]], seed: int, budget: RiskBudget
) -> tuple[Expected, ...]:
    """Compute the figures of several policies on the same resamples.

    Parameters
    ----------
    work : Workload
        The workload.
    policies : sequence of tuple
        (name, what it does, its outcomes on the evidence rows).
    seed : int
        Seeds the resamples.
    budget : RiskBudget
        Which wrong answers count in the risk of what is kept.

    Returns
    -------
    tuple of Expected
        One per policy.
    """
    seen = work.seen.take(~work.choosing)
    columns = [seen.cost_usd[:, -1], seen.grades[:, -1]]
    for _, _, replayed in policies:
        columns += [replayed.usd, replayed.right]
    each = np.column_stack(columns)

    def means(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ each / weights.sum(axis=1, keepdims=True), dtype=np.float64)

    groups = work.group_of[~work.choosing]
    drawn = bootstrap_values(means, len(seen), draws=PLAN_DRAWS, seed=seed, groups=groups)
    mean = each.mean(axis=0)
    evidence = budget.counts_against(seen), one_of_each(groups)
    return tuple(
        _figures(name, what, replayed, evidence, mean[[0, 1, k, k + 1]], drawn[:, [0, 1, k, k + 1]])
        for k, (name, what, replayed) in zip(range(2, len(columns), 2), policies, strict=True)
    )


def reference_policies(work: Workload, share: float) -> list[tuple[str, str, Outcomes]]:
    """Return the policies to compare with: always-cheap, always-frontier, random, shortest prompts, and the oracle.

    Random and shortest prompts use the given share of the cheap tier.
    """
    seen = work.seen.take(~work.choosing)
    n = len(seen)
    short = np.zeros(n)
    short[np.argsort(seen.prompt_lengths, kind="stable")[: round(share * n)]] = 1.0
    mixes = (
        (f"always {work.cheap}", "no routing", np.ones(n)),
        (f"always {work.frontier}", "no routing", np.zeros(n)),
        ("random", f"{share:.0%} of requests to {work.cheap} by chance", np.full(n, share)),
        ("prompt length", f"the shortest {share:.0%} to {work.cheap}", short),
        ("oracle", f"{work.cheap} exactly where it is right", seen.grades[:, 0]),
    )
    return [(name, what, _mixed(work, part)) for name, what, part in mixes]


def cost_difference(a: Expected, b: Expected) -> Interval:
    """Return the paired difference in dollars per 1,000 requests, a less b."""
    return interval_of(a.usd_per_1000.value - b.usd_per_1000.value, a.usd_draws - b.usd_draws)


def right_difference(a: Expected, b: Expected) -> Interval:
    """Return the paired difference in the share right, a less b."""
    return interval_of(a.right.value - b.right.value, a.right_draws - b.right_draws)


def _figures(
    name: str,
    what: str,
    replayed: Outcomes,
    evidence: tuple[FloatArray, BoolArray],
    mean: FloatArray,
    drawn: FloatArray,
) -> Expected:
    """Return one policy's figures from (resampled) means of (frontier dollars, frontier right, dollars, right).

    The risk of what is kept is counted on one row of each group: `evidence`: of all rows, whose answers are
    against the budget, and which rows count.
    """
    against, counted = evidence
    rows = replayed.kept & counted
    kept = int(rows.sum())
    wrong = round(float(against[rows].sum()))
    p50, p95 = (None, None) if replayed.seconds is None else map(float, np.quantile(replayed.seconds, [0.5, 0.95]))
    top, best, usd, right = drawn.T
    return Expected(
        name=name,
        what=what,
        tried=float(replayed.tried.mean()),
        kept=float(replayed.kept.mean()),
        usd_per_1000=interval_of(1000 * float(mean[2]), 1000 * usd),
        saving=interval_of(1 - float(mean[2] / mean[0]), 1 - usd / top),
        right=interval_of(float(mean[3]), right),
        drop=interval_of(float(mean[1] - mean[3]), best - right),
        kept_risk=wrong / kept if kept else None,
        kept_risk_upper=upper_bound(wrong, kept, 0.05) if kept else None,
        p50_s=p50,
        p95_s=p95,
        usd_draws=1000 * usd,
        right_draws=right,
    )


def _mixed(work: Workload, part: FloatArray) -> Outcomes:
    """Return outcomes where the cheap tier answers this part of each evidence prompt; nothing is tried twice."""
    rows = ~work.choosing
    seen = work.seen.take(rows)
    seconds = None
    if work.cheap_s is not None and work.frontier_s is not None and np.isin(part, (0.0, 1.0)).all():
        seconds = np.where(part > 0, work.cheap_s[rows], work.frontier_s[rows])
    mask = part >= 1.0
    usd = part * seen.cost_usd[:, 0] + (1 - part) * seen.cost_usd[:, -1]
    return Outcomes(mask, mask, usd, part * seen.grades[:, 0] + (1 - part) * seen.grades[:, -1], seconds)
