"""RouterArena's figures of a router, by the formulas that it publishes (arXiv 2510.00202; `llm_evaluation/run.py`).

    C = (log2 c_max - log2 c) / (log2 c_max - log2 c_min),  S = (1 + β) A C / (β A + C)

with A the mean accuracy, c the dollars per 1,000 queries, β = .1, c_max = 200 and c_min = .0044. Optimality counts,
among the queries of its tenth that the router had right, the share whose model is the cheapest right one, and the
ratios of costs and of accuracies; robustness is the share of perturbed prompts that get the same model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_models.errors import DataError
from router_models.evaluation.benchmarks.routerarena_files import ArenaEntry, Graded
from router_models.metrics.intervals import Interval, bootstrap, exact_share
from router_models.types import FloatArray

BETA, COST_MAX, COST_MIN = 0.1, 200.0, 0.0044


@dataclass(frozen=True, slots=True)
class Optimality:
    """Hold how near a router's choices came to the cheapest right model.

    `queries`: those it had right and of which a right model is known; `selected`: the share of them for which it chose
    the cheapest right one; `cost`: the cheapest right models' cost by its own; `accuracy`: its accuracy by theirs.
    """

    queries: int
    selected: float
    cost: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class ArenaFigures:
    """Hold a router's row.

    Parameters
    ----------
    name : str
        The router.
    queries : int
        Queries that it chose a model for.
    arena : Interval
        The arena score, in [0, 1], with a 95 % bootstrap interval over queries.
    accuracy : Interval
        The mean accuracy.
    cost_per_1000 : float
        Dollars.
    strong_share : float, optional
        The share of queries that went to the stronger model; None: of published routers, which have many.
    optimality : Optimality, optional
        None where no answers of other models are known.
    robustness : Interval, optional
        The share of perturbed prompts with the same choice; None where none are known.
    """

    name: str
    queries: int
    arena: Interval
    accuracy: Interval
    cost_per_1000: float
    strong_share: float | None = None
    optimality: Optimality | None = None
    robustness: Interval | None = None


def arena_score(cost_per_1000: ArrayLike, accuracy: ArrayLike, beta: float = BETA) -> FloatArray:
    """Return the arena score of costs in dollars per 1,000 queries and accuracies in [0, 1], in their shape.

    Costs outside [`COST_MIN`, `COST_MAX`] count as the nearer end. Raises DataError for a cost that is not above 0,
    and for an accuracy outside [0, 1].
    """
    cost, right = np.asarray(cost_per_1000, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if not (cost > 0).all():
        raise DataError("a cost per 1,000 queries is above 0: no call was priced")
    if not ((right >= 0) & (right <= 1)).all():
        raise DataError("an accuracy lies in [0, 1]")
    span = np.log2(COST_MAX) - np.log2(COST_MIN)
    cheap = (np.log2(COST_MAX) - np.log2(np.clip(cost, COST_MIN, COST_MAX))) / span
    below = beta * right + cheap
    return np.asarray(np.divide((1 + beta) * right * cheap, below, out=np.zeros_like(below), where=below > 0))


def scored(name: str, accuracy: FloatArray, cost_usd: FloatArray, *, seed: int = 0) -> ArenaFigures:
    """Return a router's arena score, accuracy and cost, with intervals over queries.

    Parameters
    ----------
    name : str
        The router.
    accuracy : array of float, (n,)
        By query; NaN where it was not graded: its cost counts, as in the published formula.
    cost_usd : array of float, (n,)
        Dollars of each query's call; NaN and 0 add nothing.
    seed : int
        Of the resamples.
    """
    n, graded = len(accuracy), np.isfinite(accuracy)
    if not graded.any():
        raise DataError(f"{name}: no entry has an accuracy")
    spent, right = np.where(np.isfinite(cost_usd), cost_usd, 0.0), np.where(graded, accuracy, 0.0)

    def mean_right(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ right / np.maximum(weights @ graded, 1e-12))

    def arena(weights: FloatArray) -> FloatArray:
        cost = np.maximum(1000 * (weights @ spent) / weights.sum(axis=1), np.nextafter(0, 1))
        return arena_score(cost, np.clip(mean_right(weights), 0, 1))

    per_1000 = float(1000 * spent.sum() / n)
    if per_1000 <= 0:
        raise DataError(f"{name}: no entry has a cost")
    return ArenaFigures(name, n, bootstrap(arena, n, seed=seed), bootstrap(mean_right, n, seed=seed), per_1000)


def optimality_of(chosen: Sequence[ArenaEntry], others: Sequence[ArenaEntry], tenth: Collection[str]) -> Optimality:
    """Return how near a router's choices, of the queries in `tenth`, came to the cheapest right model.

    Parameters
    ----------
    chosen : sequence of ArenaEntry
        One a query.
    others : sequence of ArenaEntry
        What other models gave for the same queries.
    tenth : collection of str
        The queries that count.
    """
    known: dict[str, dict[str, Graded]] = {}
    for one in (*chosen, *others):
        if one.index in tenth and one.accuracy is not None and one.cost_usd is not None:
            known.setdefault(one.index, {})[one.model] = (one.accuracy, one.cost_usd)
    hits, queries, best_usd, own_usd, best_right, own_right = 0, 0, 0.0, 0.0, 0.0, 0.0
    for one in chosen:
        right = {m: (a, c) for m, (a, c) in known.get(one.index, {}).items() if a >= 1.0}
        if one.index not in tenth or one.accuracy is None or one.cost_usd is None or one.accuracy < 1 or not right:
            continue
        best = min(right, key=lambda model: right[model][1])
        accuracy, cost = right[best]
        queries += 1
        hits += best == one.model
        best_right, own_right = best_right + accuracy, own_right + one.accuracy
        if one.cost_usd > 0:
            best_usd, own_usd = best_usd + cost, own_usd + one.cost_usd
    return Optimality(
        queries,
        hits / queries if queries else 0.0,
        best_usd / own_usd if own_usd > 0 else 0.0,
        own_right / best_right if best_right > 0 else 0.0,
    )


def same_choice(chosen: Sequence[ArenaEntry], perturbed: Sequence[ArenaEntry]) -> Interval | None:
    """Return the share of perturbed prompts that get the model which their originals got; None without any."""
    models: dict[str, str] = {}
    for one in chosen:
        models.setdefault(one.index, one.model)
    pairs = [(models[one.index], one.model) for one in perturbed if one.index in models]
    return exact_share(sum(a == b for a, b in pairs), len(pairs)) if pairs else None
