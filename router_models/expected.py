"""What a policy is expected to cost and yield: figures of its prompts with 95 % paired bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_models.calibration.sequence import upper_bound
from router_models.metrics import Interval, bootstrap
from router_models.patterns import Extra, Operated, Outcomes, play_out
from router_models.types import FloatArray
from router_models.workload import Workload, rows_of

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Expected:
    """Figures per request; shares of all prompts. Intervals are 95 % bootstrap over prompts, draws shared by all.

    `saving` = 1 - cost / always-frontier's cost. `drop` = always-frontier's share right less this one's.
    `kept_risk_upper` bounds P(wrong | kept) at 95 % (one-sided Clopper-Pearson). Latencies None = not known.
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


def expected(work: Workload, operated: Operated, extra: Extra, seed: int) -> Expected:
    """A pattern's figures on the workload's evidence rows."""
    played = play_out(work, operated, ~work.choosing, extra)
    return figures(work, operated.pattern.name, operated.pattern.what, played, seed)


def references(work: Workload, share: float, seed: int) -> tuple[Expected, ...]:
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
    return tuple(figures(work, name, what, _mixed(work, part), seed) for name, what, part in mixes)


def figures(work: Workload, name: str, what: str, played: Outcomes, seed: int) -> Expected:
    """Means and intervals of what became of the evidence rows."""
    seen = rows_of(work.seen, ~work.choosing)
    n = len(seen)
    top, right, best = seen.frontier_usd, played.right, seen.frontier_right

    def over(each: FloatArray) -> Interval:
        return bootstrap(lambda w: w @ each / w.sum(axis=1), n, draws=DRAWS, seed=seed)

    kept = int(played.kept.sum())
    wrong = round(float((1 - seen.cheap_right)[played.kept].sum()))
    p50, p95 = (None, None) if played.seconds is None else map(float, np.quantile(played.seconds, [0.5, 0.95]))
    return Expected(
        name=name,
        what=what,
        tried=float(played.tried.mean()),
        kept=float(played.kept.mean()),
        usd_per_1000=over(1000 * played.usd),
        saving=bootstrap(lambda w: 1 - (w @ played.usd) / (w @ top), n, draws=DRAWS, seed=seed),
        right=over(right),
        drop=over(best - right),
        kept_risk=wrong / kept if kept else None,
        kept_risk_upper=upper_bound(wrong, kept, 0.05) if kept else None,
        p50_s=p50,
        p95_s=p95,
    )


def cost_difference(a: Outcomes, b: Outcomes, seed: int) -> Interval:
    """Paired difference in dollars per 1,000 requests, a less b."""
    each = 1000 * (a.usd - b.usd)
    return bootstrap(lambda w: w @ each / w.sum(axis=1), len(each), draws=DRAWS, seed=seed)


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
