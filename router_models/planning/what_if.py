"""Compute what would change a plan's answer: prices, escalations, slices, signals, a better verifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router_models.metrics import Interval, auc_weighted, bootstrap
from router_models.planning.patterns import Extra, Operated, Outcomes, Pattern, RiskBudget, play_out, provisional
from router_models.planning.traffic_mix import with_verifier
from router_models.planning.workload import Workload
from router_models.risk_control.sequence import upper_bound
from router_models.types import BoolArray

MIN_IN_SLICE = 20


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Hold one change, and the saving against always-frontier that remains when nothing else changes."""

    change: str
    saving: float


@dataclass(frozen=True, slots=True)
class SignalFigure:
    """Hold how well one score separates right cheap answers from wrong ones; `flipped`: low values mean right.

    `needs`: what it would need to be had when serving, in a sentence; None where a served version has it.
    """

    name: str
    auc: Interval
    flipped: bool
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class SliceFigure:
    """Hold one slice of the evidence under the plan's pattern.

    Parameters
    ----------
    column, value : str
        The slice.
    n : int
        Its prompts.
    cheap_right, frontier_right : float
        The tiers' mean grades.
    kept, wrong : int
        Answers kept on the cheap tier, and those among them that count against the budget.
    kept_risk_upper : float, optional
        A 95 % upper bound of the risk of what is kept; None where nothing is kept.
    over : bool
        Whether more of the kept are wrong than ε allows, beyond chance.
    """

    column: str
    value: str
    n: int
    cheap_right: float
    frontier_right: float
    kept: int
    wrong: int
    kept_risk_upper: float | None
    over: bool


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Hold a cascade's break-even: it pays while the escalated share `p` of what it tries stays below `p_star`."""

    p_star: float
    p: float
    cheap_usd: float
    frontier_usd: float

    @property
    def pays(self) -> bool:
        """Return whether trying the cheap tier pays."""
        return self.p < self.p_star


def break_even(work: Workload, operated: Operated, replayed: Outcomes, extra: Extra) -> BreakEven:
    """Return p* = 1 - (cheap calls + router + verifier) / frontier, and p, both over the prompts tried."""
    seen = work.seen.take(~work.choosing)
    on = replayed.tried if replayed.tried.any() else np.ones(len(seen), dtype=np.bool_)
    pattern = operated.pattern
    overhead = (extra.router_usd if pattern.before is not None else 0.0) + (
        extra.verifier_usd if pattern.after is not None else 0.0
    )
    cheap = pattern.calls * float(seen.cost_usd[:, 0][on].mean()) + overhead
    frontier = float(seen.cost_usd[:, -1][on].mean())
    return BreakEven(1 - cheap / frontier, float((~replayed.kept[on]).mean()), cheap, frontier)


def price_changes(work: Workload, operated: Operated, replayed: Outcomes, extra: Extra) -> tuple[WhatIf, ...]:
    """Re-cost the same decisions under other prices and escalation shares, and find where the saving ends."""
    seen = work.seen.take(~work.choosing)
    top = float(seen.cost_usd[:, -1].mean())
    sent = float(np.where(replayed.kept, 0.0, seen.cost_usd[:, -1]).mean())
    tried = operated.pattern.calls * float(np.where(replayed.tried, seen.cost_usd[:, 0], 0.0).mean())
    fixed = float(replayed.usd.mean()) - sent - tried

    def saving(frontier: float = 1.0, cheap: float = 1.0, more: float = 0.0) -> float:
        return 1 - (fixed + cheap * tried + frontier * (sent + more * top)) / (frontier * top)

    rows = [
        WhatIf(f"{work.frontier} costs half", saving(frontier=0.5)),
        WhatIf(f"{work.frontier} costs a quarter", saving(frontier=0.25)),
        WhatIf(f"{work.frontier} costs twice as much", saving(frontier=2.0)),
        WhatIf(f"{work.cheap} costs twice as much (or answers at twice the length)", saving(cheap=2.0)),
        WhatIf(f"{work.cheap} costs five times as much", saving(cheap=5.0)),
        WhatIf("10 points more of the traffic must go to the frontier", saving(more=0.10)),
        WhatIf("20 points more of the traffic must go to the frontier", saving(more=0.20)),
    ]
    if top > sent:
        factor = (fixed + tried) / (top - sent)
        if 0 < factor < 1:
            rows.append(WhatIf(f"break-even: {work.frontier}'s price falls to {factor:.1%} of today's", 0.0))
    if tried > 0 and top - sent - fixed > 0:
        rows.append(WhatIf(f"break-even: {work.cheap} costs {(top - sent - fixed) / tried:.1f} times as much", 0.0))
    return tuple(rows)


def signal_figures(work: Workload, seed: int, most: int = 12) -> tuple[SignalFigure, ...]:
    """Return the AUC of every score for "the cheap answer is right", best first, over the rows that have it."""
    right = work.seen.grades[:, 0]
    found = []
    for name, scores in {**work.signals, "prompt length (short first)": -work.seen.prompt_lengths}.items():
        rows = np.isfinite(scores)
        if rows.sum() < MIN_IN_SLICE or right[rows].min() == right[rows].max():
            continue
        value = bootstrap(
            auc_weighted(scores[rows], right[rows]), int(rows.sum()), seed=seed, groups=work.group_of[rows]
        )
        flipped = value.value < 0.5
        if flipped:
            value = Interval(1 - value.value, 1 - value.high, 1 - value.low, value.level)
        found.append(SignalFigure(name, value, flipped, work.not_served.get(name)))
    return tuple(sorted(found, key=lambda f: -f.auc.value)[:most])


def slice_figures(work: Workload, replayed: Outcomes, budget: RiskBudget) -> tuple[SliceFigure, ...]:
    """Return the plan's pattern slice by slice, on the evidence rows, the most suspicious first.

    Slices of fewer than MIN_IN_SLICE prompts are left out.
    """
    evidence = np.flatnonzero(~work.choosing)
    seen, counted = work.seen.take(~work.choosing), work.counted[~work.choosing]
    epsilon, against = budget.epsilon, budget.counts_against(seen)
    found = []
    for column, values in work.slices.items():
        here = np.array([values[i] for i in evidence])
        for value in sorted(set(here.tolist())):
            rows = here == value
            if rows.sum() < MIN_IN_SLICE:
                continue
            kept = replayed.kept & rows & counted
            n, k = int(kept.sum()), int(against[kept].sum())
            found.append(
                SliceFigure(
                    column,
                    value,
                    int(rows.sum()),
                    float(seen.grades[:, 0][rows].mean()),
                    float(seen.grades[:, -1][rows].mean()),
                    n,
                    k,
                    upper_bound(k, n, 0.05) if n else None,
                    _surely_over(k, n, epsilon),
                )
            )
    return tuple(sorted(found, key=lambda s: _chance_of(s.wrong, s.kept, epsilon)))


def imagined_verifiers(
    work: Workload, budget: RiskBudget, extra: Extra, seed: int, aucs: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9)
) -> tuple[tuple[float, float, float], ...]:
    """Return (AUC, share kept, saving) of a cascade with verifiers of given AUC, at three quarters of ε."""
    found = []
    for auc in aucs:
        other = with_verifier(work, auc, seed)
        scores, wrong = other.seen.p_ok[:, 0], budget.counts_against(other.seen)
        at = provisional(scores[work.choosing], wrong[work.choosing], 0.75 * budget.epsilon)
        rows: BoolArray = ~work.choosing
        replayed = play_out(other, Operated(Pattern("imagined", "", after=scores), None, at, False, ""), rows, extra)
        saving = 1 - float(replayed.usd.mean()) / float(work.seen.cost_usd[:, -1][rows].mean())
        found.append((auc, float(replayed.kept.mean()), saving))
    return tuple(found)


def _surely_over(errors: int, n: int, epsilon: float) -> bool:
    """Return whether so many errors would be rare (5 %) if the slice kept the budget."""
    return n >= MIN_IN_SLICE and _chance_of(errors, n, epsilon) <= 0.05


def _chance_of(errors: int, n: int, epsilon: float) -> float:
    """Return P(at least so many errors among n | risk ε): 1 where nothing was kept or nothing was wrong."""
    from scipy.special import bdtrc

    return float(bdtrc(float(errors - 1), n, epsilon)) if errors else 1.0
