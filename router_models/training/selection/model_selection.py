"""The simplest router and verifier that beat the baseline, judged on prompts they were not fitted on.

Families are listed from simple to elaborate. Of those whose paired advantage over the baseline has an interval above
zero, the simplest is taken that is not clearly worse than the best of them. Where none beats the baseline, the
baseline itself is kept, or the best of them where the baseline is no family of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.data.text_cache import each_text_once
from router_models.errors import DataError, by_number
from router_models.estimators.registry import Registry
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.signals import TierKind, check_served
from router_models.estimators.verifiers import VERIFIERS
from router_models.metrics import auc, auc_weighted, bootstrap_values, interval_of
from router_models.types import Answers, FloatArray, IntArray, Prompts

SIMPLE_ROUTERS = ("surface", "linear")
SIMPLE_VERIFIERS = ("logprob", "combined")


@dataclass(frozen=True, slots=True)
class Scored:
    """One family's held-out result: scores (n,), AUC, its paired advantage over the baseline and a 95 % interval.

    `out_of_domain_auc`: the AUC where whole domains were held out, None where no domains are known, or where the
    family cannot be fitted without them. `apgr`, `seconds`: the area by which `auto_router` chooses, and its time.
    """

    family: str
    scores: FloatArray
    auc: float
    advantage: float
    low: float
    high: float
    out_of_domain_auc: float | None = None
    apgr: float | None = None
    seconds: float | None = None

    @property
    def beats_baseline(self) -> bool:
        return self.low > 0


@each_text_once()
def choose_router(
    X: Prompts,
    y: FloatArray,
    groups: IntArray,
    families: Sequence[str] = SIMPLE_ROUTERS,
    *,
    folds: int = 5,
    seed: int = 0,
    domains: IntArray | None = None,
) -> tuple[Scored, list[Scored]]:
    """Pick the simplest good router family that beats prompt length; returns it and all tried, baseline first.

    Scores are out of fold, folds grouped by `groups` so that duplicates never straddle one. With `domains` (n,),
    negative where not known, every family is measured once more with whole domains held out, on the prompts whose
    domain is known; that tells the reviewer, it does not choose. DataError for families that do not exist or that no
    version can serve.
    """

    families = served_families(families)
    tried = {f: held_out_of_folds(f, X, y, grouped_folds(groups, folds, seed)) for f in ("length", *families)}
    best, scored = simplest_good("length", tried, y, groups, seed)
    if domains is None:
        return best, scored
    known = np.flatnonzero(domains >= 0)
    X, y, names = X.take(known), y[known], domains[known]
    parts, right = min(folds, len(np.unique(names))), (y >= 0.5).astype(np.float64)
    if parts < 2 or right.min() == right.max():
        return best, scored

    def elsewhere(one: Scored) -> Scored:
        try:
            return replace(
                one,
                out_of_domain_auc=auc(held_out_of_folds(one.family, X, y, grouped_folds(names, parts, seed)), right),
            )
        except DataError:  # a family of domains has nothing to learn from one alone
            return one

    out_of_domain = [elsewhere(one) for one in scored]
    return next(s for s in out_of_domain if s.family == best.family), out_of_domain


def held_out_of_folds(
    family: str, X: Prompts, y: FloatArray, folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> FloatArray:
    """A router family's scores of every prompt, each by a router that was fitted without its fold.

    Where a fold leaves one class, or nothing that the family could learn from, the level is the prediction. DataError
    where that is so for every fold.
    """
    scores, refused = np.zeros(len(X)), []
    for inside, outside in folds:
        target = y[inside]
        scores[outside] = target.mean()
        if len(np.unique(target)) < 2:
            continue
        try:
            router = RouterWithFallback(ROUTERS[family]()).fit(X.take(inside), target)
            scores[outside] = router.predict(X.take(outside))
        except DataError as error:
            refused.append(error)
    if refused and len(refused) == len(folds):
        raise refused[0]
    return scores


def served_families(families: Sequence[str]) -> list[str]:
    """Present names of router families; DataError for those that do not exist, or that read what no request brings.

    The refusal is the sentence of the table of signals (`estimators.signals`).
    """
    families = _known(families, ROUTERS)
    for family in families:
        check_served(f"router {family}", ROUTERS[family].reads)
    return families


def served_verifier_signals(family: str, kind: TierKind, scores: Sequence[str]) -> tuple[str, ...]:
    """Return the signals that a verifier family is to read of a kind of tier.

    `reward` is the one verifier model's score of `scores`. Raises DataError where these are none or several, and for a
    signal that the served graph lacks there.
    """
    (name,) = _known((family,), VERIFIERS)
    reads = VERIFIERS[name]().wants_signals
    if "reward" in reads:
        if len(scores) != 1:
            raise DataError(
                f"verifier {name} reads one verifier model's score: name it (`--signals reward:NAME`); there are "
                f"{' and '.join(scores) or 'none in the outcomes (`serve-graph collect --signals reward:NAME`)'}"
            )
        reads = tuple(scores[0] if signal == "reward" else signal for signal in reads)
    check_served(f"verifier {name}", reads, kind)
    return reads


@each_text_once()
def choose_verifier(
    X: Answers,
    y: FloatArray,
    groups: IntArray,
    families: Sequence[str] = SIMPLE_VERIFIERS,
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Scored, list[Scored]]:
    """Pick the simplest good verifier family that beats the router's own score (or non-emptiness, without one)."""
    baseline = X.signals.get("router_score")
    scores = {"router_score": baseline} if baseline is not None else {"non-empty": VERIFIERS["non-empty"]().predict(X)}
    for family in _known(families, VERIFIERS):
        scores[family] = np.zeros(len(X))
        for inside, outside in grouped_folds(groups, folds, seed):
            target = y[inside]
            constant = len(np.unique(target)) < 2
            found = None if constant else VERIFIERS[family]().fit(X.take(inside), target).predict(X.take(outside))
            scores[family][outside] = target.mean() if found is None else found
    return simplest_good(next(iter(scores)), scores, y, groups, seed)


def usable_verifiers(answers: Answers, families: Sequence[str] = SIMPLE_VERIFIERS) -> list[str]:
    """The families whose signals these answers carry; DataError for one that does not exist."""
    known = _known(families, VERIFIERS)
    return [family for family in known if all(name in answers.signals for name in VERIFIERS[family].needs_signals)]


def grouped_folds(groups: IntArray, folds: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(inside, outside) row indices of each fold; a group lies on one side only. Seeded."""
    names, inverse = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise DataError(f"{len(names)} distinct {by_number(len(names), 'prompt')} cannot be split into {folds} folds")
    fold_of = np.random.default_rng(seed).permutation(len(names)) % folds
    fold = fold_of[inverse]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def _known(families: Sequence[str], registry: Registry[Any]) -> list[str]:
    if unknown := [f for f in families if f not in registry]:
        raise DataError(
            f"unknown {by_number(len(unknown), 'family', 'families')} {unknown}; known: {', '.join(registry)}"
        )
    return [registry.current_name(family) for family in families]


def simplest_good(
    baseline: str, scores: Mapping[str, FloatArray], y: FloatArray, groups: IntArray, seed: int, draws: int = 2000
) -> tuple[Scored, list[Scored]]:
    """The simplest whose AUC is above the baseline's and not clearly below the best one's, and all results."""
    right = (y >= 0.5).astype(np.float64)
    drawn = {
        family: bootstrap_values(auc_weighted(values, right), len(y), draws=draws, seed=seed, groups=groups)
        for family, values in scores.items()
    }
    aucs = {family: auc(values, right) for family, values in scores.items()}
    tried = []
    for family, values in scores.items():
        over = interval_of(aucs[family] - aucs[baseline], drawn[family] - drawn[baseline])
        tried.append(Scored(family, values, aucs[family], over.value, over.low, over.high))
    better = [scored for scored in tried[1:] if scored.beats_baseline]
    if not better:
        is_family = baseline in ROUTERS or baseline in VERIFIERS
        return (tried[0] if is_family else max(tried[1:], key=lambda scored: scored.auc)), tried
    best = max(better, key=lambda scored: scored.auc)
    close = (s for s in better if interval_of(best.auc - s.auc, drawn[best.family] - drawn[s.family]).low <= 0)
    return next(close, best), tried
