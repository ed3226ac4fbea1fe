"""Turn figures into an answer: which pattern to run, or why not to route at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_models.errors import DataError
from router_models.planning.expected import Expected, cost_difference
from router_models.planning.patterns import Operated, RiskBudget
from router_models.planning.what_if import BreakEven
from router_models.planning.workload import Workload
from router_models.reports.markdown import dollars
from router_models.risk_control.sequence import feasible_share

NEARLY_ALL = 0.99
MIN_VOLUME = 10_000
"""Requests a day under which routing is not worth running, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Hold the traffic, and what labels cost.

    Parameters
    ----------
    per_day : float
        Requests a day.
    least_per_day : float
        Below this many, routing is not recommended.
    usd_per_label : float, optional
        The price of a label.
    payback_days : float
        Labels that are not earned back within this time are not recommended.

    Raises
    ------
    DataError
        For values that are negative or not finite.
    """

    per_day: float
    least_per_day: float = MIN_VOLUME
    usd_per_label: float | None = None
    payback_days: float = 365.0

    def __post_init__(self) -> None:
        for name in ("per_day", "least_per_day", "usd_per_label", "payback_days"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise DataError(f"{name} must be a finite number ≥ 0, found {value}")


@dataclass(frozen=True, slots=True)
class Option:
    """Hold one pattern with its evidence.

    Parameters
    ----------
    operated : Operated
        The thresholds and what is certified.
    figures : Expected
        Cost and quality.
    even : BreakEven
        Whether trying the cheap tier pays.
    keeps_drop : bool
        Whether it keeps the allowed drop.
    allowed : bool
        Whether it is certified, or everything is assumed and nothing could be.
    """

    operated: Operated
    figures: Expected
    even: BreakEven
    keeps_drop: bool
    allowed: bool

    @property
    def name(self) -> str:
        """Return the pattern's name."""
        return self.operated.pattern.name

    @property
    def eligible(self) -> bool:
        """Return whether it may be recommended: allowed, keeps something, saves beyond chance, drop within budget."""
        return self.allowed and self.figures.kept > 0 and self.figures.saving.low > 0 and self.keeps_drop


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold the recommendation.

    Parameters
    ----------
    headline : str
        In one sentence.
    reasons : tuple of str
        Why.
    pattern : str, optional
        The option to run; None = do not route.
    serve : str, optional
        The tier to serve alone then.
    """

    headline: str
    reasons: tuple[str, ...]
    pattern: str | None
    serve: str | None


def best_option(options: Sequence[Option]) -> int:
    """Return the index of the eligible option that saves most; a simpler one no dearer beyond chance is preferred.

    Where none is eligible: the same choice among all that can be served, so that the page shows what is missing.
    """
    served = [i for i, o in enumerate(options) if not o.operated.pattern.needs] or list(range(len(options)))
    order = [i for i in served if options[i].eligible] or served
    best = max(order, key=lambda i: options[i].figures.saving.value)
    for i in order:
        if i == best or cost_difference(options[i].figures, options[best].figures).low <= 0:
            return i
    return best


def recommend(
    work: Workload,
    budget: RiskBudget,
    demand: Demand,
    options: Sequence[Option],
    best: Option,
    beside: Sequence[Expected],
    labels_usd: float | None,
) -> Answer:
    """Return the answer, with its reasons.

    Parameters
    ----------
    work : Workload
        The workload.
    budget : RiskBudget
        The quality to keep.
    demand : Demand
        The traffic.
    options : sequence of Option
        The patterns.
    best : Option
        What `best_option` selects.
    beside : sequence of Expected
        The policies to compare with; always-cheap and always-frontier first.
    labels_usd : float, optional
        What the labels cost; None where the price of a label is not known.

    Returns
    -------
    Answer
    """
    cheap_alone, frontier_alone = beside[0], beside[1]
    cheap, frontier = work.cheap, work.frontier
    drop = cheap_alone.drop
    if drop.high < 0:
        both = f"{frontier_alone.right.value:.1%} right, {cheap} {cheap_alone.right.value:.1%}"
        why = f"{frontier} is dearer and worse: {both} (beyond chance)"
        return Answer(f"Do not route: serve {cheap} alone.", (why,), None, cheap)
    if drop.low <= 0:
        why = (
            f"no measurable gap: {frontier} is right {drop.value:+.1%} more often than {cheap} (95 % interval "
            f"{drop.low:+.1%} to {drop.high:+.1%}); there is nothing for a router to win back"
        )
        return Answer(f"Do not route: serve {cheap} alone, unless more labels show a gap.", (why,), None, cheap)
    if not best.eligible:
        reasons = _obstacles(work, budget, options)
        return Answer(f"Do not route: serve {frontier} alone for now.", reasons, None, frontier)
    figures = best.figures
    if figures.kept > NEARLY_ALL:
        why = f"{cheap} keeps the error budget on all traffic: {best.operated.why}"
        return Answer(f"Do not route: serve {cheap} alone.", (why,), None, cheap)
    month = 30 * demand.per_day * (frontier_alone.usd_per_1000.value - figures.usd_per_1000.value) / 1000
    money = f"{figures.saving.value:.0%} of always-{frontier}'s cost, {dollars(month)} a month at this volume"
    if demand.per_day < demand.least_per_day:
        why = (
            f"{demand.per_day:,.0f} requests a day is under the {demand.least_per_day:,.0f} from which routing repays "
            f"its labels, watching and upkeep; the {best.name} pattern works in principle and would save {money}"
        )
        return Answer(f"Do not route yet: serve {frontier} alone.", (why,), None, frontier)
    if labels_usd is not None and labels_usd > month / 30 * demand.payback_days:
        why = (
            f"the labels it needs cost {dollars(labels_usd)} and are not earned back in {demand.payback_days:,.0f} "
            f"days; the {best.name} pattern works in principle and would save {money}"
        )
        return Answer(f"Do not route yet: serve {frontier} alone.", (why,), None, frontier)
    ground = "" if work.labelled else ", if the assumed figures hold"
    what = f"{figures.kept:.0%} of the traffic is answered by {cheap}, which saves {money}"
    promise = (
        f"at most {budget.epsilon:.1%} of the {cheap} answers kept are {budget.words(frontier)}, with "
        f"{1 - budget.delta:.0%} confidence: "
        if best.operated.certified
        else ""
    )
    return Answer(f"Route: {best.name}{ground}.", (what, promise + best.operated.why), best.name, None)


def _obstacles(work: Workload, budget: RiskBudget, options: Sequence[Option]) -> tuple[str, ...]:
    """Return what prevents routing: one general reason where there is one, else one for each pattern."""
    seen = work.seen
    base = float(budget.counts_against(seen).mean())
    most = feasible_share(base, budget.epsilon)
    if most <= float(seen.cost_usd[:, 0].mean() / seen.cost_usd[:, -1].mean()):
        return (
            f"uniformly hard traffic: {work.cheap} is {budget.words(work.frontier)} {base:.0%} of the time, so even a "
            f"perfect verifier could keep no more than {most:.0%} at ε = {budget.epsilon:g}, less than the tries cost",
        )
    return tuple(f"{option.name}: {obstacle(option)}" for option in options)


def obstacle(option: Option) -> str:
    """Return why an option that is not eligible is not."""
    figures, even = option.figures, option.even
    if option.operated.pattern.needs:
        return option.operated.pattern.needs
    if not option.allowed:
        return f"nothing can be promised: {option.operated.why}"
    if figures.kept == 0:
        return "no request could be kept on the cheap tier within the error budget"
    if figures.saving.low <= 0:
        return (
            f"it does not pay: {even.p:.0%} of what is tried must be escalated, break-even is "
            f"{max(even.p_star, 0):.0%} (saving {figures.saving.low:.0%} to {figures.saving.high:.0%})"
        )
    return (
        f"the drop allowed cannot be proved: the share right falls by {100 * figures.drop.value:.1f} points "
        f"({100 * figures.drop.low:.1f} to {100 * figures.drop.high:.1f})"
    )
