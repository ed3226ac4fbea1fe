"""Decide whether to route between two tiers, and how, for one workload, with intervals.

The questions, in this order: is the frontier any better; does a pattern keep the error budget with certainty; does it
pay; is there enough traffic to make it worthwhile. The answer may be "do not route".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from router_models.errors import DataError
from router_models.planning.capacity import BusiestHour, PolicyLoad, policy_loads
from router_models.planning.expected import Expected, expected, reference_policies
from router_models.planning.labels import EPSILONS, LabelKinds, LabelsRow, label_kinds, label_money, labels_table
from router_models.planning.patterns import Extra, Outcomes, RiskBudget, operate, patterns_of, play_out
from router_models.planning.recommendation import MIN_VOLUME, Answer, Demand, Option, best_option, obstacle, recommend
from router_models.planning.what_if import (
    SignalFigure,
    SliceFigure,
    WhatIf,
    break_even,
    imagined_verifiers,
    price_changes,
    signal_figures,
    slice_figures,
)
from router_models.planning.workload import Workload
from router_models.risk_control.certificates.risks import check_budget
from router_models.risk_control.paired import not_worse

__all__ = ["MIN_VOLUME", "Answer", "Demand", "Extra", "Option", "Plan", "RiskBudget", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold everything that the page shows.

    Parameters
    ----------
    workload : Workload
        The prompts, their scores, grades and costs.
    budget : RiskBudget
        The quality to keep.
    demand : Demand
        The traffic, and what labels cost.
    extra : Extra
        The cost of decisions and verdicts.
    answer : Answer
        The recommendation.
    options : tuple of Option
        The patterns, simplest first.
    beside : tuple of Expected
        The policies to compare with.
    shown : str
        The option whose slices, labels and what-ifs are computed.
    what_ifs : tuple of WhatIf
        The saving under other prices and shares.
    budgets : tuple of tuple
        (ε, the answer in a few words) at other error budgets.
    labels : tuple of LabelsRow
        Labels by error budget.
    label_kinds : LabelKinds, optional
        How many labels of each kind this plan's own ε needs; None where no number would do.
    signals : tuple of SignalFigure
        The AUC of every score.
    slices : tuple of SliceFigure
        Figures by slice, the most suspicious first.
    imagined : tuple of tuple
        (AUC, kept, saving) with verifiers that do not exist yet.
    busiest : BusiestHour, optional
        The traffic that tiers must carry; None: not asked.
    loads : tuple of PolicyLoad
        What they carry then: under `shown`, and with either tier alone.
    """

    workload: Workload
    budget: RiskBudget
    demand: Demand
    extra: Extra
    answer: Answer
    options: tuple[Option, ...]
    beside: tuple[Expected, ...]
    shown: str
    what_ifs: tuple[WhatIf, ...]
    budgets: tuple[tuple[float, str], ...]
    labels: tuple[LabelsRow, ...]
    label_kinds: LabelKinds | None
    signals: tuple[SignalFigure, ...]
    slices: tuple[SliceFigure, ...]
    imagined: tuple[tuple[float, float, float], ...]
    busiest: BusiestHour | None = None
    loads: tuple[PolicyLoad, ...] = ()

    @property
    def labels_here(self) -> LabelsRow | None:
        """Return the labels for this plan's own ε."""
        return next((row for row in self.labels if row.epsilon == self.budget.epsilon), None)

    def option(self, name: str) -> Option:
        """Return an option by its pattern's name."""
        return next(o for o in self.options if o.name == name)


def plan(
    work: Workload,
    budget: RiskBudget,
    demand: Demand,
    extra: Extra,
    now: datetime,
    *,
    samples: int | None = None,
    seed: int = 0,
    busiest: BusiestHour | None = None,
) -> Plan:
    """Compute a plan; deterministic.

    Parameters
    ----------
    work : Workload
        From `workload_of` or `workload_of_mix`.
    budget : RiskBudget
        The quality to keep.
    demand : Demand
        The traffic, and what labels cost.
    extra : Extra
        The cost of decisions and verdicts.
    now : datetime
        The time at which certificates are dated.
    samples : int, optional
        Answers taken by an ensemble whose agreement was recorded.
    seed : int
        Seeds the resamples.
    busiest : BusiestHour, optional
        The traffic at the busiest, for what the tiers carry then.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        For a budget outside its range.
    """
    check_budget(budget.epsilon, budget.delta)
    if budget.max_drop is not None and not 0 < budget.max_drop < 1:
        raise DataError(f"max_drop must lie strictly between 0 and 1, found {budget.max_drop}")
    options, replayed = _options(work, budget, extra, now, samples, seed)
    i = best_option(options)
    best, mine = options[i], replayed[i]
    beside = expected(work, reference_policies(work, best.figures.kept), seed, budget)
    pattern = best.operated.pattern
    labels = labels_table(work, pattern, tuple(sorted({*EPSILONS, budget.epsilon})), budget)
    here = next(row for row in labels if row.epsilon == budget.epsilon)
    return Plan(
        workload=work,
        budget=budget,
        demand=demand,
        extra=extra,
        answer=recommend(work, budget, demand, options, best, beside, label_money(demand, here)),
        options=options,
        beside=beside,
        shown=pattern.name,
        what_ifs=price_changes(work, best.operated, mine, extra),
        budgets=_other_budgets(work, budget, extra, now, samples, seed),
        labels=labels,
        label_kinds=label_kinds(here, budget.delta),
        signals=signal_figures(work, seed),
        slices=slice_figures(work, mine, budget),
        imagined=imagined_verifiers(work, budget, extra, seed) if work.verifier is None else (),
        busiest=busiest,
        loads=() if busiest is None else policy_loads(work, best.operated, mine, busiest, seed),
    )


def _options(
    work: Workload, budget: RiskBudget, extra: Extra, now: datetime, samples: int | None, seed: int
) -> tuple[tuple[Option, ...], list[Outcomes]]:
    found = operate(work, patterns_of(work, budget, samples), budget, now)
    replayed = [play_out(work, operated, ~work.choosing, extra) for operated in found]
    tried = max(sum(not operated.pattern.needs for operated in found), 1)
    played = [(o.pattern.name, o.pattern.what, p) for o, p in zip(found, replayed, strict=True)]
    figures = expected(work, played, seed, budget)
    options = tuple(
        Option(
            operated,
            figure,
            break_even(work, operated, outcome, extra),
            keeps_drop=_keeps_drop(work, budget, outcome, figure, tried),
            allowed=(operated.certified or not work.labelled) and not operated.pattern.needs,
        )
        for operated, outcome, figure in zip(found, replayed, figures, strict=True)
    )
    return options, replayed


def _keeps_drop(work: Workload, budget: RiskBudget, replayed: Outcomes, figure: Expected, tried: int) -> bool:
    """Return whether the allowed drop is kept: proved on paired grades, δ shared by the patterns, or by the mean."""
    if budget.max_drop is None:
        return True
    if not work.labelled:
        return figure.drop.value <= budget.max_drop
    counted = work.counted[~work.choosing]
    best = work.seen.grades[:, -1][~work.choosing][counted]
    return not_worse(replayed.right[counted], best, margin=budget.max_drop, delta=budget.delta / tried).certified


def _other_budgets(
    work: Workload, budget: RiskBudget, extra: Extra, now: datetime, samples: int | None, seed: int
) -> tuple[tuple[float, str], ...]:
    """Return the best pattern in a few words at half, one and a half and twice the error budget."""
    found = []
    for epsilon in (round(factor * budget.epsilon, 6) for factor in (0.5, 1.5, 2.0)):
        if epsilon >= 1:
            continue
        options, _ = _options(work, replace(budget, epsilon=epsilon), extra, now, samples, seed)
        best = options[best_option(options)]
        words = f"{best.name}: keeps {best.figures.kept:.0%}, saves {best.figures.saving.value:.0%}"
        if not best.eligible:
            words = f"do not route: {obstacle(best)}" if best.allowed else "do not route: nothing can be promised"
        found.append((epsilon, words))
    return tuple(found)
