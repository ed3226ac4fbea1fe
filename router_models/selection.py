"""The simplest router and verifier that beat the baseline, judged on prompts they were not fitted on.

Families are listed from simple to elaborate; the first whose paired advantage over the baseline has an interval
above zero is taken. Where none has, the baseline itself is kept and said to be all there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.errors import DataError
from router_models.routers import ROUTERS
from router_models.types import Answers, FloatArray, IntArray, Prompts
from router_models.verifiers import VERIFIERS

SIMPLE_ROUTERS = ("surface", "linear", "knn", "stacked")
SIMPLE_VERIFIERS = ("logprob", "combined")


@dataclass(frozen=True, slots=True)
class Scored:
    """One family's held-out result: scores (n,), AUC, its paired advantage over the baseline and a 95 % interval."""

    family: str
    scores: FloatArray
    auc: float
    advantage: float
    low: float
    high: float

    @property
    def beats_baseline(self) -> bool:
        return self.low > 0


def choose_router(
    X: Prompts,
    y: FloatArray,
    groups: IntArray,
    families: Sequence[str] = SIMPLE_ROUTERS,
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Scored, list[Scored]]:
    """Pick the simplest router family that beats prompt length; returns it and everything tried, baseline first.

    Scores are out of fold, folds grouped by `groups` so that duplicates never straddle one.
    """

    def held_out(family: str) -> FloatArray:
        scores = np.zeros(len(X))
        for inside, outside in grouped_folds(groups, folds, seed):
            scores[outside] = ROUTERS[family]().fit(X.take(inside), y[inside]).predict(X.take(outside))
        return scores

    return _first_better("length", {f: held_out(f) for f in ("length", *_known(families, ROUTERS))}, y, seed)


def choose_verifier(
    X: Answers,
    y: FloatArray,
    groups: IntArray,
    families: Sequence[str] = SIMPLE_VERIFIERS,
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Scored, list[Scored]]:
    """Pick the simplest verifier family that beats the router's own score (or non-emptiness where there is none)."""
    baseline = X.signals.get("router_score")
    scores = {"router_score": baseline} if baseline is not None else {"non-empty": VERIFIERS["non-empty"]().predict(X)}
    for family in _known(families, VERIFIERS):
        scores[family] = np.zeros(len(X))
        for inside, outside in grouped_folds(groups, folds, seed):
            scores[family][outside] = VERIFIERS[family]().fit(X.take(inside), y[inside]).predict(X.take(outside))
    return _first_better(next(iter(scores)), scores, y, seed)


def grouped_folds(groups: IntArray, folds: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(inside, outside) row indices of each fold; a group lies on one side only. Seeded."""
    names, inverse = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise DataError(f"{len(names)} distinct prompts cannot be split into {folds} folds")
    fold_of = np.random.default_rng(seed).permutation(len(names)) % folds
    fold = fold_of[inverse]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def _known(families: Sequence[str], registry: Mapping[str, object]) -> list[str]:
    if unknown := [f for f in families if f not in registry]:
        raise DataError(f"unknown famil{'y' if len(unknown) == 1 else 'ies'} {unknown}; known: {', '.join(registry)}")
    return list(families)


def _first_better(
    baseline: str, scores: Mapping[str, FloatArray], y: FloatArray, seed: int, draws: int = 2000
) -> tuple[Scored, list[Scored]]:
    right = y >= 0.5
    rows = np.random.default_rng(seed).integers(0, len(y), (draws, len(y)))
    base_draws = _auc_draws(scores[baseline], right, rows)
    tried = []
    for family, values in scores.items():
        difference = _auc_draws(values, right, rows) - base_draws
        low, high = np.nanquantile(difference, [0.025, 0.975])
        auc = _auc(values, right)
        tried.append(Scored(family, values, auc, auc - _auc(scores[baseline], right), float(low), float(high)))
    return next((s for s in tried[1:] if s.beats_baseline), tried[0]), tried


def _auc(scores: FloatArray, right: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    positive = int(right.sum())
    negative = len(right) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _auc_draws(scores: FloatArray, right: NDArray[np.bool_], rows: NDArray[np.int64]) -> FloatArray:
    return np.array([_auc(scores[draw], right[draw]) for draw in rows])
