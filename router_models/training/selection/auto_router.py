"""`auto`: every router family whose cost is bounded, within a budget of time, judged by what routing is for.

The area is APGR (`metrics.routing`): how much of the gap between two tiers the prompts' order recovers, averaged over
all shares of calls to the dearer one, out of fold. Of the families that beat prompt length the simplest is taken whose
area falls short of the best one's by no more than one standard error of that shortfall: a more elaborate one has to
earn it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from router_models.data.table import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS
from router_models.metrics import RoutingSums, bootstrap_values, interval_of
from router_models.training.selection.model_selection import (
    SIMPLE_ROUTERS,
    Scored,
    grouped_folds,
    held_out_of_folds,
    simplest_good,
)
from router_models.types import FloatArray, IntArray, Progress, Prompts

Folds = Sequence[tuple[IntArray, IntArray]]
BASELINE = "length"
NOT_CANDIDATES = frozenset({"constant", "random", "oracle", BASELINE, "matrix-factorisation"})
"""Baselines; and a family so sure of every part of a prompt that an easy question hides a hard one (misrouting)."""
FIRST = ("surface", "linear", "default")
"""Tried before the others, so that a short budget still compares the simplest with the most elaborate."""


def auto_families(table: OutcomeTable) -> tuple[str, ...]:
    """The families that `auto` tries on a table, from simple to elaborate: those that it has the inputs for.

    Left out are baselines, the families that read or train a language model (`RouterModel.apart`), and one that is
    misled by what is written around a hard prompt (`docs/results/misrouting.md`).
    """
    embedded = table.prompts.embeddings is not None
    return tuple(
        name
        for name, family in ROUTERS.items()
        if name not in NOT_CANDIDATES and not family.apart and (embedded or not family.needs_embeddings)
    )


def choose_by_area(
    train: OutcomeTable,
    tier: str,
    top: str,
    budget_s: float,
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Progress = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Scored, list[Scored]] | None:
    """Try every family within a budget of time, and choose by out-of-fold area.

    Parameters
    ----------
    train : OutcomeTable
        The prompts to learn from.
    tier, top : str
        The cheaper tier, and the last one.
    budget_s : float
        Seconds. The two quickest families are always finished; of the others one is broken off as soon as the folds so
        far say that all of them would take longer than what is left.
    folds, seed : int
        Folds, and the seed of folds and resamples.
    progress : callable
        Called with a sentence for every family.
    clock : callable
        Gives the time in seconds.

    Returns
    -------
    tuple of Scored and list of Scored, or None
        The choice, and all that were tried, the baseline first, then from simple to elaborate. None where the last
        tier is no better on these prompts, so that there is no gap to recover.
    """
    w, s = train.grade(tier), train.grade(top)
    if not s.mean() > w.mean():
        return None
    ordered = auto_families(train)
    splits, started = grouped_folds(train.groups, folds, seed), clock()
    scores, seconds = {BASELINE: held_out_of_folds(BASELINE, train.prompts, w, splits)}, {BASELINE: clock() - started}
    for family in sorted(ordered, key=lambda name: (name not in FIRST, ordered.index(name))):
        begun = clock()
        left_s = np.inf if family in SIMPLE_ROUTERS else budget_s - (begun - started)
        if left_s <= 0:
            progress(f"router {family}: not tried, the budget of {budget_s:g} s is used up")
            continue
        try:
            found = _held_out_within(left_s, family, train.prompts, w, splits, clock)
        except DataError as error:
            progress(f"router {family}: left out: {error}")
            continue
        if isinstance(found, float):
            progress(f"router {family}: broken off, it takes about {found:.0f} s and {left_s:.0f} s were left")
            continue
        scores[family], seconds[family] = found, clock() - begun
        progress(f"router {family}: {seconds[family]:.1f} s")
    names = [BASELINE, *(name for name in ordered if name in scores)]
    drawn = {
        name: bootstrap_values(RoutingSums(scores[name], w, s).apgr, len(w), seed=seed, groups=train.groups)
        for name in names
    }
    _, judged = simplest_good(BASELINE, {name: scores[name] for name in names}, w, train.groups, seed)
    area = {name: float(RoutingSums(scores[name], w, s).apgr(np.ones((1, len(w))))[0]) for name in names}
    tried = [replace(one, apgr=area[one.family], seconds=seconds[one.family]) for one in judged]
    chosen = simplest_within_one_error(area, drawn)
    return next(one for one in tried if one.family == chosen), tried


def _held_out_within(
    left_s: float, family: str, X: Prompts, y: FloatArray, folds: Folds, clock: Callable[[], float]
) -> FloatArray | float:
    """Scores of every prompt out of fold; or the seconds that they would take, once that is seen to be too many."""
    begun, scores, refused = clock(), np.zeros(len(X)), []
    for done, fold in enumerate(folds, 1):
        inside, outside = fold
        try:
            scores[outside] = held_out_of_folds(family, X, y, [fold])[outside]
        except DataError as error:
            scores[outside] = y[inside].mean()
            refused.append(error)
        needed_s = (clock() - begun) / done * len(folds)
        if done < len(folds) and needed_s > left_s:
            return float(needed_s)
    if len(refused) == len(folds):
        raise refused[0]
    return scores


def simplest_within_one_error(area: Mapping[str, float], drawn: Mapping[str, FloatArray]) -> str:
    """The simplest whose area beats the baseline's and is within one standard error of the best; else the baseline.

    Parameters
    ----------
    area : mapping of str to float
        The area of every family, the baseline first, then from simple to elaborate.
    drawn : mapping of str to array of float, (draws,)
        Its values over shared bootstrap draws: the standard error is that of the shortfall.
    """

    def beats(name: str) -> bool:
        return interval_of(area[name] - area[BASELINE], drawn[name] - drawn[BASELINE]).low > 0

    better = [name for name in area if name != BASELINE and beats(name)]
    if not better:
        return BASELINE
    best = max(better, key=lambda name: area[name])
    return next(name for name in better if area[best] - area[name] <= float(np.nanstd(drawn[best] - drawn[name])))
