"""Compare cascades that read the answer with routers that read the prompt, paired by prompt.

Four questions. Does the score separate right from wrong (AUC)? Is it a probability (log-loss)? How many errors are
among the answers kept (area of risk by coverage, and the share kept within the error budget)? And how much of the
dearer tier's advantage does escalating the lowest scores recover (APGR)? The last differs from the others: a question
that the cheap tier gets wrong may be beyond the dear one too, and then escalating it gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import each_text_once
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.signals import TierKind
from router_models.evaluation.cascade_data import (
    COMBINED,
    CascadeData,
    CascadeScores,
    cascade_data,
    cross_validate_cascade,
    measured_contenders,
    served_contenders,
    with_measured,
)
from router_models.metrics import (
    Interval,
    RoutingSums,
    auc_weighted,
    bootstrap_values,
    interval_of,
    kept_within_weighted,
    log_loss_weighted,
    risk_area_weighted,
)
from router_models.metrics.intervals import BOOTSTRAP_DRAWS, WeightedStatistic
from router_models.reports.markdown import spread
from router_models.reports.markdown import table as markdown_table
from router_models.types import FloatArray, Progress

FIGURES = ("AUC", "log-loss", "risk area", "kept", "APGR")
LOWER_IS_BETTER = frozenset({"log-loss", "risk area"})


@dataclass(frozen=True, slots=True)
class CascadeRow:
    """Hold one contender's figures.

    Parameters
    ----------
    name : str
        The contender.
    figures : mapping of str to Interval
        By the names in `FIGURES`.
    reference_gain : mapping of str to Interval
        By how much the reference is better (> 0), paired by prompt.
    """

    name: str
    figures: Mapping[str, Interval]
    reference_gain: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class CascadeComparison:
    """Hold the comparison of every contender on n prompts of two tiers.

    Parameters
    ----------
    name : str
        The set.
    cheap, dear : str
        The two tiers.
    router : str
        The router family.
    n : int
        The number of prompts.
    cheap_right, dear_right : float
        The tiers' mean grades.
    epsilon : float
        The share of wrong answers that "kept" allows.
    reference : str
        The contender that the others are compared with.
    rows : tuple of CascadeRow
        One per contender.
    not_served : tuple of str
        What the recorded signals that no served contender was given would need to be had when serving.
    """

    name: str
    cheap: str
    dear: str
    router: str
    n: int
    cheap_right: float
    dear_right: float
    epsilon: float
    reference: str
    rows: tuple[CascadeRow, ...]
    not_served: tuple[str, ...] = ()


@each_text_once()
def compare_cascade(
    table: OutcomeTable,
    cheap: str,
    dear: str,
    router: str,
    *,
    name: str = "outcomes",
    folds: int = 5,
    epsilon: float = 0.1,
    seed: int = 0,
    kind: TierKind = TierKind.VLLM,
    progress: Progress = lambda _: None,
) -> CascadeComparison:
    """Cross-validate every contender on the prompts graded for both tiers.

    Parameters
    ----------
    table : OutcomeTable
        Recorded outcomes of both tiers.
    cheap, dear : str
        The two tiers.
    router : str
        The router family.
    name : str
        The set's name.
    folds : int
        Folds; equal prompts share one.
    epsilon : float
        The share of wrong answers among the kept that "kept" allows, in (0, 1).
    seed : int
        Seeds folds, models and resamples.
    kind : TierKind
        What comes with the cheap tier's answers when it serves.
    progress : callable
        Receives a sentence about each step.

    Returns
    -------
    CascadeComparison

    Raises
    ------
    DataError
        Where the table has no confidence of the cheap tier, or lacks what the family needs.
    """
    data = cascade_data(table, cheap, dear, kind)
    wider = data.groups is not None and len(np.unique(data.groups)) < len(set(data.answers.prompts.texts))
    together = [str(group) for group in data.groups.tolist()] if wider and data.groups is not None else None

    def make() -> RouterWithFallback:
        return RouterWithFallback(ROUTERS[router]())

    entered, more = served_contenders(data, make, seed), measured_contenders(data, make, seed)
    scores = cross_validate_cascade(data, entered, folds, seed, together, progress=progress)
    if more:  # in the same folds
        beside = cross_validate_cascade(with_measured(data), more, folds, seed, together, progress=progress)
        scores = CascadeScores({**scores.by_name, **beside.by_name}, scores.fold)
    progress("intervals")
    return CascadeComparison(
        name=name,
        cheap=cheap,
        dear=dear,
        router=router,
        n=len(data),
        cheap_right=float(data.cheap.mean()),
        dear_right=float(data.dear.mean()),
        epsilon=epsilon,
        reference=COMBINED,
        rows=cascade_rows(data, scores, epsilon=epsilon, seed=seed),
        not_served=data.not_served,
    )


def cascade_rows(
    data: CascadeData,
    scores: CascadeScores,
    reference: str = COMBINED,
    *,
    epsilon: float = 0.1,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> tuple[CascadeRow, ...]:
    """Compute every contender's figures with paired bootstrap intervals over prompts.

    All but log-loss depend on the order within folds only.

    Parameters
    ----------
    data : CascadeData
        The n prompts.
    scores : CascadeScores
        Out-of-fold scores.
    reference : str
        The contender that the others are compared with.
    epsilon : float
        The share of wrong answers among the kept, in (0, 1).
    draws : int
        Resamples.
    seed : int
        Seeds the resamples.

    Returns
    -------
    tuple of CascadeRow

    Raises
    ------
    DataError
        Where the dear tier is not better (APGR has no meaning).
    """
    n = len(data)
    ones = np.ones((1, n))

    def drawn(name: str) -> dict[str, tuple[float, FloatArray]]:
        of = _statistics(data, scores, name, epsilon)
        return {
            f: (float(s(ones)[0]), bootstrap_values(s, n, draws=draws, seed=seed, groups=data.groups))
            for f, s in of.items()
        }

    base = drawn(reference)
    rows = []
    for name in scores.by_name:
        own = base if name == reference else drawn(name)
        gains = {}
        for figure, (value, values) in own.items():
            sign = -1.0 if figure in LOWER_IS_BETTER else 1.0
            gains[figure] = interval_of(sign * (base[figure][0] - value), sign * (base[figure][1] - values))
        rows.append(CascadeRow(name, {f: interval_of(*own[f]) for f in FIGURES}, gains))
    return tuple(rows)


def _statistics(
    data: CascadeData, scores: CascadeScores, name: str, epsilon: float
) -> Mapping[str, WeightedStatistic]:
    order = scores.ordered(name)
    return {
        "AUC": auc_weighted(order, data.cheap),
        "log-loss": log_loss_weighted(np.clip(scores.by_name[name], 1e-6, 1 - 1e-6), data.cheap),
        "risk area": risk_area_weighted(order, data.cheap),
        "kept": kept_within_weighted(order, data.cheap, epsilon),
        "APGR": RoutingSums(order, data.cheap, data.dear).apgr,
    }


def cascade_page(found: CascadeComparison, made: str = "") -> str:
    """Render the comparison as Markdown: a summary, the figures, then the reference's gain over each."""
    head = (
        f"# Cascade {found.cheap} → {found.dear} on {found.name}: does looking at the answer pay?",
        made,
        f"{found.n:,} prompts graded for both; right: {found.cheap_right:.1%} and {found.dear_right:.1%}. Five folds "
        f"grouped by duplicates; the router ({found.router}) is cross-fitted inside each training part. Intervals are "
        f"95 %, paired bootstrap over prompts. Kept: the largest share of {found.cheap} answers with at most "
        f"{found.epsilon:.0%} of them wrong. All but log-loss compare the order within folds.",
        "\n".join(f"- recorded, and of no contender that is served: {why}" for why in found.not_served),
        f"## In short: {found.reference}",
        _verdict(found),
        "## Figures",
    )
    figures = [["scored by", "AUC", "log-loss", "risk area, %", "kept, %", "APGR of escalating"]]
    figures += [[row.name, *_cells(row.figures)] for row in found.rows]
    gains = [[f"{found.reference} is better than", "in AUC", "log-loss", "risk area, %", "kept, %", "APGR"]]
    gains += [[row.name, *_cells(row.reference_gain)] for row in found.rows if row.name != found.reference]
    parts = [
        *head,
        markdown_table(figures),
        f"## What {found.reference} gains",
        markdown_table(gains),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(of: Mapping[str, Interval]) -> list[str]:
    scale = {"risk area": (100.0, 2), "kept": (100.0, 1), "AUC": (1.0, 4), "log-loss": (1.0, 4), "APGR": (1.0, 4)}
    return [spread(of[figure], *scale[figure]) for figure in FIGURES]


def _verdict(found: CascadeComparison) -> str:
    """Return one line per rival: the figures in which the reference is better, worse, or not distinguishable."""
    lines = []
    for row in found.rows:
        if row.name == found.reference:
            continue
        better = _named(row, [f for f in FIGURES if row.reference_gain[f].low > 0])
        worse = _named(row, [f for f in FIGURES if row.reference_gain[f].high < 0])
        open_ = _named(row, [f for f in FIGURES if row.reference_gain[f].low <= 0 <= row.reference_gain[f].high])
        lines.append(f"- against {row.name}: better in {better}; worse in {worse}; no difference shown in {open_}.")
    return "\n".join(lines)


def _named(row: CascadeRow, figures: Sequence[str]) -> str:
    return ", ".join(figures) or "nothing"
