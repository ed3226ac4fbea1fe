"""Score prompts that a router was not fitted on: by folds, by whole domains, or from another set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.data.near_duplicates import MANY, near_duplicates_of
from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.training.selection.model_selection import grouped_folds
from router_models.types import FloatArray, IntArray, Progress

EVALUATION_DOMAINS = ("domain", "category", "family", "qset")
UNTRAINED = frozenset({"length", "random", "constant", "oracle"})
Split = tuple[IntArray, IntArray]


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Hold one method's scores (n,) of P(the weak answer is acceptable), and the split on which they were made."""

    method: str
    split: str
    scores: FloatArray


def routing_targets(table: OutcomeTable, weak: str, strong: str, target: str) -> FloatArray:
    """Return what a router is fitted to.

    Parameters
    ----------
    table : OutcomeTable
        n prompts graded for both tiers.
    weak, strong : str
        The two tiers.
    target : str
        'weak': the weak grade, what a certificate of its answers needs. 'gain': (1 + weak - strong) / 2, what the
        deferral curve of this very pair needs. 'ease': (weak + strong) / 2, which transfers to other pairs.

    Returns
    -------
    array of float, (n,)
        In [0, 1]; 1 = stay with weak.

    Raises
    ------
    DataError
        For an unknown target.
    """
    low, high = table.grade(weak), table.grade(strong)
    targets = {"weak": low, "gain": (1 + low - high) / 2, "ease": (low + high) / 2}
    if target not in targets:
        raise DataError(f"unknown target {target!r}; known: auto, {', '.join(targets)}")
    return targets[target]


def folds_of(table: OutcomeTable, folds: int, seed: int) -> list[Split]:
    """Return (inside, outside) rows of each fold; duplicates of a prompt stay on one side."""
    return grouped_folds(table.groups, folds, seed)


def domain_folds_of(table: OutcomeTable, column: str, folds: int, seed: int) -> list[Split]:
    """Return (inside, outside) rows with whole domains outside, sizes balanced; at most one fold per domain.

    Prompts that are duplicates of one outside are not inside either, nor are those whose domain is not known ('').
    DataError where the column has one value only.
    """
    values = np.array(table.column(column))
    has_domain = values != ""
    names, index, sizes = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(f"column {column!r} has one value only: nothing can be held out")
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    k = min(folds, len(names))
    load, fold_of = np.zeros(k), np.zeros(len(names), dtype=np.int64)
    for name in order:
        fold_of[name] = int(load.argmin())
        load[fold_of[name]] += sizes[name]
    fold = fold_of[index]
    return [_apart(table, np.flatnonzero((fold != i) & has_domain), np.flatnonzero(fold == i)) for i in range(k)]


def held_out_scores(
    table: OutcomeTable,
    family: str,
    y: FloatArray,
    splits: Sequence[Split],
    *,
    labels: int | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> FloatArray:
    """Fit a family inside every split and score outside.

    Parameters
    ----------
    table : OutcomeTable
        n prompts.
    family : str
        The router family.
    y : array of float, (n,)
        Targets.
    splits : sequence of tuple
        (inside, outside) rows.
    labels : int, optional
        At most so many training prompts a split.
    seed : int
        Seeds the sample of training prompts.
    progress : callable
        Receives a sentence about each split.

    Returns
    -------
    array of float, (n,)
        NaN for rows outside of no split.
    """
    scores = np.full(len(table), np.nan)
    for k, (inside, outside) in enumerate(splits):
        if labels is not None and labels < len(inside):
            inside = np.sort(np.random.default_rng([seed, k]).permutation(inside)[:labels])
        progress(f"{family}: split {k + 1} of {len(splits)}, {len(inside)} prompts to learn from")
        router = RouterWithFallback(ROUTERS[family]()).fit(table.prompts.take(inside), y[inside])
        scores[outside] = router.predict(table.prompts.take(outside))
    return scores


def transferred_scores(
    table: OutcomeTable, family: str, other: OutcomeTable, y: FloatArray, seed: int = 0
) -> FloatArray:
    """Fit a family on another table (already without near-duplicates) and score this one, (n,)."""
    return RouterWithFallback(ROUTERS[family]()).fit(other.prompts, y).predict(table.prompts)


def without_near_duplicates(other: OutcomeTable, table: OutcomeTable) -> tuple[OutcomeTable, int]:
    """Return the rows of `other` that nearly repeat no prompt of `table`, and how many were dropped."""
    repeats = near_duplicates_of(
        other.prompts.texts, table.prompts.texts, other.prompts.embeddings, table.prompts.embeddings
    )
    if repeats.all():
        raise DataError(
            "every training prompt nearly repeats a test prompt: this is the same set, or fewer than "
            f"{MANY} prompts follow each instruction of it (leave the instruction out of both)"
        )
    return other.take(~repeats), int(repeats.sum())


def domain_column(table: OutcomeTable, name: str | None) -> str | None:
    """Return the column whose values are domains: the named one, else the first usual name with two values or more."""
    if name is not None:
        table.column(name)
        return name
    usual = (column for column in EVALUATION_DOMAINS if column in table.prompts.metadata)
    return next((column for column in usual if len(set(table.column(column))) > 1), None)


def usable_families(names: Sequence[str], table: OutcomeTable) -> tuple[list[str], dict[str, str]]:
    """Return which of the named families this table has the inputs for, and why not the others.

    Parameters
    ----------
    names : sequence of str
        Families; 'default', 'all' and former names are understood.
    table : OutcomeTable
        The table.

    Returns
    -------
    tuple of list of str and dict of str to str
        Usable families without the baselines, and the reason by each other family.

    Raises
    ------
    DataError
        For unknown names.
    """
    requested = _requested(names)
    unknown = [name for name in requested if name not in ROUTERS]
    if unknown:
        raise DataError(f"unknown router families {', '.join(unknown)}; known: default, all, {', '.join(ROUTERS)}")
    usable, left = [], {}
    for name in dict.fromkeys(map(ROUTERS.current_name, requested)):
        why = _missing(name, table) or (ROUTERS[name].apart if list(names) == ["all"] else "") or None
        if name in UNTRAINED:
            continue  # the baselines are always beside
        if why is None:
            usable.append(name)
        else:
            left[name] = why
    return usable, left


def want_embeddings(names: Sequence[str]) -> bool:
    """Return whether any of the named families reads embeddings; unknown names are reported by `usable_families`."""
    return any(ROUTERS[name].needs_embeddings for name in _requested(names) if name in ROUTERS)


def default_family() -> str:
    """Return the family that `--router default` means: the registry's own default, else the best that there is."""
    return next(name for name in ("default", "stacked", "linear", "surface", "length") if name in ROUTERS)


def families_tried(names: Sequence[str]) -> list[str]:
    """Return the families that names of `--router` stand for, without those that `all` leaves out and unknown ones."""
    known = [name for name in _requested(names) if name in ROUTERS]
    return [name for name in known if not (list(names) == ["all"] and ROUTERS[name].apart)]


def _requested(names: Sequence[str]) -> list[str]:
    return list(ROUTERS) if list(names) == ["all"] else [default_family() if n == "default" else n for n in names]


def _missing(family: str, table: OutcomeTable) -> str | None:
    cls = ROUTERS[family]
    measured = {name for name, values in table.prompts.signals.items() if np.isfinite(values).any()}
    needs = getattr(cls, "needs_metadata", ())
    if absent := [name for name in needs if name not in table.prompts.metadata and name not in measured]:
        return f"needs {', '.join(absent)}" if cls.needs_reader else f"needs the column(s) {', '.join(absent)}"
    if cls.needs_signals and measured.isdisjoint(cls.needs_signals):
        return f"needs one of the signals {', '.join(cls.needs_signals)}"
    if cls.needs_embeddings and table.prompts.embeddings is None:
        return "needs embeddings"
    return None


def _apart(table: OutcomeTable, inside: NDArray[np.int64], outside: NDArray[np.int64]) -> Split:
    return inside[~np.isin(table.groups[inside], table.groups[outside])], outside
