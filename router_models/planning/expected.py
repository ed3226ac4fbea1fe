"""What a policy is expected to cost and yield: figures of its prompts with 95 % paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_models.metrics import Interval, bootstrap_values, interval_of
from router_models.planning.patterns import Outcomes
from router_models.planning.workload import Workload, rows_of
from router_models.risk_control.sequence import upper_bound
from router_models.training.evidence import Evidence
from router_models.types import FloatArray

PLAN_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Expected:
    """Figures per request; shares of all prompts. Intervals are 95 % bootstrap over prompts, draws shared by all.

    `saving` = 1 - cost / always-frontier's cost. `drop` = always-frontier's share right less this one's.
    `kept_risk_upper` bounds P(wrong | kept) at 95 % (one-sided Clopper-Pearson). Latencies None = not known.
    `usd_draws`, `right_draws`: resampled dollars per 1,000 requests and shares right, for paired comparisons.
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


def expected(work: Workload, policies: Sequence[tuple[str, str, Outcomes]], seed: int) -> tuple[Expected, ...]:
    """Figures of several policies, (name, what it does, what became of the evidence rows), on the same resamples."""
    seen = rows_of(work.seen, ~work.choosing)
    columns = [seen.frontier_usd, seen.frontier_right]
    for _, _, played in policies:
        columns += [played.usd, played.right]
    each = np.column_stack(columns)

    def means(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ each / weights.sum(axis=1, keepdims=True), dtype=np.float64)

    drawn = bootstrap_values(means, len(seen), draws=PLAN_DRAWS, seed=seed)
    mean = each.mean(axis=0)
    return tuple(
        _figures(name, what, played, seen, mean[[0, 1, k, k + 1]], drawn[:, [0, 1, k, k + 1]])
        for k, (name, what, played) in zip(range(2, len(columns), 2), policies, strict=True)
    )


def reference_policies(work: Workload, share: float) -> list[tuple[str, str, Outcomes]]:
    """Always-cheap, always-frontier, and at the same cheap share random and the shortest prompts; and the oracle."""
    seen = rows_of(work.seen, ~work.choosing)
    n = len(seen)
    short = np.zeros(n)
    short[np.argsort(seen.lengths, kind="stable")[: round(share * n)]] = 1.0
    mixes = (
        (f"always {work.cheap}", "no routing", np.ones(n)),
        (f"always {work.frontier}", "no routing", np.zeros(n)),
        ("random", f"{share:.0%} of requests to {work.cheap} by chance", np.full(n, share)),
        ("prompt length", f"the shortest {share:.0%} to {work.cheap}", short),
        ("oracle", f"{work.cheap} exactly where it is right", seen.cheap_right),
    )
    return [(name, what, _mixed(work, part)) for name, what, part in mixes]


def cost_difference(a: Expected, b: Expected) -> Interval:
    """Paired difference in dollars per 1,000 requests, a less b."""
    return interval_of(a.usd_per_1000.value - b.usd_per_1000.value, a.usd_draws - b.usd_draws)


def right_difference(a: Expected, b: Expected) -> Interval:
    """Paired difference in the share right, a less b."""
    return interval_of(a.right.value - b.right.value, a.right_draws - b.right_draws)


def _figures(name: str, what: str, played: Outcomes, seen: Evidence, mean: FloatArray, drawn: FloatArray) -> Expected:
    """One policy's figures from means and resampled means of (frontier dollars, frontier right, dollars, right)."""
    kept = int(played.kept.sum())
    wrong = round(float((1 - seen.cheap_right)[played.kept].sum()))
    p50, p95 = (None, None) if played.seconds is None else map(float, np.quantile(played.seconds, [0.5, 0.95]))
    top, best, usd, right = drawn.T
    return Expected(
        name=name,
        what=what,
        tried=float(played.tried.mean()),
        kept=float(played.kept.mean()),
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
    """Outcomes where the cheap tier answers this part of each evidence prompt; nothing is tried twice."""
    rows = ~work.choosing
    seen = rows_of(work.seen, rows)
    seconds = None
    if work.cheap_s is not None and work.frontier_s is not None and np.isin(part, (0.0, 1.0)).all():
        seconds = np.where(part > 0, work.cheap_s[rows], work.frontier_s[rows])
    mask = part >= 1.0
    usd = part * seen.cheap_usd + (1 - part) * seen.frontier_usd
    return Outcomes(mask, mask, usd, part * seen.cheap_right + (1 - part) * seen.frontier_right, seconds)
