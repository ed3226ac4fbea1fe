"""Cross-validate router families on a labelled table, and compute all figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS
from router_models.estimators.signals import would_need
from router_models.evaluation.certified_point import PromiseTerms
from router_models.evaluation.figures import Evaluation, baselines, evaluate
from router_models.evaluation.held_out import (
    HeldOutScores,
    Split,
    domain_column,
    domain_folds_of,
    folds_of,
    held_out_scores,
    routing_targets,
    transferred_scores,
    usable_families,
    without_near_duplicates,
)
from router_models.pricing.tier_costs import TierCosts, calls_of, check_ladder
from router_models.types import FloatArray, Progress


@dataclass(frozen=True, slots=True)
class Source:
    """Hold other outcomes to train on, with the names of the two tiers there."""

    name: str
    table: OutcomeTable
    weak: str
    strong: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """Hold how scores are made.

    Parameters
    ----------
    families : sequence of str
        Router families; `default` and `all` are understood.
    folds : int
        Folds; duplicates of a prompt share one.
    labels : int, optional
        At most so many training prompts a fold.
    domain : str, optional
        The column whose values are held out whole; None = the first usual one, '' = none.
    target : str
        What routers learn, see `held_out.routing_targets`; 'auto' = gain on the same pair, ease from another one
        (`target_for`).
    train : Source, optional
        Fit on these outcomes instead of on folds.
    seed : int
        Seeds folds, samples and resamples.
    certify : bool
        Also fit to the weak grade, for the certified point.
    """

    families: Sequence[str] = ("default",)
    folds: int = 5
    labels: int | None = None
    domain: str | None = None
    target: str = "auto"
    train: Source | None = None
    seed: int = 0
    certify: bool = True

    def target_for(self, weak: str, strong: str) -> str:
        """Return the target with `auto` decided, for routers that serve this pair.

        Other outcomes of the same two tiers, by their names, teach what escalating gains; another pair's gain says
        little of this one's.
        """
        if self.target != "auto":
            return self.target
        return "gain" if self.train is None or (self.train.weak, self.train.strong) == (weak, strong) else "ease"


@each_text_once()
def cross_validate_routers(
    table: OutcomeTable,
    weak: str,
    strong: str,
    protocol: Protocol,
    terms: PromiseTerms,
    now: datetime,
    *,
    name: str = "outcomes",
    notes: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> tuple[Evaluation, list[HeldOutScores]]:
    """Cross-validate router families, and compute their figures beside the baselines'.

    Parameters
    ----------
    table : OutcomeTable
        n prompts graded for both tiers.
    weak, strong : str
        The two tiers.
    protocol : Protocol
        How scores are made.
    terms : PromiseTerms
        Costs and risk budget.
    now : datetime
        The time at which certified points are dated.
    name : str
        The set's name.
    notes : sequence of str
        Sentences to put before the run's own.
    progress : callable
        Receives a sentence about each step.

    Returns
    -------
    tuple of Evaluation and list of HeldOutScores
        The figures, and every method's scores, baselines first.

    Raises
    ------
    DataError
        For unknown families or columns, a pair without a gap, or training data that is the test data.
    """
    usable, left = usable_families(protocol.families, table)
    remarks = [*notes, *(f"{family} left out: it {why}" for family, why in left.items())]
    not_served = {family: why for family in usable if (why := _not_served(family)) is not None}
    remarks += [f"{family} is measured, and no version can serve it: {why}" for family, why in not_served.items()]
    seed, target = protocol.seed, protocol.target_for(weak, strong)
    if usable:
        why = "" if protocol.target != "auto" else _AUTO[target]
        remarks.append(f"routers learn the {target}{why}{_CERTIFIED if protocol.certify and target != 'weak' else ''}")
    domain: str | None = None
    if protocol.train is not None:
        scores, away = _transferred(table, target, protocol, protocol.train, usable, remarks, progress), {}
        split = f"trained on {protocol.train.name}"
    else:
        domain = None if protocol.domain == "" else domain_column(table, protocol.domain)
        random_splits = folds_of(table, protocol.folds, seed) if usable else []
        scores = _folded(table, weak, strong, protocol, usable, random_splits, target, remarks, progress)
        usable = [family for family in usable if (family, target) in scores]
        if protocol.certify and target != "weak":
            scores |= _folded(table, weak, strong, protocol, usable, random_splits, "weak", remarks, progress)
        domain_splits = [] if domain is None or not usable else domain_folds_of(table, domain, protocol.folds, seed)
        unseen = " of unseen domains"
        away = (
            _folded(table, weak, strong, protocol, usable, domain_splits, target, remarks, progress, unseen)
            if domain_splits
            else {}
        )
        most = max((len(inside) for inside, _ in random_splits), default=0)
        split = f"{protocol.folds} grouped folds, {min(most, protocol.labels or most):,} labels"
    held = [HeldOutScores(family, split, scores[family, target]) for family in usable]
    baseline_scores = baselines(table, weak, strong)
    graded = {"length": baseline_scores[1].scores}
    graded |= {
        family: one for (family, target), one in scores.items() if target == "weak" and family not in not_served
    }
    progress("intervals")
    found = evaluate(
        table,
        weak,
        strong,
        held,
        terms,
        now,
        name=name,
        away={family: far_scores for (family, _), far_scores in away.items()},
        certify=graded if protocol.certify else {},
        domain=domain,
        notes=remarks,
        seed=seed,
    )
    return found, [*baseline_scores, *held]


_AUTO = {
    "gain": " (target auto: fitted on this very pair, it learns what escalating gains)",
    "ease": " (target auto: fitted on another pair, whose gain says little of this one's, it learns how easy a prompt "
    "is; where the two tiers are the same under other names, --target gain)",
}
_CERTIFIED = "; the certified point is that of routers fitted to the weak grade"
Scores = dict[tuple[str, str], FloatArray]
"""(family, target) → scores (n,)."""


def _not_served(family: str) -> str | None:
    """Return the sentence of the first signal that a family reads and no request brings; None where there is none."""
    return next((why for name in ROUTERS[family].reads if (why := would_need(name)) is not None), None)


def _folded(
    table: OutcomeTable,
    weak: str,
    strong: str,
    protocol: Protocol,
    families: Sequence[str],
    splits: Sequence[Split],
    target: str,
    remarks: list[str],
    progress: Progress,
    where: str = "",
) -> Scores:
    """Return scores of every family that these splits can serve; for the others, add the reason to `notes`."""
    y = routing_targets(table, weak, strong, target)
    found: Scores = {}
    for family in families:
        try:
            found[family, target] = held_out_scores(
                table, family, y, splits, labels=protocol.labels, seed=protocol.seed, progress=progress
            )
        except DataError as error:
            if len(families) == 1 and not where:
                raise  # the only requested family: its reason is the answer
            remarks.append(f"{family} left out{where}: {error}")
    return found


def _transferred(
    table: OutcomeTable,
    routed_by: str,
    protocol: Protocol,
    source: Source,
    families: Sequence[str],
    remarks: list[str],
    progress: Progress,
) -> Scores:
    other, dropped = without_near_duplicates(source.table, table)
    if protocol.labels is not None and protocol.labels < len(other):
        rows = np.random.default_rng(protocol.seed).permutation(len(other))[: protocol.labels]
        other = other.take(np.sort(rows))
    remarks.append(
        f"trained on {len(other):,} prompts of {source.name} ({source.weak} → {source.strong}); {dropped:,} that "
        "nearly repeat a test prompt were removed"
    )
    found: Scores = {}
    for target in dict.fromkeys((routed_by, *(("weak",) if protocol.certify else ()))):
        y = routing_targets(other, source.weak, source.strong, target)
        for family in families:
            progress(f"{family}: fitting the {target} on {len(other)} prompts of {source.name}")
            found[family, target] = transferred_scores(table, family, other, y)
    return found


def costs_of(
    table: OutcomeTable,
    weak: str,
    strong: str,
    prices: tuple[TierCosts, TierCosts] | None,
    *,
    epsilon: float,
    delta: float,
    acceptable: float | None = None,
) -> PromiseTerms:
    """Return the terms of an evaluation: dollars per prompt where prices are given, else shares of strong calls.

    Parameters
    ----------
    table : OutcomeTable
        n prompts.
    weak, strong : str
        The two tiers.
    prices : tuple of TierCosts, optional
        Of weak and strong.
    epsilon, delta : float
        The certificate's risk budget and 1 - confidence, in (0, 1).
    acceptable : float, optional
        Grades from this on count as right.

    Returns
    -------
    PromiseTerms

    Raises
    ------
    DataError
        For prices at which nothing can be saved: a free strong tier, a weak one that is not cheaper.
    """
    if prices is None:
        n = len(table)
        return PromiseTerms(np.zeros(n), np.ones(n), False, epsilon, delta, acceptable)
    low, high = (calls_of(table, tier, given).usd for tier, given in zip((weak, strong), prices, strict=True))
    check_ladder({weak: low, strong: high}, {weak: table.grade(weak), strong: table.grade(strong)}, weak, strong)
    return PromiseTerms(low, high, True, epsilon, delta, acceptable)
